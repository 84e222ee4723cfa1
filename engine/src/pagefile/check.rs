//! The full structural check, for tests and the offline tool: reads everything.

use super::PageFile;
use super::format::{PageId, Root, overflow_pages};
use super::node::{Node, Value};
use super::store::PageStore;
use crate::trees::TreeError;

/// What a sound file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    pub entries: u64,
    pub leaves: u64,
    pub branches: u64,
    pub overflow_pages: u64,
    pub space_pages: u64,
    /// Bytes of live cells in leaves.
    pub leaf_bytes: u64,
}

/// One check: what was reached so far.
struct Check<'a, S: PageStore> {
    file: &'a PageFile<S>,
    reached: Vec<(PageId, usize)>,
    report: CheckReport,
}

fn wrong(page: PageId, tree: u8, detail: impl Into<String>) -> TreeError {
    TreeError::Corrupt { page: page.get(), tree, detail: detail.into() }
}

impl<S: PageStore> PageFile<S> {
    /// Verifies the current state completely: every page and long value readable with a good checksum, keys in order
    /// and within their separators, levels and counts right, every page in use reached exactly once, and the space map
    /// in agreement.
    pub fn check(&self) -> Result<CheckReport, TreeError> {
        let mut check = Check { file: self, reached: Vec::new(), report: CheckReport::default() };
        for (tree, &root) in self.roots.iter().enumerate() {
            check.tree(tree as u8, root)?;
        }
        check.space()
    }
}

impl<S: PageStore> Check<'_, S> {
    fn tree(&mut self, tree: u8, root: Root) -> Result<(), TreeError> {
        let before = self.report.entries;
        if !root.page.is_none() {
            let node = self.file.pager.node(root.page, tree, root.level)?;
            if root.level > 0 && node.len() < 2 {
                return Err(wrong(root.page, tree, "root branch with one child"));
            }
            self.node(tree, root.page, root.level, b"", None)?;
        }
        if self.report.entries - before != root.entries {
            return Err(wrong(root.page, tree, format!("{} entries counted", self.report.entries - before)));
        }
        Ok(())
    }

    fn node(&mut self, tree: u8, page: PageId, level: u8, low: &[u8], high: Option<&[u8]>) -> Result<(), TreeError> {
        let node = self.file.pager.node(page, tree, level)?;
        self.reached.push((page, 1));
        if self.reached.len() > self.file.pager.space.pages() {
            return Err(wrong(page, tree, "more pages reached than there are: some are reached twice"));
        }
        if node.id() != page {
            return Err(wrong(page, tree, format!("holds page {}", node.id())));
        }
        let first_key = usize::from(level > 0);
        for index in first_key..node.len() {
            let key = node.key(index);
            if key < low || high.is_some_and(|high| key >= high) {
                return Err(wrong(page, tree, "key outside of the separators above"));
            }
            if index > 0 && node.key(index - 1) >= key {
                return Err(wrong(page, tree, "keys do not ascend"));
            }
        }
        if level == 0 {
            return self.leaf(tree, page, node);
        }
        self.report.branches += 1;
        for index in 0..node.len() {
            let low = if index == 0 { low } else { node.key(index) };
            let high = if index + 1 < node.len() { Some(node.key(index + 1)) } else { high };
            self.node(tree, node.child(index), level - 1, low, high)?;
        }
        Ok(())
    }

    fn leaf(&mut self, tree: u8, page: PageId, leaf: Node<'_>) -> Result<(), TreeError> {
        if leaf.len() == 0 {
            return Err(wrong(page, tree, "empty leaf"));
        }
        for index in 0..leaf.len() {
            let (key, value) = leaf.entry(index);
            if let Value::Overflow(reference) = value {
                let bytes = self.file.pager.value(tree, key, value)?;
                let pages = overflow_pages(key.len(), bytes.len());
                self.reached.push((reference.page, pages));
                self.report.overflow_pages += pages as u64;
            }
        }
        self.report.entries += leaf.len() as u64;
        self.report.leaves += 1;
        self.report.leaf_bytes += leaf.live_bytes() as u64;
        Ok(())
    }

    /// Compares what was reached with the space map.
    fn space(mut self) -> Result<CheckReport, TreeError> {
        let space = &self.file.pager.space;
        for segment in 0..space.segments() {
            let page = space.place_of(segment);
            if !page.is_none() {
                self.file.pager.space_segment(page, segment)?;
                self.reached.push((page, 1));
                self.report.space_pages += 1;
            }
        }
        self.reached.push((PageId(0), 1));
        self.reached.push((PageId(1), 1));
        self.reached.sort_unstable();
        let mut next = 0;
        for &(page, pages) in &self.reached {
            match space.next_run(next) {
                Some(run) if run == (page, pages) => {}
                found => return Err(wrong(page, 0, format!("{pages} pages in use, space map has {found:?}"))),
            }
            next = page.index() + pages;
        }
        if let Some((page, pages)) = space.next_run(next) {
            return Err(wrong(page, 0, format!("{pages} pages marked as in use, but not reached")));
        }
        let reached: usize = self.reached.iter().map(|&(_, pages)| pages).sum();
        if reached != space.used_pages() {
            return Err(wrong(PageId(0), 0, format!("{reached} pages reached, {} counted", space.used_pages())));
        }
        self.pending()?;
        Ok(self.report)
    }

    /// Pages freed but not yet allocatable are busy and not in use, and nothing else is.
    fn pending(&self) -> Result<(), TreeError> {
        let space = &self.file.pager.space;
        let mut pending = 0;
        for (page, pages) in space.pending_runs() {
            for index in page.index()..page.index() + pages {
                let page = PageId::new(index);
                if space.is_used(page) || !space.is_busy(page) {
                    return Err(wrong(page, 0, "freed, but in use or allocatable"));
                }
            }
            pending += pages;
        }
        if pending != space.pending_pages() {
            return Err(wrong(PageId(0), 0, format!("{pending} pages pending, {} counted", space.pending_pages())));
        }
        Ok(())
    }
}
