//! The v2 store beside the keys: the tree of `plinth_v2`, kept in trees of its own in the same file, and so in the same
//! flushes and snapshots as everything else.
//!
//! Invariants: a command of it moves neither revision nor checksums nor what counts for the quota; what it has changed is
//! stored before the command has an outcome. The body of the outcome is a
//! [`plinth_v2::Answer`], that of a sync is empty.

use crate::error::StoreError;
use crate::store::Store;
use crate::trees::{TreeId, Trees};
use plinth_v2::Tree;
use plinth_v2::command::ArchivedV2Command;
use plinth_v2::limits::HISTORY_BYTES;
use plinth_v2::record::Place;
use plinth_v2::tree::DamagedTree;
use std::ops::ControlFlow;

/// Changes that etcd had made of its own when the first client came, besides two for each member: the version.
const VERSION_CHANGES: u64 = 1;

fn tree_of(place: Place) -> TreeId {
    match place {
        Place::Nodes => TreeId::V2,
        Place::Events => TreeId::V2Events,
    }
}

impl<T: Trees> Store<T> {
    /// The v2 store.
    pub fn v2(&self) -> &Tree {
        &self.v2
    }

    /// The v2 store, to read with counting, and for what is this member's own. Changes go through commands.
    pub fn v2_mut(&mut self) -> &mut Tree {
        &mut self.v2
    }

    /// Reads it while opening.
    pub(crate) fn restore_v2(&mut self) -> Result<(), StoreError> {
        self.trees.count_v2()?;
        let mut tree = Tree::default();
        self.load_v2(Place::Nodes, |key, value| tree.load_node(key, value))?;
        self.load_v2(Place::Events, |key, value| tree.load_event(key, value))?;
        tree.check().map_err(|damaged| broken(TreeId::V2, &[], damaged))?;
        tree.set_history_bounds(self.config.v2_history, HISTORY_BYTES);
        self.v2 = tree;
        Ok(())
    }

    fn load_v2(
        &self,
        place: Place,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), DamagedTree>,
    ) -> Result<(), StoreError> {
        let (tree, mut bad) = (tree_of(place), None);
        self.trees.scan(tree, b"", &mut |key, value| match take(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(damaged) => {
                bad = Some(broken(tree, key, damaged));
                ControlFlow::Break(())
            }
        })?;
        bad.map_or(Ok(()), Err)
    }

    pub(crate) fn apply_v2(
        &mut self,
        command: &ArchivedV2Command,
        out: Option<&mut Vec<u8>>,
    ) -> Result<(), StoreError> {
        if !self.v2.has_begun() {
            let own = self.own_changes()?;
            self.v2.begin(own);
        }
        self.v2.apply(command, out);
        self.store_v2()
    }

    /// What etcd had counted before the first client came.
    fn own_changes(&self) -> Result<u64, StoreError> {
        let mut changes = VERSION_CHANGES;
        // The record of a member, and what it has published; those of removed ones have another mark.
        self.trees.scan(TreeId::Members, b"", &mut |key, _| {
            changes += u64::from(key.len() == 8 || key.last() == Some(&b'a'));
            ControlFlow::Continue(())
        })?;
        Ok(changes)
    }

    /// The cluster has changed, which counts in the v2 store, if it is used.
    ///
    /// # Errors
    /// If the trees are broken.
    pub fn note_cluster_change(&mut self) -> Result<(), StoreError> {
        if !self.v2.has_begun() {
            return Ok(());
        }
        self.v2.note_own_change();
        self.store_v2()
    }

    fn store_v2(&mut self) -> Result<(), StoreError> {
        for write in self.v2.take_writes() {
            let tree = tree_of(write.place);
            match write.value {
                Some(value) => self.trees.insert(tree, &write.key, &value)?,
                None => drop(self.trees.remove(tree, &write.key)?),
            }
        }
        Ok(())
    }
}

fn broken(tree: TreeId, key: &[u8], damaged: DamagedTree) -> StoreError {
    StoreError::Record { tree: tree.name(), key: key.to_vec(), detail: damaged.0 }
}
