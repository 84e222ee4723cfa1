//! Passes over a tree in key order, at the current state or a pinned one.
//!
//! A cold pass reads ahead and lets go of what it has passed, so that reading everything at open does not leave the
//! file resident. Both are hints in steps of about 1 MiB.

use std::ops::ControlFlow;

use super::format::{LEVELS_MAX, PageId, Root, overflow_pages};
use super::node::{Node, Value};
use super::pager::Pager;
use super::store::{Advice, PageStore};
use crate::trees::{Record, TreeError, Visit};

/// Leaves a cold pass reads ahead, and pages after which it lets go.
const WINDOW_PAGES: usize = 64;

/// A position in a tree: the branches above the current leaf.
struct Cursor<'a> {
    steps: [Option<(Node<'a>, usize)>; LEVELS_MAX],
    len: usize,
}

impl<'a> Cursor<'a> {
    fn top(&self) -> Option<(Node<'a>, usize)> {
        self.steps[..self.len].last().copied().flatten()
    }

    fn push(&mut self, branch: Node<'a>, index: usize) {
        self.steps[self.len] = Some((branch, index));
        self.len += 1;
    }
}

/// Advice given along a cold pass.
struct ColdPass {
    /// The branch whose children are being read ahead, and how far they have been.
    ahead: (PageId, usize),
    behind: Vec<(PageId, usize)>,
    behind_pages: usize,
}

impl ColdPass {
    fn new() -> ColdPass {
        ColdPass { ahead: (PageId::NONE, 0), behind: Vec::new(), behind_pages: 0 }
    }

    fn read_ahead(&mut self, store: &impl PageStore, branch_page: PageId, branch: Node<'_>, index: usize) {
        if self.ahead.0 != branch_page {
            self.ahead = (branch_page, index);
        }
        if index + WINDOW_PAGES / 2 < self.ahead.1 || self.ahead.1 >= branch.len() {
            return;
        }
        let end = (index + WINDOW_PAGES * 3 / 2).min(branch.len());
        let mut extents = Vec::new();
        for child in self.ahead.1..end {
            push_extent(&mut extents, branch.child(child), 1);
        }
        advise(store, &extents, Advice::WillNeed);
        self.ahead.1 = end;
    }

    fn passed(&mut self, store: &impl PageStore, page: PageId, pages: usize) {
        push_extent(&mut self.behind, page, pages);
        self.behind_pages += pages;
        if self.behind_pages >= WINDOW_PAGES {
            self.let_go(store);
        }
    }

    fn let_go(&mut self, store: &impl PageStore) {
        advise(store, &self.behind, Advice::DontNeed);
        self.behind.clear();
        self.behind_pages = 0;
    }
}

fn push_extent(extents: &mut Vec<(PageId, usize)>, page: PageId, pages: usize) {
    match extents.last_mut() {
        Some((first, count)) if first.index() + *count == page.index() => *count += pages,
        _ => extents.push((page, pages)),
    }
}

fn advise(store: &impl PageStore, extents: &[(PageId, usize)], advice: Advice) {
    for &(first, count) in extents {
        store.advise(first.offset(), (count * super::PAGE_SIZE) as u64, advice);
    }
}

impl<S: PageStore> Pager<S> {
    /// Visits entries from `from` on, in order.
    pub(super) fn scan(
        &self,
        root: Root,
        tree: u8,
        from: &[u8],
        cold: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TreeError> {
        if root.page.is_none() {
            return Ok(());
        }
        let mut pass = cold.then(ColdPass::new);
        let result = self.scan_leaves(root, tree, from, &mut pass, visit);
        if let Some(pass) = &mut pass {
            pass.let_go(self.store());
        }
        result
    }

    fn scan_leaves(
        &self,
        root: Root,
        tree: u8,
        from: &[u8],
        pass: &mut Option<ColdPass>,
        visit: &mut Visit<'_>,
    ) -> Result<(), TreeError> {
        let mut cursor = Cursor { steps: [None; LEVELS_MAX], len: 0 };
        let mut leaf = self.node(root.page, tree, root.level)?;
        for level in (1..=root.level).rev() {
            let index = leaf.child_index(from, leaf.len() / 2);
            cursor.push(leaf, index);
            leaf = self.enter(leaf, index, tree, level, pass)?;
        }
        let mut start = leaf.search(from, leaf.len() / 2).unwrap_or_else(|index| index);
        loop {
            if self.visit_leaf(leaf, start, tree, pass, visit)?.is_break() {
                return Ok(());
            }
            start = 0;
            match self.next_leaf(&mut cursor, tree, pass)? {
                Some(next) => leaf = next,
                None => return Ok(()),
            }
        }
    }

    fn visit_leaf(
        &self,
        leaf: Node<'_>,
        start: usize,
        tree: u8,
        pass: &mut Option<ColdPass>,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, TreeError> {
        let mut flow = ControlFlow::Continue(());
        for index in start..leaf.len() {
            let (key, value) = leaf.entry(index);
            flow = visit(key, self.value(tree, key, value)?);
            if let (Some(pass), Value::Overflow(reference)) = (pass.as_mut(), value) {
                let pages = overflow_pages(key.len(), reference.value_bytes as usize);
                pass.passed(self.store(), reference.page, pages);
            }
            if flow.is_break() {
                break;
            }
        }
        if let Some(pass) = pass {
            pass.passed(self.store(), leaf.id(), 1);
        }
        Ok(flow)
    }

    /// Reads child `index` of a branch at `level`.
    fn enter<'a>(
        &'a self,
        branch: Node<'a>,
        index: usize,
        tree: u8,
        level: u8,
        pass: &mut Option<ColdPass>,
    ) -> Result<Node<'a>, TreeError> {
        if let (1, Some(pass)) = (level, pass.as_mut()) {
            pass.read_ahead(self.store(), branch.id(), branch, index);
        }
        self.child(branch, index, tree, level)
    }

    fn next_leaf<'a>(
        &'a self,
        cursor: &mut Cursor<'a>,
        tree: u8,
        pass: &mut Option<ColdPass>,
    ) -> Result<Option<Node<'a>>, TreeError> {
        let (mut node, mut index) = loop {
            let Some((branch, index)) = cursor.top() else { return Ok(None) };
            cursor.len -= 1;
            if index + 1 < branch.len() {
                break (branch, index + 1);
            }
        };
        loop {
            cursor.push(node, index);
            let level = node.level();
            node = self.enter(node, index, tree, level, pass)?;
            if level == 1 {
                return Ok(Some(node));
            }
            index = 0;
        }
    }

    /// The last entry.
    pub(super) fn last(&self, root: Root, tree: u8) -> Result<Option<Record<'_>>, TreeError> {
        if root.page.is_none() {
            return Ok(None);
        }
        let mut node = self.node(root.page, tree, root.level)?;
        for level in (1..=root.level).rev() {
            node = self.child(node, node.len() - 1, tree, level)?;
        }
        let Some(index) = node.len().checked_sub(1) else { return Ok(None) };
        let (key, value) = node.entry(index);
        Ok(Some((key, self.value(tree, key, value)?)))
    }
}
