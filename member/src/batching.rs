//! Who waits for which command: the open batch and the batches on their way through consensus.
//!
//! Invariants: sequences only grow; batches of this member come back from consensus in the order in which they
//! were proposed (an entry that never comes back was lost with a leadership and its waiters are failed).

use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, BYTES_PENDING_MAX, COMMANDS_PENDING_MAX};
use plinth_engine::Millis;
use plinth_raft::batch::BatchBuilder;
use std::collections::VecDeque;

/// The commands that arrived since the last batch was closed, and who waits for them.
pub(crate) struct OpenBatch<W> {
    pub(crate) builder: BatchBuilder,
    pub(crate) waiters: Vec<W>,
    pub(crate) since: Millis,
}

/// A closed batch of this member that has not been applied yet.
pub(crate) struct Proposed<W> {
    pub(crate) sequence: u64,
    pub(crate) since: Millis,
    pub(crate) bytes: usize,
    pub(crate) commands: usize,
    pub(crate) waiters: Vec<W>,
}

/// All commands of this member between submission and apply.
pub(crate) struct Pending<W> {
    pub(crate) open: OpenBatch<W>,
    /// Full batches that wait for a flush slot behind none but themselves.
    pub(crate) closed: VecDeque<(OpenBatch<W>, usize)>,
    pub(crate) proposed: VecDeque<Proposed<W>>,
    next_sequence: u64,
    commands: usize,
    bytes: usize,
}

impl<W> Pending<W> {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Pending {
            open: OpenBatch { builder: BatchBuilder::new(), waiters: Vec::new(), since: Millis(0) },
            closed: VecDeque::new(),
            proposed: VecDeque::new(),
            next_sequence: first_sequence,
            commands: 0,
            bytes: 0,
        }
    }

    /// Whether another command fits under the bounds.
    pub(crate) fn has_room(&self) -> bool {
        self.commands < COMMANDS_PENDING_MAX && self.bytes < BYTES_PENDING_MAX
    }

    /// Commands submitted and not yet applied.
    pub(crate) fn commands(&self) -> usize {
        self.commands
    }

    /// Appends one command; `write` puts its archive behind what is in the buffer.
    pub(crate) fn push(&mut self, command: &[u8], waiter: W, now: Millis) {
        if self.open.builder.bytes() + command.len() > BATCH_BYTES_MAX || self.open.waiters.len() >= BATCH_COMMANDS_MAX
        {
            self.close_open();
        }
        if self.open.waiters.is_empty() {
            self.open.since = now;
        }
        self.open.builder.push(command);
        self.open.waiters.push(waiter);
        self.commands += 1;
        self.bytes += command.len();
    }

    fn close_open(&mut self) {
        if self.open.waiters.is_empty() {
            return;
        }
        let fresh = OpenBatch { builder: BatchBuilder::new(), waiters: Vec::new(), since: Millis(0) };
        let full = std::mem::replace(&mut self.open, fresh);
        let bytes = full.builder.bytes();
        self.closed.push_back((full, bytes));
    }

    /// Takes the oldest batch that is not proposed yet, closing the open one if it is the oldest.
    pub(crate) fn next(&mut self) -> Option<(OpenBatch<W>, u64)> {
        if self.closed.is_empty() {
            self.close_open();
        }
        let (batch, _) = self.closed.pop_front()?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Some((batch, sequence))
    }

    /// Records that a batch went into consensus.
    pub(crate) fn proposed(&mut self, sequence: u64, since: Millis, bytes: usize, waiters: Vec<W>) {
        if let Some(last) = self.proposed.back() {
            assert!(last.sequence < sequence, "batch sequences grow");
        }
        let commands = waiters.len();
        self.proposed.push_back(Proposed { sequence, since, bytes, commands, waiters });
    }

    /// The waiters of a batch that came back from consensus; batches before it are lost and returned as such.
    pub(crate) fn committed(&mut self, sequence: u64, lost: &mut Vec<W>) -> Option<Proposed<W>> {
        while let Some(front) = self.proposed.front() {
            if front.sequence > sequence {
                return None;
            }
            let batch = self.proposed.pop_front().expect("front exists");
            self.forget(batch.commands, batch.bytes);
            if batch.sequence == sequence {
                return Some(batch);
            }
            lost.extend(batch.waiters);
        }
        None
    }

    /// Gives up on everything that has waited since before `deadline`; the commands may still be applied.
    pub(crate) fn expire(&mut self, deadline: Millis, expired: &mut Vec<W>) {
        for batch in &mut self.proposed {
            if batch.since < deadline {
                expired.append(&mut batch.waiters);
            }
        }
    }

    /// Takes every waiter: the member stops, or lost its leadership.
    pub(crate) fn drain(&mut self, out: &mut Vec<W>) {
        for (batch, _) in self.closed.drain(..) {
            out.extend(batch.waiters);
        }
        out.append(&mut self.open.waiters);
        self.open.builder = BatchBuilder::new();
        for batch in self.proposed.drain(..) {
            out.extend(batch.waiters);
        }
        self.commands = 0;
        self.bytes = 0;
    }

    /// A batch could not be proposed: its commands no longer count.
    pub(crate) fn forget(&mut self, commands: usize, bytes: usize) {
        self.commands -= commands;
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.open.waiters.is_empty() || !self.closed.is_empty()
    }
}
