//! The key index: every key that has history, in order, with its revisions.
//!
//! A B+tree of fixed depth. The root holds groups, a group holds leaves, a leaf holds up to [`LEAF_KEYS_MAX`] keys end to
//! end in one allocation and their entries in another. With at most [`GROUP_LEAVES_MAX`] leaves a group, ten million keys
//! are a few hundred groups, so that no level is ever long enough to need another one above it.
//!
//! ```text
//! root   [ group | group | group ... ]            binary search over packed separators
//! group  [ leaf | leaf | leaf ... ]               the same, plus number of live keys, newest revision
//! leaf   keys: "a" "ab" "b" ...  entries: [ .. ]  the same
//! ```
//!
//! Invariants: no leaf and no group is empty; there is a separator between two neighbours, above every key before it and
//! not above any key after it; `live` is the number of keys whose newest revision is a put; `newest` is
//! at least the newest main revision below. The latter two make counting cheap: a node that did not change since the
//! revision asked for is not walked.
//!
//! Not here: values, leases, and the file. The index is rebuilt from tree `Rev` at open, by [`Restore`].

mod bulk;
mod entry;
mod packed;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

pub use bulk::Restore;
pub use entry::{At, Entry, Head};
use packed::PackedKeys;

use crate::revision::Revision;

/// Most keys in a leaf.
pub const LEAF_KEYS_MAX: usize = 64;
/// A leaf with more bytes of keys is split even if it holds few keys.
pub const LEAF_BYTES_MAX: usize = 16 << 10;
/// Most leaves in a group.
pub const GROUP_LEAVES_MAX: usize = 512;
/// A leaf that falls to so few keys is merged with a neighbour if both fit into three quarters of a leaf.
const LEAF_KEYS_MERGE: usize = LEAF_KEYS_MAX / 4;

/// The keys that a request selects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRange<'a> {
    /// One key.
    One(&'a [u8]),
    /// From the first up to, and without, the second. Empty if they are not in order.
    Span(&'a [u8], &'a [u8]),
    /// From a key on.
    From(&'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// All keys.
    pub const ALL: KeyRange<'static> = KeyRange::From(b"");

    /// The range of a request, where an empty end means one key, and an end of `\0` means no end.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            _ => KeyRange::Span(key, range_end),
        }
    }

    /// The first key that can be in the range.
    pub fn start(&self) -> &'a [u8] {
        match self {
            KeyRange::One(key) | KeyRange::Span(key, _) | KeyRange::From(key) => key,
        }
    }

    /// The same range without what lies below `key`.
    pub fn from_key(&self, key: &'a [u8]) -> Self {
        match *self {
            KeyRange::One(one) => KeyRange::One(one),
            KeyRange::Span(start, end) => KeyRange::Span(start.max(key), end),
            KeyRange::From(start) => KeyRange::From(start.max(key)),
        }
    }

    /// Whether `key`, which is not below the start, lies before the end.
    #[inline]
    fn is_before_end(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == *one,
            KeyRange::Span(_, end) => key < *end,
            KeyRange::From(_) => true,
        }
    }

    /// Whether the range selects `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start() && self.is_before_end(key)
    }
}

#[derive(Debug, Default)]
struct Leaf {
    keys: PackedKeys,
    entries: Vec<Entry>,
    live: u32,
    newest: i64,
}

#[derive(Debug, Default)]
struct Group {
    separators: PackedKeys,
    leaves: Vec<Leaf>,
    live: u64,
    newest: i64,
}

/// Every key that has history.
#[derive(Debug, Default)]
pub struct KeyIndex {
    separators: PackedKeys,
    groups: Vec<Group>,
    live: u64,
    keys: u64,
}

/// A place in the tree: group, leaf, and key or gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    group: usize,
    leaf: usize,
    slot: usize,
}

impl KeyIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of keys whose newest revision is a put.
    pub fn live_keys(&self) -> u64 {
        self.live
    }

    /// Number of keys, deleted ones with remaining history included.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Memory behind the index.
    pub fn heap_bytes(&self) -> usize {
        let leaf_bytes = |leaf: &Leaf| {
            let entries = leaf.entries.capacity() * size_of::<Entry>();
            leaf.keys.heap_bytes() + entries + leaf.entries.iter().map(Entry::heap_bytes).sum::<usize>()
        };
        let group_bytes = |group: &Group| {
            let own = group.separators.heap_bytes() + group.leaves.capacity() * size_of::<Leaf>();
            own + group.leaves.iter().map(leaf_bytes).sum::<usize>()
        };
        let own = self.separators.heap_bytes() + self.groups.capacity() * size_of::<Group>();
        own + self.groups.iter().map(group_bytes).sum::<usize>()
    }

    /// The history of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let (place, found) = self.locate(key);
        found.then(|| &self.groups[place.group].leaves[place.leaf].entries[place.slot])
    }

    /// Adds a put. Returns what it replaced and what the key is now.
    pub fn put(&mut self, key: &[u8], revision: Revision) -> (Option<Head>, Head) {
        let (place, found) = self.locate(key);
        if !found {
            self.insert(place, key, Entry::created(revision));
            return (None, Head { revision, create: revision.main, version: 1 });
        }
        let group = &mut self.groups[place.group];
        let leaf = &mut group.leaves[place.leaf];
        let entry = &mut leaf.entries[place.slot];
        let before = entry.head();
        entry.put(revision);
        let after = entry.head().expect("a key is live after a put");
        leaf.newest = revision.main;
        group.newest = revision.main;
        if before.is_none() {
            leaf.live += 1;
            group.live += 1;
            self.live += 1;
        }
        (before, after)
    }

    /// Adds a tombstone to every live key of a range. `each` is told key, history and newest pair, in order, and answers
    /// with the revision of the tombstone.
    pub fn delete<E>(
        &mut self,
        range: KeyRange<'_>,
        mut each: impl FnMut(&[u8], &Entry, Head) -> Result<Revision, E>,
    ) -> Result<(), E> {
        let (mut place, _) = self.locate(range.start());
        while place.group < self.groups.len() {
            let group = &mut self.groups[place.group];
            while place.leaf < group.leaves.len() {
                let leaf = &mut group.leaves[place.leaf];
                for slot in place.slot..leaf.entries.len() {
                    let key = leaf.keys.get(slot);
                    if !range.is_before_end(key) {
                        return Ok(());
                    }
                    let Some(head) = leaf.entries[slot].head() else { continue };
                    let revision = each(key, &leaf.entries[slot], head)?;
                    leaf.entries[slot].delete(revision);
                    leaf.live -= 1;
                    group.live -= 1;
                    self.live -= 1;
                    leaf.newest = revision.main;
                    group.newest = revision.main;
                }
                place = Place { leaf: place.leaf + 1, slot: 0, ..place };
            }
            place = Place { group: place.group + 1, leaf: 0, slot: 0 };
        }
        Ok(())
    }

    /// Calls `visit` for every key of a range, in order, deleted ones included, until it breaks.
    pub fn visit(
        &self,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&[u8], &Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (mut place, _) = self.locate(range.start());
        for group in self.groups.iter().skip(place.group) {
            for leaf in group.leaves.iter().skip(place.leaf) {
                for slot in place.slot..leaf.entries.len() {
                    let key = leaf.keys.get(slot);
                    if !range.is_before_end(key) {
                        return ControlFlow::Continue(());
                    }
                    visit(key, &leaf.entries[slot])?;
                }
                place.slot = 0;
            }
            place.leaf = 0;
        }
        ControlFlow::Continue(())
    }

    /// Number of keys of a range that exist at main revision `at`.
    pub fn count(&self, range: KeyRange<'_>, at: i64) -> u64 {
        if let KeyRange::One(key) = range {
            return u64::from(self.get(key).is_some_and(|entry| entry.at(at).is_some()));
        }
        let (mut place, _) = self.locate(range.start());
        let mut count = 0;
        for (index, group) in self.groups.iter().enumerate().skip(place.group) {
            let is_inside = self.ends_before(index + 1, &range);
            if is_inside && place.leaf == 0 && place.slot == 0 && group.newest <= at {
                count += group.live;
                continue;
            }
            for (index, leaf) in group.leaves.iter().enumerate().skip(place.leaf) {
                let is_inside = is_inside || group.ends_before(index + 1, &range);
                if is_inside && place.slot == 0 && leaf.newest <= at {
                    count += u64::from(leaf.live);
                    continue;
                }
                for slot in place.slot..leaf.entries.len() {
                    if !is_inside && !range.is_before_end(leaf.keys.get(slot)) {
                        return count;
                    }
                    count += u64::from(leaf.entries[slot].at(at).is_some());
                }
                place.slot = 0;
            }
            place.leaf = 0;
        }
        count
    }

    /// Adds a stored revision while opening; revisions of a key come in order. `version` is 0 for a tombstone.
    fn restore(&mut self, key: &[u8], revision: Revision, create: i64, version: i64) {
        let (place, found) = self.locate(key);
        if !found {
            self.insert(place, key, Entry::restored(revision, create, version));
            return;
        }
        let group = &mut self.groups[place.group];
        let leaf = &mut group.leaves[place.leaf];
        let entry = &mut leaf.entries[place.slot];
        let (was_live, is_live) = (entry.is_live(), version != 0);
        entry.restore(revision, create, version);
        leaf.newest = leaf.newest.max(revision.main);
        group.newest = group.newest.max(revision.main);
        if was_live != is_live {
            let change = if is_live { 1 } else { -1 };
            leaf.live = leaf.live.wrapping_add_signed(change);
            group.live = group.live.wrapping_add_signed(i64::from(change));
            self.live = self.live.wrapping_add_signed(i64::from(change));
        }
    }

    /// Forgets what a compaction at main revision `at` removes of a key, and reports it.
    pub fn compact(&mut self, key: &[u8], at: i64, removed: &mut Vec<(Revision, bool)>) {
        let (place, found) = self.locate(key);
        if found && self.groups[place.group].leaves[place.leaf].entries[place.slot].compact(at, removed) {
            self.remove(place);
        }
    }

    /// Whether group `next` exists and starts at or below the end of the range: then the one before lies inside.
    fn ends_before(&self, next: usize, range: &KeyRange<'_>) -> bool {
        match range {
            KeyRange::From(_) => true,
            KeyRange::Span(_, end) => next < self.groups.len() && self.separators.get(next - 1) <= *end,
            KeyRange::One(_) => false,
        }
    }

    /// Where a key is, and whether it is there. If not, the place may be one past the last key of its leaf.
    #[inline]
    fn locate(&self, key: &[u8]) -> (Place, bool) {
        if self.groups.is_empty() {
            return (Place { group: 0, leaf: 0, slot: 0 }, false);
        }
        let group = self.separators.count_up_to(key);
        let leaf = self.groups[group].separators.count_up_to(key);
        match self.groups[group].leaves[leaf].keys.search(key) {
            Ok(slot) => (Place { group, leaf, slot }, true),
            Err(slot) => (Place { group, leaf, slot }, false),
        }
    }

    fn insert(&mut self, place: Place, key: &[u8], entry: Entry) {
        if self.groups.is_empty() {
            self.groups.push(Group { leaves: vec![Leaf::default()], ..Group::default() });
        }
        let live = u64::from(entry.is_live());
        self.keys += 1;
        self.live += live;
        let group = &mut self.groups[place.group];
        group.live += live;
        group.newest = group.newest.max(entry.newest_main());
        let leaf = &mut group.leaves[place.leaf];
        leaf.insert(place.slot, key, entry);
        if leaf.is_full() {
            group.split_leaf(place.leaf, place.slot);
            if group.leaves.len() > GROUP_LEAVES_MAX {
                self.split_group(place.group);
            }
        }
    }

    fn split_group(&mut self, index: usize) {
        let group = &mut self.groups[index];
        // Like a leaf: growth at the end leaves full nodes behind.
        let is_last = index == self.separators.len();
        let middle = if is_last { group.leaves.len() * 7 / 8 } else { group.leaves.len() / 2 };
        let mut separators = group.separators.split_off(middle - 1);
        self.separators.insert(index, separators.get(0));
        separators.remove(0);
        let mut right = Group { separators, leaves: group.leaves.split_off(middle), ..Group::default() };
        right.recount();
        group.recount();
        self.groups.insert(index + 1, right);
    }

    fn remove(&mut self, place: Place) {
        let group = &mut self.groups[place.group];
        let leaf = &mut group.leaves[place.leaf];
        assert!(!leaf.entries[place.slot].is_live(), "only deleted keys leave the index");
        leaf.keys.remove(place.slot);
        leaf.entries.remove(place.slot);
        self.keys -= 1;
        if leaf.entries.is_empty() {
            group.separators.remove_beside(place.leaf);
            group.leaves.remove(place.leaf);
        } else if leaf.entries.len() <= LEAF_KEYS_MERGE {
            group.merge_leaf(place.leaf);
        }
        if group.leaves.is_empty() {
            self.separators.remove_beside(place.group);
            self.groups.remove(place.group);
        }
    }
}

impl Group {
    fn ends_before(&self, next: usize, range: &KeyRange<'_>) -> bool {
        match range {
            KeyRange::From(_) => true,
            KeyRange::Span(_, end) => next < self.leaves.len() && self.separators.get(next - 1) <= *end,
            KeyRange::One(_) => false,
        }
    }

    fn recount(&mut self) {
        self.live = self.leaves.iter().map(|leaf| u64::from(leaf.live)).sum();
        self.newest = self.leaves.iter().map(|leaf| leaf.newest).max().unwrap_or(0);
    }

    fn split_leaf(&mut self, index: usize, grown_at: usize) {
        let right = self.leaves[index].split(grown_at);
        let left = &self.leaves[index].keys;
        let separator = separator(left.get(left.len() - 1), right.keys.get(0));
        self.separators.insert(index, separator);
        packed::reserve(&mut self.leaves, 1);
        self.leaves.insert(index + 1, right);
    }

    /// Joins a short leaf with the one after it, or before it if it is the last.
    fn merge_leaf(&mut self, index: usize) {
        if self.leaves.len() < 2 {
            return;
        }
        let left = if index + 1 < self.leaves.len() { index } else { index - 1 };
        let keys = self.leaves[left].entries.len() + self.leaves[left + 1].entries.len();
        let bytes = self.leaves[left].keys.total_bytes() + self.leaves[left + 1].keys.total_bytes();
        if keys > LEAF_KEYS_MAX * 3 / 4 || bytes > LEAF_BYTES_MAX * 3 / 4 {
            return;
        }
        self.separators.remove(left);
        let right = self.leaves.remove(left + 1);
        self.leaves[left].append(right);
    }
}

impl Leaf {
    fn is_full(&self) -> bool {
        self.entries.len() > LEAF_KEYS_MAX || (self.keys.total_bytes() > LEAF_BYTES_MAX && self.entries.len() > 1)
    }

    fn insert(&mut self, slot: usize, key: &[u8], entry: Entry) {
        self.live += u32::from(entry.is_live());
        self.newest = self.newest.max(entry.newest_main());
        self.keys.insert(slot, key);
        packed::reserve(&mut self.entries, 1);
        self.entries.insert(slot, entry);
    }

    /// Moves the upper half out. If the leaf grew at its end only the last key moves: keys that come in order, as
    /// counters and timestamps do, leave full leaves behind.
    fn split(&mut self, grown_at: usize) -> Leaf {
        let len = self.entries.len();
        let middle = if grown_at + 1 == len { len - 1 } else { len / 2 };
        let mut right = Leaf { keys: self.keys.split_off(middle), ..Leaf::default() };
        right.entries = self.entries.split_off(middle);
        self.entries.shrink_to_fit();
        right.recount();
        self.recount();
        right
    }

    fn append(&mut self, mut right: Leaf) {
        self.keys.append(&right.keys);
        self.entries.append(&mut right.entries);
        self.live += right.live;
        self.newest = self.newest.max(right.newest);
    }

    fn recount(&mut self) {
        self.live = self.entries.iter().filter(|entry| entry.is_live()).count() as u32;
        self.newest = self.entries.iter().map(Entry::newest_main).max().unwrap_or(0);
    }
}

/// The shortest string above `left` and not above `right`.
fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    &right[..common + 1]
}
