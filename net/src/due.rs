//! Answers that are due on a stream, and when it is over: pure, so that the simulator of clusters keeps the same books.
//!
//! Invariant: a stream is over when its client has ended its side and got every answer; whichever comes last ends it. So
//! a client that says everything in one packet is answered as one that waits.

use std::cell::Cell;

/// Answers that are due, and whether more can become due.
#[derive(Clone, Default, Debug)]
pub struct Due {
    count: Cell<usize>,
    half_closed: Cell<bool>,
}

impl Due {
    /// A request has come.
    ///
    /// # Panics
    ///
    /// Behind the end of the requests.
    pub fn add(&self) {
        assert!(!self.half_closed.get(), "nobody asks behind the end of the requests");
        self.count.set(self.count.get() + 1);
    }

    /// An answer was given. Whether it was the last word.
    ///
    /// # Panics
    ///
    /// Where none is due.
    #[must_use = "the last word ends the stream"]
    pub fn answered(&self) -> bool {
        self.count.set(self.count.get().checked_sub(1).expect("every answer is given once"));
        self.is_over()
    }

    /// The requests have ended. Whether the last word has been said.
    #[must_use = "the last word ends the stream"]
    pub fn half_close(&self) -> bool {
        self.half_closed.set(true);
        self.is_over()
    }

    fn is_over(&self) -> bool {
        self.half_closed.get() && self.count.get() == 0
    }
}
