//! Stopping a server: the signal, and the connections that have to hear it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How a server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is not.
    Running,
    /// Clients are told to go; open calls end in their own time.
    Draining,
    /// Connections are cut.
    Closing,
}

/// Stops a server. Clones share the signal; all of them belong to one reactor.
#[derive(Clone)]
pub struct Shutdown {
    inner: Rc<Inner>,
}

struct Inner {
    phase: Cell<Phase>,
    next: Cell<u64>,
    listeners: RefCell<BTreeMap<u64, Waker>>,
    connections: Cell<usize>,
    /// How often connections were sent away: those from before are draining.
    times_turned: Cell<u64>,
    turns_away: Cell<bool>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Shutdown {
        let inner = Inner {
            phase: Cell::new(Phase::Running),
            next: Cell::new(0),
            listeners: RefCell::default(),
            connections: Cell::new(0),
            times_turned: Cell::new(0),
            turns_away: Cell::new(false),
        };
        Shutdown { inner: Rc::new(inner) }
    }

    /// Stops accepting, tells clients to go, lets open calls end.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Lets the connections that there are go, as [`Shutdown::drain`] does, and closes new ones that speak HTTP/2 before a word is
    /// said, so that clients turn to other servers; or takes them again.
    pub fn turn_away(&self, turns_away: bool) {
        let inner = &self.inner;
        if inner.turns_away.replace(turns_away) || !turns_away {
            return;
        }
        inner.times_turned.set(inner.times_turned.get() + 1);
        // They stay in the list: those that are draining already do not put themselves there again.
        let listeners: Vec<Waker> = inner.listeners.borrow().values().cloned().collect();
        listeners.into_iter().for_each(Waker::wake);
    }

    /// Whether new connections are closed.
    pub(super) fn turns_away(&self) -> bool {
        self.inner.turns_away.get()
    }

    /// Cuts everything off.
    pub fn close(&self) {
        self.advance(Phase::Closing);
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.inner.phase.get()
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.inner.connections.get()
    }

    fn advance(&self, phase: Phase) {
        if phase > self.inner.phase.get() {
            self.inner.phase.set(phase);
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        for waker in self.inner.listeners.take().into_values() {
            waker.wake();
        }
    }

    /// A place in the list of those who are woken when something changes.
    pub(crate) fn subscribe(&self, counts: bool) -> Subscription {
        let id = self.inner.next.get();
        self.inner.next.set(id + 1);
        if counts {
            self.inner.connections.set(self.inner.connections.get() + 1);
        }
        Subscription { shutdown: self.clone(), id, counts, times_turned: self.inner.times_turned.get() }
    }
}

/// A task that hears the signal.
pub(crate) struct Subscription {
    shutdown: Shutdown,
    id: u64,
    /// It is a connection.
    counts: bool,
    /// How often connections had been sent away when it began.
    times_turned: u64,
}

impl Subscription {
    /// The signal it listens to.
    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// How far this connection is to be ended: as all of them, or as those that are sent away.
    pub(super) fn phase(&self) -> Phase {
        let is_sent_away = self.times_turned < self.shutdown.inner.times_turned.get();
        let least = if is_sent_away { Phase::Draining } else { Phase::Running };
        self.shutdown.phase().max(least)
    }

    /// Wakes the task at the next change.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        self.shutdown.inner.listeners.borrow_mut().insert(self.id, cx.waker().clone());
    }

    /// Waits until the phase is at least this.
    pub(crate) fn poll_phase(&self, cx: &Context<'_>, phase: Phase) -> Poll<()> {
        if self.shutdown.phase() >= phase {
            return Poll::Ready(());
        }
        self.listen(cx);
        Poll::Pending
    }

    /// Waits until no connection is left.
    pub(super) fn poll_no_connections(&self, cx: &Context<'_>) -> Poll<()> {
        if self.shutdown.connections() == 0 {
            return Poll::Ready(());
        }
        self.listen(cx);
        Poll::Pending
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let inner = &self.shutdown.inner;
        inner.listeners.borrow_mut().remove(&self.id);
        if self.counts {
            inner.connections.set(inner.connections.get() - 1);
            if inner.connections.get() == 0 && inner.phase.get() > Phase::Running {
                self.shutdown.wake_all();
            }
        }
    }
}
