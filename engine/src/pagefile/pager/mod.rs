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

mod commit;
mod overflow;
mod room;

use std::cell::Cell;
use std::sync::{Arc, Weak};

pub(super) use overflow::OverflowRun;
pub(super) use room::REMOVAL_RESERVE_PAGES;

use super::flush::{Frozen, Run};
use super::format::{
    Header, Meta, PAGE_SIZE, PAGES_MAX, PageBytes, PageId, PageKind, SEGMENT_AT, TREES_MAX, TxnId, get_u32, put_u32,
    put_u64,
};
use super::node::{Node, validate};
use super::space::Space;
use super::store::{PageIoError, PageStore};
use crate::trees::TreeError;

/// Single-page buffers kept for reuse: 4 MiB.
const POOL_PAGES: usize = 256;

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
    /// Pages that there may be beyond the file while the disk is full.
    overdraft_pages: usize,
    /// Pages that each tree was given less those it gave back, and what was counted for it.
    pages_of: [i64; TREES_MAX],
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
            overdraft_pages: 0,
            pages_of: [0; TREES_MAX],
        }
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    pub fn into_store(self) -> S {
        self.store
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

    /// A page of the file was found damaged: its checksum is looked at again whenever it is touched.
    pub fn distrust(&self, page: PageId) {
        if self.place(page) == Some(Place::Verified) {
            self.table[page.index()].set(Packed::FILE);
        }
    }

    /// A segment of the space map, verified now.
    pub fn space_segment(&self, page: PageId, index: usize) -> Result<&[u8], TreeError> {
        let place = self.place(page).ok_or_else(|| corrupt(page, 0, "space map is outside of the file"))?;
        if let Some(bytes) = self.in_memory(place) {
            return Ok(bytes);
        }
        let bytes = self.read_file(page, 1, 0)?;
        let header = self.verify(page, 0, bytes)?;
        if header.kind != PageKind::Space || get_u32(bytes, SEGMENT_AT) as usize != index {
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
        self.pages_of[usize::from(tree)] += 1;
        let mut bytes = self.buffer(1);
        bytes.fill(0);
        Header { kind, tree, level, page, txn: self.txn }.write(&mut bytes);
        self.install(page, bytes);
        page
    }

    /// Gives back a run of the current state, which a tree had, or the space map: tree 0.
    pub fn free(&mut self, tree: u8, page: PageId, pages: usize) {
        self.pages_of[usize::from(tree)] -= pages as i64;
        if let Some(Place::Dirty(index)) = self.place(page) {
            let run = self.uninstall(index);
            assert_eq!(run.bytes.len(), pages * PAGE_SIZE, "a run is let go of as it was taken");
            self.recycle(run.bytes);
            self.space.free_now(page, pages);
        } else {
            self.space.free_later(self.txn, page, pages);
        }
    }

    /// Pages that a tree takes, if they were counted once.
    pub fn pages_of(&self, tree: u8) -> u64 {
        u64::try_from(self.pages_of[usize::from(tree)]).expect("no more is given back than was counted")
    }

    /// The pages of a tree were counted.
    pub fn set_pages_of(&mut self, tree: u8, pages: u64) {
        self.pages_of[usize::from(tree)] = pages.cast_signed();
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
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
