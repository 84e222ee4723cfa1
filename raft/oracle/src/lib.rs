//! raft-rs behind the interface of [`plinth_raft::Group`]: what the crate was built on before it had a core of its own, kept to
//! prove the core against. The tests drive both with the same inputs.
//!
//! `group/`, `window.rs`, `flow.rs`, `read_index.rs` and `convert.rs` are the former wrapper, unchanged but for names of modules.

mod convert;
mod flow;
pub mod group;
mod message;
mod read_index;
mod window;

pub use plinth_raft::{GroupId, error, limits};

/// Names the wrapper knows things by.
mod conf {
    pub use plinth_raft::{Change, ConfChange, ConfChangeKind, ConfState, Transition};
}
mod log {
    pub use plinth_raft::RecoveredLog;
}
mod ready {
    pub use plinth_raft::Ready;
}
mod types {
    pub use plinth_raft::{Entry, EntryId, EntryKind, HardState, MemberId, ReadState, Role, RoleChange};

    pub(crate) fn member_from_raw(raw: u64) -> Option<MemberId> {
        (raw != 0).then_some(MemberId(raw))
    }

    pub(crate) fn member_to_raw(member: Option<MemberId>) -> u64 {
        member.map_or(0, |member| member.0)
    }
}
