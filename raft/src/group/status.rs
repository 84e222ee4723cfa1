//! A group's state for people: metrics, the Status call, logs.

use raft::ProgressState;

use super::Group;
use crate::conf::ConfState;
use crate::types::{MemberId, Role, member_from_raw};

/// How the leader replicates to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// One message at a time, to find where the logs match.
    Probe,
    /// Optimistically, up to the in-flight limits.
    Replicate,
    /// Waiting until a snapshot is installed.
    Snapshot,
}

/// What the leader knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Whom.
    pub member: MemberId,
    /// Last entry known to be durable there.
    pub matched: u64,
    /// Next entry to send.
    pub next: u64,
    /// How it is replicated to.
    pub state: PeerState,
    /// Heard from since the last check of the quorum.
    pub recent_active: bool,
    /// Bytes of entries sent and not acknowledged.
    pub in_flight_bytes: usize,
    /// Appends that wait until there are fewer.
    pub parked: usize,
}

/// A snapshot of the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Own id.
    pub member: MemberId,
    /// Own role.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Leader of the term, if known.
    pub leader: Option<MemberId>,
    /// Vote cast in the term.
    pub vote: Option<MemberId>,
    /// Entries known to be committed.
    pub commit: u64,
    /// Entries applied.
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
    /// Voters and learners.
    pub conf: ConfState,
    /// Every member of the configuration, by id; empty unless this member leads.
    pub peers: Vec<PeerStatus>,
}

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
        let (in_flight_bytes, parked) = self.flow.figures(member);
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
            parked,
        }
    }
}
