//! What a group is given at its start: who it is, its times and its bounds.

use crate::GroupId;
use crate::conf::ConfState;
use crate::limits;
use crate::types::MemberId;

/// How much of the applied log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBounds {
    pub entries: usize,
    /// Bytes of their data.
    pub bytes: usize,
}

/// How a group behaves. [`GroupConfig::new`] fills in the bounds of `limits.rs`.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub group: GroupId,
    pub member: MemberId,
    /// Ticks without a leader after which a follower campaigns, at least; at most twice as many.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: usize,
    /// For election timeouts and for numbering reads. Must differ from one life of the process to the next.
    pub seed: u64,
    /// Voters and learners as of the last applied entry; empty for a store that has applied none.
    pub conf: ConfState,
    /// Bytes of entries in one append message.
    pub append_bytes: u64,
    /// Append messages in flight to one follower.
    pub in_flight_messages: usize,
    /// Bytes of entries in flight to one follower.
    pub in_flight_bytes: usize,
    /// Bytes of proposals not yet committed.
    pub uncommitted_bytes: u64,
    /// Bytes of committed entries in one `Ready`.
    pub committed_bytes_per_ready: u64,
    /// Applied entries kept in memory.
    pub window: WindowBounds,
}

impl GroupConfig {
    /// The defaults: etcd's ten ticks to an election, one to a heartbeat.
    pub fn new(group: GroupId, member: MemberId, seed: u64) -> GroupConfig {
        GroupConfig {
            group,
            member,
            election_ticks: 10,
            heartbeat_ticks: 1,
            seed,
            conf: ConfState::default(),
            append_bytes: limits::APPEND_BYTES_MAX,
            in_flight_messages: limits::IN_FLIGHT_MESSAGES_MAX,
            in_flight_bytes: limits::IN_FLIGHT_BYTES_MAX,
            uncommitted_bytes: limits::UNCOMMITTED_BYTES_MAX,
            committed_bytes_per_ready: limits::COMMITTED_BYTES_PER_READY,
            window: WindowBounds { entries: limits::WINDOW_ENTRIES, bytes: limits::WINDOW_BYTES },
        }
    }
}
