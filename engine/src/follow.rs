//! What a store that follows another cluster is told, as it is replicated; `store/following.rs` is what it does with it.
//!
//! The changes of a main revision may come in several commands, each small enough to be applied in a step.

use crate::kv_codec::{self, KeyValue};
use crate::revision::Revision;
use bytes::Bytes;
use rkyv::{Archive, Serialize};

/// Records that a command should have at most, so that it is applied in a step.
pub const RECORDS_MAX: usize = 100;

/// Bytes of records behind which a command should end, for the same reason.
pub const RECORDS_BYTES: usize = 128 << 10;

/// A pair or a tombstone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct FollowRecord {
    /// `mvccpb.KeyValue` as stored; of a tombstone only the key.
    pub pair: Bytes,
    /// Whether the key was deleted.
    pub is_tombstone: bool,
}

/// Changes of one main revision, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct FollowRecords {
    pub main: i64,
    /// Sub revision of the first record.
    pub sub: i64,
    pub records: Vec<FollowRecord>,
    /// Whether these are the last ones of the revision.
    pub is_last: bool,
}

/// A lease of the other cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize)]
pub struct FollowLease {
    pub id: i64,
    /// Its granted TTL in seconds.
    pub ttl: i64,
}

/// Leases of the other cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct FollowLeases {
    /// New ones, or such whose TTL has changed.
    pub there: Vec<FollowLease>,
    /// Ids that are not there any more. One that still has keys here stays until they are gone.
    pub gone: Vec<i64>,
}

/// A record of users or roles.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct UserRecord {
    pub tree: u8,
    pub key: Bytes,
    pub value: Bytes,
}

/// What happened in the cluster that is followed. The layout is part of the log's format: a changed one gets a kind of
/// command of its own.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize)]
pub enum FollowChange {
    /// Keys have changed.
    Records(FollowRecords),
    /// History below this revision was given up.
    Compact { revision: i64 },
    /// Leases were granted or have ended.
    Leases(FollowLeases),
    /// Users and roles are these now, all of them.
    Users(Vec<UserRecord>),
    /// Nothing more comes from there: this store takes writes from now on.
    End,
}

/// What is known while following.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Following {
    pub cluster: u64,
    /// The newest record that is stored.
    pub newest: Revision,
    /// Whether there are records above the current revision.
    pub is_partial: bool,
}

/// A pair as a record.
pub fn put_record(pair: &KeyValue<'_>) -> FollowRecord {
    let mut bytes = Vec::with_capacity(pair.encoded_len());
    pair.encode_into(&mut bytes);
    FollowRecord { pair: bytes.into(), is_tombstone: false }
}

/// The deletion of a key as a record.
pub fn tombstone_record(key: &[u8]) -> FollowRecord {
    let mut bytes = Vec::new();
    kv_codec::put_bytes_field(&mut bytes, 0x0a, key);
    FollowRecord { pair: bytes.into(), is_tombstone: true }
}
