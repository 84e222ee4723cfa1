//! Deleting the keys of a range, in steps: what is deleted gets a tombstone, an event, and loses its lease.

use crate::body::{Body, Mark};
use crate::budget::Budget;
use crate::error::StoreError;
use crate::index::KeyRange;
use crate::kv_codec;
use crate::record::pair;
use crate::revision::RevKey;
use crate::store::{Store, Write};
use crate::trees::{TreeId, Trees};

/// The keys of a range being deleted.
#[derive(Debug)]
pub(crate) struct Deleting {
    /// Where to go on.
    from: Option<Box<[u8]>>,
    /// The request's changes before.
    changes_before: i64,
    /// Where the response begins.
    pub(crate) mark: Mark,
}

impl Deleting {
    pub(crate) fn new(write: &Write, body: &Body) -> Self {
        Self { from: None, changes_before: write.changes(), mark: body.mark() }
    }

    /// Keys deleted.
    pub(crate) fn count(&self, write: &Write) -> i64 {
        write.changes() - self.changes_before
    }
}

impl<T: Trees> Store<T> {
    /// Deletes keys of a range; whether all are deleted.
    pub(crate) fn delete_keys(
        &mut self,
        write: &mut Write,
        range: KeyRange<'_>,
        deleting: &mut Deleting,
        pairs: Option<&mut Body>,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        let rest = deleting.from.as_deref().map_or(range, |from| range.from_key(from));
        let next = self.write_delete(write, rest, pairs, budget)?;
        if next.is_none() {
            self.counters.deletes += 1;
        }
        deleting.from = next;
        Ok(deleting.from.is_none())
    }

    /// Deletes live keys of a range until the budget is spent; `pairs` gets fields `prev_kvs` of the response. Returns the
    /// key to go on with if there may be more.
    pub(crate) fn write_delete(
        &mut self,
        write: &mut Write,
        range: KeyRange<'_>,
        mut pairs: Option<&mut Body>,
        budget: &mut Budget,
    ) -> Result<Option<Box<[u8]>>, StoreError> {
        let Self { index, trees, events, lessor, scratch, .. } = self;
        let wants_before = pairs.is_some() || events.wants_prev();
        index.delete(range, budget, |key, entry, head| {
            let revision = write.next();
            assert!(head.revision < revision, "what is deleted is older than its tombstone");
            let before = if wants_before { Some(pair(trees, head.revision)?) } else { None };
            if let (Some(pairs), Some(before)) = (pairs.as_mut(), before) {
                kv_codec::put_message_field(pairs.tail(), 0x1a, before);
                pairs.spill();
            }
            let bytes = key.len() + before.map_or(0, <[u8]>::len);
            if events.is_on() {
                // Events tell what was there before the request. Only a hole in the duplicate check makes a difference.
                let before = match before {
                    Some(_) if head.revision.main == revision.main => {
                        entry.at(revision.main - 1).map(|at| pair(trees, at.revision())).transpose()?
                    }
                    before => before,
                };
                events.delete(revision.main, revision.sub, key, before);
            }
            scratch.clear();
            kv_codec::put_bytes_field(scratch, 0x0a, key);
            trees.insert(TreeId::Rev, &RevKey::new(revision, true), scratch)?;
            lessor.detach(key);
            Ok::<_, StoreError>((revision, bytes))
        })
    }
}
