//! Who is alive: one sign of life for each pair of machines and heartbeat, whatever the number of groups between them.
//!
//! Directed, so that a machine that can speak and not hear is judged by each of the others for itself. Only silence is
//! judged, by ticks: nothing here makes anything safe, it only decides when groups wake.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::MemberId;

struct Machine {
    /// Ticks since it was heard from, and since it was last given a sign of life.
    silent: u64,
    untold: u64,
}

pub(super) struct Machines {
    election_ticks: u64,
    heartbeat_ticks: u64,
    others: BTreeMap<MemberId, Machine>,
}

impl Machines {
    pub(super) fn new(election_ticks: u64, heartbeat_ticks: u64) -> Machines {
        Machines { election_ticks, heartbeat_ticks, others: BTreeMap::new() }
    }

    /// The machines that matter. A newcomer counts as dead until it is heard from.
    pub(super) fn follow(&mut self, all: &BTreeSet<MemberId>) {
        self.others.retain(|id, _| all.contains(id));
        for id in all {
            let (silent, untold) = (self.election_ticks, self.heartbeat_ticks);
            self.others.entry(*id).or_insert(Machine { silent, untold });
        }
    }

    pub(super) fn all(&self) -> Vec<MemberId> {
        self.others.keys().copied().collect()
    }

    pub(super) fn heard(&mut self, from: MemberId) {
        if let Some(machine) = self.others.get_mut(&from) {
            machine.silent = 0;
        }
    }

    pub(super) fn is_alive(&self, id: MemberId) -> bool {
        self.others.get(&id).is_some_and(|machine| machine.silent < self.election_ticks)
    }

    /// Whether a sign of life is due.
    pub(super) fn is_due(&self, to: MemberId) -> bool {
        self.others.get(&to).is_some_and(|machine| machine.untold >= self.heartbeat_ticks)
    }

    pub(super) fn spoken(&mut self, to: MemberId, alive: bool) {
        if let Some(machine) = self.others.get_mut(&to).filter(|_| alive) {
            machine.untold = 0;
        }
    }

    /// Time passes; who has fallen silent by it.
    pub(super) fn tick(&mut self) -> Vec<MemberId> {
        let mut silent = Vec::new();
        for (id, machine) in &mut self.others {
            machine.untold += 1;
            machine.silent = machine.silent.saturating_add(1);
            if machine.silent == self.election_ticks {
                silent.push(*id);
            }
        }
        silent
    }
}
