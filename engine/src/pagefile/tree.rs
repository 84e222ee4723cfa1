//! The B+trees of the current state: get, insert, remove.
//!
//! Invariants: all leaves of a tree are on level 0 and equally deep; keys of child `i` of a branch are not below
//! separator `i` and below separator `i + 1`; no leaf is empty; a branch that is a root has at least two children.
//! There is no minimum fill: a node is merged with a neighbour when it is less than a quarter full and the two
//! together fill at most three quarters, so that a sweep of deletes gives pages back and does not thrash.
//!
//! Every operation ensures room for the worst case first and reads each page of its path before it changes the first
//! one, so that an error leaves the tree as it was. Copying a path on the way down does not change what it says.
//!
//! Revisions only grow, so two things are special-cased: an append goes straight to the last leaf while that is dirty
//! (`tails`), and an insert at the end of a full node opens a new node instead of halving the full one.

use super::PageFile;
use super::format::{
    CHILD_BYTES, KEY_BYTES_MAX, LEVELS_MAX, NODE_CAPACITY, OVERFLOW_REF_BYTES, PageId, PageKind, Root, SLOT_BYTES,
    VALUE_BYTES_MAX, fits_inline, overflow_pages,
};
use super::node::{Bounds, Node, NodeMut, OverflowRef, Value, cell_need, separator};
use super::pager::{Pager, REMOVAL_RESERVE_PAGES};
use super::store::PageStore;
use crate::trees::TreeError;

/// A node with fewer live bytes is merged with a neighbour, if the result has at most [`MERGED_BYTES_MAX`].
const UNDERFULL_BYTES: usize = NODE_CAPACITY / 4;
const MERGED_BYTES_MAX: usize = NODE_CAPACITY / 4 * 3;
/// Longer keys are cut in messages.
const SHOWN_KEY_BYTES: usize = 48;

/// Where a key is or would be.
pub(super) struct Lookup<'a> {
    pub leaf: Node<'a>,
    pub found: Result<usize, usize>,
    pub position: Position,
}

/// The way from the root to a leaf.
#[derive(Clone, Copy)]
pub(super) struct Position {
    /// The child taken, by level of the branch.
    pub children: [u16; LEVELS_MAX],
    /// Every child taken is the last one of its branch.
    pub rightmost: bool,
}

/// The branches from the root to a leaf's parent, all dirty, each with the index of the child taken.
pub(super) struct Path {
    steps: [(PageId, usize); LEVELS_MAX],
    len: usize,
}

impl Path {
    fn new() -> Path {
        Path { steps: [(PageId::NONE, 0); LEVELS_MAX], len: 0 }
    }

    fn push(&mut self, branch: PageId, index: usize) {
        assert!(!branch.is_none(), "a path leads through pages");
        self.steps[self.len] = (branch, index);
        self.len += 1;
    }

    /// The branches, from the root down.
    pub fn branches(&self) -> impl Iterator<Item = PageId> {
        self.steps[..self.len].iter().map(|&(branch, _)| branch)
    }

    /// The branch at `depth`, counted from the root, and the child taken.
    pub fn step(&self, depth: usize) -> (PageId, usize) {
        self.steps[..self.len][depth]
    }

    fn pop(&mut self) -> Option<(PageId, usize)> {
        self.len = self.len.checked_sub(1)?;
        Some(self.steps[self.len])
    }
}

/// The keys from `low` up to `high`, for a message.
pub(super) fn key_range(low: &[u8], high: Option<&[u8]>) -> String {
    let shown = |key: &[u8]| match key.get(..SHOWN_KEY_BYTES) {
        Some(start) => format!("\"{}\"... ({} bytes)", start.escape_ascii(), key.len()),
        None => format!("\"{}\"", key.escape_ascii()),
    };
    format!("keys from {} to {}", shown(low), high.map_or("the end".to_owned(), shown))
}

/// Adds the keys between which a damaged page lies to the error.
fn name_range(error: TreeError, low: &[u8], high: Option<&[u8]>) -> TreeError {
    match error {
        TreeError::Corrupt { page, tree, detail } => {
            TreeError::Corrupt { page, tree, detail: format!("{detail}; {}", key_range(low, high)) }
        }
        other => other,
    }
}

impl<S: PageStore> Pager<S> {
    /// Child `index` of a branch at `level`.
    #[inline]
    pub(super) fn child<'a>(
        &'a self,
        branch: Node<'a>,
        index: usize,
        tree: u8,
        level: u8,
    ) -> Result<Node<'a>, TreeError> {
        self.node(branch.child(index), tree, level - 1).map_err(|error| {
            let high = (index + 1 < branch.len()).then(|| branch.key(index + 1));
            name_range(error, branch.key(index), high)
        })
    }

    /// Finds `key`, reading and so verifying the path to it. None if the tree is empty.
    #[inline]
    pub(super) fn lookup(&self, root: Root, tree: u8, key: &[u8]) -> Result<Option<Lookup<'_>>, TreeError> {
        if root.page.is_none() {
            return Ok(None);
        }
        let mut node = self.node(root.page, tree, root.level)?;
        let mut bounds = Bounds::default();
        let mut children = [0; LEVELS_MAX];
        let mut rightmost = true;
        for level in (1..=root.level).rev() {
            let index = node.child_index(key, bounds.guess(key, node.len()));
            children[usize::from(level)] = index as u16;
            rightmost &= index + 1 == node.len();
            bounds = bounds.of_child(node, index);
            node = self.child(node, index, tree, level)?;
        }
        let found = node.search(key, bounds.guess(key, node.len()));
        Ok(Some(Lookup { leaf: node, found, position: Position { children, rightmost } }))
    }

    #[inline]
    pub(super) fn value<'a>(&'a self, tree: u8, key: &[u8], value: Value<'a>) -> Result<&'a [u8], TreeError> {
        match value {
            Value::Inline(bytes) => Ok(bytes),
            Value::Overflow(reference) => self.overflow(reference, tree, key),
        }
    }

    #[inline]
    pub(super) fn get(&self, root: Root, tree: u8, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        match self.lookup(root, tree, key)? {
            Some(Lookup { leaf, found: Ok(index), .. }) => self.value(tree, key, leaf.entry(index).1).map(Some),
            _ => Ok(None),
        }
    }

    #[inline]
    pub(super) fn dirty_node(&mut self, page: PageId) -> NodeMut<'_> {
        NodeMut::new(self.page_mut(page))
    }

    fn new_node(&mut self, tree: u8, level: u8) -> PageId {
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Branch };
        let page = self.allocate(kind, tree, level);
        NodeMut::init(self.page_mut(page));
        page
    }
}

impl<S: PageStore> PageFile<S> {
    /// The most pages an operation on a tree of this root may allocate: a copy and a split on each level, a new root.
    pub(super) fn pages_needed(root: Root) -> usize {
        2 * (usize::from(root.level) + 1) + 1
    }

    fn insert_needs(root: Root) -> usize {
        Self::pages_needed(root) + REMOVAL_RESERVE_PAGES
    }

    pub(super) fn insert_value(&mut self, tree: u8, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        if fits_inline(key.len(), value.len()) && key.len() <= KEY_BYTES_MAX {
            if self.append(tree, key, value) {
                return Ok(());
            }
            self.pager.ensure_room(Self::insert_needs(self.roots[usize::from(tree)]), 0)?;
            return self.insert_at(tree, key, Value::Inline(value));
        }
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(TreeError::TooLarge { key_bytes: key.len(), value_bytes: value.len() });
        }
        let pages = overflow_pages(key.len(), value.len());
        self.pager.ensure_room(Self::insert_needs(self.roots[usize::from(tree)]), pages)?;
        let reference = self.pager.allocate_overflow(tree, key, value);
        let inserted = self.insert_at(tree, key, Value::Overflow(reference));
        if inserted.is_err() {
            self.pager.free(tree, reference.page, pages);
        }
        inserted
    }

    /// Appends to the last leaf, if that is dirty, known and has room, and the key is above all others.
    #[inline]
    fn append(&mut self, tree: u8, key: &[u8], value: &[u8]) -> bool {
        let tail = self.tails[usize::from(tree)];
        if tail.is_none() {
            return false;
        }
        let mut leaf = self.pager.dirty_node(tail);
        let node = leaf.node();
        let len = node.len();
        if node.room() < cell_need(key.len(), value.len()) || node.key(len - 1) >= key {
            return false;
        }
        leaf.insert_cell(len, key, value, false);
        self.roots[usize::from(tree)].entries += 1;
        true
    }

    /// Copies what is not dirty on the way to a leaf, which a lookup has just found and verified.
    pub(super) fn copy_path(&mut self, tree: u8, position: Position) -> Result<(Path, PageId), TreeError> {
        let root = self.roots[usize::from(tree)];
        let mut page = self.pager.make_dirty(root.page)?;
        self.roots[usize::from(tree)].page = page;
        let mut path = Path::new();
        for level in (1..=root.level).rev() {
            let index = usize::from(position.children[usize::from(level)]);
            let child = self.pager.dirty_node(page).node().child(index);
            let copy = self.pager.make_dirty(child)?;
            if copy != child {
                self.pager.dirty_node(page).set_child(index, copy);
            }
            path.push(page, index);
            page = copy;
        }
        Ok((path, page))
    }

    fn insert_at(&mut self, tree: u8, key: &[u8], value: Value<'_>) -> Result<(), TreeError> {
        let root = self.roots[usize::from(tree)];
        self.tails[usize::from(tree)] = PageId::NONE;
        let (found, position) = match self.pager.lookup(root, tree, key)? {
            Some(lookup) => (lookup.found, lookup.position),
            None => {
                let page = self.pager.new_node(tree, 0);
                self.roots[usize::from(tree)] = Root { page, level: 0, entries: 0 };
                (Err(0), Position { children: [0; LEVELS_MAX], rightmost: true })
            }
        };
        let (mut path, page) = self.copy_path(tree, position)?;
        let index = match found {
            Ok(index) => {
                if self.replace_in_place(tree, page, index, key, value) {
                    return Ok(());
                }
                index
            }
            Err(index) => {
                self.roots[usize::from(tree)].entries += 1;
                index
            }
        };
        let mut leaf = self.pager.dirty_node(page);
        let is_tail = position.rightmost && index == leaf.node().len();
        let target = if leaf.node().room() >= entry_need(key, value) {
            leaf.insert_entry(index, key, value);
            page
        } else {
            self.split_leaf(tree, &mut path, page, index, key, value)
        };
        if is_tail {
            self.tails[usize::from(tree)] = target;
        }
        Ok(())
    }

    /// Overwrites the value of an entry if the new one is as long; else removes the entry.
    fn replace_in_place(&mut self, tree: u8, page: PageId, index: usize, key: &[u8], value: Value<'_>) -> bool {
        let mut leaf = self.pager.dirty_node(page);
        let old = leaf.node().overflow(index);
        let replaced = leaf.overwrite(index, value);
        if !replaced {
            leaf.remove(index);
        }
        self.free_overflow(tree, key, old);
        replaced
    }

    fn free_overflow(&mut self, tree: u8, key: &[u8], reference: Option<OverflowRef>) {
        if let Some(reference) = reference {
            self.pager.free(tree, reference.page, overflow_pages(key.len(), reference.value_bytes as usize));
        }
    }

    /// Splits a leaf that has no room and inserts the entry; returns the leaf it went to.
    fn split_leaf(
        &mut self,
        tree: u8,
        path: &mut Path,
        left: PageId,
        index: usize,
        key: &[u8],
        value: Value<'_>,
    ) -> PageId {
        let right = self.pager.new_node(tree, 0);
        let left_len = self.pager.dirty_node(left).node().len();
        if index == left_len {
            let last = self.pager.dirty_node(left).node().key(left_len - 1).to_vec();
            self.pager.dirty_node(right).insert_entry(0, key, value);
            self.insert_child(tree, path, left, separator(&last, key), right);
            return right;
        }
        let at = self.split_point(left, index, key, value);
        self.move_tail(left, right, at, None);
        let target = if index < at || (index == at && self.has_room(left, key, value)) {
            self.pager.dirty_node(left).insert_entry(index, key, value);
            left
        } else {
            self.pager.dirty_node(right).insert_entry(index - at, key, value);
            right
        };
        let last = {
            let node = self.pager.dirty_node(left);
            node.node().key(node.node().len() - 1).to_vec()
        };
        let first = self.pager.dirty_node(right).node().key(0).to_vec();
        assert!(last < first, "what is split off a leaf lies behind what stays");
        self.insert_child(tree, path, left, separator(&last, &first), right);
        target
    }

    fn has_room(&mut self, page: PageId, key: &[u8], value: Value<'_>) -> bool {
        self.pager.dirty_node(page).node().room() >= entry_need(key, value)
    }

    /// Where to split a full leaf so that the new entry at `index` fits its half, whichever that is.
    fn split_point(&mut self, page: PageId, index: usize, key: &[u8], value: Value<'_>) -> usize {
        let leaf = self.pager.dirty_node(page);
        let node = leaf.node();
        let need = entry_need(key, value);
        let sizes: Vec<usize> = (0..node.len()).map(|index| node.cell_bytes(index) + SLOT_BYTES).collect();
        let total: usize = sizes.iter().sum();
        let mut left = 0;
        let mut best = (usize::MAX, 1);
        for at in 1..sizes.len() {
            left += sizes[at - 1];
            let right = total - left;
            // The entry goes left if it sorts before the split point, or at it and the left part has room.
            let (left_after, right_after) = if index < at || (index == at && left + need <= NODE_CAPACITY) {
                (left + need, right)
            } else {
                (left, right + need)
            };
            if left_after <= NODE_CAPACITY && right_after <= NODE_CAPACITY {
                best = best.min((left_after.abs_diff(right_after), at));
            }
        }
        assert_ne!(best.0, usize::MAX, "a cell is at most half a page, so some split fits");
        best.1
    }

    /// Moves cells `at..` from one dirty node to the end of another.
    fn move_tail(&mut self, from: PageId, to: PageId, at: usize, first_key: Option<&[u8]>) {
        let source = Box::new(*self.pager.page_mut(from));
        self.pager.dirty_node(to).append_from(Node::new(&source), at, first_key);
        self.pager.dirty_node(from).truncate(at);
    }

    /// Hangs `right`, the new right neighbour of `left`, into the parent, splitting upwards as needed.
    fn insert_child(&mut self, tree: u8, path: &mut Path, left: PageId, key: &[u8], right: PageId) {
        let Some((branch, index)) = path.pop() else {
            return self.grow_root(tree, left, key, right);
        };
        let index = index + 1;
        let mut node = self.pager.dirty_node(branch);
        if node.node().room() >= cell_need(key.len(), CHILD_BYTES) {
            node.insert_child(index, key, right);
            return;
        }
        let level = node.node().level();
        let len = node.node().len();
        let sibling = self.pager.new_node(tree, level);
        if index == len {
            self.pager.dirty_node(sibling).insert_child(0, b"", right);
            return self.insert_child(tree, path, branch, key, sibling);
        }
        let at = self.pager.dirty_node(branch).node().split_point();
        let up = self.pager.dirty_node(branch).node().key(at).to_vec();
        self.move_tail(branch, sibling, at, Some(b""));
        if index <= at {
            self.pager.dirty_node(branch).insert_child(index, key, right);
        } else {
            self.pager.dirty_node(sibling).insert_child(index - at, key, right);
        }
        self.insert_child(tree, path, branch, &up, sibling);
    }

    fn grow_root(&mut self, tree: u8, left: PageId, key: &[u8], right: PageId) {
        let root = self.roots[usize::from(tree)];
        assert_eq!(root.page, left, "only a root has no parent");
        assert!(usize::from(root.level) + 1 < LEVELS_MAX, "7^16 leaves do not fit a file");
        let page = self.pager.new_node(tree, root.level + 1);
        let mut node = self.pager.dirty_node(page);
        node.insert_child(0, b"", left);
        node.insert_child(1, key, right);
        self.roots[usize::from(tree)] = Root { page, level: root.level + 1, ..root };
    }

    pub(super) fn remove_key(&mut self, tree: u8, key: &[u8]) -> Result<bool, TreeError> {
        let root = self.roots[usize::from(tree)];
        let Some(Lookup { found: Ok(index), position, .. }) = self.pager.lookup(root, tree, key)? else {
            return Ok(false);
        };
        self.pager.ensure_room(Self::pages_needed(root), 0)?;
        self.tails[usize::from(tree)] = PageId::NONE;
        let (mut path, page) = self.copy_path(tree, position)?;
        let mut leaf = self.pager.dirty_node(page);
        let old = leaf.node().overflow(index);
        leaf.remove(index);
        self.free_overflow(tree, key, old);
        let entries = &mut self.roots[usize::from(tree)].entries;
        *entries = entries.checked_sub(1).expect("an entry that is removed was counted");
        self.rebalance(tree, &mut path, page, 0);
        Ok(true)
    }

    /// After a cell was removed from `page`: frees it if empty, merges it if underfull, and goes on with its parent.
    fn rebalance(&mut self, tree: u8, path: &mut Path, mut page: PageId, mut level: u8) {
        loop {
            let node = self.pager.dirty_node(page);
            let (len, live) = (node.node().len(), node.node().live_bytes());
            let Some((branch, index)) = path.pop() else { break };
            if len == 0 {
                self.pager.free(tree, page, 1);
                self.pager.dirty_node(branch).remove_child(index);
            } else if live < UNDERFULL_BYTES {
                if !self.merge(tree, level, branch, index) {
                    return;
                }
            } else {
                return;
            }
            page = branch;
            level += 1;
        }
        self.shrink_root(tree);
    }

    /// Merges child `index` of a dirty branch with its left or right neighbour; false if neither fits.
    /// A neighbour that cannot be read is left alone: whoever needs it will report it.
    fn merge(&mut self, tree: u8, level: u8, branch: PageId, index: usize) -> bool {
        let children = self.pager.dirty_node(branch).node().len();
        let candidates = [index.checked_sub(1), (index + 1 < children).then_some(index)];
        candidates.into_iter().flatten().any(|left| self.merge_pair(tree, level, branch, left))
    }

    /// Merges children `left` and `left + 1` of a dirty branch, at `level`, if they fit.
    fn merge_pair(&mut self, tree: u8, level: u8, branch: PageId, left: usize) -> bool {
        let (left_page, right_page, between) = {
            let node = self.pager.dirty_node(branch);
            (node.node().child(left), node.node().child(left + 1), node.node().key(left + 1).to_vec())
        };
        let Ok(left_node) = self.pager.node(left_page, tree, level) else { return false };
        let Ok(right_node) = self.pager.node(right_page, tree, level) else { return false };
        let pulled_down = if level > 0 { between.len() } else { 0 };
        if left_node.live_bytes() + right_node.live_bytes() + pulled_down > MERGED_BYTES_MAX {
            return false;
        }
        let source = Box::new(*right_node.page());
        let Ok(target) = self.pager.make_dirty(left_page) else { return false };
        let first_key = (level > 0).then_some(&between[..]);
        self.pager.dirty_node(target).append_from(Node::new(&source), 0, first_key);
        let mut parent = self.pager.dirty_node(branch);
        parent.set_child(left, target);
        parent.remove_child(left + 1);
        self.pager.free(tree, right_page, 1);
        true
    }

    /// A branch with one child is no root, and an empty leaf no tree.
    fn shrink_root(&mut self, tree: u8) {
        let root = &mut self.roots[usize::from(tree)];
        while let Ok(node) = self.pager.node(root.page, tree, root.level) {
            let only_child = (node.len() == 1 && root.level > 0).then(|| node.child(0));
            if node.len() == 0 {
                self.pager.free(tree, root.page, 1);
                *root = Root::default();
                return;
            }
            let Some(child) = only_child else { return };
            self.pager.free(tree, root.page, 1);
            *root = Root { page: child, level: root.level - 1, ..*root };
        }
    }
}

fn entry_need(key: &[u8], value: Value<'_>) -> usize {
    let value_bytes = match value {
        Value::Inline(bytes) => bytes.len(),
        Value::Overflow(_) => OVERFLOW_REF_BYTES,
    };
    cell_need(key.len(), value_bytes)
}
