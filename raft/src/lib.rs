//! Consensus groups: Raft as a state machine without I/O.
//!
//! A [`Group`] takes proposals, peer messages, ticks and reads, and hands out [`Ready`] values that say what to make
//! durable, what to send and what to apply. It holds no clock, socket, file or thread; the same seed and the same calls
//! give the same outputs.
//!
//! A tour, in reading order:
//! - [`types`]: ids, entries, hard state, roles
//! - [`batch`]: many commands in one entry, built once and read in place everywhere
//! - [`ConfState`], [`ConfChange`] (`conf`): voters and learners, and changes of them
//! - [`log`]: what the log looks like on disk, recovery, the first entries of a new cluster
//! - [`alone`]: what makes the survivor of a lost majority the only member
//! - [`PeerMessage`] (`message`): what members say to each other, and the frames
//! - [`GroupConfig`] (`config`): what a group is given
//! - [`group`]: the state machine and the shell's duties; [`ready`]: its output; `core`: the rules of consensus, by concern
//! - [`groups`]: many groups on a machine, with one log, one connection to each other machine, and sleep
//! - [`Members`] (`membership`): ids, member records, and etcd's rules for changing them
//! - [`limits`], [`error`]: every bound, every error

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

pub mod alone;
pub mod batch;
mod conf;
mod config;
mod core;
pub mod error;
pub mod group;
pub mod groups;
pub mod limits;
pub mod log;
mod membership;
mod message;
pub mod ready;
pub mod types;

pub use crate::config::WindowBounds;
pub use crate::core::PeerState;
pub use conf::{CONF_SCHEMA, Change, ConfChange, ConfChangeKind, ConfState, Transition};
pub use group::{Group, GroupConfig, PeerStatus, Status};
pub use log::{LogRecovery, RecoveredLog};
pub use membership::{
    ClusterId, Health, MEMBER_SCHEMA, Member, MemberChange, Members, MembershipError, RecordError, check_add,
    check_learner_ready, check_promote, check_remove, cluster_id, member_id,
};
pub use message::{Lane, PEER_VERSION, PeerBody, PeerMessage, SnapshotMeta};
pub use plinth_wal::GroupId;
pub use ready::Ready;
pub use types::{Entry, EntryId, EntryKind, HardState, MemberId, ReadState, Role, RoleChange};
