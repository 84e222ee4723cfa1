//! The member itself: see the crate's documentation for what it joins and what it promises.
//!
//! One [`Member::pump`] does all that can be done without waiting: takes in finished flushes, closes a batch if the
//! log has a slot, hands readies to the log, submits the next flush, applies a bounded number of committed commands
//! and releases reads. Its order is the order of latency: the disk gets its next work before apply begins. The log is lent
//! to it for each step: members of other groups write to the same one.

use crate::batching::{OpenBatch, Pending};
use crate::changes::Changes;
use crate::install::Arrived;
use crate::limits::READS_PENDING_MAX;
use crate::log::Log;
use crate::planted::{Planted, is_planted};
use crate::reads::Reads;
use crate::records;
use crate::recover::Identity;
use crate::stall::{Asked, DiskWatch, Stalled};
use crate::tenure::Tenure;
use bytes::Bytes;
use plinth_engine::auth::{ROOT, SignIn};
use plinth_engine::author::Author;
use plinth_engine::budget::Budget;
use plinth_engine::command::{Command, CommandError, CommandKind, CommandRef};
use plinth_engine::error::{Error, OpError, StoreError};
use plinth_engine::follow::ArchivedFollowChange;
use plinth_engine::lease::Millis;
use plinth_engine::store::job::Job;
use plinth_engine::store::{Outcome, Store};
use plinth_engine::trees::Trees;
use plinth_engine::watch::{EventBatch, EventMode};
use plinth_raft::batch::{Batch, BatchBuilder};
use plinth_raft::error::{BatchError, GroupError, ProposeError, StepError, TransferError};
use plinth_raft::log::RecoveredLog;
use plinth_raft::{
    ConfChange, Entry, EntryId, EntryKind, Group, GroupConfig, MemberChange, MemberId, MembershipError, PeerBody,
    PeerMessage, Ready, Role, RoleChange, SnapshotMeta,
};
use plinth_wal::{Disk, GroupId, Lsn, RecordKind, WalError};
use std::collections::VecDeque;

/// Key of tree `Meta`: the voters and learners as of the applied entry, as `plinth_raft::ConfState` encodes them.
pub const META_CONF_STATE: &[u8] = b"confState";

/// What a member is told at start.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Who it is.
    pub identity: Identity,
    /// Consensus.
    pub group: GroupConfig,
    /// Above every batch sequence of earlier lives; the wall clock in microseconds will do.
    pub first_sequence: u64,
    /// What a new leader adds to every lease, in milliseconds: an election timeout, for nobody knows how long ago the last
    /// keep-alive was.
    pub lease_extension_millis: u64,
    /// A write or read that waits longer is answered with a timeout.
    pub request_timeout_millis: u64,
    /// Learners that a cluster may have. The same on all members, or they disagree about a change.
    pub learners_max: usize,
    /// How much is applied per pump, at most: [`crate::limits::APPLY_PER_PUMP`], or less to see more steps.
    pub apply_budget: Budget,
}

/// Why a submission was refused. Nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// A bound of [`crate::limits`] is reached.
    #[error("too many requests")]
    TooMany,
    /// The log has no space for more writes.
    #[error("no space left for the write-ahead log")]
    NoSpace,
}

/// Why a waiter gets no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Not done in time. It may still happen.
    Timeout,
    /// Leadership moved before the moment of a read was known.
    LeaderChanged,
    /// There is no leader to ask.
    NoLeader,
    /// The member stops.
    Stopped,
}

/// The member cannot go on: the process must stop, and say this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The write-ahead log failed.
    #[error("write-ahead log: {0}")]
    Wal(#[from] WalError),
    /// Stored data is broken.
    #[error("data: {0}")]
    Store(#[from] StoreError),
    /// A committed entry is not a batch.
    #[error("entry {index}: {source}; the log holds what no release wrote")]
    Batch {
        index: u64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// A committed command is not a command.
    #[error("entry {index}: {source}; was it written by a newer release?")]
    Command {
        /// Index of its entry.
        index: u64,
        /// What is wrong with it.
        source: CommandError,
    },
    /// Consensus could not be set up.
    #[error("consensus: {0}")]
    Group(#[from] GroupError),
    /// The others count on what this member has lost.
    #[error("{0}; remove this member from the cluster and add it again with an empty data directory")]
    LogLost(StepError),
    /// A snapshot that arrived could not be put in place.
    #[error("snapshot of entry {index}: {source}")]
    Install {
        /// Its last entry.
        index: u64,
        /// Why.
        source: std::io::Error,
    },
}

/// A command that was applied, with who waits for it.
pub type Applied<W> = (W, Result<Outcome, OpError>);

/// A change of the configuration that was applied or declined, with who waits for it.
pub type Changed<W> = (W, Result<(), MembershipError>);

/// What the outside has to do after a pump, appended in order. The caller drains and reuses it.
pub struct Effects<W> {
    /// Outcomes of commands.
    pub applied: Vec<Applied<W>>,
    /// Commands applied for which nobody waits here, in order, and whether they did something: all that a follower does.
    pub unasked: Vec<(CommandKind, bool)>,
    /// Seconds for which leases were granted, whoever asked.
    pub granted: Vec<i64>,
    /// What has happened to tokens, in order.
    pub sign_ins: Vec<SignIn>,
    /// Linearizable reads that may be served now.
    pub reads: Vec<W>,
    /// Waiters that get no outcome.
    pub lost: Vec<(W, Lost)>,
    /// Messages to other members that may leave.
    pub messages: Vec<PeerMessage>,
    /// Leadership changes, in order. Leases follow them already.
    pub roles: Vec<RoleChange>,
    /// What the applied entries changed, for watchers; only while somebody watches.
    pub events: Vec<EventBatch>,
    /// Outcomes of changes of the configuration.
    pub changed: Vec<Changed<W>>,
    /// Followers that need a snapshot: pin one and call [`Member::provide_snapshot`], or report that there is none.
    pub snapshot_requests: Vec<MemberId>,
    /// A snapshot took the place of the store: what was derived from the old one is void.
    pub installed: Option<SnapshotMeta>,
    /// This member is no longer part of the cluster, for ever.
    pub removed: bool,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Effects {
            applied: Vec::new(),
            unasked: Vec::new(),
            granted: Vec::new(),
            sign_ins: Vec::new(),
            reads: Vec::new(),
            lost: Vec::new(),
            messages: Vec::new(),
            roles: Vec::new(),
            events: Vec::new(),
            changed: Vec::new(),
            snapshot_requests: Vec::new(),
            installed: None,
            removed: false,
        }
    }
}

/// Whether a pump left work behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing to do before the next input.
    Idle,
    /// Committed commands wait to be applied: pump again after other work had its turn.
    More,
}

/// A `Ready` that is not durable yet.
struct Persisting {
    number: u64,
    lsn: Lsn,
    messages: Vec<PeerMessage>,
}

/// The entry being applied.
struct Applying<W> {
    entry: Entry,
    batch: Batch,
    next: usize,
    /// How far the next command has come, if it takes several pumps.
    job: Job,
    waiters: std::vec::IntoIter<W>,
    since: Millis,
    /// Outcomes of its commands, told when their events are: whoever hears of a write can count on watchers hearing of it.
    answered: Vec<Applied<W>>,
}

/// One member of one group. `W` names whoever waits.
pub struct Member<T: Trees, W> {
    identity: Identity,
    group_id: GroupId,
    group: Group,
    store: Store<T>,
    pending: Pending<W>,
    reads: Reads<W>,
    persisting: VecDeque<Persisting>,
    committed: VecDeque<Entry>,
    applying: Option<Applying<W>>,
    conf_changes: u64,
    changes: Changes<W>,
    learners_max: usize,
    apply_budget: Budget,
    arrived: Option<Arrived<T>>,
    request_timeout_millis: u64,
    event_mode: EventMode,
    pub(crate) tenure: Tenure,
    disk: DiskWatch,
    /// The leader that could not be reached since the last tick.
    unreached: Option<MemberId>,
    lost: Vec<W>,
}

impl<T: Trees, W> Member<T, W> {
    /// A member that goes on from what was recovered.
    pub fn new(config: MemberConfig, log: RecoveredLog, store: Store<T>) -> Result<Self, Fatal> {
        let group_id = GroupId(config.group.group.0);
        assert!(log.applied.index == store.applied().index, "the log was read for what the store has applied");
        let disk = DiskWatch::new(config.group.election_ticks);
        let mut group = Group::new(config.group, log)?;
        if store.follows().is_some() || store.has_followed()?.is_some() {
            // Part of the data came from another cluster, and not by this log: whoever joins begins with a snapshot.
            group.compact(store.applied().index);
        }
        Ok(Member {
            identity: config.identity,
            group_id,
            group,
            store,
            pending: Pending::new(config.first_sequence),
            reads: Reads::new(config.first_sequence),
            persisting: VecDeque::new(),
            committed: VecDeque::new(),
            applying: None,
            conf_changes: 0,
            changes: Changes::new(),
            learners_max: config.learners_max,
            apply_budget: config.apply_budget,
            arrived: None,
            request_timeout_millis: config.request_timeout_millis,
            event_mode: EventMode::Off,
            tenure: Tenure::new(config.lease_extension_millis),
            disk,
            unreached: None,
            lost: Vec::new(),
        })
    }

    /// Queues the command that `encode` appends. The waiter comes back in [`Effects`] exactly once.
    pub fn submit(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>),
        waiter: W,
        now: Millis,
    ) -> Result<(), (SubmitError, W)> {
        if !self.pending.has_room() {
            return Err((SubmitError::TooMany, waiter));
        }
        self.pending.push_with(encode, waiter, now);
        Ok(())
    }

    /// Queues a linearizable read. The waiter comes back in [`Effects`] exactly once.
    pub fn read(&mut self, waiter: W, now: Millis) -> Result<(), (SubmitError, W)> {
        if self.reads.len() >= READS_PENDING_MAX {
            return Err((SubmitError::TooMany, waiter));
        }
        self.reads.push(waiter, now);
        Ok(())
    }

    /// Time passes by one tick of consensus; requests that have waited too long are given up.
    pub fn tick(&mut self, now: Millis, out: &mut Effects<W>) {
        self.group.tick();
        self.unreached = None;
        let deadline = Millis(now.0.saturating_sub(self.request_timeout_millis));
        self.pending.expire(deadline, &mut self.lost);
        self.reads.expire(deadline, &mut self.lost);
        self.changes.expire(deadline, &mut self.lost);
        if let Some(applying) = &mut self.applying
            && applying.since < deadline
        {
            // A large command is half applied: it will be done, but not in time.
            self.lost.extend(&mut applying.waiters);
        }
        self.give_up(Lost::Timeout, out);
    }

    /// Looks whether the disks answer; to be called with each tick of consensus. Whether leadership should be given away now, if
    /// there is any. See [`crate::stall`].
    pub fn watch_disks(&mut self, log: Asked, data: Asked, out: &mut Effects<W>) -> bool {
        let should_leave = self.disk.tick(log, data);
        if self.serves_nothing() {
            self.reads.drain_all(&mut self.lost);
            self.give_up(Lost::LeaderChanged, out);
        }
        should_leave && self.group.transferring_to().is_none()
    }

    /// Which disk has not answered for an election time.
    pub fn stalled(&self) -> Option<Stalled> {
        self.disk.stalled()
    }

    /// Whether nothing that clients ask is answered here until the disk answers, while another member leads.
    pub fn serves_nothing(&self) -> bool {
        let is_led = self.group.leader().is_some_and(|leader| leader != self.identity.member);
        self.disk.has_lost_patience() && is_led
    }

    /// Tells those in `lost` why they get no outcome.
    fn give_up(&mut self, why: Lost, out: &mut Effects<W>) {
        out.lost.extend(self.lost.drain(..).map(|waiter| (waiter, why)));
    }

    /// Does all that can be done without waiting, with a log of its own. An error is fatal: stop the process.
    pub fn pump<D: Disk>(&mut self, log: &mut Log<D>, now: Millis, out: &mut Effects<W>) -> Result<Pumped, Fatal> {
        self.advance(log, now, out)?;
        self.apply_committed(now, out)
    }

    /// The first half of [`Member::pump`]: everything but applying.
    pub fn advance<D: Disk>(&mut self, log: &mut Log<D>, now: Millis, out: &mut Effects<W>) -> Result<(), Fatal> {
        log.poll()?;
        loop {
            let moved = self.fill(log, now, out)?;
            if !log.flush_awaited()? && !moved {
                return Ok(());
            }
        }
    }

    /// Takes notice of what has become durable, closes a batch if the log has a slot, and appends what has to be durable
    /// next; whether any of it moved something on. The flush is for who knows all members of the log.
    pub fn fill<D: Disk>(&mut self, log: &mut Log<D>, now: Millis, out: &mut Effects<W>) -> Result<bool, Fatal> {
        self.persisted_to(log.wal().durable(), out);
        self.propose_changes();
        // A leader's batch waits for a place in its own log; what another one leads goes on without.
        let passes_on = self.stalled().is_some() && !self.is_leader();
        let mut moved = (log.can_flush() || passes_on) && self.propose();
        moved |= self.start_reads();
        while let Some(ready) = self.group.ready() {
            self.take_ready(log, ready, now, out)?;
            moved = true;
        }
        Ok(moved)
    }

    /// The second half of [`Member::pump`]: applies, and releases what waited for that.
    pub fn apply_committed(&mut self, now: Millis, out: &mut Effects<W>) -> Result<Pumped, Fatal> {
        let pumped = self.apply(now, out)?;
        self.release(out);
        Ok(pumped)
    }

    /// Releases what waits for what is applied by now; instead of [`Member::apply_committed`] when applying has to wait.
    pub fn release(&mut self, out: &mut Effects<W>) {
        self.reads.release(self.applied_index(), &mut out.reads);
    }

    /// A message of another member arrived. What does not fit is ignored, as if it had been lost on the way. A snapshot
    /// is for [`Member::offer_snapshot`], when its bytes are there.
    pub fn step<D: Disk>(&mut self, log: &Log<D>, message: PeerMessage) -> Result<(), Fatal> {
        if matches!(message.body, PeerBody::Snapshot(_)) || self.must_decline(log, &message) {
            return Ok(());
        }
        match self.group.step(message) {
            Err(error @ StepError::LogLost { .. }) => Err(Fatal::LogLost(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Proposes a change of the configuration that was asked for at `since`. The waiter comes back in [`Effects`] exactly
    /// once, or at once.
    pub fn propose_change(&mut self, change: &MemberChange, waiter: W, since: Millis) -> Result<(), (ProposeError, W)> {
        let change = change.to_conf_change();
        match self.group.propose_conf_change(&change) {
            Ok(()) => self.changes.push(change.encode(), waiter, since),
            Err(error) => return Err((error, waiter)),
        }
        Ok(())
    }

    /// Hands leadership to another voter; [`Effects::roles`] tells when it is done.
    pub fn transfer_leader(&mut self, to: MemberId) -> Result<(), TransferError> {
        self.group.transfer_leader(to)
    }

    /// As [`Group::hurry_election`]: this member has just started, and reaches a majority.
    pub fn hurry_election(&mut self) {
        self.group.hurry_election();
    }

    /// Messages to `to` are being lost.
    pub fn report_unreachable(&mut self, to: MemberId) {
        self.group.report_unreachable(to);
    }

    /// The transport has learnt that `member` does not run.
    pub fn report_gone(&mut self, member: MemberId) {
        self.group.report_gone(member);
    }

    /// A snapshot of the state after `meta.id` is pinned for `to`; the message about it follows.
    pub fn provide_snapshot(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.group.provide_snapshot(to, meta);
    }

    /// A follower that was told of this snapshot has stopped fetching it: it may have gone down, and knows nothing of it now.
    pub fn announce_snapshot_again(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.group.announce_snapshot_again(to, meta);
    }

    /// A follower has fetched its snapshot, or it could not be made or was given up.
    pub fn report_snapshot(&mut self, to: MemberId, arrived: bool) {
        self.group.report_snapshot(to, arrived);
    }

    /// Whether a snapshot of a leader of `term` may be offered: the term must be durable before the state is.
    pub fn may_install(&self, term: u64) -> bool {
        self.group.hard_state().term >= term && self.persisting.is_empty()
    }

    /// The bytes of a snapshot message are there and `store` is what they hold. If consensus takes it, `place` makes it
    /// the member's data for good (a durable rename) before anything that depends on it is written.
    pub fn offer_snapshot(
        &mut self,
        message: PeerMessage,
        store: Store<T>,
        place: Box<dyn FnOnce() -> std::io::Result<()>>,
    ) -> Result<(), Fatal> {
        let PeerBody::Snapshot(meta) = &message.body else { return Ok(()) };
        self.arrived = Some(Arrived { id: meta.id, store, place });
        match self.group.step(message) {
            Err(error @ StepError::LogLost { .. }) => Err(Fatal::LogLost(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Consensus took the snapshot: its store replaces the present one, which is older.
    fn install<D: Disk>(&mut self, log: &mut Log<D>, meta: SnapshotMeta, out: &mut Effects<W>) -> Result<(), Fatal> {
        let index = meta.id.index;
        let arrived = self.arrived.take().filter(|arrived| arrived.id == meta.id);
        let arrived = arrived.expect("consensus takes only what was offered");
        assert!(index > self.store.applied().index, "a snapshot never takes the place of newer data");
        assert!(arrived.store.applied().index == index, "a snapshot holds what its mark says");
        (arrived.place)().map_err(|source| Fatal::Install { index, source })?;
        self.store = arrived.store;
        self.store.set_event_mode(self.event_mode);
        self.committed.clear();
        if let Some(mut applying) = self.applying.take() {
            out.applied.append(&mut applying.answered);
            let waiters = applying.waiters.collect();
            self.pending.outcome_unknown(applying.batch.sequence(), applying.since, waiters);
        }
        log.append_snapshot_mark(self.group_id, meta.id);
        self.conf_changes += 1;
        out.removed |= records::is_removed(&self.store, self.identity.member)?;
        out.installed = Some(meta);
        Ok(())
    }

    /// Puts other data in the place of these: a lone member that follows another cluster begins anew. They are of the entry
    /// that was applied last; if that has changed, or one is being applied, nothing happens.
    ///
    /// # Errors
    /// If `place`, which makes the data the member's durably, fails.
    pub fn replace_store(
        &mut self,
        store: Store<T>,
        place: impl FnOnce() -> std::io::Result<()>,
        out: &mut Effects<W>,
    ) -> Result<(), Fatal> {
        assert!(self.group.is_alone(), "the others would go on with the old data");
        assert!(store.follows().is_some(), "what clients were told is not given up");
        let applied = self.store.applied();
        if store.applied() != applied || self.applying.is_some() || !self.committed.is_empty() {
            return Ok(());
        }
        place().map_err(|source| Fatal::Install { index: applied.index, source })?;
        self.store = store;
        self.store.set_event_mode(self.event_mode);
        self.tenure.end();
        self.conf_changes += 1;
        // What led to the old data leads nobody to these.
        self.group.compact(applied.index);
        let id = EntryId { index: applied.index, term: applied.term };
        out.installed = Some(SnapshotMeta { id, conf: self.group.conf().clone(), context: Bytes::new() });
        Ok(())
    }

    /// Tells consensus what has become durable since the last time.
    fn persisted_to(&mut self, durable: Lsn, out: &mut Effects<W>) {
        let mut number = None;
        while self.persisting.front().is_some_and(|ready| ready.lsn <= durable) {
            let mut ready = self.persisting.pop_front().expect("front exists");
            out.messages.append(&mut ready.messages);
            number = Some(ready.number);
        }
        let rest = self.persisting.front();
        assert!(rest.is_none_or(|ready| ready.lsn > durable), "what is durable is told in order");
        if let Some(number) = number {
            self.group.on_persisted(number);
        }
    }

    /// Proposes changes of the configuration again that have not left this member.
    fn propose_changes(&mut self) {
        if self.group.leader().is_none() || self.unreached == self.group.leader() {
            return;
        }
        while let Some(data) = self.changes.next_unsent() {
            let change = ConfChange::decode(&data).expect("an own change is one");
            if self.group.propose_conf_change(&change).is_err() {
                // Another one is under way.
                self.changes.unsent(&data);
                return;
            }
        }
    }

    /// Closes a batch, if somebody takes it. Call when the log can flush it at once.
    fn propose(&mut self) -> bool {
        if !self.pending.has_batch() || self.group.leader().is_none() {
            return false;
        }
        if self.group.transferring_to().is_some() {
            // The next leader takes it, in a moment; if there is none, this one goes on.
            return false;
        }
        if self.unreached.is_some() && self.unreached == self.group.leader() {
            return false;
        }
        let Some((mut batch, sequence)) = self.pending.next() else { return false };
        let payload = batch.builder.finish(self.identity.member, sequence);
        self.pending.recycle(batch.builder);
        let bytes = payload.len();
        if self.group.propose(payload.clone()).is_ok() {
            self.pending.proposed(sequence, self.group.term(), batch.since, bytes, batch.waiters);
            return true;
        }
        // Too much is under way, or leadership just moves: it has to wait.
        self.restore(&payload, batch.since, batch.waiters);
        false
    }

    /// Commands that are in no log, and on no way to one, wait for their turn again.
    fn restore(&mut self, payload: &Bytes, since: Millis, waiters: Vec<W>) {
        let batch = Batch::parse(payload).expect("an own batch is one");
        assert!(batch.len() == waiters.len(), "each command that waits again has a waiter");
        self.pending.restore(OpenBatch { builder: BatchBuilder::resume(&batch), waiters, since });
    }

    /// The transport has not taken this message, and will not: no byte of it leaves. Commands in it are proposed again, to
    /// this leader with the next tick, or to the next one at once.
    pub fn report_unsent(&mut self, message: &PeerMessage) {
        if message.body != PeerBody::Propose {
            return;
        }
        self.unreached = Some(message.to);
        for entry in &message.entries {
            if entry.kind == EntryKind::ConfChange {
                self.changes.unsent(&entry.data);
            } else if let Ok(batch) = Batch::parse(&entry.data)
                && batch.origin() == self.identity.member
                && let Some((since, waiters)) = self.pending.take_unsent(batch.sequence())
            {
                self.restore(&entry.data, since, waiters);
            }
        }
    }

    fn start_reads(&mut self) -> bool {
        let token = self.reads.start();
        if let Some(token) = token {
            self.group.read_index(token);
        }
        token.is_some()
    }

    /// Appends what has to be durable, in the order that consensus asks for, and queues what is committed.
    fn take_ready<D: Disk>(
        &mut self,
        log: &mut Log<D>,
        mut ready: Ready,
        now: Millis,
        out: &mut Effects<W>,
    ) -> Result<(), Fatal> {
        let must_persist = ready.must_persist();
        if let Some(meta) = ready.snapshot.take() {
            self.install(log, meta, out)?;
        }
        if let Some(state) = &ready.hard_state {
            log.append_hard_state(self.group_id, state);
        }
        log.append_entries(self.group_id, &ready.entries);
        out.messages.append(&mut ready.messages);
        if must_persist || !ready.persisted_messages.is_empty() {
            let messages = std::mem::take(&mut ready.persisted_messages);
            let is_next = self.persisting.back().is_none_or(|last| last.number < ready.number);
            assert!(is_next, "consensus hears of what is durable in its own order");
            self.persisting.push_back(Persisting { number: ready.number, lsn: log.await_last(), messages });
        }
        if let (Some(last), Some(next)) = (self.committed.back(), ready.committed.first()) {
            assert!(next.index == last.index + 1 && next.term >= last.term, "committed entries follow each other");
        }
        self.committed.extend(ready.committed);
        for read in ready.read_states {
            self.reads.confirm(read.token, read.index);
        }
        if !ready.failed_reads.is_empty() {
            self.reads.drain(&mut self.lost);
            self.give_up(Lost::LeaderChanged, out);
        }
        out.snapshot_requests.append(&mut ready.snapshot_requests);
        if let Some(change) = &ready.role
            && self.store.follows().is_none()
        {
            self.tenure.follow(change, self.store.leases_mut(), now);
        }
        out.roles.extend(ready.role);
        Ok(())
    }

    /// Applies committed entries, up to the bound for one pump.
    fn apply(&mut self, now: Millis, out: &mut Effects<W>) -> Result<Pumped, Fatal> {
        let mut budget = self.apply_budget;
        loop {
            if self.applying.is_none() && self.store.trees().is_overdrawn() {
                return Ok(Pumped::Idle);
            }
            if self.applying.is_none() && !self.begin_entry(now, out)? {
                return Ok(Pumped::Idle);
            }
            let Some(mut applying) = self.applying.take() else { continue };
            let done = self.apply_commands(&mut applying, &mut budget, now, out)?;
            if !applying.job.is_under_way() {
                out.applied.append(&mut applying.answered);
                if self.event_mode != EventMode::Off && !self.store.is_amid_revision() {
                    out.events.push(self.store.take_events());
                }
            }
            if !done {
                assert!(budget.is_spent() || applying.job.is_under_way(), "apply pauses when it has done its part");
                self.applying = Some(applying);
                return Ok(Pumped::More);
            }
            assert!(applying.next == applying.batch.len(), "an entry is applied when all its commands are");
            assert!(applying.waiters.as_slice().is_empty(), "nobody waits for an entry that is applied");
            self.group.on_applied(applying.entry.index);
        }
    }

    /// What is collected for watchers of the entries.
    pub fn event_mode(&self) -> EventMode {
        self.event_mode
    }

    /// What watchers need of the entries from the next one on.
    pub fn set_event_mode(&mut self, mode: EventMode) {
        if mode != self.event_mode && self.applying.is_none() && !self.store.is_amid_revision() {
            self.store.set_event_mode(mode);
            self.event_mode = mode;
        }
    }

    /// Begins the next committed entry; false if there is none. Entries without commands are done at once.
    fn begin_entry(&mut self, now: Millis, out: &mut Effects<W>) -> Result<bool, Fatal> {
        let Some(entry) = self.committed.pop_front() else { return Ok(false) };
        let index = entry.index;
        assert!(index == self.applied_index() + 1, "entry {index} behind {}: none is left out", self.applied_index());
        self.store.begin_entry(plinth_engine::store::EntryId { index, term: entry.term })?;
        let batch = match entry.kind {
            EntryKind::ConfChange => {
                self.apply_conf_change(&entry, out)?;
                None
            }
            EntryKind::Normal if entry.data.is_empty() => None,
            EntryKind::Normal => Some(Batch::parse(&entry.data).map_err(|source| Fatal::Batch { index, source })?),
        };
        // Before the term is passed: a batch that was forwarded may have been proposed in an earlier one.
        let waiters = match &batch {
            Some(batch) if batch.origin() == self.identity.member => self.pending.committed(batch.sequence()),
            _ => Vec::new(),
        };
        self.pending.pass_term(entry.term);
        match batch {
            Some(batch) => {
                assert!(
                    waiters.is_empty() || waiters.len() == batch.len(),
                    "each command of an own batch has a waiter"
                );
                let (job, waiters) = (Job::default(), waiters.into_iter());
                let answered = Vec::new();
                self.applying = Some(Applying { entry, batch, next: 0, job, waiters, answered, since: now });
            }
            None => self.group.on_applied(index),
        }
        Ok(true)
    }

    /// Applies commands of one entry until the budget is spent; whether the entry is done. A command that is not done yet
    /// is gone on with in the next pump: nothing else is applied before, and the data not flushed.
    fn apply_commands(
        &mut self,
        applying: &mut Applying<W>,
        budget: &mut Budget,
        now: Millis,
        out: &mut Effects<W>,
    ) -> Result<bool, Fatal> {
        let index = applying.entry.index;
        for bytes in applying.batch.iter().skip(applying.next) {
            if budget.is_spent() {
                return Ok(false);
            }
            let unreadable = |source| Fatal::Command { index, source };
            let (author, _) = Author::split(bytes).map_err(|damaged| unreadable(damaged.into()))?;
            let command = Command::access(bytes).map_err(unreadable)?;
            let is_awaited = !applying.waiters.as_slice().is_empty();
            let everybody = Some(Author { user: ROOT, auth_revision: u64::MAX });
            let author = if is_planted(Planted::RightsWhereAsked) && !is_awaited { everybody } else { author };
            let result = match self.store.apply_step(&mut applying.job, (author, command), now, is_awaited, budget) {
                Ok(None) => return Ok(false),
                Ok(Some(outcome)) => Ok(outcome),
                Err(Error::Refused(refusal)) => Err(refusal),
                Err(Error::Broken(broken)) => return Err(broken.into()),
            };
            assert!(!applying.job.is_under_way(), "a command with an outcome is done");
            applying.next += 1;
            if let (CommandRef::LeaseGrant(grant), Ok(_)) = (command, &result) {
                out.granted.extend(self.store.leases().stored_ttl(grant.id.to_native()).map(|(ttl, _)| ttl));
            }
            if let CommandRef::Auth(_) | CommandRef::Authenticate(_) | CommandRef::Follow(_) = command {
                out.sign_ins.append(&mut self.store.take_sign_ins());
            }
            if let (CommandRef::Follow(ArchivedFollowChange::End), Ok(_)) = (command, &result)
                && self.group.role() == Role::Leader
            {
                self.tenure.begin(self.group.term(), self.store.leases_mut(), now);
            }
            match applying.waiters.next() {
                Some(waiter) => applying.answered.push((waiter, result)),
                None => out.unasked.push((command.kind(), result.is_ok())),
            }
        }
        Ok(true)
    }

    /// Applies a committed change of the configuration and stores it with its entry, or declines it as all members do.
    fn apply_conf_change(&mut self, entry: &Entry, out: &mut Effects<W>) -> Result<(), Fatal> {
        let change = ConfChange::decode(&entry.data).ok();
        let refusal = match &change {
            Some(change) => records::check(&self.store, change, self.learners_max)?,
            None => None,
        };
        if refusal.is_some() {
            self.group.refuse_conf_change(entry);
        } else if let Ok(conf) = self.group.apply_conf_change(entry) {
            assert!(!conf.voters.is_empty(), "entry {} leaves nobody to vote", entry.index);
            self.store.set_meta(META_CONF_STATE, &conf.encode())?;
            if let Some(change) = &change {
                records::apply(&mut self.store, change)?;
                // As etcd counts: a member that goes is also remembered as removed.
                for _ in 0..if matches!(MemberChange::from_conf_change(change), Ok(Some(MemberChange::Remove(_)))) {
                    2
                } else {
                    1
                } {
                    self.store.note_cluster_change()?;
                }
                out.removed |= records::removes(change, self.identity.member);
            }
            self.conf_changes += 1;
        }
        let result = refusal.map_or(Ok(()), Err);
        out.changed.extend(self.changes.applied(&entry.data).map(|waiter| (waiter, result)));
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        // An entry counts when its last command is applied.
        self.group.applied()
    }

    /// Says that everything up to `index` is durable in the data file, so that the log may drop it.
    pub fn stored_up_to<D: Disk>(&self, log: &mut Log<D>, index: u64) {
        assert!(index <= self.store.applied().index, "the data file holds what was applied");
        log.stored(self.group_id, index);
    }

    /// Takes every waiter: the member stops.
    pub fn stop(&mut self, out: &mut Effects<W>) {
        self.pending.drain(&mut self.lost);
        self.reads.drain(&mut self.lost);
        self.changes.drain(&mut self.lost);
        if let Some(applying) = &mut self.applying {
            out.applied.append(&mut applying.answered);
            self.lost.extend(&mut applying.waiters);
        }
        assert!(self.pending.commands() == 0, "everybody is told that the member stops");
        self.give_up(Lost::Stopped, out);
    }

    /// Whether a command is half applied, and takes more than one pump.
    pub fn is_amid_command(&self) -> bool {
        self.applying.as_ref().is_some_and(|applying| applying.job.is_under_way())
    }

    /// Whether the store stands between two entries, so that a flush of the data would be consistent.
    pub fn is_between_entries(&self) -> bool {
        self.applying.is_none()
    }

    /// Whether log and data can grow.
    pub fn has_space<D: Disk>(&self, log: &Log<D>) -> bool {
        log.has_space() && !self.store.trees().is_short_of_space()
    }

    /// Whether entries can be written and applied: the disk may be full, but not to the end; see [`crate::space`].
    pub fn takes_entries<D: Disk>(&self, log: &Log<D>) -> bool {
        !log.is_nearly_exhausted() && !self.store.trees().is_overdrawn()
    }

    /// Whether a message asks for more than there is room for.
    fn must_decline<D: Disk>(&self, log: &Log<D>, message: &PeerMessage) -> bool {
        match message.body {
            PeerBody::Append { .. } => !message.entries.is_empty() && !self.takes_entries(log),
            PeerBody::TimeoutNow => !self.has_space(log) || self.stalled().is_some(),
            _ => false,
        }
    }

    /// Whether committed entries wait to be applied.
    pub fn has_committed(&self) -> bool {
        self.applying.is_some() || !self.committed.is_empty()
    }

    /// Batches this member has made in this life, and the commands in them.
    pub fn batches(&self) -> (u64, u64) {
        self.pending.batches()
    }

    /// Whether commands wait that are in no proposed batch yet.
    pub fn has_unproposed(&self) -> bool {
        self.pending.has_batch()
    }

    /// Commands submitted and not yet being applied.
    pub fn pending_commands(&self) -> usize {
        self.pending.commands()
    }

    /// Linearizable reads that are not released yet.
    pub fn pending_reads(&self) -> usize {
        self.reads.len()
    }

    /// Changes of the configuration applied in this life: a cache of the member list is stale when it grows.
    pub fn conf_changes(&self) -> u64 {
        self.conf_changes
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.group.role() == Role::Leader
    }

    /// Which group's.
    pub fn group_id(&self) -> GroupId {
        self.group_id
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Consensus.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Data.
    pub fn store(&self) -> &Store<T> {
        &self.store
    }

    /// The data alone, of a member that has done its part.
    pub fn into_store(self) -> Store<T> {
        self.store
    }

    /// Data, for background work between entries.
    pub fn store_mut(&mut self) -> &mut Store<T> {
        &mut self.store
    }
}

const _: () = assert!(RecordKind::Entry as u8 == 2, "the log's kinds are etcd's");
