//! Change events of applied commands, encoded once and shared by every reactor.
//!
//! The store builds one [`EventBatch`] per applied Raft entry. All event bytes lie in one arena; per event the arena holds
//!
//! ```text
//! plain record (complete field `WatchResponse.events`)           only with a previous pair
//! +------+--------+-----------+------+--------+--------------+  +------+--------+----------------+
//! | 0x5a | length | [08 01]   | 0x12 | length | KeyValue     |  | 0x1a | length | KeyValue, prev |
//! +------+--------+-----------+------+--------+--------------+  +------+--------+----------------+
//!                  DELETE only   kv                               prev_kv
//! ```
//!
//! so a watcher without `prev_kv` copies one slice, and one with it copies a recomputed two-part head and one slice.
//! No `KeyValue` is ever stored twice.
//!
//! Invariants: events are ordered by (main, sub); every event's main revision lies in `(previous, complete]`; all events
//! of a revision up to `complete` are present; `complete <= revision`. Revisions in `(complete, revision]` have to be
//! read from history: that is how a builder that is switched off, or that would grow past its limit, stays honest.
//!
//! Not here: who is interested in an event (`index`, `hub`), and how a `KeyValue` is encoded (the store's codec).

use plinth_api::wire::{put_varint, varint_len};
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of event records that one batch carries; what lies beyond is left to history reads.
///
/// One batch is one Raft entry, a few MiB of puts at most; only a huge `DeleteRange` (or lease) comes near the limit.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

const TAG_EVENTS: u8 = 0x5a;
const TAG_TYPE: u8 = 0x08;
const TAG_KV: u8 = 0x12;
const TAG_PREV_KV: u8 = 0x1a;
const TAG_KEY: u8 = 0x0a;
const TAG_MOD_REVISION: u8 = 0x18;
const TYPE_DELETE: u8 = 1;

/// What the store has to collect, the maximum of what the hubs of all reactors ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum EventMode {
    /// There are no watchers: batches carry revisions only.
    #[default]
    Off,
    /// Events without previous pairs.
    Plain,
    /// Events with previous pairs where there are any.
    WithPrev,
}

/// What happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// The key was created or changed.
    Put,
    /// The key was deleted.
    Delete,
}

#[derive(Clone, Debug)]
struct EventMeta {
    main: i64,
    /// Start of the plain record in the arena.
    start: usize,
    /// End of the previous pair, which is the end of the plain record if there is none.
    end: usize,
    /// Length of the plain record.
    plain_len: u32,
    key_start: u32,
    key_len: u32,
    sub: u32,
    kind: EventKind,
    is_create: bool,
}

#[derive(Debug, Default)]
struct BatchInner {
    with_prev: bool,
    previous: i64,
    complete: i64,
    revision: i64,
    arena: Vec<u8>,
    events: Vec<EventMeta>,
}

/// All events of one applied Raft entry (or of one history chunk). Cheap to clone and `Send`.
#[derive(Clone, Debug)]
pub struct EventBatch {
    inner: Arc<BatchInner>,
}

impl EventBatch {
    /// The store's revision before the batch; the batch speaks about the revisions after it.
    pub fn previous(&self) -> i64 {
        self.inner.previous
    }

    /// Every event with a revision in `(previous, complete]` is in the batch.
    pub fn complete(&self) -> i64 {
        self.inner.complete
    }

    /// The store's revision after the batch.
    pub fn revision(&self) -> i64 {
        self.inner.revision
    }

    /// Whether events carry previous pairs where there are any.
    pub fn with_prev(&self) -> bool {
        self.inner.with_prev
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.inner.events.len()
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.inner.events.is_empty()
    }

    /// Memory held by the batch, for accounting.
    pub fn heap_bytes(&self) -> usize {
        self.inner.arena.capacity() + self.inner.events.capacity() * size_of::<EventMeta>()
    }

    /// The event at `index`.
    pub fn event(&self, index: usize) -> Event<'_> {
        Event { meta: &self.inner.events[index], arena: &self.inner.arena }
    }

    /// All events in order of revision.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        self.inner.events.iter().map(|meta| Event { meta, arena: &self.inner.arena })
    }

    /// Index of the first event whose (main, sub) revision is at least `from`.
    pub fn lower_bound(&self, from: (i64, i64)) -> usize {
        self.inner.events.partition_point(|event| (event.main, i64::from(event.sub)) < from)
    }

    /// Appends the plain records of the events in `range` to `out`: one copy if nothing lies between them.
    pub fn append_plain(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let Some(first) = self.inner.events.get(range.start) else { return };
        if self.inner.with_prev {
            self.inner.events[range].iter().for_each(|meta| out.extend_from_slice(plain_of(meta, &self.inner.arena)));
        } else {
            out.extend_from_slice(&self.inner.arena[first.start..self.inner.events[range.end - 1].end]);
        }
    }
}

fn plain_of<'a>(meta: &EventMeta, arena: &'a [u8]) -> &'a [u8] {
    &arena[meta.start..meta.start + meta.plain_len as usize]
}

/// One event of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    meta: &'a EventMeta,
    arena: &'a [u8],
}

impl<'a> Event<'a> {
    /// Main revision.
    pub fn main(&self) -> i64 {
        self.meta.main
    }

    /// Sub revision: position among the changes of the main revision.
    pub fn sub(&self) -> i64 {
        i64::from(self.meta.sub)
    }

    /// Put or delete.
    pub fn kind(&self) -> EventKind {
        self.meta.kind
    }

    /// Whether a put created the key.
    pub fn is_create(&self) -> bool {
        self.meta.is_create
    }

    /// The changed key.
    pub fn key(&self) -> &'a [u8] {
        let start = self.meta.start + self.meta.key_start as usize;
        &self.arena[start..start + self.meta.key_len as usize]
    }

    /// The complete `WatchResponse.events` field without `prev_kv`.
    pub fn plain_record(&self) -> &'a [u8] {
        plain_of(self.meta, self.arena)
    }

    /// Length of the complete `WatchResponse.events` field.
    pub fn record_len(&self, with_prev: bool) -> usize {
        let plain = self.meta.plain_len as usize;
        let prev = self.prev_len();
        if !with_prev || prev == 0 {
            return plain;
        }
        let body = plain - self.head_len() + prev;
        1 + varint_len(body as u64) + body
    }

    /// Appends the complete `WatchResponse.events` field, with `prev_kv` if wanted and known.
    pub fn append_record(&self, with_prev: bool, out: &mut Vec<u8>) {
        let prev = self.prev_len();
        if !with_prev || prev == 0 {
            out.extend_from_slice(self.plain_record());
            return;
        }
        let body = &self.arena[self.meta.start + self.head_len()..self.meta.end];
        out.push(TAG_EVENTS);
        put_varint(out, body.len() as u64);
        out.extend_from_slice(body);
    }

    fn prev_len(&self) -> usize {
        self.meta.end - self.meta.start - self.meta.plain_len as usize
    }

    /// Length of the tag and the length varint in front of the plain record's body.
    fn head_len(&self) -> usize {
        head_len_of(self.meta.plain_len as usize)
    }
}

/// Splits the length of a complete field back into head and body: the head is the tag and the varint of the body length.
fn head_len_of(record_len: usize) -> usize {
    let mut head = 2;
    while 1 + varint_len((record_len - head) as u64) != head {
        head += 1;
    }
    head
}

/// Collects the events of the entry being applied. Owned by the store.
#[derive(Debug)]
pub struct EventBatchBuilder {
    mode: EventMode,
    batch: BatchInner,
    /// Arena and event count at the start of the revision being collected, for backing out when the limit is hit.
    revision_start: (i64, usize, usize),
    bytes_max: usize,
    /// The first revision may go beyond the limit.
    keeps_first: bool,
    /// The first revision that had to be left out.
    truncated_at: Option<i64>,
}

impl EventBatchBuilder {
    /// A builder for events after `revision`, the store's current one.
    pub fn new(mode: EventMode, revision: i64) -> Self {
        Self::with_limit(mode, revision, BATCH_BYTES_MAX)
    }

    /// As [`Self::new`] with another bound for the bytes of one batch.
    pub fn with_limit(mode: EventMode, revision: i64, bytes_max: usize) -> Self {
        let batch = BatchInner { previous: revision, ..BatchInner::default() };
        Self { mode, batch, revision_start: (revision, 0, 0), bytes_max, keeps_first: false, truncated_at: None }
    }

    /// A builder for a history chunk that starts with revision `from`. The first revision with events is always taken
    /// whole, so that every chunk makes progress; [`Self::is_full`] tells when to stop reading.
    pub fn for_history(with_prev: bool, from: i64, bytes_max: usize) -> Self {
        let mode = if with_prev { EventMode::WithPrev } else { EventMode::Plain };
        Self { keeps_first: true, ..Self::with_limit(mode, from - 1, bytes_max) }
    }

    /// Whether a revision had to be left out: more events would be for nothing.
    pub fn is_full(&self) -> bool {
        self.truncated_at.is_some()
    }

    /// What is collected at present.
    pub fn mode(&self) -> EventMode {
        self.mode
    }

    /// Whether events are collected at all; if not, [`Self::put`] and [`Self::delete`] need not be called.
    pub fn is_on(&self) -> bool {
        self.mode != EventMode::Off
    }

    /// Whether previous pairs are wanted.
    pub fn wants_prev(&self) -> bool {
        self.mode == EventMode::WithPrev
    }

    /// Changes what is collected. Must be called between entries: nothing may have been collected since the last finish.
    pub fn set_mode(&mut self, mode: EventMode) {
        assert!(self.batch.events.is_empty(), "the event mode changes between entries");
        assert!(self.truncated_at.is_none(), "the event mode changes between entries");
        self.mode = mode;
    }

    /// Adds a put. `key_value` is the stored, canonically encoded pair, `prev` the one that it replaced.
    pub fn put(&mut self, main: i64, sub: i64, is_create: bool, key_value: &[u8], prev: Option<&[u8]>) {
        if !self.begin_event(main, sub) {
            return;
        }
        let (key_start, key_len) = leading_key(key_value);
        let body = 1 + varint_len(key_value.len() as u64) + key_value.len();
        let start = self.begin_record(body);
        let arena = &mut self.batch.arena;
        arena.push(TAG_KV);
        put_varint(arena, key_value.len() as u64);
        let key_start = arena.len() + key_start - start;
        arena.extend_from_slice(key_value);
        self.end_event(EventKind::Put, is_create, (main, sub), start, (key_start, key_len), prev);
    }

    /// Adds a delete of `key`; `prev` is the pair that it removed.
    pub fn delete(&mut self, main: i64, sub: i64, key: &[u8], prev: Option<&[u8]>) {
        assert!(main > 0, "revisions are positive");
        if !self.begin_event(main, sub) {
            return;
        }
        let key_field = 1 + varint_len(key.len() as u64) + key.len();
        let kv = key_field + 1 + varint_len(main as u64);
        let body = 2 + 1 + varint_len(kv as u64) + kv;
        let start = self.begin_record(body);
        let arena = &mut self.batch.arena;
        arena.extend_from_slice(&[TAG_TYPE, TYPE_DELETE, TAG_KV]);
        put_varint(arena, kv as u64);
        arena.push(TAG_KEY);
        put_varint(arena, key.len() as u64);
        let key_start = arena.len() - start;
        arena.extend_from_slice(key);
        arena.push(TAG_MOD_REVISION);
        put_varint(arena, main as u64);
        self.end_event(EventKind::Delete, false, (main, sub), start, (key_start, key.len()), prev);
    }

    /// Hands out what was collected since the last call; `revision` is the store's current one.
    pub fn finish(&mut self, revision: i64) -> EventBatch {
        let mut batch = std::mem::take(&mut self.batch);
        assert!(revision >= batch.previous, "revisions only grow");
        assert!(batch.events.last().is_none_or(|event| event.main <= revision), "events lie below the revision");
        batch.revision = revision;
        batch.with_prev = self.mode == EventMode::WithPrev;
        batch.complete = match (self.mode, self.truncated_at.take()) {
            (EventMode::Off, _) => batch.previous,
            (_, Some(first_missing)) => first_missing - 1,
            (_, None) => revision,
        };
        self.batch.previous = revision;
        self.revision_start = (revision, 0, 0);
        EventBatch { inner: Arc::new(batch) }
    }

    /// False if the event is not to be collected.
    fn begin_event(&mut self, main: i64, sub: i64) -> bool {
        if self.mode == EventMode::Off || self.truncated_at.is_some() {
            return false;
        }
        let last = self.batch.events.last().map_or((self.batch.previous, i64::MAX), |e| (e.main, i64::from(e.sub)));
        assert!((main, sub) > last, "events come in order of revision");
        if main != self.revision_start.0 {
            self.revision_start = (main, self.batch.arena.len(), self.batch.events.len());
        }
        true
    }

    fn begin_record(&mut self, body: usize) -> usize {
        let start = self.batch.arena.len();
        self.batch.arena.push(TAG_EVENTS);
        put_varint(&mut self.batch.arena, body as u64);
        start
    }

    fn end_event(
        &mut self,
        kind: EventKind,
        is_create: bool,
        (main, sub): (i64, i64),
        start: usize,
        key: (usize, usize),
        prev: Option<&[u8]>,
    ) {
        let arena = &mut self.batch.arena;
        let plain_len = arena.len() - start;
        if let Some(prev) = prev.filter(|_| self.mode == EventMode::WithPrev) {
            arena.push(TAG_PREV_KV);
            put_varint(arena, prev.len() as u64);
            arena.extend_from_slice(prev);
        }
        let end = arena.len();
        let small = |n: usize| u32::try_from(n).expect("a stored pair is far below 4 GiB");
        self.batch.events.push(EventMeta {
            main,
            start,
            end,
            plain_len: small(plain_len),
            key_start: small(key.0),
            key_len: small(key.1),
            sub: u32::try_from(sub).expect("a sub revision counts the changes of one request"),
            kind,
            is_create,
        });
        let (revision, arena_len, events_len) = self.revision_start;
        if end > self.bytes_max && !(self.keeps_first && events_len == 0) {
            self.truncated_at = Some(revision);
            self.batch.arena.truncate(arena_len);
            self.batch.events.truncate(events_len);
        }
    }
}

/// Where the key lies in an encoded `KeyValue`: canonical encodings start with it.
fn leading_key(key_value: &[u8]) -> (usize, usize) {
    assert!(key_value.first() == Some(&TAG_KEY), "a stored pair starts with its key");
    let mut len = 0usize;
    for (i, byte) in key_value[1..].iter().enumerate().take(5) {
        len |= ((byte & 0x7f) as usize) << (7 * i);
        if byte & 0x80 == 0 {
            assert!(len <= key_value.len() - i - 2, "a stored pair holds its whole key");
            return (i + 2, len);
        }
    }
    panic!("a stored pair's key length is a short varint");
}

#[cfg(test)]
mod tests {
    use super::*;

    const KV_A: &[u8] = &[0x0a, 1, b'a', 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, b'x'];

    fn build(mode: EventMode) -> EventBatch {
        let mut builder = EventBatchBuilder::new(mode, 1);
        builder.put(2, 0, true, KV_A, None);
        builder.delete(3, 0, b"a", Some(KV_A));
        builder.finish(3)
    }

    #[test]
    fn plain_records_are_complete_fields() {
        let batch = build(EventMode::Plain);
        assert_eq!((batch.previous(), batch.complete(), batch.revision()), (1, 3, 3));
        let put = [&[0x5a, 14, 0x12, 12][..], KV_A].concat();
        let delete = [0x5a, 9, 0x08, 1, 0x12, 5, 0x0a, 1, b'a', 0x18, 3];
        assert_eq!(batch.event(0).plain_record(), put);
        assert_eq!(batch.event(1).plain_record(), delete);
        assert_eq!((batch.event(0).key(), batch.event(1).key()), (&b"a"[..], &b"a"[..]));
        let mut all = Vec::new();
        batch.append_plain(0..2, &mut all);
        assert_eq!(all, [&put[..], &delete].concat());
    }

    #[test]
    fn previous_pairs_follow_when_wanted() {
        let batch = build(EventMode::WithPrev);
        let mut out = Vec::new();
        batch.event(1).append_record(true, &mut out);
        let expected = [&[0x5a, 23, 0x08, 1, 0x12, 5, 0x0a, 1, b'a', 0x18, 3, 0x1a, 12][..], KV_A].concat();
        assert_eq!(out, expected);
        assert_eq!(batch.event(1).record_len(true), expected.len());
        out.clear();
        batch.append_plain(0..2, &mut out);
        assert_eq!(out, [build(EventMode::Plain).event(0).plain_record(), batch.event(1).plain_record()].concat());
        // A create has no previous pair: both forms are the same.
        out.clear();
        batch.event(0).append_record(true, &mut out);
        assert_eq!(out, batch.event(0).plain_record());
    }

    #[test]
    fn off_batches_admit_that_they_know_nothing() {
        let batch = build(EventMode::Off);
        assert!(batch.is_empty());
        assert_eq!((batch.previous(), batch.complete(), batch.revision()), (1, 1, 3));
    }

    #[test]
    fn an_oversized_revision_is_left_to_history_as_a_whole() {
        let mut builder = EventBatchBuilder::with_limit(EventMode::Plain, 1, 64);
        builder.put(2, 0, true, KV_A, None);
        for sub in 0..20 {
            builder.put(3, sub, true, KV_A, None);
        }
        builder.put(4, 0, true, KV_A, None);
        let batch = builder.finish(4);
        assert_eq!((batch.len(), batch.complete(), batch.revision()), (1, 2, 4));
        builder.put(5, 0, false, KV_A, None);
        let next = builder.finish(5);
        assert_eq!((next.previous(), next.complete(), next.len()), (4, 5, 1));
    }

    #[test]
    fn a_history_chunk_holds_at_least_one_revision() {
        let mut builder = EventBatchBuilder::for_history(false, 7, 20);
        for sub in 0..5 {
            builder.put(9, sub, true, KV_A, None);
        }
        assert!(!builder.is_full());
        builder.put(10, 0, true, KV_A, None);
        assert!(builder.is_full());
        let chunk = builder.finish(12);
        assert_eq!((chunk.previous(), chunk.complete(), chunk.len()), (6, 9, 5));
    }

    #[test]
    fn record_heads_of_every_size_are_found_again() {
        for body in [1usize, 126, 127, 128, 129, 16383, 16384, 16385, 2_097_151, 2_097_152] {
            assert_eq!(head_len_of(1 + varint_len(body as u64) + body), 1 + varint_len(body as u64));
        }
    }

    #[test]
    fn lower_bound_finds_the_first_event_of_a_revision() {
        let batch = build(EventMode::Plain);
        assert_eq!([(1, 0), (2, 0), (2, 1), (3, 0), (4, 0)].map(|from| batch.lower_bound(from)), [0, 0, 1, 1, 2]);
    }
}
