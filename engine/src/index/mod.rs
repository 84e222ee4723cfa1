//! The key index: every key that has history, with its revisions.
//!
//! ```text
//!                    by_key: hash of key ──┐
//!                                          ├──> slot: key, history        (found by number, never moves)
//!     order: B+tree, keys in order ────────┘
//! ```
//!
//! Most requests name one key that exists: they go by hash, and touch the order only to tell its counters. New keys and
//! ranges go by order. Nothing grows by copying more than a small part of itself.
//!
//! Invariants: `by_key` and `order` hold exactly the slots in use; see [`order`] for the counters.
//!
//! Not here: values, leases, and the file. The index is rebuilt from tree `Rev` at open, by [`Restore`].

mod bulk;
mod by_key;
mod entry;
mod heads;
mod order;
mod packed;
mod slab;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

pub use bulk::Restore;
use by_key::{ByKey, KeyHash};
pub use entry::{At, Entry, Head};
use order::Order;
use slab::Slab;

use crate::budget::Budget;
use crate::revision::Revision;

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

/// Number of a slot.
type SlotId = u32;
type Slots = Slab<Slot>;

/// A key and its history.
#[derive(Debug, Default)]
struct Slot {
    key: Box<[u8]>,
    entry: Entry,
}

const _: () = assert!(size_of::<Slot>() == 56);

/// Every key that has history.
#[derive(Debug, Default)]
pub struct KeyIndex {
    slots: Slots,
    by_key: ByKey,
    order: Order,
}

impl KeyIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of keys whose newest revision is a put.
    pub fn live_keys(&self) -> u64 {
        self.order.live()
    }

    /// Number of keys, deleted ones with remaining history included.
    pub fn keys(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Memory behind the index.
    pub fn heap_bytes(&self) -> usize {
        let behind = |slot: &Slot| slot.key.len() + slot.entry.heap_bytes();
        let slots = self.slots.heap_bytes() + self.slots.iter().map(behind).sum::<usize>();
        slots + self.by_key.heap_bytes() + self.order.heap_bytes()
    }

    /// The history of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let slot = self.by_key.find(KeyHash::of(key), key, &self.slots)?;
        Some(&self.slots.get(slot).entry)
    }

    /// Adds a put. Returns what it replaced and what the key is now.
    pub fn put(&mut self, key: &[u8], revision: Revision) -> (Option<Head>, Head) {
        let hash = KeyHash::of(key);
        let Some(slot) = self.by_key.find(hash, key, &self.slots) else {
            self.insert(hash, key, Entry::created(revision));
            return (None, Head { revision, create: revision.main, version: 1 });
        };
        let entry = &mut self.slots.get_mut(slot).entry;
        let before = entry.head();
        entry.put(revision);
        let after = entry.head().expect("a key is live after a put");
        self.order.changed(entry.leaf(), revision.main, i32::from(before.is_none()));
        (before, after)
    }

    /// Adds a tombstone to every live key of a range, until the budget is spent. `each` is told key, history and newest
    /// pair, in order, and answers with the revision of the tombstone and the bytes written. Returns the key to go on with if
    /// there may be more.
    pub fn delete<E>(
        &mut self,
        range: KeyRange<'_>,
        budget: &mut Budget,
        mut each: impl FnMut(&[u8], &Entry, Head) -> Result<(Revision, usize), E>,
    ) -> Result<Option<Box<[u8]>>, E> {
        let mut delete = |slot: &mut Slot, order: &mut Order, budget: &mut Budget| {
            let Some(head) = slot.entry.head() else { return Ok(()) };
            let (revision, bytes) = each(&slot.key, &slot.entry, head)?;
            slot.entry.delete(revision);
            order.changed(slot.entry.leaf(), revision.main, -1);
            budget.write(bytes);
            Ok(())
        };
        if let KeyRange::One(key) = range {
            if let Some(slot) = self.by_key.find(KeyHash::of(key), key, &self.slots) {
                delete(self.slots.get_mut(slot), &mut self.order, budget)?;
            }
            return Ok(None);
        }
        let mut place = self.order.locate(range.start(), &self.slots);
        while let Some(slot) = self.order.slot_from(&mut place) {
            let slot = self.slots.get_mut(slot);
            if !range.is_before_end(&slot.key) {
                break;
            }
            if budget.is_spent() {
                return Ok(Some(slot.key.clone()));
            }
            budget.visit();
            delete(slot, &mut self.order, budget)?;
            place.advance();
        }
        Ok(None)
    }

    /// Calls `visit` for every key of a range, in order, deleted ones included, until it breaks.
    pub fn visit(
        &self,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&[u8], &Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if let KeyRange::One(key) = range {
            return self.get(key).map_or(ControlFlow::Continue(()), |entry| visit(key, entry));
        }
        let (place, mut flow) = (self.order.locate(range.start(), &self.slots), ControlFlow::Continue(()));
        let _ = self.order.visit(place, &self.slots, |slot| {
            if !range.is_before_end(&slot.key) {
                return ControlFlow::Break(());
            }
            flow = visit(&slot.key, &slot.entry);
            flow
        });
        flow
    }

    /// Counts the keys of a range that exist at main revision `at`, until the budget is spent. Costs little where nothing
    /// has changed since that revision. Returns the key to go on with if there are more.
    pub fn count(&self, range: KeyRange<'_>, at: i64, budget: &mut Budget) -> (u64, Option<&[u8]>) {
        match range {
            KeyRange::One(key) => (u64::from(self.get(key).is_some_and(|entry| entry.at(at).is_some())), None),
            range => {
                let (count, next) = self.order.count(range, at, &self.slots, &mut budget.visits);
                (count, next.map(|slot| &*self.slots.get(slot).key))
            }
        }
    }

    /// Whether any key exists at main revision `at`.
    pub fn any(&self, at: i64) -> bool {
        self.order.any(at, &self.slots)
    }

    /// Adds a stored revision while opening; revisions of a key come in order. `version` is 0 for a tombstone.
    fn restore(&mut self, key: &[u8], revision: Revision, create: i64, version: i64) {
        let hash = KeyHash::of(key);
        match self.by_key.find(hash, key, &self.slots) {
            Some(slot) => self.restore_next(slot, revision, create, version),
            None => drop(self.insert(hash, key, Entry::restored(revision, create, version))),
        }
    }

    /// As [`Self::restore`] for a key whose slot is known.
    fn restore_next(&mut self, slot: SlotId, revision: Revision, create: i64, version: i64) {
        let entry = &mut self.slots.get_mut(slot).entry;
        let was_live = entry.is_live();
        entry.restore(revision, create, version);
        let change = i32::from(entry.is_live()) - i32::from(was_live);
        self.order.changed(entry.leaf(), revision.main, change);
    }

    /// Forgets what a compaction at main revision `at` removes of a key, and reports it.
    pub fn compact(&mut self, key: &[u8], at: i64, removed: &mut Vec<(Revision, bool)>) {
        let hash = KeyHash::of(key);
        let Some(slot) = self.by_key.find(hash, key, &self.slots) else { return };
        if self.slots.get_mut(slot).entry.compact(at, removed) {
            self.by_key.remove(hash, slot);
            self.order.remove(slot, &mut self.slots);
            self.slots.remove(slot);
        }
    }

    fn insert(&mut self, hash: KeyHash, key: &[u8], entry: Entry) -> SlotId {
        let slot = self.slots.insert(Slot { key: key.into(), entry });
        self.by_key.insert(hash, slot);
        self.order.insert(slot, &mut self.slots);
        slot
    }
}
