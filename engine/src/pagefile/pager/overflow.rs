//! Long values: runs of pages with one header and one checksum, so that a value is one slice. The key is stored with
//! it, so that a run can be moved by whoever finds it first.

use super::{Packed, Pager, Place, corrupt};
use crate::pagefile::format::{
    HEADER_BYTES, Header, KEY_BYTES_AT, PAGE_SIZE, PageId, PageKind, VALUE_BYTES_AT, get_u16, get_u32, overflow_pages,
    put_u16, put_u32,
};
use crate::pagefile::node::OverflowRef;
use crate::pagefile::store::PageStore;
use crate::trees::TreeError;

/// Fields of an overflow run behind the common header.
pub(in crate::pagefile) struct OverflowRun {
    value_bytes: usize,
    key_bytes: usize,
}

impl OverflowRun {
    pub fn new(bytes: &[u8]) -> OverflowRun {
        OverflowRun {
            value_bytes: get_u32(bytes, VALUE_BYTES_AT) as usize,
            key_bytes: usize::from(get_u16(bytes, KEY_BYTES_AT)),
        }
    }

    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub fn pages(&self) -> usize {
        overflow_pages(self.key_bytes, self.value_bytes)
    }

    pub fn key<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(HEADER_BYTES..HEADER_BYTES + self.key_bytes)
    }

    fn init(bytes: &mut [u8], key: &[u8], value: &[u8]) {
        put_u32(bytes, VALUE_BYTES_AT, value.len() as u32);
        put_u16(bytes, KEY_BYTES_AT, key.len() as u16);
        put_u16(bytes, KEY_BYTES_AT + 2, 0);
        let (body, rest) = bytes[HEADER_BYTES..].split_at_mut(key.len() + value.len());
        body[..key.len()].copy_from_slice(key);
        body[key.len()..].copy_from_slice(value);
        rest.fill(0);
    }
}

impl<S: PageStore> Pager<S> {
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
        Ok(&bytes[HEADER_BYTES + key.len()..][..value_bytes])
    }

    /// A new overflow run. Room has been ensured.
    pub fn allocate_overflow(&mut self, tree: u8, key: &[u8], value: &[u8]) -> OverflowRef {
        let pages = overflow_pages(key.len(), value.len());
        let page = self.space.allocate_run(pages).expect("room was ensured");
        self.pages_of[usize::from(tree)] += pages as i64;
        let mut bytes = self.buffer(pages);
        Header { kind: PageKind::Overflow, tree, level: 0, page, txn: self.txn }.write(&mut bytes);
        OverflowRun::init(&mut bytes, key, value);
        self.install(page, bytes);
        OverflowRef { page, value_bytes: value.len() as u32 }
    }
}
