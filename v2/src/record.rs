//! Nodes, events and the tree's own numbers as they are stored.
//!
//! ```text
//! number   varint; times as their 64 bits                bytes   length as a number, then the bytes
//! node     key: id, 8 bytes big-endian, from 1 on        value: 0 for a key, 1 for a directory; created, modified,
//!                                                               deadline; path; value, of a key
//! state    key: 8 zeros                                  value: index, time, next id
//! event    key: index, 8 bytes big-endian                value: action, 1 if it is a refresh, view, 1 and view before or 0
//! view     0 for a key without value, 1 for a key with one, 2 for a directory; expiration, TTL, modified, created; path;
//!          value, if there is one
//! ```

use crate::event::{Action, Event};
use crate::node::{Node, View};
use bytes::Bytes;
use plinth_api::wire::{put_varint, take_varint};

/// The key of the tree's own numbers.
pub const STATE_KEY: [u8; 8] = [0; 8];

/// Which tree of the store has a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nodes and the tree's own numbers.
    Nodes,
    /// The history.
    Events,
}

/// A change of what is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Where.
    pub place: Place,
    pub key: [u8; 8],
    /// The value; nothing to remove it.
    pub value: Option<Vec<u8>>,
}

/// The tree's own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Changes so far.
    pub index: u64,
    /// The cluster's time as of the last command that told it.
    pub time: i64,
    /// The id of the next node.
    pub next_id: u64,
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads numbers and bytes from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = take_varint(self.0)?;
        self.0 = rest;
        Some(number)
    }

    fn time(&mut self) -> Option<i64> {
        self.number().map(u64::cast_signed)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn view(&mut self) -> Option<View> {
        let kind = self.number()?;
        let (expiration, ttl, modified, created) = (self.time()?, self.time()?, self.number()?, self.number()?);
        let key = Bytes::copy_from_slice(self.bytes()?);
        let value = if kind == 1 { Some(Bytes::copy_from_slice(self.bytes()?)) } else { None };
        Some(View { key, value, dir: kind == 2, expiration, ttl, nodes: Vec::new(), modified, created })
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

impl State {
    /// The value of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.index);
        put_varint(&mut out, self.time.cast_unsigned());
        put_varint(&mut out, self.next_id);
        out
    }

    /// Reads it again; nothing if it is damaged.
    pub fn decode(value: &[u8]) -> Option<State> {
        let mut reader = Reader(value);
        let state = State { index: reader.number()?, time: reader.time()?, next_id: reader.number()? };
        reader.end(state)
    }
}

/// The value of a node's record.
pub fn encode_node(path: &[u8], node: &Node) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + node.value.as_ref().map_or(0, Bytes::len) + 24);
    put_varint(&mut out, u64::from(node.is_dir()));
    put_varint(&mut out, node.created);
    put_varint(&mut out, node.modified);
    put_varint(&mut out, node.deadline.cast_unsigned());
    put_bytes(&mut out, path);
    if let Some(value) = &node.value {
        put_bytes(&mut out, value);
    }
    out
}

/// Reads path and node; nothing if they are damaged.
pub fn decode_node(id: u64, value: &[u8]) -> Option<(Box<[u8]>, Node)> {
    let mut reader = Reader(value);
    let is_dir = reader.number()? == 1;
    let (created, modified, deadline) = (reader.number()?, reader.number()?, reader.time()?);
    let path = reader.bytes()?.into();
    let value = if is_dir { None } else { Some(Bytes::copy_from_slice(reader.bytes()?)) };
    reader.end((path, Node { id, created, modified, deadline, value }))
}

fn put_view(out: &mut Vec<u8>, view: &View) {
    let kind = if view.dir { 2 } else { u64::from(view.value.is_some()) };
    put_varint(out, kind);
    put_varint(out, view.expiration.cast_unsigned());
    put_varint(out, view.ttl.cast_unsigned());
    put_varint(out, view.modified);
    put_varint(out, view.created);
    put_bytes(out, &view.key);
    if let (Some(value), 1) = (&view.value, kind) {
        put_bytes(out, value);
    }
}

/// The value of an event's record.
pub fn encode_event(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.weight());
    put_varint(&mut out, event.action as u64);
    put_varint(&mut out, u64::from(event.refresh));
    put_view(&mut out, &event.node);
    put_varint(&mut out, u64::from(event.prev.is_some()));
    if let Some(prev) = &event.prev {
        put_view(&mut out, prev);
    }
    out
}

/// Reads an event; nothing if it is damaged.
pub fn decode_event(value: &[u8]) -> Option<Event> {
    let mut reader = Reader(value);
    let action = *Action::ALL.get(usize::try_from(reader.number()?).ok()?)?;
    let refresh = reader.number()? == 1;
    let node = reader.view()?;
    let prev = if reader.number()? == 1 { Some(reader.view()?) } else { None };
    reader.end(Event { action, node, prev, refresh })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn views() -> impl Strategy<Value = View> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
        (any::<[u64; 2]>(), any::<[i64; 2]>(), prop::collection::vec(any::<u8>(), 0..9), value, any::<bool>()).prop_map(
            |([modified, created], [expiration, ttl], key, value, dir)| View {
                key: key.into(),
                value: value.filter(|_| !dir).map(Bytes::from),
                dir,
                expiration,
                ttl,
                nodes: Vec::new(),
                modified,
                created,
            },
        )
    }

    proptest! {
        #[test]
        fn events_come_back(
            action in 0..8usize, refresh: bool, node in views(), prev in prop::option::of(views()), cut: prop::sample::Index,
        ) {
            let event = Event { action: Action::ALL[action], node, prev, refresh };
            let bytes = encode_event(&event);
            prop_assert_eq!(decode_event(&bytes), Some(event));
            prop_assert_eq!(decode_event(&bytes[..cut.index(bytes.len())]), None, "a part is no event");
        }

        #[test]
        fn nodes_come_back(id: u64, numbers: [u64; 2], deadline: i64, path: Vec<u8>, value: Option<Vec<u8>>) {
            let node = Node {
                id, created: numbers[0], modified: numbers[1], deadline, value: value.map(Bytes::from),
            };
            let bytes = encode_node(&path, &node);
            prop_assert_eq!(decode_node(id, &bytes), Some((path.into(), node)));
        }

        #[test]
        fn damage_is_no_panic(bytes: Vec<u8>) {
            let _ = (decode_event(&bytes), decode_node(1, &bytes), State::decode(&bytes));
        }
    }

    /// What a release has written stays readable.
    #[test]
    fn golden_bytes() {
        let node = Node { id: 1, created: 4, modified: 5, deadline: 0, value: Some(Bytes::from_static(b"v")) };
        assert_eq!(encode_node(b"/1/a", &node), b"\x00\x04\x05\x00\x04/1/a\x01v");
        let view = View::of(b"/1/a", &node, 0);
        let event = Event { action: Action::Set, node: view, prev: None, refresh: false };
        assert_eq!(encode_event(&event), b"\x02\x00\x01\x00\x00\x05\x04\x04/1/a\x01v\x00");
        assert_eq!(State { index: 5, time: 0, next_id: 2 }.encode(), [5, 0, 2]);
    }
}
