//! Monotonic time in milliseconds since the process started: the only clock that leases and timeouts see.

use plinth_engine::lease::Millis;
use std::time::Instant;

/// See the module. Copies share the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at a second, so that subtracting a timeout does not reach below zero at once.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Millis {
        Millis(self.start.elapsed().as_millis() as u64 + 1000)
    }
}
