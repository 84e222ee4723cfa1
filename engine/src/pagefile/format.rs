//! Every byte of the page file.
//!
//! ```text
//! file   = page 0 (meta, even transactions), page 1 (meta, odd transactions), page 2, page 3, ...
//! page   = 16 KiB; a run is one or more pages with one header and one checksum over all of it
//!
//! header (32 bytes, every page but the meta pages; integers are little-endian)
//!    0  u32  crc32 of everything behind this field, to the end of the page or run; zero while the page is in memory
//!    4  u8   kind: 1 leaf, 2 branch, 3 overflow run, 4 space map
//!    5  u8   tree, 0 for a space map
//!    6  u8   level: 0 leaf, 1 the branch above leaves, ...
//!    7  u8   zero
//!    8  u64  page number of the first page of the run
//!   16  u64  transaction that wrote it
//!   24       leaf, branch:  u16 slots, u16 start of the heap, u16 dead bytes in the heap, u16 zero
//!            overflow:      u32 value length, u16 key length, u16 zero
//!            space map:     u32 segment number, u32 zero
//!
//! leaf, branch: slots (u16 offset of a cell each, in key order) grow up, the heap of cells grows down from the end
//! cell          u16 key length, u16 value length (bit 15: the value is an overflow reference), key, value
//!   of a branch:  value = u32 child page; the first cell has the empty key, the others the lowest key of their child
//!   overflow ref: value = u32 first page, u32 value length
//! overflow      header, key, value, zeros
//! space map     header, one bit per page "in use", one bit per page "inside a run" (not its first page)
//!
//! meta (one page)
//!    0  u32  crc32 of everything behind this field
//!    4  u32  format version
//!    8  [u8; 8] magic
//!   16  u32  page size              20  u32  count of pages: one more than the highest page in use
//!   24  u64  transaction            32  u64  file id, chosen at creation
//!   40  u32  space map segments     44  u32  zero
//!   64       64 roots of 16 bytes: u32 page (0 = empty tree), u8 level, 3 zeros, u64 entries; indexed by tree number
//! 1088       1024 × u32 page of each space map segment (0 = nothing in use in it)
//! ```
//!
//! Page numbers are 32 bits wide in references, which bounds a file at 64 TiB; the space map bounds it at 1 TiB before.
//! Not here: what is inside a slotted page (`node`), when a page may be written (`pager`).

use std::fmt;

/// Size of a page.
pub const PAGE_SIZE: usize = 16 * 1024;
/// Magic number of a meta page.
pub const MAGIC: [u8; 8] = *b"PLINTHPF";
/// Version of the layout described above.
pub const FORMAT_VERSION: u32 = 1;
/// Longest key of any tree.
pub const KEY_BYTES_MAX: usize = 2048;
/// Longest value of any tree.
pub const VALUE_BYTES_MAX: usize = 1 << 30;
/// Trees a file can hold; tree numbers are below.
pub const TREES_MAX: usize = 64;

/// A page, as bytes.
pub type PageBytes = [u8; PAGE_SIZE];

pub(super) const HEADER_BYTES: usize = 32;
/// Fields behind the common part of the header, by kind.
pub(super) const SLOTS_AT: usize = 24;
pub(super) const HEAP_AT: usize = 26;
pub(super) const DEAD_AT: usize = 28;
pub(super) const VALUE_BYTES_AT: usize = 24;
pub(super) const KEY_BYTES_AT: usize = 28;
pub(super) const SEGMENT_AT: usize = 24;
pub(super) const SLOT_BYTES: usize = 2;
pub(super) const CELL_HEADER_BYTES: usize = 4;
pub(super) const CHILD_BYTES: usize = 4;
pub(super) const OVERFLOW_REF_BYTES: usize = 8;
/// Set in a cell's value length if the value is an overflow reference.
pub(super) const OVERFLOW_FLAG: u16 = 0x8000;
/// Room for slots and cells.
pub(super) const NODE_CAPACITY: usize = PAGE_SIZE - HEADER_BYTES;
/// A cell and its slot take at most half a page, so that a split always makes room.
pub(super) const CELL_BYTES_MAX: usize = NODE_CAPACITY / 2 - SLOT_BYTES;
/// Levels of a tree, the leaves included. A branch has at least 7 children with the longest keys.
pub(super) const LEVELS_MAX: usize = 16;

/// Pages one segment of the space map describes.
pub(super) const SEGMENT_PAGES: usize = SEGMENT_WORDS * 64;
pub(super) const SEGMENT_WORDS: usize = (PAGE_SIZE - HEADER_BYTES) / 8 / 2;
pub(super) const SEGMENTS_MAX: usize = 1024;
/// Pages a file can hold.
pub(super) const PAGES_MAX: usize = SEGMENT_PAGES * SEGMENTS_MAX;

const META_ROOTS: usize = 64;
const ROOT_BYTES: usize = 16;
const META_SEGMENTS: usize = META_ROOTS + TREES_MAX * ROOT_BYTES;
const META_END: usize = META_SEGMENTS + SEGMENTS_MAX * 4;

const _: () = {
    assert!(PAGE_SIZE <= 1 << 15, "cell offsets and lengths fit 15 bits");
    assert!(CELL_HEADER_BYTES + KEY_BYTES_MAX + OVERFLOW_REF_BYTES <= CELL_BYTES_MAX);
    assert!(NODE_CAPACITY / (SLOT_BYTES + CELL_HEADER_BYTES + KEY_BYTES_MAX + CHILD_BYTES) >= 4);
    assert!(CELL_BYTES_MAX < OVERFLOW_FLAG as usize);
    assert!(SEGMENT_PAGES == 65_408);
    assert!(HEADER_BYTES + 2 * SEGMENT_WORDS * 8 <= PAGE_SIZE);
    assert!(PAGES_MAX < u32::MAX as usize);
    assert!(META_SEGMENTS == 1088);
    assert!(META_END <= PAGE_SIZE);
};

/// Number of a page; its offset in the file is this times [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PageId(pub(super) u32);

impl PageId {
    /// No page: number 0 is a meta page and never referred to.
    pub(super) const NONE: PageId = PageId(0);
    /// The first page behind the meta pages.
    pub(super) const FIRST: PageId = PageId(2);

    pub(super) fn new(index: usize) -> PageId {
        PageId(u32::try_from(index).expect("PAGES_MAX fits 32 bits"))
    }

    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(super) fn offset(self) -> u64 {
        u64::from(self.0) * PAGE_SIZE as u64
    }

    /// The number as it appears in errors.
    pub fn get(self) -> u64 {
        u64::from(self.0)
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a transaction: everything between two flushes. Grows by one with each flush.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TxnId(pub(super) u64);

impl TxnId {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    pub(super) fn next(self) -> TxnId {
        TxnId(self.0.checked_add(1).expect("2^64 flushes do not happen"))
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PageKind {
    /// Entries of a tree.
    Leaf = 1,
    /// Children of a tree.
    Branch = 2,
    /// One long value.
    Overflow = 3,
    /// Part of the space map.
    Space = 4,
}

impl PageKind {
    fn from_byte(byte: u8) -> Option<PageKind> {
        match byte {
            1 => Some(PageKind::Leaf),
            2 => Some(PageKind::Branch),
            3 => Some(PageKind::Overflow),
            4 => Some(PageKind::Space),
            _ => None,
        }
    }
}

#[inline]
pub(super) fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("offset is inside the page"))
}

#[inline]
pub(super) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("offset is inside the page"))
}

#[inline]
pub(super) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("offset is inside the page"))
}

#[inline]
pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The part of the header that all kinds share, without the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub kind: PageKind,
    pub tree: u8,
    pub level: u8,
    pub page: PageId,
    pub txn: TxnId,
}

impl Header {
    /// None if the kind is unknown or the page number too large.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            kind: PageKind::from_byte(bytes[4])?,
            tree: bytes[5],
            level: bytes[6],
            page: PageId(u32::try_from(get_u64(bytes, 8)).ok()?),
            txn: TxnId(get_u64(bytes, 16)),
        })
    }

    /// Writes the header, with a zero checksum.
    pub fn write(self, bytes: &mut [u8]) {
        put_u32(bytes, 0, 0);
        bytes[4] = self.kind as u8;
        bytes[5] = self.tree;
        bytes[6] = self.level;
        bytes[7] = 0;
        put_u64(bytes, 8, self.page.get());
        put_u64(bytes, 16, self.txn.0);
    }
}

/// Stores the checksum of a page or run.
pub(super) fn seal(run: &mut [u8]) {
    let crc = crc32fast::hash(&run[4..]);
    put_u32(run, 0, crc);
}

/// Pages of an overflow run.
pub(super) fn overflow_pages(key_bytes: usize, value_bytes: usize) -> usize {
    (HEADER_BYTES + key_bytes + value_bytes).div_ceil(PAGE_SIZE)
}

/// Whether a value of this length is stored inside the leaf.
pub(super) fn fits_inline(key_bytes: usize, value_bytes: usize) -> bool {
    CELL_HEADER_BYTES + key_bytes + value_bytes <= CELL_BYTES_MAX
}

/// Root of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Root {
    pub page: PageId,
    pub level: u8,
    pub entries: u64,
}

/// Contents of a meta page: one consistent state of the whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub txn: TxnId,
    pub file_id: u64,
    /// One more than the highest page in use.
    pub pages: u32,
    pub roots: [Root; TREES_MAX],
    pub segments: Vec<PageId>,
}

/// Why a meta page is no use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum MetaError {
    /// Never written.
    Blank,
    /// Not a meta page of a page file.
    Magic,
    /// Written by another version of the format.
    Version(u32),
    /// Torn or damaged.
    Damaged(&'static str),
}

impl Meta {
    pub fn empty(file_id: u64) -> Meta {
        Meta { txn: TxnId(0), file_id, pages: 2, roots: [Root::default(); TREES_MAX], segments: Vec::new() }
    }

    /// Where the meta page of a transaction is written: the two places alternate.
    pub fn place(txn: TxnId) -> PageId {
        PageId((txn.0 % 2) as u32)
    }

    pub fn encode(&self) -> Box<[u8]> {
        assert!(self.segments.len() <= SEGMENTS_MAX, "a meta page has room for all segments");
        let mut page = vec![0; PAGE_SIZE].into_boxed_slice();
        put_u32(&mut page, 4, FORMAT_VERSION);
        page[8..16].copy_from_slice(&MAGIC);
        put_u32(&mut page, 16, PAGE_SIZE as u32);
        put_u32(&mut page, 20, self.pages);
        put_u64(&mut page, 24, self.txn.0);
        put_u64(&mut page, 32, self.file_id);
        put_u32(&mut page, 40, self.segments.len() as u32);
        for (index, root) in self.roots.iter().enumerate() {
            let at = META_ROOTS + index * ROOT_BYTES;
            put_u32(&mut page, at, root.page.0);
            page[at + 4] = root.level;
            put_u64(&mut page, at + 8, root.entries);
        }
        for (index, segment) in self.segments.iter().enumerate() {
            put_u32(&mut page, META_SEGMENTS + index * 4, segment.0);
        }
        seal(&mut page);
        page
    }

    /// Reads the meta page at `place` (0 or 1), checking everything that can be checked without the rest of the file.
    pub fn decode(page: &[u8], place: PageId) -> Result<Meta, MetaError> {
        assert_eq!(page.len(), PAGE_SIZE, "a meta page is one page");
        if page.iter().all(|&byte| byte == 0) {
            return Err(MetaError::Blank);
        }
        if page[8..16] != MAGIC {
            return Err(MetaError::Magic);
        }
        if crc32fast::hash(&page[4..]) != get_u32(page, 0) {
            return Err(MetaError::Damaged("checksum"));
        }
        let version = get_u32(page, 4);
        if version != FORMAT_VERSION {
            return Err(MetaError::Version(version));
        }
        if get_u32(page, 16) as usize != PAGE_SIZE {
            return Err(MetaError::Damaged("page size"));
        }
        let meta = Meta::decode_fields(page)?;
        if Meta::place(meta.txn) != place {
            return Err(MetaError::Damaged("wrong place for its transaction"));
        }
        Ok(meta)
    }

    fn decode_fields(page: &[u8]) -> Result<Meta, MetaError> {
        let pages = get_u32(page, 20);
        let segment_count = get_u32(page, 40) as usize;
        if segment_count != (pages as usize).div_ceil(SEGMENT_PAGES) || segment_count > SEGMENTS_MAX || pages < 2 {
            return Err(MetaError::Damaged("count of pages"));
        }
        let in_file = |page: PageId| page.is_none() || (page >= PageId::FIRST && page.0 < pages);
        let mut roots = [Root::default(); TREES_MAX];
        for (index, root) in roots.iter_mut().enumerate() {
            let at = META_ROOTS + index * ROOT_BYTES;
            root.page = PageId(get_u32(page, at));
            root.level = page[at + 4];
            root.entries = get_u64(page, at + 8);
            if !in_file(root.page) || usize::from(root.level) >= LEVELS_MAX {
                return Err(MetaError::Damaged("root of a tree"));
            }
        }
        let segments: Vec<PageId> =
            (0..segment_count).map(|index| PageId(get_u32(page, META_SEGMENTS + index * 4))).collect();
        if !segments.iter().all(|&segment| in_file(segment)) {
            return Err(MetaError::Damaged("space map"));
        }
        Ok(Meta { txn: TxnId(get_u64(page, 24)), file_id: get_u64(page, 32), pages, roots, segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_round_trips() {
        let mut meta = Meta::empty(7);
        meta.txn = TxnId(5);
        meta.pages = 90;
        meta.segments = vec![PageId(4)];
        meta.roots[1] = Root { page: PageId(3), level: 1, entries: 1000 };
        let page = meta.encode();
        assert_eq!(Meta::decode(&page, PageId(1)), Ok(meta));
        assert_eq!(Meta::decode(&page, PageId(0)), Err(MetaError::Damaged("wrong place for its transaction")));
    }

    #[test]
    fn a_changed_meta_page_is_refused() {
        let page = Meta { segments: vec![PageId::NONE], ..Meta::empty(7) }.encode();
        assert!(Meta::decode(&page, PageId(0)).is_ok());
        for at in (0..PAGE_SIZE).step_by(13).chain(0..64) {
            let mut bad = page.clone();
            bad[at] ^= 0x10;
            assert!(Meta::decode(&bad, PageId(0)).is_err(), "byte {at}");
        }
        assert_eq!(Meta::decode(&[0; PAGE_SIZE], PageId(0)), Err(MetaError::Blank));
    }

    #[test]
    fn header_round_trips() {
        let header = Header { kind: PageKind::Branch, tree: 9, level: 2, page: PageId(77), txn: TxnId(1 << 40) };
        let mut page = [0; PAGE_SIZE];
        header.write(&mut page);
        assert_eq!(Header::read(&page), Some(header));
        page[4] = 5;
        assert_eq!(Header::read(&page), None);
    }
}
