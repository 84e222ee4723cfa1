//! A paced pass over all pages of the file, verifying checksums: finds what rots where nobody reads.

use super::PageFile;
use super::format::{Header, PAGE_SIZE, PageId, PageKind, Root};
use super::pager::Place;
use super::store::{Advice, PageStore};
use super::tree::key_range;
use crate::trees::TreeError;

/// Where a pass is. A new one starts at the beginning.
#[derive(Clone, Debug, Default)]
pub struct ScrubCursor {
    next: usize,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubProgress {
    /// Pages verified by this step.
    pub pages: usize,
    /// The pass has reached the end of the file; the next step starts over.
    pub done: bool,
}

impl<S: PageStore> PageFile<S> {
    /// Verifies the next pages of the file, about `budget_pages`. After an error, the next step goes on behind the bad
    /// page.
    pub fn scrub_step(&self, cursor: &mut ScrubCursor, budget_pages: usize) -> Result<ScrubProgress, TreeError> {
        let mut progress = ScrubProgress { pages: 0, done: false };
        let start = cursor.next.max(PageId::FIRST.index());
        cursor.next = start;
        let mut found = Ok(());
        while progress.pages < budget_pages && found.is_ok() {
            let Some((page, pages)) = self.pager.space.next_run(cursor.next) else {
                progress.done = true;
                break;
            };
            cursor.next = page.index() + pages;
            progress.pages += pages;
            if matches!(self.pager.place(page), Some(Place::File | Place::Verified)) {
                found = self.pager.sealed_run(page, pages).map(|_| ()).map_err(|error| {
                    // It was whole when it was touched first, perhaps; nobody gets it any more.
                    self.pager.distrust(page);
                    self.explain(page, error)
                });
            }
        }
        let end = cursor.next * PAGE_SIZE;
        self.store().advise((start * PAGE_SIZE) as u64, (end - start * PAGE_SIZE) as u64, Advice::DontNeed);
        if progress.done {
            *cursor = ScrubCursor::default();
        }
        // The next step comes after a pause: by then it is there, and nobody waits for the disk.
        let ahead = (cursor.next.max(PageId::FIRST.index()) * PAGE_SIZE) as u64;
        let left = self.store().len().saturating_sub(ahead);
        self.store().advise(ahead, left.min(budget_pages.saturating_mul(PAGE_SIZE) as u64), Advice::WillNeed);
        found.map(|()| progress)
    }

    /// Adds to an error which tree and keys it concerns, as far as the branches above or the page itself tell.
    fn explain(&self, page: PageId, error: TreeError) -> TreeError {
        let TreeError::Corrupt { detail, .. } = error else { return error };
        for (tree, &root) in self.roots.iter().enumerate().filter(|(_, root)| !root.page.is_none()) {
            if let Some(keys) = self.find_in_branches(root, tree as u8, page) {
                return TreeError::Corrupt { page: page.get(), tree: tree as u8, detail: format!("{detail}; {keys}") };
            }
        }
        let claim = self.store().read(page.offset(), PAGE_SIZE).ok().and_then(Header::read);
        match claim {
            Some(header) if header.kind == PageKind::Overflow => {
                let detail = format!("{detail}; a long value, by its own damaged header");
                TreeError::Corrupt { page: page.get(), tree: header.tree, detail }
            }
            _ => TreeError::Corrupt { page: page.get(), tree: 0, detail },
        }
    }

    /// The keys of `page` if it is a node of this tree. Reads branches only; skips what it cannot read.
    fn find_in_branches(&self, root: Root, tree: u8, page: PageId) -> Option<String> {
        if root.page == page {
            return Some("the root: all keys".to_owned());
        }
        let mut waiting = vec![(root.page, root.level)];
        while let Some((branch_page, level)) = waiting.pop() {
            if level == 0 {
                continue;
            }
            let Ok(branch) = self.pager.node(branch_page, tree, level) else { continue };
            for index in 0..branch.len() {
                if branch.child(index) == page {
                    let high = (index + 1 < branch.len()).then(|| branch.key(index + 1));
                    return Some(key_range(branch.key(index), high));
                }
                if level > 1 {
                    waiting.push((branch.child(index), level - 1));
                }
            }
        }
        None
    }
}
