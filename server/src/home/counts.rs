//! What the home counts besides what its parts count themselves. Plain cells: one reactor, no atomics.

use std::cell::{Cell, RefCell};
use std::time::Duration;

/// Counters since the process started.
#[derive(Debug, Default)]
pub struct HomeCounts {
    /// Ranges answered.
    pub ranges: Cell<u64>,
    /// Leases that ran out.
    pub leases_expired: Cell<u64>,
    /// Keep-alives answered.
    pub leases_renewed: Cell<u64>,
    /// Leaders seen after the first.
    pub leader_changes: Cell<u64>,
    /// Durations of page-file flushes since the last look.
    pub commits: RefCell<Vec<Duration>>,
    /// Durations of defragmentations since the last look.
    pub defragmentations: RefCell<Vec<Duration>>,
}

/// Durations kept between two looks.
const SAMPLES_MAX: usize = 4096;

impl HomeCounts {
    /// One more.
    pub fn add(cell: &Cell<u64>) {
        cell.set(cell.get() + 1);
    }

    /// Keeps a duration until somebody looks; beyond the bound it is dropped.
    pub fn keep(samples: &RefCell<Vec<Duration>>, sample: Duration) {
        let mut samples = samples.borrow_mut();
        if samples.len() < SAMPLES_MAX {
            samples.push(sample);
        }
    }
}
