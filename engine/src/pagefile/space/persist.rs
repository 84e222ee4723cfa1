//! The space map on the disk: loading it at open, writing changed segments with a flush.

use super::{Space, set_bits};
use crate::pagefile::format::{HEADER_BYTES, PAGE_SIZE, PageId, SEGMENT_PAGES, SEGMENT_WORDS, TxnId, get_u64, put_u64};

/// One page of the persisted map.
#[derive(Clone, Copy, Default)]
pub(super) struct Segment {
    pub page: PageId,
    pub dirty: bool,
}

/// Used and interior bits of 64 pages of a segment.
pub(in crate::pagefile) fn segment_words(segment: &[u8], word: usize) -> (u64, u64) {
    assert!(word < SEGMENT_WORDS, "a segment ends with its last word");
    (get_u64(segment, HEADER_BYTES + word * 8), get_u64(segment, HEADER_BYTES + (SEGMENT_WORDS + word) * 8))
}

impl Space {
    /// Takes over segment `index` of the state a file was opened at, which uses no page at or above `limit`.
    pub fn load(&mut self, index: usize, page: PageId, bytes: &[u8], limit: usize) -> Result<(), &'static str> {
        assert!(limit <= self.pages, "a state uses pages of its file");
        for word in 0..SEGMENT_WORDS {
            let (used, interior) = segment_words(bytes, word);
            if used == 0 && interior == 0 {
                continue;
            }
            if interior & !used != 0 {
                return Err("space map marks the inside of an unused run");
            }
            let at = index * SEGMENT_WORDS + word;
            if at * 64 + 63 - used.leading_zeros() as usize >= limit {
                return Err("space map marks pages beyond the state");
            }
            self.used_pages += (used & !self.used[at]).count_ones() as usize;
            self.busy_pages += (used & !self.busy[at]).count_ones() as usize;
            self.used[at] |= used;
            self.busy[at] |= used;
            self.interior[at] |= interior;
        }
        self.segments[index].page = page;
        Ok(())
    }

    /// After loading: nothing has to be persisted that has not been.
    pub fn loaded(&mut self) {
        for segment in &mut self.segments {
            segment.dirty = false;
        }
    }

    /// Keeps pages busy that the state before the opened one uses: the other meta page reaches them.
    /// `txn` is the opened state. Bits beyond the file are ignored.
    pub fn keep_previous(&mut self, txn: TxnId, index: usize, bytes: &[u8]) {
        for word in 0..SEGMENT_WORDS {
            let (used, _) = segment_words(bytes, word);
            let at = index * SEGMENT_WORDS + word;
            let Some(&busy) = self.busy.get(at) else { return };
            let mut only_before = used & !busy;
            while only_before != 0 {
                let page = at * 64 + only_before.trailing_zeros() as usize;
                only_before &= only_before - 1;
                if page < self.pages {
                    set_bits(&mut self.busy, page, 1);
                    self.busy_pages += 1;
                    self.push_pending(txn, PageId::new(page), 1);
                }
            }
        }
    }

    /// Pages that hold the persisted map, by segment, up to the one that describes the last page in use.
    pub fn segment_pages(&self) -> Vec<PageId> {
        let count = (self.highest_used().index() + 1).div_ceil(SEGMENT_PAGES);
        self.segments[..count].iter().map(|segment| segment.page).collect()
    }

    /// Segments of the map. A flush writes each at most once.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Whether a flush would write any segment.
    pub fn is_dirty(&self) -> bool {
        self.segments.iter().any(|segment| segment.dirty)
    }

    /// A changed segment that needs another page than it has: one not in `placed` that holds anything or has a page.
    pub fn segment_to_place(&self, placed: &[usize]) -> Option<(usize, PageId)> {
        let mut indices = 0..self.segments.len();
        let found = indices.find(|&index| {
            let segment = self.segments[index];
            segment.dirty && !placed.contains(&index) && !(segment.page.is_none() && self.segment_is_empty(index))
        })?;
        Some((found, self.segments[found].page))
    }

    /// Whether the segment has no page in use.
    pub fn segment_is_empty(&self, index: usize) -> bool {
        let first = index * SEGMENT_WORDS;
        let end = (first + SEGMENT_WORDS).min(self.used.len());
        self.used[first.min(end)..end].iter().all(|&word| word == 0)
    }

    /// Segment `index` now lives in `page`.
    pub fn place_segment(&mut self, index: usize, page: PageId) {
        self.segments[index].page = page;
    }

    /// The page of segment `index`.
    pub fn place_of(&self, index: usize) -> PageId {
        self.segments[index].page
    }

    /// Segments with nothing in use need no page: having none says it all.
    pub fn clean_empty_segments(&mut self) {
        for segment in &mut self.segments {
            if segment.page.is_none() {
                segment.dirty = false;
            }
        }
    }

    /// The segment whose page is `page`.
    pub fn segment_at(&self, page: PageId) -> Option<usize> {
        self.segments.iter().position(|segment| segment.page == page)
    }

    /// Has the next flush write segment `index` again.
    pub fn touch_segment(&mut self, index: usize) {
        self.segments[index].dirty = true;
    }

    /// Writes the bits of a segment behind the header of its page, and takes it as clean.
    pub fn write_segment(&mut self, index: usize, page: &mut [u8]) {
        assert_eq!(page.len(), PAGE_SIZE, "a segment is one page");
        let first = index * SEGMENT_WORDS;
        for word in 0..SEGMENT_WORDS {
            let used = self.used.get(first + word).copied().unwrap_or(0);
            let interior = self.interior.get(first + word).copied().unwrap_or(0);
            put_u64(page, HEADER_BYTES + word * 8, used);
            put_u64(page, HEADER_BYTES + (SEGMENT_WORDS + word) * 8, interior);
        }
        self.segments[index].dirty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one map writes another one loads, over several segments.
    #[test]
    fn segments_round_trip() {
        let pages = 2 * SEGMENT_PAGES + 200;
        let mut space = Space::new(pages);
        let runs: Vec<_> = [SEGMENT_PAGES - 50, 100, SEGMENT_PAGES - 10, 60]
            .map(|count| (space.allocate_run(count).expect("there is room"), count))
            .to_vec();
        space.free_later(TxnId(1), runs[0].0, runs[0].1);
        let mut loaded = Space::new(pages);
        for index in 0..space.segments() {
            let mut bytes = vec![0; PAGE_SIZE];
            space.write_segment(index, &mut bytes);
            loaded.load(index, PageId::new(7 + index), &bytes, pages).expect("what was written is valid");
        }
        assert_eq!(loaded.used_pages(), space.used_pages());
        assert_eq!(loaded.next_run(2), Some(runs[1]));
        assert_eq!(loaded.next_run(runs[1].0.index() + runs[1].1), Some(runs[2]));
        assert_eq!(loaded.highest_used(), space.highest_used());
        assert_eq!(loaded.pending_pages(), 0);
        assert_eq!(loaded.place_of(2), PageId::new(9));
        assert_eq!(loaded.segment_at(PageId::new(8)), Some(1));
        let mut bytes = vec![0; PAGE_SIZE];
        space.write_segment(2, &mut bytes);
        assert!(loaded.load(2, PageId::new(9), &bytes, 2 * SEGMENT_PAGES).is_err(), "beyond the limit");
    }
}
