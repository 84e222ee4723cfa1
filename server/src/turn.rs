//! Long work in steps, between which everything else comes first.
//!
//! A task that only yields goes on as soon as the tasks that can run by then have run, and the reactor looks at its
//! sockets when the interval of a queue is over: a request that takes several turns of the reactor (read, write to the
//! log, apply) would wait for a whole interval each time. A task that sleeps, however short, lets the reactor run out
//! of tasks and look.

use glommio::timer::sleep;
use std::time::Duration;

/// Too short to matter, and longer than what the timer could find to be over already.
const PAUSE: Duration = Duration::from_micros(10);

/// Gives up the turn until the reactor has looked at its sockets and done what they want.
pub async fn pass() {
    sleep(PAUSE).await;
}
