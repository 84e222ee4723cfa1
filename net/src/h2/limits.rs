//! Every bound of an HTTP/2 connection, and the budgets that floods run into.
//!
//! A budget is for frames that cost us an answer or a loop and the client nothing. It refills with time, so that a
//! well-behaved client never meets it; who uses it up is told ENHANCE_YOUR_CALM and loses the connection.

use std::time::{Duration, Instant};

use super::frame::{FRAME_BYTES_DEFAULT, FRAME_HEADER_BYTES, WINDOW_DEFAULT, WINDOW_MAX};

/// Window we grant each stream. A request of the default limit (2 MiB) then needs at most one wait for an update.
pub const STREAM_WINDOW: i32 = 1 << 20;
/// Window we grant a connection. Credit returns as soon as bytes are taken in, so this bounds only what is on its way.
pub const CONNECTION_WINDOW: i32 = 4 << 20;
/// Fields of one request as SETTINGS_MAX_HEADER_LIST_SIZE counts them. Tokens take a few KiB at most.
pub const HEADER_LIST_BYTES_MAX: usize = 64 << 10;
/// One header block before it is decoded.
pub const HEADER_BLOCK_BYTES_MAX: usize = HEADER_LIST_BYTES_MAX;
/// CONTINUATION frames of one header block. Sixteen of full size carry four times the largest block.
pub const CONTINUATIONS_MAX: u32 = 16;
/// Output at which frames of queued messages wait in their streams, so that they share the socket fairly.
pub const OUTPUT_HIGH_WATER_BYTES: usize = 256 << 10;
/// A stream's queue at which its producer may go on.
pub const STREAM_LOW_WATER_BYTES: usize = 64 << 10;
/// Output at which nothing more is read from a client that does not take its answers.
pub const OUTPUT_READ_PAUSE_BYTES: usize = 4 * OUTPUT_HIGH_WATER_BYTES;
/// Messages at least this large are passed on as they are instead of being copied into the output.
pub const SHARED_BODY_BYTES_MIN: usize = 8 << 10;
/// Streams that ended lately and are remembered, to tell late frames from wrong ones.
pub const CLOSED_STREAMS_REMEMBERED: usize = 128;
/// Decoded header blocks that are remembered.
pub const HEADS_REMEMBERED: usize = 8;
/// Headers blocks longer than this are not worth remembering.
pub const REMEMBERED_BLOCK_BYTES_MAX: usize = 256;

const _: () = {
    assert!(STREAM_WINDOW >= WINDOW_DEFAULT);
    assert!(CONNECTION_WINDOW > STREAM_WINDOW);
    assert!((CONNECTION_WINDOW as i64) < WINDOW_MAX);
    // A block that fits the list limit also fits the frames it may come in.
    assert!(CONTINUATIONS_MAX as usize * FRAME_BYTES_DEFAULT as usize >= HEADER_BLOCK_BYTES_MAX);
    assert!(SHARED_BODY_BYTES_MIN > FRAME_HEADER_BYTES);
    assert!(STREAM_LOW_WATER_BYTES < OUTPUT_HIGH_WATER_BYTES);
    assert!(OUTPUT_HIGH_WATER_BYTES < OUTPUT_READ_PAUSE_BYTES);
};

/// So many at once, and so many a second in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSize {
    /// At once.
    pub burst: u32,
    pub per_second: u32,
}

/// Streams that made us work for nothing: reset by the client before it could see anything of an answer. Beyond the
/// refill, each answered stream gives one back.
pub const RESET_BUDGET: BudgetSize = BudgetSize { burst: 1000, per_second: 200 };
/// Who takes back what has waited so long (for a lock) does not do it to keep us busy: it could open few such streams.
pub const PATIENT_STREAM_AGE: Duration = Duration::from_secs(5);
/// SETTINGS frames; each has to be acknowledged and may touch every stream.
pub const SETTINGS_BUDGET: BudgetSize = BudgetSize { burst: 100, per_second: 10 };
/// Frames without effect: DATA without data, PRIORITY, unknown types. Frames for streams that have just ended are not
/// among them: they cross our answers, at the rate of calls.
pub const IDLE_FRAME_BUDGET: BudgetSize = BudgetSize { burst: 10_000, per_second: 1000 };
/// Stream errors we had to answer.
pub const STREAM_ERROR_BUDGET: BudgetSize = BudgetSize { burst: 1000, per_second: 100 };

/// What is left of a budget.
#[derive(Debug)]
pub struct Budget {
    size: BudgetSize,
    left: u32,
    refilled: Instant,
}

impl Budget {
    /// A full one.
    pub fn new(size: BudgetSize, now: Instant) -> Budget {
        Budget { size, left: size.burst, refilled: now }
    }

    /// Takes one. False if there is none.
    #[must_use]
    pub fn take(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            self.refill(now);
        }
        let there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        there
    }

    /// Gives one back.
    pub fn give_back(&mut self) {
        self.left = self.size.burst.min(self.left + 1);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(60));
        let fresh = (elapsed.as_millis() as u64 * u64::from(self.size.per_second) / 1000) as u32;
        if fresh > 0 {
            self.left = self.size.burst.min(fresh);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_runs_out_and_refills() {
        let start = Instant::now();
        let mut budget = Budget::new(BudgetSize { burst: 3, per_second: 2 }, start);
        assert!((0..3).all(|_| budget.take(start)));
        assert!(!budget.take(start));
        assert!(!budget.take(start + Duration::from_millis(499)));
        assert!(budget.take(start + Duration::from_millis(500)));
        assert!(!budget.take(start + Duration::from_millis(501)));
        let later = start + Duration::from_secs(3600);
        assert!((0..3).all(|_| budget.take(later)), "a refill never exceeds the burst");
        assert!(!budget.take(later));
        budget.give_back();
        assert!(budget.take(later));
    }
}
