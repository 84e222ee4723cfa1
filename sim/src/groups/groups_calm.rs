//! After a storm: everything works again, and comes to rest.

use super::groups_options::{GROUPS, MACHINES, SECOND};
use super::groups_store::Wish;
use super::groups_world::{Broken, World};
use super::machine::id_of;
use plinth_raft::{Group, GroupId};
use std::collections::BTreeSet;

/// Every group answers within this, once all machines are well.
const RECOVERY: u64 = 15 * SECOND;
/// And all groups sleep within this.
const REST: u64 = 30 * SECOND;

impl World {
    pub(super) fn calm(&mut self) -> Result<(), Broken> {
        self.tell(|| "calm".into());
        self.cuts.clear();
        for machine in &mut self.machines {
            (machine.stands_until, machine.slow) = (0, (1, 0));
            machine.medium.crash_at(u64::MAX);
        }
        for at in 0..MACHINES {
            // What a slow disk had still to do is done at the usual speed.
            if let Some(process) = &mut self.machines[at].process {
                process.disk_planned = false;
            }
            self.plan_disk(at);
        }
        let end = self.now + RECOVERY;
        let mut open: BTreeSet<u32> = (0..GROUPS).collect();
        let mut asked = Vec::new();
        while !open.is_empty() {
            if self.now >= end {
                return Err(format!("groups {open:?} take no writes").into());
            }
            asked.retain(|(call, id): &(u64, GroupId)| {
                let is_done = self.acknowledged_calls.contains(call);
                if is_done {
                    open.remove(&id.0);
                }
                !is_done && self.calls.contains_key(call)
            });
            for id in open.iter().copied().map(GroupId) {
                if !asked.iter().any(|(_, of)| *of == id)
                    && let Some(at) = self.leader(id)
                {
                    let key = u64::MAX / 2 + self.last_call;
                    let call = self.ask(None, at, id, key, Some(Wish::Put));
                    self.watched_calls.insert(call);
                    asked.push((call, id));
                }
            }
            let until = self.now + SECOND / 10;
            while self.next(until)? {}
        }
        self.settle()
    }

    /// All members get to the same state, and then everybody sleeps.
    fn settle(&mut self) -> Result<(), Broken> {
        let end = self.now + REST;
        loop {
            let until = self.now + SECOND / 4;
            while self.next(until)? {}
            self.retire_strays();
            let behind = self.behind();
            let awake: usize = self.running().map(|process| process.groups.awake()).sum();
            if behind.is_none() && awake == 0 {
                break;
            }
            if self.now >= end {
                return Err(behind
                    .unwrap_or_else(|| format!("{awake} members do not fall asleep: {}", self.who_is_awake()))
                    .into());
            }
        }
        for id in (0..GROUPS).map(GroupId) {
            let stores: Vec<_> = (0..MACHINES).filter_map(|at| self.store(at, id)).collect();
            for pair in stores.windows(2) {
                if (pair[0].applied, &pair[0].keys) != (pair[1].applied, &pair[1].keys) {
                    return Err(format!("group {id}: two members have applied the same and hold something else").into());
                }
            }
        }
        Ok(())
    }

    /// Whoever places groups tells machines that have missed their removal.
    fn retire_strays(&mut self) {
        for id in (0..GROUPS).map(GroupId) {
            let of = |at: usize| self.machines[at].process.as_ref().and_then(|process| process.groups.get(id));
            // Who has applied all of its log, an entry of its own term at the end, knows the present configuration.
            let knows = |group: &&Group| group.applied() == group.last_index();
            let leader = self.leader(id).and_then(of).filter(knows);
            let Some(conf) = leader.map(|group| group.conf().clone()) else { continue };
            let is_stray = |at: &usize| of(*at).is_some() && !conf.is_joint() && !conf.contains(id_of(*at));
            let strays: Vec<usize> = (0..MACHINES).filter(is_stray).collect();
            // A newcomer is none: it is in the leader's configuration before it is spoken to.
            strays.into_iter().for_each(|at| self.retire(at, id));
        }
    }

    /// A member that has not got what was acknowledged.
    fn behind(&self) -> Option<String> {
        for id in (0..GROUPS).map(GroupId) {
            let acknowledged = self.acknowledged.get(&id).copied().unwrap_or(0);
            let Some(leader) = self.leader(id) else { return Some(format!("group {id} has no leader")) };
            let conf = self.machines[leader].process.as_ref()?.groups.get(id)?.conf();
            let mut applied = BTreeSet::new();
            for member in conf.members() {
                let at = super::machine::at_of(member);
                let Some(store) = self.store(at, id) else { return Some(format!("group {id} is not on machine {at}")) };
                if store.applied.index < acknowledged {
                    let seen = format!("{}; {}", self.status(at, id), self.status(leader, id));
                    return Some(format!("group {id}: machine {at} has not got entry {acknowledged}; {seen}"));
                }
                applied.insert((store.applied.index, store.applied.term));
            }
            if applied.len() != 1 || conf.is_joint() {
                return Some(format!("group {id}: members have applied {applied:?}"));
            }
        }
        None
    }

    /// What a machine knows of a group.
    fn status(&self, at: usize, id: GroupId) -> String {
        let process = self.machines[at].process.as_ref();
        let group = process.and_then(|process| process.groups.get(id));
        let is_asleep = process.is_some_and(|process| process.groups.is_asleep(id));
        format!("machine {at}, asleep {is_asleep}: {:?}", group.map(Group::status))
    }

    fn who_is_awake(&self) -> String {
        let mut names = Vec::new();
        for at in 0..MACHINES {
            let Some(process) = &self.machines[at].process else { continue };
            for id in process.groups.ids().filter(|id| !process.groups.is_asleep(*id)) {
                let status = process.groups.get(id).map(|group| (group.role(), group.term(), group.last_index()));
                names.push(format!("group {id} on {at} {status:?}"));
            }
        }
        names.join(", ")
    }
}
