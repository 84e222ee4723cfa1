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
//! Invariants this file adds to raft-rs:
//! - Election timeouts are a pure function of seed, group, member and term. raft-rs draws its own from a thread's
//!   generator whenever it resets; right after every call that may have reset it, the drawn value is replaced.
//! - Nothing is sent in a term that is not durable here. raft-rs lets a leader send before its own write, which is safe
//!   after an election by others (they waited for the durable vote) but not for a voter that elected itself: after a crash
//!   it would lead the same term again, with other entries.
//! - A configuration change is handed out for applying only when a hard state that commits it is durable. After a crash the
//!   member then knows of the change before it campaigns, and does not campaign with a configuration that is two changes old.
//! - A group of one voter campaigns at once, as soon as its log is durable and its configuration changes are applied.
//! - Messages are checked before raft-rs sees them; no message makes it panic.
//!
//! Not here: time (ticks are counted, not measured), how records and frames look (`log.rs`, `message.rs`).

mod drive;
mod status;
mod step;

use std::collections::VecDeque;

use bytes::Bytes;
use raft::RawNode;

use crate::GroupId;
use crate::conf::{ConfChange, ConfState};
use crate::convert;
use crate::error::{ApplyConfError, GroupError, ProposeError, TransferError};
use crate::flow::Flow;
use crate::limits;
use crate::log::RecoveredLog;
use crate::message::{PeerMessage, RaftSnapshot, SnapshotMeta};
use crate::read_index::{ReadRounds, Waiter};
use crate::ready::Ready;
use crate::types::{Entry, EntryKind, HardState, MemberId, Role, RoleChange};
use crate::window::Window;
use plinth_raft::{GroupConfig, Status};

fn to_raft(config: &GroupConfig, applied: u64) -> raft::Config {
    raft::Config {
        id: config.member.0,
        election_tick: config.election_ticks,
        heartbeat_tick: config.heartbeat_ticks,
        min_election_tick: config.election_ticks,
        max_election_tick: 2 * config.election_ticks,
        applied,
        max_size_per_msg: config.append_bytes,
        max_inflight_msgs: config.in_flight_messages,
        check_quorum: true,
        pre_vote: true,
        max_uncommitted_size: config.uncommitted_bytes,
        max_committed_size_per_ready: config.committed_bytes_per_ready,
        ..raft::Config::default()
    }
}

/// One consensus group. See the module for the shell's duties.
pub struct Group {
    raw: RawNode<Window>,
    group: GroupId,
    member: MemberId,
    election_ticks: u64,
    heartbeat_ticks: u64,
    seed: u64,
    /// The configuration raft-rs works with.
    conf: ConfState,
    /// Whether this member is the only voter.
    alone: bool,
    /// The last `Ready` handed out.
    number: u64,
    /// Readies not yet durable, oldest first.
    in_flight: VecDeque<InFlight>,
    /// The hard state last handed out, and the one known to be durable.
    written: HardState,
    durable: HardState,
    /// Committed entries waiting for a durable hard state that commits the first of them, a configuration change.
    held: VecDeque<Entry>,
    /// Configuration changes handed out and not yet applied or refused.
    conf_changes: VecDeque<u64>,
    /// A snapshot that arrived while there were some: its configuration must not meet theirs.
    postponed: Option<PeerMessage>,
    role: RoleChange,
    reported_role: RoleChange,
    /// The election timeout of `timeout_term`.
    timeout: usize,
    timeout_term: u64,
    rounds: ReadRounds,
    flow: Flow,
    /// Messages of this crate's own making; they depend on nothing durable.
    messages: Vec<PeerMessage>,
    /// Followers whose wish for a snapshot the shell knows of.
    snapshots_asked: Vec<MemberId>,
    ticks: u64,
}

/// A `Ready` on its way to the disk.
struct InFlight {
    number: u64,
    hard_state: HardState,
    snapshot: Option<u64>,
    entries: bool,
    since: u64,
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
        let durable = recovered.hard_state;
        let applied = recovered.applied.index;
        let entries: Result<VecDeque<_>, _> = recovered.entries.into_iter().map(convert::entry_to_raft).collect();
        let window = Window::new(recovered.base, entries?, config.window, &durable, &config.conf);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&to_raft(&config, applied), window, &logger)
            .map_err(|_| GroupError::Config { rule: "raft-rs takes it" })?;
        let mut group = Group {
            raw,
            group: config.group,
            member: config.member,
            election_ticks: config.election_ticks as u64,
            heartbeat_ticks: config.heartbeat_ticks as u64,
            seed: config.seed,
            alone: false,
            conf: ConfState::default(),
            number: 0,
            in_flight: VecDeque::new(),
            written: durable,
            durable,
            held: VecDeque::new(),
            conf_changes: VecDeque::new(),
            postponed: None,
            role: RoleChange { term: durable.term, ..RoleChange::default() },
            reported_role: RoleChange { term: durable.term, ..RoleChange::default() },
            timeout: 0,
            timeout_term: 0,
            rounds: ReadRounds::new(mix(config.seed, config.member.0)),
            flow: Flow::new(config.in_flight_bytes),
            messages: Vec::new(),
            snapshots_asked: Vec::new(),
            ticks: 0,
        };
        group.set_conf(config.conf);
        group.trim_window();
        group.settle();
        group.campaign_alone();
        Ok(group)
    }

    /// Time passes.
    pub fn tick(&mut self) {
        self.ticks += 1;
        if self.role.role == Role::Leader || self.may_campaign() {
            self.raw.tick();
        }
        if self.role.role == Role::Leader {
            self.leave_leadership_if_stalled();
        } else if self.ticks.is_multiple_of(self.heartbeat_ticks) {
            self.repeat_read_round();
        }
        self.settle();
    }

    /// Campaigns without waiting for the election timeout. Members that do not vote do not.
    pub fn campaign(&mut self) {
        if self.raw.raft.promotable() && self.may_campaign() {
            // Fails only for messages from elsewhere.
            let _ = self.raw.campaign();
        }
        self.settle();
    }

    /// Proposes a batch. A follower forwards it to the leader; whether it gets there shows when it is committed.
    pub fn propose(&mut self, payload: Bytes) -> Result<(), ProposeError> {
        if payload.len() > limits::ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { found: payload.len() });
        }
        if self.role.role == Role::Leader {
            self.append(convert::normal_entry(payload))
        } else {
            self.forward(Entry { index: 0, term: 0, kind: EntryKind::Normal, data: payload })
        }
    }

    /// Proposes a configuration change. A leader refuses it while another is pending.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ProposeError> {
        let data = change.encode();
        if data.len() > limits::ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { found: data.len() });
        }
        if self.role.role == Role::Leader {
            self.append_conf_change(change, data)
        } else {
            self.forward(Entry { index: 0, term: 0, kind: EntryKind::ConfChange, data })
        }
    }

    /// Asks for an index at which a linearizable read with this token may be served. The answer is a `ReadState`, or the
    /// token among `failed_reads`; while there is no leader the read waits for one.
    pub fn read_index(&mut self, token: u64) {
        self.rounds.add(Waiter::Local(token));
        self.pump_reads();
    }

    /// Hands leadership to `target`. Proposals are refused until it is done or an election timeout has passed.
    pub fn transfer_leader(&mut self, target: MemberId) -> Result<(), TransferError> {
        if self.role.role != Role::Leader {
            return Err(TransferError::NotLeader);
        }
        if !self.conf.voters.contains(&target.0) {
            return Err(TransferError::NotVoter { target });
        }
        self.raw.transfer_leader(target.0);
        self.settle();
        Ok(())
    }

    /// The next piece of work, if there is any.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.has_ready() {
            return None;
        }
        let mut raw = self.raw.ready();
        self.number = raw.number();
        let mut ready = Ready { number: self.number, ..Ready::default() };
        if !raw.snapshot().is_empty() {
            let meta = SnapshotMeta::from_raft(raw.snapshot());
            self.raw.mut_store().reset(meta.id);
            ready.snapshot = Some(meta);
        }
        let appended = raw.take_entries();
        self.raw.mut_store().append(&appended);
        ready.entries = appended.into_iter().map(convert::entry_from_raft).collect();
        let committed = raw.take_committed_entries();
        let mut sent = raw.take_messages();
        let mut sent_later = raw.take_persisted_messages();
        self.raw.advance_append_async(raw);

        self.hand_out_committed(committed, &mut ready);
        ready.hard_state = self.hard_state_to_write(&ready);
        self.note_in_flight(&ready);
        if self.durable.term < self.role.term {
            sent_later.append(&mut sent);
        } else if self.in_flight.is_empty() {
            sent.append(&mut sent_later);
        }
        // Appends released by flow control come before those that raft-rs sent later.
        ready.messages.append(&mut self.messages);
        self.convert_messages(sent, &mut ready.messages);
        self.convert_messages(sent_later, &mut ready.persisted_messages);
        self.hand_out_reads(&mut ready);
        self.hand_out_snapshot_requests(&mut ready);
        if self.role != self.reported_role {
            self.reported_role = self.role;
            ready.role = Some(self.role);
        }
        Some(ready)
    }

    /// Whether [`Group::ready`] has something.
    pub fn has_ready(&self) -> bool {
        self.raw.has_ready()
            || !self.messages.is_empty()
            || self.rounds.has_output()
            || self.role != self.reported_role
            || self.raw.store().has_wanted()
            || self.can_release_held()
    }

    /// Every `Ready` up to `number` is durable.
    ///
    /// # Panics
    /// If no such `Ready` was handed out.
    pub fn on_persisted(&mut self, number: u64) {
        assert!(number <= self.number, "ready {number} was never handed out, the last is {}", self.number);
        let mut installed = None;
        while let Some(front) = self.in_flight.front()
            && front.number <= number
        {
            let front = self.in_flight.pop_front().expect("there is a front");
            self.durable = front.hard_state;
            installed = front.snapshot.or(installed);
        }
        self.raw.on_persist_ready(number);
        if let Some(index) = installed {
            self.advance_applied(index);
        }
        self.settle();
        self.campaign_alone();
    }

    /// Everything up to `index` is applied.
    ///
    /// # Panics
    /// If a configuration change up to `index` was neither applied nor refused.
    pub fn on_applied(&mut self, index: u64) {
        if let Some(&change) = self.conf_changes.front() {
            assert!(index < change, "configuration change {change} was not applied, but {index} was");
        }
        self.advance_applied(index);
        self.settle();
        self.campaign_alone();
    }

    /// Applies a committed entry of kind `ConfChange`: the new configuration, to be stored with the data at this index.
    /// On an error the configuration stays as it is and the entry counts as applied.
    ///
    /// # Panics
    /// If it is not the next configuration change handed out.
    pub fn apply_conf_change(&mut self, entry: &Entry) -> Result<ConfState, ApplyConfError> {
        self.take_conf_change(entry.index);
        let result = self.change_conf(entry);
        let conf = self.conf.clone();
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

    /// Drops log entries up to `index` from memory; at most what is applied. The window also trims itself.
    pub fn compact(&mut self, index: u64) {
        let applied = self.applied();
        self.raw.mut_store().compact(index.min(applied));
    }

    /// A snapshot for a follower that asked for one; its message follows in a `Ready`. Nothing happens if this member does
    /// not lead any more.
    pub fn provide_snapshot(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.snapshots_asked.retain(|asked| *asked != to);
        if self.role.role != Role::Leader || to == self.member {
            return;
        }
        self.raw.mut_store().offer(to, meta);
        if self.raw.raft.prs().get(to.0).is_some() {
            self.raw.raft.send_append(to.0);
        }
        self.settle();
    }

    /// Whether a snapshot arrived, or could not be sent or even made.
    pub fn report_snapshot(&mut self, to: MemberId, arrived: bool) {
        self.snapshots_asked.retain(|asked| *asked != to);
        self.raw.mut_store().withdraw(to);
        let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(to.0, status);
        self.settle();
    }

    /// How close the log is to outrunning the snapshots that travel, in percent: at 100 a follower that installs one needs
    /// another.
    pub fn snapshot_urgency_percent(&self) -> usize {
        self.raw.store().fill_percent()
    }

    /// Messages to `to` are being lost.
    pub fn report_unreachable(&mut self, to: MemberId) {
        self.flow.reset(to);
        self.raw.report_unreachable(to.0);
        self.settle();
    }

    /// The transport has learnt that `member` does not run: nobody listens where it did. If it leads, the rest of the
    /// election timeout that is the same for all need not be waited for; what is drawn on top of it is. Safe at any
    /// time: the others grant a pre-vote only when they miss the leader too.
    pub fn report_gone(&mut self, member: MemberId) {
        let raft = &mut self.raw.raft;
        if self.role.role == Role::Follower && self.role.leader == Some(member) {
            raft.election_elapsed = raft.election_elapsed.max(raft.election_timeout());
        }
    }

    /// Own role.
    pub fn role(&self) -> Role {
        self.role.role
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<MemberId> {
        self.role.leader
    }

    /// The next leader, while leadership is being handed over.
    pub fn transferring_to(&self) -> Option<MemberId> {
        self.raw.raft.lead_transferee.map(MemberId)
    }

    /// Whether this member is the only voter: nobody else can lead.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.role.term
    }

    /// Entries known to be committed.
    pub fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Entries reported as applied.
    pub fn applied(&self) -> u64 {
        self.raw.raft.raft_log.applied
    }

    /// End of the log.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// Voters and learners, as applied.
    pub fn conf(&self) -> &ConfState {
        &self.conf
    }

    /// The hard state handed out last, to be written again when old records of the log are given back.
    pub fn hard_state(&self) -> HardState {
        self.written
    }
}

/// A well-mixed function of two words (the finalizer of splitmix64).
fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
