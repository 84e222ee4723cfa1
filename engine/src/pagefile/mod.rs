//! The page file: named B+trees in one file of checksummed pages, copied on write.
//!
//! One writer, no locks, no I/O of its own: reads are slices of a [`PageStore`] (a memory map, or memory), and writing
//! is a plan ([`Flush`]) that the shell carries out while the writer goes on.
//!
//! ```text
//!            insert, remove                 begin_flush              shell: write, sync, meta, sync    finish_flush
//! current ──────────────────> dirty pages ─────────────> frozen pages ──────────────────────────────> file
//! ```
//!
//! Invariants:
//! - Everything between two `begin_flush` calls is one transaction: durable altogether or not at all.
//! - A page of the file that any recoverable or pinned state reaches is never written. So a crash at any point, with
//!   unsynced writes lost, torn or reordered, recovers the last finished flush, or the one under way if its meta page
//!   had reached the disk. The argument is in `space` (which pages may be written) and `flush` (in which order).
//! - A page from the file is handed out only after its checksum has been verified.
//! - Pages in memory are bounded by the writer asking [`PageFile::dirty_bytes`] and waiting for flushes.
//!
//! Code map: `format` (bytes), `node` (slotted pages), `space` (which pages are free), `pager` (where each page is),
//! `tree` (get, insert, remove), `scan`, `flush`, `shrink` (giving back the end of the file), `scrub`, `check`, `pin`
//! (readers of a flushed state), `store` (the seam) and `sys` (file and map), `testing` (stores for tests).
//!
//! Deliberately absent: a log (the write-ahead log is another crate's), more than one writer, locks, time, threads.

mod check;
mod count;
mod flush;
mod format;
mod node;
mod open;
mod pager;
mod pin;
mod scan;
mod scrub;
mod shrink;
mod space;
mod store;
#[allow(unsafe_code, clippy::disallowed_methods, reason = "the file and its map, behind the seam `store`")]
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tree;

pub use check::CheckReport;
pub use flush::{Flush, FlushWrites};
pub use format::{
    FORMAT_VERSION, KEY_BYTES_MAX, MAGIC, PAGE_SIZE, PageBytes, PageId, PageKind, TxnId, VALUE_BYTES_MAX,
};
pub use open::{OpenError, Options};
pub use pin::{Pin, PinnedFile, PinnedView, SnapshotCursor};
pub use scrub::{ScrubCursor, ScrubProgress};
pub use shrink::ShrinkProgress;
pub use store::{Advice, PageIoError, PageStore, PageWriter};
pub use sys::{FileReader, FileStore, FileWriter};

use format::{Root, TREES_MAX};
use pager::Pager;

use crate::trees::{Record, TreeError, TreeId, Trees, Visit};

/// Named trees in one file. See the module.
pub struct PageFile<S: PageStore> {
    pager: Pager<S>,
    roots: [Root; TREES_MAX],
    /// The last leaf of each tree, if it is dirty and known.
    tails: [PageId; TREES_MAX],
    /// Once this transaction is durable, shrinking sees all that its moves have freed.
    shrink_frees_at: Option<TxnId>,
    /// Where [`PageFile::trim_resident`] goes on.
    trim_at: u64,
}

impl<S: PageStore> PageFile<S> {
    fn new(pager: Pager<S>) -> Self {
        let roots = pager.complete().roots;
        PageFile { pager, roots, tails: [PageId::NONE; TREES_MAX], shrink_frees_at: None, trim_at: 0 }
    }

    /// The store, for its counters and, in tests, its faults.
    pub fn store(&self) -> &S {
        self.pager.store()
    }

    /// The store, to carry out a flush on it.
    pub fn store_mut(&mut self) -> &mut S {
        self.pager.store_mut()
    }

    /// The store, given up by the page file; what was not flushed is lost.
    pub fn into_store(self) -> S {
        self.pager.into_store()
    }

    /// The file's id, chosen at creation.
    pub fn file_id(&self) -> u64 {
        self.pager.complete().file_id
    }

    /// The last transaction known to be durable.
    pub fn durable(&self) -> TxnId {
        self.pager.durable()
    }

    /// Entries of a tree.
    pub fn entries(&self, tree: TreeId) -> u64 {
        self.roots[tree as usize].entries
    }

    /// Bytes of pages in memory: changed since the last flush, or being flushed. The writer is to be held back when
    /// this grows beyond what memory allows.
    pub fn dirty_bytes(&self) -> usize {
        self.pager.memory_bytes()
    }

    /// Whether a flush has begun and is not finished.
    pub fn is_flushing(&self) -> bool {
        self.pager.is_flushing()
    }

    /// Lets changes exceed the file by so many bytes in memory while the disk is full (0 by default), so that an entry of a
    /// log can be applied to its end. Nothing is flushed before the file has room for all of it.
    pub fn set_overdraft(&mut self, bytes: u64) {
        self.pager.set_overdraft((bytes / PAGE_SIZE as u64) as usize);
    }

    /// Freezes everything changed so far into a plan that makes it durable. None if nothing has changed.
    ///
    /// # Panics
    /// If a flush is under way: there is one at a time.
    pub fn begin_flush(&mut self) -> Result<Option<Flush>, TreeError> {
        let flush = self.pager.begin_flush(&self.roots)?;
        self.tails = [PageId::NONE; TREES_MAX];
        Ok(flush)
    }

    /// Takes notice that the plan is carried out, up to its second sync: the pages are read from the file from now on,
    /// and those that no state needs any more can be written again.
    ///
    /// # Panics
    /// If this is not the flush under way.
    pub fn finish_flush(&mut self, flush: Flush) {
        self.pager.finish_flush(flush);
    }

    /// Flushes at once, blocking, on a store that can be written to.
    pub fn flush_now(&mut self) -> Result<(), TreeError>
    where
        S: PageWriter,
    {
        assert!(!self.is_flushing(), "one flush at a time");
        let Some(flush) = self.begin_flush()? else { return Ok(()) };
        let written = flush.write_to(self.store_mut());
        written.map_err(|error| TreeError::Io { detail: format!("flush of transaction {}: {error}", flush.txn()) })?;
        self.finish_flush(flush);
        Ok(())
    }

    /// Lets go of the resident pages of the next `bytes` bytes of the file, going round. They are read again when they
    /// are needed. Returns true when the end of the file has been reached.
    pub fn trim_resident(&mut self, bytes: u64) -> bool {
        let length = self.pager.store().len();
        let end = self.trim_at.saturating_add(bytes).min(length);
        if self.trim_at < end {
            self.pager.store().advise(self.trim_at, end - self.trim_at, Advice::DontNeed);
        }
        self.trim_at = if end == length { 0 } else { end };
        end == length
    }

    fn root(&self, tree: TreeId) -> Root {
        self.roots[tree as usize]
    }
}

const _: () = {
    let mut index = 0;
    while index < TreeId::ALL.len() {
        assert!((TreeId::ALL[index] as usize) < TREES_MAX && TreeId::ALL[index] as usize > 0);
        index += 1;
    }
};

impl<S: PageStore> Trees for PageFile<S> {
    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        self.pager.get(self.root(tree), tree as u8, key)
    }

    fn insert(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        self.insert_value(tree as u8, key, value)
    }

    fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<bool, TreeError> {
        self.remove_key(tree as u8, key)
    }

    fn scan(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.pager.scan(self.root(tree), tree as u8, from, false, visit)
    }

    fn scan_cold(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.pager.scan(self.root(tree), tree as u8, from, true, visit)
    }

    fn last(&self, tree: TreeId) -> Result<Option<Record<'_>>, TreeError> {
        self.pager.last(self.root(tree), tree as u8)
    }

    fn size_bytes(&self) -> u64 {
        self.pager.space.pages() as u64 * PAGE_SIZE as u64
    }

    fn in_use_bytes(&self) -> u64 {
        self.pager.space.used_pages() as u64 * PAGE_SIZE as u64
    }

    fn counted_bytes(&self) -> u64 {
        let of_v2: u64 = TreeId::OF_V2.into_iter().map(|tree| self.pager.pages_of(tree as u8)).sum();
        self.in_use_bytes() - of_v2 * PAGE_SIZE as u64
    }

    fn count_v2(&mut self) -> Result<(), TreeError> {
        TreeId::OF_V2.into_iter().try_for_each(|tree| self.count_pages(tree))
    }

    fn is_short_of_space(&self) -> bool {
        self.pager.short_of_space() || self.pager.is_overdrawn()
    }

    fn is_overdrawn(&self) -> bool {
        self.pager.is_overdrawn()
    }

    fn retry_space(&mut self) -> Result<(), TreeError> {
        self.pager.retry_space()
    }
}
