//! Elections (3.4), and what keeps them from disturbing a group that has a leader.
//!
//! - *One vote a term.* A member votes for one candidate in a term, and the vote is durable before it is told (3.8); the
//!   candidate's own vote is, before it asks for others. So a term has one leader (3.6.3).
//! - *Votes go to logs that are complete.* A candidate's log must not end before the voter's: a later last term wins, then
//!   the longer log. Since an entry is committed by a majority and elected by one, each leader has all that was committed
//!   (3.6.1, 3.6.3).
//! - *A member votes whatever it knows of the configuration*, also one that thinks it is a learner: it may not have applied
//!   the change that made it a voter, and an election may depend on it. Who counts is the candidate's matter (4.2.2 says the
//!   same of members outside the configuration).
//! - *Timeouts* are a pure function of seed, group, member and term, between one and two election times. Members that split
//!   a vote draw again for the next term (3.4: randomness is what ends split votes; it need not be unpredictable).
//! - *Pre-vote* (9.6). A member first asks whether it could win, without changing its term: one that was cut off does not
//!   come back with a higher one. Voters refuse while they hear from a leader. The answer to a pre-vote that is granted
//!   carries the term that was asked for; one that is refused carries the voter's own, so that a member behind catches up
//!   with the term (without that, two members can each be unelectable for the other: etcd issues 8243 and 8501).
//! - *Loyalty* (4.2.3). A member that has heard from a leader within an election time answers no request for a vote at all,
//!   unless the leader has asked for the election: removed members cannot disturb. A member that is told that its leader is
//!   gone is loyal no longer.
//! - *Check of the quorum* (6.2). A leader that has not heard from a majority for an election time steps down: nobody waits for
//!   a leader that cannot commit. Loyalty needs it: if a leader could lead on with a minority, the others' loyalty to it
//!   would keep a majority from electing one that commits.
//! - *Who may campaign.* A voter, when it knows of no configuration change that is committed and not applied here (see
//!   `membership.rs`), and when no snapshot is on its way to its disk (its log has a hole until it is installed).
//! - *A lone voter* need not wait for a timeout. It wins the moment it campaigns, before anything it does is durable; it does
//!   so only with a durable log, and says nothing before its term is durable (`Group::ready`).
//! - *Commit indexes travel with votes.* Both sides tell what they know to be committed. An entry named so is committed
//!   wherever it is (3.5, log matching), whatever the terms of the two. Without it a group can be stuck: the leader that was
//!   removed has a longer log than those who stay, refuses to vote for them, does not campaign itself, and they count on its
//!   vote because they do not know that the change is committed. (raft-rs tells commit indexes for this reason, and loses
//!   them when the one who refuses is in an earlier term.)

use super::{Core, mix, quorum};
use crate::core::quorum::Tally;
use crate::message::{PeerBody, PeerMessage};
use crate::types::{EntryId, EntryKind, MemberId, Role};

impl Core {
    /// The election timeout of a term, in ticks.
    pub(super) fn timeout_of(&self, term: u64) -> u64 {
        let who = mix(self.own().0, u64::from(self.config.group.0));
        let election = self.config.election_ticks as u64;
        election + mix(mix(self.config.seed, who), term) % election
    }

    pub(crate) fn tick(&mut self) {
        self.ticks += 1;
        if self.is_leader() {
            self.tick_leader();
        } else {
            self.tick_election();
        }
    }

    fn tick_election(&mut self) {
        if self.may_campaign() {
            self.election_elapsed += 1;
            // Who cannot campaign yet stays without loyalty, and campaigns when it can.
            if self.election_elapsed >= self.timeout && self.can_campaign() {
                self.election_elapsed = 0;
                self.campaign();
            }
        }
        if self.ticks.is_multiple_of(self.config.heartbeat_ticks as u64) {
            self.repeat_read_round();
        }
    }

    fn tick_leader(&mut self) {
        assert!(self.leader == Some(self.own()), "a leader knows that it leads");
        self.heartbeat_elapsed += 1;
        self.election_elapsed += 1;
        if self.election_elapsed >= self.config.election_ticks as u64 {
            self.election_elapsed = 0;
            if !self.check_quorum() {
                return self.become_follower(self.term, None);
            }
            self.transfer = None;
        }
        if self.heartbeat_elapsed >= self.config.heartbeat_ticks as u64 {
            self.heartbeat_elapsed = 0;
            self.broadcast_due_heartbeats();
        }
        self.leave_leadership_if_stalled();
    }

    /// Whether a majority was heard from since the last time.
    fn check_quorum(&mut self) -> bool {
        assert!(self.is_leader(), "only a leader needs a quorum that hears it");
        let own = self.own().0;
        let active = |id| id == own || self.tracker.get(MemberId(id)).is_some_and(|peer| peer.recent_active);
        let agrees = quorum::agrees(&self.conf, active);
        self.tracker.peers_mut().iter_mut().for_each(|peer| peer.progress.recent_active = false);
        agrees
    }

    /// Whether the clock of elections runs; see the rules above.
    pub(crate) fn may_campaign(&self) -> bool {
        if self.is_alone() { self.log.is_durable() && !self.log.installs() } else { !self.log.installs() }
    }

    fn can_campaign(&self) -> bool {
        !self.is_leader()
            && self.conf.is_voter(self.own())
            && self.may_campaign()
            && !self.log.has_unapplied_conf_change()
    }

    /// Asks whether it could win.
    pub(crate) fn campaign(&mut self) {
        if !self.can_campaign() {
            return;
        }
        self.turn(Role::PreCandidate, self.term, None);
        self.ask_for_votes(true, false);
    }

    /// The leader says that this member should be the next: no pre-vote, since the present one has given up.
    pub(super) fn campaign_now(&mut self) {
        if self.can_campaign() {
            self.stand(true);
        }
    }

    /// A sole voter need not wait for an election timeout.
    pub(crate) fn campaign_alone(&mut self) {
        if self.is_alone() {
            self.campaign();
        }
    }

    /// Becomes a candidate.
    fn stand(&mut self, transfer: bool) {
        assert!(self.conf.is_voter(self.own()), "only who votes is elected");
        self.start_over();
        self.turn(Role::Candidate, self.term + 1, None);
        self.vote = Some(self.own());
        self.ask_for_votes(false, transfer);
    }

    pub(super) fn ask_for_votes(&mut self, pre: bool, transfer: bool) {
        self.votes.clear();
        if self.note_vote(self.own(), true) {
            return;
        }
        let (last, commit) = (self.log.last_id(), self.log.committed_id());
        let term = self.term + u64::from(pre);
        assert!(pre || self.vote == Some(self.own()), "who asks for votes has given its own");
        for id in self.conf.members() {
            if id != self.own() && self.conf.is_voter(id) {
                let message = self.message(id, PeerBody::Vote { pre, transfer, last, commit });
                self.send(PeerMessage { term, ..message }, !pre);
            }
        }
    }

    /// Counts a vote; whether it decided the election.
    fn note_vote(&mut self, from: MemberId, granted: bool) -> bool {
        let asks = matches!(self.role, Role::PreCandidate | Role::Candidate);
        assert!(asks, "votes are counted by who has asked for them");
        if !self.votes.iter().any(|(voter, _)| *voter == from) {
            self.votes.push((from, granted));
        }
        let votes = &self.votes;
        let vote_of = |id| votes.iter().find(|(voter, _)| voter.0 == id).map(|(_, granted)| *granted);
        match quorum::tally(&self.conf, vote_of) {
            Tally::Open => return false,
            Tally::Lost => self.become_follower(self.term, None),
            Tally::Won if self.role == Role::PreCandidate => self.stand(false),
            Tally::Won => self.become_leader(),
        }
        true
    }

    /// A message of a later term: whether to go on with it.
    pub(super) fn enter_term_of(&mut self, message: &PeerMessage) -> bool {
        assert!(message.term > self.term, "a later term is entered, no other");
        let leader = match message.body {
            PeerBody::Vote { transfer, pre, .. } => {
                if !transfer && self.is_loyal() {
                    return false;
                }
                if pre {
                    return true;
                }
                None
            }
            // Granted in the term that was asked for; it becomes this member's term when it campaigns.
            PeerBody::VoteResponse { pre: true, reject: false, .. } => return true,
            PeerBody::Append { .. } | PeerBody::Heartbeat { .. } | PeerBody::Snapshot(_) => Some(message.from),
            _ => None,
        };
        self.become_follower(message.term, leader);
        assert!(self.term == message.term && self.vote.is_none(), "a term begins without a vote of this member");
        true
    }

    /// Whether a leader was heard from within an election time.
    fn is_loyal(&self) -> bool {
        self.leader.is_some() && self.election_elapsed < self.config.election_ticks as u64
    }

    /// Nobody leads for sure: the rest of the election time that is the same for all need not be waited for; what is drawn on
    /// top of it is.
    pub(crate) fn hurry(&mut self) {
        assert!(!self.is_leader(), "a leader does not wait for an election");
        self.election_elapsed = self.election_elapsed.max(self.config.election_ticks as u64);
    }

    pub(super) fn vote_asked(&mut self, from: MemberId, term: u64, pre: bool, last: EntryId, commit: EntryId) {
        let own_last = self.log.last_id();
        let is_complete = (last.term, last.index) >= (own_last.term, own_last.index);
        let is_free =
            self.vote == Some(from) || (self.vote.is_none() && self.leader.is_none()) || (pre && term > self.term);
        if is_free && is_complete {
            if !pre {
                assert!(
                    term == self.term && self.vote.is_none_or(|vote| vote == from),
                    "one vote a term, and in no other"
                );
                (self.vote, self.election_elapsed) = (Some(from), 0);
            }
            let message = self.message(from, PeerBody::VoteResponse { pre, reject: false, commit: EntryId::ZERO });
            self.send(PeerMessage { term, ..message }, !pre);
        } else {
            let own_commit = self.log.committed_id();
            self.say(from, PeerBody::VoteResponse { pre, reject: true, commit: own_commit });
            self.commit_by_vote(commit);
        }
    }

    pub(super) fn vote_answered(&mut self, from: MemberId, term: u64, pre: bool, granted: bool, commit: EntryId) {
        let asked = match self.role {
            Role::PreCandidate => pre && (!granted || term == self.term + 1),
            Role::Candidate => !pre && term == self.term,
            Role::Follower | Role::Leader => false,
        };
        if asked {
            self.note_vote(from, granted);
            self.commit_by_vote(commit);
        }
    }

    /// Somebody knows this entry to be committed.
    pub(super) fn commit_by_vote(&mut self, commit: EntryId) {
        let before = self.log.committed();
        if self.is_leader() || commit.index <= before || !self.log.matches(commit) {
            return;
        }
        self.log.commit_to(commit.index);
        assert!(self.log.committed() >= before, "what is committed stays so");
        if self.role != Role::Follower && self.log.has_unapplied_conf_change() {
            self.become_follower(self.term, None);
        }
    }

    /// What every change of role begins with.
    fn start_over(&mut self) {
        (self.election_elapsed, self.heartbeat_elapsed) = (0, 0);
        (self.transfer, self.pending_conf) = (None, 0);
        self.votes.clear();
    }

    pub(super) fn become_follower(&mut self, term: u64, leader: Option<MemberId>) {
        self.start_over();
        self.uncommitted_bytes = 0;
        self.turn(Role::Follower, term, leader);
    }

    /// Appends an empty entry of the new term: with it everything before is committed (3.6.2, 6.4).
    fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate is elected");
        assert!(self.vote == Some(self.own()), "a candidate votes for itself");
        self.start_over();
        let last = self.log.last();
        self.tracker.reset(last);
        self.turn(Role::Leader, self.term, Some(self.own()));
        // There may be configuration changes in the log that are not applied: none is proposed before all of it is.
        self.pending_conf = last;
        (self.elected_at, self.uncommitted_bytes) = (last, 0);
        self.append_own(EntryKind::Normal, bytes::Bytes::new());
    }
}
