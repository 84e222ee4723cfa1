//! Timers that keep a reactor from sleeping with work to do.
//!
//! A reactor of glommio 0.9 that loses its processor for longer than the shortest interval of its queues, at the moment
//! before it runs one of them, takes itself for idle and sleeps with tasks that could run. Nothing but the next event
//! wakes it then. So there is always one to come: soon while the reactor works, seldom while it rests. There is more
//! than one timer, because the same may happen to the one that fires.
//!
//! Not here: the intervals of the queues.

use super::sleep;
use std::time::Duration;

const TIMERS: u32 = 4;

/// Between two firings, of whichever timer, while the reactor works. What it costs is not to be seen.
const WORKING: Duration = Duration::from_millis(1);

/// The same while it rests.
const RESTING: Duration = Duration::from_millis(50);

/// So many tasks run between two firings at rest: the timers themselves, and what looks around regularly.
const RESTING_TASKS: u64 = 8;

/// Starts the timers, which live as long as the reactor. Call before there is a queue with a short interval.
pub(crate) async fn keep_waking() {
    for number in 0..TIMERS {
        super::spawn(keep_firing(number)).detach();
    }
    super::yield_now().await;
}

async fn keep_firing(number: u32) {
    let mut interval = WORKING;
    sleep(interval * number).await;
    loop {
        sleep(interval * TIMERS).await;
        // The figures are those since they were last asked for, by whichever timer.
        let is_working = super::tasks_run() > RESTING_TASKS;
        interval = if is_working { WORKING } else { (interval * 2).min(RESTING) };
    }
}
