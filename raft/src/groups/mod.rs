//! Many groups on one machine: they share its log, its connections and its notion of who is alive.
//!
//! A [`Groups`] holds the groups of a machine, each a [`Group`] with members of its own choice among the machines (a member
//! id names a machine, in all groups). The shell drives it as it drives one group:
//! - [`Groups::ready`] hands out work of one group after another; the records of all go to one log, in that order, and one flush
//!   covers many groups. [`Groups::on_persisted`] and the rest name the group. [`Groups::recycle`] takes back what was done.
//! - Messages that may leave are given to [`Groups::send`]; [`Groups::parcel`] hands out, for each machine, all of them in one
//!   [`Parcel`], with what the machines have to say to each other. One connection for each pair of machines carries them.
//! - [`Groups::tick`] is time for all.
//! - After a restart [`GroupsRecovery`] reads the shared log, and damage to one group's records refuses that group alone.
//!   [`LogSpace`] says which records are still needed, and which group holds the log back.
//!
//! *Asleep* (`sleep.rs`): a group in which nothing happens costs nothing, no tick and no heartbeat. *Alive* (`machines.rs`):
//! machines give each other signs of life, whatever the number of groups. *The disk* (`disk.rs`): one that is stuck costs
//! the machine all it leads. *Leaders* (`leaders.rs`) are spread over the machines, pinned and moved.
//!
//! None of it touches what is safe: sleep keeps time from a group, a handover is Raft's own, and Raft is safe whatever
//! clocks do.
//!
//! Nothing is allocated for a message once a machine has been at work for a while (`spares.rs`, `tests/allocations.rs`).

mod disk;
mod leaders;
mod machines;
mod parcel;
mod recovery;
mod sleep;
mod slots;
mod space;
mod spares;

use bytes::Bytes;

use disk::DiskWatch;
use leaders::Spread;
use machines::Machines;
pub use parcel::{Asleep, PARCEL_VERSION, Parcel, Sign};
pub use recovery::{GroupsRecovery, RecoveredGroups, RefusedGroup};
use slots::Slots;
pub use space::{Holder, LogSpace, Need};
use spares::Spares;

use crate::GroupId;
use crate::conf::{ConfChange, ConfState};
use crate::error::{ApplyConfError, MessageError, ProposeError, StepError, TransferError};
use crate::group::Group;
use crate::limits::{
    OUTGOING_BYTES_MAX, PARCEL_ASLEEP_MAX, PARCEL_BYTES_SOFT, PARCEL_HEAD_BYTES_MAX, PARCEL_MESSAGES_MAX,
};
use crate::message::PeerMessage;
use crate::ready::Ready;
use crate::types::{Entry, MemberId};

/// Why a message of a parcel had no effect.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The group is not here. If its members say otherwise, the machine has yet to be given it.
    Unknown,
    /// What [`Group::step`] says. [`StepError::LogLost`] cannot be ignored.
    Step(StepError),
}

/// The groups of a machine. See the module.
pub struct Groups {
    own: MemberId,
    election_ticks: usize,
    slots: Slots,
    machines: Machines,
    disk: DiskWatch,
    spread: Spread,
    spares: Spares,
    /// The next machine to hand a parcel out for.
    next_parcel: usize,
    /// Machines that fell silent in this tick.
    silent: Vec<MemberId>,
}

impl Groups {
    /// No groups yet. `life` is not zero, and another one each time the process starts. Times are those of the groups'
    /// configurations.
    ///
    /// # Panics
    /// If `life` is zero, or elections do not take more ticks than heartbeats, and those at least one.
    pub fn new(own: MemberId, life: u64, election_ticks: usize, heartbeat_ticks: usize) -> Groups {
        assert!(life != 0, "a life has a number");
        assert!(0 < heartbeat_ticks && heartbeat_ticks < election_ticks, "elections take longer than heartbeats");
        Groups {
            own,
            election_ticks,
            slots: Slots::default(),
            machines: Machines::new(life, election_ticks as u64, heartbeat_ticks as u64),
            disk: DiskWatch::new(election_ticks as u64),
            spread: Spread::new(election_ticks as u64),
            spares: Spares::default(),
            next_parcel: 0,
            silent: Vec::new(),
        }
    }

    /// A group begins here, awake.
    ///
    /// # Panics
    /// If one of this id is here.
    pub fn add(&mut self, id: GroupId, mut group: Group) {
        group.save_heartbeats();
        let place = self.slots.add(id, group);
        self.follow_members(place);
    }

    /// A group ends here.
    pub fn remove(&mut self, id: GroupId) -> Option<Group> {
        let slot = self.slots.remove(id)?;
        slot.members.iter().for_each(|member| self.machines.remove(*member));
        Some(slot.group)
    }

    /// A group, to look at.
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.slots.at(self.slots.place(id)?).map(|slot| &slot.group)
    }

    /// Whether a group sleeps.
    pub fn is_asleep(&self, id: GroupId) -> bool {
        self.slots.place(id).and_then(|place| self.slots.at(place)).is_some_and(slots::Slot::is_asleep)
    }

    /// How many groups are awake.
    pub fn awake(&self) -> usize {
        self.slots.awake()
    }

    /// All groups here.
    pub fn ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.slots.ids()
    }

    /// Whether a sign of life of that machine has come within an election time: the answer also for groups that sleep, whose
    /// members say nothing.
    pub fn is_alive(&self, machine: MemberId) -> bool {
        machine == self.own || self.machines.is_alive(machine)
    }

    /// Proposes a batch to a group.
    pub fn propose(&mut self, id: GroupId, payload: Bytes) -> Result<(), ProposeError> {
        self.with(id, |group| group.propose(payload)).ok_or(ProposeError::Removed)?
    }

    /// Proposes a configuration change to a group.
    pub fn propose_conf_change(&mut self, id: GroupId, change: &ConfChange) -> Result<(), ProposeError> {
        self.with(id, |group| group.propose_conf_change(change)).ok_or(ProposeError::Removed)?
    }

    /// Asks for a linearizable read of a group.
    pub fn read_index(&mut self, id: GroupId, token: u64) {
        self.with(id, |group| group.read_index(token));
    }

    /// Hands the leadership of a group over.
    pub fn transfer_leader(&mut self, id: GroupId, target: MemberId) -> Result<(), TransferError> {
        self.with(id, |group| group.transfer_leader(target)).ok_or(TransferError::NotLeader)?
    }

    /// Any input of [`Group`]: it is awake then, and may have work. Every input passes here, but for echoes
    /// ([`Groups::receive`]) and what the disk and the store have to say.
    pub fn with<T>(&mut self, id: GroupId, input: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let place = self.slots.place(id)?;
        self.slots.wake(place);
        Some(self.tell(place, input))
    }

    /// Everything of a group up to this `Ready` is durable. Not news for it, so that it does not wake.
    pub fn on_persisted(&mut self, id: GroupId, number: u64) {
        self.disk.answered();
        if let Some(place) = self.slots.place(id) {
            self.tell(place, |group| group.on_persisted(number));
        }
    }

    /// Everything of a group up to `index` is applied.
    pub fn on_applied(&mut self, id: GroupId, index: u64) {
        if let Some(place) = self.slots.place(id) {
            self.tell(place, |group| group.on_applied(index));
        }
    }

    /// Applies a configuration change of a group, see [`Group::apply_conf_change`].
    pub fn apply_conf_change(&mut self, id: GroupId, entry: &Entry) -> Option<Result<ConfState, ApplyConfError>> {
        self.with(id, |group| group.apply_conf_change(entry))
    }

    /// An input, with the machine's emptied buffers at hand.
    fn tell<T>(&mut self, place: usize, input: impl FnOnce(&mut Group) -> T) -> T {
        let group = &mut self.slots.slot(place).group;
        std::mem::swap(group.spare_entries(), &mut self.spares.entries);
        let result = input(group);
        std::mem::swap(group.spare_entries(), &mut self.spares.entries);
        self.slots.make_busy(place);
        self.follow_members(place);
        result
    }

    /// The other machines are those of all groups' members.
    fn follow_members(&mut self, place: usize) {
        let own = self.own;
        let slot = self.slots.slot(place);
        let version = slot.group.conf_version();
        if slot.conf_version == version {
            return;
        }
        slot.conf_version = version;
        let mut members = slot.group.conf().members();
        members.retain(|member| *member != own);
        members.iter().for_each(|member| self.machines.add(*member));
        slot.members.iter().for_each(|member| self.machines.remove(*member));
        slot.members = members;
    }

    /// The next work of some group, if there is any. Groups take turns.
    pub fn ready(&mut self) -> Option<(GroupId, Ready)> {
        while let Some(place) = self.slots.take_busy() {
            let mut ready = self.spares.ready();
            let slot = self.slots.slot(place);
            std::mem::swap(slot.group.spare_entries(), &mut self.spares.entries);
            let has_work = slot.group.ready_into(&mut ready);
            std::mem::swap(slot.group.spare_entries(), &mut self.spares.entries);
            let id = slot.id;
            if has_work {
                if let Some(change) = ready.role {
                    self.slots.set_leads(place, change.role == crate::types::Role::Leader);
                }
                self.slots.make_busy(place);
                return Some((id, ready));
            }
            self.spares.take_ready(ready);
        }
        None
    }

    /// A `Ready` was carried out; its buffers are used again.
    pub fn recycle(&mut self, ready: Ready) {
        self.spares.take_ready(ready);
    }

    /// A message may leave: it goes with the next parcel to its machine. If too much waits for that one already, it is dropped
    /// and its group told.
    pub fn send(&mut self, message: PeerMessage) {
        let bytes = parcel::head_bytes(&message) + message.entry_bytes();
        let machine = self.machines.visit(message.to);
        if machine.outgoing.is_empty() || machine.outgoing_bytes + bytes <= OUTGOING_BYTES_MAX {
            machine.outgoing_bytes += bytes;
            return machine.outgoing.push(message);
        }
        if let Some(place) = self.slots.place(message.group) {
            self.tell(place, |group| group.report_unreachable(message.to));
        }
        self.spares.take_message(message);
    }

    /// What goes to some other machine now: its messages, and a sign of life when one is due. Nothing when all that was to be
    /// sent is handed out.
    pub fn parcel(&mut self) -> Option<Parcel> {
        let leads = self.slots.led();
        while self.next_parcel < self.machines.all().len() {
            let at = self.next_parcel;
            let machine = &self.machines.all()[at];
            let is_idle = machine.outgoing.is_empty() && machine.asleep.is_empty();
            if is_idle && self.machines.forget_stranger(at) {
                continue;
            }
            let sign = if self.disk.is_stuck() { None } else { self.machines.sign(at, leads) };
            let machine = &mut self.machines.all()[at];
            if sign.is_none() && machine.outgoing.is_empty() && machine.asleep.is_empty() {
                self.next_parcel += 1;
                continue;
            }
            let mut parcel = Parcel { from: self.own, to: machine.id, sign, asleep: Vec::new(), messages: Vec::new() };
            if !machine.asleep.is_empty() {
                parcel.asleep = self.spares.asleep();
                let count = machine.asleep.len().min(PARCEL_ASLEEP_MAX);
                parcel.asleep.extend(machine.asleep.drain(..count));
            }
            if !machine.outgoing.is_empty() {
                parcel.messages = self.spares.messages();
                machine.pack(&mut parcel.messages);
            }
            return Some(parcel);
        }
        self.next_parcel = 0;
        None
    }

    /// A parcel was sent; its buffers are used again.
    pub fn recycle_parcel(&mut self, parcel: Parcel) {
        self.spares.take_parcel(parcel);
    }

    /// [`Parcel::decode`], into buffers that are there.
    pub fn decode(&mut self, frame: &Bytes) -> Result<Parcel, MessageError> {
        Parcel::decode_into(frame, &mut self.spares)
    }

    /// A parcel arrived. Messages that have no effect are told, each with its group.
    pub fn receive(&mut self, mut parcel: Parcel, mut refused: impl FnMut(GroupId, Refused)) {
        if parcel.to == self.own {
            if let Some(sign) = parcel.sign {
                self.hear(parcel.from, sign);
            }
            for message in parcel.messages.drain(..) {
                let id = message.group;
                match self.step(message) {
                    Ok(()) => {}
                    Err(why) => refused(id, why),
                }
            }
            for asleep in parcel.asleep.drain(..) {
                self.follow_to_sleep(parcel.from, asleep);
            }
        }
        self.spares.take_parcel(parcel);
    }

    fn step(&mut self, message: PeerMessage) -> Result<(), Refused> {
        let place = self.slots.place(message.group).ok_or(Refused::Unknown)?;
        if !self.is_echo(place, &message) {
            self.slots.wake(place);
        }
        self.tell(place, |group| group.step(message)).map_err(Refused::Step)
    }

    /// Time passes: for the machines, and for the groups that are awake.
    pub fn tick(&mut self) {
        let mut silent = std::mem::take(&mut self.silent);
        self.machines.tick(&mut silent);
        silent.drain(..).for_each(|machine| self.wake_for(machine, machines::News::Silent));
        self.silent = silent;
        let mut is_stalled = false;
        // From the end: who falls asleep is replaced by one that had its turn.
        for at in (0..self.slots.awake()).rev() {
            let place = self.slots.awake_at(at);
            if !self.fell_asleep(place) {
                let slot = self.slots.slot(place);
                slot.group.tick();
                slot.idle += 1;
                is_stalled |= slot.group.is_stalled();
                self.slots.make_busy(place);
            }
        }
        self.watch_disk(is_stalled);
        self.spread_leaders();
    }
}

impl machines::Machine {
    /// Moves as much of what waits as one parcel holds.
    fn pack(&mut self, into: &mut Vec<PeerMessage>) {
        let (mut head, mut entries, mut count) = (0, 0, 0);
        for message in self.outgoing.iter().take(PARCEL_MESSAGES_MAX) {
            let bytes = (parcel::head_bytes(message), message.entry_bytes());
            let is_full = entries + bytes.1 > PARCEL_BYTES_SOFT || head + bytes.0 > PARCEL_HEAD_BYTES_MAX / 4;
            if count > 0 && is_full {
                break;
            }
            (head, entries, count) = (head + bytes.0, entries + bytes.1, count + 1);
        }
        self.outgoing_bytes -= head + entries;
        into.extend(self.outgoing.drain(..count));
    }
}
