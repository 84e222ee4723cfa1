//! From stored bytes to a running member: identity, log and store are brought together at start.
//!
//! The store says what it has applied, the write-ahead log says who the member is and holds the entries behind that.
//! A member without a log is new: its first records are its identity and the bootstrap of its cluster.

use crate::limits::BATCH_BYTES_MAX;
use bytes::Bytes;
use plinth_raft::log::{Bootstrap, LogRecovery, RecoveredLog, bootstrap};
use plinth_raft::{Entry, EntryId, HardState, MemberId};
use plinth_wal::{Disk, GroupId, OpenError, Record, RecordKind, RecoveryReport, Wal, WalError, WalOptions};

/// Schema of the metadata record's payload: two little-endian u64, member and cluster id.
pub const METADATA_SCHEMA: u16 = 1;

/// Who a member is, for ever: written when its log is created, and again before old segments are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: u64,
}

impl Identity {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.member.0.to_le_bytes());
        out[8..].copy_from_slice(&self.cluster.to_le_bytes());
        out
    }

    fn decode(record: &Record<'_>) -> Result<Identity, RecoverError> {
        let (16, METADATA_SCHEMA) = (record.payload.len(), record.schema) else {
            return Err(RecoverError::Metadata { schema: record.schema, len: record.payload.len() });
        };
        let (member, cluster) = record.payload.split_at(8);
        Ok(Identity {
            member: MemberId(u64::from_le_bytes(member.try_into().expect("eight bytes"))),
            cluster: u64::from_le_bytes(cluster.try_into().expect("eight bytes")),
        })
    }
}

/// A stored member does not hold together. What to do next is in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The write-ahead log cannot be opened.
    #[error(transparent)]
    Wal(#[from] OpenError),
    /// The write-ahead log failed while the first records were written.
    #[error(transparent)]
    WalFailed(#[from] WalError),
    /// Entries, hard states or marks do not fit together, or do not fit what the store has applied.
    #[error("write-ahead log and data do not fit together: {0}; restore the data directory from a backup")]
    Log(#[from] plinth_raft::error::RecoverError),
    /// The record that says who the member is.
    #[error("metadata record of schema {schema} with {len} bytes is not known; was it written by a newer release?")]
    Metadata {
        /// Schema found.
        schema: u16,
        /// Length found.
        len: usize,
    },
    /// The log holds records and does not say whose.
    #[error("the write-ahead log does not say which member it belongs to; restore the data directory from a backup")]
    NoMetadata,
    /// Two identities in one log.
    #[error("the write-ahead log belongs to two members: {first:?} and {second:?}")]
    TwoIdentities {
        /// The older one.
        first: Identity,
        /// The newer one.
        second: Identity,
    },
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

/// A member's log, read.
pub struct Recovered<D: Disk> {
    /// The log, ready for appends.
    pub wal: Wal<D>,
    /// Who the member is; nothing for a new one.
    pub identity: Option<Identity>,
    /// Entries and votes.
    pub log: RecoveredLog,
    /// How the log was found.
    pub report: RecoveryReport,
}

/// Opens the log and reads all records of `group`; `applied` is what the store has.
pub fn recover<D: Disk>(
    disk: D,
    options: WalOptions,
    group: GroupId,
    applied: EntryId,
) -> Result<Recovered<D>, RecoverError> {
    let mut log = LogRecovery::new(applied);
    let mut identity = None;
    let mut entries_or_votes = false;
    let mut fault = None;
    let (wal, report) = Wal::open_with(disk, options, &mut |record| {
        if fault.is_some() || record.group != group {
            return;
        }
        let result = match record.kind {
            RecordKind::Metadata => note_identity(&record, &mut identity),
            RecordKind::Entry => log.entry(record.schema, record.payload).map_err(RecoverError::Log),
            RecordKind::HardState => log.hard_state(record.schema, record.payload).map_err(RecoverError::Log),
            RecordKind::SnapshotMark => log.snapshot_mark(record.schema, record.payload).map_err(RecoverError::Log),
            RecordKind::Segment => Ok(()),
        };
        entries_or_votes |= record.kind != RecordKind::Metadata;
        fault = result.err();
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    if identity.is_none() && entries_or_votes {
        return Err(RecoverError::NoMetadata);
    }
    if !entries_or_votes && applied.index > 0 {
        return Err(RecoverError::LogLost { applied: applied.index });
    }
    Ok(Recovered { wal, identity, log: log.finish()?, report })
}

fn note_identity(record: &Record<'_>, identity: &mut Option<Identity>) -> Result<(), RecoverError> {
    let second = Identity::decode(record)?;
    match identity.replace(second) {
        Some(first) if first != second => Err(RecoverError::TwoIdentities { first, second }),
        _ => Ok(()),
    }
}

/// Whether the bootstrap of a new member reached the disk as a whole: the hard state is its last record.
pub fn is_bootstrapped(log: &RecoveredLog) -> bool {
    log.hard_state.term > 0
}

/// The first records of a new member of a new cluster, appended and not yet flushed. `members` are the cluster's
/// voters with the context that is stored for each.
pub fn append_bootstrap<D: Disk>(
    wal: &mut Wal<D>,
    group: GroupId,
    identity: Identity,
    members: Vec<(MemberId, Bytes)>,
) -> RecoveredLog {
    let Bootstrap { entries, hard_state } = bootstrap(members);
    append_identity(wal, group, identity);
    for entry in &entries {
        append_entry(wal, group, entry);
    }
    append_hard_state(wal, group, &hard_state);
    RecoveredLog::bootstrapped(Bootstrap { entries, hard_state })
}

/// The first record of a member that joins a running cluster, which will tell it everything else.
pub fn append_joining<D: Disk>(wal: &mut Wal<D>, group: GroupId, identity: Identity) {
    append_identity(wal, group, identity);
}

/// The first records of a member that goes on where another server stopped: `applied` is in its data, `entries` follow it.
/// `flush` is called now and then, so that not all of it waits in memory; the hard state is appended last, and a log
/// without it is none.
///
/// # Errors
/// What `flush` fails with.
pub fn append_continued<D: Disk, E>(
    wal: &mut Wal<D>,
    group: GroupId,
    identity: Identity,
    applied: EntryId,
    entries: impl IntoIterator<Item = Entry>,
    hard_state: &HardState,
    mut flush: impl FnMut(&mut Wal<D>) -> Result<(), E>,
) -> Result<(), E> {
    append_identity(wal, group, identity);
    if applied != EntryId::ZERO {
        append_snapshot_mark(wal, group, applied);
    }
    let mut waiting = 0;
    for entry in entries {
        waiting += entry.data.len();
        append_entry(wal, group, &entry);
        if waiting >= BATCH_BYTES_MAX {
            waiting = 0;
            flush(wal)?;
        }
    }
    append_hard_state(wal, group, hard_state);
    flush(wal)
}

pub(crate) fn append_identity<D: Disk>(wal: &mut Wal<D>, group: GroupId, identity: Identity) -> plinth_wal::Lsn {
    wal.append(group, RecordKind::Metadata, METADATA_SCHEMA, &[&identity.encode()])
}

pub(crate) fn append_entry<D: Disk>(wal: &mut Wal<D>, group: GroupId, entry: &Entry) -> plinth_wal::Lsn {
    let header = plinth_raft::log::entry_header(entry);
    wal.append(group, RecordKind::Entry, plinth_raft::log::LOG_SCHEMA, &[&header, &entry.data])
}

pub(crate) fn append_snapshot_mark<D: Disk>(wal: &mut Wal<D>, group: GroupId, id: EntryId) -> plinth_wal::Lsn {
    let payload = plinth_raft::log::encode_snapshot_mark(id);
    wal.append(group, RecordKind::SnapshotMark, plinth_raft::log::LOG_SCHEMA, &[&payload])
}

pub(crate) fn append_hard_state<D: Disk>(wal: &mut Wal<D>, group: GroupId, state: &HardState) -> plinth_wal::Lsn {
    let payload = plinth_raft::log::encode_hard_state(state);
    wal.append(group, RecordKind::HardState, plinth_raft::log::LOG_SCHEMA, &[&payload])
}
