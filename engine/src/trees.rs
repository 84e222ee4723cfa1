//! The seam between the store and whatever keeps its bytes: a handful of ordered byte maps with one writer.
//!
//! The page file implements [`Trees`] for real; [`MemTrees`] implements it for models and tests.
//!
//! Invariants every implementation keeps: keys are ordered bytewise; a slice handed out stays valid until the next
//! change; all changes since the last flush become durable together or not at all (flushing is the implementation's
//! business and not part of the trait).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// The named trees of one group's file. The number is part of the file format and never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TreeId {
    /// Revision (big-endian main, `_`, big-endian sub, `t` for tombstones) to encoded `mvccpb.KeyValue`.
    Rev = 1,
    /// Lease id (8 bytes, big-endian) to encoded `leasepb.Lease`.
    Lease = 2,
    /// Small named values: applied entry, compaction marks, cluster id and version.
    Meta = 3,
    /// Active alarms: encoded `etcdserverpb.AlarmMember` to nothing.
    Alarm = 4,
    /// Members of the cluster, as the server encodes them.
    Members = 5,
    /// Whether users matter, and the auth revision.
    Auth = 6,
    /// User name to encoded `authpb.User`.
    AuthUsers = 7,
    /// Role name to encoded `authpb.Role`.
    AuthRoles = 8,
    /// Nodes of the v2 tree, and its own numbers; see `plinth_v2::record`.
    V2 = 9,
    /// The history of the v2 tree.
    V2Events = 10,
}

impl TreeId {
    /// The trees of the v2 store: they count neither for the quota nor for checksums of the v3 store.
    pub const OF_V2: [TreeId; 2] = [TreeId::V2, TreeId::V2Events];

    /// All trees, in order of their numbers.
    pub const ALL: [TreeId; 10] = [
        TreeId::Rev,
        TreeId::Lease,
        TreeId::Meta,
        TreeId::Alarm,
        TreeId::Members,
        TreeId::Auth,
        TreeId::AuthUsers,
        TreeId::AuthRoles,
        TreeId::V2,
        TreeId::V2Events,
    ];

    /// The tree's name in messages and tools.
    pub fn name(self) -> &'static str {
        match self {
            TreeId::Rev => "rev",
            TreeId::Lease => "lease",
            TreeId::Meta => "meta",
            TreeId::Alarm => "alarm",
            TreeId::Members => "members",
            TreeId::Auth => "auth",
            TreeId::AuthUsers => "authUsers",
            TreeId::AuthRoles => "authRoles",
            TreeId::V2 => "v2",
            TreeId::V2Events => "v2Events",
        }
    }
}

/// A tree could not be read or changed. Always fatal for the store: nothing half applied may be served afterwards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Stored bytes are damaged.
    #[error("tree {tree}, page {page}: {detail}")]
    Corrupt {
        page: u64,
        /// The tree the page belongs to, by number; 0 if it is not known.
        tree: u8,
        /// What was expected and what was found.
        detail: String,
    },
    /// The file cannot grow: the disk or the address range reserved for the map is exhausted.
    #[error("no room to grow the file beyond {size_bytes} bytes")]
    Full {
        /// Size of the file when growing failed.
        size_bytes: u64,
    },
    /// Key or value is longer than the format can hold.
    #[error("entry of {key_bytes} + {value_bytes} bytes exceeds what a tree can hold")]
    TooLarge { key_bytes: usize, value_bytes: usize },
    /// The operating system reported an error.
    #[error("{detail}")]
    Io {
        /// What was tried, where, and what the system said.
        detail: String,
    },
}

/// Called with each entry of a scan; breaks to end it.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Key and value of a stored entry.
pub type Record<'a> = (&'a [u8], &'a [u8]);

/// Ordered byte maps with one writer.
pub trait Trees {
    /// The value of `key`, without a copy.
    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError>;

    /// Inserts or replaces.
    fn insert(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<(), TreeError>;

    /// Removes; false if there was nothing.
    fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<bool, TreeError>;

    /// Calls `visit` for every entry with a key not below `from`, in order, until it breaks.
    fn scan(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError>;

    /// As [`Trees::scan`], for passes over everything: what was read need not stay in memory.
    fn scan_cold(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.scan(tree, from, visit)
    }

    /// The entry with the greatest key.
    fn last(&self, tree: TreeId) -> Result<Option<Record<'_>>, TreeError>;

    /// Allocated size, free pages included (etcd's dbSize).
    fn size_bytes(&self) -> u64;

    /// Size without free pages (etcd's dbSizeInUse).
    fn in_use_bytes(&self) -> u64;

    /// As [`Trees::in_use_bytes`], without the trees of the v2 store.
    fn counted_bytes(&self) -> u64 {
        self.in_use_bytes()
    }

    /// Finds out how much the trees of the v2 store take, before they are changed.
    fn count_v2(&mut self) -> Result<(), TreeError> {
        Ok(())
    }

    /// Whether what is stored could not grow when it wanted to, which is well before it must.
    fn is_short_of_space(&self) -> bool {
        false
    }

    /// Whether changes wait in memory for which there is no room on the disk. They can be neither flushed nor lost: whoever
    /// has a log of them should not make many more.
    fn is_overdrawn(&self) -> bool {
        false
    }

    /// Tries again to grow, if there was no room the last time.
    fn retry_space(&mut self) -> Result<(), TreeError> {
        Ok(())
    }
}

/// What can be read of named trees: the present state, or one that is pinned.
pub trait View {
    /// The value of `key`, without a copy.
    fn value(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError>;

    /// Calls `visit` for every entry with a key not below `from`, in order, until it breaks. Made for passes over
    /// everything: what was read need not stay in memory.
    fn walk(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError>;
}

impl<T: Trees> View for T {
    fn value(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        self.get(tree, key)
    }

    fn walk(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        self.scan_cold(tree, from, visit)
    }
}

/// Trees in memory, for models and tests. Sizes are the sums of key and value lengths.
#[derive(Clone, Debug, Default)]
pub struct MemTrees {
    maps: [BTreeMap<Vec<u8>, Vec<u8>>; TreeId::ALL.len()],
    bytes: u64,
}

impl MemTrees {
    /// Empty trees.
    pub fn new() -> Self {
        Self::default()
    }

    /// All entries of one tree, in order.
    pub fn entries(&self, tree: TreeId) -> impl Iterator<Item = Record<'_>> {
        self.map(tree).iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    fn map(&self, tree: TreeId) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.maps[tree as usize - 1]
    }

    fn map_mut(&mut self, tree: TreeId) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        &mut self.maps[tree as usize - 1]
    }
}

impl Trees for MemTrees {
    fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        Ok(self.map(tree).get(key).map(Vec::as_slice))
    }

    fn insert(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
        let old = self.map_mut(tree).insert(key.to_vec(), value.to_vec());
        let old_bytes = old.map_or(0, |old| key.len() + old.len());
        self.bytes = self.bytes + (key.len() + value.len()) as u64 - old_bytes as u64;
        Ok(())
    }

    fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<bool, TreeError> {
        let Some(old) = self.map_mut(tree).remove(key) else { return Ok(false) };
        self.bytes -= (key.len() + old.len()) as u64;
        Ok(true)
    }

    fn scan(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
        let range = self.map(tree).range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        for (key, value) in range {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, tree: TreeId) -> Result<Option<Record<'_>>, TreeError> {
        Ok(self.map(tree).last_key_value().map(|(key, value)| (key.as_slice(), value.as_slice())))
    }

    fn size_bytes(&self) -> u64 {
        self.bytes
    }

    fn in_use_bytes(&self) -> u64 {
        self.bytes
    }

    fn counted_bytes(&self) -> u64 {
        let bytes = |tree| self.entries(tree).map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        self.bytes - TreeId::OF_V2.into_iter().map(bytes).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_separate_and_ordered() {
        let mut trees = MemTrees::new();
        for key in [b"b", b"a", b"c"] {
            trees.insert(TreeId::Rev, key, b"1").expect("memory does not fail");
        }
        trees.insert(TreeId::Meta, b"z", b"2").expect("memory does not fail");
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            seen.push(key.to_vec());
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        trees.scan(TreeId::Rev, b"a\0", &mut visit).expect("memory does not fail");
        assert_eq!(seen, [b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(trees.last(TreeId::Rev).expect("memory does not fail"), Some((&b"c"[..], &b"1"[..])));
        assert_eq!(trees.size_bytes(), 8);
        assert!(trees.remove(TreeId::Rev, b"c").expect("memory does not fail"));
        assert!(!trees.remove(TreeId::Rev, b"c").expect("memory does not fail"));
        trees.insert(TreeId::Rev, b"a", b"").expect("memory does not fail");
        assert_eq!(trees.size_bytes(), 5);
    }
}
