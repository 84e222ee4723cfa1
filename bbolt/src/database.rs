//! A file that is read: its meta, its pages, its buckets.

use crate::error::Error;
use crate::format::{META_BYTES, Meta, PAGE_HEADER_BYTES, PageHeader, PageKind};

/// Longest page that is read: a value of etcd has some megabytes at most.
const PAGE_BYTES_MAX: u64 = 1 << 30;
/// Page sizes are powers of two from 1 KiB; page 1 is looked for at each when page 0 is broken.
const PAGE_SIZE_SHIFTS: u32 = 15;

/// Bytes at offsets.
pub trait Source {
    /// Length of the file, in bytes.
    fn size(&self) -> u64;

    /// Fills `into` from `offset` on. Short reads are errors.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()>;
}

impl Source for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        let end = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(into.len())?));
        let bytes = end.and_then(|range| self.get(range)).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// A bucket: where its entries are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its name, as text for messages.
    pub name: String,
    pub(crate) place: Place,
}

/// Where the root of a tree is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// On a page of its own.
    Page(u64),
    /// Behind the bucket's value: the bytes of a leaf.
    Inline(Vec<u8>),
}

/// A page in memory, with what its header says.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub id: u64,
    pub header: PageHeader,
    pub bytes: Vec<u8>,
}

/// A database that is read.
#[derive(Debug)]
pub struct Database<'s, S: Source + ?Sized> {
    source: &'s S,
    meta: Meta,
}

impl<'s, S: Source + ?Sized> Database<'s, S> {
    /// Finds the newest valid meta. One that is broken is normal after a crash.
    pub fn open(source: &'s S) -> Result<Self, Error> {
        let first = meta_at(source, 0)?;
        let second = match &first {
            Ok(meta) => meta_at(source, u64::from(meta.page_size))?,
            Err(_) => second_meta(source)?,
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) if second.txid > first.txid => second,
            (Ok(first), _) => first,
            (Err(_), Ok(second)) => second,
            (Err(first), Err(second)) => {
                return Err(Error::NoMeta { detail: format!("page 0: {first}; page 1: {second}") });
            }
        };
        let size = meta.high_water.checked_mul(u64::from(meta.page_size));
        if size.is_none_or(|size| size > source.size()) {
            let detail =
                format!("{} pages of {} bytes do not fit in {}", meta.high_water, meta.page_size, source.size());
            return Err(Error::NoMeta { detail });
        }
        Ok(Database { source, meta })
    }

    /// Root and sizes.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Reads a page with its overflow and checks its header.
    pub(crate) fn page(&self, bucket: &str, id: u64) -> Result<Page, Error> {
        let bad = |detail: String| Error::Page { bucket: bucket.to_string(), page: id, detail };
        let page_size = u64::from(self.meta.page_size);
        if id < 2 || id >= self.meta.high_water {
            return Err(bad(format!("outside of the {} pages of the file", self.meta.high_water)));
        }
        let mut bytes = vec![0; page_size as usize];
        self.read(id * page_size, &mut bytes)?;
        let header = PageHeader::parse(&bytes).map_err(bad)?;
        if header.id != id {
            return Err(bad(format!("says that it is page {}", header.id)));
        }
        let pages = u64::from(header.overflow) + 1;
        let is_inside = self.meta.high_water - id >= pages && pages * page_size <= PAGE_BYTES_MAX;
        if !is_inside {
            return Err(bad(format!("{pages} pages long, which the file is not")));
        }
        if header.overflow > 0 {
            bytes.resize((pages * page_size) as usize, 0);
            self.read((id + 1) * page_size, &mut bytes[page_size as usize..])?;
        }
        Ok(Page { id, header, bytes })
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let len = into.len();
        self.source.read_at(offset, into).map_err(|source| Error::Read { offset, len, source })
    }
}

/// The meta of the page at `offset`, or what is wrong with it.
fn meta_at<S: Source + ?Sized>(source: &S, offset: u64) -> Result<Result<Meta, String>, Error> {
    let mut bytes = [0; PAGE_HEADER_BYTES + META_BYTES];
    if offset + bytes.len() as u64 > source.size() {
        return Ok(Err("the file ends before it".to_string()));
    }
    let len = bytes.len();
    source.read_at(offset, &mut bytes).map_err(|source| Error::Read { offset, len, source })?;
    Ok(PageHeader::parse(&bytes).and_then(|header| match header.kind {
        PageKind::Meta => Meta::parse(&bytes[PAGE_HEADER_BYTES..]),
        kind => Err(format!("a {kind:?} page in the place of a meta")),
    }))
}

/// Page 1 when page 0 does not tell the page size.
fn second_meta<S: Source + ?Sized>(source: &S) -> Result<Result<Meta, String>, Error> {
    for shift in 0..PAGE_SIZE_SHIFTS {
        let offset = 1024 << shift;
        if let Ok(meta) = meta_at(source, offset)?
            && u64::from(meta.page_size) == offset
        {
            return Ok(Ok(meta));
        }
    }
    Ok(Err("at no size of pages".to_string()))
}
