//! Which keep-alives one renewal answers. Pure: the caller passes `now`.
//!
//! A keep-alive joins the renewal of its lease that is under way. An answer also counts for those that ask within
//! [`FRESH`] after it, which is less than the second that times to live are given in. A lease that was revoked through the
//! proxy is forgotten, so that nobody is told of a life that has ended.
//!
//! Invariants: at most one renewal of a lease is under way; whoever waits is answered by the next answer for the lease; what
//! nobody waits for and is not fresh is forgotten.

use plinth_api::proto::etcdserverpb::LeaseKeepAliveResponse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How long an answer counts.
pub const FRESH: Duration = Duration::from_millis(500);

/// Keep-alives that wait, of all leases.
pub const WAITING_MAX: usize = 100_000;

struct Lease<W> {
    waiting: Vec<W>,
    answer: Option<(Instant, LeaseKeepAliveResponse)>,
}

/// All leases of which something is known. `W` is whoever waits for an answer.
pub struct Renewals<W> {
    leases: BTreeMap<i64, Lease<W>>,
    /// When answers came, in that order.
    answers: VecDeque<(Instant, i64)>,
    waiting: usize,
}

/// What becomes of a keep-alive.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// A renewal is to be sent.
    Send,
    /// One is under way.
    Joined,
    /// It is answered with this.
    Answer(LeaseKeepAliveResponse),
    /// Too many wait.
    Full,
}

impl<W> Default for Renewals<W> {
    fn default() -> Renewals<W> {
        Renewals { leases: BTreeMap::new(), answers: VecDeque::new(), waiting: 0 }
    }
}

impl<W> Renewals<W> {
    /// A keep-alive of a lease.
    pub fn ask(&mut self, now: Instant, id: i64, who: W) -> Asked {
        self.forget_old(now);
        if let Some((_, answer)) = self.leases.get(&id).and_then(|lease| lease.answer.as_ref()) {
            return Asked::Answer(*answer);
        }
        if self.waiting >= WAITING_MAX {
            return Asked::Full;
        }
        self.waiting += 1;
        let lease = self.leases.entry(id).or_insert_with(|| Lease { waiting: Vec::new(), answer: None });
        lease.waiting.push(who);
        if lease.waiting.len() == 1 { Asked::Send } else { Asked::Joined }
    }

    /// A renewal was answered: whom that is for.
    pub fn answered(&mut self, now: Instant, answer: LeaseKeepAliveResponse) -> Vec<W> {
        self.forget_old(now);
        let Some(lease) = self.leases.get_mut(&answer.id) else { return Vec::new() };
        let waiting = std::mem::take(&mut lease.waiting);
        self.waiting -= waiting.len();
        match answer.ttl > 0 {
            true => {
                lease.answer = Some((now, answer));
                self.answers.push_back((now, answer.id));
            }
            // It may be granted anew at any time.
            false => drop(self.leases.remove(&answer.id)),
        }
        waiting
    }

    /// The leases whose renewals are under way, to be sent again after a connection broke.
    pub fn under_way(&self) -> Vec<i64> {
        self.leases.iter().filter(|(_, lease)| !lease.waiting.is_empty()).map(|(id, _)| *id).collect()
    }

    /// The lease was revoked, or may have been.
    pub fn forget(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.answer = None;
            if lease.waiting.is_empty() {
                self.leases.remove(&id);
            }
        }
    }

    /// Nobody will answer: all that wait.
    pub fn give_up(&mut self) -> Vec<W> {
        self.waiting = 0;
        let waiting = self.leases.values_mut().flat_map(|lease| std::mem::take(&mut lease.waiting)).collect();
        self.leases.retain(|_, lease| lease.answer.is_some());
        waiting
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, id)) = self.answers.front().copied() {
            if now.saturating_duration_since(at) < FRESH {
                return;
            }
            self.answers.pop_front();
            // A later answer has an entry of its own.
            if self.leases.get(&id).and_then(|lease| lease.answer.as_ref()).is_some_and(|(told, _)| *told == at) {
                self.forget(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: i64, ttl: i64) -> LeaseKeepAliveResponse {
        LeaseKeepAliveResponse { id, ttl, ..LeaseKeepAliveResponse::default() }
    }

    #[test]
    fn one_renewal_answers_all_that_wait_and_those_right_after() {
        let (mut renewals, start) = (Renewals::default(), Instant::now());
        assert_eq!(renewals.ask(start, 7, "a"), Asked::Send);
        assert_eq!(renewals.ask(start, 7, "b"), Asked::Joined);
        assert_eq!(renewals.ask(start, 8, "c"), Asked::Send);
        assert_eq!(renewals.under_way(), [7, 8]);
        assert_eq!(renewals.answered(start, answer(7, 10)), ["a", "b"]);
        assert_eq!(renewals.ask(start + FRESH / 2, 7, "d"), Asked::Answer(answer(7, 10)));
        assert_eq!(renewals.ask(start + FRESH, 7, "e"), Asked::Send);
        assert_eq!(renewals.answered(start + FRESH, answer(7, 10)), ["e"]);
        assert_eq!(renewals.under_way(), [8]);
    }

    #[test]
    fn the_life_of_a_lease_that_has_ended_is_not_told() {
        let (mut renewals, now) = (Renewals::default(), Instant::now());
        renewals.ask(now, 7, "a");
        renewals.answered(now, answer(7, 10));
        renewals.forget(7);
        assert_eq!(renewals.ask(now, 7, "b"), Asked::Send);
        assert_eq!(renewals.answered(now, answer(7, 0)), ["b"]);
        assert_eq!(renewals.ask(now, 7, "c"), Asked::Send, "an end is not kept");
        renewals.forget(7);
        assert_eq!(renewals.answered(now, answer(7, 3)), ["c"], "who waits goes on waiting");
        assert_eq!(renewals.answered(now, answer(9, 3)), Vec::<&str>::new());
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_old_is_forgotten() {
        let (mut renewals, now) = (Renewals::default(), Instant::now());
        for number in 0..WAITING_MAX {
            renewals.ask(now, number as i64 % 1000, number);
        }
        assert_eq!(renewals.ask(now, 1, 0), Asked::Full);
        assert_eq!(renewals.answered(now, answer(1, 5)).len(), WAITING_MAX / 1000);
        assert_eq!(renewals.ask(now, 5000, 0), Asked::Send);
        assert_eq!(renewals.give_up().len(), WAITING_MAX - WAITING_MAX / 1000 + 1);
        assert_eq!(renewals.ask(now + FRESH, 1, 0), Asked::Send);
        assert_eq!((renewals.leases.len(), renewals.answers.len()), (1, 0));
    }
}
