//! What the watch tests share: a naive store, and a decoder of `WatchResponse` that knows nothing of the encoder.

use std::collections::BTreeMap;

use plinth_engine::watch::{CatchUp, EventBatch, EventBatchBuilder, EventMode, HeaderIds, History, Hub, StreamKey};

/// The header values that the tests use.
pub const IDS: HeaderIds = HeaderIds { cluster_id: 77, member_id: 88, raft_term: 3 };

/// A decoded pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pair {
    pub key: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: Vec<u8>,
}

/// A decoded event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Happened {
    pub is_delete: bool,
    pub kv: Pair,
    pub prev: Option<Pair>,
}

/// A decoded `WatchResponse`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    pub revision: i64,
    pub watch_id: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: i64,
    pub cancel_reason: String,
    pub fragment: bool,
    pub events: Vec<Happened>,
    /// Encoded size.
    pub size: usize,
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> i64 {
        if let Field::Number(n) = self { *n as i64 } else { panic!("a number was expected") }
    }

    fn bytes(&self) -> &'a [u8] {
        if let Field::Bytes(bytes) = self { bytes } else { panic!("bytes were expected") }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let (value, rest) = {
                    let len = varint(&mut bytes) as usize;
                    bytes.split_at(len)
                };
                bytes = rest;
                Field::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn pair(bytes: &[u8]) -> Pair {
    let mut pair = Pair::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => pair.key = field.bytes().to_vec(),
            2 => pair.create_revision = field.number(),
            3 => pair.mod_revision = field.number(),
            4 => pair.version = field.number(),
            5 => pair.value = field.bytes().to_vec(),
            other => panic!("field {other} of KeyValue"),
        }
    }
    pair
}

fn happened(bytes: &[u8]) -> Happened {
    let mut event = Happened::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => event.is_delete = field.number() == 1,
            2 => event.kv = pair(field.bytes()),
            3 => event.prev = Some(pair(field.bytes())),
            other => panic!("field {other} of Event"),
        }
    }
    event
}

/// Decodes a `WatchResponse` and checks the constant parts of its header.
pub fn decode(bytes: &[u8]) -> Message {
    let mut message = Message { size: bytes.len(), ..Message::default() };
    let mut last = 0;
    for (number, field) in fields(bytes) {
        assert!(number >= last, "fields come in order");
        last = number;
        match number {
            1 => {
                let header: BTreeMap<u64, i64> =
                    fields(field.bytes()).into_iter().map(|(n, f)| (n, f.number())).collect();
                assert_eq!((header[&1], header[&2], header[&4]), (77, 88, 3));
                message.revision = header.get(&3).copied().unwrap_or(0);
            }
            2 => message.watch_id = field.number(),
            3 => message.created = field.number() == 1,
            4 => message.canceled = field.number() == 1,
            5 => message.compact_revision = field.number(),
            6 => message.cancel_reason = String::from_utf8(field.bytes().to_vec()).unwrap(),
            7 => message.fragment = field.number() == 1,
            11 => message.events.push(happened(field.bytes())),
            other => panic!("field {other} of WatchResponse"),
        }
    }
    message
}

/// The next message of a stream.
pub fn pull(hub: &mut Hub, stream: StreamKey) -> Option<Message> {
    let mut out = vec![0xee; 3];
    let pulled = hub.next_message(stream, IDS, &mut out);
    assert_eq!(out[..3], [0xee; 3], "messages are appended");
    assert_eq!(pulled, out.len() > 3);
    pulled.then(|| decode(&out[3..]))
}

/// All messages of a stream.
pub fn pull_all(hub: &mut Hub, stream: StreamKey) -> Vec<Message> {
    std::iter::from_fn(|| pull(hub, stream)).collect()
}

/// One change of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// An event as the naive store remembers it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub main: i64,
    pub sub: i64,
    pub event: Happened,
    encoded: Vec<u8>,
    encoded_prev: Option<Vec<u8>>,
}

/// Everything that ever happened, in a list.
#[derive(Debug)]
pub struct NaiveStore {
    pub events: Vec<Stored>,
    pub revision: i64,
    pub compact_revision: i64,
    live: BTreeMap<Vec<u8>, Pair>,
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn encode(pair: &Pair) -> Vec<u8> {
    let mut out = vec![0x0a];
    put_varint(&mut out, pair.key.len() as u64);
    out.extend_from_slice(&pair.key);
    for (tag, number) in [(0x10, pair.create_revision), (0x18, pair.mod_revision), (0x20, pair.version)] {
        out.push(tag);
        put_varint(&mut out, number as u64);
    }
    out.push(0x2a);
    put_varint(&mut out, pair.value.len() as u64);
    out.extend_from_slice(&pair.value);
    out
}

impl NaiveStore {
    pub fn new() -> Self {
        Self { events: Vec::new(), revision: 1, compact_revision: -1, live: BTreeMap::new() }
    }

    /// Applies changes as one transaction: one revision if anything changes. A key is changed once.
    pub fn apply(&mut self, changes: &[Change]) {
        let main = self.revision + 1;
        let mut touched = Vec::new();
        for change in changes {
            let (Change::Put(key, _) | Change::Delete(key)) = change;
            if touched.contains(key) {
                continue;
            }
            let prev = self.live.get(key).cloned();
            let is_delete = matches!(change, Change::Delete(_));
            let kv = match change {
                Change::Put(_, value) => Pair {
                    key: key.clone(),
                    create_revision: prev.as_ref().map_or(main, |prev| prev.create_revision),
                    mod_revision: main,
                    version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                    value: value.clone(),
                },
                Change::Delete(_) if prev.is_none() => continue,
                Change::Delete(_) => Pair { key: key.clone(), mod_revision: main, ..Pair::default() },
            };
            if is_delete {
                self.live.remove(key)
            } else {
                self.live.insert(key.clone(), kv.clone())
            };
            let sub = touched.len() as i64;
            touched.push(key.clone());
            let (encoded, encoded_prev) = (encode(&kv), prev.as_ref().map(encode));
            let event = Happened { is_delete, kv, prev };
            self.events.push(Stored { main, sub, event, encoded, encoded_prev });
        }
        if !touched.is_empty() {
            self.revision = main;
        }
    }

    /// Shorthand for a transaction of one put.
    pub fn put(&mut self, key: &str, value: &str) {
        self.apply(&[Change::Put(key.into(), value.into())]);
    }

    /// Shorthand for a transaction of one delete.
    pub fn delete(&mut self, key: &str) {
        self.apply(&[Change::Delete(key.into())]);
    }

    /// What the store would publish for everything after `previous`.
    pub fn batch(&self, mode: EventMode, previous: i64) -> EventBatch {
        let mut builder = EventBatchBuilder::new(mode, previous);
        self.events.iter().filter(|stored| stored.main > previous).for_each(|stored| add(&mut builder, stored, 0));
        builder.finish(self.revision)
    }

    /// Answers a hub's question about the past.
    pub fn history(&self, request: &CatchUp) -> History {
        if request.from < self.compact_revision {
            return History::Compacted(self.compact_revision);
        }
        let to = self.revision.min(request.from + request.revisions - 1);
        let mut builder = EventBatchBuilder::for_history(request.with_prev, request.from, request.bytes);
        for stored in self.events.iter().filter(|stored| request.from <= stored.main && stored.main <= to) {
            add(&mut builder, stored, self.compact_revision);
        }
        History::Events(builder.finish(to))
    }
}

fn add(builder: &mut EventBatchBuilder, stored: &Stored, compact_revision: i64) {
    let prev = stored.encoded_prev.as_deref().filter(|_| stored.main > compact_revision);
    let (main, sub, kv) = (stored.main, stored.sub, &stored.event.kv);
    if stored.event.is_delete {
        builder.delete(main, sub, &kv.key, prev);
    } else {
        builder.put(main, sub, kv.version == 1, &stored.encoded, prev);
    }
}
