//! What happens inside a group around raft-rs: appending, settling after every call, filling a `Ready`.

use bytes::Bytes;
use raft::eraftpb::{self, MessageType};
use raft::{ProgressState, StateRole};

use super::{Group, InFlight, mix};
use crate::conf::{ConfChange, ConfChangeKind, ConfState};
use crate::convert;
use crate::error::{ApplyConfError, ProposeError};
use crate::message::{PeerBody, PeerMessage, RaftMessage, round_context, round_of};
use crate::read_index::Waiter;
use crate::ready::Ready;
use crate::types::{Entry, EntryKind, HardState, MemberId, ReadState, Role, RoleChange, member_from_raw};

impl Group {
    /// Appends as the leader.
    #[inline]
    pub(super) fn append(&mut self, entry: eraftpb::Entry) -> Result<(), ProposeError> {
        let message = eraftpb::Message {
            msg_type: MessageType::MsgPropose,
            from: self.member.0,
            entries: vec![entry].into(),
            ..Default::default()
        };
        self.raw.raft.step(message).map_err(|_| self.why_dropped())
    }

    /// raft-rs only says that it dropped a proposal.
    fn why_dropped(&self) -> ProposeError {
        if self.raw.raft.prs().get(self.member.0).is_none() {
            ProposeError::Removed
        } else if self.raw.raft.lead_transferee.is_some() {
            ProposeError::Transferring
        } else {
            ProposeError::Overloaded
        }
    }

    /// Appends a configuration change as the leader. What raft-rs would silently turn into an empty entry is refused here.
    pub(super) fn append_conf_change(&mut self, change: &ConfChange, data: Bytes) -> Result<(), ProposeError> {
        let Some(raw) = convert::conf_change_to_raft(change) else {
            return self.append(eraftpb::Entry { context: data, ..Default::default() });
        };
        if self.raw.raft.has_pending_conf() {
            return Err(ProposeError::ConfChangePending);
        }
        let joint = self.conf.is_joint();
        if joint != (change.kind == ConfChangeKind::LeaveJoint) {
            return Err(ProposeError::Joint { joint });
        }
        self.raw.propose_conf_change(data.to_vec(), raw).map_err(|_| self.why_dropped())
    }

    /// Sends an entry to the leader.
    pub(super) fn forward(&mut self, entry: Entry) -> Result<(), ProposeError> {
        let leader = self.role.leader.ok_or(ProposeError::NoLeader)?;
        let message = PeerMessage { entries: vec![entry], ..self.message(leader, PeerBody::Propose) };
        self.messages.push(PeerMessage { term: 0, ..message });
        Ok(())
    }

    /// A message of this crate's own kind.
    pub(super) fn message(&self, to: MemberId, body: PeerBody) -> PeerMessage {
        let (from, term) = (self.member, self.role.term);
        PeerMessage { group: self.group, from, to, term, body, entries: Vec::new() }
    }

    /// Follows every call into raft-rs that may have changed more than the log.
    #[inline]
    pub(super) fn settle(&mut self) {
        let raft = &self.raw.raft;
        let role = RoleChange {
            role: convert::role_from_raft(raft.state),
            leader: member_from_raw(raft.leader_id),
            term: raft.term,
        };
        if role != self.role {
            let led = self.role.leader.is_some();
            if led && (role.leader != self.role.leader || role.term != self.role.term) {
                self.rounds.fail_all();
            }
            if role.role != Role::Leader || role.term != self.role.term {
                self.snapshots_asked.clear();
                // Whoever leads next, and be it this member again, must not announce what may be gone by then.
                self.raw.mut_store().withdraw_all();
                self.flow.clear();
            }
            self.role = role;
        }
        self.set_timeout();
        self.pump_reads();
    }

    /// Replaces the timeout raft-rs may have drawn: the one of a term is a function of seed, group, member and term.
    /// Members that split the votes of a term draw again for the next, so elections end.
    fn set_timeout(&mut self) {
        if self.timeout_term != self.role.term || self.timeout == 0 {
            let who = mix(self.member.0, u64::from(self.group.0));
            let drawn = mix(mix(self.seed, who), self.role.term) % self.election_ticks;
            (self.timeout, self.timeout_term) = ((self.election_ticks + drawn) as usize, self.role.term);
        }
        if self.raw.raft.randomized_election_timeout() != self.timeout {
            self.raw.raft.set_randomized_election_timeout(self.timeout);
        }
    }

    pub(super) fn set_conf(&mut self, conf: ConfState) {
        let own = self.member.0;
        self.alone = conf.voters == [own] && conf.voters_outgoing.iter().all(|id| *id == own);
        self.conf = conf;
    }

    /// The configuration changed inside raft-rs (a snapshot was restored).
    pub(super) fn refresh_conf(&mut self) {
        let raw = self.raw.raft.prs().conf().to_conf_state();
        self.set_conf(convert::conf_state_from_raft(&raw));
    }

    /// Whether no part of the log could be lost in a crash. raft-rs insists on it when it makes a leader.
    pub(super) fn is_log_durable(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.last_index() == log.persisted
            && !self.in_flight.iter().any(|ready| ready.entries || ready.snapshot.is_some())
    }

    /// Whether raft-rs may start an election. Not while a snapshot is on its way to the disk: it looks for the entries
    /// behind the applied index, which are gone. And a sole voter, who wins the moment it campaigns, only with a durable log;
    /// others send their requests for votes when it is.
    pub(super) fn may_campaign(&self) -> bool {
        if self.alone {
            return self.is_log_durable();
        }
        !self.in_flight.iter().any(|ready| ready.snapshot.is_some())
    }

    /// A sole voter need not wait for an election timeout. raft-rs declines while configuration changes are unapplied.
    pub(super) fn campaign_alone(&mut self) {
        if self.alone && self.role.role != Role::Leader && self.may_campaign() {
            // Fails only for messages from elsewhere.
            let _ = self.raw.campaign();
            self.settle();
        }
    }

    /// A leader whose disk stalls hands over.
    pub(super) fn leave_leadership_if_stalled(&mut self) {
        let oldest = self.in_flight.front().map_or(self.ticks, |ready| ready.since);
        if self.ticks - oldest >= self.election_ticks
            && self.raw.raft.lead_transferee.is_none()
            && let Some(target) = self.best_follower()
        {
            self.raw.transfer_leader(target);
        }
    }

    /// A leader that no longer votes steps down at once (raft-rs cannot do without itself among the members), telling the
    /// others what is committed and the best of them to campaign.
    pub(super) fn abdicate_if_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Leader || self.conf.is_voter(self.member) {
            return;
        }
        raft.bcast_append();
        raft.bcast_heartbeat();
        if let Some(target) = self.best_follower() {
            self.raw.raft.send_timeout_now(target);
        }
        let raft = &mut self.raw.raft;
        raft.become_follower(raft.term, raft::INVALID_ID);
    }

    /// The live voter that has most of the log.
    fn best_follower(&self) -> Option<u64> {
        let voters =
            self.raw.raft.prs().iter().filter(|(id, _)| **id != self.member.0 && self.conf.voters.contains(id));
        voters
            .filter(|(_, progress)| progress.recent_active && progress.state == ProgressState::Replicate)
            .max_by_key(|(id, progress)| (progress.matched, std::cmp::Reverse(**id)))
            .map(|(id, _)| *id)
    }

    /// Collects answers of read rounds and begins the next.
    pub(super) fn pump_reads(&mut self) {
        for state in std::mem::take(&mut self.raw.raft.read_states) {
            if let Some(round) = round_of(&state.request_ctx) {
                self.rounds.answer(round, state.index);
            }
        }
        if !self.rounds.can_begin() {
            return;
        }
        if self.role.role != Role::Leader {
            if let Some(leader) = self.role.leader {
                let round = self.rounds.begin();
                let message = self.message(leader, PeerBody::ReadIndex { round });
                self.messages.push(message);
            }
        } else if !self.raw.raft.commit_to_current_term() {
            // A new leader does not know yet what is committed.
        } else if self.alone {
            self.rounds.answer_gathered(self.raw.raft.raft_log.committed);
        } else {
            let round = self.rounds.begin();
            self.raw.read_index(round_context(Some(round)).to_vec());
        }
    }

    /// The question or its answer may have been lost.
    pub(super) fn repeat_read_round(&mut self) {
        if let (Some(round), Some(leader)) = (self.rounds.running(), self.role.leader) {
            let message = self.message(leader, PeerBody::ReadIndex { round });
            self.messages.push(message);
        }
    }

    /// Whether `entry` must wait until a hard state that commits it is durable.
    fn waits(entry: &Entry, durable: &HardState) -> bool {
        entry.kind == EntryKind::ConfChange && entry.index > durable.commit
    }

    pub(super) fn can_release_held(&self) -> bool {
        self.held.front().is_some_and(|entry| !Self::waits(entry, &self.durable))
    }

    /// Hands out committed entries up to the first configuration change that must wait.
    pub(super) fn hand_out_committed(&mut self, committed: Vec<eraftpb::Entry>, ready: &mut Ready) {
        if ready.snapshot.is_some() {
            // The snapshot has them all, also those handed out and not yet applied.
            assert!(committed.is_empty(), "entries and a snapshot are never handed out together");
            self.held.clear();
            self.conf_changes.clear();
            return;
        }
        ready.committed.reserve(self.held.len() + committed.len());
        self.held.extend(committed.into_iter().map(convert::entry_from_raft));
        while self.can_release_held() {
            let entry = self.held.pop_front().expect("there is a front");
            if entry.kind == EntryKind::ConfChange {
                self.conf_changes.push_back(entry.index);
            }
            ready.committed.push(entry);
        }
    }

    /// The hard state, if it has to be written: for a new term or vote, ahead of a configuration change, and (the commit
    /// index is then free) beside anything else that is written.
    ///
    /// It is written before the entries of the same `Ready`. If a crash keeps the one and loses the others, older entries
    /// may be in their place: its commit index must not reach that far.
    pub(super) fn hard_state_to_write(&mut self, ready: &Ready) -> Option<HardState> {
        let mut now = convert::hard_state_from_raft(&self.raw.raft.hard_state());
        if let Some(first) = ready.entries.first() {
            now.commit = now.commit.min(first.index - 1);
        }
        let voted = now.term != self.written.term || now.vote != self.written.vote;
        let barrier = self.held.front().is_some_and(|entry| entry.index > self.written.commit);
        let beside = (!ready.entries.is_empty() || ready.snapshot.is_some()) && now.commit != self.written.commit;
        if !voted && !barrier && !beside {
            return None;
        }
        assert!(now.commit >= self.written.commit, "what was committed stays committed");
        self.written = now;
        Some(now)
    }

    /// Remembers what is on its way to the disk.
    pub(super) fn note_in_flight(&mut self, ready: &Ready) {
        if ready.must_persist() {
            self.in_flight.push_back(InFlight {
                number: ready.number,
                hard_state: self.written,
                snapshot: ready.snapshot.as_ref().map(|meta| meta.id.index),
                entries: !ready.entries.is_empty(),
                since: self.ticks,
            });
        } else if self.in_flight.is_empty() {
            self.raw.on_persist_ready(ready.number);
        }
    }

    pub(super) fn convert_messages(&mut self, raw: Vec<eraftpb::Message>, out: &mut Vec<PeerMessage>) {
        out.reserve(raw.len());
        for message in raw {
            if message.msg_type == MessageType::MsgSnapshot {
                self.raw.mut_store().withdraw(MemberId(message.to));
            }
            out.extend(PeerMessage::from_raft(self.group, message).and_then(|message| self.flow.send(message)));
        }
    }

    pub(super) fn hand_out_reads(&mut self, ready: &mut Ready) {
        while let Some((waiters, index)) = self.rounds.take_answered() {
            for waiter in &waiters {
                match *waiter {
                    Waiter::Local(token) => ready.read_states.push(ReadState { token, index }),
                    Waiter::Remote { member, round } => {
                        ready.messages.push(self.message(member, PeerBody::ReadIndexResponse { round, index }));
                    }
                }
            }
            self.rounds.recycle(waiters);
        }
        ready.failed_reads = self.rounds.take_failed();
    }

    /// Each follower's wish is passed on once, until the shell has answered it.
    pub(super) fn hand_out_snapshot_requests(&mut self, ready: &mut Ready) {
        for member in self.raw.mut_store().take_wanted() {
            if self.raw.raft.state == StateRole::Leader && !self.snapshots_asked.contains(&member) {
                self.snapshots_asked.push(member);
                ready.snapshot_requests.push(member);
            }
        }
    }

    pub(super) fn take_conf_change(&mut self, index: u64) {
        let next = self.conf_changes.pop_front();
        assert_eq!(next, Some(index), "configuration changes are applied in order, each once");
    }

    /// Carries a committed configuration change out in raft-rs.
    pub(super) fn change_conf(&mut self, entry: &Entry) -> Result<(), ApplyConfError> {
        let refused = |detail: String| ApplyConfError { detail };
        let change = ConfChange::decode(&entry.data).map_err(|error| refused(error.to_string()))?;
        if let Some(raw) = convert::conf_change_to_raft(&change) {
            let state = self.raw.apply_conf_change(&raw).map_err(|error| refused(error.to_string()))?;
            self.set_conf(convert::conf_state_from_raft(&state));
            self.abdicate_if_removed();
            self.settle();
        }
        Ok(())
    }

    /// No configuration change is under way any more: a snapshot that waited may be restored.
    pub(super) fn step_postponed(&mut self) {
        if self.conf_changes.is_empty()
            && let Some(message) = self.postponed.take()
        {
            // It was checked when it came; it may be out of date by now, and is then ignored.
            let _ = self.step(message);
        }
    }

    /// Applied up to `index`; an earlier index (from before a snapshot) changes nothing.
    pub(super) fn advance_applied(&mut self, index: u64) {
        if index <= self.applied() {
            return;
        }
        let last = self.last_index();
        self.raw.advance_apply_to(index);
        if self.last_index() > last {
            // The leader proposed to leave the joint configuration. raft-rs would send that with the next heartbeat only.
            self.raw.raft.bcast_append();
        }
        self.trim_window();
    }

    /// Drops what no follower will ask for any more, within bounds.
    ///
    /// What follows a travelling snapshot is kept, and also what a follower that is there has yet to get: it may just have
    /// installed one, and would need the next if the log went on faster than it came.
    pub(super) fn trim_window(&mut self) {
        let first = self.raw.raft.raft_log.first_index();
        let followers = || self.raw.raft.prs().iter().filter(|(id, _)| **id != self.member.0);
        let is_followed = followers().next().is_some();
        let has = followers().filter_map(|(_, progress)| {
            let has = match progress.state {
                ProgressState::Snapshot => return Some(progress.pending_snapshot),
                ProgressState::Probe => progress.next_idx - 1,
                ProgressState::Replicate => progress.matched,
            };
            (progress.recent_active && has + 1 >= first).then_some(has)
        });
        let keep = has.min();
        let applied = self.applied();
        self.raw.mut_store().trim(applied, is_followed, keep);
    }
}
