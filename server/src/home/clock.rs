//! Monotonic time since the process started: the only clock that leases, timeouts and latencies see.

use plinth_engine::lease::Millis;
use std::time::{Duration, Instant};

/// See the module. Copies share the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

/// Nanoseconds on this clock: half the size of an `Instant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(u64);

/// Where the clock begins, so that subtracting a timeout does not reach below zero at once.
const BEGIN: Duration = Duration::from_secs(1);

impl Clock {
    /// Starts at a second.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Now, as leases and timeouts count.
    pub fn now(&self) -> Millis {
        self.read().millis()
    }

    /// Now.
    pub fn read(&self) -> Nanos {
        self.at(Instant::now())
    }

    /// A moment; those before the start are the start.
    pub fn at(&self, moment: Instant) -> Nanos {
        Nanos((moment.saturating_duration_since(self.start) + BEGIN).as_nanos() as u64)
    }
}

impl Nanos {
    /// The same moment, as leases and timeouts count.
    pub fn millis(self) -> Millis {
        Millis(self.0 / 1_000_000)
    }

    /// Nanoseconds since an earlier moment; 0 if it is later.
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
