//! What befalls a cluster, and who administers it.
//!
//! Faults stay within what must be survived: links mend, processes come back, and nobody removes a member while that
//! would leave too few who are well, as the server refuses to.

use super::clients::{Answer, Ask, Call, Caller};
use super::node::{Node, at_of, id_of, record, url_of};
use super::options::{Fault, SECOND};
use super::world::{Broken, Event, WAKE_MAX, World};
use plinth_member::records;
use plinth_raft::{Member, MemberChange, MemberId};
use plinth_wal::sim_disk::Loss;

const EIO: i32 = 5;
/// Members that a run may come to.
const MEMBERS_MAX: usize = 9;

impl World {
    /// Something happens, and something else later.
    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        if !self.in_storm {
            return Ok(());
        }
        let pause = 1 + self.random.below(2 * self.options.calm);
        self.plan(pause, Event::Fault);
        if self.options.faults.is_empty() {
            return Ok(());
        }
        let which = self.random.below(self.options.faults.len() as u64) as usize;
        let at = self.random.below(self.nodes.len() as u64) as usize;
        self.tell(|| format!("{:?}, perhaps of member {at}", self.options.faults[which]));
        match self.options.faults[which] {
            Fault::Crash => self.take_down(at),
            Fault::CrashAtStep => {
                let log = &self.nodes[at].log;
                log.crash_at(log.steps() + 1 + self.random.below(60));
            }
            Fault::Blackout if self.random.chance(30) => (0..self.nodes.len()).for_each(|at| self.take_down(at)),
            Fault::Blackout => {}
            Fault::FailingSync => {
                let log = &self.nodes[at].log;
                log.fail_at(log.steps() + 1 + self.random.below(60), EIO);
            }
            Fault::Partition | Fault::Isolation | Fault::OneWay | Fault::Bridge => self.cut(self.options.faults[which]),
            Fault::Pause => {
                let at = if self.random.chance(40) { self.leader().unwrap_or(at) } else { at };
                self.nodes[at].stands_until = self.now + self.random.below(self.options.pause);
                self.nodes[at].wakes_in = self.random.below(WAKE_MAX);
            }
            Fault::SlowDisk => {
                let (factor, longest) = (10 + self.random.below(1000), 5 * SECOND);
                self.nodes[at].slow = (factor, self.now + self.random.below(longest));
            }
            Fault::FullDisk => self.fill_disks(at),
            Fault::Transfer => self.transfer(),
            Fault::Change => self.change_members()?,
        }
        Ok(())
    }

    fn take_down(&mut self, at: usize) {
        if self.nodes[at].is_up() {
            let loss = Loss::ALL[self.random.below(Loss::ALL.len() as u64) as usize];
            self.crash(at, Some(loss));
        }
    }

    /// Something else fills the disks of a member, of the leader more often than of others.
    fn fill_disks(&mut self, at: usize) {
        const LONGEST: u64 = 8 * SECOND;
        let at = if self.random.chance(40) { self.leader().unwrap_or(at) } else { at };
        let rest = self.random.below(2 * self.options.segment_bytes);
        let node = &mut self.nodes[at];
        node.full_until = self.now + self.random.below(LONGEST);
        node.log.set_capacity(Some(node.log.used_bytes() + rest));
        node.limit_data(Some(rest));
        let until = node.full_until;
        self.plan(until - self.now, Event::Room { at });
    }

    /// There may be room again.
    pub(super) fn make_room(&mut self, at: usize) {
        if self.nodes[at].full_until <= self.now {
            self.nodes[at].log.set_capacity(None);
            self.nodes[at].limit_data(None);
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leaders = self.nodes.iter().filter(|node| node.is_leader());
        leaders.max_by_key(|node| node.process.as_ref().map(|p| p.member.group().term())).map(|node| node.at)
    }

    /// Cuts links, and mends them after a while.
    fn cut(&mut self, fault: Fault) {
        self.net.mend();
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let one = self.random.below(all.len() as u64) as usize;
        let others: Vec<usize> = all.iter().copied().filter(|at| *at != one).collect();
        match fault {
            Fault::Isolation => {
                let one = self.leader().unwrap_or(one);
                let others: Vec<usize> = all.iter().copied().filter(|at| *at != one).collect();
                self.net.cut(&[one], &others);
                self.net.cut(&others, &[one]);
            }
            Fault::OneWay if self.random.chance(50) => self.net.cut(&[one], &others),
            Fault::OneWay => self.net.cut(&others, &[one]),
            Fault::Bridge => {
                let (left, right) = others.split_at(others.len() / 2);
                self.net.cut(left, right);
                self.net.cut(right, left);
            }
            _ => {
                let (left, right): (Vec<usize>, Vec<usize>) = all.iter().partition(|_| self.random.chance(50));
                self.net.cut(&left, &right);
                self.net.cut(&right, &left);
            }
        }
        let longest = if self.random.chance(50) { SECOND } else { 5 * SECOND };
        let pause = self.random.below(longest);
        self.plan(pause, Event::Mend);
    }

    fn transfer(&mut self) {
        let to = id_of(self.random.below(self.nodes.len() as u64) as usize);
        if let Some(leader) = self.leader()
            && let Some(process) = &mut self.nodes[leader].process
        {
            let _ = process.member.transfer_leader(to);
            self.plan_pump(leader);
        }
    }

    /// Whether the cluster would still be well without `removed` and with one more voter if `added`.
    fn may_change(&self, leader: usize, removed: Option<MemberId>, added: bool) -> bool {
        let Some(process) = &self.nodes[leader].process else { return false };
        let status = process.member.group().status();
        let voters = status.conf.voters.iter().filter(|id| Some(MemberId(**id)) != removed);
        let active = |id: &&u64| status.peers.iter().any(|peer| peer.member.0 == **id && peer.recent_active);
        let (all, well) = (voters.clone().count() + usize::from(added), voters.filter(active).count());
        well > all / 2
    }

    /// Adds, promotes or removes a member, as an operator who looks first.
    fn change_members(&mut self) -> Result<(), Broken> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(process) = &self.nodes[leader].process else { return Ok(()) };
        let status = process.member.group().status();
        if let Some(&learner) = status.conf.learners.first() {
            let members = records::all(process.member.store()).map_err(|error| error.to_string())?;
            let is_active = status.peers.iter().any(|peer| peer.member.0 == learner && peer.recent_active);
            let ready = is_active && records::check_promotion(&members, &status, MemberId(learner)).is_ok();
            let change = if ready && self.may_change(leader, None, true) {
                MemberChange::Promote(MemberId(learner))
            } else if self.random.chance(20) {
                MemberChange::Remove(MemberId(learner))
            } else {
                return Ok(());
            };
            self.call(Caller::Admin, leader, Ask::Change(change));
            return Ok(());
        }
        let voters = status.conf.voters;
        if self.random.chance(25) {
            self.relocate(leader, &voters);
            return Ok(());
        }
        if self.nodes.len() < MEMBERS_MAX && (voters.len() < 4 || self.random.chance(30)) {
            let at = self.nodes.len();
            let is_learner = self.random.chance(70);
            if !is_learner && !self.may_change(leader, None, true) {
                return Ok(());
            }
            let founders = self.options.members;
            let mut node = Node::new(at, founders, &mut self.random, &self.options);
            let others = self.nodes.iter();
            node.first = others.map(|node| Member { peer_urls: node.urls.clone(), ..record(node.at, false) }).collect();
            self.nodes.push(node);
            self.start(at)?;
            self.call(Caller::Admin, leader, Ask::Change(MemberChange::Add(record(at, is_learner))));
        } else if voters.len() > 2 {
            let victim = MemberId(voters[self.random.below(voters.len() as u64) as usize]);
            if self.may_change(leader, Some(victim), false) {
                self.call(Caller::Admin, leader, Ask::Change(MemberChange::Remove(victim)));
            }
        }
        Ok(())
    }

    /// Some member moves: it listens at both places until the list is known to have the new one.
    fn relocate(&mut self, leader: usize, voters: &[u64]) {
        let who = MemberId(voters[self.random.below(voters.len() as u64) as usize]);
        if self.nodes[at_of(who)].urls.len() > 1 {
            // It is not known whether the list has the last move.
            return;
        }
        self.outcome.moves += 1;
        let url = url_of(at_of(who), self.outcome.moves);
        self.nodes[at_of(who)].urls.push(url.clone());
        self.call(Caller::Admin, leader, Ask::Change(MemberChange::UpdatePeerUrls(who, vec![url])));
    }

    /// Who administers the cluster is told something.
    pub(super) fn admin_answered(&mut self, call: &Call, answer: &Answer) {
        if !matches!(answer, Answer::Done(..)) {
            return;
        }
        self.outcome.changes += 1;
        if let Ask::Change(MemberChange::UpdatePeerUrls(who, urls)) = &call.ask {
            self.nodes[at_of(*who)].urls.retain(|url| urls.contains(url));
        }
    }
}
