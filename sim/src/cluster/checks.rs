//! What the leader does now and then, or when asked: it compares what all members hold, and hands leadership over.
//!
//! Members hold the same here, so a comparison must never say otherwise; in a calm, a handover must succeed.

use super::clients::{Ask, Call, Caller, PATIENCE};
use super::network::Packet;
use super::node::{at_of, id_of};
use super::options::{MS, SECOND, Time};
use super::world::{Broken, Event, World};
use plinth_engine::store::Store;
use plinth_engine::trees::Trees;
use plinth_member::compare::{self, Check, Hashed};
use plinth_member::handover::{self, Handover};
use plinth_member::stall::Stalled;
use plinth_raft::MemberId;
use std::collections::BTreeMap;

/// How often members are compared.
pub(super) const COMPARE_EVERY: Time = 4 * SECOND;
/// Answers that take longer do not count.
const ANSWERS_WITHIN: Time = 500 * MS;
/// A handover in a calm must have succeeded by then.
const HANDOVER_MAX: Time = 20 * SECOND;
/// A leader's disk does not answer for this long; another member has taken over by then, and takes what is passed on.
const STUCK: Time = 20 * SECOND;
const STALL_TAKEN_OVER: Time = 8 * SECOND;
/// Seconds for which the leases of a crowd are granted.
const CROWD_TTL: i64 = 2;
/// A crowd of leases has ended so long after it was granted, whatever clocks do: thousands end in a second.
const CROWD_GONE: Time = 6 * SECOND;

fn hash<T: Trees>(store: &Store<T>, revision: i64) -> Option<Hashed> {
    let hash = store.hash_kv(revision).ok()?;
    Some(Hashed { hash, reached: store.revision() })
}

impl World {
    /// The leader asks all others what they hold at its revision.
    pub(super) fn begin_check(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        self.plan(COMPARE_EVERY, Event::Compare { at, life });
        let process = self.nodes[at].process.as_mut().expect("it runs");
        if !process.member.is_leader() {
            return Ok(());
        }
        let first = hash(process.member.store(), 0).ok_or("the present state has no hash")?;
        process.check = Some(Check::begin(id_of(at), first));
        let members = process.member.group().conf().members();
        for other in members.into_iter().map(at_of).filter(|other| *other != at) {
            self.send(at, other, Packet::AskHash { revision: first.hash.revision });
        }
        self.plan(ANSWERS_WITHIN, Event::Judge { at, life });
        Ok(())
    }

    /// A leader asks what this member holds.
    pub(super) fn answer_hash(&mut self, at: usize, from: usize, revision: i64) {
        let process = self.nodes[at].process.as_ref().expect("it runs");
        let hashed = hash(process.member.store(), revision);
        self.send(at, from, Packet::Hash { revision, hashed });
    }

    /// A member answers the leader.
    pub(super) fn take_hash(&mut self, at: usize, from: usize, revision: i64, hashed: Option<Hashed>) {
        let process = self.nodes[at].process.as_mut().expect("it runs");
        if let (Some(check), Some(hashed)) = (&mut process.check, hashed)
            && check.revision() == revision
        {
            check.answered(id_of(from), hashed);
        }
    }

    /// No more answers count: the leader waits for a linearizable moment.
    pub(super) fn ask_for_moment(&mut self, at: usize) {
        self.last_call += 1;
        let number = self.last_call;
        let now = self.nodes[at].clock.read(self.now);
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let check = process.check.take();
        if check.is_some() && process.member.read(number, now).is_ok() {
            self.calls.insert(number, Call { check, ..Call::new(Caller::Checker, at, Ask::Compare, self.now) });
            self.plan(PATIENCE, Event::GiveUp { call: number });
            self.plan_pump(at);
        }
    }

    /// The moment has come.
    pub(super) fn judge(&mut self, at: usize, number: u64) -> Result<(), Broken> {
        let Some(check) = self.calls.remove(&number).and_then(|call| call.check) else { return Ok(()) };
        let process = self.nodes[at].process.as_ref().expect("it runs");
        let second = hash(process.member.store(), 0).ok_or("the present state has no hash")?;
        let wrong = check.verdict(second);
        self.outcome.compared += 1;
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("member {at} finds that {wrong:?} hold something else: {check:?}, now {second:?}").into())
    }

    /// In a calm: the hashes that members keep of their compactions agree, too.
    pub(super) fn compare_kept(&self) -> Result<(), Broken> {
        let members = self.members();
        let stores: Vec<_> = members
            .iter()
            .filter_map(|at| self.nodes[*at].process.as_ref().map(|process| (id_of(*at), process.member.store())))
            .collect();
        let Some((own_id, own_store)) = stores.first() else { return Ok(()) };
        for own in compare::kept_to_compare(own_store, 0) {
            let mut hashes = BTreeMap::from([(*own_id, own.hash)]);
            for (id, store) in stores.iter().skip(1).filter(|(_, store)| compare::is_kept(store, own.revision)) {
                let other = store.hash_kv(own.revision).map_err(|error| error.to_string())?;
                if other.compact_revision == own.compact_revision {
                    hashes.insert(*id, other.hash);
                }
            }
            if let Some(wrong) = compare::minority(&hashes, members.len()) {
                return Err(format!("compaction {own:?} left something else at {wrong:?}: {hashes:?}").into());
            }
        }
        Ok(())
    }

    /// In a calm: the leader hands over to the member that it finds fit, as one does that stops.
    pub(super) fn hand_over(&mut self) -> Result<(), Broken> {
        let end = self.now + HANDOVER_MAX;
        while self.now < end {
            let is_up =
                |nodes: &[super::node::Node], id: MemberId| nodes.get(at_of(id)).is_some_and(|node| node.is_up());
            let Some(leader) = self.leader() else {
                self.pass(100 * MS)?;
                continue;
            };
            let process = self.nodes[leader].process.as_ref().expect("it leads");
            let alone = process.member.group().conf().voters.len() < 2;
            let target = handover::successor(&process.member, |id| is_up(&self.nodes, id));
            let Some(target) = target else {
                if alone {
                    return Ok(());
                }
                self.pass(100 * MS)?;
                continue;
            };
            self.tell(|| format!("member {leader} hands over to {target}"));
            let process = self.nodes[leader].process.as_mut().expect("it leads");
            if handover::begin(&mut process.member, target).is_err() {
                return Err(format!("member {leader} cannot hand over to {target}, which it finds fit").into());
            }
            self.plan_pump(leader);
            loop {
                self.pass(20 * MS)?;
                let process = self.nodes[leader].process.as_ref().ok_or("a leader goes down in a calm")?;
                match handover::look(&process.member, target, |id| is_up(&self.nodes, id)) {
                    Handover::Done => {
                        self.outcome.handed_over += 1;
                        return self.calm();
                    }
                    Handover::UnderWay if self.now < end => {}
                    _ => break,
                }
            }
        }
        Err("nobody hands leadership over in a calm".into())
    }

    /// In a calm: the disk of the leader is full, and something is written through another member. Somebody else leads soon.
    pub(super) fn fill_leader(&mut self) -> Result<(), Broken> {
        let (leader, members) = (self.leader(), self.members());
        let Some(leader) = leader.filter(|_| self.options.full_leader && members.len() > 2) else { return Ok(()) };
        self.tell(|| format!("the disks of member {leader}, which leads, are full"));
        let is_log_full = self.random.chance(50);
        let node = &mut self.nodes[leader];
        // A log alone need not notice: it takes the segments again that the data file has made superfluous.
        node.limit_data(Some(0));
        if is_log_full {
            node.log.set_capacity(Some(node.log.used_bytes()));
        }
        // Little at a time: what waits while there is no leader becomes one entry.
        self.options.value_bytes = 3000;
        let keys: Vec<u64> = (1..=2).map(|key| self.options.keys + key).collect();
        let end = self.now + HANDOVER_MAX;
        while self.leader().is_none_or(|now| now == leader) {
            let process = self.nodes[leader].process.as_ref().ok_or("a leader goes down in a calm")?;
            let has_space = process.member.has_space(&process.log);
            if self.now >= end && has_space {
                // Its file was large enough for all of that.
                return self.calm();
            }
            if self.now >= end {
                return Err(format!("nobody takes over from member {leader}, whose disk is full").into());
            }
            let other = members[self.random.below(members.len() as u64) as usize];
            if !self.calls.values().any(|call| call.caller == Caller::Crowd) {
                self.call(Caller::Crowd, other, Ask::Put(keys.clone()));
            }
            self.pass(50 * MS)?;
        }
        self.outcome.handed_over += 1;
        self.calm()
    }

    /// In a calm: a disk of the leader does not answer, and something is written through all members. Somebody else leads soon,
    /// and what is then asked of the one with the disk is passed on.
    pub(super) fn stall_leader(&mut self) -> Result<(), Broken> {
        let (leader, members) = (self.leader(), self.members());
        let Some(leader) = leader.filter(|_| self.options.stalled_leader && members.len() > 2) else { return Ok(()) };
        let disk = if self.random.chance(50) { Stalled::Log } else { Stalled::Data };
        self.tell(|| format!("a disk of member {leader}, which leads, does not answer: {disk:?}"));
        self.nodes[leader].stuck = (disk, self.now + STUCK);
        let key = vec![self.options.keys + 3];
        let end = self.now + STALL_TAKEN_OVER;
        while self.leader().is_none_or(|now| now == leader) {
            if self.now >= end {
                return Err(format!("nobody takes over from member {leader}, whose disk does not answer").into());
            }
            let other = members[self.random.below(members.len() as u64) as usize];
            self.call(Caller::Crowd, other, Ask::Put(key.clone()));
            self.pass(50 * MS)?;
        }
        self.outcome.handed_over += 1;
        self.pass(500 * MS)?;
        let revision = |world: &World| {
            let processes = members.iter().filter_map(|at| world.nodes[*at].process.as_ref());
            processes.map(|process| process.member.store().revision()).max()
        };
        let (before, end) = (revision(self), self.now + STALL_TAKEN_OVER);
        self.call(Caller::Crowd, leader, Ask::Put(key));
        while revision(self) == before {
            if self.now >= end {
                return Err(format!("member {leader}, whose disk does not answer, passes nothing on").into());
            }
            self.pass(50 * MS)?;
        }
        self.calm()
    }

    /// In a calm: many leases are granted together and left alone. They end together, and soon.
    pub(super) fn grant_crowd(&mut self) -> Result<(), Broken> {
        let first = self.last_lease + 1;
        for _ in 0..self.options.crowd {
            self.last_lease += 1;
            let at = self.leader().unwrap_or(0);
            self.call(Caller::Crowd, at, Ask::Grant(self.last_lease, CROWD_TTL));
        }
        let crowd = first..=self.last_lease;
        let granted = self.now + 2 * SECOND;
        while self.now < granted {
            self.pass(100 * MS)?;
        }
        let end = self.now + CROWD_GONE;
        loop {
            let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
            let left = |process: &super::node::Process| {
                crowd.clone().filter(|id| process.member.store().leases().contains(*id)).count()
            };
            let left: usize = processes.map(left).max().unwrap_or(0);
            if left == 0 {
                return Ok(());
            }
            if self.now >= end {
                return Err(format!("{left} leases of a crowd of {} have not ended", self.options.crowd).into());
            }
            self.pass(100 * MS)?;
        }
    }

    /// Lets some time pass.
    fn pass(&mut self, time: Time) -> Result<(), Broken> {
        let until = self.now + time;
        while self.next(until)? {}
        Ok(())
    }
}
