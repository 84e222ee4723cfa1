//! A stretch of pages that is being cleared for a long run.
//!
//! When the last run of the file finds no hole below that is long enough, a window of its length is chosen, the runs
//! in it are moved elsewhere, and what is or becomes free in it is held: busy, though nobody uses it. When all of it
//! is held, it is let go and taken by the run in one go. There is one window at a time.

use super::{Space, bit, clear_bits, set_bits};
use crate::pagefile::format::PageId;

/// A window and which of its pages are held.
pub(super) struct Window {
    first: usize,
    held: Vec<bool>,
    held_pages: usize,
}

/// Positions a search for a window looks at, so that it takes no more than some 100 microseconds.
const SEARCH_PAGES: usize = 1 << 16;

impl Space {
    /// Pages that are held.
    pub(super) fn held_pages(&self) -> usize {
        self.window.as_ref().map_or(0, |window| window.held_pages)
    }

    /// Holds those of these free pages that are in the window.
    pub(super) fn hold(&mut self, first: usize, count: usize) {
        let Some(window) = &mut self.window else { return };
        for page in first.max(window.first)..(first + count).min(window.first + window.held.len()) {
            assert!(!bit(&self.busy, page), "what is held back is free");
            window.held[page - window.first] = true;
            window.held_pages += 1;
            set_bits(&mut self.busy, page, 1);
            self.busy_pages += 1;
        }
    }

    /// First page and length of the window.
    pub fn window(&self) -> Option<(PageId, usize)> {
        self.window.as_ref().map(|window| (PageId::new(window.first), window.held.len()))
    }

    /// Whether the whole window is held.
    pub fn window_is_clear(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.held_pages == window.held.len())
    }

    /// Chooses the window of `count` pages below `below` that is cheapest to clear; false if none is worth it. A
    /// window cuts no run in two, holds shorter runs only, and at most half of it is in use.
    pub fn open_window(&mut self, count: usize, below: PageId) -> bool {
        assert!(self.window.is_none(), "one window at a time");
        let start = (self.hint * 64).saturating_sub(count).max(PageId::FIRST.index());
        let end = below.index().min(start.saturating_add(SEARCH_PAGES));
        let cuts_run = |page: usize| page < self.pages && bit(&self.interior, page);
        let used = |page: usize| usize::from(bit(&self.used, page));
        let mut used_pages: usize = (start..(start + count).min(end)).map(used).sum();
        let mut best: Option<(usize, usize)> = None;
        for first in start..end.saturating_sub(count) {
            let better = used_pages <= count / 2 && best.is_none_or(|(least, _)| used_pages < least);
            if better && !cuts_run(first) && !cuts_run(first + count) {
                best = Some((used_pages, first));
            }
            used_pages = used_pages + used(first + count) - used(first);
        }
        let Some((_, first)) = best else { return false };
        self.window = Some(Window { first, held: vec![false; count], held_pages: 0 });
        let free: Vec<usize> = (first..first + count).filter(|&page| !bit(&self.busy, page)).collect();
        for page in free {
            self.hold(page, 1);
        }
        true
    }

    /// Lets go of the window: what is held can be allocated.
    pub fn close_window(&mut self) {
        let Some(window) = self.window.take() else { return };
        for (offset, _) in window.held.iter().enumerate().filter(|(_, held)| **held) {
            clear_bits(&mut self.busy, window.first + offset, 1);
        }
        self.busy_pages -= window.held_pages;
        self.hint = self.hint.min(window.first / 64);
        self.no_run = (usize::MAX, 0);
    }
}
