//! Linearizable reads: one read-index round is shared by all reads that wait when it starts.
//!
//! Invariants: a read joins a round only before the round's index is asked for; it is released only when the
//! store has applied the index that the round returned. Tokens are made here, never by clients.

use plinth_engine::lease::Millis;
use std::collections::VecDeque;

/// A set of reads that share a round.
struct Round<W> {
    token: u64,
    since: Millis,
    waiters: Vec<W>,
}

/// All reads between arrival and release.
pub(crate) struct Reads<W> {
    waiting: Vec<W>,
    since: Millis,
    rounds: VecDeque<Round<W>>,
    /// Confirmed rounds by the index that must be applied first; indexes grow.
    confirmed: VecDeque<(u64, Vec<W>)>,
    next_token: u64,
    count: usize,
}

impl<W> Reads<W> {
    pub(crate) fn new(first_token: u64) -> Self {
        Reads {
            waiting: Vec::new(),
            since: Millis(0),
            rounds: VecDeque::new(),
            confirmed: VecDeque::new(),
            next_token: first_token,
            count: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, waiter: W, now: Millis) {
        if self.waiting.is_empty() {
            self.since = now;
        }
        self.waiting.push(waiter);
        self.count += 1;
    }

    /// Starts a round for everything that waits; the token to ask consensus with.
    pub(crate) fn start(&mut self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        let token = self.next_token;
        assert!(self.rounds.back().is_none_or(|last| last.token < token), "no two rounds have one token");
        self.next_token += 1;
        let waiters = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round { token, since: self.since, waiters });
        Some(token)
    }

    /// A round came back: it, and every older one, may be answered at `index`.
    pub(crate) fn confirm(&mut self, token: u64, index: u64) {
        while self.rounds.front().is_some_and(|round| round.token <= token) {
            let round = self.rounds.pop_front().expect("front exists");
            assert!(!round.waiters.is_empty(), "a round is asked for by a read");
            let is_later = self.confirmed.back().is_none_or(|(before, _)| *before <= index);
            assert!(is_later, "the moments of reads only grow");
            self.confirmed.push_back((index, round.waiters));
        }
    }

    /// Releases the reads whose index is applied.
    pub(crate) fn release(&mut self, applied: u64, out: &mut Vec<W>) {
        while self.confirmed.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, mut waiters) = self.confirmed.pop_front().expect("front exists");
            self.count = self.count.checked_sub(waiters.len()).expect("every read is counted once");
            out.append(&mut waiters);
        }
    }

    /// Gives up on rounds started before `deadline`.
    pub(crate) fn expire(&mut self, deadline: Millis, out: &mut Vec<W>) {
        while self.rounds.front().is_some_and(|round| round.since < deadline) {
            let mut round = self.rounds.pop_front().expect("front exists");
            self.count = self.count.checked_sub(round.waiters.len()).expect("every read is counted once");
            out.append(&mut round.waiters);
        }
    }

    /// Takes every read that no round has confirmed: leadership moved, or the member stops.
    pub(crate) fn drain(&mut self, out: &mut Vec<W>) {
        out.append(&mut self.waiting);
        for mut round in self.rounds.drain(..) {
            out.append(&mut round.waiters);
        }
        self.count = self.confirmed.iter().map(|(_, waiters)| waiters.len()).sum();
    }

    /// Takes every read, also those that wait for what is not applied yet.
    pub(crate) fn drain_all(&mut self, out: &mut Vec<W>) {
        self.drain(out);
        for (_, mut waiters) in self.confirmed.drain(..) {
            out.append(&mut waiters);
        }
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_released_only_after_its_index_is_applied() {
        let mut reads = Reads::new(7);
        reads.push('a', Millis(1));
        reads.push('b', Millis(2));
        let token = reads.start().expect("two reads wait");
        assert_eq!(token, 7);
        reads.push('c', Millis(3));
        reads.confirm(token, 10);
        let mut out = Vec::new();
        reads.release(9, &mut out);
        assert!(out.is_empty());
        reads.release(10, &mut out);
        assert_eq!(out, ['a', 'b']);
        assert_eq!(reads.len(), 1);
        assert_eq!(reads.start(), Some(8));
        reads.push('d', Millis(4));
        reads.confirm(8, 11);
        let mut all = Vec::new();
        reads.drain_all(&mut all);
        assert_eq!((all, reads.len()), (vec!['d', 'c'], 0));
    }

    #[test]
    fn a_later_round_confirms_the_older_ones() {
        let mut reads = Reads::new(1);
        reads.push('a', Millis(1));
        reads.start();
        reads.push('b', Millis(2));
        let second = reads.start().expect("b waits");
        reads.confirm(second, 4);
        let mut out = Vec::new();
        reads.release(4, &mut out);
        assert_eq!(out, ['a', 'b']);
    }
}
