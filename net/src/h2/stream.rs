//! Streams of a connection (RFC 9113 §5.1).
//!
//! A client opens every stream, and we never promise any, so of the RFC's states these are left:
//!
//! ```text
//!            HEADERS                     END_STREAM received
//!    idle ────────────▶ open ─────────────────────────────────▶ half-closed (remote)
//!                         │                                               │
//!                         │ END_STREAM sent, then RST_STREAM(NO_ERROR)    │ END_STREAM sent
//!                         ▼                                               ▼
//!                      closed ◀──────────────────────────────────────── closed        RST_STREAM either way: closed
//! ```
//!
//! A stream that we have answered while the client was still sending is reset at once: a gRPC server has no use for the
//! rest. So half-closed (local) does not last. Idle and closed streams take no memory: an identifier above the last
//! one is idle, one below it that is not in the table is closed. `ClosedStreams` remembers how the latest of them ended.
//!
//! Invariants: an identifier is in `index` exactly if its stream is in a slot; `StreamKey` holds both, so a key of an
//! ended stream never reaches its successor in the slot.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxBuildHasher;

use super::frame::StreamId;
use super::hpack::Constant;
use super::limits::{CLOSED_STREAMS_REMEMBERED, STREAM_WINDOW};

/// Names a stream of one connection, also after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Place in the table, for tables that are kept beside it.
    pub slot: u32,
    /// Identifier.
    pub id: StreamId,
}

/// Whether the client may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may.
    Open,
    /// It has ended its side.
    HalfClosedRemote,
}

/// Fields that end a stream.
#[derive(Debug, Default)]
pub struct Trailers {
    /// Fields that have a place in the client's table.
    pub constants: &'static [Constant],
    /// Other fields.
    pub literals: Vec<(&'static str, String)>,
}

/// What follows the last piece of a stream's body.
#[derive(Debug)]
pub enum LastWord {
    /// Trailers with END_STREAM.
    Trailers(Trailers),
    /// Nothing but END_STREAM.
    EndStream,
}

/// What waits in a stream for window or for room in the output.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// Pieces of messages.
    pub pieces: VecDeque<Bytes>,
    /// Their size.
    pub bytes: usize,
    /// What follows them.
    pub last_word: Option<LastWord>,
    /// The queue has been at `STREAM_LOW_WATER_BYTES`, so its producer is to be told when it no longer is.
    pub was_full: bool,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Identifier.
    pub id: StreamId,
    pub state: State,
    /// What the client may still send.
    pub recv_window: i32,
    /// What it has sent and has not been granted again.
    pub recv_uncredited: i32,
    /// What we may still send. Negative after the client shrank its windows.
    pub send_window: i64,
    /// What is missing of `content-length`.
    pub content_left: Option<u64>,
    /// What waits to be sent, if anything does.
    pub queue: Option<Box<SendQueue>>,
    /// The stream is in the list of those that can send.
    pub scheduled: bool,
    /// When what opened it was read.
    pub opened_at: Instant,
    /// Where the head of its answer ends in the output, once there is one.
    pub answered_at: Option<u64>,
}

/// All streams that are not idle or closed.
#[derive(Debug, Default)]
pub struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    index: HashMap<StreamId, u32, FxBuildHasher>,
}

impl Streams {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Opens a stream.
    pub fn insert(
        &mut self,
        id: StreamId,
        state: State,
        send_window: i64,
        content_left: Option<u64>,
        opened_at: Instant,
    ) -> StreamKey {
        let stream = Stream {
            id,
            state,
            recv_window: STREAM_WINDOW,
            recv_uncredited: 0,
            send_window,
            content_left,
            queue: None,
            scheduled: false,
            opened_at,
            answered_at: None,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("there are fewer streams than identifiers")
        });
        let place = &mut self.slots[slot as usize];
        assert!(place.is_none());
        *place = Some(stream);
        let previous = self.index.insert(id, slot);
        assert!(previous.is_none());
        StreamKey { slot, id }
    }

    /// The key of a stream that is open.
    pub fn find(&self, id: StreamId) -> Option<StreamKey> {
        self.index.get(&id).map(|&slot| StreamKey { slot, id })
    }

    /// The stream, unless it has ended.
    pub fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.slots.get(key.slot as usize)?.as_ref().filter(|stream| stream.id == key.id)
    }

    /// The stream, unless it has ended.
    pub fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|stream| stream.id == key.id)
    }

    /// Ends a stream.
    pub fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        self.get(key)?;
        self.index.remove(&key.id);
        self.free.push(key.slot);
        self.slots[key.slot as usize].take()
    }

    /// All streams, in the order of their slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (StreamKey, &mut Stream)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, stream)| {
            let stream = stream.as_mut()?;
            Some((StreamKey { slot: slot as u32, id: stream.id }, stream))
        })
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both sides had said their last word, or the client reset it. Whatever follows is wrong.
    Finished,
    /// We reset it. The client may not have known when it sent what follows.
    ResetByUs,
}

/// The streams that ended last.
#[derive(Debug)]
pub struct ClosedStreams {
    ring: Vec<(StreamId, Ending)>,
    next: usize,
}

impl ClosedStreams {
    /// None yet.
    pub fn new() -> ClosedStreams {
        ClosedStreams { ring: Vec::new(), next: 0 }
    }

    /// A stream has ended.
    pub fn record(&mut self, id: StreamId, ending: Ending) {
        if self.ring.len() < CLOSED_STREAMS_REMEMBERED {
            self.ring.push((id, ending));
        } else {
            self.ring[self.next] = (id, ending);
            self.next = (self.next + 1) % CLOSED_STREAMS_REMEMBERED;
        }
    }

    /// A stream that may have ended before was reset by us. From now on that is how it ended.
    pub fn record_reset(&mut self, id: StreamId) {
        match self.ring.iter_mut().find(|(closed, _)| *closed == id) {
            Some((_, ending)) => *ending = Ending::ResetByUs,
            None => self.record(id, Ending::ResetByUs),
        }
    }

    /// How this one ended, if that is still known.
    pub fn ending(&self, id: StreamId) -> Option<Ending> {
        self.ring.iter().find(|(closed, _)| *closed == id).map(|(_, ending)| *ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u32) -> StreamId {
        StreamId::from_wire(value)
    }

    #[test]
    fn a_key_never_reaches_the_next_stream_of_its_slot() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        let first = streams.insert(id(1), State::Open, 0, None, now);
        assert!(streams.remove(first).is_some());
        let second = streams.insert(id(3), State::Open, 0, None, now);
        assert_eq!(first.slot, second.slot);
        assert!(streams.get(first).is_none());
        assert!(streams.remove(first).is_none());
        assert_eq!(streams.find(id(3)), Some(second));
        assert_eq!(streams.find(id(1)), None);
        assert_eq!(streams.len(), 1);
    }

    #[test]
    fn endings_are_remembered_for_a_while() {
        let mut closed = ClosedStreams::new();
        for n in 0..CLOSED_STREAMS_REMEMBERED as u32 + 1 {
            closed.record(id(2 * n + 1), if n % 2 == 0 { Ending::Finished } else { Ending::ResetByUs });
        }
        assert_eq!(closed.ending(id(1)), None);
        assert_eq!(closed.ending(id(3)), Some(Ending::ResetByUs));
        assert_eq!(closed.ending(id(5)), Some(Ending::Finished));
        closed.record_reset(id(5));
        assert_eq!(closed.ending(id(5)), Some(Ending::ResetByUs));
        closed.record_reset(id(1));
        assert_eq!(closed.ending(id(1)), Some(Ending::ResetByUs));
    }
}
