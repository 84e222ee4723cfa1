//! The log that groups share, read back: each group gets its own records, and its own verdict.
//!
//! What is wrong with one group's records (a gap, a term that goes back, a version that is not known) refuses that group
//! alone, and the error has its name. Records of groups that are not asked for are passed over: those that were removed, and
//! those that another machine was given. Damage that the log itself finds (`plinth_wal`) is not one group's matter.

use std::collections::BTreeMap;

use plinth_wal::Record;

use crate::GroupId;
use crate::error::RecoverError;
use crate::log::{LogRecovery, RecoveredLog};
use crate::types::EntryId;

/// Reads the records of several groups, in the order they were written.
#[derive(Debug)]
pub struct GroupsRecovery {
    groups: BTreeMap<GroupId, Result<LogRecovery, RecoverError>>,
}

/// Each group's log, or why that group cannot be started.
pub type RecoveredGroups = BTreeMap<GroupId, Result<RecoveredLog, RecoverError>>;

impl GroupsRecovery {
    /// The groups to be started, each with what its store has applied.
    pub fn new(groups: impl IntoIterator<Item = (GroupId, EntryId)>) -> GroupsRecovery {
        let begin = |(id, applied)| (id, Ok(LogRecovery::new(applied)));
        GroupsRecovery { groups: groups.into_iter().map(begin).collect() }
    }

    /// Feeds a record of any group.
    pub fn record(&mut self, record: &Record<'_>) {
        if let Some(state @ Ok(_)) = self.groups.get_mut(&record.group)
            && let Ok(recovery) = state
            && let Err(error) = recovery.record(record)
        {
            *state = Err(error);
        }
    }

    /// The verdicts.
    pub fn finish(self) -> RecoveredGroups {
        self.groups.into_iter().map(|(id, state)| (id, state.and_then(LogRecovery::finish))).collect()
    }
}
