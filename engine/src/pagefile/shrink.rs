//! Giving back the end of the file while it is in use.
//!
//! A step moves the last runs in use to lower free places, by copying them as any change does, and cuts off the free
//! pages at the end. A moved page stays busy until two flushes later (see `space`), so the file gets shorter as
//! flushes go by; nothing ever stops. Cutting needs no flush of its own: pages that are not busy are not reachable
//! from either meta page, so that any recovery finds the file long enough.
//!
//! A long run at the end for which there is no hole below has one cleared (see `space::window`), which takes two
//! flushes more.

use super::PageFile;
use super::format::{PageId, PageKind, TREES_MAX};
use super::node::{OverflowRef, Value};
use super::pager::{OverflowRun, Pager};
use super::space::Space;
use super::store::PageStore;
use crate::trees::TreeError;

/// Free pages below the last page in use that are not worth another move: a move copies branches, and takes as many.
const SLACK_PAGES: usize = 16;

/// How far shrinking has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShrinkProgress {
    /// There is more to move: step again.
    More,
    /// Moved pages become free with the next flushes: finish one and step again.
    AwaitFlush,
    /// A pinned reader needs the pages that would become free: step again when it is gone.
    Pinned,
    /// The file is as short as it gets.
    Done,
}

/// What became of the attempt to move the last run down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// So many pages were moved: the run, or others out of its way.
    Moved(usize),
    /// A place for it becomes free with the next flushes.
    Waiting,
    /// There is no place for it.
    Stuck,
}

impl<S: PageStore> PageFile<S> {
    /// Moves about `budget_pages` pages from the end of the file to its front and cuts the end off.
    pub fn shrink_step(&mut self, budget_pages: usize) -> Result<ShrinkProgress, TreeError> {
        self.tails = [PageId::NONE; TREES_MAX];
        let mut moved = 0;
        let mut attempt = Attempt::Moved(0);
        while moved < budget_pages && matches!(attempt, Attempt::Moved(_)) {
            attempt = self.move_last(budget_pages - moved)?;
            if let Attempt::Moved(pages) = attempt {
                moved += pages;
            }
        }
        // What was freed up to now can be used, and cut off, once the transaction after this one is durable.
        let frees_at = match self.shrink_frees_at {
            Some(txn) if moved == 0 => txn,
            _ => *self.shrink_frees_at.insert(self.pager.txn().next()),
        };
        self.pager.truncate(self.pager.space.highest_busy().index() + 1)?;
        if matches!(attempt, Attempt::Moved(_)) {
            return Ok(ShrinkProgress::More);
        }
        if self.pager.durable() < frees_at {
            self.pager.space.touch_segment(0); // so that there is something to flush
            return Ok(ShrinkProgress::AwaitFlush);
        }
        // Flushes give the space map's own pages new places: the old ones may be all that holds the end of the file.
        let held = self.pager.space.highest_busy().index() - self.pager.space.highest_used().index() > SLACK_PAGES;
        if self.pager.is_pinned() && (held || self.pager.space.pending_pages() > SLACK_PAGES) {
            return Ok(ShrinkProgress::Pinned);
        }
        if held {
            self.shrink_frees_at = Some(self.pager.txn().next());
            self.pager.space.touch_segment(0);
            return Ok(ShrinkProgress::AwaitFlush);
        }
        self.pager.space.close_window();
        self.shrink_frees_at = None;
        Ok(ShrinkProgress::Done)
    }

    /// Moves the last run of the file to a lower place, or clears one for it.
    fn move_last(&mut self, budget_pages: usize) -> Result<Attempt, TreeError> {
        let last = self.pager.space.highest_used();
        let first = self.pager.space.run_start(last);
        let pages = last.index() - first.index() + 1;
        if self.pager.space.window().is_some_and(|(_, window)| window != pages) {
            self.pager.space.close_window();
        }
        let held = self.pager.space.window().map_or(0, |(_, window)| window);
        if self.pager.space.free_below(first) + held <= SLACK_PAGES {
            return Ok(Attempt::Stuck);
        }
        if held == 0 && self.move_run(first, pages, first)? {
            return Ok(Attempt::Moved(pages));
        }
        if pages == 1 || (held == 0 && !self.pager.space.open_window(pages, first)) {
            return Ok(Attempt::Stuck);
        }
        let cleared = self.clear_window(first, budget_pages)?;
        if !self.pager.space.window_is_clear() {
            return Ok(cleared);
        }
        Ok(if self.move_run(first, pages, first)? { Attempt::Moved(pages) } else { Attempt::Stuck })
    }

    /// Moves runs out of the window, to places below `limit`.
    fn clear_window(&mut self, limit: PageId, budget_pages: usize) -> Result<Attempt, TreeError> {
        let (first, pages) = self.pager.space.window().expect("it was opened");
        let mut moved = 0;
        while moved < budget_pages {
            let run = self.pager.space.next_run(first.index());
            let Some((page, count)) = run.filter(|(page, _)| page.index() < first.index() + pages) else { break };
            if self.pager.space.free_below(limit) <= SLACK_PAGES || !self.move_run(page, count, limit)? {
                self.pager.space.close_window();
                return Ok(Attempt::Stuck);
            }
            moved += count;
        }
        Ok(if moved > 0 { Attempt::Moved(moved) } else { Attempt::Waiting })
    }

    /// Moves a run of the current state to a place below `limit`; false if there is none.
    fn move_run(&mut self, page: PageId, pages: usize, limit: PageId) -> Result<bool, TreeError> {
        let (kind, tree, level) = self.pager.describe_run(page, pages)?;
        if kind != PageKind::Space && self.roots.get(usize::from(tree)).is_none_or(|root| root.page.is_none()) {
            return Err(unreachable_page(page, tree));
        }
        match kind {
            PageKind::Leaf | PageKind::Branch => self.move_node(page, tree, level, limit),
            PageKind::Overflow => self.move_overflow(page, pages, tree, limit),
            PageKind::Space => self.move_segment(page, limit),
        }
    }

    fn move_segment(&mut self, page: PageId, limit: PageId) -> Result<bool, TreeError> {
        let segment = self.pager.space.segment_at(page).ok_or_else(|| unreachable_page(page, 0))?;
        self.pager.ensure_room_now(1)?;
        let to = self.pager.copy_run(page, 1)?;
        self.pager.space.place_segment(segment, to);
        Ok(to < limit)
    }

    fn move_node(&mut self, page: PageId, tree: u8, level: u8, limit: PageId) -> Result<bool, TreeError> {
        let key = self.pager.first_key(page, tree, level)?;
        let root = self.roots[usize::from(tree)];
        let position = self.pager.lookup(root, tree, &key)?.ok_or_else(|| unreachable_page(page, tree))?.position;
        self.pager.ensure_room_now(Self::pages_needed(root))?;
        let (path, leaf) = self.copy_path(tree, position)?;
        // From the root down, then the leaf: the node at `level` is now a copy, or was dirty and is where it was.
        let depth = usize::from(root.level.saturating_sub(level));
        let nodes: Vec<PageId> = path.branches().chain([leaf]).collect();
        if nodes[depth] != page {
            return if self.pager.space.is_used(page) { Err(unreachable_page(page, tree)) } else { Ok(true) };
        }
        let to = self.pager.copy_run(page, 1)?;
        match depth.checked_sub(1) {
            None => self.roots[usize::from(tree)].page = to,
            Some(above) => {
                let (branch, index) = path.step(above);
                self.pager.dirty_node(branch).set_child(index, to);
            }
        }
        Ok(to < limit)
    }

    fn move_overflow(&mut self, page: PageId, pages: usize, tree: u8, limit: PageId) -> Result<bool, TreeError> {
        let has_place = |space: &mut Space| space.find_run(pages).is_some_and(|to| to < limit);
        if !self.pager.space.window_is_clear() && !has_place(&mut self.pager.space) {
            return Ok(false);
        }
        let (key, value_bytes) = self.pager.overflow_owner(page, pages)?;
        let root = self.roots[usize::from(tree)];
        let reference = OverflowRef { page, value_bytes };
        let lookup = self.pager.lookup(root, tree, &key)?.ok_or_else(|| unreachable_page(page, tree))?;
        let index = lookup.found.map_err(|_| unreachable_page(page, tree))?;
        let position = lookup.position;
        if lookup.leaf.overflow(index) != Some(reference) {
            return Err(unreachable_page(page, tree));
        }
        self.pager.overflow(reference, tree, &key)?;
        self.pager.ensure_room_now(Self::pages_needed(root))?;
        let (_, leaf) = self.copy_path(tree, position)?;
        // Only now, so that copying the path takes no page of a window cleared for this run.
        if self.pager.space.window_is_clear() {
            self.pager.space.close_window();
        }
        if !has_place(&mut self.pager.space) {
            return Ok(false);
        }
        let to = self.pager.copy_run(page, pages)?;
        let replaced =
            self.pager.dirty_node(leaf).overwrite(index, Value::Overflow(OverflowRef { page: to, value_bytes }));
        assert!(replaced, "a reference replaces a reference");
        Ok(true)
    }
}

impl<S: PageStore> Pager<S> {
    /// The lowest key below a node.
    fn first_key(&self, page: PageId, tree: u8, level: u8) -> Result<Vec<u8>, TreeError> {
        let mut node = self.node(page, tree, level)?;
        for level in (1..=level).rev() {
            node = self.child(node, 0, tree, level)?;
        }
        if node.len() == 0 {
            return Err(unreachable_page(page, tree));
        }
        Ok(node.key(0).to_vec())
    }

    /// Key and value length of an overflow run.
    fn overflow_owner(&self, page: PageId, pages: usize) -> Result<(Vec<u8>, u32), TreeError> {
        let bytes = self.run_bytes(page, pages)?;
        let run = OverflowRun::new(bytes);
        match run.key(bytes) {
            Some(key) if run.pages() == pages => Ok((key.to_vec(), run.value_bytes() as u32)),
            _ => Err(unreachable_page(page, bytes[5])),
        }
    }
}

fn unreachable_page(page: PageId, tree: u8) -> TreeError {
    let detail = "in use by the space map, but its tree does not lead to it".to_owned();
    TreeError::Corrupt { page: page.get(), tree, detail }
}
