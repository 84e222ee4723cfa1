//! Leaders are spread over the machines, and can be pinned to one.
//!
//! - Each sign of life says how many groups its sender leads. A machine that leads at least two more than another hands it one of
//!   those that the other votes in, the machine with the fewest first; at most one in an interval, so that after a restart
//!   they do not all move at once. Each handover makes the difference smaller, so it comes to an end.
//! - A group that is pinned goes to its machine when that is there, one in an interval as well, and is not moved otherwise.
//! - Only groups whose members are level move, at once and without a gap; those that are asleep wake for it.

use super::Groups;
use crate::GroupId;
use crate::types::MemberId;

pub(super) struct Spread {
    /// Ticks between two handovers; zero for none.
    interval: u64,
    elapsed: u64,
}

impl Spread {
    pub(super) fn new(interval: u64) -> Spread {
        Spread { interval, elapsed: 0 }
    }
}

impl Groups {
    /// How many groups are led here.
    pub fn led(&self) -> usize {
        self.slots.led() as usize
    }

    /// Ticks between two handovers that spread leaders; zero turns them off. At first it is an election time.
    pub fn set_spread_interval(&mut self, ticks: usize) {
        self.spread = Spread::new(ticks as u64);
    }

    /// Who should lead a group, whenever it can; nobody in particular at first. To be told to every member of the group.
    pub fn pin_leader(&mut self, id: GroupId, leader: Option<MemberId>) {
        if let Some(place) = self.slots.place(id) {
            self.slots.slot(place).pinned = leader;
        }
    }

    pub(super) fn spread_leaders(&mut self) {
        self.spread.elapsed += 1;
        if self.spread.interval == 0 || self.spread.elapsed < self.spread.interval || self.disk.is_stuck() {
            return;
        }
        self.spread.elapsed = 0;
        if let Some((place, target)) = self.away_from_pin().or_else(|| self.for_the_idlest()) {
            self.slots.wake(place);
            // It votes, and it is another member: it is not refused.
            let moved = self.tell(place, |group| group.transfer_leader(target));
            if moved.is_ok()
                && let Some(machine) = self.machines.get_mut(target)
            {
                machine.leads += 1; // Until it says so itself.
            }
        }
    }

    /// A group led here that should be led elsewhere.
    fn away_from_pin(&self) -> Option<(usize, MemberId)> {
        self.slots.places().find_map(|place| {
            let target = self.slots.at(place)?.pinned?;
            (target != self.own && self.can_move(place, target)).then_some((place, target))
        })
    }

    /// A group for the machine that leads the fewest, if those are fewer by two.
    fn for_the_idlest(&mut self) -> Option<(usize, MemberId)> {
        let led = self.slots.led();
        let mut tried = None;
        loop {
            let key = |machine: &super::machines::Machine| (machine.leads, machine.id);
            let next = self.machines.all().iter().map(key).filter(|key| Some(*key) > tried).min()?;
            if next.0 + 2 > led {
                return None;
            }
            let target = next.1;
            let is_free = |place: &usize| self.slots.at(*place).is_some_and(|slot| slot.pinned.is_none());
            if let Some(place) = self.slots.places().filter(is_free).find(|place| self.can_move(*place, target)) {
                return Some((place, target));
            }
            tried = Some(next);
        }
    }

    fn can_move(&self, place: usize, target: MemberId) -> bool {
        self.slots.at(place).is_some_and(|slot| {
            slot.leads()
                && slot.group.conf().voters.contains(&target.0)
                && slot.group.is_level()
                && self.machines.is_mutual(target)
        })
    }
}
