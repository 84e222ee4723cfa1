//! When requests are due. Closed loop: as soon as the one before is answered. Open loop: at fixed moments,
//! whatever the server does; a request that finds no free slot waits, and its wait counts as latency (the
//! correction for coordinated omission).
//!
//! Fast open loops send small groups at each tick instead of waking for every request. The tick is part of the
//! schedule, so that the generator's own granularity is not counted as latency.

use crate::sys::Timer;
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Shortest pause between two ticks of an open loop.
const TICK_MIN: Duration = Duration::from_micros(200);

/// The schedule of one thread.
pub struct Pace {
    start: Instant,
    end: Instant,
    limit: u64,
    issued: Cell<u64>,
    open: Option<Open>,
}

/// What the schedule says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A request is due, since this moment.
    Due(Instant),
    /// None yet.
    Later,
    Over,
}

struct Open {
    tick: Duration,
    per_tick: f64,
    due: Semaphore,
}

impl Pace {
    /// As fast as answers come, from `start` to `end`, at most `limit` requests.
    pub fn closed(start: Instant, end: Instant, limit: u64) -> Pace {
        Pace { start, end, limit, issued: Cell::new(0), open: None }
    }

    /// `rate` requests a second.
    pub fn open(start: Instant, end: Instant, limit: u64, rate: f64) -> Pace {
        assert!(rate > 0.0, "an open loop needs a rate");
        let tick = Duration::from_secs_f64(1.0 / rate).max(TICK_MIN);
        let open = Open { tick, per_tick: rate * tick.as_secs_f64(), due: Semaphore::new(0) };
        Pace { start, end, limit, issued: Cell::new(0), open: Some(open) }
    }

    /// Waits for the next turn and returns when it was due; `None` when the run is over.
    pub async fn next(&self) -> Option<Instant> {
        match &self.open {
            None => {
                let now = Instant::now();
                (now < self.end && self.take()).then_some(now)
            }
            Some(open) => {
                open.due.acquire().await.ok()?.forget();
                let number = self.issued.get();
                self.take().then(|| self.start + open.due_at(number))
            }
        }
    }

    /// A turn, if there is one now.
    pub fn try_next(&self) -> Turn {
        let due = match &self.open {
            None => {
                let now = Instant::now();
                if now >= self.end {
                    return Turn::Over;
                }
                now
            }
            Some(open) => match open.due.try_acquire() {
                Ok(permit) => {
                    permit.forget();
                    self.start + open.due_at(self.issued.get())
                }
                Err(tokio::sync::TryAcquireError::NoPermits) => return Turn::Later,
                Err(tokio::sync::TryAcquireError::Closed) => return Turn::Over,
            },
        };
        if self.take() { Turn::Due(due) } else { Turn::Over }
    }

    fn take(&self) -> bool {
        let number = self.issued.get();
        self.issued.set(number + 1);
        number < self.limit
    }

    /// Drives an open loop until its end; a closed loop needs no driving and returns at the end, too.
    pub async fn drive(&self) -> io::Result<()> {
        let end = tokio::time::Instant::from_std(self.end);
        tokio::time::sleep_until(tokio::time::Instant::from_std(self.start)).await;
        let Some(open) = &self.open else {
            tokio::time::sleep_until(end).await;
            return Ok(());
        };
        let timer = Timer::every(open.tick)?;
        let mut released = 0;
        loop {
            let now = Instant::now();
            let total = open.total_by(now.min(self.end).duration_since(self.start)).min(self.limit);
            open.due.add_permits(usize::try_from(total - released).expect("few requests per tick"));
            released = total;
            if now >= self.end || (released == self.limit && open.due.available_permits() == 0) {
                return Ok(());
            }
            timer.wait().await?;
        }
    }

    /// Ends the run. What was due and not sent is returned as the moments it was due.
    pub fn close(&self) -> Vec<Instant> {
        let Some(open) = &self.open else { return Vec::new() };
        let unsent = open.due.available_permits() as u64;
        open.due.close();
        let first = self.issued.get();
        (first..first + unsent).map(|number| self.start + open.due_at(number)).collect()
    }
}

impl Open {
    /// How many requests are due at this time after the start.
    fn total_by(&self, elapsed: Duration) -> u64 {
        let ticks = (elapsed.as_nanos() / self.tick.as_nanos()) as f64;
        ((ticks + 1.0) * self.per_tick + 1e-6) as u64
    }

    /// When request `number` is due, after the start: the tick by which `number + 1` are due.
    fn due_at(&self, number: u64) -> Duration {
        let ticks = ((number as f64 + 1.0) / self.per_tick - 1e-6).ceil() - 1.0;
        self.tick.mul_f64(ticks.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_moments_agree_with_totals() {
        for rate in [0.5, 3.0, 999.9, 5_000.0, 23_456.7, 100_000.0] {
            let start = Instant::now();
            let pace = Pace::open(start, start, u64::MAX, rate);
            let open = pace.open.as_ref().expect("open loop");
            for number in (0..5_000).step_by(7) {
                let due = open.due_at(number);
                assert!(open.total_by(due + open.tick / 2) > number, "rate {rate}, request {number}");
                if let Some(before) = due.checked_sub(open.tick / 2) {
                    assert!(open.total_by(before) <= number, "rate {rate}, request {number}");
                }
                let exact = (number as f64 + 1.0) / rate;
                assert!((due.as_secs_f64() - exact).abs() <= 2.0 * open.tick.as_secs_f64(), "rate {rate}");
            }
        }
    }

    #[test]
    fn an_open_loop_keeps_its_schedule_without_anybody_asking() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let start = Instant::now();
            let pace = Pace::open(start, start + Duration::from_millis(100), u64::MAX, 1_000.0);
            pace.drive().await.expect("timer works");
            assert_eq!(pace.next().await, Some(start));
            let unsent = pace.close();
            assert_eq!(pace.next().await, None);
            assert!((99..=101).contains(&(unsent.len() + 1)), "{}", unsent.len());
            assert!(unsent.windows(2).all(|pair| pair[0] < pair[1]));
        });
    }
}
