//! Pages, elements and metas as bytes.
//!
//! ```text
//! page      id u64 | flags u16 | count u16 | overflow u32                                   16 bytes, then the elements
//! meta      magic u32 | version u32 | page size u32 | flags u32 | root u64 | sequence u64
//!           | free list u64 | high water u64 | transaction u64 | checksum u64               64 bytes, behind the header
//! branch    pos u32 | key size u32 | page u64                                               16 bytes
//! leaf      flags u32 | pos u32 | key size u32 | value size u32                             16 bytes
//! bucket    root u64 | sequence u64                                                         16 bytes, then an inline page
//! ```
//!
//! All numbers are little-endian. `pos` counts from the start of its own element. A page with overflow `n` takes `n + 1`
//! page sizes. The checksum is FNV-1a (64 bits) of what stands before it in the meta. Source: bbolt 1.5, `internal/common`.

/// First field of a meta.
pub const MAGIC: u32 = 0xED0C_DAED;
/// Second field of a meta.
pub const VERSION: u32 = 2;
/// The meta's free list when none is stored.
pub const NO_FREELIST: u64 = u64::MAX;
/// Length of a page's header.
pub const PAGE_HEADER_BYTES: usize = 16;
/// Length of a meta.
pub const META_BYTES: usize = 64;
/// Length of an element of a branch or a leaf.
pub const ELEMENT_BYTES: usize = 16;
/// Length of a bucket's value in front of an inline page.
pub const BUCKET_BYTES: usize = 16;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 32_768;
/// Longest value.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;
/// Elements that a page can count.
pub const PAGE_ELEMENTS_MAX: usize = 0xFFFF;
/// Page size of files that this crate writes.
pub const PAGE_SIZE: usize = 4096;
/// Flag of a leaf element that holds a bucket.
pub const LEAF_BUCKET: u32 = 0x01;

const META_CHECKED_BYTES: usize = META_BYTES - 8;
const _: () = assert!(META_CHECKED_BYTES == 56, "the checksum is the last field of a meta");
const _: () =
    assert!(PAGE_SIZE.is_multiple_of(512), "a file with its SHA-256 behind it is told by its length modulo 512");

/// What a page holds. Exactly one flag is set in a page's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Keys and the pages below.
    Branch,
    /// Keys and values.
    Leaf,
    /// Root and sizes.
    Meta,
    /// Pages not in use.
    Freelist,
}

impl PageKind {
    fn flags(self) -> u16 {
        match self {
            PageKind::Branch => 0x01,
            PageKind::Leaf => 0x02,
            PageKind::Meta => 0x04,
            PageKind::Freelist => 0x10,
        }
    }

    fn from_flags(flags: u16) -> Option<PageKind> {
        [PageKind::Branch, PageKind::Leaf, PageKind::Meta, PageKind::Freelist].into_iter().find(|k| k.flags() == flags)
    }
}

/// The start of every page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageHeader {
    /// Its own number; 0 for an inline page.
    pub id: u64,
    /// What it holds.
    pub kind: PageKind,
    /// Elements in it.
    pub count: u16,
    /// Further page sizes that it takes.
    pub overflow: u32,
}

impl PageHeader {
    /// Reads a header; what is wrong with it otherwise.
    pub fn parse(bytes: &[u8]) -> Result<PageHeader, String> {
        if bytes.len() < PAGE_HEADER_BYTES {
            return Err(format!("{} bytes are too few for a page", bytes.len()));
        }
        let flags = u16::from_le_bytes([bytes[8], bytes[9]]);
        let kind = PageKind::from_flags(flags).ok_or_else(|| format!("no kind of page has flags {flags:#x}"))?;
        let count = u16::from_le_bytes([bytes[10], bytes[11]]);
        Ok(PageHeader { id: u64_at(bytes, 0), kind, count, overflow: u32_at(bytes, 12) })
    }

    /// Writes the header to the start of `page`.
    pub fn write(&self, page: &mut [u8]) {
        page[..8].copy_from_slice(&self.id.to_le_bytes());
        page[8..10].copy_from_slice(&self.kind.flags().to_le_bytes());
        page[10..12].copy_from_slice(&self.count.to_le_bytes());
        page[12..16].copy_from_slice(&self.overflow.to_le_bytes());
    }
}

/// Root and sizes of a database as of one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Bytes of a page.
    pub page_size: u32,
    /// Page of the list of buckets.
    pub root: u64,
    /// Page of the free list, or [`NO_FREELIST`].
    pub freelist: u64,
    /// The first page that is not in use and never was.
    pub high_water: u64,
    /// Number of the transaction: the valid meta with the higher one counts.
    pub txid: u64,
}

impl Meta {
    /// Reads the meta behind the header of a page; what is wrong with it otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Meta, String> {
        let Some(bytes) = bytes.get(..META_BYTES) else { return Err("cut off".to_string()) };
        let expected = fnv1a(&bytes[..META_CHECKED_BYTES]);
        let found = u64_at(bytes, META_CHECKED_BYTES);
        match (u32_at(bytes, 0), u32_at(bytes, 4)) {
            (MAGIC, VERSION) if expected == found => {}
            (MAGIC, VERSION) => return Err(format!("checksum {found:#018x}, expected {expected:#018x}")),
            (MAGIC, version) => return Err(format!("version {version} of the format, expected {VERSION}")),
            (magic, _) if magic == MAGIC.swap_bytes() => return Err("written by a big-endian machine".to_string()),
            (magic, _) => return Err(format!("magic number {magic:#010x}, expected {MAGIC:#010x}")),
        }
        let meta = Meta {
            page_size: u32_at(bytes, 8),
            root: u64_at(bytes, 16),
            freelist: u64_at(bytes, 32),
            high_water: u64_at(bytes, 40),
            txid: u64_at(bytes, 48),
        };
        if !meta.page_size.is_power_of_two() || !(512..=1 << 20).contains(&meta.page_size) {
            return Err(format!("page size {}", meta.page_size));
        }
        Ok(meta)
    }

    /// Writes the meta, with its checksum, to the start of `bytes`.
    pub fn write(&self, bytes: &mut [u8]) {
        let fields = [(16, self.root), (24, 0), (32, self.freelist), (40, self.high_water), (48, self.txid)];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        bytes[12..16].fill(0);
        for (at, value) in fields {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let checksum = fnv1a(&bytes[..META_CHECKED_BYTES]);
        bytes[META_CHECKED_BYTES..META_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads four bytes, little-endian. `bytes` must reach that far.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Reads eight bytes, little-endian. `bytes` must reach that far.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_survives_and_damage_is_told() {
        let meta = Meta { page_size: 4096, root: 7, freelist: NO_FREELIST, high_water: 9, txid: 5 };
        let mut bytes = [0; META_BYTES];
        meta.write(&mut bytes);
        assert_eq!(Meta::parse(&bytes), Ok(meta));
        for at in 0..META_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert!(Meta::parse(&damaged).is_err(), "a flipped bit in byte {at} goes unnoticed");
        }
        assert!(Meta::parse(&bytes[..63]).is_err());
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        // From the authors' table of test vectors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x85944171f73967e8);
    }
}
