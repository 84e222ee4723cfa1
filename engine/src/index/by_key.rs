//! From a key to its slot, by hash.
//!
//! Many small tables instead of a large one: when one grows, only its share of the keys moves.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use super::{SlotId, Slots};

/// Number of tables, a power of two.
const TABLES: usize = 256;

/// A key's slot, and enough of its hash to move it without looking at the key.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    slot: SlotId,
}

impl Place {
    /// The table takes bits from both ends; these are made of the stored ones.
    fn spread(self) -> u64 {
        spread(self.hash)
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of a key: table and number within.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash {
    table: usize,
    hash: u32,
}

impl KeyHash {
    /// Hashes a key.
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        let hash = FxBuildHasher.hash_one(key);
        Self { table: hash as usize % TABLES, hash: (hash >> 32) as u32 }
    }
}

/// The slots of all keys.
#[derive(Debug)]
pub struct ByKey {
    tables: Box<[HashTable<Place>]>,
}

impl Default for ByKey {
    fn default() -> Self {
        Self { tables: std::iter::repeat_with(HashTable::new).take(TABLES).collect() }
    }
}

impl ByKey {
    /// The slot of a key.
    #[inline]
    pub fn find(&self, hash: KeyHash, key: &[u8], slots: &Slots) -> Option<SlotId> {
        let is_key = |place: &Place| place.hash == hash.hash && *slots.get(place.slot).key == *key;
        self.tables[hash.table].find(spread(hash.hash), is_key).map(|place| place.slot)
    }

    /// Adds a key that is not there.
    pub fn insert(&mut self, hash: KeyHash, slot: SlotId) {
        let place = Place { hash: hash.hash, slot };
        self.tables[hash.table].insert_unique(place.spread(), place, |place| place.spread());
    }

    /// Removes a key that is there.
    pub fn remove(&mut self, hash: KeyHash, slot: SlotId) {
        let found = self.tables[hash.table].find_entry(spread(hash.hash), |place| place.slot == slot);
        found.expect("every slot in use is found by its key").remove();
    }

    /// Memory behind the tables.
    pub fn heap_bytes(&self) -> usize {
        self.tables.iter().map(HashTable::allocation_size).sum::<usize>() + TABLES * size_of::<HashTable<Place>>()
    }
}
