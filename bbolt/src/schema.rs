//! What etcd keeps in its database: buckets, names in them, and the small values in their own notations.
//!
//! Source: etcd 3.4 to 3.7, `server/storage/schema`. Keys of `key` are revisions (8 bytes main, `_`, 8 bytes sub, `t` for
//! tombstones), values `mvccpb.KeyValue`; keys of `lease` are ids (8 bytes), values `leasepb.Lease`; `alarm` has
//! `etcdserverpb.AlarmMember` as keys. Members are JSON below their id in hexadecimal.

use serde::{Deserialize, Serialize};

/// All buckets of a database, in order.
pub const BUCKETS: [&str; 10] =
    ["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"];

/// Buckets of ours behind etcd's: the tree of the v2 store, and its history. They are there if it is used. etcd and its tools
/// leave buckets alone that they do not know.
pub const V2_BUCKETS: [&str; 2] = ["plinthV2", "plinthV2Events"];

/// Names in bucket `meta`.
pub mod meta {
    /// Index of the last applied entry: 8 bytes, big-endian.
    pub const CONSISTENT_INDEX: &str = "consistent_index";
    /// Its term: 8 bytes, big-endian.
    pub const TERM: &str = "term";
    /// Voters and learners: [`ConfState`](super::ConfState) as JSON.
    pub const CONF_STATE: &str = "confState";
    /// Compact revision that was asked for last, as a key of bucket `key`.
    pub const SCHEDULED_COMPACT: &str = "scheduledCompactRev";
    /// Compact revision that was reached last, as a key of bucket `key`.
    pub const FINISHED_COMPACT: &str = "finishedCompactRev";
    /// Version of the schema, from 3.6 on.
    pub const STORAGE_VERSION: &str = "storageVersion";
}

/// Buckets of users and roles.
pub mod auth {
    /// `authEnabled`: one byte, 0 or 1; `authRevision`: 8 bytes, big-endian.
    pub const STATE: &str = "auth";
    /// `authpb.User` by name.
    pub const USERS: &str = "authUsers";
    /// `authpb.Role` by name.
    pub const ROLES: &str = "authRoles";
}

/// Names in bucket `cluster`.
pub mod cluster {
    /// The version that all members understand, as text.
    pub const CLUSTER_VERSION: &str = "clusterVersion";
    /// The downgrade under way, as JSON.
    pub const DOWNGRADE: &str = "downgrade";
}

/// Value of a removed member.
pub const REMOVED: &str = "removed";

/// Voters and learners of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfState {
    /// Voters (of the incoming half, in a joint configuration).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    /// Members that do not vote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    /// Voters of the outgoing half.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voters_outgoing: Vec<u64>,
    /// Outgoing voters that become learners.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners_next: Vec<u64>,
    /// Whether the leader leaves the joint configuration on its own.
    pub auto_leave: bool,
}

/// A member of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its id, up to 64 bits.
    pub id: u64,
    /// Where other members reach it.
    #[serde(rename = "peerURLs", deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it does not vote.
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// Its name; empty until it has started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has started.
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub client_urls: Vec<String>,
}

/// Go writes an empty list as null.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A downgrade of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Downgrade {
    /// The version to go to.
    #[serde(rename = "target-version")]
    pub target_version: String,
    /// Whether it is under way.
    pub enabled: bool,
}

/// The value for a member or another small record.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers and texts have a JSON form")
}

/// The key of a member: its id in lowercase hexadecimal without padding.
pub fn member_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_beyond_what_a_float_holds_survive() {
        let member =
            Member { id: u64::MAX - 1, name: "a".into(), peer_urls: vec!["http://a:1".into()], ..Default::default() };
        let json = to_json(&member);
        assert_eq!(json, br#"{"id":18446744073709551614,"peerURLs":["http://a:1"],"name":"a"}"#);
        assert_eq!(serde_json::from_slice::<Member>(&json).expect("its own form"), member);
    }

    #[test]
    fn the_configuration_reads_what_each_release_writes() {
        let wanted = ConfState { voters: vec![7], ..ConfState::default() };
        for text in [r#"{"voters":[7],"auto_leave":false}"#, r#"{"voters":[7]}"#] {
            assert_eq!(serde_json::from_str::<ConfState>(text).expect(text), wanted);
        }
    }
}
