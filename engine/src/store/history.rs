//! Reading what happened, for watchers that are behind.

use std::ops::ControlFlow;

use crate::error::StoreError;
use crate::record::{pair, parse_record};
use crate::revision::{RevKey, Revision};
use crate::store::Store;
use crate::trees::{TreeId, Trees};

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HistoryEvent<'a> {
    pub revision: Revision,
    pub is_delete: bool,
    /// Whether it was a put that created the key.
    pub is_create: bool,
    pub key: &'a [u8],
    /// The stored pair; for a delete, only its key.
    pub pair: &'a [u8],
}

impl<T: Trees> Store<T> {
    /// Tells all changes with a main revision from `from` to `to`, both included, in order, until `visit` breaks.
    /// Everything above the compact revision is there; of the compact revision itself, what was not superseded.
    pub fn history(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(HistoryEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut bad = None;
        self.trees.scan(TreeId::Rev, &RevKey::floor(from), &mut |key, value| match parse_record(key, value) {
            Ok((revision, _, _)) if revision.main > to => ControlFlow::Break(()),
            Ok((revision, is_delete, pair)) => visit(HistoryEvent {
                revision,
                is_delete,
                is_create: !is_delete && pair.create_revision == revision.main,
                key: pair.key,
                pair: value,
            }),
            Err(error) => {
                bad = Some(error);
                ControlFlow::Break(())
            }
        })?;
        bad.map_or(Ok(()), Err)
    }

    /// The pair that a key had before a main revision: what watch events call the previous one. None if the key did not
    /// exist, or if history before that revision was compacted.
    pub fn kv_at(&self, key: &[u8], before: Revision) -> Result<Option<&[u8]>, StoreError> {
        let at = before.main - 1;
        if at < self.compact_revision {
            return Ok(None);
        }
        let found = self.index.get(key).and_then(|entry| entry.at(at));
        found.map(|at| pair(&self.trees, at.revision())).transpose()
    }
}
