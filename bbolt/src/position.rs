//! What a member of etcd begins with that stands at a position and has no entries behind it: a log of one file, and the
//! `.snap` file with the members as a v2 tree, which releases up to 3.6 read. A database of that position completes it.
//!
//! Source: etcd 3.5 to 3.7, `server/storage/wal` (`encoder.go`, `wal.go`), `server/etcdserver/api/snap`, `api/v2store`.

use crate::schema::{ConfState, to_json};
use crate::snap::MemberTree;
use crate::wal::{FRAME_BYTES, HardState, Identity, kind};
use plinth_api::wire::{field_bytes, field_message, field_varint};
use serde_json::{Map, Value, json};

/// Name of a log's first file.
pub const WAL_NAME: &str = "0000000000000000-0000000000000000.wal";

/// Events that the v2 store remembers; the list has so many places, used or not.
const HISTORY: usize = 1000;

/// Where a member stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The last entry, whose effects are in the database; there is one.
    pub index: u64,
    pub term: u64,
    /// Who votes and who learns.
    pub conf_state: ConfState,
}

impl Position {
    /// Name of the `.snap` file.
    pub fn snap_name(&self) -> String {
        format!("{:016x}-{:016x}.snap", self.term, self.index)
    }
}

/// The log's first file: whose it is, what was promised, and that a snapshot of this position was made.
pub fn wal_file(identity: &Identity, position: &Position, hard_state: &HardState) -> Vec<u8> {
    let mut file = File::default();
    file.record(kind::CHECKSUM, &[]);
    let mut data = Vec::new();
    field_varint(&mut data, 1, identity.member);
    field_varint(&mut data, 2, identity.cluster);
    file.record(kind::METADATA, &data);
    file.record(kind::SNAPSHOT, &mark(0, 0, None));
    data.clear();
    field_varint(&mut data, 1, hard_state.term);
    field_varint(&mut data, 2, hard_state.vote);
    field_varint(&mut data, 3, hard_state.commit);
    file.record(kind::HARD_STATE, &data);
    file.record(kind::SNAPSHOT, &mark(position.index, position.term, Some(&position.conf_state)));
    file.bytes
}

/// `walpb.Snapshot`
fn mark(index: u64, term: u64, conf_state: Option<&ConfState>) -> Vec<u8> {
    let mut data = Vec::new();
    field_varint(&mut data, 1, index);
    field_varint(&mut data, 2, term);
    if let Some(conf_state) = conf_state {
        field_message(&mut data, 3, |out| put_conf_state(out, conf_state));
    }
    data
}

/// `raftpb.ConfState`
fn put_conf_state(out: &mut Vec<u8>, conf: &ConfState) {
    for (number, ids) in [(1, &conf.voters), (2, &conf.learners), (3, &conf.voters_outgoing), (4, &conf.learners_next)]
    {
        ids.iter().for_each(|id| field_varint(out, number, *id));
    }
    field_varint(out, 5, u64::from(conf.auto_leave));
}

/// A file of the log under construction.
#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    /// Goes on over the data of all records.
    checksum: u32,
}

impl File {
    fn record(&mut self, kind: u64, data: &[u8]) {
        self.checksum = crc32c::crc32c_append(self.checksum, data);
        let mut record = Vec::new();
        field_varint(&mut record, 1, kind);
        field_varint(&mut record, 2, u64::from(self.checksum));
        if !data.is_empty() {
            field_bytes(&mut record, 3, data);
        }
        let padding = record.len().wrapping_neg() % FRAME_BYTES;
        let top = if padding == 0 { 0 } else { 0x80 | padding as u64 };
        self.bytes.extend_from_slice(&(record.len() as u64 | top << 56).to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

/// The `.snap` file of a position.
pub fn snap_file(position: &Position, tree: &MemberTree, cluster_version: &str) -> Vec<u8> {
    let mut data = Vec::new();
    field_bytes(&mut data, 1, v2_store(tree, cluster_version).to_string().as_bytes());
    field_message(&mut data, 2, |out| {
        field_message(out, 1, |out| put_conf_state(out, &position.conf_state));
        field_varint(out, 2, position.index);
        field_varint(out, 3, position.term);
    });
    let mut file = Vec::new();
    field_varint(&mut file, 1, u64::from(crc32c::crc32c(&data)));
    field_bytes(&mut file, 2, &data);
    file
}

/// The v2 store, which holds nothing but etcd's own.
fn v2_store(tree: &MemberTree, cluster_version: &str) -> Value {
    let text = |json: Vec<u8>| String::from_utf8(json).expect("JSON is text");
    let members = tree.members.values().map(|member| {
        let name = format!("{:x}", member.id);
        let at = format!("/0/members/{name}");
        let mut raft = Map::from_iter([("peerURLs".to_owned(), json!(member.peer_urls))]);
        if member.is_learner {
            raft.insert("isLearner".to_owned(), Value::Bool(true));
        }
        let mut parts = vec![("raftAttributes", leaf(&format!("{at}/raftAttributes"), &text(to_json(&raft))))];
        if !member.name.is_empty() {
            let attributes = json!({ "name": member.name, "clientURLs": member.client_urls });
            parts.push(("attributes", leaf(&format!("{at}/attributes"), &text(to_json(&attributes)))));
        }
        (name, folder(&at, parts))
    });
    let removed = tree.removed.iter().map(|id| {
        let name = format!("{id:x}");
        let node = leaf(&format!("/0/removed_members/{name}"), "removed");
        (name, node)
    });
    let own = [
        ("members", folder("/0/members", members)),
        ("removed_members", folder("/0/removed_members", removed)),
        ("version", leaf("/0/version", cluster_version)),
    ];
    let none: [(&str, Value); 0] = [];
    let queue = json!({ "Events": vec![Value::Null; HISTORY], "Size": 0, "Front": 0, "Back": 0, "Capacity": HISTORY });
    json!({
        "Root": folder("/", [("0", folder("/0", own)), ("1", folder("/1", none))]),
        "WatcherHub": { "EventHistory": { "Queue": queue, "StartIndex": 0, "LastIndex": 0 } },
        "CurrentIndex": 0,
        "Stats": {},
        "CurrentVersion": 2,
    })
}

fn leaf(path: &str, value: &str) -> Value {
    node(path, value, Value::Null)
}

fn folder<N: Into<String>>(path: &str, children: impl IntoIterator<Item = (N, Value)>) -> Value {
    let children = children.into_iter().map(|(name, node)| (name.into(), node));
    node(path, "", Value::Object(children.collect()))
}

fn node(path: &str, value: &str, children: Value) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": 0,
        "ModifiedIndex": 0,
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Member;
    use crate::snap::Snap;
    use crate::wal::Reader;

    fn position() -> Position {
        let conf_state = ConfState { voters: vec![7], learners: vec![u64::MAX], ..ConfState::default() };
        Position { index: 12, term: 3, conf_state }
    }

    #[test]
    fn the_log_is_read_as_it_was_meant() {
        let (identity, hard_state) =
            (Identity { member: u64::MAX, cluster: 9 }, HardState { term: 4, vote: 7, commit: 12 });
        let file = wal_file(&identity, &position(), &hard_state);
        assert_eq!(file.len() % FRAME_BYTES, 0);
        let mut reader = Reader::default();
        reader.file(WAL_NAME, &file, true).expect("whole");
        let wal = reader.finish().expect("whole");
        assert_eq!((wal.identity, wal.hard_state, wal.entries.len()), (identity, hard_state, 0));
        let marks: Vec<_> = wal.snapshots.iter().map(|mark| (mark.index, mark.term)).collect();
        assert_eq!((marks, wal.torn_bytes), (vec![(0, 0), (12, 3)], 0));
    }

    #[test]
    fn the_members_are_read_as_they_were_meant() {
        let voter = Member {
            id: 7,
            peer_urls: vec!["http://p:1".into()],
            name: "seven".into(),
            client_urls: vec!["http://c:1".into()],
            ..Member::default()
        };
        let learner =
            Member { id: u64::MAX, peer_urls: vec!["http://p:2".into()], is_learner: true, ..Member::default() };
        let members = [voter, learner].into_iter().map(|member| (member.id, member)).collect();
        let tree = MemberTree { members, removed: [4].into() };
        let snap = Snap::read(&snap_file(&position(), &tree, "3.5.0")).expect("whole");
        assert_eq!((snap.index, snap.term), (12, 3));
        assert_eq!(snap.members().expect("a tree"), tree);
        assert!(!snap.has_custom_content().expect("a tree"));
        assert_eq!(position().snap_name(), "0000000000000003-000000000000000c.snap");
    }
}
