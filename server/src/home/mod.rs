//! The home of a group: the one reactor that touches the group's state.
//!
//! [`Home`] is the meeting point: handlers submit commands and reads into the member, tasks ([`driver`], [`flush`],
//! [`background`]) move it forward, and what comes out is answered here. Everything is single-threaded; the state is
//! borrowed for the length of a function and never across an `await`.
//!
//! Invariant: a reply is given while the state is borrowed only through calls that append to a connection's buffer;
//! none of them calls back into the home.

pub mod background;
pub mod clock;
pub mod driver;
pub mod flush;
pub mod oneshot;
pub mod waiter;

use crate::api::status;
use crate::api::wire::HeaderTemplate;
use crate::metrics::ReactorMetrics;
use crate::notify::Notify;
use clock::Clock;
use oneshot::{Receiver, channel};
use plinth_engine::command::{Alarm, AlarmAction, AlarmKind, Command};
use plinth_engine::error::OpError;
use plinth_engine::pagefile::{FileStore, PageFile};
use plinth_engine::store::{Outcome, Store};
use plinth_engine::watch::{HeaderIds, Hub, StreamKey};
use plinth_member::{Effects, Member, SubmitError};
use plinth_net::grpc::{Status, StreamReply};
use plinth_wal::UringDisk;
use rustc_hash::FxHashMap;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use waiter::Waiter;

/// The store as the server runs it.
pub type HomeStore = Store<PageFile<FileStore>>;
/// The member as the server runs it.
pub type HomeMember = Member<UringDisk, PageFile<FileStore>, Waiter>;

/// Limits of requests, from the configuration.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Operations in a transaction (`max-txn-ops`).
    pub txn_ops_max: usize,
    /// Bytes of a request (`max-request-bytes`).
    pub request_bytes_max: usize,
}

/// What is known about the member besides its replicated state.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Cluster id.
    pub cluster_id: u64,
    /// Member id.
    pub member_id: u64,
    /// Name of this member.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Election timeout, in milliseconds.
    pub election_millis: u64,
    /// Configured quota in bytes as answered to clients.
    pub quota_bytes: i64,
    /// Limits of requests.
    pub limits: RequestLimits,
}

/// Everything that only the home may touch.
pub struct State {
    /// Consensus, log and data.
    pub member: HomeMember,
    /// Watchers of this reactor.
    pub hub: Hub,
    /// Where the messages of each watch stream go.
    pub watch_replies: FxHashMap<StreamKey, StreamReply>,
    /// Header of answers in the current term.
    pub header: HeaderTemplate,
    /// Compactions that wait until old data is gone, by their compact revision.
    pub physical: Vec<(i64, Waiter)>,
    /// The watch response being encoded.
    pub watch_message: Vec<u8>,
}

/// See the module.
pub struct Home {
    state: RefCell<State>,
    /// Who this member is.
    pub profile: Profile,
    /// Monotonic time.
    pub clock: Clock,
    /// Wakes the driver.
    pub pump: Notify,
    /// Wakes the background work: compaction, catching up of watchers.
    pub background: Notify,
    /// What this reactor counts.
    pub metrics: Rc<ReactorMetrics>,
    flushes: Cell<u64>,
    stored: Cell<u64>,
    flush_waiters: RefCell<Vec<(u64, oneshot::Sender<()>)>>,
    alarm_pending: Cell<bool>,
    stopping: Cell<bool>,
}

impl Home {
    /// A home for a member that was recovered.
    pub fn new(profile: Profile, clock: Clock, member: HomeMember, hub: Hub, metrics: Rc<ReactorMetrics>) -> Rc<Home> {
        let header = HeaderTemplate::new(profile.cluster_id, profile.member_id, member.group().term());
        let state = State {
            member,
            hub,
            watch_replies: FxHashMap::default(),
            header,
            physical: Vec::new(),
            watch_message: Vec::new(),
        };
        Rc::new(Home {
            state: RefCell::new(state),
            profile,
            clock,
            pump: Notify::new(),
            background: Notify::new(),
            metrics,
            flushes: Cell::new(0),
            stored: Cell::new(0),
            flush_waiters: RefCell::default(),
            alarm_pending: Cell::new(false),
            stopping: Cell::new(false),
        })
    }

    /// The state, to look at.
    pub fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// The state, to change.
    pub fn state_mut(&self) -> std::cell::RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Queues the command that `encode` appends for `waiter`.
    pub fn submit(&self, encode: impl FnOnce(&mut Vec<u8>), waiter: Waiter) {
        if self.stopping.get() {
            return waiter.fail(status::STOPPED);
        }
        let refused = self.state.borrow_mut().member.submit(encode, waiter, self.clock.now());
        match refused {
            Ok(()) => self.pump.notify(),
            Err((error, waiter)) => waiter.fail(submit_status(error)),
        }
    }

    /// Queues a linearizable read.
    pub fn read(&self, waiter: Waiter) {
        if self.stopping.get() {
            return waiter.fail(status::STOPPED);
        }
        let refused = self.state.borrow_mut().member.read(waiter, self.clock.now());
        match refused {
            Ok(()) => self.pump.notify(),
            Err((error, waiter)) => waiter.fail(submit_status(error)),
        }
    }

    /// Replicates a command of the server itself and waits for its outcome.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Status> {
        let (sender, receiver) = channel();
        self.submit(|out| command.encode_into(out), Waiter::Outcome(sender));
        receiver.await.unwrap_or(Err(status::STOPPED))
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

    /// Whether a write of this cost fits the quota and the disk; if not, the NOSPACE alarm is raised.
    pub fn has_room(&self, cost: u64) -> bool {
        if cost == 0 {
            return true;
        }
        let room = {
            let state = self.state.borrow();
            let store = state.member.store();
            state.member.has_log_space() && !store.trees().short_of_space() && store.has_room(cost)
        };
        if !room && !self.alarm_pending.replace(true) {
            let alarm =
                Alarm { action: AlarmAction::Activate, member: self.profile.member_id, kind: AlarmKind::NoSpace };
            self.submit(|out| Command::Alarm(alarm).encode_into(out), Waiter::Alarm);
        }
        room
    }

    /// The alarm raised by [`Home::has_room`] has been applied or given up: the next one may be raised.
    pub(crate) fn alarm_raised(&self) {
        self.alarm_pending.set(false);
    }

    /// Waits until a flush of the page file that began after this call is finished. With nothing to write, too.
    pub async fn flushed(&self) {
        let (sender, receiver) = channel();
        self.flush_waiters.borrow_mut().push((self.flushes.get() + 1, sender));
        let _ = receiver.await;
    }

    /// Records what a finished flush holds; what the one before it held.
    pub(crate) fn stored_before(&self, applied: u64) -> u64 {
        self.stored.replace(applied)
    }

    /// A flush begins; whoever waits from now on waits for the next one.
    pub(crate) fn flush_begins(&self) -> u64 {
        self.flushes.set(self.flushes.get() + 1);
        self.flushes.get()
    }

    /// A flush is finished: those who asked before it began are told.
    pub(crate) fn flush_ends(&self, number: u64) {
        let mut waiters = self.flush_waiters.borrow_mut();
        let (done, waiting) = std::mem::take(&mut *waiters).into_iter().partition(|(wanted, _)| *wanted <= number);
        *waiters = waiting;
        drop(waiters);
        let done: Vec<(u64, oneshot::Sender<()>)> = done;
        for (_, sender) in done {
            sender.send(());
        }
    }

    /// Whether somebody waits for a flush.
    pub(crate) fn flush_is_wanted(&self) -> bool {
        !self.flush_waiters.borrow().is_empty()
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
        self.stopping.set(true);
        let mut effects = Effects::default();
        self.state.borrow_mut().member.stop(&mut effects);
        for (waiter, _) in effects.lost {
            waiter.fail(status::STOPPED);
        }
        let physical = std::mem::take(&mut self.state.borrow_mut().physical);
        for (_, waiter) in physical {
            waiter.fail(status::STOPPED);
        }
    }

    /// Whether [`Home::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

fn submit_status(error: SubmitError) -> Status {
    match error {
        SubmitError::TooMany => status::TOO_MANY_REQUESTS,
        SubmitError::NoSpace => status::NO_SPACE,
    }
}

/// The status of a refusal by the store.
pub fn op_status(error: OpError) -> Status {
    match error {
        OpError::EmptyKey => status::EMPTY_KEY,
        OpError::KeyNotFound => status::KEY_NOT_FOUND,
        OpError::ValueProvided => status::VALUE_PROVIDED,
        OpError::LeaseProvided => status::LEASE_PROVIDED,
        OpError::TooManyOps => status::TOO_MANY_OPS,
        OpError::DuplicateKey => status::DUPLICATE_KEY,
        OpError::InvalidSortOption => status::INVALID_SORT_OPTION,
        OpError::Compacted => status::COMPACTED,
        OpError::FutureRevision => status::FUTURE_REVISION,
        OpError::NoSpace => status::NO_SPACE,
        OpError::Corrupt => status::CORRUPT,
        OpError::LeaseNotFound => status::LEASE_NOT_FOUND,
        OpError::LeaseExists => status::LEASE_EXISTS,
        OpError::LeaseTtlTooLarge => status::LEASE_TTL_TOO_LARGE,
        other => Status::new(plinth_net::grpc::Code::Unknown, other.to_string()),
    }
}
