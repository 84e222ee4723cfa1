//! Where each page is, and who may write it.
//!
//! A page is in one of three places, kept in a table with one word per page:
//! - **file**: read through the store; its checksum is verified the first time it is touched since it was last
//!   written, and what fails is reported and never handed out;
//! - **dirty**: in memory, allocated by the current transaction, changed in place;
//! - **frozen**: in memory, part of the transaction being flushed, never changed again.
//!
//! Changing a page that is not dirty copies it to a newly allocated one (copy on write); the old page is freed by the
//! current transaction and stays readable for flushed states and pinned readers (`space` says how long).
//!
//! Bytes of the file are written only while no reader can look at them through the store: a flush writes pages that
//! are frozen here, which are read from memory until the flush is finished.
//!
//! Not here: what pages mean (`tree`), the order of writes (`flush`).

use std::cell::Cell;
use std::sync::{Arc, Weak};

use super::flush::{Flush, Frozen, Run};
use super::format::{
    Header, Meta, PAGE_SIZE, PAGES_MAX, PageBytes, PageId, PageKind, Root, TREES_MAX, TxnId, get_u16, get_u32,
    overflow_pages, put_u16, put_u32, put_u64,
};
use super::node::{Node, OverflowRef, validate};
use super::space::Space;
use super::store::{PageIoError, PageStore};
use crate::trees::TreeError;

/// Smallest and largest step by which the file grows, in pages: 1 MiB and 64 MiB.
const GROW_PAGES: (usize, usize) = (64, 4096);
/// Bounds of the free pages below which the file grows ahead of need: 512 KiB and 4 MiB.
const LOW_WATER_PAGES: (usize, usize) = (32, 256);
/// Free pages that inserts leave to removals, so that deleting can begin on a full disk.
pub(super) const REMOVAL_RESERVE_PAGES: usize = 16;
/// Single-page buffers kept for reuse: 4 MiB.
const POOL_PAGES: usize = 256;

const VALUE_LEN_AT: usize = 24;
const KEY_LEN_AT: usize = 28;
const OVERFLOW_BODY_AT: usize = super::format::HEADER_BYTES;

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In the file, not yet verified.
    File,
    /// In the file, verified.
    Verified,
    /// In `dirty`, at this index.
    Dirty(usize),
    /// In `frozen`, at this index.
    Frozen(usize),
}

/// [`Place`] in one word.
#[derive(Clone, Copy)]
struct Packed(u32);

impl Packed {
    const FILE: Packed = Packed(0);

    fn new(place: Place) -> Packed {
        match place {
            Place::File => Packed(0),
            Place::Verified => Packed(1),
            Place::Dirty(index) => Packed((index as u32) << 2 | 2),
            Place::Frozen(index) => Packed((index as u32) << 2 | 3),
        }
    }

    fn get(self) -> Place {
        match self.0 & 3 {
            0 => Place::File,
            1 => Place::Verified,
            2 => Place::Dirty((self.0 >> 2) as usize),
            _ => Place::Frozen((self.0 >> 2) as usize),
        }
    }
}

pub(super) struct Pager<S> {
    store: S,
    table: Vec<Cell<Packed>>,
    dirty: Vec<Option<Run>>,
    vacant: Vec<usize>,
    dirty_bytes: usize,
    frozen: Option<Arc<Frozen>>,
    frozen_bytes: usize,
    pub space: Space,
    /// The transaction being written; pages it allocates carry it.
    txn: TxnId,
    /// The last state known to be on the disk.
    durable: TxnId,
    /// The last state that is complete: durable or being flushed.
    complete: Arc<Meta>,
    pins: Vec<(TxnId, Weak<()>)>,
    pool: Vec<Box<[u8]>>,
    /// Growing the file failed, and there is less free than is wanted ahead of need.
    short_of_space: bool,
    /// Growing the file failed in this transaction: it is not tried again until it must.
    grow_blocked: bool,
}

fn corrupt(page: PageId, tree: u8, detail: impl Into<String>) -> TreeError {
    TreeError::Corrupt { page: page.get(), tree, detail: detail.into() }
}

#[inline]
fn as_page(bytes: &[u8]) -> &PageBytes {
    bytes.first_chunk().expect("a run has at least one page")
}

impl<S: PageStore> Pager<S> {
    /// A pager over a file whose state is `meta`; the space map is loaded by the caller.
    pub fn new(store: S, meta: Meta) -> Self {
        let pages = ((store.len() / PAGE_SIZE as u64) as usize).min(PAGES_MAX);
        Pager {
            store,
            table: vec![Cell::new(Packed::FILE); pages],
            dirty: Vec::new(),
            vacant: Vec::new(),
            dirty_bytes: 0,
            frozen: None,
            frozen_bytes: 0,
            space: Space::new(pages),
            txn: meta.txn.next(),
            durable: meta.txn,
            complete: Arc::new(meta),
            pins: Vec::new(),
            pool: Vec::new(),
            short_of_space: false,
            grow_blocked: false,
        }
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The transaction being written.
    pub fn txn(&self) -> TxnId {
        self.txn
    }

    pub fn durable(&self) -> TxnId {
        self.durable
    }

    pub fn complete(&self) -> &Arc<Meta> {
        &self.complete
    }

    pub fn is_flushing(&self) -> bool {
        self.frozen.is_some()
    }

    /// Bytes of pages in memory that are not on the disk.
    pub fn memory_bytes(&self) -> usize {
        self.dirty_bytes + self.frozen_bytes
    }

    pub fn short_of_space(&self) -> bool {
        self.short_of_space
    }

    // Reading.

    #[inline]
    pub fn place(&self, page: PageId) -> Option<Place> {
        self.table.get(page.index()).map(|packed| packed.get().get())
    }

    /// Bytes of a run in memory.
    #[inline]
    fn in_memory(&self, place: Place) -> Option<&[u8]> {
        match place {
            Place::Dirty(index) => Some(&self.dirty[index].as_ref().expect("the table names live runs").bytes),
            Place::Frozen(index) => {
                Some(&self.frozen.as_ref().expect("the table names a flush under way").runs[index].bytes)
            }
            Place::File | Place::Verified => None,
        }
    }

    #[inline]
    fn read_file(&self, page: PageId, pages: usize, tree: u8) -> Result<&[u8], TreeError> {
        self.store.read(page.offset(), pages * PAGE_SIZE).map_err(|error| match error {
            PageIoError::OutOfRange { .. } => corrupt(page, tree, error.to_string()),
            other => TreeError::Io { detail: describe(&other) },
        })
    }

    /// A leaf or branch of `tree` at `level`.
    #[inline]
    pub fn node(&self, page: PageId, tree: u8, level: u8) -> Result<Node<'_>, TreeError> {
        let bytes = match self.place(page) {
            Some(Place::Verified) => self.read_file(page, 1, tree)?,
            Some(Place::File) => self.verified_node(page, tree)?,
            Some(place) => self.in_memory(place).expect("it is in memory"),
            None => return Err(corrupt(page, tree, format!("page is beyond the file of {} pages", self.table.len()))),
        };
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Branch };
        if bytes[4..7] != [kind as u8, tree, level] {
            let found = format!("kind {}, tree {}, level {}", bytes[4], bytes[5], bytes[6]);
            return Err(corrupt(page, tree, format!("expected {kind:?} of level {level}, found {found}")));
        }
        Ok(Node::new(as_page(bytes)))
    }

    #[cold]
    fn verified_node(&self, page: PageId, tree: u8) -> Result<&[u8], TreeError> {
        let bytes = self.read_file(page, 1, tree)?;
        let header = self.verify(page, tree, bytes)?;
        match header.kind {
            PageKind::Leaf | PageKind::Branch => {
                validate(as_page(bytes), header.kind).map_err(|detail| corrupt(page, tree, detail))?;
            }
            PageKind::Overflow | PageKind::Space => {
                return Err(corrupt(page, tree, format!("expected a node, found {:?}", header.kind)));
            }
        }
        self.table[page.index()].set(Packed::new(Place::Verified));
        Ok(bytes)
    }

    /// Checks checksum and header of a run from the file.
    pub fn verify(&self, page: PageId, tree: u8, run: &[u8]) -> Result<Header, TreeError> {
        let (found, expected) = (crc32fast::hash(&run[4..]), get_u32(run, 0));
        if found != expected {
            return Err(corrupt(page, tree, format!("checksum {found:#010x}, expected {expected:#010x}")));
        }
        let header = Header::read(run).ok_or_else(|| corrupt(page, tree, "page of unknown kind"))?;
        if header.page != page {
            return Err(corrupt(page, tree, format!("holds page {}", header.page)));
        }
        if header.txn > self.complete.txn {
            let detail = format!("written by transaction {}, state is {}", header.txn, self.complete.txn);
            return Err(corrupt(page, tree, detail));
        }
        Ok(header)
    }

    /// A long value, in place.
    pub fn overflow(&self, reference: OverflowRef, tree: u8, key: &[u8]) -> Result<&[u8], TreeError> {
        let page = reference.page;
        let value_bytes = reference.value_bytes as usize;
        let pages = overflow_pages(key.len(), value_bytes);
        let place = match self.place(page) {
            Some(place) if page >= PageId::FIRST => place,
            _ => return Err(corrupt(page, tree, "overflow run is outside of the file")),
        };
        let bytes = match self.in_memory(place) {
            Some(bytes) => bytes,
            None => self.read_file(page, pages, tree)?,
        };
        if place == Place::File {
            let header = self.verify(page, tree, bytes)?;
            if header.kind != PageKind::Overflow || header.tree != tree {
                return Err(corrupt(page, tree, format!("expected an overflow run, found {header:?}")));
            }
            self.table[page.index()].set(Packed::new(Place::Verified));
        }
        let run = OverflowRun::new(bytes);
        if bytes.len() != pages * PAGE_SIZE || run.value_bytes() != value_bytes || run.key(bytes) != Some(key) {
            return Err(corrupt(page, tree, "overflow run does not belong to its entry"));
        }
        Ok(&bytes[OVERFLOW_BODY_AT + key.len()..][..value_bytes])
    }

    /// A segment of the space map, verified now.
    pub fn space_segment(&self, page: PageId, index: usize) -> Result<&[u8], TreeError> {
        let place = self.place(page).ok_or_else(|| corrupt(page, 0, "space map is outside of the file"))?;
        if let Some(bytes) = self.in_memory(place) {
            return Ok(bytes);
        }
        let bytes = self.read_file(page, 1, 0)?;
        let header = self.verify(page, 0, bytes)?;
        if header.kind != PageKind::Space || get_u32(bytes, VALUE_LEN_AT) as usize != index {
            return Err(corrupt(page, 0, format!("expected segment {index} of the space map, found {header:?}")));
        }
        Ok(bytes)
    }

    /// A whole run as the file has it, its checksum verified now, with its header.
    pub fn sealed_run(&self, page: PageId, pages: usize) -> Result<(&[u8], Header), TreeError> {
        let bytes = self.read_file(page, pages, 0)?;
        let header = self.verify(page, 0, bytes)?;
        Ok((bytes, header))
    }

    /// Bytes of a run of the current state, verified if they come from the file.
    pub fn run_bytes(&self, page: PageId, pages: usize) -> Result<&[u8], TreeError> {
        let place = self.place(page).ok_or_else(|| corrupt(page, 0, "page is beyond the file"))?;
        match self.in_memory(place) {
            Some(bytes) => Ok(bytes),
            None if place == Place::Verified => self.read_file(page, pages, 0),
            None => self.sealed_run(page, pages).map(|(bytes, _)| bytes),
        }
    }

    /// Kind, tree and level of a run of the current state.
    pub fn describe_run(&self, page: PageId, pages: usize) -> Result<(PageKind, u8, u8), TreeError> {
        let header = Header::read(self.run_bytes(page, pages)?).ok_or_else(|| corrupt(page, 0, "unknown kind"))?;
        Ok((header.kind, header.tree, header.level))
    }

    /// Bytes of a run that is being flushed.
    pub fn frozen_run(&self, page: PageId) -> Option<&[u8]> {
        match self.place(page) {
            Some(place @ Place::Frozen(_)) => self.in_memory(place),
            _ => None,
        }
    }

    // Writing.

    /// A dirty page, to be changed.
    #[inline]
    pub fn page_mut(&mut self, page: PageId) -> &mut PageBytes {
        let Some(Place::Dirty(index)) = self.place(page) else { panic!("page {page} is not dirty") };
        let run = self.dirty[index].as_mut().expect("the table names live runs");
        run.bytes.first_chunk_mut().expect("a run has at least one page")
    }

    fn buffer(&mut self, pages: usize) -> Box<[u8]> {
        let pooled = if pages == 1 { self.pool.pop() } else { None };
        pooled.unwrap_or_else(|| vec![0; pages * PAGE_SIZE].into_boxed_slice())
    }

    fn recycle(&mut self, buffer: Box<[u8]>) {
        if buffer.len() == PAGE_SIZE && self.pool.len() < POOL_PAGES {
            self.pool.push(buffer);
        }
    }

    fn install(&mut self, page: PageId, bytes: Box<[u8]>) {
        self.dirty_bytes += bytes.len();
        let run = Some(Run { page, bytes });
        let index = match self.vacant.pop() {
            Some(index) => {
                self.dirty[index] = run;
                index
            }
            None => {
                self.dirty.push(run);
                self.dirty.len() - 1
            }
        };
        self.table[page.index()].set(Packed::new(Place::Dirty(index)));
    }

    fn uninstall(&mut self, index: usize) -> Run {
        let run = self.dirty[index].take().expect("the table names live runs");
        self.vacant.push(index);
        self.dirty_bytes -= run.bytes.len();
        self.table[run.page.index()].set(Packed::FILE);
        run
    }

    /// A new page of zeros behind its header. Room has been ensured.
    pub fn allocate(&mut self, kind: PageKind, tree: u8, level: u8) -> PageId {
        let page = self.space.allocate().expect("room was ensured");
        let mut bytes = self.buffer(1);
        bytes.fill(0);
        Header { kind, tree, level, page, txn: self.txn }.write(&mut bytes);
        self.install(page, bytes);
        page
    }

    /// A new overflow run. Room has been ensured.
    pub fn allocate_overflow(&mut self, tree: u8, key: &[u8], value: &[u8]) -> OverflowRef {
        let pages = overflow_pages(key.len(), value.len());
        let page = self.space.allocate_run(pages).expect("room was ensured");
        let mut bytes = self.buffer(pages);
        Header { kind: PageKind::Overflow, tree, level: 0, page, txn: self.txn }.write(&mut bytes);
        OverflowRun::init(&mut bytes, key, value);
        self.install(page, bytes);
        OverflowRef { page, value_bytes: value.len() as u32 }
    }

    /// Gives back a run of the current state.
    pub fn free(&mut self, page: PageId, pages: usize) {
        if let Some(Place::Dirty(index)) = self.place(page) {
            let run = self.uninstall(index);
            assert_eq!(run.bytes.len(), pages * PAGE_SIZE);
            self.recycle(run.bytes);
            self.space.free_now(page, pages);
        } else {
            self.space.free_later(self.txn, page, pages);
        }
    }

    /// The page under which a node may be changed: itself if dirty, else a copy. Room has been ensured.
    #[inline]
    pub fn make_dirty(&mut self, page: PageId) -> Result<PageId, TreeError> {
        if let Some(Place::Dirty(_)) = self.place(page) {
            return Ok(page);
        }
        self.copy_run(page, 1)
    }

    /// Copies a run of the current state to the lowest free place and frees the old one. Room has been ensured.
    pub fn copy_run(&mut self, page: PageId, pages: usize) -> Result<PageId, TreeError> {
        let place = self.place(page).expect("pages of the current state are in the table");
        let copy = if let Place::Dirty(_) = place {
            None
        } else {
            let mut copy = self.buffer(pages);
            copy.copy_from_slice(self.run_bytes(page, pages)?);
            Some(copy)
        };
        let to = self.space.allocate_run(pages).expect("room was ensured");
        let mut bytes = match (place, copy) {
            (_, Some(copy)) => {
                self.space.free_later(self.txn, page, pages);
                copy
            }
            (Place::Dirty(index), _) => {
                self.space.free_now(page, pages);
                self.uninstall(index).bytes
            }
            _ => unreachable!("what is not dirty was copied"),
        };
        put_u32(&mut bytes, 0, 0);
        put_u64(&mut bytes, 8, to.get());
        put_u64(&mut bytes, 16, self.txn.get());
        self.install(to, bytes);
        Ok(to)
    }

    // Room.

    /// Makes sure that `singles` pages and one run of `run` pages can be allocated, growing the file if need be.
    /// Nothing has changed if it fails. Grows ahead of need, so that a full disk shows in
    /// [`Pager::short_of_space`] while there is still room for deletes and flushes.
    #[inline]
    pub fn ensure_room(&mut self, singles: usize, run: usize) -> Result<(), TreeError> {
        if run == 0 && self.space.free_pages() >= singles + self.low_water() {
            return Ok(());
        }
        self.ensure_room_slow(singles, run)
    }

    /// Free pages below which the file grows ahead of need.
    #[inline]
    fn low_water(&self) -> usize {
        (self.table.len() / 16).clamp(LOW_WATER_PAGES.0, LOW_WATER_PAGES.1)
    }

    #[cold]
    fn ensure_room_slow(&mut self, singles: usize, run: usize) -> Result<(), TreeError> {
        let singles = singles + self.flush_needs();
        let has_run = run == 0 || self.space.find_run(run).is_some();
        let enough = has_run && self.space.free_pages() >= singles + run;
        if enough && (self.grow_blocked || self.space.free_pages() >= singles + run + self.low_water()) {
            return Ok(());
        }
        let missing = if has_run { 0 } else { run.saturating_sub(self.space.free_tail()) };
        let free_after = self.space.free_pages() + missing;
        let minimum = missing + (singles + run).saturating_sub(free_after);
        let chunk = (self.table.len() / 8).clamp(GROW_PAGES.0, GROW_PAGES.1);
        match self.grow(minimum.max(1), missing + chunk) {
            Err(TreeError::Full { .. }) if enough => Ok(()),
            other => other,
        }
    }

    /// As [`Pager::ensure_room`] for single pages, without growing ahead of need.
    pub fn ensure_room_now(&mut self, singles: usize) -> Result<(), TreeError> {
        let needed = singles + self.flush_needs();
        match needed.checked_sub(self.space.free_pages()) {
            None | Some(0) => Ok(()),
            Some(missing) => self.grow(missing, missing),
        }
    }

    /// Pages a flush takes: each segment of the space map at most once, and what growing adds.
    fn flush_needs(&self) -> usize {
        self.space.segments() + 2
    }

    fn grow(&mut self, minimum: usize, wanted: usize) -> Result<(), TreeError> {
        let pages = self.table.len();
        let mut last = None;
        for target in [pages + wanted.max(minimum), pages + minimum] {
            if target > PAGES_MAX {
                continue;
            }
            match self.store.grow(target as u64 * PAGE_SIZE as u64) {
                Ok(()) => {
                    self.table.resize(target, Cell::new(Packed::FILE));
                    self.space.set_pages(target);
                    self.grow_blocked = target < pages + wanted;
                    self.short_of_space = self.grow_blocked;
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        match last {
            None | Some(PageIoError::NoSpace { .. }) => {
                self.grow_blocked = true;
                self.short_of_space = true;
                Err(TreeError::Full { size_bytes: self.store.len() })
            }
            Some(other) => Err(TreeError::Io { detail: describe(&other) }),
        }
    }

    /// Cuts free pages off the end of the file, down to `pages`. Pages that are busy stay.
    pub fn truncate(&mut self, pages: usize) -> Result<(), TreeError> {
        let pages = pages.max(self.space.highest_busy().index() + 1);
        if pages >= self.table.len() {
            return Ok(());
        }
        self.store
            .truncate(pages as u64 * PAGE_SIZE as u64)
            .map_err(|error| TreeError::Io { detail: describe(&error) })?;
        self.table.truncate(pages);
        self.space.set_pages(pages);
        self.grow_blocked = false;
        Ok(())
    }

    // Flushing.

    /// Whether the current state differs from the last complete one.
    pub fn is_dirty(&self) -> bool {
        self.dirty_bytes > 0 || self.space.is_dirty()
    }

    /// Ends the current transaction: its dirty pages are frozen and the next transaction begins.
    pub fn begin_flush(&mut self, roots: &[Root; TREES_MAX]) -> Result<Option<Flush>, TreeError> {
        assert!(self.frozen.is_none(), "one flush at a time");
        if !self.is_dirty() {
            return Ok(None);
        }
        self.grow_blocked = false; // the disk may have room by now
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
        for (index, run) in runs.iter().enumerate() {
            self.table[run.page.index()].set(Packed::new(Place::Frozen(index)));
        }
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
                self.free(old, 1);
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
            put_u32(&mut run.bytes, VALUE_LEN_AT, segment as u32);
            self.space.write_segment(segment, &mut run.bytes);
        }
        self.space.clean_empty_segments();
    }

    /// The flush is on the disk: its pages are read from there from now on.
    pub fn finish_flush(&mut self, flush: Flush) {
        let frozen = self.frozen.take().expect("a flush is under way");
        assert!(Arc::ptr_eq(&frozen, &flush.frozen), "the flush is the one under way");
        assert_eq!(flush.txn, self.complete.txn);
        drop(flush);
        for run in &frozen.runs {
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
        let table = &self.table;
        self.space.release(upto, |page, _| table[page.index()].set(Packed::FILE));
        // Twice what is wanted, so that the sign does not flicker.
        self.short_of_space &= self.space.free_pages() < 2 * self.low_water();
    }
}

/// Fields of an overflow run behind the common header.
pub(super) struct OverflowRun {
    value_bytes: usize,
    key_bytes: usize,
}

impl OverflowRun {
    pub fn new(bytes: &[u8]) -> OverflowRun {
        OverflowRun {
            value_bytes: get_u32(bytes, VALUE_LEN_AT) as usize,
            key_bytes: usize::from(get_u16(bytes, KEY_LEN_AT)),
        }
    }

    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub fn pages(&self) -> usize {
        overflow_pages(self.key_bytes, self.value_bytes)
    }

    pub fn key<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(OVERFLOW_BODY_AT..OVERFLOW_BODY_AT + self.key_bytes)
    }

    fn init(bytes: &mut [u8], key: &[u8], value: &[u8]) {
        put_u32(bytes, VALUE_LEN_AT, value.len() as u32);
        put_u16(bytes, KEY_LEN_AT, key.len() as u16);
        put_u16(bytes, KEY_LEN_AT + 2, 0);
        let (body, rest) = bytes[OVERFLOW_BODY_AT..].split_at_mut(key.len() + value.len());
        body[..key.len()].copy_from_slice(key);
        body[key.len()..].copy_from_slice(value);
        rest.fill(0);
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
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
            file.pager.free(page, pages);
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
