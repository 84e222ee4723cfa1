//! What the store runs on: trees that can be flushed, and be lost but for what was flushed.

use std::ops::ControlFlow;

use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::pagefile::{Options, PageFile};
use plinth_engine::trees::{MemTrees, Record, TreeError, TreeId, Trees, Visit};

/// Trees with a past.
pub trait Backing: Trees + Sized {
    /// Empty trees, flushed.
    fn create() -> Self;
    /// Makes everything durable.
    fn flush(&mut self);
    /// What there is after a crash now.
    fn left_by_crash(&self) -> Self;
}

/// All of tree `Rev`.
pub fn records(trees: &impl Trees) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        records.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    trees.scan(TreeId::Rev, b"", &mut visit).expect("memory does not break");
    records
}

/// Trees in memory, and a copy of them from the last flush.
pub struct Memory {
    live: MemTrees,
    flushed: MemTrees,
}

impl Backing for Memory {
    fn create() -> Self {
        Memory { live: MemTrees::new(), flushed: MemTrees::new() }
    }

    fn flush(&mut self) {
        self.flushed = self.live.clone();
    }

    fn left_by_crash(&self) -> Self {
        Memory { live: self.flushed.clone(), flushed: self.flushed.clone() }
    }
}

/// A page file on a simulated disk.
pub struct File(PageFile<SimStore>);

impl Backing for File {
    fn create() -> Self {
        let mut file = PageFile::create(SimStore::new(), Options { file_id: 1 }).expect("the disk is empty");
        file.insert(TreeId::Meta, b"created", b"").expect("memory does not break");
        file.flush_now().expect("memory does not break");
        File(file)
    }

    fn flush(&mut self) {
        self.0.flush_now().expect("memory does not break");
    }

    fn left_by_crash(&self) -> Self {
        let mut random = plinth_random::Random::new(self.0.store().operations);
        File(PageFile::open(self.0.store().crash(&mut || random.bits())).expect("flushed files open"))
    }
}

macro_rules! delegate {
    ($type:ty: $field:tt) => {
        impl Trees for $type {
            fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<&[u8]>, TreeError> {
                self.$field.get(tree, key)
            }
            fn insert(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<(), TreeError> {
                self.$field.insert(tree, key, value)
            }
            fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<bool, TreeError> {
                self.$field.remove(tree, key)
            }
            fn scan(&self, tree: TreeId, from: &[u8], visit: &mut Visit<'_>) -> Result<(), TreeError> {
                self.$field.scan(tree, from, visit)
            }
            fn last(&self, tree: TreeId) -> Result<Option<Record<'_>>, TreeError> {
                self.$field.last(tree)
            }
            fn size_bytes(&self) -> u64 {
                self.$field.size_bytes()
            }
            fn in_use_bytes(&self) -> u64 {
                self.$field.in_use_bytes()
            }
        }
    };
}

delegate!(Memory: live);
delegate!(File: 0);
