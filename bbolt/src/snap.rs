//! etcd's `.snap` file: a position of the log, and the tree of the v2 store, which holds the members.
//!
//! `snappb.Snapshot` is {checksum = 1, data = 2}; the data is `raftpb.Snapshot`, {tree as JSON = 1, metadata = 2}. In releases
//! up to 3.5 the tree is what is true of the members, whatever the database says.
//!
//! Source: etcd 3.4 to 3.7, `server/etcdserver/api/snap`, `api/v2store`, `api/membership`.

use crate::schema::Member;
use plinth_api::wire::{bytes_field, integer_field};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("not a snapshot of etcd: {0}")]
pub struct SnapError(String);

/// The members, as the v2 store has them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberTree {
    /// By id.
    pub members: BTreeMap<u64, Member>,
    /// Ids that must not come back.
    pub removed: BTreeSet<u64>,
}

/// What users keep in the v2 store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct V2Nodes {
    /// Changes of the store so far, its own included.
    pub index: u64,
    /// Keys and directories, each behind the directory that it is in.
    pub nodes: Vec<V2Node>,
}

/// A key or a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct V2Node {
    /// Its path, with the namespace.
    pub path: Vec<u8>,
    /// Index of its creation.
    pub created: u64,
    /// Index of its last change.
    pub modified: u64,
    /// When it ends, in nanoseconds since 1970; 0 for never.
    pub deadline: i64,
    /// The value of a key.
    pub value: Option<Vec<u8>>,
}

/// What a snapshot's file says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snap {
    /// Last entry in it.
    pub index: u64,
    pub term: u64,
    /// The tree, as JSON.
    tree: Vec<u8>,
}

impl Snap {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is empty, damaged or something else.
    pub fn read(bytes: &[u8]) -> Result<Snap, SnapError> {
        let bad = |detail: &str| SnapError(detail.to_owned());
        let data = bytes_field(bytes, 2).filter(|data| !data.is_empty()).ok_or_else(|| bad("no data"))?;
        let checksum = integer_field(bytes, 1) as u32;
        if checksum == 0 || checksum != crc32c::crc32c(data) {
            return Err(bad("its checksum does not fit"));
        }
        let metadata = bytes_field(data, 2).ok_or_else(|| bad("no position"))?;
        let (index, term) = (integer_field(metadata, 2) as u64, integer_field(metadata, 3) as u64);
        Ok(Snap { index, term, tree: bytes_field(data, 1).unwrap_or_default().to_vec() })
    }

    /// The members in it.
    ///
    /// # Errors
    /// If the tree is not the v2 store's.
    pub fn members(&self) -> Result<MemberTree, SnapError> {
        let bad = |detail: String| SnapError(detail);
        let tree: Value = serde_json::from_slice(&self.tree).map_err(|error| bad(error.to_string()))?;
        let mut found = MemberTree::default();
        for (name, node) in children(&tree["Root"]["Children"]["0"]["Children"]["members"]) {
            let id = parse_id(name).ok_or_else(|| bad(format!("member {name:?}")))?;
            let mut member = Member { id, ..Member::default() };
            for (part, value) in children(node) {
                let value = value["Value"].as_str().unwrap_or_default();
                member.read_part(part, value).map_err(|error| bad(format!("member {name}: {error}")))?;
            }
            found.members.insert(id, member);
        }
        for (name, _) in children(&tree["Root"]["Children"]["0"]["Children"]["removed_members"]) {
            found.removed.insert(parse_id(name).ok_or_else(|| bad(format!("removed member {name:?}")))?);
        }
        Ok(found)
    }

    /// What users keep in it, and their own users and roles.
    ///
    /// # Errors
    /// If the tree is not the v2 store's.
    pub fn v2_nodes(&self, time: impl Fn(&str) -> Option<i64>) -> Result<V2Nodes, SnapError> {
        let tree: Value = serde_json::from_slice(&self.tree).map_err(|error| SnapError(error.to_string()))?;
        let root = &tree["Root"]["Children"];
        let mut waiting: Vec<&Value> = children(&root["1"]).map(|(_, node)| node).collect();
        waiting.extend(root.get("2"));
        nodes(&tree, waiting, time)
    }

    /// What is in a file of etcd 0.4, which is a tree of JSON whose keys lie at its root. They get the namespace of keys.
    ///
    /// # Errors
    /// If it is not.
    pub fn nodes_of_the_first_format(json: &[u8], time: impl Fn(&str) -> Option<i64>) -> Result<V2Nodes, SnapError> {
        let tree: Value = serde_json::from_slice(json).map_err(|error| SnapError(error.to_string()))?;
        let waiting = children(&tree["Root"]).map(|(_, node)| node).collect();
        let mut found = nodes(&tree, waiting, time)?;
        found.nodes.iter_mut().for_each(|node| node.path.splice(..0, *b"/1").for_each(drop));
        Ok(found)
    }

    /// Whether the tree holds anything besides etcd's own: children of the root other than `0`, and `2` unless its roles and
    /// users are empty. etcd 3.6 does not start then.
    ///
    /// # Errors
    /// If the tree is not the v2 store's.
    pub fn has_custom_content(&self) -> Result<bool, SnapError> {
        let tree: Value = serde_json::from_slice(&self.tree).map_err(|error| SnapError(error.to_string()))?;
        Ok(children(&tree["Root"]).any(|(name, node)| match name {
            "0" => false,
            // The folder of keys is always there; what counts is in it.
            "1" => children(node).next().is_some(),
            "2" => {
                children(node).any(|(name, node)| !matches!(name, "roles" | "users") || children(node).next().is_some())
            }
            _ => true,
        }))
    }
}

/// These nodes, and all below them.
fn nodes(tree: &Value, mut waiting: Vec<&Value>, time: impl Fn(&str) -> Option<i64>) -> Result<V2Nodes, SnapError> {
    let mut found = V2Nodes { index: tree["CurrentIndex"].as_u64().unwrap_or(0), nodes: Vec::new() };
    while let Some(node) = waiting.pop() {
        let path = node["Path"].as_str().ok_or_else(|| SnapError("a node without a path".to_owned()))?;
        let is_dir = node["Children"].is_object();
        found.nodes.push(V2Node {
            path: path.as_bytes().to_vec(),
            created: node["CreatedIndex"].as_u64().unwrap_or(0),
            modified: node["ModifiedIndex"].as_u64().unwrap_or(0),
            deadline: node["ExpireTime"].as_str().and_then(&time).unwrap_or(0),
            value: (!is_dir).then(|| node["Value"].as_str().unwrap_or_default().as_bytes().to_vec()),
        });
        waiting.extend(children(node).map(|(_, node)| node));
    }
    Ok(found)
}

impl Member {
    /// Takes over `raftAttributes` or `attributes`, as the v2 store keeps them.
    ///
    /// # Errors
    /// If they are not what they should be.
    pub fn read_part(&mut self, part: &str, json: &str) -> Result<(), serde_json::Error> {
        let read: Member = serde_json::from_str(json)?;
        match part {
            "raftAttributes" => (self.peer_urls, self.is_learner) = (read.peer_urls, read.is_learner),
            "attributes" => (self.name, self.client_urls) = (read.name, read.client_urls),
            _ => {}
        }
        Ok(())
    }
}

/// The id of a member as a part of a path.
pub fn parse_id(name: &str) -> Option<u64> {
    u64::from_str_radix(name, 16).ok()
}

fn children(node: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let map = match node.get("Children") {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    };
    map.into_iter().flatten().map(|(name, node)| (name.rsplit('/').next().unwrap_or(name), node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::wire::{field_bytes, field_message, field_varint};

    const TREE: &str = r#"{"Root":{"Path":"/","Children":{"0":{"Path":"/0","Children":{"members":{"Path":"/0/members",
        "Children":{"8e9e05c52164694d":{"Path":"/0/members/8e9e05c52164694d","Children":{
            "attributes":{"Value":"{\"name\":\"a\",\"clientURLs\":[\"http://c:1\"]}","Children":null},
            "raftAttributes":{"Value":"{\"peerURLs\":[\"http://p:1\"],\"isLearner\":true}","Children":null}}}}},
        "removed_members":{"Children":{"7":{"Value":""}}},"version":{"Value":"3.5.0"}}},
        "1":{"Path":"/1","Children":{"mine":{"Path":"/1/mine","CreatedIndex":4,"ModifiedIndex":5,"Children":{
        "key":{"Path":"/1/mine/key","CreatedIndex":4,"ModifiedIndex":5,"ExpireTime":"0001-01-01T00:00:00Z","Value":"x","Children":null}}}}}}}}"#;

    fn file(tree: &str) -> Vec<u8> {
        let mut data = Vec::new();
        field_bytes(&mut data, 1, tree.as_bytes());
        field_message(&mut data, 2, |out| {
            field_varint(out, 2, 12);
            field_varint(out, 3, 3);
        });
        let mut file = Vec::new();
        field_varint(&mut file, 1, crc32c::crc32c(&data).into());
        field_bytes(&mut file, 2, &data);
        file
    }

    #[test]
    fn members_are_read_from_the_tree() {
        let snap = Snap::read(&file(TREE)).expect("whole");
        assert_eq!((snap.index, snap.term), (12, 3));
        let tree = snap.members().expect("a tree");
        let member = &tree.members[&0x8e9e_05c5_2164_694d];
        assert_eq!((member.name.as_str(), member.is_learner), ("a", true));
        assert_eq!((&member.peer_urls[0][..], &member.client_urls[0][..]), ("http://p:1", "http://c:1"));
        assert_eq!(tree.removed, BTreeSet::from([7]));
        let nodes = snap.v2_nodes(|_| None).expect("a tree").nodes;
        let node = |path: &str, value: Option<&str>| V2Node {
            path: path.as_bytes().to_vec(),
            created: 4,
            modified: 5,
            deadline: 0,
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        assert_eq!(nodes, [node("/1/mine", None), node("/1/mine/key", Some("x"))]);
    }

    #[test]
    fn damage_is_refused() {
        let good = file(TREE);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            // Whatever it is read as, it does not panic; data of another content never passes the checksum.
            if let Ok(snap) = Snap::read(&bytes) {
                let _ = snap.members();
                assert_eq!(snap.tree, TREE.as_bytes());
            }
        }
        assert!(Snap::read(&[]).is_err());
    }
}
