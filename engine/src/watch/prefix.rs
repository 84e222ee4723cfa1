//! Exact keys and prefixes, found by hash.
//!
//! A prefix is what nearly every range watch asks for, and a table answers it in a few nanoseconds however many there
//! are: for each length that some prefix has, the key's first bytes are looked up. Two things keep that small. The number
//! of lengths is bounded; a prefix of yet another length is refused, and the caller keeps it elsewhere. And per length
//! the table knows the last bytes of its prefixes: mostly they end with a separator, and a key has few of those.
//!
//! Invariant: an entry is in the table at most once; a length is listed as long as an entry has it.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

/// At most so many different lengths of prefixes.
pub(super) const LENGTHS_MAX: usize = 64;

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    class: u8,
    payload: u32,
}

#[derive(Debug)]
struct Length {
    len: usize,
    entries: usize,
    /// The last bytes of the prefixes of this length, as bits. Stale ones stay until the length goes.
    last_bytes: [u64; 4],
}

impl Length {
    fn note(&mut self, last: u8) {
        self.last_bytes[usize::from(last >> 6)] |= 1 << (last & 63);
    }

    #[inline]
    fn may_end_with(&self, last: u8) -> bool {
        self.last_bytes[usize::from(last >> 6)] >> (last & 63) & 1 == 1
    }
}

/// Byte strings with a class and a payload each.
#[derive(Debug, Default)]
pub(super) struct HashedKeys {
    table: HashTable<Entry>,
    /// Entries per class, so that classes nobody uses cost nothing.
    per_class: [usize; 3],
    /// By length, ascending; kept only for prefixes.
    lengths: Vec<Length>,
}

impl HashedKeys {
    pub(super) fn get(&self, key: &[u8], class: u8) -> Option<u32> {
        let entry = self.table.find(hash(key, class), |entry| entry.class == class && *entry.key == *key)?;
        Some(entry.payload)
    }

    /// Adds an exact key that is not in the table.
    pub(super) fn insert(&mut self, key: &[u8], class: u8, payload: u32) {
        assert!(self.get(key, class).is_none(), "a key is in the table once");
        let entry = Entry { key: key.into(), class, payload };
        self.table.insert_unique(hash(key, class), entry, |entry| hash(&entry.key, entry.class));
        self.per_class[usize::from(class)] += 1;
    }

    /// Adds a prefix that is not in the table. False if there are too many lengths already.
    pub(super) fn insert_prefix(&mut self, prefix: &[u8], class: u8, payload: u32) -> bool {
        let last = *prefix.last().expect("prefixes are not empty");
        let at = self.lengths.partition_point(|length| length.len < prefix.len());
        if self.lengths.get(at).is_none_or(|length| length.len != prefix.len()) {
            if self.lengths.len() == LENGTHS_MAX {
                return false;
            }
            self.lengths.insert(at, Length { len: prefix.len(), entries: 0, last_bytes: [0; 4] });
        }
        self.lengths[at].entries += 1;
        self.lengths[at].note(last);
        self.insert(prefix, class, payload);
        true
    }

    /// Removes a key. False if it is not in the table.
    pub(super) fn remove(&mut self, key: &[u8], class: u8) -> bool {
        let is_it = |entry: &Entry| entry.class == class && *entry.key == *key;
        let Ok(entry) = self.table.find_entry(hash(key, class), is_it) else { return false };
        entry.remove();
        self.per_class[usize::from(class)] -= 1;
        true
    }

    /// Removes a prefix. False if it is not in the table.
    pub(super) fn remove_prefix(&mut self, prefix: &[u8], class: u8) -> bool {
        if !self.remove(prefix, class) {
            return false;
        }
        let at = self.lengths.partition_point(|length| length.len < prefix.len());
        self.lengths[at].entries -= 1;
        if self.lengths[at].entries == 0 {
            self.lengths.remove(at);
        }
        true
    }

    /// Calls `visit` with the payload of every entry that equals `key`.
    #[inline]
    pub(super) fn visit_equal(&self, key: &[u8], visit: &mut impl FnMut(u32)) {
        for class in 0..3u8 {
            if self.per_class[usize::from(class)] > 0
                && let Some(payload) = self.get(key, class)
            {
                visit(payload);
            }
        }
    }

    /// Calls `visit` with the payload of every entry that `key` begins with.
    #[inline]
    pub(super) fn visit_prefixes(&self, key: &[u8], visit: &mut impl FnMut(u32)) {
        for length in &self.lengths {
            if length.len > key.len() {
                return;
            }
            if length.may_end_with(key[length.len - 1]) {
                self.visit_equal(&key[..length.len], visit);
            }
        }
    }
}

fn hash(key: &[u8], class: u8) -> u64 {
    FxBuildHasher.hash_one(key).wrapping_add(u64::from(class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefixes_of(table: &HashedKeys, key: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        table.visit_prefixes(key, &mut |payload| found.push(payload));
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            ops in prop::collection::vec((any::<bool>(), "[ab/]{1,5}", 0u8..3), 1..60),
            probes in prop::collection::vec("[ab/]{0,7}", 1..10),
        ) {
            let mut table = HashedKeys::default();
            let mut list: Vec<(String, u8, u32)> = Vec::new();
            for (i, (add, prefix, class)) in ops.into_iter().enumerate() {
                let known = list.iter().position(|(p, c, _)| (p, *c) == (&prefix, class));
                prop_assert_eq!(table.get(prefix.as_bytes(), class), known.map(|at| list[at].2));
                match (add, known) {
                    (true, None) => {
                        prop_assert!(table.insert_prefix(prefix.as_bytes(), class, i as u32));
                        list.push((prefix, class, i as u32));
                    }
                    (true, Some(_)) => {}
                    (false, known) => {
                        prop_assert_eq!(table.remove_prefix(prefix.as_bytes(), class), known.is_some());
                        known.map(|at| list.swap_remove(at));
                    }
                }
                let lengths: std::collections::BTreeSet<usize> = list.iter().map(|(p, ..)| p.len()).collect();
                let listed: Vec<usize> = table.lengths.iter().map(|length| length.len).collect();
                prop_assert_eq!(listed, lengths.into_iter().collect::<Vec<_>>());
            }
            for probe in probes {
                let mut expected: Vec<u32> =
                    list.iter().filter(|(p, ..)| probe.starts_with(p.as_str())).map(|&(.., payload)| payload).collect();
                expected.sort_unstable();
                prop_assert_eq!(prefixes_of(&table, probe.as_bytes()), expected);
            }
        }
    }

    #[test]
    fn too_many_lengths_are_refused() {
        let mut table = HashedKeys::default();
        for len in 1..=LENGTHS_MAX {
            assert!(table.insert_prefix(&vec![b'a'; len], 0, len as u32));
        }
        assert!(!table.insert_prefix(&[b'a'; LENGTHS_MAX + 1], 0, 0));
        assert!(table.insert_prefix(b"b", 0, 1000), "a known length always has room");
        assert_eq!(prefixes_of(&table, &[b'a'; 200]).len(), LENGTHS_MAX);
        assert!(table.remove_prefix(b"aaa", 0));
        assert!(table.insert_prefix(&[b'a'; LENGTHS_MAX + 1], 0, 0));
        assert!(!table.remove_prefix(b"aaa", 0));
    }
}
