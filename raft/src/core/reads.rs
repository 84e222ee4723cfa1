//! Linearizable reads: one round of heartbeats answers every read that waited for it (6.4).
//!
//! - A read may be served at the commit index known when a round begins, once a quorum has confirmed the leader during the
//!   round: then there was no later leader when it began, so nobody had committed more. No clock is trusted (6.4.1 does).
//! - *A new leader answers after its first commit*: its log has all that was committed, but until an entry of its own term is
//!   committed it does not know how far that is (6.4, step 1).
//! - *One round for all that wait.* While a round runs, arriving reads gather for the next one: they may not use an index
//!   from before they came.
//! - *The leader numbers rounds itself*; nothing a follower or client supplies is ever used to count confirmations. Followers
//!   run rounds of their own the same way: they ask the leader with a number of theirs, which the leader only echoes.
//! - A sole voter has nobody to ask.
//!
//! ```text
//! idle --read--> running(round, its reads) --answer--> reads answered; gathered reads start the next round, or idle
//! ```
//!
//! Invariants: a waiter is in exactly one place (gathered or running); numbers are never used twice by one process, and
//! start at a seeded value so that an answer meant for a previous life of the process is not taken for a new one.
//!
//! Not here: timeouts of reads (the server's).

use std::collections::VecDeque;

use super::{Core, quorum};
use crate::limits::PENDING_READS_MAX;
use crate::message::PeerBody;
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
    /// Who has confirmed the running round of a leader.
    confirmed_by: Vec<MemberId>,
    /// Answered rounds, oldest first, until taken.
    answered: VecDeque<(Vec<Waiter>, u64)>,
}

#[derive(Debug)]
struct Running {
    round: u64,
    /// What was committed when it began; known to a leader.
    index: Option<u64>,
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
            confirmed_by: Vec::new(),
            answered: VecDeque::new(),
        }
    }

    /// A read arrives. Beyond the bound local ones fail at once and remote ones are dropped (they ask again).
    pub(crate) fn add(&mut self, waiter: Waiter) {
        if matches!(waiter, Waiter::Remote { .. }) && self.gathered.contains(&waiter) {
            return; // A follower repeats its question until it is answered.
        }
        assert!(self.gathered.len() <= PENDING_READS_MAX, "reads that wait are bounded");
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

    /// Begins a round for everything gathered and returns its number. A leader says what is committed.
    pub(crate) fn begin(&mut self, index: Option<u64>) -> u64 {
        assert!(self.can_begin(), "a round that runs is not given up for the next: its reads would wait forever");
        self.next_round = self.next_round.wrapping_add(1);
        assert!(self.spare.is_empty(), "reads that were answered are not answered again");
        let waiters = std::mem::replace(&mut self.gathered, std::mem::take(&mut self.spare));
        self.running = Some(Running { round: self.next_round, index, waiters });
        self.confirmed_by.clear();
        self.next_round
    }

    /// The number of the running round.
    pub(crate) fn running(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.round)
    }

    /// The number and index of the running round of a leader.
    fn confirming(&self) -> Option<(u64, u64)> {
        self.running.as_ref().and_then(|running| Some((running.round, running.index?)))
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
        assert!(self.running.is_none(), "who has nobody to ask runs no round");
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

    /// No reads come for a while: buffers are given back.
    pub(crate) fn shrink(&mut self) {
        (self.spare, self.confirmed_by) = (Vec::new(), Vec::new());
        self.gathered.shrink_to_fit();
        self.answered.shrink_to_fit();
    }

    /// Whether no read waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.gathered.is_empty() && !self.has_output()
    }

    /// Whether there is something to take.
    pub(crate) fn has_output(&self) -> bool {
        !self.answered.is_empty() || !self.failed.is_empty()
    }
}

impl Core {
    /// The round that heartbeats ask the others to confirm.
    pub(super) fn round_to_confirm(&self) -> Option<u64> {
        self.rounds.confirming().map(|(round, _)| round)
    }

    /// Begins a round if reads wait and none is running. Follows every input: any of them may have made it possible.
    pub(crate) fn begin_read_round(&mut self) {
        if !self.rounds.can_begin() {
            return;
        }
        let committed = self.log.committed();
        if !self.is_leader() {
            if let Some(leader) = self.leader {
                let round = self.rounds.begin(None);
                self.say(leader, PeerBody::ReadIndex { round });
            }
        } else if self.log.term(committed) != Some(self.term) {
            // A new leader does not know yet what is committed.
        } else if self.is_alone() {
            self.rounds.answer_gathered(committed);
        } else {
            self.rounds.begin(Some(committed));
            self.broadcast_heartbeat();
        }
    }

    /// The question or its answer may have been lost. (A leader's round goes with every heartbeat.)
    pub(super) fn repeat_read_round(&mut self) {
        if let (Some(round), Some(leader)) = (self.rounds.running(), self.leader) {
            self.say(leader, PeerBody::ReadIndex { round });
        }
    }

    /// A member has answered a heartbeat of this round.
    pub(super) fn round_confirmed(&mut self, from: MemberId, round: u64) {
        if self.round_to_confirm() == Some(round) && !self.rounds.confirmed_by.contains(&from) {
            self.rounds.confirmed_by.push(from);
            self.finish_round_if_confirmed();
        }
    }

    pub(super) fn finish_round_if_confirmed(&mut self) {
        let Some((round, index)) = self.rounds.confirming() else { return };
        assert!(self.is_leader(), "only a leader's reads need its quorum");
        assert!(index <= self.log.committed(), "a read waits for nothing that is not committed");
        let own = self.own();
        let confirmed = |id| id == own.0 || self.rounds.confirmed_by.contains(&MemberId(id));
        if quorum::agrees(&self.conf, confirmed) {
            self.rounds.answer(round, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(rounds: &mut ReadRounds) -> Vec<(Vec<Waiter>, u64)> {
        std::iter::from_fn(|| rounds.take_answered()).collect()
    }

    #[test]
    fn reads_that_arrive_during_a_round_share_the_next() {
        use Waiter::Local;
        let mut rounds = ReadRounds::new(7);
        rounds.add(Local(1));
        rounds.add(Local(2));
        let first = rounds.begin(None);
        rounds.add(Local(3));
        assert!(!rounds.can_begin());
        rounds.answer(first, 10);
        assert_eq!(answers(&mut rounds), [(vec![Local(1), Local(2)], 10)]);
        let second = rounds.begin(None);
        assert_ne!(first, second);
        rounds.answer(first, 99);
        assert!(answers(&mut rounds).is_empty(), "an old answer does not serve new reads");
        rounds.answer(second, 11);
        assert_eq!(answers(&mut rounds), [(vec![Local(3)], 11)]);
    }

    #[test]
    fn another_life_uses_other_numbers() {
        let (mut before, mut after) = (ReadRounds::new(7), ReadRounds::new(8_000));
        before.add(Waiter::Local(1));
        after.add(Waiter::Local(1));
        let stale = before.begin(None);
        after.begin(None);
        after.answer(stale, 5);
        assert!(answers(&mut after).is_empty());
    }

    #[test]
    fn failed_reads_are_told_and_members_asked_to_ask_again() {
        let mut rounds = ReadRounds::new(0);
        let remote = Waiter::Remote { member: MemberId(2), round: 5 };
        rounds.add(Waiter::Local(1));
        rounds.add(remote);
        rounds.add(remote);
        assert_eq!(rounds.gathered.len(), 2, "a repeated question counts once");
        let round = rounds.begin(None);
        rounds.add(Waiter::Local(2));
        rounds.fail_all();
        assert_eq!(rounds.take_failed(), [1, 2]);
        rounds.answer(round, 3);
        assert!(answers(&mut rounds).is_empty());
        assert!(!rounds.can_begin());
    }

    #[test]
    fn too_many_reads_fail_at_once() {
        let mut rounds = ReadRounds::new(0);
        (0..PENDING_READS_MAX as u64).for_each(|token| rounds.add(Waiter::Local(token)));
        assert!(rounds.take_failed().is_empty());
        rounds.add(Waiter::Local(9));
        rounds.add(Waiter::Remote { member: MemberId(2), round: 1 });
        assert_eq!(rounds.take_failed(), [9]);
        assert_eq!(rounds.gathered.len(), PENDING_READS_MAX);
    }
}
