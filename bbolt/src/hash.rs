//! `HashKV` of a database: the number that etcd and this program tell of the same history at the same revision.
//!
//! Source: etcd 3.7, `server/storage/mvcc` (`hash.go`, `kvstore.go`). The bucket is walked twice, so that of the keys only
//! one revision each is kept in memory.

use crate::check::key_of_pair;
use crate::database::{Database, Source};
use crate::error::Error;
use crate::schema::meta;
use std::collections::HashMap;

/// Length of a revision as a key; a tombstone has one byte more.
const REVISION_BYTES: usize = 17;

/// A hash, and of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// The revision up to which history counts.
    pub revision: i64,
    /// History up to here counts only as far as it is still seen; -1 before the first compaction.
    pub compact_revision: i64,
}

/// Why there is no hash. Where etcd has words for it, they are etcd's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The file.
    #[error(transparent)]
    Database(#[from] Error),
    /// It is no database of etcd v3.
    #[error("no bucket \"key\": not a database of etcd v3")]
    NoKeys,
    /// History does not go back so far.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// Nor so far ahead.
    #[error("mvcc: required revision is a future revision")]
    Future,
}

/// Main and sub revision.
type Revision = (i64, i64);

fn revision(key: &[u8]) -> Option<Revision> {
    let main = i64::from_be_bytes(*key.first_chunk()?);
    let sub = i64::from_be_bytes(key.get(9..REVISION_BYTES)?.try_into().ok()?);
    Some((main, sub))
}

fn is_tombstone(key: &[u8]) -> bool {
    key.len() > REVISION_BYTES
}

/// The hash at `at`; 0: at the newest revision.
///
/// # Errors
/// If the file is damaged, or the revision not in it.
pub fn hash_kv<S: Source + ?Sized>(database: &Database<'_, S>, at: i64) -> Result<HashKv, HashError> {
    let bucket = database.bucket(b"key")?.ok_or(HashError::NoKeys)?;
    let compact_revision = compact_revision(database)?;
    let (mut current, mut kept) = (1, HashMap::<Box<[u8]>, Option<Revision>>::new());
    let mut entries = database.entries(&bucket);
    while let Some((key, value)) = entries.next()? {
        let Some(found) = revision(key) else { continue };
        current = found.0;
        if at == 0 || found.0 <= at {
            let newest = (!is_tombstone(key)).then_some(found);
            match kept.get_mut(key_of_pair(value)) {
                Some(known) => *known = newest,
                None => drop(kept.insert(key_of_pair(value).into(), newest)),
            }
        }
    }
    current = current.max(compact_revision);
    if at > 0 && at < compact_revision {
        return Err(HashError::Compacted);
    }
    if at > current {
        return Err(HashError::Future);
    }
    let upto = if at == 0 { current } else { at };
    let is_any_kept = kept.values().any(Option::is_some);
    let mut hash = crc32c::crc32c(b"key");
    let mut entries = database.entries(&bucket);
    while let Some((key, value)) = entries.next()? {
        let Some(found) = revision(key).filter(|found| found.0 <= upto) else { continue };
        let is_seen = || kept.get(key_of_pair(value)).copied().flatten() == Some(found);
        let is_old = found.0 <= compact_revision;
        if (is_old && is_any_kept && !is_seen()) || (found.0 == compact_revision && is_tombstone(key)) {
            continue;
        }
        hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
    }
    Ok(HashKv { hash, revision: upto, compact_revision })
}

/// The compaction that etcd would say was made last, the one it would begin at its start included.
fn compact_revision<S: Source + ?Sized>(database: &Database<'_, S>) -> Result<i64, HashError> {
    let mut found = -1;
    if let Some(bucket) = database.bucket(b"meta")? {
        let mut entries = database.entries(&bucket);
        while let Some((key, value)) = entries.next()? {
            if key == meta::FINISHED_COMPACT.as_bytes() || key == meta::SCHEDULED_COMPACT.as_bytes() {
                found = found.max(revision(value).map_or(-1, |(main, _)| main));
            }
        }
    }
    Ok(found)
}
