//! The part of the log that is in memory: recent entries behind a base, and raft-rs's view of them.
//!
//! Invariants: entries are contiguous from `base.index + 1`; entries beyond the applied index are never dropped (apply and
//! recovery need them); applied ones are dropped from the front when the window exceeds its bounds. For a follower that
//! is behind the bounds are wider, so that it can go on from the snapshot that travels to it, or that it has installed.
//!
//! Asked for entries it no longer has, raft-rs turns to a snapshot. The shell provides one for each follower that needs it
//! ([`Window::offer`]); until then the answer is "not yet" and the wish is noted for the next `Ready`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::conf::ConfState;
use crate::convert;
use crate::limits::{WINDOW_ALONE_BYTES, WINDOW_SNAPSHOT_FACTOR};
use crate::message::{RaftSnapshot, SnapshotMeta};
use crate::types::{EntryId, HardState, MemberId};
use plinth_raft::WindowBounds;

pub(crate) struct Window {
    base: EntryId,
    entries: VecDeque<eraftpb::Entry>,
    bytes: usize,
    bounds: WindowBounds,
    /// Only for raft-rs's start.
    initial: RaftState,
    offers: BTreeMap<MemberId, SnapshotMeta>,
    wanted: RefCell<BTreeSet<MemberId>>,
}

fn entry_bytes(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + entry.context.len()
}

impl Window {
    pub(crate) fn new(
        base: EntryId,
        entries: VecDeque<eraftpb::Entry>,
        bounds: WindowBounds,
        hard_state: &HardState,
        conf: &ConfState,
    ) -> Window {
        let initial = RaftState::new(convert::hard_state_to_raft(hard_state), convert::conf_state_to_raft(conf));
        let bytes = entries.iter().map(entry_bytes).sum();
        let (offers, wanted) = (BTreeMap::new(), RefCell::default());
        Window { base, entries, bytes, bounds, initial, offers, wanted }
    }

    pub(crate) fn first(&self) -> u64 {
        self.base.index + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term of an entry of the window or its base.
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.checked_sub(self.first())?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    /// Appends entries, which replace any of the same index and all behind them.
    pub(crate) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index >= self.first(), "entry {} is before the window", first.index);
        assert!(first.index <= self.last() + 1, "entry {} leaves a gap behind {}", first.index, self.last());
        while self.last() >= first.index {
            let replaced = self.entries.pop_back().expect("the window reaches to `last`");
            self.bytes -= entry_bytes(&replaced);
        }
        for entry in entries {
            self.bytes += entry_bytes(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Starts over behind an installed snapshot.
    pub(crate) fn reset(&mut self, base: EntryId) {
        assert!(base.index >= self.base.index, "a snapshot does not go back");
        self.base = base;
        self.entries.clear();
        self.bytes = 0;
        self.offers.clear();
    }

    /// Drops entries up to `index`, which must be applied.
    pub(crate) fn compact(&mut self, index: u64) {
        while self.base.index < index {
            let Some(entry) = self.entries.pop_front() else { return };
            self.bytes -= entry_bytes(&entry);
            self.base = EntryId { index: entry.index, term: entry.term };
        }
    }

    /// Drops applied entries beyond the bounds, which are narrower while nobody follows. Entries behind `keep` stay while
    /// the wider bounds allow it.
    pub(crate) fn trim(&mut self, applied: u64, is_followed: bool, keep: Option<u64>) {
        let mut bounds = self.bounds;
        if !is_followed {
            bounds.bytes = bounds.bytes.min(WINDOW_ALONE_BYTES);
        }
        if self.entries.len() <= bounds.entries && self.bytes <= bounds.bytes {
            return;
        }
        while self.base.index < applied {
            let factor = if keep.is_some_and(|keep| self.base.index >= keep) { WINDOW_SNAPSHOT_FACTOR } else { 1 };
            if self.entries.len() <= bounds.entries * factor && self.bytes <= bounds.bytes * factor {
                return;
            }
            self.compact(self.base.index + 1);
        }
    }

    /// How much of the wider bounds is used, in percent: at 100 what a travelling snapshot needs is given up.
    pub(crate) fn fill_percent(&self) -> usize {
        let of = |used: usize, bound: usize| used * 100 / (bound * WINDOW_SNAPSHOT_FACTOR).max(1);
        of(self.entries.len(), self.bounds.entries).max(of(self.bytes, self.bounds.bytes))
    }

    /// Holds a snapshot ready for `to`; raft-rs picks it up when it next looks for one.
    pub(crate) fn offer(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.offers.insert(to, meta);
    }

    /// Forgets the offer to `to`.
    pub(crate) fn withdraw(&mut self, to: MemberId) {
        self.offers.remove(&to);
    }

    /// Forgets all offers.
    pub(crate) fn withdraw_all(&mut self) {
        self.offers.clear();
    }

    /// Followers that asked for a snapshot since the last call.
    pub(crate) fn take_wanted(&mut self) -> Vec<MemberId> {
        let wanted = self.wanted.get_mut();
        if wanted.is_empty() { Vec::new() } else { std::mem::take(wanted).into_iter().collect() }
    }

    pub(crate) fn has_wanted(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }
}

impl Storage for Window {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked for, the window ends at {}", self.last());
        let (from, to) = ((low - self.first()) as usize, (high - self.first()) as usize);
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let fits = |entry: &&eraftpb::Entry| {
            let first = size == 0;
            size += entry_bytes(entry) as u64 + 1;
            first || size <= limit
        };
        Ok(self.entries.range(from..to).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.base.index {
            return Err(StorageError::Compacted.into());
        }
        self.term_of(index).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        let to = MemberId(to);
        match self.offers.get(&to) {
            Some(meta) if meta.id.index >= request_index.max(self.base.index) => Ok(meta.to_raft()),
            _ => {
                self.wanted.borrow_mut().insert(to);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}
