//! What befalls the machines in a storm.

use super::groups_options::{Fault, GROUPS, MACHINES, MS, SECOND};
use super::groups_world::{Event, World};
use super::machine::id_of;
use bytes::Bytes;
use plinth_raft::{Change, ConfChange, ConfChangeKind, GroupId, Role, Transition};
use plinth_wal::sim_disk::Loss;

impl World {
    pub(super) fn fault(&mut self) {
        if !self.in_storm || self.options.faults.is_empty() {
            return;
        }
        let pause = 1 + self.random.below(2 * self.options.calm);
        self.plan(pause, Event::Fault);
        let kind = self.options.faults[self.random.below(self.options.faults.len() as u64) as usize];
        let at = self.random.below(MACHINES as u64) as usize;
        let (now, span) = (self.now, 1 + self.random.below(4 * SECOND));
        match kind {
            Fault::Crash => self.crash(at, None),
            Fault::CrashAtStep => {
                let steps = self.machines[at].medium.steps() + 1 + self.random.below(20);
                self.machines[at].medium.crash_at(steps);
            }
            Fault::Blackout => (0..MACHINES).for_each(|at| self.crash(at, None)),
            Fault::Partition => {
                let side: Vec<bool> = (0..MACHINES).map(|_| self.random.chance(40)).collect();
                self.tell(|| format!("parted: {side:?}"));
                let pairs = (0..MACHINES).flat_map(|from| (0..MACHINES).map(move |to| (from, to)));
                self.cuts.extend(pairs.filter(|(from, to)| side[*from] != side[*to]));
                self.plan(span, Event::Mend);
            }
            Fault::OneWay => {
                let is_mute = self.random.chance(50);
                self.tell(|| format!("machine {at} is {}", if is_mute { "mute" } else { "deaf" }));
                self.cuts.extend((0..MACHINES).map(|to| if is_mute { (at, to) } else { (to, at) }));
                self.plan(span, Event::Mend);
            }
            Fault::Pause => {
                self.tell(|| format!("machine {at} stands still for {} ms", span / MS));
                self.machines[at].stands_until = now + span;
            }
            Fault::SlowDisk => {
                let factor = [20, 1000, 100_000][self.random.below(3) as usize];
                self.tell(|| format!("machine {at} has a disk {factor} times slower for {} ms", span / MS));
                self.machines[at].slow = (factor, now + span);
            }
            Fault::Transfer => {
                let (id, target) = (GroupId(self.random.below(u64::from(GROUPS)) as u32), id_of(at));
                if let Some(leader) = self.leader(id) {
                    let process = self.machines[leader].process.as_mut().expect("it runs");
                    let _ = process.groups.transfer_leader(id, target);
                    self.plan_pump(leader);
                }
            }
            Fault::Move => self.move_group(),
        }
    }

    /// A machine that was never in a group takes the place of one that is. Nobody comes back to a group it has left: it would
    /// not know how it voted.
    fn move_group(&mut self) {
        let id = GroupId(self.random.below(u64::from(GROUPS)) as u32);
        let Some(leader) = self.leader(id) else { return };
        let never = (0..MACHINES).find(|at| !self.hosted.contains(&(id, *at)));
        let conf = self.machines[leader]
            .process
            .as_ref()
            .and_then(|process| process.groups.get(id))
            .map(|group| group.conf().clone());
        let (Some(newcomer), Some(conf)) = (never, conf) else { return };
        let leaving = conf.voters[self.random.below(conf.voters.len() as u64) as usize];
        let changes = vec![Change::AddVoter(id_of(newcomer).0), Change::Remove(leaving)];
        let kind = ConfChangeKind::Members { changes, transition: Transition::Auto };
        let change = ConfChange { kind, context: Bytes::new() };
        let process = self.machines[leader].process.as_mut().expect("it runs");
        if process.groups.propose_conf_change(id, &change).is_ok() {
            self.tell(|| format!("group {id} is to move from member {leaving} to machine {newcomer}"));
            self.hosted.insert((id, newcomer));
            self.plan_pump(leader);
        }
    }

    /// Who leads a group in the latest term.
    pub(super) fn leader(&self, id: GroupId) -> Option<usize> {
        let of = |at: usize| self.machines[at].process.as_ref().and_then(|process| process.groups.get(id));
        let leads = |at: &usize| of(*at).is_some_and(|group| group.role() == Role::Leader);
        (0..MACHINES).filter(leads).max_by_key(|at| of(*at).map(|group| group.term()))
    }

    /// The process goes down, and comes back after a while.
    pub(super) fn crash(&mut self, at: usize, loss: Option<Loss>) {
        if self.machines[at].process.is_none() && !self.machines[at].medium.is_dead() {
            return;
        }
        let loss = loss.unwrap_or_else(|| Loss::ALL[self.random.below(Loss::ALL.len() as u64) as usize]);
        self.tell(|| format!("machine {at} goes down, of what is not synced it loses: {loss:?}"));
        self.machines[at].crash(loss, &mut self.random);
        self.outcome.crashes += 1;
        let down = if self.random.chance(60) { 50 * MS } else { 3 * SECOND };
        let down = 1 + self.random.below(down);
        self.plan(down, Event::Start { at });
    }
}
