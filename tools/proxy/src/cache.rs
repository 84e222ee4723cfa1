//! Answers of reads, for serializable reads to come. Pure.
//!
//! Bounded in number and bytes; who was not read for the longest time goes first. A write through the proxy removes what it
//! may have changed, and keeps reads that began before it from being added after it. Writes by other ways are not seen, as
//! a serializable read allows. What a user may not read another one's answer does not show: the token is part of the key.

use bytes::Bytes;
use plinth_api::proto::etcdserverpb::RangeRequest;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Answers at most, as in etcd's proxy.
const ENTRIES_MAX: usize = 2048;

/// Bytes of answers and their keys at most.
const BYTES_MAX: usize = 64 << 20;

/// Writes that are remembered for reads that began before them.
const WRITES_MAX: usize = 256;

/// A range of keys, as requests have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub key: Bytes,
    /// Empty: the key alone; a zero byte: to the last key.
    pub end: Bytes,
}

impl Span {
    fn is_before(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            [] => self.key < key,
            [0] => false,
            end => end <= key,
        }
    }

    fn overlaps(&self, other: &Span) -> bool {
        !self.is_before(&other.key) && !other.is_before(&self.key)
    }
}

struct Entry {
    answer: Bytes,
    /// Of the present: a write may change it.
    span: Option<Span>,
    used: u64,
}

type Key = Arc<[u8]>;

/// See the module.
#[derive(Default)]
pub struct Cache {
    entries: BTreeMap<Key, Entry>,
    /// By when they were used.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
    compacted: i64,
    writes: u64,
    /// The last of them.
    recent: VecDeque<Span>,
    hits: u64,
    misses: u64,
}

/// What a read remembers of its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u64);

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Answer(Bytes),
    /// History is gone.
    Compacted,
    Nothing,
}

impl Cache {
    /// Answers, hits and misses.
    pub fn figures(&self) -> (usize, u64, u64) {
        (self.entries.len(), self.hits, self.misses)
    }

    /// A read begins.
    pub fn begin(&self) -> Ticket {
        Ticket(self.writes)
    }

    /// Looks for the answer of a serializable read.
    pub fn get(&mut self, token: &[u8], request: &RangeRequest) -> Found {
        let key = key(token, request);
        if request.revision > 0 && request.revision < self.compacted {
            self.remove(&key);
            self.hits += 1;
            return Found::Compacted;
        }
        self.clock += 1;
        let Some((key, entry)) = self.entries.get_key_value(&key).map(|(key, entry)| (Arc::clone(key), entry)) else {
            self.misses += 1;
            return Found::Nothing;
        };
        let (answer, used) = (entry.answer.clone(), entry.used);
        self.order.remove(&used).expect("every entry is in order");
        self.order.insert(self.clock, Arc::clone(&key));
        self.entries.get_mut(&key).expect("just found").used = self.clock;
        self.hits += 1;
        Found::Answer(answer)
    }

    /// Adds the answer of a read that began with `ticket`.
    pub fn insert(&mut self, ticket: Ticket, token: &[u8], request: &RangeRequest, answer: Bytes) {
        let span = Span { key: request.key.clone(), end: request.range_end.clone() };
        if request.revision > 0 && request.revision <= self.compacted {
            return;
        }
        if request.revision <= 0 && self.was_written_since(ticket, &span) {
            return;
        }
        let key = key(token, request);
        self.remove(&key);
        self.clock += 1;
        self.bytes += key.len() + answer.len();
        let span = Some(span).filter(|_| request.revision <= 0);
        self.order.insert(self.clock, Arc::clone(&key));
        self.entries.insert(key, Entry { answer, span, used: self.clock });
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let oldest = self.order.first_key_value().map(|(_, key)| Arc::clone(key)).expect("every entry is in order");
            self.remove(&oldest);
        }
    }

    /// Something in the range was written, or will be.
    pub fn invalidate(&mut self, span: Span) {
        let overlaps = |entry: &Entry| entry.span.as_ref().is_some_and(|other| other.overlaps(&span));
        let gone: Vec<Key> =
            self.entries.iter().filter(|(_, entry)| overlaps(entry)).map(|(key, _)| Arc::clone(key)).collect();
        gone.iter().for_each(|key| self.remove(key));
        self.writes += 1;
        self.recent.push_back(span);
        if self.recent.len() > WRITES_MAX {
            self.recent.pop_front();
        }
    }

    /// What came before a revision is gone.
    pub fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
    }

    /// Whether that is so, or cannot be told.
    fn was_written_since(&self, ticket: Ticket, span: &Span) -> bool {
        let since = self.writes - ticket.0;
        let Ok(since) = usize::try_from(since) else { return true };
        since > self.recent.len() || self.recent.iter().rev().take(since).any(|written| written.overlaps(span))
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.order.remove(&entry.used).expect("every entry is in order");
            self.bytes = self.bytes.checked_sub(key.len() + entry.answer.len()).expect("bytes were added");
        }
    }
}

/// Who asks for what. A read of the newest state answers a serializable one, too.
fn key(token: &[u8], request: &RangeRequest) -> Key {
    let request = RangeRequest { serializable: true, ..request.clone() };
    let mut key = request.encode_length_delimited_to_vec();
    key.extend_from_slice(token);
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static [u8]) -> RangeRequest {
        RangeRequest { key: key.into(), range_end: Bytes::from_static(end), ..RangeRequest::default() }
    }

    fn written(key: &'static str, end: &'static [u8]) -> Span {
        Span { key: key.into(), end: Bytes::from_static(end) }
    }

    fn put(cache: &mut Cache, request: &RangeRequest) {
        let ticket = cache.begin();
        cache.insert(ticket, b"", request, "answer".into());
    }

    #[test]
    fn a_write_removes_what_it_touches() {
        let cases = [
            ("the key", range("b", b""), written("b", b""), true),
            ("another key", range("b", b""), written("a", b""), false),
            ("in the range", range("a", b"c"), written("b", b""), true),
            ("the end of the range", range("a", b"c"), written("c", b""), false),
            ("from a key on", range("a", b"\0"), written("z", b""), true),
            ("before it", range("b", b"\0"), written("a", b""), false),
            ("deleted around", range("b", b""), written("a", b"\0"), true),
            ("deleted up to", range("b", b"d"), written("a", b"b"), false),
            ("deleted into", range("b", b"d"), written("a", b"c"), true),
        ];
        for (name, request, write, is_gone) in cases {
            let mut cache = Cache::default();
            put(&mut cache, &request);
            assert_eq!(cache.get(b"", &request), Found::Answer("answer".into()));
            cache.invalidate(write);
            assert_eq!(cache.get(b"", &request) == Found::Nothing, is_gone, "{name}");
        }
    }

    #[test]
    fn a_read_that_began_before_a_write_is_not_added_after_it() {
        let mut cache = Cache::default();
        let before = cache.begin();
        cache.invalidate(written("k", b""));
        cache.insert(before, b"", &range("k", b""), "old".into());
        cache.insert(before, b"", &range("other", b""), "x".into());
        assert_eq!(cache.get(b"", &range("k", b"")), Found::Nothing);
        assert_eq!(cache.get(b"", &range("other", b"")), Found::Answer("x".into()));
        for _ in 0..=WRITES_MAX {
            cache.invalidate(written("far", b""));
        }
        cache.insert(before, b"", &range("third", b""), "x".into());
        assert_eq!(cache.get(b"", &range("third", b"")), Found::Nothing, "too long ago to tell");
    }

    #[test]
    fn the_past_stays_until_it_is_compacted() {
        let mut cache = Cache::default();
        let past = RangeRequest { revision: 5, ..range("k", b"") };
        put(&mut cache, &past);
        cache.invalidate(written("k", b""));
        assert_eq!(cache.get(b"", &past), Found::Answer("answer".into()));
        cache.compact(6);
        assert_eq!(cache.get(b"", &past), Found::Compacted);
        put(&mut cache, &past);
        assert_eq!(cache.figures(), (0, 2, 0));
    }

    #[test]
    fn one_users_answers_are_not_anothers() {
        let mut cache = Cache::default();
        let ticket = cache.begin();
        cache.insert(ticket, b"token", &range("k", b""), "secret".into());
        assert_eq!(cache.get(b"", &range("k", b"")), Found::Nothing);
        let serializable = RangeRequest { serializable: true, ..range("k", b"") };
        assert_eq!(cache.get(b"token", &serializable), Found::Answer("secret".into()));
    }

    #[test]
    fn what_is_not_used_goes_first() {
        let mut cache = Cache::default();
        let request = |number: usize| RangeRequest { key: number.to_string().into(), ..RangeRequest::default() };
        for number in 0..ENTRIES_MAX {
            put(&mut cache, &request(number));
        }
        cache.get(b"", &request(0));
        put(&mut cache, &request(ENTRIES_MAX));
        assert_eq!(cache.get(b"", &request(1)), Found::Nothing);
        assert_ne!(cache.get(b"", &request(0)), Found::Nothing);
        let large = Bytes::from(vec![0; BYTES_MAX - 1000]);
        let ticket = cache.begin();
        cache.insert(ticket, b"", &request(5), large);
        assert!(cache.bytes <= BYTES_MAX && cache.entries.len() < ENTRIES_MAX);
        assert_eq!(cache.entries.len(), cache.order.len());
    }
}
