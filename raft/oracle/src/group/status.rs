//! A group's state for people: metrics, the Status call, logs.

use raft::ProgressState;

use super::Group;
use crate::types::{MemberId, Role, member_from_raw};
use plinth_raft::{PeerState, PeerStatus, Status};

impl Group {
    /// The figures as they are now.
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let log = &raft.raft_log;
        let peers = if self.role.role == Role::Leader { self.peers() } else { Vec::new() };
        Status {
            member: self.member,
            role: self.role.role,
            term: self.role.term,
            leader: self.role.leader,
            vote: member_from_raw(raft.vote),
            commit: log.committed,
            applied: log.applied,
            first_index: self.raw.store().first(),
            last_index: log.last_index(),
            persisted: log.persisted,
            window_bytes: self.raw.store().bytes(),
            uncommitted_bytes: raft.uncommitted_size(),
            readies_in_flight: self.in_flight.len(),
            conf: self.conf.clone(),
            peers,
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let of = |(&id, progress): (&u64, &raft::Progress)| self.peer(MemberId(id), progress);
        let mut peers: Vec<PeerStatus> = self.raw.raft.prs().iter().map(of).collect();
        peers.sort_by_key(|peer| peer.member);
        peers
    }

    fn peer(&self, member: MemberId, progress: &raft::Progress) -> PeerStatus {
        let (in_flight_bytes, _) = self.flow.figures(member);
        PeerStatus {
            member,
            matched: progress.matched,
            next: progress.next_idx,
            state: match progress.state {
                ProgressState::Probe => PeerState::Probe,
                ProgressState::Replicate => PeerState::Replicate,
                ProgressState::Snapshot => PeerState::Snapshot,
            },
            recent_active: progress.recent_active || member == self.member,
            in_flight_bytes,
        }
    }
}
