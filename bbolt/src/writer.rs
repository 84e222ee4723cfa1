//! A new file in one pass: buckets one after the other, each with its entries in order of their keys.
//!
//! Leaves are filled and written as the entries come; a branch page is written when it is full, so that one open page per
//! level is all that is kept. The metas come first in the file but are known last: [`Plan`] takes the same buckets before
//! (of values only their lengths) and tells root and size, so that the file can be streamed.
//!
//! Invariants: every page below the high-water mark is reachable, no free list is stored; a branch has at least two
//! elements; what the plan said is what was written, else [`Writer::finish`] fails.

use crate::error::Error;
use crate::format::{
    BUCKET_BYTES, ELEMENT_BYTES, KEY_BYTES_MAX, LEAF_BUCKET, META_BYTES, Meta, NO_FREELIST, PAGE_ELEMENTS_MAX,
    PAGE_HEADER_BYTES, PAGE_SIZE, PageHeader, PageKind, VALUE_BYTES_MAX,
};
use std::collections::BTreeMap;

/// A bucket of one leaf up to this size stands inside of the list of buckets, as bbolt does it.
const INLINE_BYTES_MAX: usize = PAGE_SIZE / 4;
/// Pages in front of the first one that is written.
const META_PAGES: u64 = 2;

/// Takes the bytes of a file from the start to the end.
pub trait Sink {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

impl<W: std::io::Write> Sink for std::io::BufWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(self, bytes)
    }
}

/// Root and size of a file that is not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    root: u64,
    high_water: u64,
}

impl Layout {
    /// Length of the file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.high_water * PAGE_SIZE as u64
    }
}

/// Counts pages without writing any.
#[derive(Debug, Default)]
pub struct Plan {
    trees: Trees<Count>,
}

impl Plan {
    /// No buckets yet.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// The entries of bucket `name` follow. Buckets may come in any order, each once.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        self.trees.bucket(name)
    }

    /// The next entry of the bucket, by the length of its value.
    pub fn entry(&mut self, key: &[u8], value_bytes: usize) -> Result<(), Error> {
        self.trees.entry(key, Value::Bytes(value_bytes))
    }

    /// That was all.
    pub fn finish(mut self) -> Result<Layout, Error> {
        self.trees.finish()
    }
}

/// Writes a file as it was planned.
#[derive(Debug)]
pub struct Writer<K: Sink> {
    layout: Layout,
    trees: Trees<Stream<K>>,
}

impl<K: Sink> Writer<K> {
    /// Begins the file of transaction `txid` (2 or more) with its metas.
    pub fn new(sink: K, layout: Layout, txid: u64) -> Result<Self, Error> {
        assert!(txid >= 2, "the transactions before made the file");
        let meta = Meta {
            page_size: PAGE_SIZE as u32,
            root: layout.root,
            freelist: NO_FREELIST,
            high_water: layout.high_water,
            txid,
        };
        let mut stream = Stream { sink, buffer: Vec::new(), offset: 0 };
        for (id, txid) in [(0, txid), (1, txid - 1)] {
            stream.page(PAGE_SIZE, |page| {
                PageHeader { id, kind: PageKind::Meta, count: 0, overflow: 0 }.write(page);
                Meta { txid, ..meta }.write(&mut page[PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + META_BYTES]);
            })?;
        }
        Ok(Writer { layout, trees: Trees::new(stream) })
    }

    /// The entries of bucket `name` follow.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        self.trees.bucket(name)
    }

    /// The next entry of the bucket.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.trees.entry(key, Value::Is(value))
    }

    /// Where the bytes go, to take them along.
    pub fn sink_mut(&mut self) -> &mut K {
        &mut self.trees.out.sink
    }

    /// That was all. An error if it is not what was planned: the file is then worthless.
    pub fn finish(mut self) -> Result<K, Error> {
        let written = self.trees.finish()?;
        if written != self.layout {
            let detail = format!("the plan was {:?}, written is {written:?}", self.layout);
            return Err(Error::Write { bucket: String::new(), detail });
        }
        Ok(self.trees.out.sink)
    }
}

/// Where pages go.
trait Out {
    /// The next page, of `len` bytes (a multiple of the page size) that `encode` fills.
    fn page(&mut self, len: usize, encode: impl FnOnce(&mut [u8])) -> Result<(), Error>;
}

#[derive(Debug, Default)]
struct Count;

impl Out for Count {
    fn page(&mut self, _: usize, _: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug)]
struct Stream<K> {
    sink: K,
    buffer: Vec<u8>,
    offset: u64,
}

impl<K: Sink> Out for Stream<K> {
    fn page(&mut self, len: usize, encode: impl FnOnce(&mut [u8])) -> Result<(), Error> {
        self.buffer.clear();
        self.buffer.resize(len, 0);
        encode(&mut self.buffer);
        let offset = self.offset;
        self.sink.write(&self.buffer).map_err(|source| Error::Sink { offset, len, source })?;
        self.offset += len as u64;
        Ok(())
    }
}

/// The value of an entry, or only its length while a file is planned.
#[derive(Clone, Copy)]
enum Value<'v> {
    Is(&'v [u8]),
    Bytes(usize),
}

impl Value<'_> {
    fn len(self) -> usize {
        match self {
            Value::Is(value) => value.len(),
            Value::Bytes(len) => len,
        }
    }
}

/// All buckets of a file, and the one that is open.
#[derive(Debug)]
struct Trees<O> {
    out: O,
    next_page: u64,
    /// The values of finished buckets, by name.
    finished: BTreeMap<Vec<u8>, Vec<u8>>,
    open: Option<Tree>,
}

impl<O: Default> Default for Trees<O> {
    fn default() -> Self {
        Trees { out: O::default(), next_page: META_PAGES, finished: BTreeMap::new(), open: None }
    }
}

/// A tree under construction.
#[derive(Debug, Default)]
struct Tree {
    name: Vec<u8>,
    last_key: Vec<u8>,
    leaf: Leaf,
    /// Branches, the lowest first.
    levels: Vec<Level>,
}

/// A page of entries under construction.
#[derive(Debug, Default)]
struct Leaf {
    flags: u32,
    lengths: Vec<(u32, u32)>,
    keys: Vec<u8>,
    /// Empty while a file is planned.
    values: Vec<u8>,
    value_bytes: usize,
}

/// A child of a branch: its first key and its page.
type Child = (Vec<u8>, u64);

/// The right edge of one level of branches. The page before the current one waits until that has two children.
#[derive(Debug, Default)]
struct Level {
    waiting: Vec<Child>,
    current: Vec<Child>,
}

impl<O: Out> Trees<O> {
    fn new(out: O) -> Self {
        Trees { out, next_page: META_PAGES, finished: BTreeMap::new(), open: None }
    }

    fn bucket(&mut self, name: &[u8]) -> Result<(), Error> {
        self.close()?;
        if self.finished.contains_key(name) {
            return Err(bad(name, "it was written before".to_string()));
        }
        self.open = Some(Tree { name: name.to_vec(), ..Tree::default() });
        Ok(())
    }

    fn entry(&mut self, key: &[u8], value: Value<'_>) -> Result<(), Error> {
        let mut tree = self.open.take().ok_or_else(|| bad(b"", "an entry without a bucket".to_string()))?;
        self.add(&mut tree, key, value)?;
        self.open = Some(tree);
        Ok(())
    }

    fn add(&mut self, tree: &mut Tree, key: &[u8], value: Value<'_>) -> Result<(), Error> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(bad(&tree.name, format!("an entry of {} + {} bytes", key.len(), value.len())));
        }
        if key <= &tree.last_key[..] {
            return Err(bad(&tree.name, "keys do not ascend".to_string()));
        }
        tree.last_key.clear();
        tree.last_key.extend_from_slice(key);
        if !tree.leaf.fits(key.len(), value.len()) {
            self.flush_leaf(tree)?;
        }
        tree.leaf.push(key, value);
        Ok(())
    }

    /// Writes the open leaf and tells the branches above.
    fn flush_leaf(&mut self, tree: &mut Tree) -> Result<(), Error> {
        let leaf = std::mem::take(&mut tree.leaf);
        let first = leaf.first_key().to_vec();
        let id = self.page(leaf.bytes(), |id, overflow, page| leaf.encode(id, overflow, page))?;
        tree.leaf.flags = leaf.flags;
        self.add_child(tree, 0, (first, id))
    }

    fn add_child(&mut self, tree: &mut Tree, depth: usize, child: Child) -> Result<(), Error> {
        if tree.levels.len() == depth {
            tree.levels.push(Level::default());
        }
        let level = &mut tree.levels[depth];
        if level.current.len() >= 2 && !branch_fits(&level.current, child.0.len()) {
            let full = std::mem::replace(&mut level.current, vec![child]);
            let before = std::mem::replace(&mut level.waiting, full);
            if !before.is_empty() {
                let written = self.branch(before)?;
                self.add_child(tree, depth + 1, written)?;
            }
        } else {
            level.current.push(child);
        }
        Ok(())
    }

    fn branch(&mut self, children: Vec<Child>) -> Result<Child, Error> {
        assert!(children.len() >= 2, "a branch has at least two children");
        let id =
            self.page(branch_bytes(&children), |id, overflow, page| encode_branch(&children, id, overflow, page))?;
        let (first, _) = children.into_iter().next().expect("at least two");
        Ok((first, id))
    }

    /// Writes what is open in the levels above the leaves; the root.
    fn finish_levels(&mut self, tree: &mut Tree) -> Result<u64, Error> {
        let mut depth = 0;
        loop {
            let Level { mut waiting, mut current } = std::mem::take(&mut tree.levels[depth]);
            let is_top = tree.levels.len() == depth + 1;
            if waiting.is_empty() && current.len() == 1 && is_top {
                return Ok(current[0].1);
            }
            if current.len() == 1 && waiting.len() > 2 {
                current.insert(0, waiting.pop().expect("more than two"));
            } else if current.len() == 1 {
                waiting.append(&mut current);
            }
            for children in [waiting, current].into_iter().filter(|children| !children.is_empty()) {
                let written = self.branch(children)?;
                self.add_child(tree, depth + 1, written)?;
            }
            depth += 1;
        }
    }

    /// Finishes the open bucket.
    fn close(&mut self) -> Result<(), Error> {
        let Some(mut tree) = self.open.take() else { return Ok(()) };
        let mut value = vec![0; BUCKET_BYTES];
        if tree.levels.is_empty() && tree.leaf.bytes() <= INLINE_BYTES_MAX {
            value.resize(BUCKET_BYTES + tree.leaf.bytes(), 0);
            tree.leaf.encode(0, 0, &mut value[BUCKET_BYTES..]);
        } else {
            self.flush_leaf(&mut tree)?;
            let root = self.finish_levels(&mut tree)?;
            value[..8].copy_from_slice(&root.to_le_bytes());
        }
        self.finished.insert(tree.name, value);
        Ok(())
    }

    /// Writes the list of buckets.
    fn finish(&mut self) -> Result<Layout, Error> {
        self.close()?;
        let mut tree = Tree { leaf: Leaf { flags: LEAF_BUCKET, ..Leaf::default() }, ..Tree::default() };
        for (name, value) in std::mem::take(&mut self.finished) {
            self.add(&mut tree, &name, Value::Is(&value))?;
        }
        self.flush_leaf(&mut tree)?;
        let root = self.finish_levels(&mut tree)?;
        Ok(Layout { root, high_water: self.next_page })
    }

    /// Hands out a page with as much overflow as `bytes` need; `encode` gets its number, the overflow and the page.
    fn page(&mut self, bytes: usize, encode: impl FnOnce(u64, u32, &mut [u8])) -> Result<u64, Error> {
        let pages = bytes.div_ceil(PAGE_SIZE);
        let id = self.next_page;
        self.out.page(pages * PAGE_SIZE, |page| encode(id, pages as u32 - 1, page))?;
        self.next_page += pages as u64;
        Ok(id)
    }
}

impl Leaf {
    /// Length of the page without padding.
    fn bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.lengths.len() * ELEMENT_BYTES + self.keys.len() + self.value_bytes
    }

    /// Whether one more entry belongs on this page. An empty page takes any.
    fn fits(&self, key: usize, value: usize) -> bool {
        self.lengths.is_empty()
            || (self.bytes() + ELEMENT_BYTES + key + value <= PAGE_SIZE && self.lengths.len() < PAGE_ELEMENTS_MAX)
    }

    fn push(&mut self, key: &[u8], value: Value<'_>) {
        self.lengths.push((key.len() as u32, value.len() as u32));
        self.keys.extend_from_slice(key);
        self.value_bytes += value.len();
        if let Value::Is(value) = value {
            self.values.extend_from_slice(value);
        }
    }

    fn first_key(&self) -> &[u8] {
        let len = self.lengths.first().map_or(0, |(key, _)| *key as usize);
        &self.keys[..len]
    }

    fn encode(&self, id: u64, overflow: u32, page: &mut [u8]) {
        let values: &[u8] = if self.values.len() == self.value_bytes { &self.values } else { &[] };
        PageHeader { id, kind: PageKind::Leaf, count: self.lengths.len() as u16, overflow }.write(page);
        let mut data = PAGE_HEADER_BYTES + self.lengths.len() * ELEMENT_BYTES;
        let (mut key_at, mut value_at) = (0, 0);
        for (index, &(key_len, value_len)) in self.lengths.iter().enumerate() {
            let element = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
            let fields = [self.flags, (data - element) as u32, key_len, value_len];
            for (field, number) in fields.into_iter().enumerate() {
                page[element + 4 * field..element + 4 * field + 4].copy_from_slice(&number.to_le_bytes());
            }
            let (key_len, value_len) = (key_len as usize, value_len as usize);
            page[data..data + key_len].copy_from_slice(&self.keys[key_at..key_at + key_len]);
            data += key_len;
            if !values.is_empty() {
                page[data..data + value_len].copy_from_slice(&values[value_at..value_at + value_len]);
            }
            data += value_len;
            (key_at, value_at) = (key_at + key_len, value_at + value_len);
        }
    }
}

fn branch_bytes(children: &[Child]) -> usize {
    PAGE_HEADER_BYTES + children.iter().map(|(key, _)| ELEMENT_BYTES + key.len()).sum::<usize>()
}

fn branch_fits(children: &[Child], key: usize) -> bool {
    branch_bytes(children) + ELEMENT_BYTES + key <= PAGE_SIZE
}

fn encode_branch(children: &[Child], id: u64, overflow: u32, page: &mut [u8]) {
    PageHeader { id, kind: PageKind::Branch, count: children.len() as u16, overflow }.write(page);
    let mut data = PAGE_HEADER_BYTES + children.len() * ELEMENT_BYTES;
    for (index, (key, child)) in children.iter().enumerate() {
        let element = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        page[element..element + 4].copy_from_slice(&((data - element) as u32).to_le_bytes());
        page[element + 4..element + 8].copy_from_slice(&(key.len() as u32).to_le_bytes());
        page[element + 8..element + 16].copy_from_slice(&child.to_le_bytes());
        page[data..data + key.len()].copy_from_slice(key);
        data += key.len();
    }
}

fn bad(bucket: &[u8], detail: String) -> Error {
    Error::Write { bucket: String::from_utf8_lossy(bucket).into_owned(), detail }
}
