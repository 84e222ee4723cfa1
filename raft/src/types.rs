//! The plain values the crate speaks in: ids, log entries, hard state, roles.

use std::fmt;

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

/// The id of a member of the cluster (etcd's member id; never zero for a real member).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    /// Lowercase hexadecimal without leading zeros, as etcd prints ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Names one entry of a log: two logs that hold an entry of this id are equal up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
pub struct EntryId {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term of the leader that appended it.
    pub term: u64,
}

impl EntryId {
    /// The position before the first entry of every log.
    pub const ZERO: EntryId = EntryId { index: 0, term: 0 };
}

/// What an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum EntryKind {
    /// A batch of commands (see [`crate::batch`]); empty when a leader opens its term.
    Normal = 0,
    /// A configuration change (see [`crate::ConfChange`]); empty when a leader leaves a joint configuration.
    ConfChange = 1,
}

impl EntryKind {
    /// The kind written as `value`.
    pub fn from_u8(value: u8) -> Option<EntryKind> {
        match value {
            0 => Some(EntryKind::Normal),
            1 => Some(EntryKind::ConfChange),
            _ => None,
        }
    }
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, from 1.
    pub index: u64,
    /// Term of the leader that appended it.
    pub term: u64,
    pub kind: EntryKind,
    /// The bytes, shared with the log window and with messages to followers.
    pub data: Bytes,
}

impl Entry {
    /// Index and term.
    pub fn id(&self) -> EntryId {
        EntryId { index: self.index, term: self.term }
    }
}

/// What a member must remember besides its log, lest it vote twice in one term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: u64,
    /// Candidate voted for in `term`.
    pub vote: Option<MemberId>,
    /// Entries known to be committed. Needed on disk only ahead of configuration changes, see [`crate::group`].
    pub commit: u64,
}

/// The part a member plays in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it could win, without raising the term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Leadership as this member sees it; part of a `Ready` when it changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleChange {
    pub role: Role,
    /// The leader of `term`, if known.
    pub leader: Option<MemberId>,
    pub term: u64,
}

/// An answered read: it may be served once `index` is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// The token given to `Group::read_index`.
    pub token: u64,
    /// Everything up to here was committed when the read began.
    pub index: u64,
}

/// Zero means "none" in the stored forms.
pub(crate) fn member_from_raw(raw: u64) -> Option<MemberId> {
    (raw != 0).then_some(MemberId(raw))
}

/// The inverse of [`member_from_raw`].
pub(crate) fn member_to_raw(member: Option<MemberId>) -> u64 {
    member.map_or(0, |member| member.0)
}
