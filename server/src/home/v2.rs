//! The v2 store at home: who waits for its changes on this member, and what ends by the cluster's time.
//!
//! Time: the leader's. It starts with the wall clock of its process and goes on with the monotonic one, so that nothing ends
//! because somebody set a clock; a new leader whose clock is behind the cluster's time goes on from that. A write with a time to live carries the leader's time, which a follower asks for
//! (`cluster/forward.rs`); that something has ended is a command of the leader, as with leases.

use super::Home;
use crate::notify::Notify;
use plinth_engine::command::Command;
use plinth_net::rt;
use plinth_v2::hub::{Interest, WatchError};
use plinth_v2::{Hub, V2Command, WatchId, Watched};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a millisecond.
const MILLI: i64 = 1_000_000;

/// How long the next look at what ends is put off, at least and at most, in milliseconds.
const PAUSE_MIN: i64 = 20;
const PAUSE_MAX: i64 = 500;

/// See the module.
pub struct V2 {
    hub: RefCell<Hub>,
    wakers: RefCell<FxHashMap<WatchId, Rc<Notify>>>,
    wall: i64,
    started: Instant,
    /// How far the cluster's time was ahead of this process's when it began to lead.
    ahead: Cell<i64>,
    is_syncing: Cell<bool>,
    asked: Cell<u64>,
}

impl V2 {
    /// Nobody waits yet; the tree has come to this index.
    pub fn new(index: u64) -> V2 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        V2 {
            hub: RefCell::new(Hub::new(index)),
            wakers: RefCell::default(),
            wall: i64::try_from(wall).unwrap_or(i64::MAX / 2),
            started: Instant::now(),
            ahead: Cell::new(0),
            is_syncing: Cell::new(false),
            asked: Cell::new(0),
        }
    }

    /// Nanoseconds since 1970 by this process.
    pub fn now(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.wall.saturating_add(elapsed).saturating_add(self.ahead.get())
    }

    /// Whoever leads goes on from the cluster's time, which a leader before it may have had from a clock that was ahead:
    /// else nothing would end until this clock has come so far.
    fn catch_up(&self, time: i64) {
        let behind = time.saturating_sub(self.now());
        if behind > 0 {
            self.ahead.set(self.ahead.get().saturating_add(behind));
        }
    }

    /// When this process began, in nanoseconds since 1970.
    pub fn started(&self) -> i64 {
        self.wall
    }

    /// How often somebody has asked to wait.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Those who wait.
    pub fn waiting(&self) -> usize {
        self.hub.borrow().waiting()
    }
}

/// Tells those who wait of what was applied.
pub fn publish(home: &Home) {
    let state = home.state();
    let tree = state.member.store().v2();
    let mut hub = home.v2.hub.borrow_mut();
    if tree.index() == hub.seen() {
        return;
    }
    hub.publish(tree.history(), tree.index());
    let wakers = home.v2.wakers.borrow();
    for id in hub.take_woken() {
        if let Some(waker) = wakers.get(&id) {
            waker.notify();
        }
    }
}

/// One who waits, until it is dropped.
pub struct Watch {
    home: Rc<Home>,
    id: WatchId,
    /// Whether it is told of more than one event.
    pub is_stream: bool,
    /// Notified when there is something new.
    pub wake: Rc<Notify>,
}

impl Watch {
    /// Begins to wait.
    ///
    /// # Errors
    /// If the index is not known any more, or there are too many.
    pub fn begin(home: &Rc<Home>, interest: Interest<'_>) -> Result<Watch, WatchError> {
        publish(home);
        home.v2.asked.set(home.v2.asked.get() + 1);
        let state = home.state();
        let tree = state.member.store().v2();
        let id = home.v2.hub.borrow_mut().watch(interest, tree.contains(interest.path), tree.history())?;
        let wake = Rc::new(Notify::new());
        home.v2.wakers.borrow_mut().insert(id, wake.clone());
        Ok(Watch { home: home.clone(), id, is_stream: interest.stream, wake })
    }

    /// The JSON of the next event; nothing if there is none yet.
    ///
    /// # Errors
    /// If there will be none.
    pub fn next(&self) -> Result<Option<Vec<u8>>, Ended> {
        let state = self.home.state();
        let mut hub = self.home.v2.hub.borrow_mut();
        match hub.next(self.id, state.member.store().v2().history()) {
            Watched::Event(event) => {
                let mut json = Vec::new();
                event.write_json(&mut json, false);
                Ok(Some(json))
            }
            Watched::Pending if self.home.is_stopping() => Err(Ended),
            Watched::Pending => Ok(None),
            Watched::Ended => Err(Ended),
        }
    }
}

/// Nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl Drop for Watch {
    fn drop(&mut self) {
        self.home.v2.hub.borrow_mut().unwatch(self.id);
        self.home.v2.wakers.borrow_mut().remove(&self.id);
    }
}

/// The member stops: nobody waits any longer.
pub fn stop(home: &Home) {
    home.v2.wakers.borrow().values().for_each(|waker| waker.notify());
}

/// Has what is due ended, if this member leads. How many milliseconds until the next look.
pub fn expire(home: &Rc<Home>) -> u64 {
    if home.keeps_leases() {
        home.v2.catch_up(home.state().member.store().v2().time());
    }
    let next = home.state().member.store().v2().next_deadline();
    let Some(deadline) = next.filter(|_| home.keeps_leases()) else { return PAUSE_MAX as u64 };
    let now = home.v2.now();
    if deadline <= now.max(home.state().member.store().v2().time()) && !home.v2.is_syncing.replace(true) {
        let home = home.clone();
        rt::spawn(async move {
            // One that fails is tried again at the next look.
            let _ = home.propose(Command::V2(V2Command::sync(now))).await;
            home.v2.is_syncing.set(false);
        })
        .detach();
    }
    (deadline.saturating_sub(now) / MILLI).clamp(PAUSE_MIN, PAUSE_MAX) as u64
}
