//! A flush: the plan by which one transaction becomes durable.
//!
//! ```text
//! begin_flush ──> Flush ──> writes(), in any order ──> sync ──> meta() ──> sync ──> cut ──> finish_flush
//! ```
//!
//! The first sync keeps the meta page from reaching the disk before the pages it refers to. Until the meta page is on
//! the disk, recovery finds the previous state, none of whose pages this plan writes; from then on it finds this one.
//! Only one flush is under way at a time.
//!
//! A flush owns its pages together with the page file (`Arc`), is `Send`, and can be carried out by another thread or
//! ring while the writer goes on. Checksums are computed here, while the pages are gathered into larger writes, so
//! that freezing costs the writer nothing but moving pointers.
//!
//! A failed write or sync is fatal: the process must stop and recover from the last durable state and its log.
//! There is no way to give a flush back undone.

use std::sync::Arc;

use super::format::{Meta, PAGE_SIZE, PageId, TxnId, seal};
use super::store::PageWriter;

/// A page or run in memory.
pub(super) struct Run {
    pub page: PageId,
    pub bytes: Box<[u8]>,
}

/// Pages of a transaction that is being written.
pub(super) struct Frozen {
    pub runs: Vec<Run>,
}

/// What must be written, in which order, to make one transaction durable. See the module.
#[must_use = "the transaction is durable only after the plan is carried out and handed to finish_flush"]
pub struct Flush {
    pub(super) txn: TxnId,
    pub(super) frozen: Arc<Frozen>,
    meta: Box<[u8]>,
}

impl Flush {
    pub(super) fn new(frozen: Arc<Frozen>, meta: &Meta) -> Flush {
        Flush { txn: meta.txn, frozen, meta: meta.encode() }
    }

    /// The transaction.
    pub fn txn(&self) -> TxnId {
        self.txn
    }

    /// Bytes of [`Flush::writes`] in total.
    pub fn bytes(&self) -> u64 {
        self.frozen.runs.iter().map(|run| run.bytes.len() as u64).sum()
    }

    /// The writes before the first sync, in the order of the file, neighbours joined and long runs cut at
    /// `chunk_bytes`, which is at least a page.
    pub fn writes(&self, chunk_bytes: usize) -> FlushWrites<'_> {
        let mut runs: Vec<&Run> = self.frozen.runs.iter().collect();
        runs.sort_unstable_by_key(|run| run.page);
        FlushWrites {
            runs: runs.into_iter().peekable(),
            chunk: Vec::new(),
            offset: 0,
            given: 0,
            chunk_bytes: chunk_bytes.max(PAGE_SIZE),
        }
    }

    /// The write between the syncs: offset and bytes of the meta page.
    pub fn meta(&self) -> (u64, &[u8]) {
        (Meta::place(self.txn).offset(), &self.meta)
    }

    /// Carries out the whole plan, blocking.
    pub fn write_to(&self, writer: &mut impl PageWriter) -> std::io::Result<()> {
        let mut writes = self.writes(1 << 20);
        while let Some((offset, bytes)) = writes.next() {
            writer.write_at(offset, bytes)?;
        }
        writer.sync()?;
        let (offset, bytes) = self.meta();
        writer.write_at(offset, bytes)?;
        writer.sync()?;
        while writer.cut()? {}
        Ok(())
    }
}

/// Lends the writes of a flush one by one; see [`Flush::writes`].
pub struct FlushWrites<'a> {
    runs: std::iter::Peekable<std::vec::IntoIter<&'a Run>>,
    /// Neighbouring runs with their checksums, the first at `offset` in the file.
    chunk: Vec<u8>,
    offset: u64,
    /// Bytes of the chunk that have been lent.
    given: usize,
    chunk_bytes: usize,
}

impl FlushWrites<'_> {
    /// Offset and bytes of the next write.
    #[expect(clippy::should_implement_trait, reason = "lends its own buffer, which an Iterator cannot")]
    pub fn next(&mut self) -> Option<(u64, &[u8])> {
        if self.given == self.chunk.len() {
            self.gather()?;
        }
        let start = self.given;
        self.given = self.chunk.len().min(start + self.chunk_bytes);
        Some((self.offset + start as u64, &self.chunk[start..self.given]))
    }

    fn gather(&mut self) -> Option<()> {
        let first = self.runs.next()?;
        self.offset = first.page.offset();
        self.given = 0;
        self.chunk.clear();
        self.push(first);
        while let Some(run) = self.runs.next_if(|run| {
            run.page.offset() == self.offset + self.chunk.len() as u64
                && self.chunk.len() + run.bytes.len() <= self.chunk_bytes
        }) {
            self.push(run);
        }
        Some(())
    }

    fn push(&mut self, run: &Run) {
        let at = self.chunk.len();
        self.chunk.extend_from_slice(&run.bytes);
        seal(&mut self.chunk[at..]);
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Flush>();
};
