//! How much one step of long work may do: what is left of it is counted down as work is done.

/// What is left of a step. Work stops at the first bound that is reached, and goes on from there in the next step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Stored pairs to read, append or write.
    pub pairs: usize,
    /// Bytes to append or to write; the pair that reaches the bound is still taken.
    pub bytes: usize,
    /// Keys to look at, whether anything comes of them or not.
    pub visits: usize,
}

impl Budget {
    /// No bound.
    pub const UNBOUNDED: Budget = Budget { pairs: usize::MAX, bytes: usize::MAX, visits: usize::MAX };
    /// Less than 100 µs of work.
    pub const STEP: Budget = Budget { pairs: 200, bytes: 128 << 10, visits: 800 };

    /// Whether a bound is reached.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.pairs == 0 || self.bytes == 0 || self.visits == 0
    }

    /// Takes one key off, if there is one left.
    #[inline]
    pub(crate) fn visit(&mut self) -> bool {
        let is_left = self.visits > 0;
        self.visits -= usize::from(is_left);
        is_left
    }

    /// A pair was read to be looked at.
    #[inline]
    pub(crate) fn read(&mut self) {
        self.pairs = self.pairs.saturating_sub(1);
    }

    /// A pair of `bytes` was appended.
    #[inline]
    pub(crate) fn append(&mut self, bytes: usize) {
        self.pairs = self.pairs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A change of `bytes` was written, which costs about as much as reading two pairs.
    #[inline]
    pub(crate) fn write(&mut self, bytes: usize) {
        self.pairs = self.pairs.saturating_sub(2);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How much one step of background work may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkBudget {
    /// Records to read or remove.
    pub records: usize,
    pub bytes: usize,
}

impl WorkBudget {
    /// About 100 µs of work.
    pub const STEP: WorkBudget = WorkBudget { records: 100, bytes: 256 << 10 };
    /// No bound.
    pub const UNBOUNDED: WorkBudget = WorkBudget { records: usize::MAX, bytes: usize::MAX };
}
