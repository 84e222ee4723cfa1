//! The border with raft-rs: its entry, hard state and configuration types become ours and back.
//!
//! Invariants: entry bytes are shared, never copied. raft-rs keeps a conf change's protobuf form in `data` because its
//! leader reads it when the change is proposed; ours is in `context`, and only ours leaves this crate. A records-only
//! change is an ordinary entry to raft-rs, told apart by its context.

use bytes::Bytes;
use raft::eraftpb;

use crate::conf::{Change, ConfChange, ConfChangeKind, ConfState, Transition};
use crate::error::ConfError;
use crate::types::{Entry, EntryKind, HardState, Role, member_from_raw, member_to_raw};

/// Shares the bytes of a raft-rs entry.
#[inline]
pub(crate) fn entry_from_raft(entry: eraftpb::Entry) -> Entry {
    let plain = entry.entry_type == eraftpb::EntryType::EntryNormal && entry.context.is_empty();
    let (kind, data) = if plain { (EntryKind::Normal, entry.data) } else { (EntryKind::ConfChange, entry.context) };
    Entry { index: entry.index, term: entry.term, kind, data }
}

/// The inverse. Fails on a conf change that does not decode.
pub(crate) fn entry_to_raft(entry: Entry) -> Result<eraftpb::Entry, ConfError> {
    let mut raw = eraftpb::Entry { index: entry.index, term: entry.term, ..Default::default() };
    match entry.kind {
        EntryKind::Normal => raw.data = entry.data,
        EntryKind::ConfChange => {
            if ConfChange::decode(&entry.data)?.kind != ConfChangeKind::RecordsOnly {
                raw.entry_type = eraftpb::EntryType::EntryConfChangeV2;
            }
            raw.context = entry.data;
        }
    }
    Ok(raw)
}

pub(crate) fn normal_entry(data: Bytes) -> eraftpb::Entry {
    eraftpb::Entry { data, ..Default::default() }
}

pub(crate) fn hard_state_from_raft(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: member_from_raw(state.vote), commit: state.commit }
}

pub(crate) fn hard_state_to_raft(state: &HardState) -> eraftpb::HardState {
    eraftpb::HardState { term: state.term, vote: member_to_raw(state.vote), commit: state.commit, ..Default::default() }
}

pub(crate) fn role_from_raft(role: raft::StateRole) -> Role {
    match role {
        raft::StateRole::Follower => Role::Follower,
        raft::StateRole::PreCandidate => Role::PreCandidate,
        raft::StateRole::Candidate => Role::Candidate,
        raft::StateRole::Leader => Role::Leader,
    }
}

pub(crate) fn conf_state_from_raft(state: &eraftpb::ConfState) -> ConfState {
    let mut state = ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    };
    for list in [&mut state.voters, &mut state.learners, &mut state.voters_outgoing, &mut state.learners_next] {
        list.sort_unstable();
    }
    state
}

pub(crate) fn conf_state_to_raft(state: &ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
        ..Default::default()
    }
}

/// The form raft-rs wants; `None` for a change that is none to it.
pub(crate) fn conf_change_to_raft(change: &ConfChange) -> Option<eraftpb::ConfChangeV2> {
    let mut raw = eraftpb::ConfChangeV2::default();
    match &change.kind {
        ConfChangeKind::RecordsOnly => return None,
        ConfChangeKind::LeaveJoint => {}
        ConfChangeKind::Members { changes, transition } => {
            raw.transition = match transition {
                Transition::Auto => eraftpb::ConfChangeTransition::Auto,
                Transition::JointImplicit => eraftpb::ConfChangeTransition::Implicit,
                Transition::JointExplicit => eraftpb::ConfChangeTransition::Explicit,
            };
            for change in changes {
                let change_type = match change {
                    Change::AddVoter(_) => eraftpb::ConfChangeType::AddNode,
                    Change::AddLearner(_) => eraftpb::ConfChangeType::AddLearnerNode,
                    Change::Remove(_) => eraftpb::ConfChangeType::RemoveNode,
                };
                raw.changes.push(eraftpb::ConfChangeSingle {
                    change_type,
                    node_id: change.member().0,
                    ..Default::default()
                });
            }
        }
    }
    Some(raw)
}
