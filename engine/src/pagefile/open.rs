//! Creating and opening.
//!
//! Opening reads the two meta pages, takes the newer valid one, and loads its space map; its cost grows with the file
//! by one bit per page. Nothing else is read: trees are verified as they are touched.
//!
//! A meta page that is torn or damaged is passed over in favour of the other one, whose state is whole (see `space`)
//! but older. Whoever opens the file must check that its log reaches back to that state.

use super::PageFile;
use super::format::{Meta, MetaError, PAGE_SIZE, PAGES_MAX, PageId, SEGMENT_PAGES, TxnId};
use super::pager::Pager;
use super::store::{PageIoError, PageStore};
use crate::trees::TreeError;

/// What is chosen at creation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Identifies the file; a random number serves.
    pub file_id: u64,
}

/// A page file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No flush was ever finished: the file is new.
    #[error("no state was ever written to this file")]
    Blank,
    /// Neither meta page is one.
    #[error("not a page file")]
    NotAPageFile,
    /// Written by another version.
    #[error("format version {found}, this program reads version {}", super::FORMAT_VERSION)]
    Version { found: u32 },
    /// Both meta pages are damaged.
    #[error("both meta pages are damaged: {first}; {second}")]
    NoMeta { first: &'static str, second: &'static str },
    /// The file is shorter than its state.
    #[error("state of transaction {txn} has {expected} pages, the file has {found}")]
    Truncated {
        /// The state that was chosen.
        txn: u64,
        expected: u64,
        found: u64,
    },
    /// Create was asked for, but the file is in use.
    #[error("the file has a state already")]
    Exists,
    /// A page needed for opening is damaged.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store failed.
    #[error("{0}")]
    Io(#[from] PageIoError),
}

impl<S: PageStore> PageFile<S> {
    /// Makes an empty file. Nothing is on the disk before the first flush is finished.
    pub fn create(mut store: S, options: Options) -> Result<Self, OpenError> {
        if store.len() >= 2 * PAGE_SIZE as u64 {
            match choose([read_meta(&store, PageId(0))?, read_meta(&store, PageId(1))?]) {
                Err(OpenError::Blank) => {}
                _ => return Err(OpenError::Exists),
            }
        } else {
            store.grow(2 * PAGE_SIZE as u64)?;
        }
        Ok(PageFile::new(Pager::new(store, Meta::empty(options.file_id))))
    }

    /// Opens the last durable state.
    pub fn open(store: S) -> Result<Self, OpenError> {
        if store.len() < 2 * PAGE_SIZE as u64 {
            return Err(if store.is_empty() { OpenError::Blank } else { OpenError::NotAPageFile });
        }
        let metas = [read_meta(&store, PageId(0))?, read_meta(&store, PageId(1))?];
        let (meta, previous) = choose(metas)?;
        let found = store.len() / PAGE_SIZE as u64;
        if found < u64::from(meta.pages) || found > PAGES_MAX as u64 {
            return Err(OpenError::Truncated { txn: meta.txn.get(), expected: u64::from(meta.pages), found });
        }
        let mut pager = Pager::new(store, meta.clone());
        for (index, &page) in meta.segments.iter().enumerate() {
            load_segment(&mut pager, &meta, index, page)?;
        }
        pager.space.loaded();
        check_marks(&pager, &meta)?;
        if let Some(previous) = previous {
            keep_previous(&mut pager, &previous, meta.txn);
        }
        Ok(PageFile::new(pager))
    }
}

fn read_meta(store: &impl PageStore, place: PageId) -> Result<Result<Meta, MetaError>, PageIoError> {
    Ok(Meta::decode(store.read(place.offset(), PAGE_SIZE)?, place))
}

/// The newer valid state, and the one before it if that is valid too.
fn choose(metas: [Result<Meta, MetaError>; 2]) -> Result<(Meta, Option<Meta>), OpenError> {
    match metas {
        [Ok(first), Ok(second)] => {
            let (newer, older) = if first.txn > second.txn { (first, second) } else { (second, first) };
            let consecutive = older.txn.next() == newer.txn;
            Ok((newer, consecutive.then_some(older)))
        }
        [Ok(meta), Err(_)] | [Err(_), Ok(meta)] => Ok((meta, None)),
        [Err(first), Err(second)] => Err(why_none(first, second)),
    }
}

fn why_none(first: MetaError, second: MetaError) -> OpenError {
    use MetaError::{Blank, Damaged, Magic, Version};
    let text = |error: &MetaError| match error {
        Blank => "never written",
        Magic => "no magic number",
        Version(_) => "unknown version",
        Damaged(what) => what,
    };
    match (&first, &second) {
        // The first flush writes page 1. Page 0 is blank until the second one, so page 1 is torn, not rotten.
        (Blank, Blank | Damaged(_)) => OpenError::Blank,
        (Version(found), _) | (_, Version(found)) => OpenError::Version { found: *found },
        (Magic | Blank, Magic | Blank) => OpenError::NotAPageFile,
        _ => OpenError::NoMeta { first: text(&first), second: text(&second) },
    }
}

fn load_segment<S: PageStore>(pager: &mut Pager<S>, meta: &Meta, index: usize, page: PageId) -> Result<(), OpenError> {
    if page.is_none() {
        return Ok(());
    }
    let bytes: Box<[u8]> = pager.space_segment(page, index)?.into();
    let limit = (meta.pages as usize).min((index + 1) * SEGMENT_PAGES);
    pager.space.load(index, page, &bytes, limit).map_err(|detail| TreeError::Corrupt {
        page: page.get(),
        tree: 0,
        detail: detail.to_owned(),
    })?;
    Ok(())
}

/// What the meta page refers to must be marked as in use, or the next flush would write over it.
fn check_marks<S: PageStore>(pager: &Pager<S>, meta: &Meta) -> Result<(), TreeError> {
    let roots = meta.roots.iter().map(|root| root.page);
    for page in roots.chain(meta.segments.iter().copied()).filter(|page| !page.is_none()) {
        if !pager.space.is_used(page) {
            let detail = "in use, but the space map says free".to_owned();
            return Err(TreeError::Corrupt { page: page.get(), tree: 0, detail });
        }
    }
    Ok(())
}

/// Keeps the state before the opened one whole until its meta page is overwritten. If its space map cannot be read,
/// it is lost anyway.
fn keep_previous<S: PageStore>(pager: &mut Pager<S>, previous: &Meta, opened: TxnId) {
    for (index, &page) in previous.segments.iter().enumerate() {
        if page.is_none() {
            continue;
        }
        let Ok(bytes) = pager.space_segment(page, index) else { return };
        let bytes: Box<[u8]> = bytes.into();
        pager.space.keep_previous(opened, index, &bytes);
    }
}
