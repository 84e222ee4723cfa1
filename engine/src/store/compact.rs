//! Compaction: giving up history, in bounded steps.
//!
//! A request takes effect at once: the compact revision moves, and is recorded. What it makes unreachable is removed
//! in the background, one request after the other, and the end is recorded as well, so that an interrupted pass is taken
//! up again at open.
//!
//! What stays is what etcd keeps: of every key the newest pair at or below the revision, a tombstone only if it is at the
//! revision itself, and everything above.
//!
//! Removal does not read the whole tree. Only keys that changed after the compaction before (or were deleted by it) can
//! have something to remove, and their changes are just the records between the two revisions. A key's revisions are
//! removed oldest first: the record that leads to the key goes last, so that a pass that is cut off finds it again.
//!
//! If compactions are hashed, all records up to the revision are read first (see `hash`).

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::budget::WorkBudget;
use crate::error::{OpError, StoreError};
use crate::record::parse_record;
use crate::revision::{RevKey, Revision};
use crate::store::hash::{HashCursor, HashKv, HashStep};
use crate::store::{Store, meta};
use crate::trees::{TreeId, Trees};

/// Compactions whose hashes are remembered.
pub const COMPACTION_HASHES_MAX: usize = 10;

/// A compaction that is under way or waits for its turn.
#[derive(Debug)]
pub struct Compaction {
    /// The compact revision before.
    previous: i64,
    revision: i64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// To be hashed when its turn comes.
    Waiting,
    Hashing(HashCursor),
    Removing {
        /// Where to go on reading; `None` at the end.
        next: Option<RevKey>,
        /// Out of the index, still in the tree, oldest first within a key.
        removed: VecDeque<(Revision, bool)>,
    },
}

impl Compaction {
    /// A pass that only removes.
    pub(crate) fn removal(previous: i64, revision: i64) -> Self {
        Self { previous, revision, phase: Phase::removing(previous) }
    }
}

impl Phase {
    fn removing(previous: i64) -> Self {
        Phase::Removing { next: Some(RevKey::floor(previous)), removed: VecDeque::new() }
    }
}

/// What a step of compaction did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactProgress {
    /// There was nothing to do.
    Idle,
    /// There is more to do.
    Working,
    /// A compaction is complete. There may be another one waiting.
    Done { revision: i64 },
}

impl<T: Trees> Store<T> {
    /// Moves the compact revision. The rest is done by [`Store::compact_step`].
    pub(crate) fn schedule_compaction(&mut self, revision: i64) -> Result<(), crate::error::Error> {
        if revision <= self.compact_revision {
            return Err(OpError::Compacted.into());
        }
        if revision > self.revision {
            return Err(OpError::FutureRevision.into());
        }
        let previous = self.compact_revision;
        self.trees.insert(TreeId::Meta, meta::SCHEDULED_COMPACT, &RevKey::floor(revision))?;
        // A hash is only told if the pass before is complete by now, as in etcd.
        let hashes = self.config.compaction_hashes && self.compactions.is_empty();
        self.compactions.push_back(if hashes {
            Compaction { previous, revision, phase: Phase::Waiting }
        } else {
            Compaction::removal(previous, revision)
        });
        self.compact_revision = revision;
        Ok(())
    }

    /// Whether [`Store::compact_step`] has something to do.
    pub fn is_compacting(&self) -> bool {
        !self.compactions.is_empty()
    }

    /// The revision up to which compaction is complete, -1 if none ever was. Answers to `physical` requests wait for it.
    pub fn finished_compact_revision(&self) -> i64 {
        self.finished_compact_revision
    }

    /// The hashes of the last compactions, oldest first.
    pub fn compaction_hashes(&self) -> &[HashKv] {
        &self.compaction_hashes
    }

    /// Does one step of the oldest unfinished compaction.
    pub fn compact_step(&mut self, budget: WorkBudget) -> Result<CompactProgress, StoreError> {
        let Some(mut job) = self.compactions.pop_front() else { return Ok(CompactProgress::Idle) };
        let is_done = match &mut job.phase {
            Phase::Waiting => {
                job.phase = Phase::Hashing(self.compaction_hash_start(job.revision, job.previous)?);
                false
            }
            Phase::Hashing(cursor) => {
                if let HashStep::Done(hash) = self.hash_some(cursor, budget)? {
                    self.remember_hash(hash);
                    job.phase = Phase::removing(job.previous);
                }
                false
            }
            // Somebody still reads what would be removed.
            Phase::Removing { .. } if self.pins.forbid(job.revision) => false,
            Phase::Removing { next, removed } => {
                if removed.is_empty()
                    && let Some(from) = *next
                {
                    *next = self.compact_index(from, job.revision, budget, removed)?;
                }
                for (revision, is_tombstone) in removed.drain(..removed.len().min(budget.records)) {
                    if !self.trees.remove(TreeId::Rev, &RevKey::new(revision, is_tombstone))? {
                        return Err(StoreError::Missing { revision });
                    }
                    self.counters.compacted += 1;
                }
                removed.is_empty() && next.is_none()
            }
        };
        if !is_done {
            self.compactions.push_front(job);
            return Ok(CompactProgress::Working);
        }
        self.trees.insert(TreeId::Meta, meta::FINISHED_COMPACT, &RevKey::floor(job.revision))?;
        self.finished_compact_revision = job.revision;
        Ok(CompactProgress::Done { revision: job.revision })
    }

    /// Takes what a compaction at `revision` removes out of the index, for the keys of some records. Returns where to
    /// go on.
    fn compact_index(
        &mut self,
        from: RevKey,
        revision: i64,
        budget: WorkBudget,
        removed: &mut VecDeque<(Revision, bool)>,
    ) -> Result<Option<RevKey>, StoreError> {
        let (index, mut gone) = (&mut self.index, Vec::new());
        let (mut records, mut bytes, mut next, mut bad) = (0, 0, None, None);
        self.trees.scan(TreeId::Rev, &from, &mut |key, value| {
            let (at, is_tombstone, pair) = match parse_record(key, value) {
                Ok(record) => record,
                Err(error) => {
                    bad = Some(error);
                    return ControlFlow::Break(());
                }
            };
            if at.main > revision {
                return ControlFlow::Break(());
            }
            if records >= budget.records || bytes >= budget.bytes || gone.len() >= budget.records {
                next = Some(RevKey::new(at, is_tombstone));
                return ControlFlow::Break(());
            }
            records += 1;
            bytes += value.len();
            index.compact(pair.key, revision, &mut gone);
            ControlFlow::Continue(())
        })?;
        removed.extend(gone);
        bad.map_or(Ok(next), Err)
    }

    fn remember_hash(&mut self, hash: HashKv) {
        self.compaction_hashes.push(hash);
        if self.compaction_hashes.len() > COMPACTION_HASHES_MAX {
            self.compaction_hashes.remove(0);
        }
    }
}
