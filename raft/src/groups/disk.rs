//! Whether the machine's disk works: one that is stuck costs all leaderships of the machine.
//!
//! - *The disk is judged by real flushes*: one that takes longer than an election time says that it is stuck. When none is under
//!   way and none has ended for an election time, while a group that is awake is led here, a probe is asked for
//!   ([`Groups::probe_is_due`]): a leader's heartbeats would go on without a disk. Machines whose groups all sleep write nothing.
//! - *Stuck*, the machine gives no signs of life, so that nobody sleeps on under it, and hands over all that it leads, whether
//!   the group has something on its way to the disk or not; again after each election time, for what could not be
//!   handed over. It cannot win elections: its own vote would have to be durable.
//! - *Well again* when nothing is overdue any more.

use super::Groups;

pub(super) struct DiskWatch {
    election_ticks: u64,
    /// Ticks since something ended on the disk.
    quiet: u64,
    /// Ticks since a probe began that has not ended.
    probe: Option<u64>,
    /// Ticks for which it has been stuck.
    stuck: Option<u64>,
}

impl DiskWatch {
    pub(super) fn new(election_ticks: u64) -> DiskWatch {
        DiskWatch { election_ticks, quiet: 0, probe: None, stuck: None }
    }

    /// A flush has ended.
    pub(super) fn answered(&mut self) {
        self.quiet = 0;
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Time passes; whether all that is led here should be handed over now.
    fn tick(&mut self, is_stalled: bool) -> bool {
        self.quiet += 1;
        self.probe = self.probe.map(|ticks| ticks + 1);
        let is_stuck = is_stalled || self.probe.is_some_and(|ticks| ticks >= self.election_ticks);
        self.stuck = is_stuck.then(|| self.stuck.map_or(0, |ticks| ticks + 1));
        self.stuck.is_some_and(|ticks| ticks.is_multiple_of(self.election_ticks))
    }
}

impl Groups {
    /// Whether this machine's disk has not answered for an election time.
    pub fn is_disk_stuck(&self) -> bool {
        self.disk.is_stuck()
    }

    /// Whether the shell should write a record of its choice and flush it, only to see that the disk works: it calls
    /// [`Groups::probe_begun`] then, and [`Groups::probe_ended`] when the record is durable.
    pub fn probe_is_due(&self) -> bool {
        let leads = |at| self.slots.at(self.slots.awake_at(at)).is_some_and(super::slots::Slot::leads);
        self.disk.probe.is_none()
            && self.disk.quiet >= self.disk.election_ticks
            && !self.disk.is_stuck()
            && (0..self.slots.awake()).any(leads)
    }

    /// A probe is on its way to the disk.
    pub fn probe_begun(&mut self) {
        self.disk.probe = Some(0);
    }

    /// The probe is durable.
    pub fn probe_ended(&mut self) {
        self.disk.probe = None;
        self.disk.answered();
    }

    pub(super) fn watch_disk(&mut self, is_stalled: bool) {
        if !self.disk.tick(is_stalled) {
            return;
        }
        for place in self.slots.places() {
            if self.slots.at(place).is_some_and(super::slots::Slot::leads) {
                self.slots.wake(place);
                let machines = &self.machines;
                let slot = self.slots.slot(place);
                slot.group.leave_leadership(|member| machines.is_alive(member));
                self.slots.make_busy(place);
            }
        }
    }
}
