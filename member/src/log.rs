//! The log that the members of a machine share: what they append goes one way, to one disk, and one flush covers all of them.
//!
//! A shell that drives several members lets each of them fill it ([`crate::Member::fill`]) and then flushes once
//! ([`Log::flush_awaited`]); for one alone that is [`crate::Member::advance`].
//!
//! It is given back from its beginning, so one group that needs an old record holds it back for all. What is needed of a
//! group that does nothing is who it is and its last hard state: both are kept here, and written again before the records
//! that hold them go, without asking its member.
//!
//! Invariants: nothing is given back before what is written again is durable; what is written again is what was written
//! last, so that no term and no vote goes back.

use crate::identity::{Identity, METADATA_SCHEMA};
use crate::stall::Asked;
use plinth_raft::groups::LogSpace;
use plinth_raft::log::{LOG_SCHEMA, encode_hard_state, encode_snapshot_mark, entry_header};
use plinth_raft::{Entry, EntryId, HardState};
use plinth_wal::{Disk, GroupId, Lsn, RecordKind, SpaceState, Wal, WalError};
use std::collections::BTreeMap;

/// What a group cannot do without, whatever it has stored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) identity: Option<Identity>,
    pub(crate) hard_state: Option<HardState>,
}

/// The beginning of the log on its way out.
#[derive(Clone, Copy, Debug)]
struct Releasing {
    /// The last record of what was written again.
    again: Lsn,
    /// All before this goes when that is durable.
    before: Lsn,
}

/// See the module.
pub struct Log<D: Disk> {
    wal: Wal<D>,
    space: LogSpace,
    standing: BTreeMap<GroupId, Standing>,
    /// The last record that somebody waits for to become durable.
    awaited: Lsn,
    releasing: Option<Releasing>,
}

impl<D: Disk> Log<D> {
    /// A log that was read: what its groups need of it, and what they have written last.
    pub(crate) fn new(wal: Wal<D>, space: LogSpace, standing: BTreeMap<GroupId, Standing>) -> Log<D> {
        Log { wal, space, standing, awaited: Lsn::ZERO, releasing: None }
    }

    /// Takes in what has become durable, and gives back what is needed no more. Before members fill it. An error is fatal.
    pub fn poll(&mut self) -> Result<(), WalError> {
        let durable = self.wal.poll()?;
        assert!(durable <= self.wal.last(), "only what was appended is durable");
        if let Some(Releasing { again, before }) = self.releasing
            && again <= durable
        {
            assert!(before <= again.next(), "identity and votes are written again behind what is given back");
            self.wal.release_before(before);
            self.releasing = None;
        }
        Ok(())
    }

    /// Sends what somebody waits for on its way, with all else that was appended, if the disk takes it at once; whether it
    /// did. Records that nobody waits for go with the next ones. An error is fatal.
    pub fn flush_awaited(&mut self) -> Result<bool, WalError> {
        let is_awaited = self.awaited > self.wal.durable() || self.releasing.is_some();
        Ok(is_awaited && self.wal.can_flush() && self.wal.flush()?.is_some())
    }

    /// Sends all that was appended on its way; the last of it. An error is fatal.
    pub fn flush(&mut self) -> Result<Option<Lsn>, WalError> {
        self.wal.flush()
    }

    /// Nothing has been written for a while, or the process stops: sends what waits for company on its way, or else marks
    /// that all is durable, so that later damage to the last record is not taken for a torn write. A mark costs one block, once
    /// for each time of rest.
    pub fn mark(&mut self) -> Result<(), WalError> {
        if self.wal.can_flush() {
            if self.is_durable() {
                self.wal.witness();
            }
            self.wal.flush()?;
        }
        Ok(())
    }

    /// Whether everything that was appended is durable.
    pub fn is_durable(&self) -> bool {
        self.wal.durable() == self.wal.last()
    }

    /// What is asked of its disk.
    pub fn asked(&self) -> Asked {
        Asked { awaits: self.wal.awaits_disk(), ended: self.wal.stats().completions }
    }

    /// Time passes: a full disk may have room again.
    pub fn tick(&mut self) {
        if !self.has_space() {
            self.wal.retry_space();
        }
    }

    /// Whether there is the space for more writes.
    pub fn has_space(&self) -> bool {
        self.wal.space() == SpaceState::Ok
    }

    /// Whether so little is left that it has to be kept for votes and terms.
    pub fn is_nearly_exhausted(&self) -> bool {
        self.wal.is_nearly_exhausted()
    }

    /// The log itself, for its figures.
    pub fn wal(&self) -> &Wal<D> {
        &self.wal
    }

    /// Its disk, for what is particular to it.
    pub fn disk_mut(&mut self) -> &mut D {
        self.wal.disk_mut()
    }

    /// Whether a flush would be on its way at once.
    pub(crate) fn can_flush(&self) -> bool {
        self.wal.can_flush()
    }

    /// Somebody waits for all that was appended so far: the last of it.
    pub(crate) fn await_last(&mut self) -> Lsn {
        assert!(self.awaited <= self.wal.last(), "what somebody waits for has been appended");
        self.awaited = self.wal.last();
        self.awaited
    }

    pub(crate) fn append_identity(&mut self, group: GroupId, identity: Identity) {
        let lsn = self.wal.append(group, RecordKind::Metadata, METADATA_SCHEMA, &[&identity.encode()]);
        self.space.wrote_identity(group, lsn);
        self.standing.entry(group).or_default().identity = Some(identity);
    }

    pub(crate) fn append_hard_state(&mut self, group: GroupId, state: &HardState) {
        let standing = self.standing.entry(group).or_default();
        let before = standing.hard_state.replace(*state);
        assert!(before.is_none_or(|before| before.term <= state.term), "the term of {group:?} does not go back");
        let lsn = self.wal.append(group, RecordKind::HardState, LOG_SCHEMA, &[&encode_hard_state(state)]);
        self.space.wrote_hard_state(group, lsn);
    }

    /// Appends entries without a gap, which take the place of all from the first of them on.
    pub(crate) fn append_entries(&mut self, group: GroupId, entries: &[Entry]) {
        let mut begin = None;
        for entry in entries {
            let lsn = self.wal.append(group, RecordKind::Entry, LOG_SCHEMA, &[&entry_header(entry), &entry.data]);
            begin.get_or_insert((entry.index, lsn));
        }
        if let (Some((first, lsn)), Some(last)) = (begin, entries.last()) {
            assert!(last.index - first + 1 == entries.len() as u64, "entries without a gap, from {first}");
            self.space.wrote_entries(group, first, last.index, lsn);
        }
    }

    /// Appends that a snapshot has taken the place of all before it.
    pub(crate) fn append_snapshot_mark(&mut self, group: GroupId, id: EntryId) {
        assert!(id != EntryId::ZERO, "a snapshot of nothing would be a tombstone");
        self.wal.append(group, RecordKind::SnapshotMark, LOG_SCHEMA, &[&encode_snapshot_mark(id)]);
        self.space.forget_entries(group);
    }

    /// The group ends on this machine, be it dropped or one that was refused: nothing of it is kept any more, and its number
    /// can be used again. The tombstone is durable before a record of the group is given back, so that no start finds half of
    /// it; its data have to stay until it is ([`Log::is_durable`]), or the next start finds a log without data.
    pub fn end_group(&mut self, group: GroupId) -> Lsn {
        let tombstone = encode_snapshot_mark(EntryId::ZERO);
        let lsn = self.wal.append(group, RecordKind::SnapshotMark, LOG_SCHEMA, &[&tombstone]);
        self.space.remove(group);
        self.standing.remove(&group);
        self.awaited = lsn;
        lsn
    }

    /// The data of a group holds everything up to this entry, durably: the log may give back what is before it.
    pub(crate) fn stored(&mut self, group: GroupId, index: u64) {
        self.space.stored(group, index);
        if self.releasing.is_some() {
            // The next call covers it.
            return;
        }
        let before = self.space.oldest_entry().unwrap_or(self.wal.last().next());
        if !self.wal.would_release(before) {
            return;
        }
        let standing: Vec<GroupId> = self.space.standing_before(before).collect();
        for group in standing {
            let Standing { identity, hard_state } = self.standing.get(&group).copied().unwrap_or_default();
            if let Some(identity) = identity {
                self.append_identity(group, identity);
            }
            if let Some(state) = hard_state {
                self.append_hard_state(group, &state);
            }
        }
        let holder = self.space.oldest();
        assert!(holder.is_none_or(|holder| holder.lsn >= before), "nothing that is needed is given back: {holder:?}");
        self.releasing = Some(Releasing { again: self.wal.last(), before });
    }
}
