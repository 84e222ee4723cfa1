//! Who waits for which command: the open batch and the batches on their way through consensus.
//!
//! Invariants: sequences only grow; batches of this member come back from consensus in the order in which they were
//! proposed. One that does not was lost with a leadership, or is still on its way to somebody who will lead again: nobody can
//! say that it never happens, so its waiters wait on until their time is over, and it is not proposed again. One that is known
//! not to have left this member goes back to the others that wait for a leader. Commands and their bytes, without the
//! headers of batches, are counted from their submission until they are forgotten, each once: nothing pending, nothing
//! counted.

use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, BYTES_PENDING_MAX, COMMANDS_PENDING_MAX};
use plinth_engine::lease::Millis;
use plinth_raft::batch::{BATCH_HEADER_BYTES, BatchBuilder};
use std::collections::{BTreeMap, VecDeque};

/// Commands of one future entry, and who waits for them.
pub(crate) struct OpenBatch<W> {
    pub(crate) builder: BatchBuilder,
    pub(crate) waiters: Vec<W>,
    pub(crate) since: Millis,
}

impl<W> OpenBatch<W> {
    fn new() -> Self {
        OpenBatch { builder: BatchBuilder::new(), waiters: Vec::new(), since: Millis(0) }
    }
}

/// A batch of this member that is somewhere in consensus.
pub(crate) struct Proposed<W> {
    pub(crate) sequence: u64,
    /// The term it was proposed in.
    term: u64,
    pub(crate) since: Millis,
    bytes: usize,
    commands: usize,
    pub(crate) waiters: Vec<W>,
}

/// All commands of this member between submission and the start of their apply.
pub(crate) struct Pending<W> {
    open: OpenBatch<W>,
    /// Full batches, oldest first; the open one is younger than all of them.
    closed: VecDeque<OpenBatch<W>>,
    /// How many of them, the oldest, were proposed already and came back.
    restored: usize,
    proposed: VecDeque<Proposed<W>>,
    /// Batches that did not come back in their turn, by sequence.
    overdue: BTreeMap<u64, Proposed<W>>,
    next_sequence: u64,
    commands: usize,
    bytes: usize,
    /// Batches made so far, and the commands in them; those that were restored count again. Only grows.
    made: (u64, u64),
}

impl<W> Pending<W> {
    /// `first_sequence` must be above every sequence that this member used in earlier lives.
    pub(crate) fn new(first_sequence: u64) -> Self {
        Pending {
            open: OpenBatch::new(),
            closed: VecDeque::new(),
            restored: 0,
            proposed: VecDeque::new(),
            overdue: BTreeMap::new(),
            next_sequence: first_sequence,
            commands: 0,
            bytes: 0,
            made: (0, 0),
        }
    }

    /// Whether another command fits under the bounds.
    pub(crate) fn has_room(&self) -> bool {
        self.commands < COMMANDS_PENDING_MAX && self.bytes < BYTES_PENDING_MAX
    }

    /// Commands submitted whose entry has not begun to be applied.
    pub(crate) fn commands(&self) -> usize {
        self.commands
    }

    /// Appends the command that `encode` writes behind what is in the buffer.
    pub(crate) fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>), waiter: W, now: Millis) {
        if self.open.builder.bytes() >= BATCH_BYTES_MAX || self.open.waiters.len() >= BATCH_COMMANDS_MAX {
            self.close_open();
        }
        if self.open.waiters.is_empty() {
            self.open.since = now;
        }
        let before = self.open.builder.bytes();
        self.open.builder.push_with(encode);
        self.open.waiters.push(waiter);
        self.commands += 1;
        let grown = self.open.builder.bytes() - before;
        assert!(grown > 0, "a command takes bytes");
        self.bytes += grown;
    }

    fn close_open(&mut self) {
        if !self.open.waiters.is_empty() {
            let full = std::mem::replace(&mut self.open, OpenBatch::new());
            self.closed.push_back(full);
        }
    }

    /// Whether there is a batch to propose.
    pub(crate) fn has_batch(&self) -> bool {
        !self.open.waiters.is_empty() || !self.closed.is_empty()
    }

    /// Takes the oldest batch that is not proposed yet, and the sequence to propose it with.
    pub(crate) fn next(&mut self) -> Option<(OpenBatch<W>, u64)> {
        if self.closed.is_empty() {
            self.close_open();
        }
        let batch = self.closed.pop_front()?;
        assert!(batch.builder.len() == batch.waiters.len(), "each command of a batch has a waiter");
        self.restored = self.restored.saturating_sub(1);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.made = (self.made.0 + 1, self.made.1 + batch.waiters.len() as u64);
        Some((batch, sequence))
    }

    /// Batches made so far, and the commands in them.
    pub(crate) fn batches(&self) -> (u64, u64) {
        self.made
    }

    /// Gives the buffer of a finished batch back for the next one.
    pub(crate) fn recycle(&mut self, builder: BatchBuilder) {
        if self.open.waiters.is_empty() {
            self.open.builder = builder;
        }
    }

    /// Records that a batch of `bytes`, with its header, went into consensus.
    pub(crate) fn proposed(&mut self, sequence: u64, term: u64, since: Millis, bytes: usize, waiters: Vec<W>) {
        if let Some(last) = self.proposed.back() {
            assert!(last.sequence < sequence, "batch sequences grow");
        }
        assert!(sequence < self.next_sequence, "only what was taken is proposed");
        let (commands, bytes) = (waiters.len(), command_bytes(bytes));
        self.proposed.push_back(Proposed { sequence, term, since, bytes, commands, waiters });
    }

    /// A batch could not be proposed: it is the next to be, before all that are younger.
    pub(crate) fn restore(&mut self, batch: OpenBatch<W>) {
        assert!(self.restored <= self.closed.len(), "what came back waits with the others");
        assert!(self.bytes >= command_bytes(batch.builder.bytes()), "what comes back is counted still");
        self.closed.insert(self.restored, batch);
        self.restored += 1;
    }

    /// The batch of this sequence has not left this member: since when it is waited for, and by whom. Nothing if everybody
    /// has given it up; then it never happens.
    pub(crate) fn take_unsent(&mut self, sequence: u64) -> Option<(Millis, Vec<W>)> {
        let at = self.proposed.iter().position(|batch| batch.sequence == sequence)?;
        let batch = self.proposed.remove(at).expect("it was just found");
        if batch.waiters.is_empty() {
            self.forget(batch.commands, batch.bytes);
            return None;
        }
        Some((batch.since, batch.waiters))
    }

    /// An entry of `term` is being applied. What was proposed in earlier terms and did not come back before it is in no
    /// log that counts, but a copy may still be on its way.
    pub(crate) fn pass_term(&mut self, term: u64) {
        while self.proposed.front().is_some_and(|front| front.term < term) {
            let batch = self.proposed.pop_front().expect("front exists");
            self.wait_on(batch);
        }
    }

    /// The waiters of a batch that came back from consensus. Those of batches before it wait on.
    pub(crate) fn committed(&mut self, sequence: u64) -> Vec<W> {
        if let Some(batch) = self.overdue.remove(&sequence) {
            self.forget(batch.commands, batch.bytes);
            return batch.waiters;
        }
        while self.proposed.front().is_some_and(|front| front.sequence <= sequence) {
            let batch = self.proposed.pop_front().expect("front exists");
            if batch.sequence == sequence {
                self.forget(batch.commands, batch.bytes);
                return batch.waiters;
            }
            self.wait_on(batch);
        }
        Vec::new()
    }

    fn wait_on(&mut self, batch: Proposed<W>) {
        match batch.waiters.is_empty() {
            true => self.forget(batch.commands, batch.bytes),
            false => drop(self.overdue.insert(batch.sequence, batch)),
        }
    }

    /// The outcome of these commands, which have happened, will not be known here.
    pub(crate) fn outcome_unknown(&mut self, sequence: u64, since: Millis, waiters: Vec<W>) {
        self.wait_on(Proposed { sequence, term: 0, since, bytes: 0, commands: 0, waiters });
    }

    /// Gives up on everything that has waited since before `deadline`; the commands may still be applied.
    pub(crate) fn expire(&mut self, deadline: Millis, expired: &mut Vec<W>) {
        for batch in &mut self.proposed {
            if batch.since < deadline {
                expired.append(&mut batch.waiters);
            }
        }
        for (_, mut batch) in self.overdue.extract_if(.., |_, batch| batch.since < deadline).collect::<Vec<_>>() {
            self.forget(batch.commands, batch.bytes);
            expired.append(&mut batch.waiters);
        }
        // Without a leader batches stay here. What is given up before it was proposed never happens.
        while self.closed.front().is_some_and(|batch| batch.since < deadline) {
            let batch = self.closed.pop_front().expect("front exists");
            self.restored = self.restored.saturating_sub(1);
            self.give_up(batch, expired);
        }
        if !self.open.waiters.is_empty() && self.open.since < deadline {
            let batch = std::mem::replace(&mut self.open, OpenBatch::new());
            self.give_up(batch, expired);
        }
    }

    fn give_up(&mut self, mut batch: OpenBatch<W>, expired: &mut Vec<W>) {
        self.forget(batch.waiters.len(), command_bytes(batch.builder.bytes()));
        expired.append(&mut batch.waiters);
    }

    /// Takes every waiter: the member stops.
    pub(crate) fn drain(&mut self, out: &mut Vec<W>) {
        for mut batch in self.closed.drain(..) {
            out.append(&mut batch.waiters);
        }
        let open = std::mem::replace(&mut self.open, OpenBatch::new());
        out.extend(open.waiters);
        let overdue = std::mem::take(&mut self.overdue).into_values();
        for mut batch in overdue.chain(self.proposed.drain(..)) {
            out.append(&mut batch.waiters);
        }
        self.restored = 0;
        self.commands = 0;
        self.bytes = 0;
    }

    /// Commands that are no longer pending.
    pub(crate) fn forget(&mut self, commands: usize, bytes: usize) {
        self.commands = self.commands.checked_sub(commands).expect("every command is counted once");
        self.bytes = self.bytes.checked_sub(bytes).expect("every byte is counted once");
        assert!((self.commands == 0) == (self.bytes == 0), "bytes are those of commands");
    }
}

/// What commands take of the bytes of their batch.
fn command_bytes(batch: usize) -> usize {
    batch.checked_sub(BATCH_HEADER_BYTES).expect("a batch has a header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_raft::batch::Batch;

    fn push(pending: &mut Pending<u32>, waiter: u32) {
        pending.push_with(|out| out.extend_from_slice(b"command"), waiter, Millis(1));
    }

    #[test]
    fn batches_come_back_in_order_and_lost_ones_wait_on() {
        let mut pending = Pending::new(5);
        let mut sequences = Vec::new();
        for waiter in 0..3 {
            push(&mut pending, waiter);
            let (mut batch, sequence) = pending.next().expect("one command waits");
            let bytes = batch.builder.bytes();
            let _ = batch.builder.finish(plinth_raft::MemberId(1), sequence);
            pending.proposed(sequence, 1, batch.since, bytes, batch.waiters);
            sequences.push(sequence);
        }
        assert_eq!(sequences, [5, 6, 7]);
        assert_eq!(pending.committed(6), [1]);
        assert_eq!(pending.commands(), 2, "the first one may still come");
        assert!(pending.committed(6).is_empty(), "a batch comes back once");
        let mut expired = Vec::new();
        pending.expire(Millis(1), &mut expired);
        assert!(expired.is_empty());
        pending.expire(Millis(2), &mut expired);
        expired.sort_unstable();
        assert_eq!(expired, [0, 2]);
        assert_eq!(pending.committed(5), [0; 0]);
    }

    #[test]
    fn what_an_earlier_term_lost_waits_on_and_may_come_late() {
        let mut pending = Pending::new(1);
        for (term, waiter) in [(3, 0), (3, 1), (4, 2)] {
            push(&mut pending, waiter);
            let (batch, sequence) = pending.next().expect("one command waits");
            pending.proposed(sequence, term, batch.since, batch.builder.bytes(), batch.waiters);
        }
        pending.pass_term(3);
        assert_eq!(pending.committed(1), [0]);
        pending.pass_term(4);
        assert_eq!(pending.committed(3), [2]);
        assert_eq!(pending.commands(), 1);
        assert_eq!(pending.committed(2), [1], "a copy was still on its way");
        assert_eq!((pending.commands(), pending.bytes), (0, 0));
    }

    #[test]
    fn what_has_not_left_is_proposed_again_in_order() {
        let mut pending = Pending::new(1);
        let mut sent = Vec::new();
        for waiter in 0..3 {
            push(&mut pending, waiter);
            let (mut batch, sequence) = pending.next().expect("one command waits");
            let bytes = batch.builder.finish(plinth_raft::MemberId(1), sequence);
            pending.proposed(sequence, 1, batch.since, bytes.len(), batch.waiters);
            sent.push(bytes);
        }
        push(&mut pending, 3);
        for sequence in [1, 2] {
            let (since, waiters) = pending.take_unsent(sequence).expect("it was proposed");
            let batch = Batch::parse(&sent[sequence as usize - 1]).expect("a batch");
            pending.restore(OpenBatch { builder: BatchBuilder::resume(&batch), waiters, since });
        }
        assert_eq!(pending.take_unsent(1).map(|_| ()), None);
        let mut order = Vec::new();
        while let Some((mut batch, sequence)) = pending.next() {
            order.push((sequence, batch.waiters.clone()));
            let bytes = batch.builder.finish(plinth_raft::MemberId(1), sequence);
            assert_eq!(Batch::parse(&bytes).expect("a batch").len(), 1);
            pending.proposed(sequence, 2, batch.since, bytes.len(), batch.waiters);
        }
        assert_eq!(order, [(4, vec![0]), (5, vec![1]), (6, vec![3])]);
        assert_eq!((pending.committed(3), pending.committed(4)), (vec![2], vec![0]));
        assert_eq!(pending.batches(), (6, 6));
        // Who has given up is not surprised later.
        let mut expired = Vec::new();
        pending.expire(Millis(2), &mut expired);
        assert_eq!(expired, [1, 3]);
        assert!(pending.take_unsent(5).is_none() && !pending.has_batch());
        assert!(pending.committed(6).is_empty() && pending.commands() == 0);
    }

    #[test]
    fn without_a_leader_commands_are_given_up_in_time() {
        let mut pending = Pending::new(1);
        push(&mut pending, 5);
        let mut expired = Vec::new();
        pending.expire(Millis(1), &mut expired);
        assert!(expired.is_empty());
        pending.expire(Millis(2), &mut expired);
        assert_eq!(expired, [5]);
        assert!(!pending.has_batch() && (pending.commands(), pending.bytes) == (0, 0));
    }

    #[test]
    #[should_panic(expected = "bytes are those of commands")]
    fn a_batch_that_is_counted_with_its_header_where_it_was_not_before() {
        let mut pending = Pending::new(1);
        (0..2).for_each(|waiter| push(&mut pending, waiter));
        let bytes = pending.bytes;
        pending.forget(1, bytes);
    }

    #[test]
    #[should_panic(expected = "every byte is counted once")]
    fn a_batch_that_is_forgotten_twice() {
        let mut pending = Pending::new(1);
        (0..3).for_each(|waiter| push(&mut pending, waiter));
        let (batch, sequence) = pending.next().expect("commands wait");
        pending.proposed(sequence, 1, batch.since, batch.builder.bytes() + 1, batch.waiters);
        pending.committed(sequence);
    }

    #[test]
    fn commands_are_bounded() {
        let mut pending = Pending::new(1);
        for waiter in 0..COMMANDS_PENDING_MAX as u32 {
            assert!(pending.has_room());
            push(&mut pending, waiter);
        }
        assert!(!pending.has_room());
        let mut out = Vec::new();
        pending.drain(&mut out);
        assert_eq!(out.len(), COMMANDS_PENDING_MAX);
        assert!(pending.has_room());
    }
}
