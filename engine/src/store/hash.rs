//! `HashKV`: a checksum over history that is the same number on every member, and on etcd. And one over everything.
//!
//! Compaction is not at the same point on all members, so the checksum leaves out what compaction may have removed: at or
//! below the compact revision only pairs count that exist at the hashed revision. (If no key exists there, those count
//! that exist at the compact revision.) Tombstones there never count.
//!
//! The checksum of a compaction is that at its revision, with the compact revision before it. One thing differs, as in
//! etcd: a tombstone at the revision itself is as good as an existing key.

use std::ops::ControlFlow;

use crate::budget::WorkBudget;
use crate::error::{Error, OpError, StoreError};
use crate::record::parse_record;
use crate::revision::RevKey;
use crate::store::{Store, meta};
use crate::trees::{TreeId, Trees};

/// The name of etcd's bucket that tree `Rev` is: the checksum starts with it.
const BUCKET: &[u8] = b"key";

/// The trees that the checksum over everything covers.
const HASHED: &[TreeId] = TreeId::ALL.split_at(TreeId::ALL.len() - TreeId::OF_V2.len()).0;

/// A checksum over history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision that it takes into account.
    pub compact_revision: i64,
    /// The revision up to which it goes.
    pub revision: i64,
}

/// A checksum being computed.
#[derive(Debug)]
pub struct HashCursor {
    hash: HashKv,
    /// At or below the compact revision, pairs count that exist at this one.
    kept_at: i64,
    next: RevKey,
    is_done: bool,
}

/// Progress of a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashStep {
    /// There is more to do.
    More,
    /// That was all.
    Done(HashKv),
}

/// A checksum over all trees being computed.
#[derive(Debug, Default)]
pub struct DbHashCursor {
    tree: usize,
    next: Vec<u8>,
    crc: u32,
}

impl<T: Trees> Store<T> {
    /// Starts a checksum up to a revision, 0 for the current one. Those of the last compactions are known already.
    pub fn hash_kv_start(&self, revision: i64) -> Result<HashCursor, OpError> {
        // One may be of revision 0, which here asks for the current one.
        let known = self.compaction_hashes.iter().find(|hash| revision > 0 && hash.revision == revision);
        if let Some(&hash) = known {
            return Ok(HashCursor { hash, kept_at: 0, next: RevKey::floor(0), is_done: true });
        }
        if revision > 0 && revision < self.compact_revision {
            return Err(OpError::Compacted);
        }
        if revision > self.revision {
            return Err(OpError::FutureRevision);
        }
        let revision = if revision == 0 { self.revision } else { revision };
        let exists_any = self.index.any(revision);
        Ok(hash_cursor(revision, self.compact_revision, exists_any))
    }

    /// Does one step. A compaction in between starts the checksum over, or ends it if it went beyond the revision.
    pub fn hash_kv_step(&self, cursor: &mut HashCursor, budget: WorkBudget) -> Result<HashStep, Error> {
        if cursor.is_done {
            return Ok(HashStep::Done(cursor.hash));
        }
        if cursor.hash.compact_revision != self.compact_revision {
            *cursor = self.hash_kv_start(cursor.hash.revision)?;
        }
        Ok(self.hash_some(cursor, budget)?)
    }

    /// The checksum up to a revision, at once.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let mut cursor = self.hash_kv_start(revision)?;
        loop {
            if let HashStep::Done(hash) = self.hash_kv_step(&mut cursor, WorkBudget::UNBOUNDED)? {
                return Ok(hash);
            }
        }
    }

    /// Starts the checksum of a compaction.
    pub(crate) fn compaction_hash_start(&self, revision: i64, previous: i64) -> Result<HashCursor, StoreError> {
        let mut keeps_any = self.index.any(revision);
        if !keeps_any {
            self.history(revision, revision, &mut |event| {
                keeps_any |= event.is_delete;
                if keeps_any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(hash_cursor(revision, previous, keeps_any))
    }

    pub(crate) fn hash_some(&self, cursor: &mut HashCursor, budget: WorkBudget) -> Result<HashStep, StoreError> {
        let HashCursor { hash, kept_at, next, is_done } = cursor;
        let (mut records, mut bytes, mut bad) = (0, 0, None);
        let from = *next;
        *is_done = true;
        self.trees.scan_cold(TreeId::Rev, &from, &mut |key, value| {
            let (revision, is_tombstone, pair) = match parse_record(key, value) {
                Ok(record) => record,
                Err(error) => {
                    bad = Some(error);
                    return ControlFlow::Break(());
                }
            };
            if revision.main > hash.revision {
                return ControlFlow::Break(());
            }
            if records >= budget.records || bytes >= budget.bytes {
                (*next, *is_done) = (RevKey::new(revision, is_tombstone), false);
                return ControlFlow::Break(());
            }
            records += 1;
            bytes += value.len();
            let counts = revision.main > hash.compact_revision || {
                let kept = self.index.get(pair.key).and_then(|entry| entry.at(*kept_at));
                !is_tombstone && kept.is_some_and(|kept| kept.revision() == revision)
            };
            if counts {
                hash.hash = crc32c::crc32c_append(crc32c::crc32c_append(hash.hash, key), value);
            }
            ControlFlow::Continue(())
        })?;
        match bad {
            Some(error) => Err(error),
            None if cursor.is_done => Ok(HashStep::Done(cursor.hash)),
            None => Ok(HashStep::More),
        }
    }

    /// One step of a checksum over all trees, the applied entry aside; the checksum once it is complete. For tests: it
    /// is not the same on members whose compaction is not at the same point.
    pub fn hash_db_step(&self, cursor: &mut DbHashCursor, budget: WorkBudget) -> Result<Option<u32>, StoreError> {
        let Some(&tree) = HASHED.get(cursor.tree) else { return Ok(Some(cursor.crc)) };
        if cursor.next.is_empty() {
            cursor.crc = crc32c::crc32c_append(cursor.crc, tree.name().as_bytes());
        }
        let (mut records, mut bytes, mut paused) = (0, 0, None);
        self.trees.scan_cold(tree, &cursor.next, &mut |key, value| {
            if records >= budget.records || bytes >= budget.bytes {
                paused = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            records += 1;
            bytes += key.len() + value.len();
            if tree != TreeId::Meta || key != meta::APPLIED {
                cursor.crc = crc32c::crc32c_append(crc32c::crc32c_append(cursor.crc, key), value);
            }
            ControlFlow::Continue(())
        })?;
        if paused.is_none() {
            cursor.tree += 1;
        }
        cursor.next = paused.unwrap_or_default();
        Ok(None)
    }

    /// The checksum over all trees, at once.
    pub fn hash_db(&self) -> Result<u32, StoreError> {
        let mut cursor = DbHashCursor::default();
        loop {
            if let Some(hash) = self.hash_db_step(&mut cursor, WorkBudget::UNBOUNDED)? {
                return Ok(hash);
            }
        }
    }
}

fn hash_cursor(revision: i64, compact_revision: i64, keeps_any: bool) -> HashCursor {
    HashCursor {
        hash: HashKv { hash: crc32c::crc32c(BUCKET), compact_revision, revision },
        kept_at: if keeps_any { revision } else { compact_revision },
        next: RevKey::floor(0),
        is_done: false,
    }
}
