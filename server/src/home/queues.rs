//! The task queues of a reactor: which work goes before which.

use plinth_net::rt::{self, Queue};
use std::time::Duration;

/// How long work that can wait may keep a reactor from its sockets.
pub const SOCKETS_INTERVAL: Duration = Duration::from_micros(500);

/// The task queues of a reactor besides the one that serves clients.
#[derive(Clone, Copy)]
pub struct Queues {
    /// Moves the member forward.
    pub consensus: Queue,
    /// Exchanges calls with edges. Its interval does not matter, so that an edge that wakes it while it is awake does
    /// not make a system call for that.
    pub mesh: Queue,
    /// What has time.
    pub background: Queue,
}

impl Queues {
    /// New queues of this reactor.
    pub fn create() -> Queues {
        Queues {
            consensus: rt::queue("consensus", 1000, Duration::from_millis(1)),
            mesh: rt::first_queue(),
            background: rt::queue("background", 50, SOCKETS_INTERVAL),
        }
    }
}
