//! One error enum per operation, each with the coordinates a reader of the log needs.
//!
//! Three kinds: what the outside asked for and cannot have (`ProposeError`), what arrived damaged or out of place
//! (`BatchError`, `ConfError`, `MessageError`, `StepError`), and what makes it unsafe to go on (`RecoverError`,
//! `GroupError`, and [`StepError::LogLost`]).

use thiserror::Error;

use crate::types::{EntryId, MemberId};

/// Bytes that are not a batch.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// Something ends too early.
    #[error("batch: at offset {offset} {expected} bytes are needed, {found} are left")]
    Truncated {
        /// Where the piece begins.
        offset: usize,
        expected: usize,
        found: usize,
    },
    /// It does not begin like a batch.
    #[error("batch: magic number {found:#06x}")]
    Magic {
        /// What is there instead.
        found: u16,
    },
    /// Written by a version this build does not know.
    #[error("batch: schema version {found} is not known")]
    Schema { found: u16 },
    /// Bytes behind the last command.
    #[error("batch: commands end at offset {offset}, the batch at {found}")]
    Trailing {
        /// End of the last command.
        offset: usize,
        /// End of the batch.
        found: usize,
    },
}

/// Bytes that are not a configuration or a change of one.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfError {
    /// Too short for a schema version.
    #[error("configuration: {found} bytes are too few")]
    Truncated { found: usize },
    /// Written by a version this build does not know.
    #[error("configuration: schema version {found} is not known")]
    Schema { found: u16 },
    /// The archive is damaged.
    #[error("configuration: {detail}")]
    Archive { detail: String },
    /// It breaks a rule consensus relies on.
    #[error("configuration: it must hold that {rule}")]
    Invalid { rule: &'static str },
}

impl ConfError {
    pub(crate) fn archive(error: rkyv::rancor::Error) -> ConfError {
        ConfError::Archive { detail: error.to_string() }
    }
}

/// The log cannot be recovered from its records.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// A record is too short for its kind.
    #[error("{kind} record of {found} bytes, at least {expected} are needed")]
    Truncated { kind: &'static str, expected: usize, found: usize },
    /// Written by a version this build does not know.
    #[error("{kind} record: schema version {found} is not known")]
    Schema { kind: &'static str, found: u16 },
    /// A field holds what it never may.
    #[error("{kind} record: {detail}")]
    Invalid { kind: &'static str, detail: String },
    /// The log's checksums do not hold for a record.
    #[error("record {lsn} of the log is damaged")]
    Damaged {
        /// Its number.
        lsn: plinth_wal::Lsn,
    },
    /// Entries are missing.
    #[error("entry {found} follows entry {last}: entries between them are missing")]
    Gap {
        /// Last entry before the gap.
        last: u64,
        /// First entry behind it.
        found: u64,
    },
    /// There is no hard state, although every log begins with one but for a bootstrap: the log was lost.
    #[error("the log ends at {last:?}, the store has applied {applied:?}, and no hard state is recorded")]
    NoHardState {
        /// What the store has applied.
        applied: EntryId,
        last: EntryId,
    },
    /// The store has applied what the log never heard of: the log is not the one that belongs to the store.
    #[error(
        "the store has applied {applied:?}, but the log ends at {last:?} with hard state term {term}: the log was lost"
    )]
    LogLost {
        /// What the store has applied.
        applied: EntryId,
        last: EntryId,
        /// Term of the recovered hard state.
        term: u64,
    },
    /// Entries that were known to be committed are missing at the end.
    #[error("entries up to {commit} were committed, but the log ends at {last:?}: the end of the log was lost")]
    CommitLost {
        /// The recorded commit index.
        commit: u64,
        last: EntryId,
    },
    /// The log and the store disagree about an entry.
    #[error("entry {index} has term {found} in the log, the store has applied it with term {expected}")]
    TermMismatch {
        index: u64,
        /// Its term according to the store.
        expected: u64,
        /// Its term according to the log.
        found: u64,
    },
    /// The log begins behind what the store needs.
    #[error("the store has applied {applied}, but the log begins at {first}")]
    MissingEntries {
        /// What the store has applied.
        applied: u64,
        /// First entry of the log.
        first: u64,
    },
}

/// The group cannot be built from this configuration and log.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A figure of the configuration is out of range.
    #[error("group configuration: it must hold that {rule}")]
    Config { rule: &'static str },
    /// The stored configuration of voters is damaged.
    #[error("stored configuration")]
    Conf(#[from] ConfError),
}

/// A proposal was not taken. Nothing was appended or sent.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProposeError {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// Leadership is being handed over; try again at the new leader.
    #[error("leadership is being transferred")]
    Transferring,
    /// This member leads but is no longer part of the configuration.
    #[error("this member was removed")]
    Removed,
    /// Too many bytes wait for their commit.
    #[error("too many uncommitted bytes")]
    Overloaded,
    /// The entry is larger than any entry may be.
    #[error("entry of {found} bytes")]
    TooLarge { found: usize },
    /// One configuration change at a time.
    #[error("a configuration change is pending")]
    ConfChangePending,
    /// A joint configuration must be left first, or there is none to leave.
    #[error("the change does not fit the {} configuration", if *.joint { "joint" } else { "simple" })]
    Joint {
        /// Whether the configuration is joint.
        joint: bool,
    },
}

/// Leadership cannot be handed to that member.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// Only a leader can hand over.
    #[error("not the leader")]
    NotLeader,
    /// The target does not vote in this configuration.
    #[error("member {target} is not a voter")]
    NotVoter { target: MemberId },
}

/// A committed configuration change could not be applied. The entry counts as applied; the configuration is unchanged.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("configuration change refused: {detail}")]
pub struct ApplyConfError {
    /// The rule it breaks.
    pub detail: String,
}

/// A peer message was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// It is for another member or group.
    #[error("message for group {group}, member {to} arrived at group {own_group}, member {own}")]
    NotForUs { group: u32, to: MemberId, own_group: u32, own: MemberId },
    /// An answer from a member this one does not know (any more).
    #[error("answer from unknown member {from}")]
    UnknownPeer { from: MemberId },
    /// No correct member sends such a message.
    #[error("message from {from} breaks a rule: {rule}")]
    Malformed { from: MemberId, rule: &'static str },
    /// A forwarded proposal could not be appended; its origin will time out.
    #[error("forwarded proposal from {from}: {reason}")]
    Proposal {
        from: MemberId,
        /// Why.
        #[source]
        reason: ProposeError,
    },
    /// The leader counts on entries this member has acknowledged and no longer has: its log was lost or truncated. It
    /// must not go on; it has to be removed from the cluster and added as a new member.
    #[error(
        "member {from} knows {commit} entries of this member's log to be committed, but it ends at {last}: log lost"
    )]
    LogLost {
        from: MemberId,
        /// What the leader knows to be here.
        commit: u64,
        last: u64,
    },
}

/// A peer frame that is not a message.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The frame ends too early.
    #[error("peer frame: {found} bytes, {expected} are needed")]
    Truncated { expected: usize, found: usize },
    /// Bytes behind the last entry.
    #[error("peer frame: ends at {expected}, has {found} bytes")]
    Trailing {
        /// Where it should end.
        expected: usize,
        found: usize,
    },
    /// Written by a version this build does not know.
    #[error("peer frame: version {found} is not known")]
    Version { found: u16 },
    /// Something in it has no meaning in this version.
    #[error("peer frame: {what} {found} is not known")]
    Unknown { what: &'static str, found: u64 },
    /// A length is beyond its bound.
    #[error("peer frame: {what} of {found}, at most {max} are allowed")]
    TooLarge { what: &'static str, found: usize, max: usize },
    /// The archive is damaged.
    #[error("peer frame: {detail}")]
    Archive { detail: String },
    /// The configuration of a snapshot is damaged.
    #[error("peer frame")]
    Conf(#[from] ConfError),
}
