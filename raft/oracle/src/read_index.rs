//! Linearizable reads: one round of heartbeats answers every read that waited for it.
//!
//! A read may be served at the commit index known when a round begins, once a quorum has confirmed the leader during the
//! round. While a round runs, arriving reads gather for the next one. The leader numbers rounds itself; nothing a follower
//! or client supplies is ever used to count confirmations. Followers run rounds of their own the same way: they ask the
//! leader with a number of theirs, which the leader only echoes.
//!
//! ```text
//! idle --read--> running(round, its reads) --answer--> reads answered; gathered reads start the next round, or idle
//! ```
//!
//! Invariants: a waiter is in exactly one place (gathered or running); numbers are never used twice by one process, and
//! start at a seeded value so that an answer meant for a previous life of the process is not taken for a new one.
//!
//! Not here: how a round is carried out (raft-rs's safe mode, in `group.rs`) and timeouts (the server's).

use std::collections::VecDeque;

use crate::limits::PENDING_READS_MAX;
use crate::types::MemberId;

/// Who waits for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A read of this member, with the token its caller gave.
    Local(u64),
    /// A round of a follower.
    Remote { member: MemberId, round: u64 },
}

#[derive(Debug)]
pub(crate) struct ReadRounds {
    next_round: u64,
    running: Option<Running>,
    gathered: Vec<Waiter>,
    /// Tokens of reads that will not be answered.
    failed: Vec<u64>,
    /// Emptied vectors, to be used again.
    spare: Vec<Waiter>,
    /// Answered rounds, oldest first, until taken.
    answered: VecDeque<(Vec<Waiter>, u64)>,
}

#[derive(Debug)]
struct Running {
    round: u64,
    waiters: Vec<Waiter>,
}

impl ReadRounds {
    /// `seed` must differ from one life of the process to the next.
    pub(crate) fn new(seed: u64) -> ReadRounds {
        ReadRounds {
            next_round: seed,
            running: None,
            gathered: Vec::new(),
            failed: Vec::new(),
            spare: Vec::new(),
            answered: VecDeque::new(),
        }
    }

    /// A read arrives. Beyond the bound local ones fail at once and remote ones are dropped (they ask again).
    pub(crate) fn add(&mut self, waiter: Waiter) {
        if matches!(waiter, Waiter::Remote { .. }) && self.gathered.contains(&waiter) {
            return; // A follower repeats its question until it is answered.
        }
        if self.gathered.len() < PENDING_READS_MAX {
            self.gathered.push(waiter);
        } else if let Waiter::Local(token) = waiter {
            self.failed.push(token);
        }
    }

    /// Whether a round should begin.
    pub(crate) fn can_begin(&self) -> bool {
        self.running.is_none() && !self.gathered.is_empty()
    }

    /// Begins a round for everything gathered and returns its number.
    pub(crate) fn begin(&mut self) -> u64 {
        assert!(self.can_begin());
        self.next_round = self.next_round.wrapping_add(1);
        let waiters = std::mem::replace(&mut self.gathered, std::mem::take(&mut self.spare));
        self.running = Some(Running { round: self.next_round, waiters });
        self.next_round
    }

    /// The number of the running round.
    pub(crate) fn running(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.round)
    }

    /// The round is confirmed at `index`; an answer to any other round is ignored.
    pub(crate) fn answer(&mut self, round: u64, index: u64) {
        if self.running() == Some(round) {
            let running = self.running.take().expect("it runs");
            self.answered.push_back((running.waiters, index));
        }
    }

    /// Everything gathered is confirmed at `index` without a round (a group of one voter).
    pub(crate) fn answer_gathered(&mut self, index: u64) {
        if !self.gathered.is_empty() {
            let waiters = std::mem::replace(&mut self.gathered, std::mem::take(&mut self.spare));
            self.answered.push_back((waiters, index));
        }
    }

    /// Takes the next answered waiters; give the vector back with [`ReadRounds::recycle`].
    pub(crate) fn take_answered(&mut self) -> Option<(Vec<Waiter>, u64)> {
        self.answered.pop_front()
    }

    pub(crate) fn recycle(&mut self, mut waiters: Vec<Waiter>) {
        waiters.clear();
        self.spare = waiters;
    }

    /// The leader changed: what waited for the old one fails, except reads that found no leader and still wait for one.
    pub(crate) fn fail_all(&mut self) {
        let running = self.running.take().map(|running| running.waiters).unwrap_or_default();
        for waiter in running.into_iter().chain(self.gathered.drain(..)) {
            if let Waiter::Local(token) = waiter {
                self.failed.push(token);
            }
        }
    }

    pub(crate) fn take_failed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.failed)
    }

    /// Whether there is something to take.
    pub(crate) fn has_output(&self) -> bool {
        !self.answered.is_empty() || !self.failed.is_empty()
    }
}
