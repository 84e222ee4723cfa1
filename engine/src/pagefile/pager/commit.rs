//! Ending transactions: freezing what is dirty, and letting go of it when it is on the disk. And pins, which keep
//! states readable.

use std::sync::Arc;

use super::{Packed, Pager, Place};
use crate::pagefile::flush::{Flush, Frozen, Run};
use crate::pagefile::format::{Meta, PageId, PageKind, Root, SEGMENT_AT, TREES_MAX, TxnId, put_u32};
use crate::pagefile::store::PageStore;
use crate::trees::TreeError;

impl<S: PageStore> Pager<S> {
    /// Whether the current state differs from the last complete one.
    pub fn is_dirty(&self) -> bool {
        self.dirty_bytes > 0 || self.space.is_dirty()
    }

    /// Ends the current transaction: its dirty pages are frozen and the next transaction begins. Nothing happens while the
    /// disk has no room for it.
    pub fn begin_flush(&mut self, roots: &[Root; TREES_MAX]) -> Result<Option<Flush>, TreeError> {
        assert!(self.frozen.is_none(), "one flush at a time");
        assert!(self.complete.txn == self.durable, "a flush was forgotten: its pages would be taken for written");
        assert!(self.txn == self.durable.next(), "transactions follow each other");
        if !self.is_dirty() {
            return Ok(None);
        }
        self.grow_blocked = false; // the disk may have room by now
        if self.is_overdrawn() {
            self.retry_space()?;
            if self.is_overdrawn() {
                return Ok(None);
            }
        }
        self.ensure_room_now(0)?;
        self.write_space_map();
        let meta = Meta {
            txn: self.txn,
            file_id: self.complete.file_id,
            pages: self.space.highest_used().0 + 1,
            roots: *roots,
            segments: self.space.segment_pages(),
        };
        let runs: Vec<Run> = std::mem::take(&mut self.dirty).into_iter().flatten().collect();
        let mut bytes = 0;
        for (index, run) in runs.iter().enumerate() {
            assert!(self.space.is_used(run.page), "page {} is written, and the space map calls it free", run.page);
            self.table[run.page.index()].set(Packed::new(Place::Frozen(index)));
            bytes += run.bytes.len();
        }
        assert!(bytes == self.dirty_bytes, "changed bytes are counted once: {bytes}, not {}", self.dirty_bytes);
        assert!(meta.pages as usize <= self.table.len(), "the state has pages beyond the file");
        let frozen = Arc::new(Frozen { runs });
        let flush = Flush::new(Arc::clone(&frozen), &meta);
        self.vacant.clear();
        self.frozen_bytes = std::mem::take(&mut self.dirty_bytes);
        self.frozen = Some(frozen);
        self.complete = Arc::new(meta);
        self.txn = self.txn.next();
        Ok(Some(flush))
    }

    /// Gives changed segments of the space map new pages. That changes the map again, so all pages are found first.
    fn write_space_map(&mut self) {
        let mut placed = Vec::new();
        while let Some((segment, old)) = self.space.segment_to_place(&placed) {
            if !old.is_none() {
                self.free(0, old, 1);
                self.space.place_segment(segment, PageId::NONE);
            }
            if !self.space.segment_is_empty(segment) {
                let page = self.allocate(PageKind::Space, 0, 0);
                self.space.place_segment(segment, page);
                placed.push(segment);
            }
        }
        for segment in placed {
            let page = self.space.place_of(segment);
            let Some(Place::Dirty(index)) = self.place(page) else { panic!("segment was just allocated") };
            let run = self.dirty[index].as_mut().expect("the table names live runs");
            put_u32(&mut run.bytes, SEGMENT_AT, segment as u32);
            self.space.write_segment(segment, &mut run.bytes);
        }
        self.space.clean_empty_segments();
    }

    /// The flush is on the disk: its pages are read from there from now on.
    pub fn finish_flush(&mut self, flush: Flush) {
        let frozen = self.frozen.take().expect("a flush is under way");
        assert!(Arc::ptr_eq(&frozen, &flush.frozen), "the flush is the one under way");
        assert_eq!(flush.txn, self.complete.txn, "a flush ends that is the last begun");
        assert!(self.durable.next() == self.complete.txn, "flushes end in the order in which they began");
        drop(flush);
        for (index, run) in frozen.runs.iter().enumerate() {
            let place = self.place(run.page);
            assert!(place == Some(Place::Frozen(index)), "page {} was given away while it was written", run.page);
            self.table[run.page.index()].set(Packed::FILE);
        }
        if let Ok(frozen) = Arc::try_unwrap(frozen) {
            for run in frozen.runs {
                self.recycle(run.bytes);
            }
        }
        self.frozen_bytes = 0;
        self.durable = self.complete.txn;
        self.release();
    }

    // Pins.

    /// Keeps the last complete state readable until the token is dropped.
    pub fn pin(&mut self) -> (Arc<Meta>, Arc<()>) {
        assert!(self.complete.txn >= self.durable, "a pinned state is not older than what recovery finds");
        let token = Arc::new(());
        self.pins.push((self.complete.txn, Arc::downgrade(&token)));
        (Arc::clone(&self.complete), token)
    }

    /// Whether a pin is alive.
    pub fn is_pinned(&self) -> bool {
        self.pins.iter().any(|(_, token)| token.strong_count() > 0)
    }

    /// Makes pages allocatable that no meta page and no pin reaches any more.
    pub fn release(&mut self) {
        self.pins.retain(|(_, token)| token.strong_count() > 0);
        let pinned = self.pins.iter().map(|&(txn, _)| txn).min();
        let both_metas = TxnId(self.durable.0.saturating_sub(1));
        let upto = pinned.map_or(both_metas, |pinned| pinned.min(both_metas));
        assert!(upto.0 < self.durable.0.max(1), "what recovery may find is not given away");
        let table = &self.table;
        self.space.release(upto, |page, _| table[page.index()].set(Packed::FILE));
        // Twice what is wanted, so that the sign does not flicker.
        self.short_of_space &= self.space.free_pages() < 2 * self.low_water();
    }
}

#[cfg(test)]
mod tests {
    use crate::pagefile::format::{PAGE_SIZE, SEGMENT_PAGES};
    use crate::pagefile::store::{Advice, PageIoError, PageStore, PageWriter};
    use crate::pagefile::{PageFile, PageId};
    use crate::trees::{TreeId, Trees};

    /// A large file that is mostly never touched: zeros the system gives out lazily.
    struct LargeStore {
        bytes: Vec<u8>,
        len: usize,
    }

    impl PageStore for LargeStore {
        fn len(&self) -> u64 {
            self.len as u64
        }

        fn read(&self, offset: u64, len: usize) -> Result<&[u8], PageIoError> {
            assert!(offset as usize + len <= self.len);
            Ok(&self.bytes[offset as usize..offset as usize + len])
        }

        fn grow(&mut self, len: u64) -> Result<(), PageIoError> {
            if len as usize > self.bytes.len() {
                return Err(PageIoError::NoSpace { wanted_bytes: len });
            }
            self.len = len as usize;
            Ok(())
        }

        fn truncate(&mut self, len: u64) -> Result<(), PageIoError> {
            self.len = len as usize;
            Ok(())
        }

        fn advise(&self, _offset: u64, _len: u64, _advice: Advice) {}
    }

    impl PageWriter for LargeStore {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
            self.bytes[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn sync(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn insert(file: &mut PageFile<LargeStore>, from: u64) {
        for key in from..from + 200 {
            file.insert(TreeId::Rev, &key.to_be_bytes(), &[1; 300]).expect("there is room");
        }
    }

    /// The space map of a file of several segments: allocations far behind persist and are freed, segments move.
    #[test]
    fn several_segments() {
        let store = LargeStore { bytes: vec![0; (2 * SEGMENT_PAGES + 5000) * PAGE_SIZE], len: 0 };
        let mut file = PageFile::create(store, Default::default()).expect("it fits");
        insert(&mut file, 0);
        // Take nearly two segments, as pages that nobody reads, so that what follows is in the third.
        let free = file.pager.space.free_pages();
        file.pager.grow(2 * SEGMENT_PAGES, 2 * SEGMENT_PAGES).expect("it fits");
        let blocks: Vec<(PageId, usize)> = (0..20)
            .map(|_| SEGMENT_PAGES / 10 + (free / 20).min(1))
            .map(|pages| (file.pager.space.allocate_run(pages).expect("just grown"), pages))
            .collect();
        for round in 1..4 {
            insert(&mut file, 200 * round);
            file.flush_now().expect("memory does not fail");
        }
        assert!(file.pager.space.highest_used().index() > 2 * SEGMENT_PAGES);
        assert_eq!(file.pager.complete().segments.len(), 3);
        let used = file.pager.space.used_pages();
        let store = LargeStore { bytes: std::mem::take(&mut file.store_mut().bytes), len: file.store().len };
        drop(file);
        let mut file = PageFile::open(store).expect("sound");
        assert_eq!(file.pager.space.used_pages(), used);
        assert_eq!(file.entries(TreeId::Rev), 800);
        for (page, pages) in blocks {
            file.pager.free(TreeId::Rev as u8, page, pages);
        }
        for _ in 0..4 {
            insert(&mut file, 0);
            while file.shrink_step(1000).expect("sound") != crate::pagefile::ShrinkProgress::Done {
                file.flush_now().expect("memory does not fail");
            }
            file.check().expect("sound");
        }
        assert_eq!(file.pager.complete().segments.len(), 1);
        assert!(file.size_bytes() < 200 * PAGE_SIZE as u64, "{}", file.size_bytes());
    }
}
