//! The v2 store beside the keys: the tree of `plinth_v2`, kept in trees of its own in the same file, and so in the same
//! flushes and snapshots as everything else.
//!
//! Invariants: a command of it moves neither revision nor checksums nor what counts for the quota; what it has changed is
//! stored before the command has an outcome. The body of the outcome is a
//! [`plinth_v2::Answer`], that of a sync is empty.

use crate::budget::Budget;
use crate::error::StoreError;
use crate::store::Store;
use crate::trees::{TreeId, Trees};
use plinth_v2::Tree;
use plinth_v2::command::ArchivedV2Command;
use plinth_v2::limits::HISTORY_BYTES;
use plinth_v2::record::Place;
use plinth_v2::tree::{DamagedTree, Run};
use std::ops::ControlFlow;

/// A node that ends costs about as much as reading so many pairs: it is removed, and its end noted.
const PAIRS_PER_NODE: usize = 4;

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

    /// Goes on with a command until it is done or the budget is spent; the answer, once it is done. `reply`: somebody waits for it.
    pub(crate) fn apply_v2_some(
        &mut self,
        run: &mut Run,
        command: &ArchivedV2Command,
        reply: bool,
        budget: &mut Budget,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.v2.has_begun() {
            let own = self.own_changes()?;
            self.v2.begin(own);
        }
        let mut body = Vec::new();
        let mut nodes = (budget.pairs / PAIRS_PER_NODE).max(1);
        let is_done = self.v2.apply_some(command, run, &mut nodes, reply.then_some(&mut body));
        self.store_v2(budget)?;
        Ok(is_done.then_some(body))
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
        self.store_v2(&mut { Budget::UNBOUNDED })
    }

    fn store_v2(&mut self, budget: &mut Budget) -> Result<(), StoreError> {
        for write in self.v2.take_writes() {
            budget.write(write.value.as_ref().map_or(0, Vec::len));
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
