//! From stored bytes to running members: identity, log and store are brought together at start.
//!
//! A store says what it has applied, the write-ahead log says who the member is and holds the entries behind that. The log
//! is read once for all groups on the machine, and each is judged by itself: one that does not hold together is refused
//! alone.
//! A member without a log is new: its first records are its identity and the bootstrap of its cluster.

pub use crate::identity::{Identity, METADATA_SCHEMA};
use crate::limits::BATCH_BYTES_MAX;
use crate::log::{Log, Standing};
use bytes::Bytes;
use plinth_raft::alone::{Alone, NotAMember, alone};
use plinth_raft::groups::{GroupsRecovery, LogSpace, RefusedGroup};
use plinth_raft::log::{Bootstrap, RecoveredLog, bootstrap, decode_hard_state, is_tombstone};
use plinth_raft::{ConfState, Entry, EntryId, HardState, MemberId};
use plinth_wal::{Damaged, Disk, GroupId, OpenError, Reader, Record, RecordKind, RecoveryReport, Wal, WalOptions};
use std::collections::BTreeMap;

/// A stored member does not hold together. What to do next is in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Entries, hard states or marks do not fit together, or do not fit what the store has applied.
    #[error("write-ahead log and data do not fit together: {0}; restore the data directory from a backup")]
    Log(#[from] plinth_raft::error::RecoverError),
    /// The record that says who the member is.
    #[error("metadata record of schema {schema} with {len} bytes is not known; was it written by a newer release?")]
    Metadata { schema: u16, len: usize },
    /// The log holds records and does not say whose.
    #[error("the write-ahead log does not say which member it belongs to; restore the data directory from a backup")]
    NoMetadata,
    /// Two identities in one log.
    #[error("the write-ahead log belongs to two members: {first:?} and {second:?}")]
    TwoIdentities { first: Identity, second: Identity },
    /// There is data and no log.
    #[error(
        "the data holds entries up to {applied} and the write-ahead log is empty: it was lost or removed; \
         restore both from a backup"
    )]
    LogLost {
        /// Last entry the store has applied.
        applied: u64,
    },
}

/// What the log holds of one member.
pub struct RecoveredMember {
    /// Who it is; nothing for a new one.
    pub identity: Option<Identity>,
    /// Entries and votes.
    pub log: RecoveredLog,
}

/// The log, read.
pub struct Recovered<D: Disk> {
    /// Ready for appends.
    pub log: Log<D>,
    /// The members of the groups that were asked for, or why one cannot be started: the others can.
    pub members: BTreeMap<GroupId, Result<RecoveredMember, RecoverError>>,
    pub report: RecoveryReport,
}

impl<D: Disk> Recovered<D> {
    /// Takes what was found of one of the groups that were asked for.
    ///
    /// # Panics
    /// If it was not asked for, or taken already.
    pub fn take(&mut self, group: GroupId) -> Result<RecoveredMember, RecoverError> {
        self.members.remove(&group).expect("a group is taken once, and was asked for")
    }
}

/// Opens the log and reads it once for all groups, each with what its store has applied. Records of other groups are of
/// those that have ended; nothing is kept for them.
///
/// # Errors
/// If the log as a whole cannot be read.
pub fn recover<D: Disk>(
    disk: D,
    options: WalOptions,
    groups: impl IntoIterator<Item = (GroupId, EntryId)>,
) -> Result<Recovered<D>, OpenError> {
    let readings: BTreeMap<GroupId, Reading> =
        groups.into_iter().map(|(group, applied)| (group, Reading::new(applied))).collect();
    let logs = GroupsRecovery::new(readings.iter().map(|(group, reading)| (*group, reading.applied)));
    let mut shared = SharedReading { readings, logs, space: LogSpace::default() };
    let (wal, report) = Wal::open_with(disk, options, &mut shared)?;
    let SharedReading { readings, logs, mut space } = shared;
    let mut logs = logs.finish();
    let standing = readings.iter().map(|(group, reading)| (*group, reading.standing)).collect();
    let judge = |(group, reading): (GroupId, Reading)| (group, reading.judge(logs.remove(&group)));
    let members: BTreeMap<_, _> = readings.into_iter().map(judge).collect();
    members.iter().filter(|(_, member)| member.is_err()).for_each(|(group, _)| space.hold(*group, None));
    Ok(Recovered { log: Log::new(wal, space, standing), members, report })
}

/// The records of all groups, each for its own.
struct SharedReading {
    readings: BTreeMap<GroupId, Reading>,
    logs: GroupsRecovery,
    space: LogSpace,
}

impl Reader for SharedReading {
    fn record(&mut self, record: Record<'_>) {
        if let Some(reading) = self.readings.get_mut(&record.group) {
            self.logs.record(&record);
            self.space.read(&record);
            reading.record(&record);
        }
    }

    /// The log is read on for the sake of the others; where there are none it is refused, with the place and what can be done.
    fn damaged(&mut self, damaged: Damaged) -> bool {
        let Damaged { group, lsn, .. } = damaged;
        let Some(reading) = self.readings.get_mut(&group) else { return true };
        reading.has_records = true;
        self.logs.damaged(group, lsn);
        self.space.hold(group, Some(lsn));
        self.readings.len() > 1
    }
}

/// One member's records, besides what consensus reads of them.
struct Reading {
    applied: EntryId,
    standing: Standing,
    has_records: bool,
    fault: Option<RecoverError>,
}

impl Reading {
    fn new(applied: EntryId) -> Reading {
        Reading { applied, standing: Standing::default(), has_records: false, fault: None }
    }

    fn record(&mut self, record: &Record<'_>) {
        match record.kind {
            RecordKind::SnapshotMark if is_tombstone(record.schema, record.payload) => {
                *self = Reading::new(self.applied)
            }
            RecordKind::Metadata => {
                let noted = self.note_identity(record);
                self.fault = self.fault.take().or(noted.err());
            }
            RecordKind::HardState => {
                self.has_records = true;
                // If it cannot be read, consensus refuses the member.
                self.standing.hard_state = decode_hard_state(record.schema, record.payload).ok();
            }
            RecordKind::Entry | RecordKind::SnapshotMark => self.has_records = true,
            RecordKind::Segment => {}
        }
    }

    fn note_identity(&mut self, record: &Record<'_>) -> Result<(), RecoverError> {
        let unknown = RecoverError::Metadata { schema: record.schema, len: record.payload.len() };
        let second = Identity::decode(record.schema, record.payload).ok_or(unknown)?;
        match self.standing.identity.replace(second) {
            Some(first) if first != second => Err(RecoverError::TwoIdentities { first, second }),
            _ => Ok(()),
        }
    }

    fn judge(self, log: Option<Result<RecoveredLog, RefusedGroup>>) -> Result<RecoveredMember, RecoverError> {
        let log = log.expect("each group that is read has a verdict");
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let identity = self.standing.identity;
        if identity.is_none() && self.has_records {
            return Err(RecoverError::NoMetadata);
        }
        if !self.has_records && self.applied.index > 0 {
            return Err(RecoverError::LogLost { applied: self.applied.index });
        }
        let log = log.map_err(|refused| RecoverError::Log(refused.error))?;
        Ok(RecoveredMember { identity, log })
    }
}

/// Whether the bootstrap of a new member reached the disk as a whole: the hard state is its last record.
pub fn is_bootstrapped(log: &RecoveredLog) -> bool {
    log.hard_state.term > 0
}

/// The first records of a new member of a new cluster, appended and not yet flushed. `members` are the cluster's
/// voters with the context that is stored for each.
pub fn append_bootstrap<D: Disk>(
    log: &mut Log<D>,
    group: GroupId,
    identity: Identity,
    members: Vec<(MemberId, Bytes)>,
) -> RecoveredLog {
    assert!(!members.is_empty(), "a cluster begins with somebody who votes");
    let Bootstrap { entries, hard_state } = bootstrap(members);
    log.append_identity(group, identity);
    log.append_entries(group, &entries);
    log.append_hard_state(group, &hard_state);
    RecoveredLog::bootstrapped(Bootstrap { entries, hard_state })
}

/// The first record of a member that joins a running cluster, which will tell it everything else.
pub fn append_joining<D: Disk>(log: &mut Log<D>, group: GroupId, identity: Identity) {
    log.append_identity(group, identity);
}

/// Makes a member of a cluster whose majority is lost the only one, by records that are appended and not yet flushed. `conf`
/// is what the store holds. Who is removed.
///
/// # Errors
/// If the member is none of its cluster.
pub fn append_alone<D: Disk>(
    log: &mut Log<D>,
    group: GroupId,
    own: MemberId,
    conf: &ConfState,
    recovered: &mut RecoveredLog,
) -> Result<Vec<MemberId>, NotAMember> {
    let Some(Alone { vote, entries, hard_state, removed }) = alone(recovered, conf, own)? else {
        return Ok(Vec::new());
    };
    assert!(!removed.contains(&own), "who goes on alone is not among those who are removed");
    log.append_hard_state(group, &vote);
    log.append_entries(group, &entries);
    log.append_hard_state(group, &hard_state);
    recovered.entries.extend(entries);
    recovered.hard_state = hard_state;
    Ok(removed)
}

/// The first records of a member that goes on where another server stopped: `applied` is in its data, `entries` follow it.
/// `flush` is called now and then, so that not all of it waits in memory; the hard state is appended last, and a log
/// without it is none.
///
/// # Errors
/// What `flush` fails with.
pub fn append_continued<D: Disk, E>(
    log: &mut Log<D>,
    group: GroupId,
    identity: Identity,
    applied: EntryId,
    entries: impl IntoIterator<Item = Entry>,
    hard_state: &HardState,
    mut flush: impl FnMut(&mut Log<D>) -> Result<(), E>,
) -> Result<(), E> {
    log.append_identity(group, identity);
    if applied != EntryId::ZERO {
        log.append_snapshot_mark(group, applied);
    }
    let (mut waiting, mut last) = (0, applied);
    for entry in entries {
        assert!(entry.index == last.index + 1 && entry.term >= last.term, "entry {} follows its data", entry.index);
        last = EntryId { index: entry.index, term: entry.term };
        waiting += entry.data.len();
        log.append_entries(group, &[entry]);
        if waiting >= BATCH_BYTES_MAX {
            waiting = 0;
            flush(log)?;
        }
    }
    assert!(hard_state.term >= last.term && hard_state.commit <= last.index, "the hard state is that of these entries");
    log.append_hard_state(group, hard_state);
    flush(log)
}
