//! Rebuilding the index: stored revisions come in order of time, which is no order at all for keys.
//!
//! Inserting keys as they come would touch a random leaf for each. So they are gathered, sorted by key (revisions of one
//! key stay in order) and inserted in runs: neighbours go to the same leaf. Memory stays bounded by the batch.

use super::KeyIndex;
use crate::revision::Revision;

/// Records gathered before they are inserted.
const BATCH_RECORDS: usize = 128 << 10;
/// Bytes of keys gathered before they are inserted.
const BATCH_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Eight bytes of the key after what all keys of the batch have in common, as a number that sorts as they do.
    head: u64,
    start: u32,
    len: u32,
    revision: Revision,
    create: i64,
    version: i64,
}

/// Gathers stored revisions for the index. [`Restore::finish`] must be called at the end.
#[derive(Debug)]
pub struct Restore<'a> {
    index: &'a mut KeyIndex,
    keys: Vec<u8>,
    records: Vec<Record>,
}

impl<'a> Restore<'a> {
    /// Starts filling an index.
    pub fn new(index: &'a mut KeyIndex) -> Self {
        Self { index, keys: Vec::new(), records: Vec::new() }
    }

    /// Adds a stored revision; revisions come in order. `version` is 0 for a tombstone.
    pub fn add(&mut self, key: &[u8], revision: Revision, create: i64, version: i64) {
        let start = u32::try_from(self.keys.len()).expect("a batch is far below 4 GiB");
        let len = u32::try_from(key.len()).expect("keys are far below 4 GiB");
        self.keys.extend_from_slice(key);
        self.records.push(Record { head: 0, start, len, revision, create, version });
        if self.records.len() >= BATCH_RECORDS || self.keys.len() >= BATCH_BYTES {
            self.insert();
        }
    }

    /// Inserts what is left.
    pub fn finish(mut self) {
        self.insert();
    }

    fn insert(&mut self) {
        let Self { index, keys, records } = self;
        let key = |record: &Record| &keys[record.start as usize..][..record.len as usize];
        let Some(first) = records.first().map(key) else { return };
        let prefix = records.iter().fold(first, |prefix, record| &prefix[..super::packed::common(prefix, key(record))]);
        let prefix = prefix.len();
        for record in records.iter_mut() {
            record.head = super::packed::head(&key(record)[prefix..]);
        }
        records.sort_unstable_by(|a, b| {
            let by_head = a.head.cmp(&b.head);
            by_head.then_with(|| key(a)[prefix..].cmp(&key(b)[prefix..])).then_with(|| a.revision.cmp(&b.revision))
        });
        for record in records.iter() {
            index.restore(key(record), record.revision, record.create, record.version);
        }
        keys.clear();
        records.clear();
    }
}
