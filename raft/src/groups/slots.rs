//! The groups of a machine, and which of them are awake, have work, are led here.
//!
//! Invariants: a place stays a group's as long as the group is here; every awake group is in `awake` once, at the position
//! that it knows; a group is in `busy` at most once; `led` counts the groups that were last reported as led here. Lists
//! keep their memory, so that nothing is allocated while groups come and go in them.

use std::collections::{BTreeMap, VecDeque};

use crate::GroupId;
use crate::group::Group;
use crate::types::MemberId;

pub(super) struct Slot {
    pub(super) id: GroupId,
    pub(super) group: Group,
    /// Position among the awake; nothing if it sleeps.
    awake_at: Option<usize>,
    is_busy: bool,
    /// Ticks since something happened.
    pub(super) idle: usize,
    /// Who led it when it fell asleep.
    pub(super) under: Option<MemberId>,
    /// Whether it is counted as led here.
    leads: bool,
    /// Who should lead it, if somebody in particular.
    pub(super) pinned: Option<MemberId>,
    /// Members elsewhere, and the version of the configuration that they are of.
    pub(super) members: Vec<MemberId>,
    pub(super) conf_version: u64,
}

impl Slot {
    pub(super) fn is_asleep(&self) -> bool {
        self.awake_at.is_none()
    }

    pub(super) fn leads(&self) -> bool {
        self.leads
    }
}

#[derive(Default)]
pub(super) struct Slots {
    places: BTreeMap<GroupId, usize>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    awake: Vec<usize>,
    busy: VecDeque<usize>,
    led: u32,
}

impl Slots {
    /// A new group, awake and busy; its place.
    ///
    /// # Panics
    /// If there is one of this id.
    pub(super) fn add(&mut self, id: GroupId, group: Group) -> usize {
        let place = self.free.pop().unwrap_or(self.slots.len());
        if place == self.slots.len() {
            self.slots.push(None);
        }
        let slot = Slot {
            id,
            group,
            awake_at: None,
            is_busy: false,
            idle: 0,
            under: None,
            leads: false,
            pinned: None,
            members: Vec::new(),
            conf_version: 0,
        };
        self.slots[place] = Some(slot);
        assert!(self.places.insert(id, place).is_none(), "group {id} is here already");
        self.wake(place);
        self.make_busy(place);
        place
    }

    pub(super) fn remove(&mut self, id: GroupId) -> Option<Slot> {
        let place = self.places.remove(&id)?;
        self.lay_down(place, None);
        self.busy.retain(|at| *at != place);
        self.set_leads(place, false);
        self.free.push(place);
        self.slots[place].take()
    }

    pub(super) fn place(&self, id: GroupId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// Every place that was ever given, some of them empty.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    pub(super) fn at(&self, place: usize) -> Option<&Slot> {
        self.slots.get(place).and_then(Option::as_ref)
    }

    /// The group at a place that is taken.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn slot(&mut self, place: usize) -> &mut Slot {
        self.slots[place].as_mut().expect("a group is here")
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.places.keys().copied()
    }

    pub(super) fn wake(&mut self, place: usize) {
        let at = self.awake.len();
        let slot = self.slot(place);
        (slot.idle, slot.under) = (0, None);
        if slot.awake_at.is_none() {
            slot.awake_at = Some(at);
            self.awake.push(place);
        }
    }

    /// A group falls asleep, led by `under`.
    pub(super) fn lay_down(&mut self, place: usize, under: Option<MemberId>) {
        let slot = self.slot(place);
        slot.under = under;
        let Some(at) = slot.awake_at.take() else { return };
        let gone = self.awake.swap_remove(at);
        assert!(gone == place, "a group that is awake knows its place, or another one is laid down");
        if let Some(moved) = self.awake.get(at).copied() {
            self.slot(moved).awake_at = Some(at);
        }
    }

    /// How many are awake.
    pub(super) fn awake(&self) -> usize {
        self.awake.len()
    }

    /// The place of the one at this position among them.
    pub(super) fn awake_at(&self, at: usize) -> usize {
        self.awake[at]
    }

    /// A group may have work to hand out.
    pub(super) fn make_busy(&mut self, place: usize) {
        let slot = self.slot(place);
        if !std::mem::replace(&mut slot.is_busy, true) {
            self.busy.push_back(place);
        }
    }

    /// The next of them, which is none of them any more.
    pub(super) fn take_busy(&mut self) -> Option<usize> {
        let place = self.busy.pop_front()?;
        let was_busy = std::mem::replace(&mut self.slot(place).is_busy, false);
        assert!(was_busy, "a group waits once for its turn");
        Some(place)
    }

    pub(super) fn set_leads(&mut self, place: usize, leads: bool) {
        let slot = self.slot(place);
        let before = std::mem::replace(&mut slot.leads, leads);
        let led = (self.led + u32::from(leads)).checked_sub(u32::from(before));
        self.led = led.expect("a group that leads no more was counted");
    }

    /// Groups led here.
    pub(super) fn led(&self) -> u32 {
        self.led
    }
}
