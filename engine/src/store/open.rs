//! Opening a store: everything that lives in memory is rebuilt from the trees.
//!
//! The key index and the keys' leases come from one pass over tree `Rev`, in order of revisions. Compaction that was
//! asked for but not finished is put back on the list of work.

use plinth_api::wire::take_varint;
use std::ops::ControlFlow;

use crate::error::StoreError;
use crate::index::{KeyIndex, Restore};
use crate::lease::Lessor;
use crate::record::{parse_record, record_error};
use crate::revision::{RevKey, Revision};
use crate::store::compact::Compaction;
use crate::store::{EntryId, Store, StoreConfig, meta};
use crate::trees::{TreeId, Trees};
use crate::watch::{EventBatchBuilder, EventMode};

impl<T: Trees> Store<T> {
    /// Opens a store over trees that hold one, or nothing.
    pub fn open(trees: T, config: StoreConfig) -> Result<Self, StoreError> {
        let mut store = Self::empty(trees, config);
        store.applied = read_applied(&store.trees)?;
        restore_leases(&store.trees, &mut store.lessor)?;
        store.restore_alarms()?;
        store.restore_auth()?;
        store.restore_v2()?;
        let newest = restore_pairs(&store.trees, &mut store.index, &mut store.lessor)?;
        let current = store.restore_following(newest)?;
        let finished = read_revision(&store.trees, meta::FINISHED_COMPACT)?;
        let scheduled = read_revision(&store.trees, meta::SCHEDULED_COMPACT)?;
        store.compact_revision = finished.max(scheduled).unwrap_or(-1);
        // What was compacted may have been the newest revision.
        store.revision = current.max(store.compact_revision).max(1);
        if scheduled > finished {
            // The pass before was cut off, so that this one cannot hash all that etcd would have.
            let previous = finished.unwrap_or(-1);
            store.compactions.push_back(Compaction::removal(previous, store.compact_revision));
        }
        store.finished_compact_revision = finished.unwrap_or(-1);
        store.events = EventBatchBuilder::new(EventMode::Off, store.revision);
        Ok(store)
    }
}

fn read_applied<T: Trees>(trees: &T) -> Result<EntryId, StoreError> {
    let Some(value) = trees.get(TreeId::Meta, meta::APPLIED)? else { return Ok(EntryId::default()) };
    EntryId::decode(value).ok_or_else(|| record_error(TreeId::Meta, meta::APPLIED, "not an index and a term"))
}

fn read_revision<T: Trees>(trees: &T, key: &[u8]) -> Result<Option<i64>, StoreError> {
    let Some(value) = trees.get(TreeId::Meta, key)? else { return Ok(None) };
    match RevKey::parse(value) {
        Some((revision, false)) => Ok(Some(revision.main)),
        _ => Err(record_error(TreeId::Meta, key, "not a revision")),
    }
}

/// Decodes `leasepb.Lease`: id, TTL, remaining TTL.
fn decode_lease(mut value: &[u8]) -> Option<(i64, i64, i64)> {
    let mut fields = [0; 3];
    while let Some((&tag, rest)) = value.split_first() {
        let (number, rest) = take_varint(rest)?;
        let field = usize::from(tag >> 3).checked_sub(1).filter(|&field| field < 3 && tag & 7 == 0)?;
        fields[field] = number as i64;
        value = rest;
    }
    Some((fields[0], fields[1], fields[2]))
}

fn restore_leases<T: Trees>(trees: &T, lessor: &mut Lessor) -> Result<(), StoreError> {
    let mut bad = None;
    trees.scan(TreeId::Lease, b"", &mut |key, value| match decode_lease(value) {
        Some((id, ttl, remaining_ttl)) if key == id.to_be_bytes() && !lessor.contains(id) => {
            lessor.restore(id, ttl, remaining_ttl);
            ControlFlow::Continue(())
        }
        _ => {
            bad = Some(record_error(TreeId::Lease, key, "not a lease"));
            ControlFlow::Break(())
        }
    })?;
    bad.map_or(Ok(()), Err)
}

/// Rebuilds the index and the keys' leases; returns the newest revision.
fn restore_pairs<T: Trees>(trees: &T, index: &mut KeyIndex, lessor: &mut Lessor) -> Result<Revision, StoreError> {
    let (mut newest, mut bad) = (Revision::default(), None);
    let mut restore = Restore::new(index);
    trees.scan_cold(TreeId::Rev, b"", &mut |key, value| match parse_record(key, value) {
        Ok((revision, is_tombstone, pair)) => {
            newest = revision;
            if is_tombstone {
                restore.add(pair.key, revision, 0, 0);
                lessor.detach(pair.key);
            } else {
                restore.add(pair.key, revision, pair.create_revision, pair.version);
                // The lease may be gone if the data came from elsewhere. Then the key has none.
                if lessor.attach(pair.lease, pair.key).is_err() {
                    lessor.detach(pair.key);
                }
            }
            ControlFlow::Continue(())
        }
        Err(error) => {
            bad = Some(error);
            ControlFlow::Break(())
        }
    })?;
    restore.finish();
    bad.map_or(Ok(newest), Err)
}
