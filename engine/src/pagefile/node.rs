//! Slotted pages: leaves and branches, read in place and changed in place.
//!
//! Invariants of a valid node, established by [`validate`] for pages from the file and kept by [`NodeMut`]:
//! - `HEADER + 2 × slots <= heap <= PAGE_SIZE`; every cell lies in `heap..PAGE_SIZE`;
//! - bytes of live cells + dead bytes = `PAGE_SIZE - heap`;
//! - keys strictly ascend; a branch has at least one cell, and its first key is empty;
//! - an overflow reference is 8 bytes, a child 4.
//!
//! Accessors rely on them and panic only if they are broken, which is a bug and not bad input.

use std::cmp::Ordering;

use super::format::{
    CELL_HEADER_BYTES, CHILD_BYTES, DEAD_AT, HEADER_BYTES, HEAP_AT, NODE_CAPACITY, OVERFLOW_FLAG, OVERFLOW_REF_BYTES,
    PAGE_SIZE, PageBytes, PageId, PageKind, SLOT_BYTES, SLOTS_AT, get_u16, get_u32, put_u16, put_u32,
};

/// Value of a leaf's cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value<'a> {
    Inline(&'a [u8]),
    Overflow(OverflowRef),
}

/// Where a long value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OverflowRef {
    pub page: PageId,
    pub value_bytes: u32,
}

impl OverflowRef {
    pub fn encode(self) -> [u8; OVERFLOW_REF_BYTES] {
        let mut bytes = [0; OVERFLOW_REF_BYTES];
        put_u32(&mut bytes, 0, self.page.0);
        put_u32(&mut bytes, 4, self.value_bytes);
        bytes
    }
}

/// A leaf or branch.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    page: &'a PageBytes,
}

impl<'a> Node<'a> {
    #[inline]
    pub fn new(page: &'a PageBytes) -> Self {
        Node { page }
    }

    #[inline]
    pub fn page(self) -> &'a PageBytes {
        self.page
    }

    /// The page this node says it is.
    #[inline]
    pub fn id(self) -> PageId {
        PageId(get_u32(self.page, 8))
    }

    #[inline]
    pub fn level(self) -> u8 {
        self.page[6]
    }

    #[inline]
    pub fn len(self) -> usize {
        usize::from(get_u16(self.page, SLOTS_AT))
    }

    #[inline]
    fn heap(self) -> usize {
        usize::from(get_u16(self.page, HEAP_AT))
    }

    #[inline]
    fn dead(self) -> usize {
        usize::from(get_u16(self.page, DEAD_AT))
    }

    #[inline]
    fn cell_at(self, index: usize) -> usize {
        usize::from(get_u16(self.page, HEADER_BYTES + index * SLOT_BYTES))
    }

    /// The key; a branch's first is empty.
    #[inline]
    pub fn key(self, index: usize) -> &'a [u8] {
        let cell = self.cell_at(index);
        let key_bytes = usize::from(get_u16(self.page, cell));
        &self.page[cell + CELL_HEADER_BYTES..][..key_bytes]
    }

    /// Key, bytes of the value as stored, and whether they are an overflow reference.
    #[inline]
    fn cell(self, index: usize) -> (&'a [u8], &'a [u8], bool) {
        let cell = self.cell_at(index);
        let key_bytes = usize::from(get_u16(self.page, cell));
        let lengths = get_u16(self.page, cell + 2);
        let value_bytes = usize::from(lengths & !OVERFLOW_FLAG);
        let body = &self.page[cell + CELL_HEADER_BYTES..][..key_bytes + value_bytes];
        let (key, value) = body.split_at(key_bytes);
        (key, value, lengths & OVERFLOW_FLAG != 0)
    }

    /// Key and value of a leaf's entry.
    #[inline]
    pub fn entry(self, index: usize) -> (&'a [u8], Value<'a>) {
        let (key, value, overflow) = self.cell(index);
        if !overflow {
            return (key, Value::Inline(value));
        }
        (key, Value::Overflow(OverflowRef { page: PageId(get_u32(value, 0)), value_bytes: get_u32(value, 4) }))
    }

    /// The long value of a leaf's entry, if it is one.
    pub fn overflow(self, index: usize) -> Option<OverflowRef> {
        match self.entry(index).1 {
            Value::Overflow(reference) => Some(reference),
            Value::Inline(_) => None,
        }
    }

    /// A branch's child.
    #[inline]
    pub fn child(self, index: usize) -> PageId {
        let (_, value, _) = self.cell(index);
        PageId(get_u32(value, 0))
    }

    /// Position of `key`: `Ok` if it is there, `Err` where it would be.
    ///
    /// Each key looked at is a cache miss or two, so the search starts at `guess` and widens from there in doubling
    /// steps. A bad guess costs up to twice a binary search.
    #[inline]
    pub fn search(self, key: &[u8], guess: usize) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        let (mut probe, mut step) = (guess, 1);
        while low < high {
            match self.key(probe).cmp(key) {
                Ordering::Less => {
                    low = probe + 1;
                    probe = if high == self.len() { (probe + step).min(high - 1) } else { (low + high) / 2 };
                }
                Ordering::Greater => {
                    high = probe;
                    probe = if low == 0 { probe.saturating_sub(step) } else { (low + high) / 2 };
                }
                Ordering::Equal => return Ok(probe),
            }
            step *= 2;
        }
        Err(low)
    }

    /// The child of a branch in which `key` is, if anywhere.
    #[inline]
    pub fn child_index(self, key: &[u8], guess: usize) -> usize {
        match self.search(key, guess) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }

    /// Bytes of live cells and their slots.
    #[inline]
    pub fn live_bytes(self) -> usize {
        PAGE_SIZE - self.heap() - self.dead() + self.len() * SLOT_BYTES
    }

    /// Bytes of a cell, without its slot.
    #[inline]
    pub fn cell_bytes(self, index: usize) -> usize {
        let (key, value, _) = self.cell(index);
        CELL_HEADER_BYTES + key.len() + value.len()
    }

    /// Bytes that one more cell and its slot may take, after compaction if need be.
    #[inline]
    pub fn room(self) -> usize {
        NODE_CAPACITY - self.live_bytes()
    }

    /// Bytes between slots and heap.
    #[inline]
    fn gap(self) -> usize {
        self.heap() - HEADER_BYTES - self.len() * SLOT_BYTES
    }

    /// The first index of the right part if the node is split in two parts of about equal size.
    pub fn split_point(self) -> usize {
        let half = self.live_bytes() / 2;
        let mut bytes = 0;
        for index in 0..self.len() {
            bytes += self.cell_bytes(index) + SLOT_BYTES;
            if bytes > half {
                return index.max(1);
            }
        }
        self.len() - 1
    }
}

/// The keys between which those of a node lie, as far as the branches above tell.
#[derive(Clone, Copy, Default)]
pub(super) struct Bounds<'a> {
    low: &'a [u8],
    high: Option<&'a [u8]>,
}

impl<'a> Bounds<'a> {
    /// The bounds of child `index` of a branch with these bounds.
    #[inline]
    pub fn of_child(self, branch: Node<'a>, index: usize) -> Bounds<'a> {
        let low = if index > 0 { branch.key(index) } else { self.low };
        let high = if index + 1 < branch.len() { Some(branch.key(index + 1)) } else { self.high };
        Bounds { low, high }
    }

    /// Where among `len` keys `key` would be if they were evenly spread, as revisions are; the middle if there is
    /// nothing to tell by. Less than `len`, unless that is 0.
    #[inline]
    pub fn guess(self, key: &[u8], len: usize) -> usize {
        let Some(high) = self.high else { return len / 2 };
        let common = self.low.iter().zip(high).take_while(|(a, b)| a == b).count();
        let (low, high, at) = (head(self.low, common), head(high, common), head(key, common));
        if at < low || at >= high || len == 0 {
            return len / 2;
        }
        // Leave 16 bits for the multiplication: a node has fewer keys than 2^16.
        let width = (high - low) | 1;
        let shift = 16u32.saturating_sub(width.leading_zeros());
        let guess = ((at - low) >> shift) * len as u64 / (width >> shift);
        (guess as usize).min(len - 1)
    }
}

/// Eight bytes of a key as a number, in the order of keys.
#[inline]
fn head(key: &[u8], from: usize) -> u64 {
    let rest = &key[from.min(key.len())..];
    match rest.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(bytes)
        }
    }
}

/// Bytes a cell and its slot take.
#[inline]
pub(super) fn cell_need(key_bytes: usize, value_bytes: usize) -> usize {
    SLOT_BYTES + CELL_HEADER_BYTES + key_bytes + value_bytes
}

/// A leaf or branch in memory, to be changed.
pub(super) struct NodeMut<'a> {
    page: &'a mut PageBytes,
}

impl<'a> NodeMut<'a> {
    pub fn new(page: &'a mut PageBytes) -> Self {
        NodeMut { page }
    }

    /// An empty node; the header is written by the pager.
    pub fn init(page: &'a mut PageBytes) -> Self {
        put_u16(page, SLOTS_AT, 0);
        put_u16(page, HEAP_AT, PAGE_SIZE as u16);
        put_u16(page, DEAD_AT, 0);
        put_u16(page, DEAD_AT + 2, 0);
        NodeMut { page }
    }

    pub fn node(&self) -> Node<'_> {
        Node { page: self.page }
    }

    fn set_len(&mut self, len: usize) {
        put_u16(self.page, SLOTS_AT, len as u16);
    }

    fn add_dead(&mut self, bytes: usize) {
        let dead = self.node().dead() + bytes;
        put_u16(self.page, DEAD_AT, dead as u16);
    }

    /// Inserts a cell. There must be room for it.
    pub fn insert_cell(&mut self, index: usize, key: &[u8], value: &[u8], overflow: bool) {
        let need = cell_need(key.len(), value.len());
        assert!(need <= self.node().room(), "caller splits a full node");
        if self.node().gap() < need {
            self.compact();
        }
        let len = self.node().len();
        assert!(index <= len, "a cell goes among the others, or behind them");
        let cell = self.node().heap() - (need - SLOT_BYTES);
        let slot = HEADER_BYTES + index * SLOT_BYTES;
        if index < len {
            self.page.copy_within(slot..HEADER_BYTES + len * SLOT_BYTES, slot + SLOT_BYTES);
        }
        put_u16(self.page, slot, cell as u16);
        let flag = if overflow { OVERFLOW_FLAG } else { 0 };
        put_u16(self.page, cell, key.len() as u16);
        put_u16(self.page, cell + 2, value.len() as u16 | flag);
        let body = &mut self.page[cell + CELL_HEADER_BYTES..][..key.len() + value.len()];
        body[..key.len()].copy_from_slice(key);
        body[key.len()..].copy_from_slice(value);
        put_u16(self.page, HEAP_AT, cell as u16);
        self.set_len(len + 1);
    }

    /// Inserts a leaf's entry.
    pub fn insert_entry(&mut self, index: usize, key: &[u8], value: Value<'_>) {
        match value {
            Value::Inline(bytes) => self.insert_cell(index, key, bytes, false),
            Value::Overflow(reference) => self.insert_cell(index, key, &reference.encode(), true),
        }
    }

    /// Inserts a branch's child.
    pub fn insert_child(&mut self, index: usize, key: &[u8], child: PageId) {
        self.insert_cell(index, key, &child.0.to_le_bytes(), false);
    }

    /// Removes a cell.
    pub fn remove(&mut self, index: usize) {
        let len = self.node().len();
        assert!(index < len, "a cell that is removed is there");
        let bytes = self.node().cell_bytes(index);
        let slot = HEADER_BYTES + index * SLOT_BYTES;
        self.page.copy_within(slot + SLOT_BYTES..HEADER_BYTES + len * SLOT_BYTES, slot);
        self.set_len(len - 1);
        if len == 1 {
            put_u16(self.page, HEAP_AT, PAGE_SIZE as u16);
            put_u16(self.page, DEAD_AT, 0);
        } else {
            self.add_dead(bytes);
        }
    }

    /// Removes a branch's child. If it was the first, the next one takes over the empty key.
    pub fn remove_child(&mut self, index: usize) {
        self.remove(index);
        if index == 0 && self.node().len() > 0 {
            self.clear_first_key();
        }
    }

    /// Makes the first key of a branch empty: the cell shrinks to its end.
    fn clear_first_key(&mut self) {
        let cell = self.node().cell_at(0);
        let key_bytes = self.node().key(0).len();
        let moved = cell + key_bytes;
        put_u16(self.page, moved, 0);
        put_u16(self.page, moved + 2, CHILD_BYTES as u16);
        put_u16(self.page, HEADER_BYTES, moved as u16);
        self.add_dead(key_bytes);
    }

    /// Points a branch at another page of the same child.
    pub fn set_child(&mut self, index: usize, child: PageId) {
        let key_bytes = self.node().key(index).len();
        let at = self.node().cell_at(index) + CELL_HEADER_BYTES + key_bytes;
        put_u32(self.page, at, child.0);
    }

    /// Overwrites a value by one of the same length and kind; false if it is not.
    pub fn overwrite(&mut self, index: usize, value: Value<'_>) -> bool {
        let (key, old, old_overflow) = self.node().cell(index);
        let at = self.node().cell_at(index) + CELL_HEADER_BYTES + key.len();
        let reference;
        let (bytes, overflow): (&[u8], bool) = match value {
            Value::Inline(bytes) => (bytes, false),
            Value::Overflow(new) => {
                reference = new.encode();
                (&reference, true)
            }
        };
        if old.len() != bytes.len() || old_overflow != overflow {
            return false;
        }
        self.page[at..at + bytes.len()].copy_from_slice(bytes);
        true
    }

    /// Appends cells `from..` of `source`. `first_key` replaces the first of their keys (merging branches), if given.
    pub fn append_from(&mut self, source: Node<'_>, from: usize, first_key: Option<&[u8]>) {
        for index in from..source.len() {
            let (key, value, overflow) = source.cell(index);
            let key = if index == from { first_key.unwrap_or(key) } else { key };
            let len = self.node().len();
            self.insert_cell(len, key, value, overflow);
        }
    }

    /// Drops cells `from..`.
    pub fn truncate(&mut self, from: usize) {
        let len = self.node().len();
        assert!(from <= len, "what is moved is there");
        let bytes: usize = (from..len).map(|index| self.node().cell_bytes(index)).sum();
        self.set_len(from);
        self.add_dead(bytes);
    }

    /// Moves all cells to the end of the page, in order, without dead bytes between.
    fn compact(&mut self) {
        let old = *self.page;
        let old = Node { page: &old };
        let mut heap = PAGE_SIZE;
        for index in (0..old.len()).rev() {
            let bytes = old.cell_bytes(index);
            let cell = old.cell_at(index);
            heap -= bytes;
            self.page[heap..heap + bytes].copy_from_slice(&old.page[cell..cell + bytes]);
            put_u16(self.page, HEADER_BYTES + index * SLOT_BYTES, heap as u16);
        }
        put_u16(self.page, HEAP_AT, heap as u16);
        put_u16(self.page, DEAD_AT, 0);
    }
}

/// Shortest key that separates two neighbours: above `left`, not above `right`.
pub(super) fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    debug_assert!(left < right);
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    &right[..common + 1]
}

/// Checks the invariants of a leaf or branch read from the file, in memory-safe terms: afterwards accessors do not panic.
pub(super) fn validate(page: &PageBytes, kind: PageKind) -> Result<(), &'static str> {
    let node = Node { page };
    let slots_end = HEADER_BYTES + node.len() * SLOT_BYTES;
    if slots_end > node.heap() || node.heap() > PAGE_SIZE {
        return Err("slots and heap overlap");
    }
    if (kind == PageKind::Leaf) != (node.level() == 0) {
        return Err("level does not fit the kind");
    }
    let mut live = 0;
    let mut previous: Option<&[u8]> = None;
    for index in 0..node.len() {
        let cell = node.cell_at(index);
        if cell < node.heap() || cell + CELL_HEADER_BYTES > PAGE_SIZE {
            return Err("slot points outside of the heap");
        }
        let key_bytes = usize::from(get_u16(page, cell));
        let lengths = get_u16(page, cell + 2);
        let value_bytes = usize::from(lengths & !OVERFLOW_FLAG);
        if cell + CELL_HEADER_BYTES + key_bytes + value_bytes > PAGE_SIZE {
            return Err("cell reaches beyond the page");
        }
        let fits_kind = match kind {
            PageKind::Leaf => lengths & OVERFLOW_FLAG == 0 || value_bytes == OVERFLOW_REF_BYTES,
            _ => lengths == CHILD_BYTES as u16,
        };
        if !fits_kind {
            return Err("value length does not fit the kind");
        }
        let key = node.key(index);
        if previous.is_some_and(|previous| previous >= key) {
            return Err("keys do not ascend");
        }
        previous = Some(key);
        live += CELL_HEADER_BYTES + key_bytes + value_bytes;
    }
    if kind == PageKind::Branch && (node.len() == 0 || !node.key(0).is_empty()) {
        return Err("branch without a first child");
    }
    if live + node.dead() != PAGE_SIZE - node.heap() {
        return Err("bytes of cells do not add up");
    }
    if cells_overlap(node) {
        return Err("cells overlap");
    }
    Ok(())
}

fn cells_overlap(node: Node<'_>) -> bool {
    let ends_before = |cell: &(usize, usize), next: &(usize, usize)| cell.0 + cell.1 <= next.0;
    let cell = |index: usize| (node.cell_at(index), node.cell_bytes(index));
    // Entries appended in key order lie in descending order; anything else is sorted first.
    if (1..node.len()).all(|index| ends_before(&cell(index), &cell(index - 1))) {
        return false;
    }
    let mut cells: Vec<_> = (0..node.len()).map(cell).collect();
    cells.sort_unstable();
    !cells.is_sorted_by(ends_before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagefile::format::{Header, TxnId};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn blank(kind: PageKind, level: u8) -> Box<PageBytes> {
        let mut page = Box::new([0; PAGE_SIZE]);
        Header { kind, tree: 1, level, page: PageId(5), txn: TxnId(1) }.write(&mut page[..]);
        NodeMut::init(&mut page);
        page
    }

    #[test]
    fn separators_are_short_and_between() {
        let cases: [(&[u8], &[u8], &[u8]); 4] =
            [(b"abc", b"abd", b"abd"), (b"ab", b"abc", b"abc"), (b"a", b"xyz", b"x"), (b"", b"\0", b"\0")];
        for (left, right, expected) in cases {
            let found = separator(left, right);
            assert_eq!(found, expected);
            assert!(left < found);
            assert!(found <= right);
        }
    }

    #[test]
    fn first_child_removed_leaves_an_empty_first_key() {
        let mut page = blank(PageKind::Branch, 1);
        let mut node = NodeMut::new(&mut page);
        node.insert_child(0, b"", PageId(10));
        node.insert_child(1, b"mmm", PageId(11));
        node.insert_child(2, b"zzz", PageId(12));
        node.remove_child(0);
        assert_eq!(node.node().key(0), b"");
        assert_eq!(node.node().child(0), PageId(11));
        assert_eq!(node.node().child_index(b"a", 0), 0);
        assert_eq!(node.node().child_index(b"zzz", 0), 1);
        assert_eq!(validate(&page, PageKind::Branch), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A leaf behaves as a sorted map as long as there is room, and stays valid.
        #[test]
        fn leaf_is_a_sorted_map(
            ops in prop::collection::vec(
                (any::<bool>(), 0u16..300, prop::collection::vec(any::<u8>(), 0..400), any::<usize>()),
                1..400,
            ),
        ) {
            let mut page = blank(PageKind::Leaf, 0);
            let mut model = BTreeMap::new();
            for (insert, key, value, guess) in ops {
                let key = key.to_be_bytes();
                let mut node = NodeMut::new(&mut page);
                let len = node.node().len();
                let found = node.node().search(&key, guess % len.max(1));
                prop_assert_eq!(found.is_ok(), model.contains_key(&key));
                if let Ok(index) = found {
                    node.remove(index);
                    model.remove(&key);
                }
                let index = node.node().search(&key, 0).expect_err("it was removed");
                if insert && node.node().room() >= cell_need(key.len(), value.len()) {
                    node.insert_entry(index, &key, Value::Inline(&value));
                    model.insert(key, value);
                }
                prop_assert_eq!(validate(&page, PageKind::Leaf), Ok(()));
            }
            let node = Node::new(&page);
            let entries: Vec<_> = (0..node.len()).map(|index| node.entry(index)).collect();
            let expected: Vec<_> = model.iter().map(|(k, v)| (&k[..], Value::Inline(&v[..]))).collect();
            prop_assert_eq!(entries, expected);
        }

        /// Any bytes are either refused or safe to read.
        #[test]
        fn validate_makes_reading_safe(seed in any::<u64>(), flips in 1usize..20) {
            let mut page = blank(PageKind::Leaf, 0);
            for key in 0u16..40 {
                let mut node = NodeMut::new(&mut page);
                node.insert_entry(usize::from(key), &key.to_be_bytes(), Value::Inline(&[7; 300]));
            }
            let mut random = plinth_random::Random::new(seed);
            for _ in 0..flips {
                page[24 + random.index(200)] ^= random.bits() as u8;
            }
            if validate(&page, PageKind::Leaf).is_ok() {
                let node = Node::new(&page);
                for index in 0..node.len() {
                    let _ = node.entry(index);
                }
                let _ = node.split_point();
                let _ = node.room();
            }
        }
    }
}
