//! Who is alive: one sign of life for each pair of machines and heartbeat, whatever the number of groups between them.
//!
//! It is directed, and by life: a sign names the life (the run of the process) of its sender, and the life of the receiver
//! that the sender hears. So a machine knows of each other one whether it hears it, whether it is heard, and whether the
//! other has started anew, and forgotten what it led. Only silence is judged, by ticks: nothing here makes anything safe, it
//! only decides when groups wake and who may lead them, and so none of it has to survive a crash. (CockroachDB's store liveness
//! is the model; there support is stored, since leases for reads rest on it.)
//!
//! Invariant: the machines with a member of a group here are known, in the order of their ids; another one only as long as
//! something waits to be sent there.

use super::parcel::{Asleep, Sign};
use crate::message::PeerMessage;
use crate::types::MemberId;

/// What has changed about a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has not been heard from for an election time.
    Silent,
    /// It is heard, and hears nothing of this one any more.
    Deaf,
    /// It has started anew.
    Reborn,
}

pub(super) struct Machine {
    pub(super) id: MemberId,
    /// Groups here that have a member there, as far as is known here.
    pub(super) groups: usize,
    /// Ticks since it was heard from, and since it was last given a sign of life.
    silent: u64,
    untold: u64,
    /// Its life; zero before it was heard from.
    life: u64,
    /// Its last sign said that it hears this machine's life.
    hears: bool,
    /// Groups that it leads, by its last sign, and what was handed to it since.
    pub(super) leads: u32,
    /// What goes with the next parcels.
    pub(super) outgoing: Vec<PeerMessage>,
    pub(super) outgoing_bytes: usize,
    pub(super) asleep: Vec<Asleep>,
}

pub(super) struct Machines {
    /// The life of this one.
    life: u64,
    election_ticks: u64,
    heartbeat_ticks: u64,
    others: Vec<Machine>,
}

impl Machines {
    pub(super) fn new(life: u64, election_ticks: u64, heartbeat_ticks: u64) -> Machines {
        Machines { life, election_ticks, heartbeat_ticks, others: Vec::new() }
    }

    /// A group here has a member there. A newcomer counts as dead until it is heard from.
    pub(super) fn add(&mut self, id: MemberId) {
        self.visit(id).groups += 1;
    }

    /// The machine, also if no group here is known to have a member there: one that is new to its group answers the leader
    /// before it knows the configuration, and one that was away answers those it has not heard of.
    pub(super) fn visit(&mut self, id: MemberId) -> &mut Machine {
        match self.place(id) {
            Ok(at) => &mut self.others[at],
            Err(at) => {
                let machine = Machine {
                    id,
                    groups: 0,
                    silent: self.election_ticks,
                    untold: self.heartbeat_ticks,
                    life: 0,
                    hears: false,
                    leads: 0,
                    outgoing: Vec::new(),
                    outgoing_bytes: 0,
                    asleep: Vec::new(),
                };
                self.others.insert(at, machine);
                &mut self.others[at]
            }
        }
    }

    /// A group here has no member there any more. It is forgotten with the next parcels.
    pub(super) fn remove(&mut self, id: MemberId) {
        if let Ok(at) = self.place(id) {
            let groups = &mut self.others[at].groups;
            *groups = groups.checked_sub(1).expect("a group that goes was counted");
        }
    }

    /// Nothing waits for the machine at this place; whether it is forgotten, as no group here has a member there.
    pub(super) fn forget_stranger(&mut self, at: usize) -> bool {
        let is_stranger = self.others[at].groups == 0;
        if is_stranger {
            self.others.remove(at);
        }
        is_stranger
    }

    fn place(&self, id: MemberId) -> Result<usize, usize> {
        self.others.binary_search_by_key(&id, |machine| machine.id)
    }

    pub(super) fn all(&mut self) -> &mut [Machine] {
        &mut self.others
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&Machine> {
        self.place(id).ok().map(|at| &self.others[at])
    }

    pub(super) fn get_mut(&mut self, id: MemberId) -> Option<&mut Machine> {
        self.place(id).ok().map(|at| &mut self.others[at])
    }

    /// A sign of life came, or nothing worth telling.
    pub(super) fn heard(&mut self, from: MemberId, sign: Sign) -> Option<News> {
        let own = self.life;
        let election = self.election_ticks;
        let machine = self.get_mut(from)?;
        let is_reborn = machine.life != 0 && machine.life != sign.life;
        let was_mutual = machine.silent < election && machine.hears;
        (machine.silent, machine.life) = (0, sign.life);
        (machine.hears, machine.leads) = (sign.hears == own, sign.leads);
        match (is_reborn, was_mutual && !machine.hears) {
            (true, _) => Some(News::Reborn),
            (false, true) => Some(News::Deaf),
            (false, false) => None,
        }
    }

    /// Whether it was heard from within an election time.
    pub(super) fn is_alive(&self, id: MemberId) -> bool {
        self.get(id).is_some_and(|machine| machine.silent < self.election_ticks)
    }

    /// Whether it is heard, and hears this one in its present life.
    pub(super) fn is_mutual(&self, id: MemberId) -> bool {
        self.get(id).is_some_and(|machine| machine.silent < self.election_ticks && machine.hears)
    }

    /// The sign of life that is due to the machine at this place, if one is.
    pub(super) fn sign(&mut self, at: usize, leads: u32) -> Option<Sign> {
        let (life, election) = (self.life, self.election_ticks);
        let machine = &mut self.others[at];
        if machine.untold < self.heartbeat_ticks {
            return None;
        }
        machine.untold = 0;
        let hears = if machine.silent < election { machine.life } else { 0 };
        Some(Sign { life, hears, leads })
    }

    /// Time passes; who has fallen silent by it.
    pub(super) fn tick(&mut self, silent: &mut Vec<MemberId>) {
        for machine in &mut self.others {
            machine.untold += 1;
            machine.silent = machine.silent.saturating_add(1);
            if machine.silent == self.election_ticks {
                silent.push(machine.id);
            }
        }
    }
}
