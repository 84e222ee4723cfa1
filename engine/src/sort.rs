//! Sorting what is too much for one step: pairs of a range, keys of a lease.
//!
//! [`MergeSort`] can stop after any comparison. [`Ranking`] uses it to sort pairs by a number, or by their values without
//! reading each value more than a few times: what all values begin with is found in one pass, the eight bytes after that
//! make a number for each, and only rows with equal numbers are looked at again, behind these eight bytes.

use std::cmp::Ordering;
use std::ops::Range;

use crate::budget::Budget;
use crate::error::StoreError;
use crate::revision::Revision;

/// Comparisons of numbers that cost as much as looking at a key.
const COMPARISONS_PER_VISIT: usize = 8;

/// A stable sort, bottom up, of a part of a row.
#[derive(Debug)]
pub(crate) struct MergeSort<T> {
    /// Length of the sorted rows that are merged in pairs.
    width: usize,
    /// Where the pair begins, and what is next of its two rows.
    pair: usize,
    left: usize,
    right: usize,
    /// How much of the merged pair is back in its place; `None` while it is being merged.
    restored: Option<usize>,
    merged: Vec<T>,
}

impl<T: Copy> MergeSort<T> {
    /// Sorts a row of `len`, which does not change until it is sorted.
    pub(crate) fn new(len: usize) -> Self {
        let mut sort = Self { width: 1, pair: 0, left: 0, right: 0, restored: None, merged: Vec::with_capacity(len) };
        sort.begin_pair(0, len);
        sort
    }

    fn begin_pair(&mut self, pair: usize, len: usize) {
        (self.pair, self.left, self.right) = (pair, pair, (pair + self.width).min(len));
        self.merged.clear();
    }

    /// Goes on; true once the row is sorted. Takes comparisons, and moves back, off `moves`.
    pub(crate) fn step(&mut self, row: &mut [T], moves: &mut usize, compare: impl Fn(&T, &T) -> Ordering) -> bool {
        while self.width < row.len() {
            let middle = (self.pair + self.width).min(row.len());
            let end = (self.pair + 2 * self.width).min(row.len());
            let Some(restored) = &mut self.restored else {
                while self.left < middle || self.right < end {
                    if *moves == 0 {
                        return false;
                    }
                    *moves -= 1;
                    let takes_left =
                        self.right >= end || (self.left < middle && compare(&row[self.left], &row[self.right]).is_le());
                    let next = if takes_left { &mut self.left } else { &mut self.right };
                    self.merged.push(row[*next]);
                    *next += 1;
                }
                self.restored = Some(0);
                continue;
            };
            let count = (self.merged.len() - *restored).min(*moves);
            let (from, to) = (*restored, self.pair + *restored);
            row[to..to + count].copy_from_slice(&self.merged[from..from + count]);
            *restored += count;
            *moves -= count;
            if *restored < self.merged.len() {
                return false;
            }
            assert!(self.pair + self.merged.len() == end, "nothing is lost in a merge");
            self.restored = None;
            if end < row.len() {
                self.begin_pair(end, row.len());
            } else {
                self.width *= 2;
                self.begin_pair(0, row.len());
            }
        }
        true
    }
}

/// A pair to be sorted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    /// What to sort by: a number, or eight bytes of the value as one.
    pub(crate) rank: u64,
    /// Bytes of the value from these eight on, [`RANK_BYTES`] + 1 for more than that; 0 if it is a number.
    rest: u8,
    pub(crate) revision: Revision,
}

const RANK_BYTES: usize = size_of::<u64>();

impl Ranked {
    pub(crate) fn new(rank: u64, revision: Revision) -> Self {
        Self { rank, rest: 0, revision }
    }

    /// Values that end within the eight bytes come before those that only have zeros there.
    fn compare(&self, other: &Self) -> Ordering {
        (self.rank, self.rest).cmp(&(other.rank, other.rest))
    }

    fn set_rank(&mut self, rest: &[u8]) {
        (self.rank, self.rest) = (leading_number(rest), rest.len().min(RANK_BYTES + 1) as u8);
    }
}

/// The first eight bytes as a number that sorts as they do.
fn leading_number(value: &[u8]) -> u64 {
    let mut bytes = [0; RANK_BYTES];
    let len = value.len().min(RANK_BYTES);
    bytes[..len].copy_from_slice(&value[..len]);
    u64::from_be_bytes(bytes)
}

/// A row of pairs that agree in the first `depth` bytes of their values.
#[derive(Debug)]
struct Row {
    start: usize,
    end: usize,
    depth: usize,
}

/// What is being done to the row at the top.
#[derive(Debug)]
enum Phase {
    /// Finding what else the values have in common: the first value, how much of it, and the next pair.
    Common(Option<(Vec<u8>, usize)>, usize),
    /// Making numbers of what comes after so many bytes.
    Rank(usize, usize),
    Sort(usize, MergeSort<Ranked>),
    /// Looking for rows of equal numbers: where the present one begins, the next pair, and those found.
    Split(usize, usize, usize, Vec<Row>),
}

/// Pairs being sorted.
#[derive(Debug)]
pub(crate) struct Ranking {
    pairs: Vec<Ranked>,
    is_descending: bool,
    by_value: bool,
    /// Pairs that are wanted: what comes after them need not be in order.
    limit: usize,
    rows: Vec<Row>,
    phase: Option<Phase>,
}

impl Ranking {
    /// Sorts pairs, which are in key order; equal ones stay in it.
    pub(crate) fn new(pairs: Vec<Ranked>, is_descending: bool, by_value: bool, limit: usize) -> Self {
        let rows = vec![Row { start: 0, end: pairs.len(), depth: 0 }];
        Self { pairs, is_descending, by_value, limit, rows, phase: None }
    }

    /// Goes on; true once all is sorted. `value` reads a pair's value.
    pub(crate) fn step<'v>(
        &mut self,
        budget: &mut Budget,
        value: impl Fn(Revision) -> Result<&'v [u8], StoreError>,
    ) -> Result<bool, StoreError> {
        while let Some(row) = self.rows.last() {
            if budget.is_spent() {
                return Ok(false);
            }
            let (start, end, depth) = (row.start, row.end, row.depth);
            let phase = self.phase.take().unwrap_or_else(|| match self.by_value {
                true => Phase::Common(None, start),
                false => Phase::Sort(depth, MergeSort::new(end - start)),
            });
            let row = &mut self.pairs[start..end];
            self.phase = match phase {
                Phase::Common(mut first, next) => {
                    let next = common_prefix(row, depth, &mut first, next - start, budget, &value)?;
                    let common = first.as_ref().map_or(0, |(_, common)| *common);
                    match next == row.len() || common == 0 {
                        true => Some(Phase::Rank(depth + common, start)),
                        false => Some(Phase::Common(first, start + next)),
                    }
                }
                Phase::Rank(depth, next) => {
                    let next = start + rank_some(&mut row[next - start..], depth, budget, &value)? + (next - start);
                    match next == end {
                        true => Some(Phase::Sort(depth, MergeSort::new(end - start))),
                        false => Some(Phase::Rank(depth, next)),
                    }
                }
                Phase::Sort(depth, mut sort) => {
                    let is_descending = self.is_descending;
                    let compare = |a: &Ranked, b: &Ranked| match is_descending {
                        true => b.compare(a),
                        false => a.compare(b),
                    };
                    match sort_some(&mut sort, row, budget, compare) {
                        true => Some(Phase::Split(depth, start, start, Vec::new())),
                        false => Some(Phase::Sort(depth, sort)),
                    }
                }
                Phase::Split(depth, first, next, found) => self.split(depth, first, next..end, found, budget),
            };
        }
        Ok(true)
    }

    /// Looks for rows of equal numbers in the row at the top, which they replace.
    fn split(
        &mut self,
        depth: usize,
        mut first: usize,
        rest: Range<usize>,
        mut found: Vec<Row>,
        budget: &mut Budget,
    ) -> Option<Phase> {
        let pause = rest.end.min(rest.start.saturating_add(budget.visits.saturating_mul(COMPARISONS_PER_VISIT)));
        let has_more = |pair: &Ranked| usize::from(pair.rest) > RANK_BYTES;
        for next in rest.start..=pause {
            if next < rest.end && self.pairs[next].compare(&self.pairs[first]).is_eq() {
                continue;
            }
            if next - first > 1 && first < self.limit && has_more(&self.pairs[first]) {
                found.push(Row { start: first, end: next, depth: depth + RANK_BYTES });
            }
            first = next;
        }
        budget.visits -= (pause - rest.start).div_ceil(COMPARISONS_PER_VISIT).min(budget.visits);
        if pause < rest.end && first < self.limit {
            return Some(Phase::Split(depth, first, pause + 1, found));
        }
        self.rows.pop();
        self.rows.append(&mut found);
        None
    }

    /// The pairs in order, up to the limit.
    pub(crate) fn into_sorted(mut self) -> Vec<Ranked> {
        assert!(self.rows.is_empty(), "all rows are sorted");
        self.pairs.truncate(self.limit);
        self.pairs
    }
}

/// Goes on with finding what values have in common behind `depth` bytes; the next pair.
fn common_prefix<'v>(
    row: &[Ranked],
    depth: usize,
    first: &mut Option<(Vec<u8>, usize)>,
    mut next: usize,
    budget: &mut Budget,
    value: &impl Fn(Revision) -> Result<&'v [u8], StoreError>,
) -> Result<usize, StoreError> {
    while next < row.len() && !budget.is_spent() {
        let rest = &value(row[next].revision)?[depth..];
        budget.read();
        let (first, common) = first.get_or_insert_with(|| (rest.to_vec(), rest.len()));
        *common = first[..*common].iter().zip(rest).take_while(|(a, b)| a == b).count();
        next += 1;
        if *common == 0 {
            break;
        }
    }
    Ok(next)
}

/// Makes numbers of the values behind `depth` bytes; for how many.
fn rank_some<'v>(
    row: &mut [Ranked],
    depth: usize,
    budget: &mut Budget,
    value: &impl Fn(Revision) -> Result<&'v [u8], StoreError>,
) -> Result<usize, StoreError> {
    for (done, pair) in row.iter_mut().enumerate() {
        if budget.is_spent() {
            return Ok(done);
        }
        budget.read();
        pair.set_rank(&value(pair.revision)?[depth..]);
    }
    Ok(row.len())
}

/// Goes on with a sort whose comparisons are cheap.
pub(crate) fn sort_some<T: Copy>(
    sort: &mut MergeSort<T>,
    row: &mut [T],
    budget: &mut Budget,
    compare: impl Fn(&T, &T) -> Ordering,
) -> bool {
    let all = budget.visits.saturating_mul(COMPARISONS_PER_VISIT);
    let mut moves = all;
    let is_sorted = sort.step(row, &mut moves, compare);
    budget.visits -= (all - moves).div_ceil(COMPARISONS_PER_VISIT).min(budget.visits);
    is_sorted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Vec<u8>> {
        let word = prop::collection::vec(0..3u8, 0..12);
        let long = prop::collection::vec(prop::sample::select(vec!["same bytes ", "other bytes"]), 0..4);
        (long, word).prop_map(|(long, word)| [long.concat().as_bytes(), &word].concat())
    }

    proptest! {
        /// In steps of any size, ascending or not, with a limit or not: what sorting the values themselves gives.
        #[test]
        fn agrees_with_a_stable_sort(
            values in prop::collection::vec(value(), 0..80),
            is_descending: bool,
            limit in prop_oneof![Just(usize::MAX), 0..10usize],
            pairs in 1..50usize,
            visits in 1..20usize,
        ) {
            let read = |revision: Revision| Ok(&values[revision.main as usize][..]);
            let row = |i: usize| Ranked::new(0, Revision::new(i as i64, 0));
            let mut ranking = Ranking::new((0..values.len()).map(row).collect(), is_descending, true, limit);
            let mut steps = 0;
            while !ranking.step(&mut Budget { pairs, bytes: 1, visits }, read).expect("memory does not break") {
                steps += 1;
                prop_assert!(steps < 100_000, "it comes to an end");
            }
            let found: Vec<_> = ranking.into_sorted().iter().map(|pair| pair.revision.main as usize).collect();
            let mut expected: Vec<_> = (0..values.len()).collect();
            expected.sort_by(|&a, &b| match is_descending {
                true => values[b].cmp(&values[a]),
                false => values[a].cmp(&values[b]),
            });
            expected.truncate(limit);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn numbers_keep_their_order_where_equal(ranks in prop::collection::vec(0..9u64, 0..200), moves in 1..30usize) {
            let mut row: Vec<_> = ranks.iter().copied().enumerate().collect();
            let mut expected = row.clone();
            expected.sort_by_key(|&(_, rank)| rank);
            let mut sort = MergeSort::new(row.len());
            while !sort.step(&mut row, &mut { moves }, |a, b| a.1.cmp(&b.1)) {}
            prop_assert_eq!(row, expected);
        }
    }
}
