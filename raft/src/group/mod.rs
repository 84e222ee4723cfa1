//! One consensus group as a state machine.
//!
//! The shell's loop: feed inputs (`propose`, `step`, `tick`, `read_index`, ...), then take [`Ready`]s until there is none.
//!
//! Duties of the shell, for each [`Ready`]:
//! 1. Install `snapshot`, append its mark, `hard_state` and `entries` to the log in that order, and submit a flush. Several
//!    readies may be in flight; their records are written in the order of their numbers.
//! 2. Send `messages` now. Send `persisted_messages` when this `Ready` and all before it are durable.
//! 3. When they are, call [`Group::on_persisted`] with the highest such number. (If [`Ready::must_persist`] is false and
//!    nothing is in flight, nobody needs to be told.)
//! 4. Apply `committed` in order; for each entry of kind `ConfChange` call [`Group::apply_conf_change`] (or
//!    [`Group::refuse_conf_change`]); then call [`Group::on_applied`] with the last index.
//! 5. Answer `read_states` once their index is applied.
//!
//! Invariants of this layer, between the core and the disk:
//! - Nothing is sent in a term that is not durable here. A leader sends before its own write (Raft dissertation, 10.2.1), which
//!   is safe after an election by others (they waited for the durable vote) but not for a voter that elected itself: after a
//!   crash it would lead the same term again, with other entries. (A proposal that is passed on is of no term.)
//! - What promises something durable is sent when it is (3.8); everything else does not wait for the disk, above all answers
//!   to heartbeats: a follower with a slow disk is alive.
//! - A hard state is written before the entries of the same `Ready`, and its commit index does not reach into them.
//! - A configuration change is handed out for applying only when a hard state that commits it is durable. After a crash the
//!   member then knows of the change before it campaigns, and does not campaign with a configuration that is two changes old.
//! - Messages are checked before the core sees them; no message makes it panic.
//!
//! Not here: the rules of consensus (`core`), time (ticks are counted, not measured), how records and frames look (`log.rs`,
//! `message.rs`).

mod persist;
mod status;
mod step;

use std::collections::VecDeque;

use bytes::Bytes;

pub use self::status::{PeerStatus, Status};
use crate::conf::{ConfChange, ConfState};
pub use crate::config::GroupConfig;
use crate::core::{Core, Outgoing, PeerState, Waiter};
use crate::error::{ApplyConfError, GroupError, ProposeError, TransferError};
use crate::limits;
use crate::log::RecoveredLog;
use crate::message::{PeerBody, PeerMessage, SnapshotMeta};
use crate::ready::Ready;
use crate::types::{Entry, EntryKind, HardState, MemberId, Role, RoleChange};

/// One consensus group. See the module for the shell's duties.
pub struct Group {
    core: Core,
    /// The last `Ready` handed out.
    number: u64,
    /// The hard state last handed out, and the one known to be durable.
    written: HardState,
    durable: HardState,
    /// Configuration changes handed out and not yet applied or refused.
    conf_changes: VecDeque<u64>,
    /// A snapshot that arrived while there were some: its configuration must not meet theirs.
    postponed: Option<PeerMessage>,
    reported_role: RoleChange,
}

impl Group {
    /// A group that goes on from `recovered`.
    pub fn new(config: GroupConfig, recovered: RecoveredLog) -> Result<Group, GroupError> {
        config.conf.verify()?;
        let rule = |rule| Err(GroupError::Config { rule });
        if config.member.0 == 0 {
            return rule("a member id is not zero");
        }
        if config.heartbeat_ticks == 0 || config.election_ticks <= config.heartbeat_ticks {
            return rule("elections take more ticks than heartbeats, and those more than none");
        }
        if config.in_flight_messages == 0 || config.uncommitted_bytes < config.append_bytes {
            return rule("a message of the largest size may be uncommitted and in flight");
        }
        if config.conf.is_empty() && recovered.applied.index != 0 {
            return rule("a store that has applied entries knows its configuration");
        }
        let (applied, commit) = (recovered.applied.index, recovered.hard_state.commit);
        if recovered.base.index > applied || applied > commit || commit > recovered.last().index {
            return rule("a log reaches from what is applied to what is committed");
        }
        if recovered.hard_state.term < recovered.last().term {
            return rule("the term of the last entry is known");
        }
        let durable = recovered.hard_state;
        let mut group = Group {
            core: Core::new(config, recovered),
            number: 0,
            written: durable,
            durable,
            conf_changes: VecDeque::new(),
            postponed: None,
            reported_role: RoleChange { term: durable.term, ..RoleChange::default() },
        };
        group.core.campaign_alone();
        Ok(group)
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.core.tick();
        self.core.begin_read_round();
    }

    /// Campaigns without waiting for the election timeout. Members that do not vote do not.
    pub fn campaign(&mut self) {
        self.core.campaign();
        self.core.begin_read_round();
    }

    /// Proposes a batch. A follower forwards it to the leader; whether it gets there shows when it is committed.
    pub fn propose(&mut self, payload: Bytes) -> Result<(), ProposeError> {
        if payload.len() > limits::ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { found: payload.len() });
        }
        if self.role() == Role::Leader {
            self.core.propose(EntryKind::Normal, payload)
        } else {
            self.forward(EntryKind::Normal, payload)
        }
    }

    /// Proposes a configuration change. A leader refuses it while another is pending.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ProposeError> {
        let data = change.encode();
        if data.len() > limits::ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { found: data.len() });
        }
        if self.role() == Role::Leader {
            self.core.propose_conf_change(change, data)
        } else {
            self.forward(EntryKind::ConfChange, data)
        }
    }

    /// Sends an entry to the leader.
    fn forward(&mut self, kind: EntryKind, data: Bytes) -> Result<(), ProposeError> {
        let leader = self.leader().ok_or(ProposeError::NoLeader)?;
        let entry = Entry { index: 0, term: 0, kind, data };
        let message = PeerMessage { term: 0, entries: vec![entry], ..self.core.message(leader, PeerBody::Propose) };
        self.core.outbox.push(Outgoing { message, is_promise: false });
        Ok(())
    }

    /// Asks for an index at which a linearizable read with this token may be served. The answer is a `ReadState`, or the
    /// token among `failed_reads`; while there is no leader the read waits for one.
    pub fn read_index(&mut self, token: u64) {
        self.core.rounds.add(Waiter::Local(token));
        self.core.begin_read_round();
    }

    /// Hands leadership to `target`. Proposals are refused until it is done or an election timeout has passed.
    pub fn transfer_leader(&mut self, target: MemberId) -> Result<(), TransferError> {
        self.core.transfer_leader(target)
    }

    /// The next piece of work, if there is any.
    pub fn ready(&mut self) -> Option<Ready> {
        let mut ready = Ready::default();
        self.ready_into(&mut ready).then_some(ready)
    }

    /// The same, into one that was done with ([`Ready::clear`] empties it and keeps its buffers): the steady path then
    /// allocates nothing. Whether there was work; if not, `ready` stays as it was.
    ///
    /// # Panics
    /// If `ready` is not empty.
    pub fn ready_into(&mut self, ready: &mut Ready) -> bool {
        if !self.has_ready() {
            return false;
        }
        assert!(ready.is_empty(), "work is handed out into an empty Ready");
        self.number += 1;
        ready.number = self.number;
        ready.snapshot = self.core.log.submit(&mut ready.entries);
        let follow = |pair: &[Entry]| pair[0].index + 1 == pair[1].index && pair[0].term <= pair[1].term;
        assert!(ready.entries.windows(2).all(follow), "entries are written in order, without a gap");
        if ready.snapshot.is_some() {
            // It has all of them, also those handed out and not yet applied.
            self.conf_changes.clear();
        }
        self.core.send_appends();
        self.hand_out_committed(ready);
        ready.hard_state = self.hard_state_to_write(ready);
        self.note_in_flight(ready);
        self.hand_out_messages(ready);
        self.hand_out_reads(ready);
        ready.snapshot_requests = self.core.take_snapshots_wanted();
        let role = self.core.role();
        if role != self.reported_role {
            self.reported_role = role;
            ready.role = Some(role);
        }
        true
    }

    /// A message was sent, and its vector of entries can be used again.
    pub fn recycle(&mut self, message: PeerMessage) {
        self.core.recycle_entries(message.entries);
    }

    /// Whether [`Group::ready`] has something.
    pub fn has_ready(&self) -> bool {
        let core = &self.core;
        let now = core.hard_state();
        core.log.has_unsubmitted()
            || (now.term, now.vote) != (self.written.term, self.written.vote)
            || self.can_release()
            || self.needs_barrier()
            || !core.outbox.is_empty()
            || core.has_appends()
            || core.rounds.has_output()
            || core.role() != self.reported_role
    }

    /// Every `Ready` up to `number` is durable.
    ///
    /// # Panics
    /// If no such `Ready` was handed out.
    pub fn on_persisted(&mut self, number: u64) {
        assert!(number <= self.number, "ready {number} was never handed out, the last is {}", self.number);
        let landed = self.core.log.land(number);
        let durable = landed.hard_state.unwrap_or(self.durable);
        assert!(durable.term >= self.durable.term, "a term that is durable does not go back");
        assert!(durable.commit >= self.durable.commit, "a commit index that is durable does not go back");
        self.durable = durable;
        self.core.commit_what_a_quorum_has();
        if let Some(index) = landed.snapshot {
            self.core.applied_to(index);
        }
        self.core.campaign_alone();
        self.core.begin_read_round();
    }

    /// Everything up to `index` is applied.
    ///
    /// # Panics
    /// If a configuration change up to `index` was neither applied nor refused.
    pub fn on_applied(&mut self, index: u64) {
        if let Some(&change) = self.conf_changes.front() {
            assert!(index < change, "configuration change {change} was not applied, but {index} was");
        }
        self.core.applied_to(index);
        self.core.campaign_alone();
        self.core.begin_read_round();
    }

    /// Applies a committed entry of kind `ConfChange`: the new configuration, to be stored with the data at this index.
    /// On an error the configuration stays as it is and the entry counts as applied.
    ///
    /// # Panics
    /// If it is not the next configuration change handed out.
    pub fn apply_conf_change(&mut self, entry: &Entry) -> Result<ConfState, ApplyConfError> {
        self.take_conf_change(entry.index);
        let change = ConfChange::decode(&entry.data).map_err(|error| ApplyConfError { detail: error.to_string() });
        let result = change.and_then(|change| self.core.apply_conf_change(&change));
        let conf = self.conf().clone();
        self.core.begin_read_round();
        self.step_postponed();
        result.map(|()| conf)
    }

    /// Declines a committed configuration change, which every member must decline alike.
    ///
    /// # Panics
    /// If it is not the next configuration change handed out.
    pub fn refuse_conf_change(&mut self, entry: &Entry) {
        self.take_conf_change(entry.index);
        self.step_postponed();
    }

    fn take_conf_change(&mut self, index: u64) {
        let next = self.conf_changes.pop_front();
        assert_eq!(next, Some(index), "configuration changes are applied in order, each once");
    }

    /// No configuration change is under way any more: a snapshot that waited may be restored.
    fn step_postponed(&mut self) {
        if self.conf_changes.is_empty()
            && let Some(message) = self.postponed.take()
        {
            // It was checked when it came; it may be out of date by now, and is then ignored.
            let _ = self.step(message);
        }
    }

    /// Drops log entries up to `index` from memory; at most what is applied. The window also trims itself.
    pub fn compact(&mut self, index: u64) {
        self.core.log.compact(index);
    }

    /// A snapshot for a follower that asked for one; its message follows in a `Ready`. Nothing happens if this member does
    /// not lead any more.
    pub fn provide_snapshot(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.core.offer_snapshot(to, meta);
    }

    /// Announces a snapshot again that was announced to a follower, if that still waits for it.
    pub fn announce_snapshot_again(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.core.announce_again(to, meta);
    }

    /// Whether a snapshot arrived, or could not be sent or even made.
    pub fn report_snapshot(&mut self, to: MemberId, arrived: bool) {
        self.core.snapshot_reported(to, arrived);
    }

    /// How close the log is to outrunning the snapshots that travel, in percent: at 100 a follower that installs one needs
    /// another.
    pub fn snapshot_urgency_percent(&self) -> usize {
        self.core.log.fill_percent()
    }

    /// Heartbeats are spared to followers that acknowledged appends in the meantime.
    pub fn save_heartbeats(&mut self) {
        self.core.saves_heartbeats = true;
    }

    /// Messages to `to` are being lost.
    pub fn report_unreachable(&mut self, to: MemberId) {
        self.core.out_of_reach(to);
    }

    /// The transport has learnt that `member` does not run: nobody listens where it did. If it leads, the rest of the
    /// election timeout that is the same for all need not be waited for; what is drawn on top of it is. Safe at any
    /// time: the others grant a pre-vote only when they miss the leader too.
    pub fn report_gone(&mut self, member: MemberId) {
        if self.role() == Role::Follower && self.leader() == Some(member) {
            self.core.hurry();
        }
    }

    /// This member has just started and can talk to a majority, none of whom has said that somebody leads: as after
    /// [`report_gone`](Self::report_gone), what is the same for all is not waited for. Safe at any time, for the same reason.
    pub fn hurry_election(&mut self) {
        if self.role() == Role::Follower && self.leader().is_none() {
            self.core.hurry();
        }
    }

    /// Hands leadership to the best of the others, if there is one: this member should not lead. `is_alive` knows of members
    /// that this group has not heard from lately.
    pub fn leave_leadership(&mut self, is_alive: impl Fn(MemberId) -> bool) {
        self.core.leave_leadership(is_alive);
    }

    /// Own role.
    pub fn role(&self) -> Role {
        self.core.role().role
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<MemberId> {
        self.core.role().leader
    }

    /// The next leader, while leadership is being handed over.
    pub fn transferring_to(&self) -> Option<MemberId> {
        self.core.transferring_to()
    }

    /// Whether this member is the only voter: nobody else can lead.
    pub fn is_alone(&self) -> bool {
        self.core.is_alone()
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.core.role().term
    }

    /// Entries known to be committed.
    pub fn commit(&self) -> u64 {
        self.core.log.committed()
    }

    /// Entries reported as applied.
    pub fn applied(&self) -> u64 {
        self.core.log.applied()
    }

    /// End of the log.
    pub fn last_index(&self) -> u64 {
        self.core.log.last()
    }

    /// Voters and learners, as applied.
    pub fn conf(&self) -> &ConfState {
        &self.core.conf
    }

    /// Whether a flush takes longer than an election time.
    pub(crate) fn is_stalled(&self) -> bool {
        let oldest = self.core.log.flights().front().map_or(self.core.ticks(), |flight| flight.since);
        self.core.ticks() - oldest >= self.core.config.election_ticks as u64
    }

    /// Counts changes of the configuration that is in use.
    pub(crate) fn conf_version(&self) -> u64 {
        self.core.conf_version
    }

    /// Emptied vectors of entries; groups of one machine lend them to each other.
    pub(crate) fn spare_entries(&mut self) -> &mut Vec<Vec<Entry>> {
        &mut self.core.spare_entries
    }

    /// Everybody has all of the log and nothing happens: memory is given back.
    pub(crate) fn shrink(&mut self) {
        self.core.shrink();
    }

    /// Whether all of the log is durable, committed and applied here, and nothing is under way.
    pub(crate) fn is_at_rest(&self) -> bool {
        let (log, core) = (&self.core.log, &self.core);
        log.applied() == log.last() && log.is_durable() && log.flights().is_empty() && core.is_quiet()
    }

    /// Whether this member leads, and every other has all of the log as well.
    pub(crate) fn is_level(&self) -> bool {
        let last = self.core.log.last();
        let has_all = |peer: &crate::core::Progress| peer.matched == last && peer.state == PeerState::Replicate;
        self.role() == Role::Leader
            && self.is_at_rest()
            && self.core.log.term(last) == Some(self.term())
            && !self.conf().is_joint()
            && self.core.peers().all(|(_, peer)| has_all(peer))
    }

    /// The hard state handed out last, to be written again when old records of the log are given back.
    pub fn hard_state(&self) -> HardState {
        self.written
    }
}
