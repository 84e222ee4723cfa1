//! The log that groups share, read back: each group gets its own records, and its own verdict.
//!
//! What is wrong with one group's records (a gap, a term that goes back, a version that is not known, bytes that are not
//! what was written) refuses that group alone, and the error has its name. Records of groups that are not asked for are
//! passed over: those that were removed, and those that another machine was given. A tombstone
//! ([`crate::log::encode_snapshot_mark`] of [`EntryId::ZERO`]) ends a group: what came before it counts no more, damage
//! included, so that another one can have its number.

use std::collections::BTreeMap;

use plinth_wal::{Record, RecordKind};
use thiserror::Error;

use crate::GroupId;
use crate::error::RecoverError;
use crate::log::{self, LogRecovery, RecoveredLog};
use crate::types::EntryId;

/// A group that cannot be started, and why.
#[derive(Debug, Error)]
#[error("group {group}: {error}")]
pub struct RefusedGroup {
    pub group: GroupId,
    /// What is wrong with its part of the log.
    #[source]
    pub error: RecoverError,
}

/// Reads the records of several groups, in the order they were written.
#[derive(Debug)]
pub struct GroupsRecovery {
    groups: BTreeMap<GroupId, Reading>,
}

#[derive(Debug)]
struct Reading {
    applied: EntryId,
    state: Result<LogRecovery, RecoverError>,
}

/// Each group's log, or why that group cannot be started.
pub type RecoveredGroups = BTreeMap<GroupId, Result<RecoveredLog, RefusedGroup>>;

impl GroupsRecovery {
    /// The groups to be started, each with what its store has applied.
    pub fn new(groups: impl IntoIterator<Item = (GroupId, EntryId)>) -> GroupsRecovery {
        let begin = |(id, applied)| (id, Reading { applied, state: Ok(LogRecovery::new(applied)) });
        GroupsRecovery { groups: groups.into_iter().map(begin).collect() }
    }

    /// Feeds a record of any group.
    pub fn record(&mut self, record: &Record<'_>) {
        let Some(reading) = self.groups.get_mut(&record.group) else { return };
        if record.kind == RecordKind::SnapshotMark && log::is_tombstone(record.schema, record.payload) {
            reading.state = Ok(LogRecovery::new(reading.applied));
        } else if let Ok(recovery) = &mut reading.state
            && let Err(error) = recovery.record(record)
        {
            reading.state = Err(error);
        }
    }

    /// A record of this group is not what was written: the log's checksums say so.
    pub fn damaged(&mut self, group: GroupId, lsn: plinth_wal::Lsn) {
        if let Some(reading) = self.groups.get_mut(&group)
            && reading.state.is_ok()
        {
            reading.state = Err(RecoverError::Damaged { lsn });
        }
    }

    /// The verdicts.
    pub fn finish(self) -> RecoveredGroups {
        let verdict = |(group, reading): (GroupId, Reading)| {
            let log = reading.state.and_then(LogRecovery::finish);
            (group, log.map_err(|error| RefusedGroup { group, error }))
        };
        self.groups.into_iter().map(verdict).collect()
    }
}
