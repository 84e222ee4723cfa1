//! The home of a group: the one reactor that touches the group's state.
//!
//! [`Home`] is the meeting point of one store: handlers submit commands and reads into the member, tasks ([`driver`],
//! [`flush`], [`background`]) move it forward, and what comes out is answered here. What it shares with other stores of the
//! same thread, the log above all, is in its [`Reactor`]. Everything is single-threaded; the state is
//! borrowed for the length of a function and never across an `await`.
//!
//! Invariant: a reply is given while the state is borrowed only through calls that append to a connection's buffer;
//! none of them calls back into the home.

pub mod auto_compaction;
pub mod background;
pub mod backups;
mod calm;
pub mod clock;
pub mod data_file;
pub mod driver;
pub mod flush;
pub mod flushes;
pub mod identity;
pub mod leases;
pub mod oneshot;
pub mod others;
pub mod queues;
pub mod reactor;
pub mod reading;
pub mod scrub;
pub mod slow;
pub mod space;
pub mod stages;
pub mod stall;
pub mod standby;
mod timeout;
pub mod v2;
mod versions;
pub mod waiter;
pub mod watching;

use crate::answer::header::HeaderTemplate;
use crate::answer::refusal::submit_status;
use crate::answer::status;
use crate::metrics::Op;
use crate::notify::{Latch, Notify};
use data_file::DataFile;
use flushes::Flushes;
use identity::Identities;
use oneshot::{Receiver, channel};
use others::Others;
use plinth_engine::author::Author;
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Alarm, AlarmAction, AlarmKind, Command};
use plinth_engine::pagefile::{FileStore, FileWriter, PageFile};
use plinth_engine::store::{Outcome, Store};
use plinth_engine::watch::{HeaderIds, Hub, StreamKey};
use plinth_member::log::Log;
use plinth_member::{Effects, Member};
use plinth_net::grpc::{Status, StreamReply};
use plinth_net::rt;
use plinth_raft::error::ProposeError;
use plinth_raft::{GroupId, MemberChange, MemberId, PeerMessage};
use plinth_wal_uring::UringDisk;
use reactor::Reactor;
use rustc_hash::FxHashMap;
use slow::SlowRequests;
use stages::{Asked, Stages};
use standby::Standby;
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};
use waiter::Waiter;

/// The store as the server runs it.
pub type HomeStore = Store<PageFile<FileStore>>;
/// The member as the server runs it.
pub type HomeMember = Member<PageFile<FileStore>, Waiter>;
/// The log as the server runs it.
pub type HomeLog = Log<UringDisk>;

/// Limits of requests, from the configuration.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Operations in a transaction (`max-txn-ops`).
    pub txn_ops_max: usize,
    /// Bytes of a request (`max-request-bytes`).
    pub request_bytes_max: usize,
    /// A request that takes longer is warned about (`warning-unary-request-duration`).
    pub slow_request: Duration,
    /// Applying that takes longer is warned about (`warning-apply-duration`).
    pub slow_apply: Duration,
}

/// How often the data file is flushed, and in which steps history is compacted.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Time between two flushes while there is something to write (`backend-batch-interval`).
    pub flush_interval: Duration,
    /// Puts and deletes after which a flush does not wait for its time (`backend-batch-limit`).
    pub flush_operations: u64,
    /// One step of a compaction (`compaction-batch-limit`, if it is smaller than what a step may be).
    pub compaction_step: WorkBudget,
    /// Pause between two steps (`compaction-sleep-interval`).
    pub compaction_pause: Duration,
}

/// What is known about the member besides its replicated state.
#[derive(Clone, Debug)]
pub struct Profile {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Name of this member.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Election timeout, in milliseconds.
    pub election_millis: u64,
    /// Whether the first election is not waited for longer than needed (`--initial-election-tick-advance`).
    pub hurries_first_election: bool,
    /// Configured quota in bytes as answered to clients.
    pub quota_bytes: i64,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Whether changes of the membership that would endanger the quorum are refused.
    pub strict_reconfig: bool,
    /// Limits of requests.
    pub limits: RequestLimits,
    /// How work that has time is done.
    pub pace: Pace,
}

/// Everything of a store that only its home may touch.
pub struct State {
    /// Consensus and data.
    pub member: HomeMember,
    /// Watchers of this reactor.
    pub hub: Hub,
    /// Where the messages of each watch stream go.
    pub watch_replies: FxHashMap<StreamKey, StreamReply>,
    /// Header of answers in the current term.
    pub header: HeaderTemplate,
    /// Compactions that wait until old data is gone, by their compact revision.
    pub physical: Vec<(i64, Waiter)>,
    /// Where the time goes.
    pub stages: Stages,
}

/// See the module.
pub struct Home {
    state: RefCell<State>,
    /// Whose home it is.
    pub group: GroupId,
    /// Who this member is.
    pub profile: Profile,
    /// What it shares with other stores.
    pub reactor: Rc<Reactor>,
    /// Wakes the background work: compaction, catching up of watchers.
    pub background: Notify,
    /// Where the data is.
    pub data: DataFile,
    /// The other members.
    pub others: Rc<dyn Others>,
    /// What identifies users.
    pub identities: Identities,
    /// The other cluster, as long as it is followed.
    pub standby: Standby,
    /// Who waits for changes of the v2 store.
    pub v2: v2::V2,
    /// Scheduled backups.
    pub backups: backups::Backups,
    /// Writes the data file that has taken the place of the one before.
    new_writer: RefCell<Option<FileWriter>>,
    is_learner: Cell<bool>,
    is_removed: Cell<bool>,
    elected: Cell<Option<Instant>>,
    /// Requests that take long.
    pub slow: Rc<SlowRequests>,
    /// Pages of the data file that are damaged.
    pub damage: scrub::Damage,
    /// A disk that does not answer.
    pub stall: stall::Stall,
    /// Reads whose moment has come, and which wait for their turn.
    readable: RefCell<VecDeque<Waiter>>,
    /// Streams whose clients want them to end when there is no leader.
    leader_bound: RefCell<Vec<StreamReply>>,
    /// Flushes of the page file.
    pub flushes: Flushes,
    alarm_pending: Cell<bool>,
    /// How often a snapshot took the place of the data: what was pinned before is gone.
    data_replacements: Cell<u64>,
    /// The member stops: wakes what would otherwise sleep on.
    stopping: Latch,
}

impl Home {
    /// A home for a member that was recovered, and its watchers.
    pub fn new(
        profile: Profile,
        data: DataFile,
        reactor: Rc<Reactor>,
        (member, hub): (HomeMember, Hub),
        others: Rc<dyn Others>,
        identities: Identities,
    ) -> Rc<Home> {
        let group = member.group_id();
        let header = HeaderTemplate::new(profile.cluster_id, profile.member_id, member.group().term());
        let state = State {
            member,
            hub,
            watch_replies: FxHashMap::default(),
            header,
            physical: Vec::new(),
            stages: Stages::new(profile.limits.slow_apply),
        };
        let v2 = v2::V2::new(state.member.store().v2().index());
        let home = Rc::new(Home {
            state: RefCell::new(state),
            slow: SlowRequests::new(profile.limits.slow_request),
            group,
            profile,
            reactor,
            background: Notify::new(),
            data,
            others,
            identities,
            standby: Standby::default(),
            v2,
            backups: backups::Backups::default(),
            new_writer: RefCell::default(),
            is_learner: Cell::new(false),
            is_removed: Cell::new(false),
            elected: Cell::new(None),
            damage: scrub::Damage::default(),
            stall: stall::Stall::default(),
            readable: RefCell::default(),
            leader_bound: RefCell::default(),
            flushes: Flushes::default(),
            alarm_pending: Cell::new(false),
            data_replacements: Cell::new(0),
            stopping: Latch::new(),
        });
        home.reactor.add(&home);
        home
    }

    /// The state, to look at.
    pub fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// The state, to change.
    pub fn state_mut(&self) -> std::cell::RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// A request that is submitted now.
    pub fn asked(&self, op: Op) -> Asked {
        Asked { op, at: self.reactor.moment() }
    }

    /// Queues a command of the server itself, which `encode` appends, for `waiter`.
    pub fn submit(&self, encode: impl FnOnce(&mut Vec<u8>), waiter: Waiter) {
        self.submit_for(None, encode, waiter);
    }

    /// Queues the command that `encode` appends, on behalf of its author, for `waiter`.
    pub fn submit_for(&self, author: Option<Author<'_>>, encode: impl FnOnce(&mut Vec<u8>), waiter: Waiter) {
        if self.stopping.is_set() {
            return waiter.fail(status::STOPPED);
        }
        let now = self.reactor.moment();
        let refused = {
            let state = &mut *self.state.borrow_mut();
            state.stages.open(now);
            let encode = |out: &mut Vec<u8>| {
                if let Some(author) = author {
                    author.encode_into(out);
                }
                encode(out);
            };
            state.member.submit(encode, waiter, now.millis())
        };
        match refused {
            Ok(()) => self.reactor.pump.notify(),
            Err((error, waiter)) => waiter.fail(submit_status(error)),
        }
    }

    /// Queues a linearizable read.
    pub fn read(&self, waiter: Waiter) {
        if self.stopping.is_set() {
            return waiter.fail(status::STOPPED);
        }
        let refused = self.state.borrow_mut().member.read(waiter, self.reactor.moment().millis());
        match refused {
            Ok(()) => self.reactor.pump.notify(),
            Err((error, waiter)) => waiter.fail(submit_status(error)),
        }
    }

    /// The moment of these reads has come.
    pub(crate) fn add_readable(&self, reads: &mut Vec<Waiter>) {
        self.readable.borrow_mut().extend(reads.drain(..));
    }

    /// The next read whose moment has come.
    pub(crate) fn next_readable(&self) -> Option<Waiter> {
        self.readable.borrow_mut().pop_front()
    }

    /// Whether reads wait for their turn.
    pub(crate) fn has_readable(&self) -> bool {
        !self.readable.borrow().is_empty()
    }

    /// Replicates a command of the server itself and waits for its outcome.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Status> {
        self.propose_for(None, command).await
    }

    /// Replicates a command on behalf of its author and waits for its outcome.
    pub async fn propose_for(&self, author: Option<Author<'_>>, command: Command) -> Result<Outcome, Status> {
        self.submit_awaited(author, &command).await.unwrap_or(Err(status::STOPPED))
    }

    /// Queues a command; what is returned waits for its outcome.
    pub fn submit_awaited(&self, author: Option<Author<'_>>, command: &Command) -> Receiver<Result<Outcome, Status>> {
        let (sender, receiver) = channel();
        let asked = self.asked(stages::op_of(command.kind()));
        self.submit_for(author, |out| command.encode_into(out), Waiter::Outcome(sender, asked));
        receiver
    }

    /// Whether this member follows another cluster, and takes no writes.
    pub fn follows(&self) -> bool {
        self.state.borrow().member.store().follows().is_some()
    }

    /// Waits until everything that was committed before is applied.
    pub async fn barrier(&self) -> Result<(), Status> {
        let receiver = self.start_barrier();
        receiver.await.unwrap_or(Err(status::STOPPED))
    }

    fn start_barrier(&self) -> Receiver<Result<(), Status>> {
        let (sender, receiver) = channel();
        self.read(Waiter::Barrier(sender));
        receiver
    }

    /// Hands a message of another member to consensus.
    pub fn step(&self, message: PeerMessage) {
        let result = { self.state.borrow_mut().member.step(&self.reactor.log(), message) };
        match result {
            Ok(()) => self.reactor.pump.notify(),
            Err(fatal) => self.reactor.fail(fatal),
        }
    }

    /// Changes the configuration, and waits until that is applied here. Another change under way is waited for. One that is
    /// lost with its leader is known to be so only when the time is over, as in etcd: it may still happen.
    pub async fn change(&self, change: MemberChange) -> Result<(), Status> {
        const RETRY: Duration = Duration::from_millis(20);
        let (since, deadline) = (self.reactor.clock.now(), Instant::now() + self.profile.request_timeout);
        loop {
            if self.stopping.is_set() {
                return Err(status::STOPPED);
            }
            let (sender, receiver) = channel();
            let proposed = self.state.borrow_mut().member.propose_change(&change, Waiter::Changed(sender), since);
            match proposed {
                Ok(()) => {
                    self.reactor.pump.notify();
                    return receiver.await.unwrap_or(Err(status::STOPPED));
                }
                Err((ProposeError::Removed, _)) => return Err(status::STOPPED),
                Err(_) if Instant::now() >= deadline => return Err(self.timeout_status()),
                Err(_) => rt::sleep(RETRY).await,
            }
        }
    }

    /// Replaces the data by a snapshot whose bytes are here, if consensus takes it.
    pub fn install(
        self: &Rc<Self>,
        message: PeerMessage,
        store: HomeStore,
        writer: FileWriter,
        place: Box<dyn FnOnce() -> std::io::Result<()>>,
    ) -> bool {
        crate::fail_point!("applyBeforeOpenSnapshot");
        let (mut effects, now) = (Effects::default(), self.reactor.clock.now());
        let result = {
            let (member, log) = (&mut self.state.borrow_mut().member, &mut self.reactor.log_mut());
            member.offer_snapshot(message, store, place).and_then(|()| member.advance(log, now, &mut effects))
        };
        let is_installed = effects.installed.is_some();
        if is_installed {
            *self.new_writer.borrow_mut() = Some(writer);
        }
        driver::hand_over(self, &mut effects);
        match result {
            Ok(()) => self.reactor.pump.notify(),
            Err(fatal) => self.reactor.fail(fatal),
        }
        is_installed
    }

    /// Puts other data in the place of these, if they are of the same entry and this moment allows it; see
    /// [`HomeMember::replace_store`].
    pub fn replace_data(
        self: &Rc<Self>,
        store: HomeStore,
        writer: FileWriter,
        place: impl FnOnce() -> std::io::Result<()>,
    ) -> bool {
        let mut effects = Effects::default();
        let replaced = self.state.borrow_mut().member.replace_store(store, place, &mut effects);
        if effects.installed.is_some() {
            *self.new_writer.borrow_mut() = Some(writer);
        }
        let is_replaced = effects.installed.is_some();
        driver::hand_over(self, &mut effects);
        match replaced {
            Ok(()) => self.reactor.pump.notify(),
            Err(fatal) => self.reactor.fail(fatal),
        }
        is_replaced
    }

    /// How often a snapshot has taken the place of the data in this life.
    pub fn data_replacements(&self) -> u64 {
        self.data_replacements.get()
    }

    /// A snapshot took the place of the data.
    pub(crate) fn note_data_replaced(&self) {
        self.data_replacements.set(self.data_replacements.get() + 1);
    }

    /// What writes the data file from now on, if that has changed.
    pub(crate) fn take_new_writer(&self) -> Option<FileWriter> {
        self.new_writer.borrow_mut().take()
    }

    /// What the replicated list says about this member.
    pub fn note_own_record(&self, record: Option<&plinth_raft::Member>) {
        let is_learner = record.is_some_and(|record| record.is_learner);
        if self.is_learner.replace(is_learner) && record.is_some() && !is_learner {
            tracing::info!(member = %format!("{:x}", self.profile.member_id), "promoted from learner to voter");
        }
    }

    /// A stream that ends when there has been no leader for too long.
    pub fn end_without_leader(&self, reply: StreamReply) {
        let mut streams = self.leader_bound.borrow_mut();
        if streams.len() == streams.capacity() {
            streams.retain(|stream| !stream.is_closed());
        }
        streams.push(reply);
    }

    /// There has been no leader for too long.
    pub(crate) fn end_leader_bound(&self) {
        for stream in std::mem::take(&mut *self.leader_bound.borrow_mut()) {
            stream.finish(status::NO_LEADER);
        }
    }

    /// Whether this member does not vote yet.
    pub fn is_learner(&self) -> bool {
        self.is_learner.get()
    }

    /// This member was removed from the cluster.
    pub fn removed(&self) {
        self.is_removed.set(true);
    }

    /// Whether this member was removed from the cluster.
    pub fn is_removed(&self) -> bool {
        self.is_removed.get()
    }

    /// Whether the times of leases are this member's: it leads, and has applied all that was decided before.
    pub fn keeps_leases(&self) -> bool {
        self.state.borrow().member.keeps_leases().is_some()
    }

    /// How long ago a leader was elected, as far as this member knows.
    pub fn elected_since(&self) -> Option<Duration> {
        self.elected.get().map(|at| at.elapsed())
    }

    /// A leader was elected.
    pub(crate) fn note_election(&self) {
        self.elected.set(Some(Instant::now()));
    }

    /// What a write is answered that was not done in time, as etcd tells the reasons apart.
    pub fn timeout_status(&self) -> Status {
        let Some(start) = Instant::now().checked_sub(self.profile.request_timeout) else { return status::TIMEOUT };
        let state = self.state.borrow();
        let group = state.member.group();
        let view = timeout::View {
            own: self.profile.member_id,
            leader: group.leader().map(|leader| leader.0),
            voters: &group.conf().voters,
            elected: self.elected.get(),
            election: Duration::from_millis(self.profile.election_millis),
        };
        view.status(start, |id| self.others.connected_since(MemberId(id)))
    }

    /// Whether a write of this cost fits. Beyond the quota the NOSPACE alarm is raised, which is the cluster's; a disk
    /// without room is this member's own matter, and over by itself when there is room again.
    pub fn has_room(&self, cost: u64) -> bool {
        if cost == 0 {
            return true;
        }
        let (has_space, fits) = {
            let state = self.state.borrow();
            (state.member.has_space(&self.reactor.log()), state.member.store().has_room(cost))
        };
        if !fits && !self.alarm_pending.replace(true) {
            let alarm =
                Alarm { action: AlarmAction::Activate, member: self.profile.member_id, kind: AlarmKind::NoSpace };
            self.submit(|out| Command::Alarm(alarm).encode_into(out), Waiter::Alarm);
        }
        has_space && fits
    }

    /// The alarm raised by [`Home::has_room`] has been applied or given up: the next one may be raised.
    pub(crate) fn alarm_raised(&self) {
        self.alarm_pending.set(false);
    }

    /// Waits until a flush of the page file that begins after this call has ended. With nothing to write, too.
    pub async fn flushed(&self) {
        let _ = self.flushes.next().await;
    }

    /// Ids and term for the headers of watch responses.
    pub fn header_ids(&self, state: &State) -> HeaderIds {
        HeaderIds {
            cluster_id: self.profile.cluster_id,
            member_id: self.profile.member_id,
            raft_term: state.member.group().term(),
        }
    }

    /// Refuses everything new and answers everything that waits.
    pub fn stop(&self) {
        self.stopping.set();
        v2::stop(self);
        let mut effects = Effects::default();
        self.state.borrow_mut().member.stop(&mut effects);
        for (waiter, _) in effects.lost {
            waiter.fail(status::STOPPED);
        }
        let physical = std::mem::take(&mut self.state.borrow_mut().physical);
        for waiter in physical.into_iter().map(|(_, waiter)| waiter).chain(self.readable.take()) {
            waiter.fail(status::STOPPED);
        }
    }

    /// Waits until [`Home::stop`] is called.
    pub async fn wait_for_stop(&self) {
        self.stopping.wait().await;
    }

    /// Whether [`Home::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_set()
    }
}
