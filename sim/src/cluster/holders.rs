//! Clients that hold leases, and what they are promised: a lease that is kept alive does not end early, and one that is
//! not kept alive does end.
//!
//! A lease is certainly alive from when the last renewal that succeeded was *asked for*, for its time as the fastest
//! clock measures it. Its end shows in the key that hangs on it.

use super::bugs::Bug;
use super::clients::{Answer, Ask, Call, Caller, lease_key};
use super::options::{MS, SECOND, Time};
use super::truth::Change;
use super::world::{Broken, Event, World};

/// A lease, as its holder sees it.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    seconds: i64,
    /// When the last renewal that succeeded was asked for.
    alive_from: Time,
    /// Its holder asked for its end.
    may_end: bool,
    has_key: bool,
    /// When it was seen to have ended.
    ended: Option<Time>,
}

impl Lease {
    /// It ended: was it time? The fastest clock counts.
    fn check_end(&self, ended: Time, drift: u64) -> Result<(), String> {
        let ends = self.alive_from + self.seconds as u64 * SECOND * 100 / (100 + drift);
        if self.may_end || ended + 2 * MS >= ends {
            return Ok(());
        }
        Err(format!("ends {} ms early: {self:?}", (ends - ended) / MS))
    }
}

/// A client that holds one lease after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holder {
    lease: i64,
    /// It lets go of the lease then.
    until: Time,
    /// Where it found the leader.
    leader: usize,
}

impl World {
    /// A holder's turn: a new lease, a renewal, or the end.
    pub(super) fn holder(&mut self, holder: usize) {
        let Holder { lease, until, leader } = self.holders[holder];
        let at = if leader < self.nodes.len() { leader } else { 0 };
        let ask = match self.leases.get(&lease) {
            Some(known) if known.has_key && self.now < until => Ask::KeepAlive(lease),
            Some(known) if !known.has_key && self.now < until => Ask::PutLeased(lease),
            known => {
                // It just stays away, or ends the lease itself.
                if known.is_some() && self.random.chance(30) {
                    self.leases.get_mut(&lease).expect("known").may_end = true;
                    self.call(Caller::Holder(holder), at, Ask::Revoke(lease));
                }
                if !self.in_storm {
                    self.holders[holder].lease = 0;
                    self.plan(SECOND, Event::Holder { holder });
                    return;
                }
                let seconds = (2 + self.random.below(self.options.ttl - 1)) as i64;
                self.last_lease += 1;
                self.holders[holder].lease = self.last_lease;
                self.holders[holder].until = self.now + SECOND / 2 + self.random.below(self.options.hold);
                Ask::Grant(self.last_lease, seconds)
            }
        };
        if !self.call(Caller::Holder(holder), at, ask) {
            self.plan(100 * MS, Event::Holder { holder });
        }
    }

    /// A holder is told something.
    pub(super) fn holder_answered(&mut self, holder: usize, call: &Call, answer: &Answer) -> Result<(), Broken> {
        let done = matches!(answer, Answer::Done(..) | Answer::Renewed);
        match &call.ask {
            Ask::Grant(id, seconds) if done => {
                let lease =
                    Lease { seconds: *seconds, alive_from: call.began, may_end: false, has_key: false, ended: None };
                self.leases.insert(*id, lease);
            }
            Ask::PutLeased(id) if done => {
                // That says nothing about the lease: it is not renewed.
                self.leases.get_mut(id).expect("granted").has_key = true;
            }
            Ask::KeepAlive(_) if matches!(answer, Answer::Ended) => {
                return Err("the stream of a keep-alive is over, and nothing was answered".to_string().into());
            }
            Ask::KeepAlive(id) if done => {
                let lease = self.leases.get_mut(id).expect("granted");
                lease.alive_from = lease.alive_from.max(call.began);
                self.outcome.renewals += 1;
                if let Some(ended) = lease.ended {
                    let late = lease.check_end(ended, self.options.drift);
                    late.map_err(|why| format!("lease {id} is renewed, but has ended: it {why}"))?;
                }
            }
            Ask::Revoke(_) => return Ok(()),
            _ => {}
        }
        if !done {
            // Somebody else may lead.
            let members = self.nodes.len() as u64;
            self.holders[holder].leader = self.random.below(members) as usize;
            if let Some(process) = &self.nodes[call.at].process
                && let Some(leader) = process.member.group().leader()
            {
                self.holders[holder].leader = super::node::at_of(leader);
            }
        }
        let pause = match call.ask {
            // For so long that a checkpoint of little time comes between.
            Ask::KeepAlive(id) if done && self.random.chance(30) => self.leases[&id].seconds as u64 * 650 * MS,
            Ask::KeepAlive(_) if done => 600 * MS,
            _ => 20 * MS,
        };
        let pause = pause + self.random.below(200 * MS);
        self.plan(pause, Event::Holder { holder });
        Ok(())
    }

    /// A holder says its keep-alive and ends its side of the stream in one packet. Whether the stream is over at once.
    pub(super) fn is_over_when_asked(&self, number: u64) -> bool {
        let due = &self.calls[&number].due;
        if self.bug != Some(Bug::StreamsEndWithRequests) {
            due.add();
        }
        due.half_close()
    }

    /// A leader who may still lead is asked to keep a lease alive.
    pub(super) fn keep_alive(&mut self, at: usize, number: u64, lease: i64) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let process = node.process.as_mut().expect("it runs");
        let renewing = process.member.renew_leases(&[lease], now).filter(|renewing| renewing.renewed() > 0);
        let Some(renewing) = renewing else {
            self.reply(number, Answer::Refused);
            return Ok(());
        };
        let Some(command) = renewing.commands.first() else { return self.renewed(at, number) };
        if process.member.submit(|out| command.encode_into(out), number, now).is_err() {
            self.reply(number, Answer::Refused);
        } else if let Some(call) = self.calls.get_mut(&number) {
            call.renewing = Some(renewing);
        }
        self.plan_pump(at);
        Ok(())
    }

    /// The next leader will know that a lease was renewed, if this one still leads.
    pub(super) fn checkpoint_cleared(&mut self, at: usize, number: u64) -> Result<(), Broken> {
        let process = self.nodes[at].process.as_ref().expect("it runs");
        let renewing = self.calls.get(&number).and_then(|call| call.renewing.as_ref());
        if renewing.is_some_and(|renewing| process.member.has_kept(renewing)) {
            self.outcome.cleared += 1;
            return self.renewed(at, number);
        }
        self.reply(number, Answer::Refused);
        Ok(())
    }

    /// A leader has kept a lease alive.
    fn renewed(&mut self, at: usize, number: u64) -> Result<(), Broken> {
        let Some(call) = self.calls.get(&number) else { return Ok(()) };
        let process = self.nodes[at].process.as_ref().expect("it runs");
        let term = process.member.keeps_leases().ok_or("a lease is renewed by who does not keep its time")?;
        let mut later = self.leaders.range(term + 1..);
        if let Some((term, _)) = later.find(|(_, (_, since))| *since < call.began) {
            let why = format!("member {at} does as call {number} asks ({:?}), but since before that", call.ask);
            return Err(format!("{why} another leads, in term {term}").into());
        }
        if !call.due.answered() {
            return Err(format!("call {number} is answered, and its stream goes on: {:?}", call.due).into());
        }
        self.reply(number, Answer::Renewed);
        Ok(())
    }

    /// Keys that hung on leases are deleted.
    pub(super) fn note_lease_ends(&mut self, news: &[Change]) -> Result<(), Broken> {
        for change in news.iter().filter(|change| change.pair.is_none()) {
            let Some(id) = lease_of(&change.key) else { continue };
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            lease.ended = Some(self.now);
            lease.check_end(self.now, self.options.drift).map_err(|why| format!("lease {id} {why}"))?;
        }
        Ok(())
    }
}

fn lease_of(key: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(key.strip_prefix(b"lease/")?).ok()?;
    let id = digits.parse().ok()?;
    assert_eq!(lease_key(id), key, "the name of a lease's key");
    Some(id)
}
