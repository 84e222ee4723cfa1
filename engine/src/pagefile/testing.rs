//! Stores for tests and simulation: plain memory, and a disk that loses, reorders and tears what was not synced.
//! And [`CheckedFile`], a page file that verifies itself when it is dropped.

use std::io;
use std::ops::{Deref, DerefMut};

use super::PageFile;
use crate::trees::{Record, TreeError, TreeId, Trees, Visit};

use super::format::PAGE_SIZE;
use super::store::{Advice, PageIoError, PageStore, PageWriter};

/// Sectors are written whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A page file in memory.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    bytes: Vec<u8>,
    /// Growing beyond this many bytes fails.
    pub limit_bytes: Option<u64>,
}

impl MemStore {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file with these bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        MemStore { bytes, limit_bytes: None }
    }

    /// The bytes, to look at.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to damage.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

fn slice(bytes: &[u8], offset: u64, len: usize) -> Result<&[u8], PageIoError> {
    let out_of_range = PageIoError::OutOfRange { offset, length: len, file_bytes: bytes.len() as u64 };
    let Some(end) = offset.checked_add(len as u64).and_then(|end| usize::try_from(end).ok()) else {
        return Err(out_of_range);
    };
    bytes.get(offset as usize..end).ok_or(out_of_range)
}

impl PageStore for MemStore {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> Result<&[u8], PageIoError> {
        slice(&self.bytes, offset, len)
    }

    fn grow(&mut self, len: u64) -> Result<(), PageIoError> {
        assert!(len > self.len());
        if self.limit_bytes.is_some_and(|limit| len > limit) {
            return Err(PageIoError::NoSpace { wanted_bytes: len });
        }
        self.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), PageIoError> {
        assert!(len < self.len());
        self.bytes.truncate(len as usize);
        Ok(())
    }

    fn advise(&self, _offset: u64, _len: u64, _advice: Advice) {}
}

impl PageWriter for MemStore {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.bytes[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One thing done to a simulated disk and not synced yet.
#[derive(Clone, Debug)]
enum Unsynced {
    Write { offset: u64, bytes: Vec<u8> },
    Resize { len: u64 },
}

/// A page file on a simulated disk. [`SimStore::crash`] gives what a power failure might leave behind.
///
/// The model: a sync makes everything before it durable. Of what is not synced, any subset of the sectors written
/// survives, in any order; resizes survive up to some point, in order, as a journalling file system keeps them; what
/// was written beyond the end that survives is gone. New bytes of a file are zeros.
#[derive(Clone, Debug, Default)]
pub struct SimStore {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Growing beyond this many bytes fails.
    pub limit_bytes: Option<u64>,
    /// Writes, syncs and resizes so far.
    pub operations: u64,
}

impl SimStore {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes as the running process sees them.
    pub fn bytes(&self) -> &[u8] {
        &self.current
    }

    /// Flips a bit of the stored file, as rot does.
    pub fn flip_bit(&mut self, offset: u64, bit: u32) {
        self.current[offset as usize] ^= 1 << (bit % 8);
        if let Some(byte) = self.durable.get_mut(offset as usize) {
            *byte ^= 1 << (bit % 8);
        }
        if !self.unsynced.is_empty() {
            // Lest a resize that is on its way undoes it.
            self.unsynced.push(Unsynced::Write { offset, bytes: vec![self.current[offset as usize]] });
        }
    }

    /// What a reader finds after a power failure now. `random` is called for numbers to decide by.
    pub fn crash(&self, random: &mut dyn FnMut() -> u64) -> SimStore {
        let mut bytes = self.durable.clone();
        let resizes: Vec<u64> = self
            .unsynced
            .iter()
            .filter_map(|done| if let Unsynced::Resize { len } = done { Some(*len) } else { None })
            .collect();
        let kept = random() as usize % (resizes.len() + 1);
        for &len in &resizes[..kept] {
            bytes.resize(len as usize, 0);
        }
        let mut writes: Vec<(u64, &[u8])> = self
            .unsynced
            .iter()
            .filter_map(
                |done| if let Unsynced::Write { offset, bytes } = done { Some((*offset, &bytes[..])) } else { None },
            )
            .collect();
        for index in (1..writes.len()).rev() {
            writes.swap(index, random() as usize % (index + 1));
        }
        for (offset, written) in writes {
            keep_some_sectors(&mut bytes, offset as usize, written, random);
        }
        SimStore { current: bytes.clone(), durable: bytes, unsynced: Vec::new(), limit_bytes: None, operations: 0 }
    }
}

/// Of one write: nothing, everything, or some of its sectors.
fn keep_some_sectors(bytes: &mut [u8], offset: usize, written: &[u8], random: &mut dyn FnMut() -> u64) {
    let mode = random() % 4;
    for (index, sector) in written.chunks(SECTOR_BYTES).enumerate() {
        let keep = match mode {
            0 => false,
            1 => true,
            _ => random().is_multiple_of(2),
        };
        let at = offset + index * SECTOR_BYTES;
        if keep && at + sector.len() <= bytes.len() {
            bytes[at..at + sector.len()].copy_from_slice(sector);
        }
    }
}

const _: () = assert!(PAGE_SIZE.is_multiple_of(SECTOR_BYTES));

impl PageStore for SimStore {
    fn len(&self) -> u64 {
        self.current.len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> Result<&[u8], PageIoError> {
        slice(&self.current, offset, len)
    }

    fn grow(&mut self, len: u64) -> Result<(), PageIoError> {
        assert!(len > self.len());
        if self.limit_bytes.is_some_and(|limit| len > limit) {
            return Err(PageIoError::NoSpace { wanted_bytes: len });
        }
        self.operations += 1;
        self.current.resize(len as usize, 0);
        self.unsynced.push(Unsynced::Resize { len });
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), PageIoError> {
        assert!(len < self.len());
        self.operations += 1;
        self.current.truncate(len as usize);
        self.unsynced.push(Unsynced::Resize { len });
        Ok(())
    }

    fn advise(&self, _offset: u64, _len: u64, _advice: Advice) {}
}

impl PageWriter for SimStore {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.operations += 1;
        self.current[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        self.unsynced.push(Unsynced::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.operations += 1;
        // Only what has changed, since files are large and syncs many.
        for done in &self.unsynced {
            if let Unsynced::Resize { len } = done {
                self.durable.resize(*len as usize, 0);
            }
        }
        for done in self.unsynced.drain(..) {
            let Unsynced::Write { offset, bytes } = done else { continue };
            let end = (offset as usize + bytes.len()).min(self.current.len());
            let range = (offset as usize).min(end)..end;
            self.durable[range.clone()].copy_from_slice(&self.current[range]);
        }
        Ok(())
    }
}

/// A page file that is checked completely when it is dropped, so that any test using one tests its structure too.
pub struct CheckedFile<S: PageStore>(pub PageFile<S>);

impl<S: PageStore> Drop for CheckedFile<S> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.check().expect("the page file is sound");
        }
    }
}

impl<S: PageStore> Deref for CheckedFile<S> {
    type Target = PageFile<S>;

    fn deref(&self) -> &PageFile<S> {
        &self.0
    }
}

impl<S: PageStore> DerefMut for CheckedFile<S> {
    fn deref_mut(&mut self) -> &mut PageFile<S> {
        &mut self.0
    }
}

impl<S: PageStore> Trees for CheckedFile<S> {
    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        self.0.get(tree, key)
    }

    fn insert(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.0.insert(tree, key, value)
    }

    fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<bool, TreeError> {
        self.0.remove(tree, key)
    }

    fn scan(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.0.scan(tree, from, visit)
    }

    fn scan_cold(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.0.scan_cold(tree, from, visit)
    }

    fn last(&self, tree: TreeId) -> Result<Option<Record<'_>>, TreeError> {
        self.0.last(tree)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn in_use_bytes(&self) -> u64 {
        self.0.in_use_bytes()
    }

    fn counted_bytes(&self) -> u64 {
        self.0.counted_bytes()
    }

    fn count_v2(&mut self) -> Result<(), TreeError> {
        self.0.count_v2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was done before it, a sync makes exactly the present content durable.
    #[test]
    fn a_sync_makes_the_present_content_durable() {
        let mut store = SimStore::new();
        let mut random = plinth_random::Random::new(7);
        let mut random = move |bound: u64| random.below(bound);
        for _ in 0..2000 {
            let len = store.len();
            match random(8) {
                0 if len < 9000 => store.grow(len + 1 + random(700)).expect("there is room"),
                1 if len > 0 => store.truncate(random(len)).expect("it can"),
                2 => store.sync().expect("it can"),
                3 if len > 0 => store.flip_bit(random(len), 3),
                _ if len > 0 => {
                    let offset = random(len);
                    let bytes = vec![random(256) as u8; (1 + random(len - offset)) as usize];
                    store.write_at(offset, &bytes).expect("it can");
                }
                _ => {}
            }
            let mut synced = store.clone();
            synced.sync().expect("it can");
            assert_eq!(synced.current, store.current);
            assert_eq!(synced.durable, store.current);
        }
    }
}
