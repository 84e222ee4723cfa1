//! What all stores at home on a reactor share: its clock, its task queues, what it counts, and the log that all of them
//! write to.

use super::clock::{Clock, Nanos};
use super::queues::Queues;
use super::{Home, HomeLog};
use crate::metrics::ReactorMetrics;
use crate::notify::Notify;
use plinth_member::Fatal;
use plinth_raft::GroupId;
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::{Rc, Weak};

/// See the module. Made once for each thread that has stores.
pub struct Reactor {
    /// Monotonic time.
    pub clock: Clock,
    /// Where tasks run.
    pub queues: Queues,
    /// What this reactor counts.
    pub metrics: Rc<ReactorMetrics>,
    /// Wakes the driver.
    pub pump: Notify,
    log: RefCell<HomeLog>,
    /// The homes of the stores: a few, which are found by looking at each.
    homes: RefCell<Vec<(GroupId, Weak<Home>)>>,
    fatal: RefCell<Option<Fatal>>,
    /// The time when the driver's round began, once somebody asked.
    moment: Cell<Option<Nanos>>,
}

impl Reactor {
    /// A reactor without stores yet, whose log was recovered.
    pub fn new(queues: Queues, metrics: Rc<ReactorMetrics>, log: HomeLog) -> Rc<Reactor> {
        Rc::new(Reactor {
            clock: Clock::start(),
            queues,
            metrics,
            pump: Notify::new(),
            log: RefCell::new(log),
            homes: RefCell::default(),
            fatal: RefCell::default(),
            moment: Cell::new(None),
        })
    }

    /// The log, to look at.
    pub fn log(&self) -> Ref<'_, HomeLog> {
        self.log.borrow()
    }

    /// The log, to change.
    pub fn log_mut(&self) -> RefMut<'_, HomeLog> {
        self.log.borrow_mut()
    }

    /// A store is at home here from now on.
    ///
    /// # Panics
    /// If its group has a home here already.
    pub(super) fn add(&self, home: &Rc<Home>) {
        assert!(self.home(home.group).is_none(), "{:?} has one home", home.group);
        self.homes.borrow_mut().push((home.group, Rc::downgrade(home)));
    }

    /// The home of a group, as long as there is one.
    pub fn home(&self, group: GroupId) -> Option<Rc<Home>> {
        self.homes.borrow().iter().find(|(id, _)| *id == group)?.1.upgrade()
    }

    /// Now, as precisely as requests are timed: the clock is read once between two rounds of the driver.
    pub fn moment(&self) -> Nanos {
        self.moment.get().unwrap_or_else(|| {
            let now = self.clock.read();
            self.moment.set(Some(now));
            now
        })
    }

    /// A round of the driver begins: reads the clock, also for what the round submits itself.
    pub(super) fn begin_round(&self) -> Nanos {
        self.moment.set(None);
        self.moment()
    }

    /// A round of the driver is over: whoever asks next reads the clock.
    pub(super) fn end_round(&self) {
        self.moment.set(None);
    }

    /// A member cannot go on, and so the process cannot: they share what has failed.
    pub fn fail(&self, fatal: Fatal) {
        *self.fatal.borrow_mut() = Some(fatal);
        self.pump.notify();
    }

    /// Why the process cannot go on, once.
    pub(super) fn take_failure(&self) -> Option<Fatal> {
        self.fatal.borrow_mut().take()
    }
}
