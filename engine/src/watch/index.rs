//! Which watchers want which events.
//!
//! Watchers of the same range and filters form a *group*: an event is matched against groups, not watchers, and what it
//! costs does not depend on how many watchers do not want it. Groups of single keys and of prefixes are found by hash
//! (`prefix`), all others in an interval tree (`interval`).
//!
//! The hub keeps two indices: of the watchers that take part in live events, and of those that read history.

use plinth_api::range::prefix_end;
use std::rc::Rc;

use super::event::{EventBatch, EventKind};
use super::interval::IntervalTree;
use super::prefix::HashedKeys;
use super::range::{Bound, KeyRange, Shape};

/// Filters of a watcher as bits. Watchers with other filters are in other groups.
pub(super) const NO_PUT: u8 = 1;
/// See [`NO_PUT`].
pub(super) const NO_DELETE: u8 = 2;
/// Everything filtered out: in no group at all.
const NOTHING: u8 = NO_PUT | NO_DELETE;
/// Runs kept allocated per group between batches.
const RUNS_KEPT: usize = 16;

/// Consecutive events of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Where a watcher stands in an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    group: u32,
    position: u32,
}

#[derive(Debug)]
pub(super) struct Group {
    range: Rc<KeyRange>,
    class: u8,
    /// Watchers, unordered.
    pub(super) members: Vec<u32>,
    /// Events of the batch being matched, if `epoch` is the present one.
    pub(super) runs: Vec<Run>,
    epoch: u64,
}

impl Group {
    fn hit(&mut self, event: u32) {
        match self.runs.last_mut() {
            Some(run) if run.end == event => run.end += 1,
            _ => self.runs.push(Run { start: event, end: event + 1 }),
        }
    }
}

#[derive(Debug)]
pub(super) struct WatchIndex {
    groups: Vec<Group>,
    free: Vec<u32>,
    keys: HashedKeys,
    prefixes: HashedKeys,
    intervals: IntervalTree,
    /// Groups with events in the batch matched last.
    touched: Vec<u32>,
    epoch: u64,
    members: usize,
}

impl WatchIndex {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            groups: Vec::new(),
            free: Vec::new(),
            keys: HashedKeys::default(),
            prefixes: HashedKeys::default(),
            intervals: IntervalTree::new(seed),
            touched: Vec::new(),
            epoch: 0,
            members: 0,
        }
    }

    /// Adds a watcher. `range` is replaced by the group's own copy, so that equal ranges are held once.
    pub(super) fn insert(&mut self, watcher: u32, range: &mut Rc<KeyRange>, class: u8) -> Option<Place> {
        if class == NOTHING {
            return None;
        }
        let group = self.find(range, class).unwrap_or_else(|| self.add_group(range.clone(), class));
        let slot = &mut self.groups[group as usize];
        *range = slot.range.clone();
        slot.members.push(watcher);
        self.members += 1;
        Some(Place { group, position: index32(slot.members.len() - 1) })
    }

    /// Takes a watcher out. Returns the watcher that moved into its place, if one did:
    /// the caller tells it.
    #[must_use]
    pub(super) fn remove(&mut self, watcher: u32, place: Place) -> Option<u32> {
        let group = &mut self.groups[place.group as usize];
        let removed = group.members.swap_remove(place.position as usize);
        assert!(removed == watcher, "a watcher knows its place");
        self.members -= 1;
        let moved = group.members.get(place.position as usize).copied();
        if group.members.is_empty() {
            self.remove_group(place.group);
        }
        moved
    }

    fn find(&self, range: &KeyRange, class: u8) -> Option<u32> {
        let start = range.start();
        match range.shape() {
            Shape::Point => self.keys.get(start, class),
            Shape::Prefix => {
                let found = self.prefixes.get(start, class);
                found.or_else(|| self.intervals.get((start, &prefix_bound(start), class)))
            }
            Shape::Interval(end) => self.intervals.get((start, end, class)),
        }
    }

    fn add_group(&mut self, range: Rc<KeyRange>, class: u8) -> u32 {
        let group = Group { range: range.clone(), class, members: Vec::new(), runs: Vec::new(), epoch: 0 };
        let index = match self.free.pop() {
            Some(index) => {
                self.groups[index as usize] = group;
                index
            }
            None => {
                self.groups.push(group);
                index32(self.groups.len() - 1)
            }
        };
        let start = range.start();
        match range.shape() {
            Shape::Point => self.keys.insert(start, class, index),
            Shape::Prefix => {
                if !self.prefixes.insert_prefix(start, class, index) {
                    self.intervals.insert((start, &prefix_bound(start), class), index);
                }
            }
            Shape::Interval(end) => self.intervals.insert((start, end, class), index),
        }
        index
    }

    fn remove_group(&mut self, index: u32) {
        let Group { range, class, .. } = &self.groups[index as usize];
        let start = range.start();
        match range.shape() {
            Shape::Point => assert!(self.keys.remove(start, *class), "groups of single keys are indexed"),
            Shape::Prefix => {
                if !self.prefixes.remove_prefix(start, *class) {
                    self.intervals.remove((start, &prefix_bound(start), *class));
                }
            }
            Shape::Interval(end) => self.intervals.remove((start, end, *class)),
        }
        self.groups[index as usize].runs = Vec::new();
        self.groups[index as usize].members = Vec::new();
        self.free.push(index);
    }

    /// Matches the events from `first` on. The result is read with [`Self::touched`] until the next call.
    pub(super) fn match_events(&mut self, batch: &EventBatch, first: usize) {
        self.epoch += 1;
        self.touched.clear();
        if self.members == 0 {
            return;
        }
        let Self { groups, keys, prefixes, intervals, touched, epoch, .. } = self;
        for index in first..batch.len() {
            let event = batch.event(index);
            let filtered_by = match event.kind() {
                EventKind::Put => NO_PUT,
                EventKind::Delete => NO_DELETE,
            };
            let index = index32(index);
            let mut hit = |at: u32| {
                let group = &mut groups[at as usize];
                if group.class & filtered_by != 0 {
                    return;
                }
                if group.epoch != *epoch {
                    group.epoch = *epoch;
                    group.runs.clear();
                    group.runs.shrink_to(RUNS_KEPT);
                    touched.push(at);
                }
                group.hit(index);
            };
            keys.visit_equal(event.key(), &mut hit);
            prefixes.visit_prefixes(event.key(), &mut hit);
            intervals.stab(event.key(), &mut hit);
        }
    }

    /// Groups with events in the batch that was matched last.
    pub(super) fn touched(&self) -> impl Iterator<Item = &Group> {
        self.touched.iter().map(|&at| &self.groups[at as usize])
    }
}

/// The end of a prefix as an interval, for prefixes that the table has no room for.
fn prefix_bound(prefix: &[u8]) -> Bound {
    assert!(prefix.iter().any(|&byte| byte != 0xff), "prefixes of 0xff alone are open intervals");
    Bound::Before(prefix_end(prefix).into())
}

pub(super) fn index32(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 watchers and events")
}
