//! The space map: which pages are in use, which may be written, and when a freed page may be written again.
//!
//! Three bits per page, in memory:
//! - `used`: reachable from the current state. Persisted with each flush.
//! - `interior`: inside a run but not its first page. Persisted with each flush.
//! - `busy`: not to be allocated: used, or freed but still reachable from a meta page or a pinned reader.
//!
//! A page freed in transaction `t` is reachable from states before `t`. It stays busy until transaction `t + 1` is
//! durable (then both meta pages hold states from `t` on) and no reader pins a state before `t`.
//!
//! **Crash safety.** The map is not a log and needs no repair: segment pages are copied on write like all others and
//! hang off the meta page, so that a meta page brings exactly the map of its own state. A page that the last durable
//! state or the one before does not use is not reachable from any meta page, so writing it cannot hurt a recovery,
//! however torn or reordered the writes are.
//!
//! Allocation is lowest-first: the end of the file drains by itself, and pages written together lie together.
//!
//! Not here: contents of pages, growing of the file (`pager`).

mod persist;
mod window;

use std::collections::VecDeque;

use super::format::{PageId, SEGMENT_PAGES, TxnId};
use persist::Segment;
pub(in crate::pagefile) use persist::segment_words;
use window::Window;

/// Pages that became free in one transaction.
struct Pending {
    txn: TxnId,
    runs: Vec<(PageId, u32)>,
}

pub(in crate::pagefile) struct Space {
    used: Vec<u64>,
    interior: Vec<u64>,
    busy: Vec<u64>,
    /// Pages of the file; no bit at or above is set.
    pages: usize,
    used_pages: usize,
    busy_pages: usize,
    /// All pages in words below are busy.
    hint: usize,
    /// No run of `.0` pages or more begins below page `.1`, as far as the last search saw.
    no_run: (usize, usize),
    segments: Vec<Segment>,
    pending: VecDeque<Pending>,
    window: Option<Window>,
}

fn bit(words: &[u64], index: usize) -> bool {
    words[index / 64] & (1 << (index % 64)) != 0
}

fn set_bits(words: &mut [u64], first: usize, count: usize) {
    for index in first..first + count {
        words[index / 64] |= 1 << (index % 64);
    }
}

fn clear_bits(words: &mut [u64], first: usize, count: usize) {
    for index in first..first + count {
        words[index / 64] &= !(1 << (index % 64));
    }
}

impl Space {
    /// A file of `pages` pages with nothing in use but the meta pages.
    pub fn new(pages: usize) -> Space {
        let mut space = Space {
            used: Vec::new(),
            interior: Vec::new(),
            busy: Vec::new(),
            pages: 0,
            used_pages: 0,
            busy_pages: 0,
            hint: 0,
            no_run: (usize::MAX, 0),
            segments: Vec::new(),
            pending: VecDeque::new(),
            window: None,
        };
        assert!(pages >= PageId::FIRST.index(), "a file has its meta pages");
        space.set_pages(pages);
        space.mark_used(PageId(0), 1);
        space.mark_used(PageId(1), 1);
        space
    }

    /// Pages of the file.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Pages reachable from the current state, the meta pages included.
    pub fn used_pages(&self) -> usize {
        self.used_pages
    }

    /// Pages that can be allocated without growing the file.
    pub fn free_pages(&self) -> usize {
        self.pages - self.busy_pages
    }

    /// Pages that are free but may not be written yet.
    pub fn pending_pages(&self) -> usize {
        self.busy_pages - self.used_pages - self.held_pages()
    }

    pub fn is_used(&self, page: PageId) -> bool {
        page.index() < self.pages && bit(&self.used, page.index())
    }

    pub fn is_busy(&self, page: PageId) -> bool {
        bit(&self.busy, page.index())
    }

    /// The highest page in use.
    pub fn highest_used(&self) -> PageId {
        highest(&self.used).expect("the meta pages are in use")
    }

    /// The highest page that must stay in the file.
    pub fn highest_busy(&self) -> PageId {
        highest(&self.busy).expect("the meta pages are in use")
    }

    /// Follows a change of the file's size. Pages that go must not be busy.
    pub fn set_pages(&mut self, pages: usize) {
        assert!(
            self.busy.is_empty() || self.highest_busy().index() < pages,
            "pages that go from the file are not needed"
        );
        let words = pages.div_ceil(64);
        for bits in [&mut self.used, &mut self.interior, &mut self.busy] {
            bits.resize(words, 0);
        }
        self.segments.resize(pages.div_ceil(SEGMENT_PAGES).max(self.segments.len()), Segment::default());
        self.hint = self.hint.min(words);
        self.no_run = (usize::MAX, 0);
        self.pages = pages;
    }

    /// The lowest page that can be allocated.
    pub fn lowest_free(&self) -> Option<PageId> {
        let found = (self.hint..self.busy.len()).find(|&word| self.busy[word] != u64::MAX)?;
        let index = found * 64 + self.busy[found].trailing_ones() as usize;
        (index < self.pages).then(|| PageId::new(index))
    }

    /// Takes the lowest free page.
    pub fn allocate(&mut self) -> Option<PageId> {
        let page = self.lowest_free()?;
        self.hint = page.index() / 64;
        self.take(page, 1);
        Some(page)
    }

    /// Takes the lowest free run.
    pub fn allocate_run(&mut self, count: usize) -> Option<PageId> {
        if count == 1 {
            return self.allocate();
        }
        let first = self.find_run(count)?;
        self.take(first, count);
        Some(first)
    }

    /// The lowest run of free pages, not taken yet. Remembers where it found none, so that a run of searches in a
    /// fragmented file does not pass over the same pages again and again.
    pub fn find_run(&mut self, count: usize) -> Option<PageId> {
        assert!(count > 0, "a run has pages");
        let floor = if count >= self.no_run.0 { self.no_run.1 } else { 0 };
        let found = self.search_run(count, floor.max(self.hint * 64));
        let searched_to = found.map_or(self.pages.saturating_sub(count), PageId::index);
        self.no_run = (count, searched_to);
        found
    }

    fn search_run(&self, count: usize, from: usize) -> Option<PageId> {
        let mut index = from;
        let mut length = 0;
        while index < self.pages {
            let word = self.busy[index / 64];
            if index.is_multiple_of(64) && (word == 0 || word == u64::MAX) {
                length = if word == 0 { length + 64.min(self.pages - index) } else { 0 };
                index += 64;
            } else {
                length = if bit(&self.busy, index) { 0 } else { length + 1 };
                index += 1;
            }
            if length >= count {
                return Some(PageId::new(index.min(self.pages) - length));
            }
        }
        None
    }

    /// Pages below `page` that can be allocated.
    pub fn free_below(&self, page: PageId) -> usize {
        let words = page.index() / 64;
        let whole: u32 = self.busy[..words].iter().map(|word| word.count_zeros()).sum();
        let rest = (!self.busy[words] & !(u64::MAX << (page.index() % 64))).count_ones();
        (whole + rest) as usize
    }

    /// Free pages at the end of the file.
    pub fn free_tail(&self) -> usize {
        self.pages - 1 - self.highest_busy().index()
    }

    /// Takes a free run.
    fn take(&mut self, first: PageId, count: usize) {
        assert!(
            (first.index()..first.index() + count).all(|index| !bit(&self.busy, index)),
            "what is taken is free, or two own it"
        );
        self.mark_used(first, count);
    }

    fn mark_used(&mut self, first: PageId, count: usize) {
        set_bits(&mut self.used, first.index(), count);
        set_bits(&mut self.busy, first.index(), count);
        set_bits(&mut self.interior, first.index() + 1, count - 1);
        self.used_pages += count;
        self.busy_pages += count;
        self.touch_segments(first, count);
    }

    fn touch_segments(&mut self, first: PageId, count: usize) {
        for segment in first.index() / SEGMENT_PAGES..=(first.index() + count - 1) / SEGMENT_PAGES {
            self.segments[segment].dirty = true;
        }
    }

    fn mark_unused(&mut self, first: PageId, count: usize) {
        assert!(
            bit(&self.used, first.index()) && !bit(&self.interior, first.index()),
            "a run in use is let go of from its first page"
        );
        clear_bits(&mut self.used, first.index(), count);
        clear_bits(&mut self.interior, first.index() + 1, count - 1);
        self.used_pages = self.used_pages.checked_sub(count).expect("pages that go out of use were counted");
        self.touch_segments(first, count);
    }

    fn mark_free(&mut self, first: PageId, count: usize) {
        assert!(!bit(&self.used, first.index()), "a page in use cannot be written over");
        assert!(bit(&self.busy, first.index()), "a page becomes free once, or two own it");
        clear_bits(&mut self.busy, first.index(), count);
        self.busy_pages = self.busy_pages.checked_sub(count).expect("pages that become free were counted");
        self.hold(first.index(), count);
        self.hint = self.hint.min(first.index() / 64);
        self.no_run = (usize::MAX, 0);
    }

    /// Frees a run that no flushed state has ever used: it can be allocated at once.
    pub fn free_now(&mut self, first: PageId, count: usize) {
        self.mark_unused(first, count);
        self.mark_free(first, count);
    }

    /// Frees a run in transaction `txn`: it can be allocated once states before `txn` are gone.
    pub fn free_later(&mut self, txn: TxnId, first: PageId, count: usize) {
        self.mark_unused(first, count);
        self.push_pending(txn, first, count);
    }

    fn push_pending(&mut self, txn: TxnId, first: PageId, count: usize) {
        assert!(self.pending.back().is_none_or(|last| last.txn <= txn), "transactions follow each other");
        if self.pending.back().is_none_or(|last| last.txn < txn) {
            self.pending.push_back(Pending { txn, runs: Vec::new() });
        }
        let last = self.pending.back_mut().expect("just pushed");
        last.runs.push((first, count as u32));
    }

    /// Makes pages freed in `txn` or before allocatable, calling `freed` for each run.
    pub fn release(&mut self, txn: TxnId, mut freed: impl FnMut(PageId, usize)) {
        while self.pending.front().is_some_and(|first| first.txn <= txn) {
            let pending = self.pending.pop_front().expect("there is a first");
            for (first, count) in pending.runs {
                self.mark_free(first, count as usize);
                freed(first, count as usize);
            }
        }
    }

    /// The first run in use at or behind page `from`, and its pages.
    pub fn next_run(&self, from: usize) -> Option<(PageId, usize)> {
        next_run(&self.used, &self.interior, from)
    }

    /// First page of the run in use that `page` is part of.
    pub fn run_start(&self, page: PageId) -> PageId {
        assert!(self.is_used(page), "only what is in use is part of a run");
        let inside = (0..=page.index()).rev().take_while(|&index| bit(&self.interior, index)).count();
        PageId::new(page.index() - inside)
    }

    /// First pages of pending runs, for the structural check.
    pub fn pending_runs(&self) -> impl Iterator<Item = (PageId, usize)> + '_ {
        self.pending.iter().flat_map(|pending| pending.runs.iter().map(|&(first, count)| (first, count as usize)))
    }
}

fn highest(words: &[u64]) -> Option<PageId> {
    let at = words.iter().rposition(|&word| word != 0)?;
    Some(PageId::new(at * 64 + 63 - words[at].leading_zeros() as usize))
}

/// The first run at or behind page `from` in a map, and its pages.
pub(in crate::pagefile) fn next_run(used: &[u64], interior: &[u64], from: usize) -> Option<(PageId, usize)> {
    let heads = |word: usize| used[word] & !interior[word];
    let mut word = from / 64;
    if word >= used.len() {
        return None;
    }
    let mut rest = heads(word) & (u64::MAX << (from % 64));
    while rest == 0 {
        word += 1;
        if word >= used.len() {
            return None;
        }
        rest = heads(word);
    }
    let first = word * 64 + rest.trailing_zeros() as usize;
    let inside = (first + 1..used.len() * 64).take_while(|&index| bit(interior, index)).count();
    Some((PageId::new(first), 1 + inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lowest_run(busy: &[bool], count: usize) -> Option<usize> {
        (0..=busy.len().checked_sub(count)?).find(|&at| busy[at..at + count].iter().all(|&busy| !busy))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Allocation is lowest-first and never hands out what is busy; freed pages come back when released.
        #[test]
        fn allocates_the_lowest_fit(ops in prop::collection::vec((0u8..8, 1usize..80, any::<usize>()), 1..300)) {
            let mut space = Space::new(1000);
            let mut busy = vec![false; 1000];
            busy[..2].fill(true);
            let (mut runs, mut pending) = (Vec::<(PageId, usize)>::new(), Vec::new());
            let mut txn = TxnId(1);
            for (op, count, pick) in ops {
                match op {
                    0..=3 => {
                        let count = if op == 0 { 1 } else { count };
                        let expected = lowest_run(&busy, count);
                        let found = space.allocate_run(count);
                        prop_assert_eq!(found.map(PageId::index), expected);
                        if let Some(page) = found {
                            busy[page.index()..page.index() + count].fill(true);
                            runs.push((page, count));
                        }
                    }
                    4 | 5 if !runs.is_empty() => {
                        let (page, count) = runs.swap_remove(pick % runs.len());
                        if op == 4 {
                            space.free_now(page, count);
                            busy[page.index()..page.index() + count].fill(false);
                        } else {
                            space.free_later(txn, page, count);
                            pending.push((txn, page, count));
                        }
                    }
                    6 => txn = txn.next(),
                    7 => {
                        let upto = TxnId(txn.get().saturating_sub(pick as u64 % 3));
                        space.release(upto, |page, count| busy[page.index()..page.index() + count].fill(false));
                        pending.retain(|&(freed, _, _)| freed > upto);
                        for &(_, page, count) in &pending {
                            prop_assert!(busy[page.index()..page.index() + count].iter().all(|&busy| busy));
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(space.free_pages(), busy.iter().filter(|&&busy| !busy).count());
                prop_assert_eq!(space.used_pages(), 2 + runs.iter().map(|&(_, count)| count).sum::<usize>());
                let below = PageId::new(pick % 1000);
                prop_assert_eq!(space.free_below(below), busy[..below.index()].iter().filter(|&&busy| !busy).count());
            }
            runs.extend([(PageId(0), 1), (PageId(1), 1)]);
            runs.sort_unstable();
            let mut from = 0;
            for &(page, count) in &runs {
                prop_assert_eq!(space.next_run(from), Some((page, count)));
                prop_assert_eq!(space.run_start(PageId::new(page.index() + count - 1)), page);
                from = page.index() + count;
            }
            prop_assert_eq!(space.next_run(from), None);
        }
    }
}
