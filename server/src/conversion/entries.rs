//! Entries of etcd's log as entries of ours: a request becomes a batch of one command, a change of a member stays one.
//!
//! Each keeps its index and term, and the same entry becomes the same bytes on every member, so that the members of a
//! cluster can be converted each for itself.
//!
//! Source: etcd 3.4 to 3.7, `api/etcdserverpb/raft_internal.proto`, `server/etcdserver/apply_v2.go`.

use super::{ConversionError, users};
use crate::api::convert;
use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::{Value, bytes_field, fields, integer_field};
use plinth_bbolt::schema;
use plinth_bbolt::wal::{self, EntryType};
use plinth_engine::author::Author;
use plinth_engine::command::{
    Alarm, AlarmAction, AlarmKind, Command, Downgrade, LeaseCheckpoint, LeaseCheckpoints, MemberAttributes,
};
use plinth_raft::batch::BatchBuilder;
use plinth_raft::{Entry, EntryKind, Member, MemberChange, MemberId};
use plinth_v2::Change;
use prost::Message;

/// Fields of `InternalRaftRequest`.
mod field {
    pub const V2: u64 = 2;
    pub const RANGE: u64 = 3;
    pub const PUT: u64 = 4;
    pub const DELETE_RANGE: u64 = 5;
    pub const TXN: u64 = 6;
    pub const COMPACTION: u64 = 7;
    pub const LEASE_GRANT: u64 = 8;
    pub const LEASE_REVOKE: u64 = 9;
    pub const ALARM: u64 = 10;
    pub const LEASE_CHECKPOINT: u64 = 11;
    pub const HEADER: u64 = 100;
    pub const AUTH_STATUS: u64 = 1013;
    pub const AUTH_READS: [u64; 4] = [1102, 1106, 1107, 1202];
    pub const AUTHENTICATE: u64 = 1012;
    pub const CLUSTER_VERSION_SET: u64 = 1300;
    pub const CLUSTER_MEMBER_ATTR_SET: u64 = 1301;
    pub const DOWNGRADE_INFO_SET: u64 = 1302;
    pub const DOWNGRADE_VERSION_TEST: u64 = 9900;
}

/// Methods of v2 requests.
const V2_METHODS: [&[u8]; 5] = [b"PUT", b"POST", b"DELETE", b"QGET", b"SYNC"];

/// A request in an entry, as far as it is known which one it is.
struct Request<'a> {
    number: u64,
    body: &'a [u8],
    user: &'a str,
    auth_revision: u64,
}

/// Translates an entry.
///
/// # Errors
/// If it is damaged, or holds what has no counterpart.
pub fn translate(entry: &wal::Entry) -> Result<Entry, ConversionError> {
    let refused = |detail: String| ConversionError::Refused(format!("entry {} of etcd's log: {detail}", entry.index));
    let (kind, data) = match entry.kind {
        // A new leader's first entry.
        EntryType::Normal if entry.data.is_empty() => (EntryKind::Normal, Bytes::new()),
        EntryType::Normal => (EntryKind::Normal, batch(entry).map_err(refused)?),
        EntryType::ConfChange => {
            let change = member_change(&entry.data).map_err(refused)?;
            (EntryKind::ConfChange, change.to_conf_change().encode())
        }
        EntryType::ConfChangeV2 => return Err(refused("a change of several members at once".into())),
    };
    Ok(Entry { index: entry.index, term: entry.term, kind, data })
}

fn batch(entry: &wal::Entry) -> Result<Bytes, String> {
    let request = Request::read(&entry.data)?;
    let command = request.command(entry.term)?;
    let mut batch = BatchBuilder::new();
    batch.push_with(|out| {
        if !request.user.is_empty() {
            Author { user: request.user, auth_revision: request.auth_revision }.encode_into(out);
        }
        command.encode_into(out);
    });
    // Nobody waits for it: it is of no member, and of no sequence.
    Ok(batch.finish(MemberId(0), 0))
}

/// What a member publishes about itself in this entry, if that is what the entry is for.
///
/// # Errors
/// If the entry is damaged, or changes data of the v2 API.
pub fn published(entry: &wal::Entry) -> Result<Option<MemberAttributes>, String> {
    if entry.data.is_empty() {
        return Ok(None);
    }
    let request = Request::read(&entry.data)?;
    match request.number {
        field::V2 | field::CLUSTER_MEMBER_ATTR_SET => match request.command(entry.term)? {
            Command::SetMemberAttributes(attributes) => Ok(Some(attributes)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

impl<'a> Request<'a> {
    fn read(data: &'a [u8]) -> Result<Request<'a>, String> {
        let mut found = Request { number: 0, body: &[], user: "", auth_revision: 0 };
        // The v2 API of 3.5 and older wrote its requests as they are. Their second field is a method, and no message.
        if bytes_field(data, 2).is_some_and(|method| V2_METHODS.contains(&method)) {
            return Ok(Request { number: field::V2, body: data, ..found });
        }
        let mut reader = fields(data);
        for field in reader.by_ref() {
            match field {
                (field::HEADER, Value::Bytes(header)) => {
                    let user = bytes_field(header, 2).unwrap_or_default();
                    found.user = std::str::from_utf8(user).map_err(|_| "a user whose name is no text".to_owned())?;
                    found.auth_revision = integer_field(header, 3).cast_unsigned();
                }
                (number, Value::Bytes(body)) => (found.number, found.body) = (number, body),
                _ => {}
            }
        }
        if reader.rest().is_empty() { Ok(found) } else { Err("not a request".into()) }
    }

    fn command(&self, term: u64) -> Result<Command, String> {
        Ok(match self.number {
            // What only reads, or makes a token that no restart survives.
            field::RANGE | field::AUTH_STATUS | field::AUTHENTICATE | field::DOWNGRADE_VERSION_TEST => Command::Noop,
            number if field::AUTH_READS.contains(&number) => Command::Noop,
            field::PUT => Command::Put(convert::put(self.decode()?)),
            field::DELETE_RANGE => Command::DeleteRange(convert::delete_range(self.decode()?)),
            field::TXN => Command::Txn(convert::txn(self.decode()?)),
            field::COMPACTION => Command::Compact { revision: integer_field(self.body, 1) },
            field::LEASE_GRANT => {
                Command::LeaseGrant { ttl: integer_field(self.body, 1), id: integer_field(self.body, 2) }
            }
            field::LEASE_REVOKE => Command::LeaseRevoke { id: integer_field(self.body, 1) },
            field::ALARM => Command::Alarm(self.alarm()?),
            field::LEASE_CHECKPOINT => Command::LeaseCheckpoint(self.checkpoints(term)),
            field::CLUSTER_VERSION_SET => Command::SetClusterVersion(text(self.body, 1)?),
            field::CLUSTER_MEMBER_ATTR_SET => Command::SetMemberAttributes(self.attributes()?),
            field::DOWNGRADE_INFO_SET => Command::SetDowngrade(Downgrade {
                enabled: integer_field(self.body, 1) != 0,
                target_version: text(self.body, 2)?,
            }),
            field::V2 => v2(self.body)?,
            other => match users::change(other, self.body)? {
                Some(change) => Command::Auth(change),
                None => {
                    return Err(format!(
                        "a request of field {other} of etcd's InternalRaftRequest, which cannot be carried over; let etcd stop \
                     orderly before the conversion, or restore a snapshot"
                    ));
                }
            },
        })
    }

    fn decode<M: Message + Default>(&self) -> Result<M, String> {
        M::decode(self.body).map_err(|error| format!("field {}: {error}", self.number))
    }

    fn alarm(&self) -> Result<Alarm, String> {
        let request: pb::AlarmRequest = self.decode()?;
        let action = match request.action {
            0 => AlarmAction::Get,
            1 => AlarmAction::Activate,
            2 => AlarmAction::Deactivate,
            other => return Err(format!("action {other} on an alarm")),
        };
        let kind = AlarmKind::from_wire(request.alarm).ok_or_else(|| format!("alarm {}", request.alarm))?;
        Ok(Alarm { action, member: request.member_id, kind })
    }

    fn checkpoints(&self, term: u64) -> LeaseCheckpoints {
        let each = fields(self.body).filter_map(|field| match field {
            (1, Value::Bytes(one)) => {
                Some(LeaseCheckpoint { id: integer_field(one, 1), remaining_ttl: integer_field(one, 2) })
            }
            _ => None,
        });
        LeaseCheckpoints { term, checkpoints: each.collect() }
    }

    fn attributes(&self) -> Result<MemberAttributes, String> {
        let attributes = bytes_field(self.body, 2).unwrap_or_default();
        let urls = fields(attributes).filter_map(|field| match field {
            (2, Value::Bytes(url)) => Some(String::from_utf8_lossy(url).into_owned()),
            _ => None,
        });
        Ok(MemberAttributes {
            member: integer_field(self.body, 1).cast_unsigned(),
            name: text(attributes, 1)?,
            client_urls: urls.collect(),
        })
    }
}

fn text(message: &[u8], number: u64) -> Result<String, String> {
    let bytes = bytes_field(message, number).unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| format!("field {number} is no text"))
}

/// Whether users change the v2 store in this entry.
///
/// # Errors
/// If the entry is damaged.
pub fn is_v2(entry: &wal::Entry) -> Result<bool, String> {
    Ok(matches!(of_v2(entry)?, Some(Command::V2(command)) if command.change != Change::Sync))
}

/// What happens to the v2 store in this entry.
///
/// # Errors
/// If the entry is damaged.
pub fn of_v2(entry: &wal::Entry) -> Result<Option<Command>, String> {
    if entry.kind != EntryType::Normal || entry.data.is_empty() {
        return Ok(None);
    }
    let request = Request::read(&entry.data)?;
    if request.number == field::V2 { request.command(entry.term).map(Some) } else { Ok(None) }
}

/// Changes of the v2 store that a cluster makes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnChange {
    None,
    /// A member comes, is changed or says something of itself, or the version changes.
    One,
    /// A member goes, and is remembered as removed.
    Removal,
}

/// What of that an entry does.
///
/// # Errors
/// If the entry is damaged.
pub fn own_change(entry: &wal::Entry) -> Result<OwnChange, String> {
    match entry.kind {
        EntryType::ConfChange => Ok(match member_change(&entry.data)? {
            MemberChange::Remove(_) => OwnChange::Removal,
            _ => OwnChange::One,
        }),
        EntryType::Normal if !entry.data.is_empty() => {
            let request = Request::read(&entry.data)?;
            let is_own = match request.number {
                field::CLUSTER_VERSION_SET | field::CLUSTER_MEMBER_ATTR_SET => true,
                field::V2 => !matches!(request.command(entry.term)?, Command::V2(_) | Command::Noop),
                _ => false,
            };
            Ok(if is_own { OwnChange::One } else { OwnChange::None })
        }
        _ => Ok(OwnChange::None),
    }
}

/// What is said by way of the v2 store: by releases up to 3.4 names and client URLs of members, and the cluster's version;
/// and what users do there.
fn v2(request: &[u8]) -> Result<Command, String> {
    let (method, path, value) = (text(request, 2)?, text(request, 3)?, text(request, 4)?);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (method.as_str(), parts.as_slice()) {
        ("PUT", ["0", "version"]) => Ok(Command::SetClusterVersion(value)),
        ("PUT", ["0", "members", id, "attributes"]) => {
            let member = plinth_bbolt::snap::parse_id(id).ok_or_else(|| format!("member {id:?}"))?;
            let published: schema::Member = serde_json::from_str(&value).map_err(|error| error.to_string())?;
            Ok(Command::SetMemberAttributes(MemberAttributes {
                member,
                name: published.name,
                client_urls: published.client_urls,
            }))
        }
        _ => Ok(plinth_v2::etcd::command(request)?.map_or(Command::Noop, Command::V2)),
    }
}

/// The context of a change of a member, in etcd's notation.
#[derive(serde::Deserialize)]
struct Context {
    #[serde(flatten)]
    member: schema::Member,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

/// Reads `raftpb.ConfChange`: type = 2, member = 3, context = 4.
///
/// # Errors
/// If it is damaged.
pub fn member_change(data: &[u8]) -> Result<MemberChange, String> {
    let id = MemberId(integer_field(data, 3).cast_unsigned());
    let context = || -> Result<Context, String> {
        serde_json::from_slice(bytes_field(data, 4).unwrap_or_default())
            .map_err(|error| format!("context of a change of member {id}: {error}"))
    };
    Ok(match integer_field(data, 2) {
        1 => MemberChange::Remove(id),
        2 => MemberChange::UpdatePeerUrls(id, context()?.member.peer_urls),
        kind @ (0 | 3) => {
            let context = context()?;
            match context.is_promote {
                true => MemberChange::Promote(id),
                false => MemberChange::Add(Member { is_learner: kind == 3, ..member(id, context.member) }),
            }
        }
        other => return Err(format!("a change of kind {other} of member {id}")),
    })
}

/// A member's record as ours.
pub fn member(id: MemberId, record: schema::Member) -> Member {
    Member {
        id,
        name: record.name,
        peer_urls: record.peer_urls,
        client_urls: record.client_urls,
        is_learner: record.is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::wire::{field_bytes, field_message, field_varint};
    use plinth_engine::command::CommandRef;
    use plinth_raft::batch::Batch;
    use plinth_v2::V2Command;

    fn normal(write: impl FnOnce(&mut Vec<u8>)) -> wal::Entry {
        let mut data = Vec::new();
        write(&mut data);
        wal::Entry { index: 5, term: 2, kind: EntryType::Normal, data }
    }

    #[test]
    fn a_put_keeps_its_author() {
        let entry = normal(|out| {
            field_message(out, 4, |out| {
                field_bytes(out, 1, b"k");
                field_bytes(out, 2, b"v");
            });
            field_message(out, 100, |out| {
                field_varint(out, 1, 77);
                field_bytes(out, 2, b"alice");
                field_varint(out, 3, 9);
            });
        });
        let translated = translate(&entry).expect("known");
        assert_eq!((translated.index, translated.term), (5, 2));
        let batch = Batch::parse(&translated.data).expect("a batch");
        let commands: Vec<_> = batch.iter().collect();
        let (author, _) = Author::split(commands[0]).expect("whole");
        assert_eq!(author, Some(Author { user: "alice", auth_revision: 9 }));
        let CommandRef::Put(put) = Command::access(commands[0]).expect("a command") else { panic!("a put") };
        assert_eq!((&put.key[..], &put.value[..]), (&b"k"[..], &b"v"[..]));
    }

    #[test]
    fn members_of_old_and_new_releases_publish() {
        let old = normal(|out| {
            field_message(out, 2, |out| {
                field_bytes(out, 2, b"PUT");
                field_bytes(out, 3, b"/0/members/8e9e05c52164694d/attributes");
                field_bytes(out, 4, br#"{"name":"a","clientURLs":["http://c:1"]}"#);
            });
        });
        let new = normal(|out| {
            field_message(out, 1301, |out| {
                field_varint(out, 1, 0x8e9e_05c5_2164_694d);
                field_message(out, 2, |out| {
                    field_bytes(out, 1, b"a");
                    field_bytes(out, 2, b"http://c:1");
                });
            });
        });
        assert_eq!(translate(&old).expect("known"), translate(&new).expect("known"));
    }

    fn v2_request(method: &[u8]) -> wal::Entry {
        normal(|out| {
            field_message(out, 2, |out| {
                field_bytes(out, 2, method);
                field_bytes(out, 3, b"/1/mine");
                field_bytes(out, 4, b"x");
            });
        })
    }

    #[test]
    fn data_of_the_v2_api_come_along() {
        let entry = v2_request(b"PUT");
        assert_eq!(is_v2(&entry), Ok(true));
        assert_eq!(translate(&entry).expect("known").index, 5);
        let Ok(Some(Command::V2(V2Command { change: Change::Set { path, content, .. }, .. }))) = of_v2(&entry) else {
            panic!("a key is set")
        };
        assert_eq!((&path[..], &content.value[..]), (&b"/1/mine"[..], &b"x"[..]));
        assert_eq!(is_v2(&v2_request(b"QGET")), Ok(false));
    }

    #[test]
    fn unknown_requests_are_refused() {
        let method = translate(&v2_request(b"PATCH")).expect_err("refused").to_string();
        assert!(method.contains("unknown kind (PATCH)"), "{method}");
        let field = translate(&normal(|out| field_bytes(out, 4711, b""))).expect_err("refused").to_string();
        assert!(field.contains("field 4711"), "{field}");
    }

    #[test]
    fn changes_of_members() {
        let change = |kind, context: &str| {
            let mut data = Vec::new();
            field_varint(&mut data, 2, kind);
            field_varint(&mut data, 3, 7);
            field_bytes(&mut data, 4, context.as_bytes());
            member_change(&data)
        };
        let id = MemberId(7);
        let added = Member { id, peer_urls: vec!["http://p:1".into()], is_learner: true, ..Member::default() };
        let context = r#"{"id":7,"peerURLs":["http://p:1"],"isLearner":true,"isPromote":false}"#;
        assert_eq!(change(3, context), Ok(MemberChange::Add(added)));
        assert_eq!(change(0, r#"{"id":7,"peerURLs":null,"isPromote":true}"#), Ok(MemberChange::Promote(id)));
        assert_eq!(change(1, ""), Ok(MemberChange::Remove(id)));
        assert!(change(2, "").is_err());
    }
}
