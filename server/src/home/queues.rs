//! The task queues of a reactor: which work goes before which.

use glommio::{Latency, Shares, TaskQueueHandle};
use std::time::Duration;

/// How long work that can wait may keep a reactor from its sockets.
pub const SOCKETS_INTERVAL: Duration = Duration::from_micros(500);

/// The task queues of a reactor besides the one that serves clients.
#[derive(Clone, Copy)]
pub struct Queues {
    /// Moves the member forward.
    pub consensus: TaskQueueHandle,
    /// What has time.
    pub background: TaskQueueHandle,
}

impl Queues {
    /// New queues of this reactor.
    pub fn create() -> Queues {
        let executor = glommio::executor();
        let soon = Latency::Matters(Duration::from_millis(1));
        let polite = Latency::Matters(SOCKETS_INTERVAL);
        Queues {
            consensus: executor.create_task_queue(Shares::Static(1000), soon, "consensus"),
            background: executor.create_task_queue(Shares::Static(50), polite, "background"),
        }
    }
}
