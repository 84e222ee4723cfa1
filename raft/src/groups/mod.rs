//! Many groups on one machine: they share its log, its connections and its notion of who is alive.
//!
//! A [`Groups`] holds the groups of a machine, each a [`Group`] with members of its own choice among the machines (a member
//! id names a machine, in all groups). The shell drives it as it drives one group:
//! - [`Groups::ready`] hands out work of one group after another; the records of all go to one log, in that order, and one flush
//!   covers many groups. [`Groups::on_persisted`] and the rest name the group.
//! - Messages that may leave are given to [`Groups::send`]; [`Groups::parcels`] hands out, for each machine, all of them in one
//!   parcel, with what the machines have to say to each other. One connection for each pair of machines carries them.
//! - [`Groups::tick`] is time for all.
//! - After a restart [`GroupsRecovery`] reads the shared log, and damage to one group's records refuses that group alone.
//!
//! *Asleep.* A group in which nothing happens costs nothing: no tick, no heartbeat. Its leader puts it to sleep when every
//! member has everything, and says so with the next parcel; a follower sleeps when it has the same term, leader and
//! committed log. From then on the liveness of the machines stands for the leader's heartbeats (`machines.rs`):
//! - *Every input wakes*: all of them pass [`Groups::wake`]. A proposal to a sleeping follower wakes the leader by its message.
//! - *A leader sleeps only when all members are known to have its whole log, committed and applied here*, also learners, and no
//!   configuration change, transfer or read is under way: nobody is left behind asleep. A member that is away keeps its
//!   groups awake.
//! - *A follower sleeps only when it was told so by the leader of its term, for the commit index that it has*: not after a
//!   restart before it has caught up.
//! - *When a machine falls silent* the groups that its members lead wake on the others, without the loyalty that they had for
//!   a leader they heard from: they campaign after their draw. Only they wake.
//! - *A leader wakes when any member's machine falls silent*, to check its quorum; it sleeps again when all are back.
//! - *A machine with a stuck disk is silent*: a flush that takes longer than an election time stops its parcels' sign of
//!   life, so it loses the leaderships of the groups that sleep; those awake hand over by themselves.
//!
//! None of it touches what is safe: sleep keeps time from a group, and Raft is safe whatever clocks do.

mod machines;
mod recovery;

use std::collections::{BTreeMap, BTreeSet};

use machines::Machines;
pub use recovery::{GroupsRecovery, RecoveredGroups};

use crate::GroupId;
use crate::conf::ConfState;
use crate::error::{ApplyConfError, ProposeError, StepError, TransferError};
use crate::group::Group;
use crate::message::{PeerBody, PeerMessage};
use crate::ready::Ready;
use crate::types::{Entry, MemberId, Role};

/// How a group lies that its leader has put to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    /// Which.
    pub group: GroupId,
    /// In which term the sender leads it.
    pub term: u64,
    /// All of its log, committed.
    pub commit: u64,
}

/// What one machine sends to another at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The sender.
    pub from: MemberId,
    /// The receiver.
    pub to: MemberId,
    /// It is a sign of life: the sender's disk works.
    pub alive: bool,
    /// Groups that the sender has just put to sleep.
    pub asleep: Vec<Asleep>,
    /// Messages of any groups, in order.
    pub messages: Vec<PeerMessage>,
}

struct Slot {
    group: Group,
    is_asleep: bool,
    /// Ticks since something happened.
    idle: usize,
}

/// The groups of a machine. See the module.
pub struct Groups {
    own: MemberId,
    election_ticks: usize,
    slots: BTreeMap<GroupId, Slot>,
    awake: BTreeSet<GroupId>,
    /// Groups that may have work to hand out.
    busy: BTreeSet<GroupId>,
    /// By sleeping group: who leads it.
    sleepers: BTreeMap<GroupId, MemberId>,
    machines: Machines,
    outgoing: BTreeMap<MemberId, Vec<PeerMessage>>,
    falling_asleep: BTreeMap<MemberId, Vec<Asleep>>,
}

impl Groups {
    /// No groups yet. Times are those of the groups' configurations.
    ///
    /// # Panics
    /// If elections do not take more ticks than heartbeats, and those at least one.
    pub fn new(own: MemberId, election_ticks: usize, heartbeat_ticks: usize) -> Groups {
        assert!(0 < heartbeat_ticks && heartbeat_ticks < election_ticks, "elections take longer than heartbeats");
        Groups {
            own,
            election_ticks,
            slots: BTreeMap::new(),
            awake: BTreeSet::new(),
            busy: BTreeSet::new(),
            sleepers: BTreeMap::new(),
            machines: Machines::new(election_ticks as u64, heartbeat_ticks as u64),
            outgoing: BTreeMap::new(),
            falling_asleep: BTreeMap::new(),
        }
    }

    /// A group begins here, awake.
    pub fn add(&mut self, id: GroupId, group: Group) {
        self.slots.insert(id, Slot { group, is_asleep: false, idle: 0 });
        self.awake.insert(id);
        self.busy.insert(id);
        self.follow_machines();
    }

    /// A group ends here.
    pub fn remove(&mut self, id: GroupId) -> Option<Group> {
        self.awake.remove(&id);
        self.busy.remove(&id);
        self.sleepers.remove(&id);
        let slot = self.slots.remove(&id);
        self.follow_machines();
        slot.map(|slot| slot.group)
    }

    /// A group, to look at.
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.slots.get(&id).map(|slot| &slot.group)
    }

    /// Whether a group sleeps.
    pub fn is_asleep(&self, id: GroupId) -> bool {
        self.slots.get(&id).is_some_and(|slot| slot.is_asleep)
    }

    /// All groups here.
    pub fn ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.slots.keys().copied()
    }

    /// Whether a sign of life of that machine has come within an election time.
    pub fn is_alive(&self, machine: MemberId) -> bool {
        machine == self.own || self.machines.is_alive(machine)
    }

    /// The way of every input to a group: it is awake then, and may have work.
    fn wake(&mut self, id: GroupId) -> Option<&mut Group> {
        let slot = self.slots.get_mut(&id)?;
        (slot.is_asleep, slot.idle) = (false, 0);
        self.sleepers.remove(&id);
        self.awake.insert(id);
        self.busy.insert(id);
        Some(&mut slot.group)
    }

    /// Proposes a batch to a group.
    pub fn propose(&mut self, id: GroupId, payload: bytes::Bytes) -> Result<(), ProposeError> {
        self.wake(id).ok_or(ProposeError::Removed)?.propose(payload)
    }

    /// Proposes a configuration change to a group.
    pub fn propose_conf_change(&mut self, id: GroupId, change: &crate::ConfChange) -> Result<(), ProposeError> {
        self.wake(id).ok_or(ProposeError::Removed)?.propose_conf_change(change)
    }

    /// Asks for a linearizable read of a group.
    pub fn read_index(&mut self, id: GroupId, token: u64) {
        if let Some(group) = self.wake(id) {
            group.read_index(token);
        }
    }

    /// Hands the leadership of a group over.
    pub fn transfer_leader(&mut self, id: GroupId, target: MemberId) -> Result<(), TransferError> {
        self.wake(id).ok_or(TransferError::NotLeader)?.transfer_leader(target)
    }

    /// Any other input of [`Group`].
    pub fn with<T>(&mut self, id: GroupId, input: impl FnOnce(&mut Group) -> T) -> Option<T> {
        self.wake(id).map(input)
    }

    /// Everything of a group up to this `Ready` is durable. Not news for it, so that it does not wake.
    pub fn on_persisted(&mut self, id: GroupId, number: u64) {
        self.tell(id, |group| group.on_persisted(number));
    }

    /// Everything of a group up to `index` is applied.
    pub fn on_applied(&mut self, id: GroupId, index: u64) {
        self.tell(id, |group| group.on_applied(index));
    }

    /// Applies a configuration change of a group, see [`Group::apply_conf_change`].
    pub fn apply_conf_change(&mut self, id: GroupId, entry: &Entry) -> Option<Result<ConfState, ApplyConfError>> {
        let result = self.wake(id).map(|group| group.apply_conf_change(entry));
        self.follow_machines();
        result
    }

    fn tell(&mut self, id: GroupId, what: impl FnOnce(&mut Group)) {
        if let Some(slot) = self.slots.get_mut(&id) {
            what(&mut slot.group);
            self.busy.insert(id);
        }
    }

    /// The next work of some group, if there is any.
    pub fn ready(&mut self) -> Option<(GroupId, Ready)> {
        while let Some(id) = self.busy.first().copied() {
            if let Some(ready) = self.slots.get_mut(&id).and_then(|slot| slot.group.ready()) {
                return Some((id, ready));
            }
            self.busy.remove(&id);
        }
        None
    }

    /// A message may leave: it goes with the next parcel to its machine.
    pub fn send(&mut self, message: PeerMessage) {
        self.outgoing.entry(message.to).or_default().push(message);
    }

    /// What goes to the other machines now: all messages, and signs of life when they are due.
    pub fn parcels(&mut self) -> Vec<Parcel> {
        let is_stuck = self.is_disk_stuck();
        let mut parcels = Vec::new();
        for to in self.machines.all() {
            let messages = self.outgoing.remove(&to).unwrap_or_default();
            let asleep = self.falling_asleep.remove(&to).unwrap_or_default();
            let alive = !is_stuck && self.machines.is_due(to);
            if alive || !messages.is_empty() || !asleep.is_empty() {
                self.machines.spoken(to, alive);
                parcels.push(Parcel { from: self.own, to, alive, asleep, messages });
            }
        }
        self.outgoing.clear(); // To machines that no group knows any more.
        self.falling_asleep.clear();
        parcels
    }

    /// A flush that takes longer than an election time: this machine should lead nothing.
    fn is_disk_stuck(&self) -> bool {
        self.awake.iter().any(|id| self.slots[id].group.is_stalled())
    }

    /// A parcel arrived. Messages that do not fit are dropped and told, each with its group.
    pub fn receive(&mut self, parcel: Parcel) -> Vec<(GroupId, StepError)> {
        if parcel.alive {
            self.machines.heard(parcel.from);
        }
        let mut errors = Vec::new();
        for message in parcel.messages {
            let id = message.group;
            let is_news = !self.is_echo(&message);
            let group = if is_news { self.wake(id) } else { self.slots.get_mut(&id).map(|slot| &mut slot.group) };
            match group.map(|group| group.step(message)) {
                Some(Err(error)) => errors.push((id, error)),
                Some(Ok(())) => drop(self.busy.insert(id)),
                None => {}
            }
        }
        for asleep in parcel.asleep {
            self.follow_to_sleep(parcel.from, asleep);
        }
        errors
    }

    /// What a group that is at rest says and hears all the time: it tells nothing, wakes nobody and keeps nobody awake.
    fn is_echo(&self, message: &PeerMessage) -> bool {
        let Some(slot) = self.slots.get(&message.group) else { return false };
        message.term == slot.group.term()
            && match &message.body {
                PeerBody::HeartbeatResponse { round: None, .. } => true,
                PeerBody::AppendResponse { index, reject: None, .. } => *index <= slot.group.commit(),
                PeerBody::Heartbeat { round: None, commit } => *commit <= slot.group.commit(),
                _ => false,
            }
    }

    /// The leader says that a group sleeps.
    fn follow_to_sleep(&mut self, from: MemberId, asleep: Asleep) {
        let Some(slot) = self.slots.get_mut(&asleep.group) else { return };
        let group = &slot.group;
        let is_level = group.commit() == asleep.commit && group.last_index() == asleep.commit;
        if group.leader() == Some(from)
            && group.role() == Role::Follower
            && group.term() == asleep.term
            && is_level
            && group.is_at_rest()
        {
            slot.is_asleep = true;
            self.awake.remove(&asleep.group);
            self.sleepers.insert(asleep.group, from);
        }
    }

    /// Time passes: for the machines, and for the groups that are awake.
    pub fn tick(&mut self) {
        for silent in self.machines.tick() {
            self.wake_for(silent);
        }
        for id in self.awake.iter().copied().collect::<Vec<_>>() {
            if !self.fell_asleep(id) {
                let slot = self.slots.get_mut(&id).expect("who is awake is here");
                slot.group.tick();
                slot.idle += 1;
                self.busy.insert(id);
            }
        }
    }

    /// A machine has fallen silent: groups that it leads, and those led here that it is a member of.
    fn wake_for(&mut self, silent: MemberId) {
        let own = self.own;
        let is_concerned = |(id, leader): (&GroupId, &MemberId)| {
            let is_member = || self.slots[id].group.conf().contains(silent);
            (*leader == silent || (*leader == own && is_member())).then_some(*id)
        };
        let concerned: Vec<GroupId> = self.sleepers.iter().filter_map(is_concerned).collect();
        for id in concerned {
            if let Some(group) = self.wake(id) {
                group.report_gone(silent);
            }
        }
    }

    /// A leader whose group has nothing to do and nobody behind lets it sleep.
    fn fell_asleep(&mut self, id: GroupId) -> bool {
        let slot = self.slots.get_mut(&id).expect("who is awake is here");
        let group = &slot.group;
        let members = group.conf().members();
        let own = self.own;
        let all_alive = || members.iter().all(|member| *member == own || self.machines.is_alive(*member));
        if slot.idle <= self.election_ticks || !group.is_level() || !all_alive() {
            return false;
        }
        let asleep = Asleep { group: id, term: group.term(), commit: group.commit() };
        slot.is_asleep = true;
        self.awake.remove(&id);
        self.sleepers.insert(id, own);
        for member in members.into_iter().filter(|member| *member != own) {
            self.falling_asleep.entry(member).or_default().push(asleep);
        }
        true
    }

    /// The other machines are those of all groups' members.
    fn follow_machines(&mut self) {
        let of = |slot: &Slot| slot.group.conf().members();
        let mut all: BTreeSet<MemberId> = self.slots.values().flat_map(of).collect();
        all.remove(&self.own);
        self.machines.follow(&all);
    }
}
