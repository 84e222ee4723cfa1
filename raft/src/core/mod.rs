//! The consensus core: Raft as a state machine, without a disk and without a shell. [`crate::Group`] feeds it and turns what
//! it has done into `Ready` values.
//!
//! By concern, each file with its rules, why they hold, and where they come from (a section number is one of Ongaro's
//! dissertation "Consensus: bridging theory and practice", 2014):
//! - [`log`]: entries, and how far they are durable, committed, applied
//! - [`quorum`]: what a majority, or both halves of a joint configuration, have reached
//! - [`tracker`]: what the leader knows of each follower, and what it sends next
//! - `election`: terms, votes, timeouts, pre-votes, the check of the quorum
//! - `replication`: appends, acknowledgements, commit
//! - `membership`: configurations and their changes
//! - `reads`: linearizable reads
//! - `snapshot`: followers that need more than the log has
//! - `transfer`: handing leadership over, on request or because it must
//!
//! Invariants:
//! - no input makes it panic: what a message may say is checked by `Group::step`, and what is not checked there has no rule
//!   that depends on it; what is asserted here are mistakes of this crate or of the shell;
//! - role, term and leader change in one place, [`Core::turn`];
//! - messages wait for the disk where they promise something that must survive a crash ([`Outgoing::is_promise`]): votes, the
//!   requests for them (they are one's own vote), and acknowledgements of entries. Everything else says what is true now.

mod election;
pub(crate) mod log;
mod membership;
#[cfg(test)]
mod planted;
mod quorum;
mod reads;
mod replication;
mod snapshot;
mod tracker;
mod transfer;

use log::Log;
pub(crate) use quorum::agrees;
use reads::ReadRounds;
pub(crate) use reads::Waiter;
pub use tracker::PeerState;
pub(crate) use tracker::Progress;
use tracker::{Next, Tracker, Wish};

use crate::conf::ConfState;
use crate::config::GroupConfig;
use crate::error::StepError;
use crate::log::RecoveredLog;
use crate::message::{PeerBody, PeerMessage};
use crate::types::{Entry, HardState, MemberId, Role, RoleChange};

/// Emptied vectors of entries kept by a group that has no others to share them with.
const SPARE_ENTRIES_MAX: usize = 64;

/// A message to another member.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: PeerMessage,
    /// It promises something that must be durable before it leaves.
    pub(crate) is_promise: bool,
}

pub(crate) struct Core {
    /// As given; `conf` is empty in it.
    pub(crate) config: GroupConfig,
    pub(crate) conf: ConfState,
    /// How often it was set.
    pub(crate) conf_version: u64,
    term: u64,
    vote: Option<MemberId>,
    role: Role,
    leader: Option<MemberId>,
    pub(crate) log: Log,
    tracker: Tracker,
    /// Votes heard of in the election under way.
    votes: Vec<(MemberId, bool)>,
    ticks: u64,
    election_elapsed: u64,
    heartbeat_elapsed: u64,
    /// Ticks after which a member that hears from no leader campaigns; of this term.
    timeout: u64,
    /// No configuration change may be proposed before what is applied has reached this.
    pending_conf: u64,
    transfer: Option<MemberId>,
    /// End of the log when this member was elected, and bytes proposed behind it and not committed.
    elected_at: u64,
    uncommitted_bytes: usize,
    pub(crate) rounds: ReadRounds,
    pub(crate) outbox: Vec<Outgoing>,
    /// Emptied vectors of entries, to be used again: what appends carry costs no allocation.
    pub(crate) spare_entries: Vec<Vec<Entry>>,
    /// Heartbeats are spared where appends and their answers went in the meantime.
    pub(crate) saves_heartbeats: bool,
    /// Followers that the shell has yet to be asked a snapshot for.
    snapshots_wanted: Vec<MemberId>,
}

impl Core {
    pub(crate) fn new(mut config: GroupConfig, recovered: RecoveredLog) -> Core {
        let conf = std::mem::take(&mut config.conf);
        let hard_state = recovered.hard_state;
        let rounds = ReadRounds::new(mix(config.seed, config.member.0));
        let mut core = Core {
            log: Log::new(recovered, config.window),
            conf: ConfState::default(),
            conf_version: 0,
            term: hard_state.term,
            vote: hard_state.vote,
            role: Role::Follower,
            leader: None,
            tracker: Tracker::default(),
            votes: Vec::new(),
            ticks: 0,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            timeout: 0,
            pending_conf: 0,
            transfer: None,
            elected_at: 0,
            uncommitted_bytes: 0,
            rounds,
            outbox: Vec::new(),
            spare_entries: Vec::new(),
            saves_heartbeats: false,
            snapshots_wanted: Vec::new(),
            config,
        };
        core.timeout = core.timeout_of(core.term);
        core.set_conf(conf);
        core.trim();
        core
    }

    pub(crate) fn role(&self) -> RoleChange {
        RoleChange { role: self.role, leader: self.leader, term: self.term }
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
    }

    pub(crate) fn transferring_to(&self) -> Option<MemberId> {
        self.transfer
    }

    pub(crate) fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    pub(crate) fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Other members, as this one knows them.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (MemberId, &Progress)> {
        self.tracker.peers().iter().map(|peer| (peer.id, &peer.progress))
    }

    /// Whether nothing is to be sent, handed over or answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.transfer.is_none() && self.rounds.is_idle()
    }

    fn own(&self) -> MemberId {
        self.config.member
    }

    fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    pub(crate) fn message(&self, to: MemberId, body: PeerBody) -> PeerMessage {
        PeerMessage { group: self.config.group, from: self.own(), to, term: self.term, body, entries: Vec::new() }
    }

    /// Says something that is true now.
    fn say(&mut self, to: MemberId, body: PeerBody) {
        let message = self.message(to, body);
        self.send(message, false);
    }

    /// Says something that must be durable first.
    fn promise(&mut self, to: MemberId, body: PeerBody) {
        let message = self.message(to, body);
        self.send(message, true);
    }

    fn send(&mut self, message: PeerMessage, is_promise: bool) {
        assert!(message.to != self.own(), "what a member says to itself is lost");
        assert!(message.term >= self.term, "what is said is said in the term that is known, or asked for");
        self.outbox.push(Outgoing { message, is_promise });
    }

    /// Role, term or leader change, here and nowhere else: reads that waited for another leader fail, and nobody goes on
    /// with snapshots that an earlier leadership has asked for.
    fn turn(&mut self, role: Role, term: u64, leader: Option<MemberId>) {
        assert!(term >= self.term, "a term never goes back");
        let leads = role == Role::Leader;
        assert!(leads == (leader == Some(self.own())), "who leads follows itself, and nobody else does");
        assert!(!leads || self.role == Role::Candidate, "only who was elected leads");
        if self.leader.is_some() && (leader, term) != (self.leader, self.term) {
            self.rounds.fail_all();
        }
        if role != Role::Leader || term != self.term {
            self.tracker.withdraw_all();
            self.snapshots_wanted.clear();
        }
        if term != self.term {
            (self.term, self.vote) = (term, None);
            self.timeout = self.timeout_of(term);
        }
        (self.role, self.leader) = (role, leader);
    }

    /// An emptied vector of entries is not needed any more.
    pub(crate) fn recycle_entries(&mut self, mut entries: Vec<Entry>) {
        entries.clear();
        if entries.capacity() > 0 && self.spare_entries.len() < SPARE_ENTRIES_MAX {
            self.spare_entries.push(entries);
        }
    }

    /// Nothing happens for a while: what is kept for speed is given back.
    pub(crate) fn shrink(&mut self) {
        self.log.shrink();
        self.outbox = Vec::new();
        self.votes = Vec::new();
        self.tracker.peers_mut().iter_mut().for_each(|peer| peer.progress.inflight.shrink());
        self.rounds.shrink();
    }

    /// A message that `Group::step` has let pass.
    pub(crate) fn step(&mut self, mut message: PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        if is_answer(&message.body) && self.tracker.get(from).is_none() {
            // Also if its term is later: who was removed does not depose anybody.
            return Err(StepError::UnknownPeer { from });
        }
        if message.term < self.term {
            self.answer_earlier_term(&message);
            return Ok(());
        }
        if message.term > self.term && !self.enter_term_of(&message) {
            return Ok(());
        }
        assert!(message.term == self.term || is_about_pre_vote(&message.body), "what goes on is of this term");
        match message.body {
            PeerBody::Vote { pre, last, commit, .. } => self.vote_asked(from, message.term, pre, last, commit),
            PeerBody::VoteResponse { pre, reject, commit } => {
                self.vote_answered(from, message.term, pre, !reject, commit)
            }
            PeerBody::Append { prev, commit } if self.hear_leader(from) => {
                let result = self.append_asked(from, prev, commit, &mut message.entries);
                self.recycle_entries(message.entries);
                return result;
            }
            PeerBody::Heartbeat { commit, round } if self.hear_leader(from) => {
                self.log.commit_to(commit);
                let commit = self.log.committed();
                self.say(from, PeerBody::HeartbeatResponse { commit, round });
            }
            PeerBody::Snapshot(meta) if self.hear_leader(from) => self.snapshot_asked(from, meta),
            PeerBody::AppendResponse { index, reject, .. } if self.is_leader() => {
                self.append_answered(from, index, reject);
            }
            PeerBody::HeartbeatResponse { round, .. } if self.is_leader() => self.heartbeat_answered(from, round),
            PeerBody::TimeoutNow if self.role == Role::Follower => self.campaign_now(),
            _ => {}
        }
        Ok(())
    }

    /// What was said in an earlier term is void. A leader that has not noticed is told of the term by the answer, or a member
    /// whose term is ahead could never follow it again: pre-votes and the check of the quorum keep it from being heard
    /// otherwise (etcd pull request 5468, issue 8243).
    fn answer_earlier_term(&mut self, message: &PeerMessage) {
        assert!(message.term < self.term, "what is said in this term counts");
        match message.body {
            PeerBody::Append { .. } | PeerBody::Heartbeat { .. } => {
                let body = PeerBody::AppendResponse { index: 0, commit: 0, reject: None, request_snapshot: 0 };
                self.say(message.from, body);
            }
            PeerBody::Vote { pre: true, .. } => {
                let commit = self.log.committed_id();
                self.say(message.from, PeerBody::VoteResponse { pre: true, reject: true, commit });
            }
            // What is committed is so in every term. Who refuses a pre-vote may be behind in terms and ahead in this: a leader
            // that has left the configuration, for one, whose vote is needed by those who do not know that it has.
            PeerBody::VoteResponse { reject: true, commit, .. } => self.commit_by_vote(commit),
            _ => {}
        }
    }

    /// A leader of this term speaks. Two of them cannot be; one that claims to be the second is not listened to.
    fn hear_leader(&mut self, from: MemberId) -> bool {
        if self.is_leader() {
            return false;
        }
        if self.role != Role::Follower {
            self.become_follower(self.term, Some(from));
        }
        if self.leader != Some(from) {
            self.turn(Role::Follower, self.term, Some(from));
        }
        self.election_elapsed = 0;
        assert!(self.role == Role::Follower, "who hears a leader of its term does not ask for votes in it");
        true
    }
}

/// A pre-vote, or the grant of one, speaks of a term that nobody is in.
fn is_about_pre_vote(body: &PeerBody) -> bool {
    matches!(body, PeerBody::Vote { pre: true, .. } | PeerBody::VoteResponse { pre: true, reject: false, .. })
}

fn is_answer(body: &PeerBody) -> bool {
    use PeerBody::{AppendResponse, HeartbeatResponse, VoteResponse};
    matches!(body, AppendResponse { .. } | HeartbeatResponse { .. } | VoteResponse { .. })
}

/// A well-mixed function of two words (the finalizer of splitmix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
