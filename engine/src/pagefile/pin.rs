//! Readers of a flushed state while the writer goes on.
//!
//! A pin holds the last state at which a flush began. Its trees can be scanned in bounded chunks, and its pages can be
//! copied into another file, which then opens at exactly that state. Pages it needs are not reused until it is dropped
//! or handed back; the file grows meanwhile.

use std::sync::Arc;

use super::PageFile;
use super::format::{Meta, PAGE_SIZE, PageId, Root, SEGMENT_WORDS, TxnId, seal};
use super::pager::Pager;
use super::space::{next_run, segment_words};
use super::store::{Advice, PageStore};
use crate::trees::{TreeError, TreeId, View, Visit};

/// A state that stays readable. Dropping it gives its pages up with the next flush, [`PageFile::unpin`] at once.
#[must_use = "the state stays readable only while the pin lives"]
pub struct Pin {
    meta: Arc<Meta>,
    _token: Arc<()>,
}

impl Pin {
    /// The transaction that is pinned.
    pub fn txn(&self) -> TxnId {
        self.meta.txn
    }

    /// Entries of a tree.
    pub fn entries(&self, tree: TreeId) -> u64 {
        self.root(tree).entries
    }

    fn root(&self, tree: TreeId) -> Root {
        self.meta.roots[tree as usize]
    }
}

/// A pinned state as trees that can be read.
pub struct PinnedView<'f, S: PageStore> {
    file: &'f PageFile<S>,
    pin: &'f Pin,
}

impl<S: PageStore> View for PinnedView<'_, S> {
    fn value(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        self.file.pinned_get(self.pin, tree, key)
    }

    fn walk(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.file.pinned_scan(self.pin, tree, from, visit)
    }
}

/// A pinned state in a store of its own: what another thread reads while the writer goes on.
pub struct PinnedFile<S: PageStore> {
    file: PageFile<S>,
    pin: Pin,
}

impl<S: PageStore> PinnedFile<S> {
    /// The pinned state as `store` has it, which is another view of the same file. The state must be durable, as that of
    /// [`PageFile::pin_durable`] is: nothing of it is looked for in memory.
    pub fn new(pin: Pin, store: S) -> Self {
        PinnedFile { file: PageFile::new(Pager::new(store, Meta::clone(&pin.meta))), pin }
    }

    /// Lets go of all that was read so far: a page that is looked at brings its neighbours with it.
    pub fn let_go(&self) {
        let store = self.file.store();
        store.advise(0, store.len(), Advice::DontNeed);
    }

    /// The state, to read.
    pub fn view(&self) -> PinnedView<'_, S> {
        self.file.view(&self.pin)
    }
}

/// How far the copying of a pinned state has come.
pub struct SnapshotCursor {
    used: Vec<u64>,
    interior: Vec<u64>,
    next: usize,
    meta_done: bool,
}

impl SnapshotCursor {
    /// Where the next step begins; any value is good for [`SnapshotCursor::seek`] later, also of another cursor of the
    /// same pin.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Goes on from a position, however often.
    pub fn seek(&mut self, position: usize) {
        self.next = position.max(PageId::FIRST.index());
        self.meta_done = false;
    }
}

impl<S: PageStore> PageFile<S> {
    /// Pins the last state at which a flush began; to pin the current one, begin a flush first.
    pub fn pin(&mut self) -> Pin {
        let (meta, token) = self.pager.pin();
        Pin { meta, _token: token }
    }

    /// Pins the last state, if all of it is in the file; none while a flush is under way.
    pub fn pin_durable(&mut self) -> Option<Pin> {
        (!self.is_flushing()).then(|| self.pin())
    }

    /// Gives a pin back; its pages can be written again.
    pub fn unpin(&mut self, pin: Pin) {
        drop(pin);
        self.pager.release();
    }

    /// The pinned state, to read.
    pub fn view<'f>(&'f self, pin: &'f Pin) -> PinnedView<'f, S> {
        PinnedView { file: self, pin }
    }

    /// The value of `key` in the pinned state.
    pub fn pinned_get(&self, pin: &Pin, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        self.pager.get(pin.root(tree), tree as u8, key)
    }

    /// Visits entries of the pinned state with keys not below `from`, in order, until `visit` breaks. Made for passes
    /// over everything: what was read does not stay resident.
    pub fn pinned_scan(&self, pin: &Pin, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.pager.scan(pin.root(tree), tree as u8, from, true, visit)
    }

    /// Begins to copy a pinned state.
    pub fn snapshot_start(&self, pin: &Pin) -> Result<SnapshotCursor, TreeError> {
        let words = pin.meta.segments.len() * SEGMENT_WORDS;
        let mut cursor = SnapshotCursor {
            used: vec![0; words],
            interior: vec![0; words],
            next: PageId::FIRST.index(),
            meta_done: false,
        };
        for (index, &page) in pin.meta.segments.iter().enumerate().filter(|(_, page)| !page.is_none()) {
            let segment = self.pager.space_segment(page, index)?;
            for word in 0..SEGMENT_WORDS {
                let at = index * SEGMENT_WORDS + word;
                (cursor.used[at], cursor.interior[at]) = segment_words(segment, word);
            }
        }
        Ok(cursor)
    }

    /// Copies about `budget_bytes` more: calls `write` with offset and bytes, verified, of what belongs into the new
    /// file. False when all is done. The meta page comes last, so that a file broken off does not open.
    pub fn snapshot_step(
        &self,
        pin: &Pin,
        cursor: &mut SnapshotCursor,
        budget_bytes: usize,
        write: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<bool, TreeError> {
        let mut copied = 0;
        while copied < budget_bytes {
            let Some((page, pages)) = next_run(&cursor.used, &cursor.interior, cursor.next) else {
                if !cursor.meta_done {
                    write(Meta::place(pin.meta.txn).offset(), &pin.meta.encode());
                    cursor.meta_done = true;
                }
                return Ok(false);
            };
            assert!(page.index() >= cursor.next && pages > 0, "a copy goes forward, or it never ends");
            if let Some(bytes) = self.pager.frozen_run(page) {
                let mut sealed = bytes.to_vec();
                seal(&mut sealed);
                write(page.offset(), &sealed);
            } else {
                let (bytes, _) = self.pager.sealed_run(page, pages)?;
                write(page.offset(), bytes);
                self.store().advise(page.offset(), bytes.len() as u64, Advice::DontNeed);
            }
            copied += pages * PAGE_SIZE;
            cursor.next = page.index() + pages;
        }
        Ok(true)
    }

    /// Bytes a copy of the pinned state will have.
    pub fn snapshot_bytes(&self, pin: &Pin) -> u64 {
        u64::from(pin.meta.pages) * PAGE_SIZE as u64
    }
}
