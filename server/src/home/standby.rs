//! What is known here about the cluster that this member follows, and what somebody wants of whoever follows it.

use std::cell::{Cell, Ref, RefCell};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// How far a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No cluster is followed.
    #[default]
    None,
    /// A snapshot is fetched.
    Seeding,
    /// What happens there happens here.
    Following,
    /// The other cluster takes no writes any more, and the last ones are compared.
    CuttingOver,
    /// This member has taken over.
    Ended,
}

impl Phase {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::None => "none",
            Phase::Seeding => "seeding",
            Phase::Following => "following",
            Phase::CuttingOver => "cutting-over",
            Phase::Ended => "ended",
        }
    }
}

/// What whoever follows has told last.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How far it is.
    pub phase: Phase,
    /// The endpoint that is spoken to.
    pub source: String,
    /// The other cluster.
    pub source_cluster: u64,
    pub source_revision: i64,
    /// For how long it has been ahead.
    pub lag: Duration,
    /// The last revision at which both hashes were equal; 0 if there was none.
    pub compared: i64,
    /// For how long the other cluster took no writes, once this one has taken over.
    pub paused: Duration,
    /// What is in the way.
    pub problem: String,
    /// Wishes that were granted or have failed.
    pub settled: u64,
}

/// What somebody may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To take over.
    CutOver,
    /// To go on following instead.
    Abort,
}

/// See the module.
#[derive(Default)]
pub struct Standby {
    report: RefCell<Report>,
    wishes: RefCell<Option<Sender<Wish>>>,
    wished: Cell<u64>,
    is_decided: Cell<bool>,
}

impl Standby {
    /// Somebody follows another cluster, and takes wishes.
    pub fn begin(&self, wishes: Sender<Wish>) {
        *self.wishes.borrow_mut() = Some(wishes);
    }

    /// It is known whether another cluster is followed, and if so, its data are here: clients may come.
    pub fn set_decided(&self) {
        self.is_decided.set(true);
    }

    /// Whether clients may come.
    pub fn is_decided(&self) -> bool {
        self.is_decided.get()
    }

    /// What was told last.
    pub fn report(&self) -> Ref<'_, Report> {
        self.report.borrow()
    }

    /// Takes note of what is told.
    pub fn set_report(&self, report: Report) {
        *self.report.borrow_mut() = report;
    }

    /// Passes a wish on. It is settled when [`Report::settled`] is at least the number returned; none if nobody takes it.
    pub fn wish(&self, wish: Wish) -> Option<u64> {
        self.wishes.borrow().as_ref()?.try_send(wish).ok()?;
        self.wished.set(self.wished.get() + 1);
        Some(self.wished.get())
    }
}
