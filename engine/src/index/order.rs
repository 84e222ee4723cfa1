//! The order of keys: a B+tree of fixed depth over slots.
//!
//! The root holds groups, a group holds leaves, a leaf holds up to [`LEAF_KEYS_MAX`] slots. With at most
//! [`GROUP_LEAVES_MAX`] leaves a group, ten million keys are a few hundred groups, so that no level is ever long enough to
//! need another one above it.
//!
//! ```text
//! root   [ group | group | group ... ]            binary search over packed separators
//! group  [ leaf | leaf | leaf ... ]               the same, plus number of live keys, newest revision
//! leaf   [ slot | slot | slot ... ]               binary search over the keys' heads, plus the same
//! ```
//!
//! Invariants: no leaf and no group is empty; there is a separator between two neighbours, above every key before it and
//! not above any key after it; every slot knows its leaf and every leaf its group; `live` is the number of keys whose
//! newest revision is a put; `newest` is at least the newest main revision below. The latter two make counting cheap: a
//! node that did not change since the revision asked for is not walked.

use std::ops::ControlFlow;

use super::heads::{Heads, reserve};
use super::packed::PackedKeys;
use super::slab::Slab;
use super::{KeyRange, Slot, SlotId, Slots};

/// Most keys in a leaf.
pub const LEAF_KEYS_MAX: usize = 64;
/// Most leaves in a group.
pub const GROUP_LEAVES_MAX: usize = 512;
/// A leaf that falls to so few keys is merged with a neighbour if both fit into three quarters of a leaf.
const LEAF_KEYS_MERGE: usize = LEAF_KEYS_MAX / 4;

/// Number of a leaf.
pub type LeafId = u32;

#[derive(Debug, Default)]
struct Leaf {
    heads: Heads,
    slots: Vec<SlotId>,
    live: u32,
    group: u32,
    newest: i64,
}

#[derive(Debug, Default)]
struct Group {
    separators: PackedKeys,
    leaves: Vec<LeafId>,
    live: u64,
    newest: i64,
}

/// All keys in order.
#[derive(Debug, Default)]
pub struct Order {
    separators: PackedKeys,
    groups: Vec<u32>,
    group_slab: Slab<Group>,
    leaf_slab: Slab<Leaf>,
    live: u64,
}

/// A place in the tree: position of the group, of the leaf in it, and of a key or gap in that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    group: usize,
    leaf: usize,
    slot: usize,
}

impl Place {
    /// The place after this one.
    pub fn advance(&mut self) {
        self.slot += 1;
    }
}

#[inline]
fn key_of<'s>(slots: &'s Slots, ids: &'s [SlotId]) -> impl Fn(usize) -> &'s [u8] + Copy {
    move |index| &slots.get(ids[index]).key
}

impl Order {
    /// Number of keys whose newest revision is a put.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Where a key is or would be.
    #[inline]
    pub fn locate(&self, key: &[u8], slots: &Slots) -> Place {
        if self.groups.is_empty() {
            return Place::default();
        }
        let group = self.separators.count_up_to(key);
        let node = self.group(group);
        let leaf = node.separators.count_up_to(key);
        let ids = &self.leaf_slab.get(node.leaves[leaf]).slots;
        let heads = &self.leaf_slab.get(node.leaves[leaf]).heads;
        let slot = heads.search(key, key_of(slots, ids)).unwrap_or_else(|slot| slot);
        Place { group, leaf, slot }
    }

    /// The slot at a place, or at the next one if the place is a gap at the end of a leaf; moves the place to it.
    #[inline]
    pub fn slot_from(&self, place: &mut Place) -> Option<SlotId> {
        while place.group < self.groups.len() {
            let group = self.group(place.group);
            if let Some(&leaf) = group.leaves.get(place.leaf) {
                if let Some(&slot) = self.leaf_slab.get(leaf).slots.get(place.slot) {
                    return Some(slot);
                }
                *place = Place { leaf: place.leaf + 1, slot: 0, ..*place };
            } else {
                *place = Place { group: place.group + 1, leaf: 0, slot: 0 };
            }
        }
        None
    }

    /// Calls `visit` for every slot from a place on, until it breaks.
    pub fn visit<'s>(
        &self,
        mut place: Place,
        slots: &'s Slots,
        mut visit: impl FnMut(&'s Slot) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for &group in self.groups.iter().skip(place.group) {
            for &leaf in self.group_slab.get(group).leaves.iter().skip(place.leaf) {
                for &slot in self.leaf_slab.get(leaf).slots.iter().skip(place.slot) {
                    visit(slots.get(slot))?;
                }
                place.slot = 0;
            }
            place.leaf = 0;
        }
        ControlFlow::Continue(())
    }

    /// Takes notice of a change of a key in `leaf` at main revision `main`, after which `live` more keys exist.
    #[inline]
    pub fn changed(&mut self, leaf: LeafId, main: i64, live: i32) {
        let leaf = self.leaf_slab.get_mut(leaf);
        leaf.newest = leaf.newest.max(main);
        let group = self.group_slab.get_mut(leaf.group);
        group.newest = group.newest.max(main);
        if live != 0 {
            leaf.live = leaf.live.wrapping_add_signed(live);
            group.live = group.live.wrapping_add_signed(i64::from(live));
            self.live = self.live.wrapping_add_signed(i64::from(live));
        }
    }

    /// Adds a slot.
    pub fn insert(&mut self, id: SlotId, slots: &mut Slots) {
        if self.groups.is_empty() {
            let leaf = self.leaf_slab.insert(Leaf::default());
            let group = self.group_slab.insert(Group { leaves: vec![leaf], ..Group::default() });
            self.leaf_slab.get_mut(leaf).group = group;
            self.groups.push(group);
        }
        let slot = slots.get(id);
        let place = self.locate(&slot.key, slots);
        let leaf_id = self.group(place.group).leaves[place.leaf];
        let leaf = self.leaf_slab.get_mut(leaf_id);
        leaf.heads.insert(place.slot, &slot.key, key_of(slots, &leaf.slots));
        reserve(&mut leaf.slots, 1);
        leaf.slots.insert(place.slot, id);
        let is_full = leaf.slots.len() > LEAF_KEYS_MAX;
        let (main, live) = (slot.entry.newest_main(), slot.entry.is_live());
        slots.get_mut(id).entry.set_leaf(leaf_id);
        self.changed(leaf_id, main, i32::from(live));
        if is_full {
            self.split_leaf(place, slots);
            if self.group(place.group).leaves.len() > GROUP_LEAVES_MAX {
                self.split_group(place.group);
            }
        }
    }

    /// Removes a slot; its key has been deleted.
    pub fn remove(&mut self, id: SlotId, slots: &mut Slots) {
        let slot = slots.get(id);
        assert!(!slot.entry.is_live(), "only deleted keys leave the index");
        let place = self.locate(&slot.key, slots);
        let leaf_id = self.group(place.group).leaves[place.leaf];
        let leaf = self.leaf_slab.get_mut(leaf_id);
        assert!(leaf.slots.get(place.slot) == Some(&id), "every slot is where its key is");
        leaf.slots.remove(place.slot);
        leaf.heads.remove(place.slot);
        if leaf.slots.is_empty() {
            self.remove_leaf(place);
        } else if leaf.slots.len() <= LEAF_KEYS_MERGE {
            self.merge_leaf(place, slots);
        }
    }

    /// Counts the keys of a range that exist at main revision `at`. Takes the keys and nodes it looks at off `visits`, and
    /// returns the slot to go on with if there are more than that.
    pub fn count(&self, range: KeyRange<'_>, at: i64, slots: &Slots, visits: &mut usize) -> (u64, Option<SlotId>) {
        let mut place = self.locate(range.start(), slots);
        let mut count = 0;
        for (position, &group) in self.groups.iter().enumerate().skip(place.group) {
            let group = self.group_slab.get(group);
            let is_inside = ends_before(&self.separators, position, &range);
            if is_inside && place.leaf == 0 && place.slot == 0 && group.newest <= at {
                count += group.live;
                continue;
            }
            for (position, &leaf) in group.leaves.iter().enumerate().skip(place.leaf) {
                let leaf = self.leaf_slab.get(leaf);
                if *visits == 0
                    && let Some(&next) = leaf.slots.get(place.slot)
                {
                    return (count, Some(next));
                }
                let is_inside = is_inside || ends_before(&group.separators, position, &range);
                if is_inside && place.slot == 0 && leaf.newest <= at {
                    *visits = visits.saturating_sub(1);
                    count += u64::from(leaf.live);
                    continue;
                }
                *visits = visits.saturating_sub(leaf.slots.len());
                for &slot in leaf.slots.iter().skip(place.slot) {
                    let slot = slots.get(slot);
                    if !is_inside && !range.is_before_end(&slot.key) {
                        return (count, None);
                    }
                    count += u64::from(slot.entry.at(at).is_some());
                }
                place.slot = 0;
            }
            place.leaf = 0;
        }
        (count, None)
    }

    /// Whether any key exists at main revision `at`.
    pub fn any(&self, at: i64, slots: &Slots) -> bool {
        let leaf_has = |leaf: &Leaf| match leaf.newest <= at {
            true => leaf.live > 0,
            false => leaf.slots.iter().any(|&slot| slots.get(slot).entry.at(at).is_some()),
        };
        self.groups.iter().map(|&group| self.group_slab.get(group)).any(|group| match group.newest <= at {
            true => group.live > 0,
            false => group.leaves.iter().any(|&leaf| leaf_has(self.leaf_slab.get(leaf))),
        })
    }

    /// Memory behind the tree.
    pub fn heap_bytes(&self) -> usize {
        let leaf = |leaf: &Leaf| leaf.heads.heap_bytes() + leaf.slots.capacity() * size_of::<SlotId>();
        let group = |group: &Group| group.separators.heap_bytes() + group.leaves.capacity() * size_of::<LeafId>();
        let nodes = self.leaf_slab.iter().map(leaf).sum::<usize>() + self.group_slab.iter().map(group).sum::<usize>();
        let own = self.separators.heap_bytes() + self.groups.capacity() * size_of::<u32>();
        own + nodes + self.leaf_slab.heap_bytes() + self.group_slab.heap_bytes()
    }

    fn group(&self, position: usize) -> &Group {
        self.group_slab.get(self.groups[position])
    }

    /// Moves the upper half of a leaf out. If the leaf grew at its end only the last key moves: keys that come in order,
    /// as counters and timestamps do, leave full leaves behind.
    fn split_leaf(&mut self, place: Place, slots: &mut Slots) {
        let group_id = self.groups[place.group];
        let left_id = self.group(place.group).leaves[place.leaf];
        let left = self.leaf_slab.get_mut(left_id);
        let len = left.slots.len();
        let middle = if place.slot + 1 == len { len - 1 } else { len / 2 };
        let mut right = Leaf { slots: left.slots.split_off(middle), group: group_id, ..Leaf::default() };
        left.slots.shrink_to_fit();
        right.heads = left.heads.split_off(middle);
        left.heads.tighten(key_of(slots, &left.slots));
        right.heads.tighten(key_of(slots, &right.slots));
        let (last, first) = (&slots.get(left.slots[middle - 1]).key, &slots.get(right.slots[0]).key);
        let separator = separator(last, first).to_vec();
        let entries = right.slots.iter().map(|&id| &slots.get(id).entry);
        right.live = entries.clone().filter(|entry| entry.is_live()).count() as u32;
        right.newest = entries.map(|entry| entry.newest_main()).max().expect("a half is not empty");
        left.live -= right.live;
        let moved = right.slots.clone();
        let right_id = self.leaf_slab.insert(right);
        moved.into_iter().for_each(|id| slots.get_mut(id).entry.set_leaf(right_id));
        let group = self.group_slab.get_mut(group_id);
        group.separators.insert(place.leaf, &separator);
        reserve(&mut group.leaves, 1);
        group.leaves.insert(place.leaf + 1, right_id);
    }

    fn split_group(&mut self, position: usize) {
        let is_last = position + 1 == self.groups.len();
        let left = self.group_slab.get_mut(self.groups[position]);
        // Like a leaf: growth at the end leaves full nodes behind.
        let middle = if is_last { left.leaves.len() * 7 / 8 } else { left.leaves.len() / 2 };
        let mut separators = left.separators.split_off(middle - 1);
        self.separators.insert(position, separators.get(0));
        separators.remove(0);
        let leaves = left.leaves.split_off(middle);
        let nodes = leaves.iter().map(|&id| self.leaf_slab.get(id));
        let live = nodes.clone().map(|leaf| u64::from(leaf.live)).sum();
        let newest = nodes.map(|leaf| leaf.newest).max().expect("a half is not empty");
        left.live -= live;
        let moved = leaves.clone();
        let right_id = self.group_slab.insert(Group { separators, leaves, live, newest });
        moved.into_iter().for_each(|id| self.leaf_slab.get_mut(id).group = right_id);
        self.groups.insert(position + 1, right_id);
    }

    fn remove_leaf(&mut self, place: Place) {
        let group_id = self.groups[place.group];
        let group = self.group_slab.get_mut(group_id);
        group.separators.remove_beside(place.leaf);
        let leaf = group.leaves.remove(place.leaf);
        self.leaf_slab.remove(leaf);
        if group.leaves.is_empty() {
            self.separators.remove_beside(place.group);
            self.groups.remove(place.group);
            self.group_slab.remove(group_id);
        }
    }

    /// Joins a short leaf with the one after it, or before it if it is the last.
    fn merge_leaf(&mut self, place: Place, slots: &mut Slots) {
        let group = self.group_slab.get_mut(self.groups[place.group]);
        if group.leaves.len() < 2 {
            return;
        }
        let position = if place.leaf + 1 < group.leaves.len() { place.leaf } else { place.leaf - 1 };
        let (left_id, right_id) = (group.leaves[position], group.leaves[position + 1]);
        let keys = self.leaf_slab.get(left_id).slots.len() + self.leaf_slab.get(right_id).slots.len();
        if keys > LEAF_KEYS_MAX * 3 / 4 {
            return;
        }
        group.separators.remove(position);
        group.leaves.remove(position + 1);
        let right = self.leaf_slab.remove(right_id);
        right.slots.iter().for_each(|&id| slots.get_mut(id).entry.set_leaf(left_id));
        let left = self.leaf_slab.get_mut(left_id);
        left.slots.extend_from_slice(&right.slots);
        left.heads.rebuild(left.slots.len(), key_of(slots, &left.slots));
        left.live += right.live;
        left.newest = left.newest.max(right.newest);
    }
}

/// Whether the child after the one at `position` exists and starts at or below the end of the range: then this one lies
/// inside.
fn ends_before(separators: &PackedKeys, position: usize, range: &KeyRange<'_>) -> bool {
    match range {
        KeyRange::From(_) => true,
        KeyRange::Span(_, end) => position < separators.len() && separators.get(position) <= *end,
        KeyRange::One(_) => false,
    }
}

/// The shortest string above `left` and not above `right`.
fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    &right[..super::heads::common(left, right) + 1]
}

#[cfg(test)]
impl Order {
    /// Checks every invariant; returns the number of groups.
    pub fn check(&self, slots: &Slots) -> usize {
        assert_eq!(self.separators.len(), self.groups.len().saturating_sub(1));
        assert_eq!(self.group_slab.len(), self.groups.len());
        let (mut live, mut leaves) = (0, 0);
        for (g, &group_id) in self.groups.iter().enumerate() {
            let group = self.group_slab.get(group_id);
            assert_eq!(group.separators.len() + 1, group.leaves.len());
            let mut group_live = 0;
            for (l, &leaf_id) in group.leaves.iter().enumerate() {
                let leaf = self.leaf_slab.get(leaf_id);
                leaf.check(leaf_id, group_id, slots);
                assert!(leaf.newest <= group.newest);
                group_live += u64::from(leaf.live);
                let key = key_of(slots, &leaf.slots);
                let (first, last) = (key(0), key(leaf.slots.len() - 1));
                assert!(l == 0 || group.separators.get(l - 1) <= first);
                assert!(g == 0 || self.separators.get(g - 1) <= first);
                assert!(l + 1 == group.leaves.len() || last < group.separators.get(l));
                assert!(g + 1 == self.groups.len() || last < self.separators.get(g));
            }
            assert_eq!(group.live, group_live);
            live += group_live;
            leaves += group.leaves.len();
        }
        assert_eq!((self.live, self.leaf_slab.len()), (live, leaves));
        self.groups.len()
    }
}

#[cfg(test)]
impl Leaf {
    fn check(&self, id: LeafId, group: u32, slots: &Slots) {
        assert!(!self.slots.is_empty() && self.slots.len() <= LEAF_KEYS_MAX);
        assert_eq!((self.heads.len(), self.group), (self.slots.len(), group));
        let key = key_of(slots, &self.slots);
        (0..self.slots.len()).for_each(|at| assert_eq!(self.heads.search(key(at), key), Ok(at)));
        let entries: Vec<_> = self.slots.iter().map(|&slot| &slots.get(slot).entry).collect();
        assert!(entries.iter().all(|entry| entry.leaf() == id));
        assert_eq!(self.live as usize, entries.iter().filter(|entry| entry.is_live()).count());
        assert!(entries.iter().all(|entry| entry.newest_main() <= self.newest));
    }
}
