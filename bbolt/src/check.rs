//! Whether a database is whole, and the figures that `snapshot status` prints.
//!
//! A database is whole when every bucket can be walked from end to end and every page below the high-water mark is
//! reachable from the root, or free; no page is both. With no free list stored, what cannot be reached counts as free.

use crate::database::{Database, Source};
use crate::error::Error;
use crate::format::{NO_FREELIST, PAGE_HEADER_BYTES, PageKind, u64_at};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Bucket of revisions.
const KEY_BUCKET: &[u8] = b"key";
/// Bucket of small named values.
const META_BUCKET: &[u8] = b"meta";
/// Name of the schema's version in [`META_BUCKET`].
const STORAGE_VERSION: &[u8] = b"storageVersion";
/// Length of a revision in [`KEY_BUCKET`]; a tombstone has one byte more.
const REVISION_BYTES: usize = 17;

/// What `snapshot status` tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// CRC-32C over all buckets: name, then each key and value.
    pub hash: u32,
    /// The newest main revision.
    pub revision: i64,
    /// Keys that exist at that revision.
    pub total_keys: u64,
    /// Bytes of the pages up to the high-water mark.
    pub total_bytes: u64,
    /// Version of the schema; empty before 3.6.
    pub version: String,
}

/// The running checksum of all buckets in order of their names: each name, then each key and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checksum(u32);

impl Checksum {
    /// The entries of this bucket follow.
    pub fn bucket(&mut self, name: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, name);
    }

    /// The next entry.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.0 = crc32c::crc32c_append(crc32c::crc32c_append(self.0, key), value);
    }

    /// The checksum of what there was.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Walks all buckets once for the checksum alone. `pause` is called with the bytes of each entry, so that whoever has time
/// takes it, or ends it: then there is none.
pub fn checksum<S: Source + ?Sized>(
    database: &Database<'_, S>,
    pause: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<u32>, Error> {
    walk(database, |_, key, value| pause(key.len() + value.len()))
}

/// Walks all buckets once for the figures. Memory: the keys that exist.
pub fn status<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<Status, Error> {
    let meta = database.meta();
    let mut status = Status { total_bytes: meta.high_water * u64::from(meta.page_size), ..Status::default() };
    let mut keys: HashSet<Box<[u8]>> = HashSet::new();
    status.hash = walk(database, |bucket, key, value| {
        if bucket == KEY_BUCKET {
            note_revision(key, value, &mut status, &mut keys);
        } else if bucket == META_BUCKET && key == STORAGE_VERSION {
            status.version = String::from_utf8_lossy(value).into_owned();
        }
        ControlFlow::Continue(())
    })?
    .expect("the walk goes to the end");
    status.total_keys = keys.len() as u64;
    Ok(status)
}

/// Shows each entry, with its bucket's name, and sums all of them up, unless it is told to stop.
fn walk<S: Source + ?Sized>(
    database: &Database<'_, S>,
    mut seen: impl FnMut(&[u8], &[u8], &[u8]) -> ControlFlow<()>,
) -> Result<Option<u32>, Error> {
    let mut sum = Checksum::default();
    for (name, bucket) in database.buckets()? {
        sum.bucket(&name);
        let mut entries = database.entries(&bucket);
        while let Some((key, value)) = entries.next()? {
            sum.entry(key, value);
            if seen(&name, key, value).is_break() {
                return Ok(None);
            }
        }
    }
    Ok(Some(sum.get()))
}

fn note_revision(key: &[u8], value: &[u8], status: &mut Status, keys: &mut HashSet<Box<[u8]>>) {
    let Some(main) = key.first_chunk() else { return };
    status.revision = i64::from_be_bytes(*main);
    let name = key_of_pair(value);
    if key.len() > REVISION_BYTES {
        keys.remove(name);
    } else if !keys.contains(name) {
        keys.insert(name.into());
    }
}

/// The key of an encoded `mvccpb.KeyValue`, its first field; empty if there is none.
pub(crate) fn key_of_pair(value: &[u8]) -> &[u8] {
    let Some((0x0a, rest)) = value.split_first() else { return &[] };
    let mut len = 0usize;
    for (index, byte) in rest.iter().enumerate().take(5) {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return rest.get(index + 1..).and_then(|rest| rest.get(..len)).unwrap_or(&[]);
        }
    }
    &[]
}

/// All that is wrong with the structure, a line each; empty if it is whole.
pub fn verify<S: Source + ?Sized>(database: &Database<'_, S>) -> Vec<String> {
    let mut errors = Vec::new();
    let mut seen = Pages::new(database.meta().high_water);
    let buckets = match database.buckets() {
        Ok(buckets) => buckets,
        Err(error) => return vec![error.to_string()],
    };
    let mut names = database.names();
    while let Ok(Some(_)) = names.next_entry() {
        names.path_pages().for_each(|(id, len)| seen.reach(id, len));
    }
    for (_, bucket) in buckets {
        let mut entries = database.entries(&bucket);
        loop {
            match entries.next_entry() {
                Ok(Some(_)) => entries.path_pages().for_each(|(id, len)| seen.reach(id, len)),
                Ok(None) => break,
                Err(error) => {
                    errors.push(error.to_string());
                    break;
                }
            }
        }
    }
    if errors.is_empty() {
        check_free(database, &seen, &mut errors);
    }
    errors
}

/// Compares what is reachable with the stored free list.
fn check_free<S: Source + ?Sized>(database: &Database<'_, S>, seen: &Pages, errors: &mut Vec<String>) {
    let meta = database.meta();
    if meta.freelist == NO_FREELIST {
        return;
    }
    let page = match database.page("", meta.freelist) {
        Ok(page) if page.header.kind == PageKind::Freelist => page,
        Ok(page) => {
            return errors
                .push(format!("page {}: a {:?} page in the place of the free list", page.id, page.header.kind));
        }
        Err(error) => return errors.push(error.to_string()),
    };
    let mut free = Pages::new(meta.high_water);
    free.reach(page.id, u64::from(page.header.overflow) + 1);
    let (count, first) = match page.header.count {
        u16::MAX => (u64_at(&page.bytes, PAGE_HEADER_BYTES) as usize, PAGE_HEADER_BYTES + 8),
        count => (usize::from(count), PAGE_HEADER_BYTES),
    };
    if count > (page.bytes.len() - first) / 8 {
        return errors.push(format!("page {}: a free list of {count} pages does not fit", page.id));
    }
    for index in 0..count {
        let id = u64_at(&page.bytes, first + 8 * index);
        if id < 2 || id >= meta.high_water {
            errors.push(format!("page {id}: free, but outside of the file"));
        } else if seen.contains(id) {
            errors.push(format!("page {id}: reachable freed"));
        } else {
            free.reach(id, 1);
        }
    }
    let lost = (2..meta.high_water).filter(|id| !seen.contains(*id) && !free.contains(*id));
    errors.extend(lost.map(|id| format!("page {id}: unreachable unfreed")));
}

/// A set of pages, one bit each.
struct Pages {
    bits: Vec<u64>,
}

impl Pages {
    fn new(count: u64) -> Pages {
        Pages { bits: vec![0; count.div_ceil(64) as usize] }
    }

    fn reach(&mut self, first: u64, len: u64) {
        for id in (first..first + len).filter(|id| *id >= 2) {
            self.bits[(id / 64) as usize] |= 1 << (id % 64);
        }
    }

    fn contains(&self, id: u64) -> bool {
        self.bits[(id / 64) as usize] & (1 << (id % 64)) != 0
    }
}
