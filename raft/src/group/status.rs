//! A group's state for people: metrics, the Status call, logs.

use super::Group;
use crate::conf::ConfState;
use crate::core::PeerState;
use crate::types::{MemberId, Role};

/// What the leader knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub member: MemberId,
    /// Last entry known to be durable there.
    pub matched: u64,
    pub next: u64,
    pub state: PeerState,
    /// Heard from since the last check of the quorum.
    pub recent_active: bool,
    /// Bytes of entries sent and not acknowledged.
    pub in_flight_bytes: usize,
}

/// A snapshot of the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub member: MemberId,
    pub role: Role,
    pub term: u64,
    /// Leader of the term, if known.
    pub leader: Option<MemberId>,
    /// Vote cast in the term.
    pub vote: Option<MemberId>,
    /// Entries known to be committed.
    pub commit: u64,
    pub applied: u64,
    /// First entry in memory.
    pub first_index: u64,
    /// Last entry, durable or not.
    pub last_index: u64,
    /// Last durable entry.
    pub persisted: u64,
    /// Bytes of entries in memory.
    pub window_bytes: usize,
    /// Bytes proposed and not yet committed (leader only).
    pub uncommitted_bytes: usize,
    /// Readies that are not durable yet.
    pub readies_in_flight: usize,
    pub conf: ConfState,
    /// Every member of the configuration, by id; empty unless this member leads.
    pub peers: Vec<PeerStatus>,
}

impl Group {
    /// The figures as they are now.
    pub fn status(&self) -> Status {
        let (core, log, role) = (&self.core, &self.core.log, self.core.role());
        Status {
            member: core.config.member,
            role: role.role,
            term: role.term,
            leader: role.leader,
            vote: core.hard_state().vote,
            commit: log.committed(),
            applied: log.applied(),
            first_index: log.first(),
            last_index: log.last(),
            persisted: log.persisted(),
            window_bytes: log.bytes(),
            uncommitted_bytes: core.uncommitted_bytes(),
            readies_in_flight: log.flights().len(),
            conf: core.conf.clone(),
            peers: if role.role == Role::Leader { self.peers() } else { Vec::new() },
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let (own, persisted) = (self.core.config.member, self.core.log.persisted());
        let itself = PeerStatus {
            member: own,
            matched: persisted,
            next: persisted + 1,
            state: PeerState::Replicate,
            recent_active: true,
            in_flight_bytes: 0,
        };
        let others = self.core.peers().map(|(member, progress)| PeerStatus {
            member,
            matched: progress.matched,
            next: progress.next,
            state: progress.state,
            recent_active: progress.recent_active,
            in_flight_bytes: progress.inflight.bytes(),
        });
        let mut peers: Vec<PeerStatus> = others.chain([itself]).collect();
        peers.sort_by_key(|peer| peer.member);
        peers
    }
}
