//! The entries of one bucket in order: a path of pages from the root to a leaf.
//!
//! Everything that a page says is checked when it is read: elements inside of the page, keys in order within the page, and
//! between the keys that the pages above give. Keys that only ascend also rule out that a page is visited twice.

use crate::database::{Database, Page, Place, Source};
use crate::error::Error;
use crate::format::{
    ELEMENT_BYTES, KEY_BYTES_MAX, LEAF_BUCKET, PAGE_HEADER_BYTES, PageHeader, PageKind, u32_at, u64_at,
};
use std::ops::Range;

/// Levels that a tree may have: more do not come about with two children a page and 64-bit numbers.
const DEPTH_MAX: usize = 64;

/// Key and value of an entry.
pub type Pair<'c> = (&'c [u8], &'c [u8]);

/// One entry of a leaf.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'c> {
    pub key: &'c [u8],
    /// Its value; that of a bucket if `is_bucket`.
    pub value: &'c [u8],
    pub is_bucket: bool,
    /// The page that it stands on; 0 for an inline one.
    pub page: u64,
}

/// Walks the entries of a bucket in order of their keys.
#[derive(Debug)]
pub struct Cursor<'d, 's, S: Source + ?Sized> {
    database: &'d Database<'s, S>,
    bucket: String,
    root: Option<Place>,
    path: Vec<Level>,
    /// Keys must be above it.
    last_key: Option<Vec<u8>>,
}

/// One page of the path, and how far it has been walked.
#[derive(Debug)]
struct Level {
    page: Page,
    next: usize,
    /// The first key of the page to the right, if there is one: all keys are below it.
    below: Option<Vec<u8>>,
}

impl<'d, 's, S: Source + ?Sized> Cursor<'d, 's, S> {
    pub(crate) fn new(database: &'d Database<'s, S>, bucket: String, root: Place) -> Self {
        Cursor { database, bucket, root: Some(root), path: Vec::new(), last_key: None }
    }

    /// The next key and value; none at the end. Buckets inside of the bucket are an error: etcd has none.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from the cursor")]
    pub fn next(&mut self) -> Result<Option<Pair<'_>>, Error> {
        let bucket = self.bucket.clone();
        match self.next_entry()? {
            Some(entry) if entry.is_bucket => {
                Err(Error::Page { bucket, page: entry.page, detail: "a bucket within a bucket".to_string() })
            }
            entry => Ok(entry.map(|entry| (entry.key, entry.value))),
        }
    }

    /// As [`Cursor::next`], with buckets.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if let Some(root) = self.root.take() {
            self.enter_root(root)?;
        }
        loop {
            let Some(level) = self.path.last_mut() else { return Ok(None) };
            if level.next == usize::from(level.page.header.count) {
                self.path.pop();
                continue;
            }
            let index = level.next;
            level.next += 1;
            if level.page.header.kind == PageKind::Leaf {
                return self.leaf_entry(index).map(Some);
            }
            self.descend(index)?;
        }
    }

    /// Pages of the path with their lengths in page sizes, the root first; for who accounts for all pages.
    pub(crate) fn path_pages(&self) -> impl Iterator<Item = (u64, u64)> {
        self.path.iter().map(|level| (level.page.id, u64::from(level.page.header.overflow) + 1))
    }

    fn enter_root(&mut self, root: Place) -> Result<(), Error> {
        let page = match root {
            Place::Page(id) => self.database.page(&self.bucket, id)?,
            Place::Inline(bytes) => {
                let header = PageHeader::parse(&bytes).map_err(|detail| self.bad(0, detail))?;
                if header.kind != PageKind::Leaf || header.overflow != 0 {
                    return Err(self.bad(0, "an inline page that is not a leaf".to_string()));
                }
                Page { id: 0, header, bytes }
            }
        };
        self.enter(page, None, None)
    }

    fn descend(&mut self, index: usize) -> Result<(), Error> {
        let level = self.path.last().expect("there is a level to descend from");
        let child = u64_at(&level.page.bytes, PAGE_HEADER_BYTES + index * ELEMENT_BYTES + 8);
        let first = key_of(&level.page, index).to_vec();
        let below = if index + 1 < usize::from(level.page.header.count) {
            Some(key_of(&level.page, index + 1).to_vec())
        } else {
            level.below.clone()
        };
        let page = self.database.page(&self.bucket, child)?;
        self.enter(page, Some(first), below)
    }

    /// Checks a page and makes it the end of the path. A root has no lower bound.
    fn enter(&mut self, page: Page, from: Option<Vec<u8>>, below: Option<Vec<u8>>) -> Result<(), Error> {
        let (kind, is_root) = (page.header.kind, from.is_none());
        if !matches!(kind, PageKind::Branch | PageKind::Leaf) {
            return Err(self.bad(page.id, format!("a {kind:?} page in a tree")));
        }
        if self.path.len() >= DEPTH_MAX {
            return Err(self.bad(page.id, format!("deeper than {DEPTH_MAX} levels")));
        }
        let count = usize::from(page.header.count);
        if count == 0 && !(is_root && kind == PageKind::Leaf) {
            return Err(self.bad(page.id, "without elements".to_string()));
        }
        if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > page.bytes.len() {
            return Err(self.bad(page.id, format!("{count} elements do not fit")));
        }
        let mut previous: Option<Range<usize>> = None;
        for index in 0..count {
            let (key, _) =
                element(&page, index).map_err(|detail| self.bad(page.id, format!("element {index}: {detail}")))?;
            if previous.is_some_and(|previous| page.bytes[previous] >= page.bytes[key.clone()]) {
                return Err(self.bad(page.id, format!("element {index}: key not above the one before")));
            }
            if from.as_ref().is_some_and(|from| page.bytes[key.clone()] < from[..]) {
                return Err(self.bad(page.id, format!("element {index}: key below the one that the page above gives")));
            }
            if below.as_ref().is_some_and(|below| page.bytes[key.clone()] >= below[..]) {
                return Err(self.bad(page.id, format!("element {index}: key belongs to the page to the right")));
            }
            previous = Some(key);
        }
        self.path.push(Level { page, next: 0, below });
        Ok(())
    }

    fn leaf_entry(&mut self, index: usize) -> Result<Entry<'_>, Error> {
        let level = self.path.last().expect("the leaf is the end of the path");
        let page = &level.page;
        let (key, value) = element(page, index).expect("checked when the page was entered");
        let is_ascending = self.last_key.as_ref().is_none_or(|last| last[..] < page.bytes[key.clone()]);
        if !is_ascending {
            return Err(self.bad(page.id, "keys not above those of the leaf before".to_string()));
        }
        if index + 1 == usize::from(page.header.count) {
            self.last_key = Some(page.bytes[key.clone()].to_vec());
        }
        let flags = u32_at(&page.bytes, PAGE_HEADER_BYTES + index * ELEMENT_BYTES);
        let is_bucket = flags & LEAF_BUCKET != 0;
        Ok(Entry { key: &page.bytes[key], value: &page.bytes[value], is_bucket, page: page.id })
    }

    fn bad(&self, page: u64, detail: String) -> Error {
        Error::Page { bucket: self.bucket.clone(), page, detail }
    }
}

/// Where key and value of an element are (a branch has no values); what is wrong with it otherwise.
fn element(page: &Page, index: usize) -> Result<(Range<usize>, Range<usize>), String> {
    let start = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
    let (pos, key_len, value_len) = match page.header.kind {
        PageKind::Leaf => {
            (u32_at(&page.bytes, start + 4), u32_at(&page.bytes, start + 8), u32_at(&page.bytes, start + 12))
        }
        _ => (u32_at(&page.bytes, start), u32_at(&page.bytes, start + 4), 0),
    };
    if key_len as usize > KEY_BYTES_MAX {
        return Err(format!("a key of {key_len} bytes"));
    }
    let key = start + pos as usize;
    let value = key + key_len as usize;
    let end = value + value_len as usize;
    let elements_end = PAGE_HEADER_BYTES + usize::from(page.header.count) * ELEMENT_BYTES;
    if key < elements_end || end > page.bytes.len() {
        return Err(format!("bytes {key} to {end} are outside of the page"));
    }
    Ok((key..value, value..end))
}

fn key_of(page: &Page, index: usize) -> &[u8] {
    let (key, _) = element(page, index).expect("checked when the page was entered");
    &page.bytes[key]
}
