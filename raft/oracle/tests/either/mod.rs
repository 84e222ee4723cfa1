//! A group that is one or the other: the core of the crate, or raft-rs.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::Cell;

use bytes::Bytes;
use plinth_raft::error::{ApplyConfError, GroupError, ProposeError, StepError, TransferError};
use plinth_raft::{
    ConfChange, ConfState, Entry, GroupConfig, HardState, MemberId, PeerMessage, Ready, RecoveredLog, Role,
    SnapshotMeta, Status,
};

/// What the next groups are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Own,
    RaftRs,
    /// One or the other, for each life of each member: an upgrade that goes forth and back.
    Either,
}

thread_local! {
    pub static MAKE: Cell<Make> = const { Cell::new(Make::Either) };
}

pub enum Group {
    Own(Box<plinth_raft::Group>),
    RaftRs(Box<plinth_raft_oracle::group::Group>),
}

/// Calls a method of whichever it is.
macro_rules! both {
    ($group:expr, $($call:tt)*) => {
        match $group {
            Group::Own(group) => group.$($call)*,
            Group::RaftRs(group) => group.$($call)*,
        }
    };
}

impl Group {
    pub fn new(config: GroupConfig, recovered: RecoveredLog) -> Result<Group, GroupError> {
        let drawn = (config.seed ^ config.member.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let own = match MAKE.get() {
            Make::Own => true,
            Make::RaftRs => false,
            Make::Either => drawn % 2 == 0,
        };
        if own {
            plinth_raft::Group::new(config, recovered).map(Box::new).map(Group::Own)
        } else {
            plinth_raft_oracle::group::Group::new(config, recovered).map(Box::new).map(Group::RaftRs)
        }
    }

    pub fn tick(&mut self) {
        both!(self, tick())
    }

    pub fn campaign(&mut self) {
        both!(self, campaign())
    }

    pub fn propose(&mut self, payload: Bytes) -> Result<(), ProposeError> {
        both!(self, propose(payload))
    }

    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ProposeError> {
        both!(self, propose_conf_change(change))
    }

    pub fn read_index(&mut self, token: u64) {
        both!(self, read_index(token))
    }

    pub fn transfer_leader(&mut self, target: MemberId) -> Result<(), TransferError> {
        both!(self, transfer_leader(target))
    }

    pub fn step(&mut self, message: PeerMessage) -> Result<(), StepError> {
        both!(self, step(message))
    }

    pub fn ready(&mut self) -> Option<Ready> {
        both!(self, ready())
    }

    pub fn on_persisted(&mut self, number: u64) {
        both!(self, on_persisted(number))
    }

    pub fn on_applied(&mut self, index: u64) {
        both!(self, on_applied(index))
    }

    pub fn apply_conf_change(&mut self, entry: &Entry) -> Result<ConfState, ApplyConfError> {
        both!(self, apply_conf_change(entry))
    }

    pub fn compact(&mut self, index: u64) {
        both!(self, compact(index))
    }

    pub fn provide_snapshot(&mut self, to: MemberId, meta: SnapshotMeta) {
        both!(self, provide_snapshot(to, meta))
    }

    pub fn report_snapshot(&mut self, to: MemberId, arrived: bool) {
        both!(self, report_snapshot(to, arrived))
    }

    pub fn report_unreachable(&mut self, to: MemberId) {
        both!(self, report_unreachable(to))
    }

    pub fn role(&self) -> Role {
        both!(self, role())
    }

    pub fn term(&self) -> u64 {
        both!(self, term())
    }

    pub fn hard_state(&self) -> HardState {
        both!(self, hard_state())
    }

    pub fn status(&self) -> Status {
        both!(self, status())
    }
}
