//! Rebuilding the index: stored revisions come in order of time, which is no order at all for keys.
//!
//! Inserting keys as they come would touch a random leaf for each, a handful of cache misses. So they are gathered into
//! runs small enough for the cache, each run is sorted, and runs are merged into the index: neighbours go to the same leaf.
//! Memory stays bounded by the number of runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::KeyIndex;
use super::heads::{HEAD_BYTES, common, head};
use crate::revision::Revision;

/// Records of a run.
const RUN_RECORDS: usize = 16 << 10;
/// Bytes of keys of a run.
const RUN_BYTES: usize = 1 << 20;
/// Runs gathered before they are merged.
const RUNS_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Eight bytes of the key, as a number that sorts as they do, and how many there are (9 for more).
    head: u64,
    head_len: u8,
    start: u32,
    len: u32,
    revision: Revision,
    create: i64,
    version: i64,
}

/// Records with their keys.
#[derive(Debug, Default)]
struct Run {
    keys: Vec<u8>,
    records: Vec<Record>,
}

/// Gathers stored revisions for the index. [`Restore::finish`] must be called at the end.
#[derive(Debug)]
pub struct Restore<'a> {
    index: &'a mut KeyIndex,
    gathered: Run,
    sorted: Vec<Run>,
    run_records: usize,
}

impl<'a> Restore<'a> {
    /// Starts filling an index.
    pub fn new(index: &'a mut KeyIndex) -> Self {
        Self::with_runs_of(RUN_RECORDS, index)
    }

    /// As [`Restore::new`] with another length of runs.
    pub(super) fn with_runs_of(run_records: usize, index: &'a mut KeyIndex) -> Self {
        Self { index, gathered: Run::default(), sorted: Vec::new(), run_records }
    }

    /// Adds a stored revision; revisions come in order. `version` is 0 for a tombstone.
    pub fn add(&mut self, key: &[u8], revision: Revision, create: i64, version: i64) {
        let Run { keys, records } = &mut self.gathered;
        records.push(Record::new(keys.len(), key, revision, create, version));
        keys.extend_from_slice(key);
        if records.len() >= self.run_records || keys.len() >= RUN_BYTES {
            self.end_run();
            if self.sorted.len() >= RUNS_MAX {
                self.merge();
            }
        }
    }

    /// Inserts what is left.
    pub fn finish(mut self) {
        self.end_run();
        self.merge();
    }

    /// Sorts the run, and puts its keys into the same order, so that merging reads straight on.
    fn end_run(&mut self) {
        let Run { keys, records } = &mut self.gathered;
        sort(records, keys, 0);
        let mut run = Run { keys: Vec::with_capacity(keys.len()), records: Vec::with_capacity(records.len()) };
        for record in records.drain(..) {
            let start = run.keys.len() as u32;
            run.keys.extend_from_slice(record.key(keys));
            run.records.push(Record { start, ..record });
        }
        keys.clear();
        self.sorted.push(run);
    }

    fn merge(&mut self) {
        let next = |run: usize, at: usize| {
            let record = *self.sorted[run].records.get(at)?;
            // Runs are in order of time, so the run tells revisions of a key apart.
            Some(Reverse((record.key(&self.sorted[run].keys), run, at)))
        };
        let mut heap: BinaryHeap<_> = (0..self.sorted.len()).filter_map(|run| next(run, 0)).collect();
        while let Some(mut top) = heap.peek_mut() {
            let Reverse((key, run, at)) = *top;
            let record = &self.sorted[run].records[at];
            self.index.restore(key, record.revision, record.create, record.version);
            match next(run, at + 1) {
                Some(following) => *top = following,
                None => drop(std::collections::binary_heap::PeekMut::pop(top)),
            }
        }
        self.sorted.clear();
    }
}

impl Record {
    fn new(start: usize, key: &[u8], revision: Revision, create: i64, version: i64) -> Self {
        let start = u32::try_from(start).expect("a batch is far below 4 GiB");
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        Self { head: 0, head_len: 0, start, len, revision, create, version }
    }

    fn key<'k>(&self, keys: &'k [u8]) -> &'k [u8] {
        &keys[self.start as usize..][..self.len as usize]
    }
}

/// Sorts by key, then revision. All keys agree in their first `depth` bytes.
///
/// Numbers made of eight bytes each are sorted, then every row of equal numbers by the eight bytes after those. Keys are
/// long and alike: comparing them whole would read them from memory again and again.
fn sort(records: &mut [Record], keys: &[u8], depth: usize) {
    let Some(first) = records.first() else { return };
    let first = &first.key(keys)[depth..];
    let prefix = records.iter().fold(first, |prefix, record| &prefix[..common(prefix, &record.key(keys)[depth..])]);
    let depth = depth + prefix.len();
    for record in records.iter_mut() {
        let rest = &record.key(keys)[depth..];
        // Keys that end within the number come before those that only have zeros there.
        (record.head, record.head_len) = (head(rest), rest.len().min(HEAD_BYTES + 1) as u8);
    }
    records.sort_unstable_by_key(|record| (record.head, record.head_len, record.revision));
    for row in records.chunk_by_mut(|a, b| (a.head, a.head_len) == (b.head, b.head_len)) {
        // A row of keys that ended holds one key, in order of its revisions.
        if row.len() > 1 && usize::from(row[0].head_len) > HEAD_BYTES {
            sort(row, keys, depth + HEAD_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sorts_by_key_then_revision(
            words in proptest::collection::vec(proptest::collection::vec(0..3u8, 0..30), 1..200),
            prefix in 0..20usize,
        ) {
            let (mut keys, mut records) = (Vec::new(), Vec::new());
            for (i, word) in words.iter().enumerate() {
                let key = [vec![7; prefix], word.clone()].concat();
                let revision = Revision::new(i as i64 + 1, 0);
                records.push(Record::new(keys.len(), &key, revision, 0, 1));
                keys.extend_from_slice(&key);
            }
            let mut expected = records.clone();
            expected.sort_by_key(|record| (record.key(&keys), record.revision));
            sort(&mut records, &keys, 0);
            let names = |records: &[Record]| -> Vec<_> { records.iter().map(|record| record.revision).collect() };
            prop_assert_eq!(names(&records), names(&expected));
        }
    }
}
