//! Long work in steps, between which everything else comes first.
//!
//! A task that only yields goes on as soon as the tasks that can run by then have run, and the reactor looks at its
//! sockets when the interval of a queue is over: a request that takes several turns of the reactor (read, write to the
//! log, apply) would wait for a whole interval each time. A task that sleeps, however short, lets the reactor run out
//! of tasks and look.
//!
//! While short requests come, long work sleeps about as long as its steps take, so that it has at most about half of
//! the reactor: what is left of the other half is what keeps the tail of the short ones flat. Alone, it goes on at once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::rt::sleep;

/// Alone: too short to matter, and longer than what the timer could find to be over already.
const PAUSE_ALONE: Duration = Duration::from_micros(10);
/// Beside short work: about what a step takes.
const PAUSE_BESIDE: Duration = Duration::from_micros(100);
/// Short work that came so long ago may come again.
const MEMORY: Duration = Duration::from_millis(5);

/// What came to this reactor, without a look at the clock for each.
#[derive(Default)]
struct ShortWork {
    came: Cell<u64>,
    seen: Cell<u64>,
    seen_at: Cell<Option<Instant>>,
}

impl ShortWork {
    fn pause(&self, now: Instant) -> Duration {
        if self.seen.replace(self.came.get()) != self.came.get() {
            self.seen_at.set(Some(now));
        }
        match self.seen_at.get() {
            Some(at) if now.saturating_duration_since(at) < MEMORY => PAUSE_BESIDE,
            _ => PAUSE_ALONE,
        }
    }
}

thread_local! {
    static SHORT_WORK: ShortWork = ShortWork::default();
}

/// Notes that a request, or a batch of them, came to this reactor.
pub fn short_work_came() {
    SHORT_WORK.with(|work| work.came.set(work.came.get().wrapping_add(1)));
}

/// How many requests, or batches of them, came to this reactor so far.
pub fn short_work() -> u64 {
    SHORT_WORK.with(|work| work.came.get())
}

/// How long work that has more to do than fits a step leaves this reactor to others.
pub fn pause(now: Instant) -> Duration {
    SHORT_WORK.with(|work| work.pause(now))
}

/// Gives up the turn until the reactor has looked at its sockets and done what they want.
pub async fn pass() {
    sleep(pause(Instant::now())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_pauses_longer_only_while_short_work_comes() {
        let (work, start) = (ShortWork::default(), Instant::now());
        assert_eq!(work.pause(start), PAUSE_ALONE, "nothing came yet");
        work.came.set(1);
        assert_eq!(work.pause(start), PAUSE_BESIDE);
        assert_eq!(work.pause(start + MEMORY / 2), PAUSE_BESIDE, "it may come again");
        assert_eq!(work.pause(start + MEMORY), PAUSE_ALONE, "it did not");
        work.came.set(2);
        assert_eq!(work.pause(start + MEMORY * 2), PAUSE_BESIDE);
    }
}
