//! The watch hub seen from its shell: every answer of the contract, one test each.

use crate::support::{Change, Message, NaiveStore, pull, pull_all};
use plinth_engine::lease::Millis;
use plinth_engine::watch::{
    EventMode, History, Hub, HubConfig, REASON_COMPACTED, REASON_DUPLICATE_ID, REASON_EMPTY_RANGE, StreamKey, WatchSpec,
};

struct Fixture {
    hub: Hub,
    store: NaiveStore,
    stream: StreamKey,
}

impl Fixture {
    fn new() -> Self {
        Self::with(HubConfig::default())
    }

    fn with(config: HubConfig) -> Self {
        let mut hub = Hub::new(config, 1);
        let stream = hub.open_stream();
        Self { hub, store: NaiveStore::new(), stream }
    }

    fn create(&mut self, spec: WatchSpec<'_>) -> Option<i64> {
        self.hub.create(self.stream, &spec, self.store.revision, self.store.compact_revision)
    }

    fn watch_all(&mut self) -> i64 {
        self.create(WatchSpec { range_end: b"\0", ..WatchSpec::default() }).unwrap()
    }

    fn publish(&mut self) {
        let batch = self.store.batch(self.hub.event_mode(), self.hub.revision());
        self.hub.publish(&batch);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.store.put(key, value);
        self.publish();
    }

    fn catch_up(&mut self) {
        while let Some(request) = self.hub.next_catch_up() {
            self.hub.catch_up(request.id, self.store.history(&request));
        }
    }

    /// One history chunk.
    fn step(&mut self) {
        if let Some(request) = self.hub.next_catch_up() {
            self.hub.catch_up(request.id, self.store.history(&request));
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        pull_all(&mut self.hub, self.stream)
    }

    /// Messages and history by turns until the stream is in sync and empty.
    fn drain(&mut self) -> Vec<Message> {
        let mut messages = self.messages();
        while self.hub.stats().unsynced > 0 {
            self.step();
            messages.extend(self.messages());
        }
        messages
    }

    fn next(&mut self) -> Message {
        pull(&mut self.hub, self.stream).expect("there is a message")
    }
}

fn keys(messages: &[Message]) -> Vec<(i64, String)> {
    let events = messages.iter().flat_map(|m| m.events.iter().map(|e| (m.watch_id, &e.kv.key)));
    events.map(|(id, key)| (id, String::from_utf8_lossy(key).into_owned())).collect()
}

fn spec(key: &str) -> WatchSpec<'_> {
    WatchSpec { key: key.as_bytes(), ..WatchSpec::default() }
}

#[test]
fn created_comes_first_with_the_current_revision() {
    let mut f = Fixture::new();
    f.store.put("a", "1");
    f.publish();
    assert_eq!(f.create(spec("a")), Some(0));
    let created = f.next();
    assert!(created.created);
    assert!(!created.canceled);
    assert_eq!((created.watch_id, created.revision, created.events.len()), (0, 2, 0));
    f.put("a", "2");
    let event = f.next();
    assert_eq!((event.revision, event.watch_id), (3, 0));
    assert_eq!(event.events[0].kv.value, b"2");
    assert_eq!(event.events[0].prev, None);
}

#[test]
fn ids_count_up_per_stream_and_skip_those_in_use() {
    let mut f = Fixture::new();
    assert_eq!(f.create(spec("a")), Some(0));
    assert_eq!(f.create(WatchSpec { watch_id: 2, ..spec("a") }), Some(2));
    assert_eq!(f.create(spec("a")), Some(1));
    assert_eq!(f.create(spec("a")), Some(3));
    f.hub.cancel(f.stream, 0);
    assert_eq!(f.create(spec("a")), Some(4), "canceled ids are not given out again");
    assert_eq!(f.create(WatchSpec { watch_id: -7, ..spec("a") }), Some(-7));
    let other = f.hub.open_stream();
    assert_eq!(f.hub.create(other, &spec("a"), 1, -1), Some(0));
}

#[test]
fn rejections_have_the_texts_of_the_contract() {
    let cases = [
        ("duplicate", WatchSpec { watch_id: 5, ..spec("a") }, REASON_DUPLICATE_ID),
        ("equal end", WatchSpec { range_end: b"b", ..spec("b") }, REASON_EMPTY_RANGE),
        ("end before start", WatchSpec { range_end: b"a", ..spec("b") }, REASON_EMPTY_RANGE),
        ("negative start", WatchSpec { start_revision: -1, ..spec("a") }, REASON_COMPACTED),
        ("negative start first", WatchSpec { start_revision: -1, range_end: b"a", ..spec("b") }, REASON_COMPACTED),
        ("range before id", WatchSpec { watch_id: 5, range_end: b"a", ..spec("b") }, REASON_EMPTY_RANGE),
    ];
    for (name, case, reason) in cases {
        let mut f = Fixture::new();
        f.store.put("x", "");
        f.publish();
        assert_eq!(f.create(WatchSpec { watch_id: 5, ..spec("a") }), Some(5));
        f.next();
        assert_eq!(f.create(case), None, "{name}");
        let rejected = f.next();
        assert!(rejected.created, "{name}");
        assert!(rejected.canceled, "{name}");
        assert_eq!(rejected.cancel_reason, reason, "{name}");
        assert_eq!((rejected.watch_id, rejected.revision, rejected.compact_revision), (-1, 2, 0), "{name}");
        f.put("a", "1");
        assert_eq!(keys(&f.messages()), [(5, "a".into())], "{name}: the stream stays usable");
    }
    assert_eq!(REASON_DUPLICATE_ID, "mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(REASON_EMPTY_RANGE, "mvcc: watcher range is empty");
    assert_eq!(REASON_COMPACTED, "etcdserver: mvcc: required revision has been compacted");
}

#[test]
fn the_server_rejects_for_its_own_reasons() {
    let mut f = Fixture::new();
    let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    f.hub.reject(f.stream, reason, 1);
    let rejected = f.next();
    assert!(rejected.created && rejected.canceled);
    assert_eq!((rejected.watch_id, rejected.cancel_reason.as_str()), (-1, reason));
}

#[test]
fn a_compacted_start_is_created_then_canceled() {
    let mut f = Fixture::new();
    (0..9).for_each(|_| f.put("a", "1"));
    f.store.compact_revision = 5;
    assert_eq!(f.create(WatchSpec { start_revision: 4, ..spec("a") }), None);
    let created = f.next();
    assert!(created.created && !created.canceled);
    assert_eq!((created.watch_id, created.revision), (0, 10));
    let canceled = f.next();
    assert!(canceled.canceled && !canceled.created);
    assert_eq!((canceled.watch_id, canceled.revision, canceled.compact_revision), (0, 0, 5));
    assert_eq!(canceled.cancel_reason, "");
    // The compact revision itself can still be read.
    assert_eq!(f.create(WatchSpec { start_revision: 5, ..spec("a") }), Some(1));
    f.catch_up();
    assert_eq!(f.messages().iter().map(|m| m.events.len()).sum::<usize>(), 6);
}

#[test]
fn a_compacted_watchers_id_is_taken_until_the_client_cancels_it() {
    let mut f = Fixture::new();
    (0..9).for_each(|_| f.put("a", "1"));
    f.store.compact_revision = 5;
    f.create(WatchSpec { start_revision: 2, watch_id: 3, ..spec("a") });
    assert_eq!(f.create(WatchSpec { watch_id: 3, ..spec("a") }), None);
    f.messages();
    f.hub.cancel(f.stream, 3);
    let answer = f.next();
    assert!(answer.canceled);
    assert_eq!((answer.watch_id, answer.compact_revision, answer.revision), (3, 0, 10));
    assert_eq!(f.create(WatchSpec { watch_id: 3, ..spec("a") }), Some(3));
}

#[test]
fn cancel_is_answered_behind_queued_events_and_unknown_ids_are_not() {
    let mut f = Fixture::new();
    f.watch_all();
    f.put("a", "1");
    f.hub.cancel(f.stream, 0);
    f.put("a", "2");
    let messages = f.messages();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1].events[0].kv.value, b"1");
    assert!(messages[2].canceled);
    assert_eq!((messages[2].revision, messages[2].cancel_reason.as_str()), (2, ""));
    f.hub.cancel(f.stream, 0);
    f.hub.cancel(f.stream, 17);
    assert_eq!(f.messages(), []);
    assert_eq!(f.hub.stats().watchers, 0);
    assert_eq!(f.hub.event_mode(), EventMode::Off);
}

#[test]
fn ranges_prefixes_and_open_ends() {
    let mut f = Fixture::new();
    let ids: Vec<i64> = [("b", ""), ("b", "c"), ("b", "\0"), ("", "\0"), ("ba", "bb"), ("", "")]
        .map(|(key, end)| f.create(WatchSpec { range_end: end.as_bytes(), ..spec(key) }).unwrap())
        .to_vec();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
    f.messages();
    for (key, expected) in [("b", vec![0, 1, 2, 3]), ("baa", vec![1, 2, 3, 4]), ("c", vec![2, 3]), ("a", vec![3])] {
        f.put(key, "x");
        let mut got: Vec<i64> = f.messages().iter().map(|m| m.watch_id).collect();
        got.sort_unstable();
        assert_eq!(got, expected, "{key}");
    }
    f.put("\0", "x");
    let mut got: Vec<i64> = f.messages().iter().map(|m| m.watch_id).collect();
    got.sort_unstable();
    assert_eq!(got, [3, 5], "an empty key stands for the smallest key");
}

#[test]
fn filters_drop_events_and_empty_messages() {
    let mut f = Fixture::new();
    f.create(WatchSpec { no_put: true, range_end: b"b", ..spec("a") });
    f.create(WatchSpec { no_delete: true, ..spec("a") });
    f.create(WatchSpec { no_delete: true, no_put: true, ..spec("a") });
    f.messages();
    f.put("a", "1");
    assert_eq!(keys(&f.messages()), [(1, "a".into())]);
    f.store.delete("a");
    f.publish();
    let messages = f.messages();
    assert_eq!(keys(&messages), [(0, "a".into())]);
    let event = &messages[0].events[0];
    assert!(event.is_delete);
    assert_eq!((event.kv.mod_revision, event.kv.create_revision, event.kv.value.len()), (3, 0, 0));
}

#[test]
fn previous_pairs_only_for_those_who_ask() {
    let mut f = Fixture::new();
    f.watch_all();
    assert_eq!(f.hub.event_mode(), EventMode::Plain);
    f.create(WatchSpec { prev_kv: true, ..spec("a") });
    assert_eq!(f.hub.event_mode(), EventMode::WithPrev);
    f.messages();
    f.put("a", "1");
    f.put("a", "2");
    f.store.delete("a");
    f.publish();
    let prevs = |id: i64, messages: &[Message]| -> Vec<Option<Vec<u8>>> {
        let own = messages.iter().filter(|m| m.watch_id == id);
        own.flat_map(|m| &m.events).map(|e| e.prev.as_ref().map(|p| p.value.clone())).collect()
    };
    let messages = f.messages();
    assert_eq!(prevs(0, &messages), [None, None, None]);
    assert_eq!(prevs(1, &messages), [None, Some(b"1".to_vec()), Some(b"2".to_vec())]);
    f.hub.cancel(f.stream, 1);
    assert_eq!(f.hub.event_mode(), EventMode::Plain);
}

#[test]
fn a_batch_without_previous_pairs_is_made_up_for_from_history() {
    let mut f = Fixture::new();
    f.create(WatchSpec { prev_kv: true, ..spec("a") });
    f.messages();
    f.store.put("a", "1");
    f.store.put("a", "2");
    let batch = f.store.batch(EventMode::Plain, 1);
    f.hub.publish(&batch);
    assert_eq!(f.messages(), []);
    assert_eq!(f.hub.stats().unsynced, 1);
    f.catch_up();
    let messages = f.messages();
    assert_eq!(keys(&messages), [(0, "a".into()), (0, "a".into())]);
    assert_eq!(messages[0].events[1].prev.as_ref().unwrap().value, b"1");
    assert_eq!(f.hub.stats().unsynced, 0);
}

#[test]
fn a_revision_is_one_message_and_revisions_may_share_one() {
    let mut f = Fixture::new();
    f.watch_all();
    f.messages();
    f.store.apply(&[Change::Put(b"a".to_vec(), vec![1]), Change::Put(b"b".to_vec(), vec![2])]);
    f.store.put("c", "3");
    f.publish();
    let messages = f.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(keys(&messages), [(0, "a".into()), (0, "b".into()), (0, "c".into())]);
    assert_eq!(messages[0].revision, 3);
}

#[test]
fn messages_of_many_revisions_stay_near_the_target_size() {
    let mut f = Fixture::with(HubConfig { message_bytes: 300, ..HubConfig::default() });
    f.watch_all();
    f.messages();
    for i in 0..50 {
        f.store.apply(&[Change::Put(vec![i], vec![0; 20]), Change::Put(vec![i, i], vec![0; 20])]);
    }
    f.publish();
    let messages = f.messages();
    assert!(messages.len() > 10);
    assert!(messages.iter().all(|m| m.size < 400 && m.events.len() % 2 == 0 && !m.fragment));
    assert_eq!(keys(&messages).len(), 100);
}

#[test]
fn fragments_split_a_revision_at_the_threshold() {
    for threshold in [1usize, 60, 100, 150, 1000, 10_000] {
        let mut f = Fixture::with(HubConfig { fragment_bytes: threshold, ..HubConfig::default() });
        f.create(WatchSpec { fragment: true, range_end: b"\0", ..spec("") });
        f.create(WatchSpec { fragment: false, range_end: b"\0", ..spec("") });
        f.messages();
        let changes: Vec<Change> = (0..20).map(|i| Change::Put(vec![b'k', i], vec![0; 10])).collect();
        f.store.apply(&changes);
        f.publish();
        let (split, whole): (Vec<Message>, Vec<Message>) = f.messages().into_iter().partition(|m| m.watch_id == 0);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].events.len(), 20);
        assert_eq!(split.iter().map(|m| m.events.len()).sum::<usize>(), 20);
        let (last, rest) = split.split_last().unwrap();
        assert!(!last.fragment);
        assert!(rest.iter().all(|m| m.fragment));
        assert!(split.iter().all(|m| m.events.len() == 1 || m.size < threshold), "threshold {threshold}");
        // As much as fits: one more event would reach the threshold.
        let record = 14 + 10 + 11;
        assert!(rest.iter().all(|m| m.size + record >= threshold), "threshold {threshold}");
        if whole[0].size + 2 < threshold {
            assert_eq!(split.len(), 1);
        }
    }
}

#[test]
fn a_future_start_waits_for_its_revision() {
    let mut f = Fixture::new();
    f.create(WatchSpec { start_revision: 4, ..spec("a") });
    assert_eq!(f.hub.stats().unsynced, 0);
    f.messages();
    f.store.put("a", "2");
    f.store.put("a", "3");
    f.store.put("a", "4");
    f.publish();
    f.put("a", "5");
    let messages = f.messages();
    let values: Vec<&[u8]> = messages.iter().flat_map(|m| &m.events).map(|e| &e.kv.value[..]).collect();
    assert_eq!(values, [b"4", b"5"]);
}

#[test]
fn an_old_start_reads_history_then_goes_live() {
    let mut f = Fixture::with(HubConfig { chunk_revisions: 3, ..HubConfig::default() });
    (0..10).for_each(|i| f.put("a", &i.to_string()));
    f.create(WatchSpec { start_revision: 2, ..spec("a") });
    assert_eq!(f.hub.stats().unsynced, 1);
    f.put("a", "live");
    f.catch_up();
    f.put("a", "end");
    assert_eq!(f.hub.stats().unsynced, 0);
    let messages = f.messages();
    let revisions: Vec<i64> = messages.iter().flat_map(|m| &m.events).map(|e| e.kv.mod_revision).collect();
    assert_eq!(revisions, (2..=13).collect::<Vec<_>>());
}

#[test]
fn what_is_published_while_a_chunk_is_under_way_follows_it() {
    let mut f = Fixture::new();
    (0..10).for_each(|i| f.put("a", &i.to_string()));
    f.create(WatchSpec { start_revision: 2, ..spec("a") });
    let request = f.hub.next_catch_up().unwrap();
    assert_eq!((request.from, f.hub.next_catch_up()), (2, None));
    f.put("a", "meanwhile");
    let History::Events(chunk) = f.store.history(&request) else { panic!("nothing was compacted") };
    f.put("a", "after the read");
    f.hub.catch_up(request.id, History::Events(chunk.clone()));
    assert_eq!(f.hub.stats().unsynced, 0, "the tail leads to the present");
    f.hub.catch_up(request.id, History::Events(chunk));
    f.put("a", "live");
    let revisions: Vec<i64> = f.messages().iter().flat_map(|m| &m.events).map(|e| e.kv.mod_revision).collect();
    assert_eq!(revisions, (2..=14).collect::<Vec<_>>());
}

#[test]
fn a_slow_stream_costs_its_own_buffer_and_misses_nothing() {
    let config = HubConfig { stream_queue_bytes: 500, message_bytes: 200, ..HubConfig::default() };
    let mut f = Fixture::with(config);
    f.watch_all();
    let fast = f.hub.open_stream();
    f.hub.create(fast, &WatchSpec { range_end: b"\0", ..spec("") }, 1, -1);
    let mut fast_events = 0;
    for i in 0..200 {
        f.put("a", &i.to_string());
        fast_events += pull_all(&mut f.hub, fast).iter().map(|m| m.events.len()).sum::<usize>();
        f.catch_up();
        assert!(f.hub.queued_bytes(f.stream) < 1200);
    }
    assert_eq!(fast_events, 200);
    assert_eq!(f.hub.stats().unsynced, 1);
    let revisions: Vec<i64> = f.drain().iter().flat_map(|m| &m.events).map(|e| e.kv.mod_revision).collect();
    assert_eq!(revisions, (2..=201).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_never_reads_lets_go_of_old_batches() {
    let mut f = Fixture::with(HubConfig { retained_bytes: 20_000, chunk_bytes: 5_000, ..HubConfig::default() });
    f.watch_all();
    f.store.put("a", "held");
    f.publish();
    f.create(WatchSpec { watch_id: 9, ..spec("a") });
    let fast = f.hub.open_stream();
    f.hub.create(fast, &WatchSpec { range_end: b"\0", ..spec("") }, 2, -1);
    for i in 0..1000 {
        f.put("b", &i.to_string());
        pull_all(&mut f.hub, fast);
        f.catch_up();
        assert!(f.hub.stats().retained_bytes < 3 * 20_000);
    }
    let messages = f.drain();
    let created: Vec<i64> = messages.iter().filter(|m| m.created).map(|m| m.watch_id).collect();
    assert_eq!(created, [0, 9], "control messages stay");
    let revisions: Vec<i64> = messages.iter().flat_map(|m| &m.events).map(|e| e.kv.mod_revision).collect();
    assert_eq!(revisions, (2..=1002).collect::<Vec<_>>());
}

#[test]
fn fragments_go_on_where_they_stopped_when_batches_are_let_go() {
    let config = HubConfig { retained_bytes: 2_000, chunk_bytes: 1_000, fragment_bytes: 100, ..HubConfig::default() };
    let mut f = Fixture::with(config);
    f.create(WatchSpec { fragment: true, range_end: b"\0", ..spec("") });
    f.next();
    let changes: Vec<Change> = (0..20).map(|i| Change::Put(vec![b'k', i], vec![0; 10])).collect();
    f.store.apply(&changes);
    f.publish();
    let mut messages = vec![f.next(), f.next()];
    let other = f.hub.open_stream();
    f.hub.create(other, &WatchSpec { range_end: b"\0", ..spec("") }, 2, -1);
    for _ in 0..20 {
        f.put("z", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        pull_all(&mut f.hub, other);
    }
    assert_eq!(f.hub.stats().unsynced, 1);
    messages.extend(f.drain());
    let got: Vec<Vec<u8>> = messages.iter().flat_map(|m| &m.events).map(|e| e.kv.key.clone()).collect();
    assert_eq!(got, f.store.events.iter().map(|e| e.event.kv.key.clone()).collect::<Vec<_>>());
}

#[test]
fn compaction_cancels_those_who_are_owed_what_is_gone() {
    let mut f = Fixture::new();
    (0..9).for_each(|_| f.put("a", "1"));
    f.create(WatchSpec { start_revision: 3, ..spec("a") });
    f.create(WatchSpec { start_revision: 6, ..spec("a") });
    f.create(spec("a"));
    f.messages();
    f.store.compact_revision = 6;
    f.hub.compacted(6);
    let canceled = f.next();
    assert!(canceled.canceled);
    assert_eq!((canceled.watch_id, canceled.compact_revision, canceled.revision), (0, 6, 0));
    f.catch_up();
    assert_eq!(f.messages().iter().flat_map(|m| &m.events).count(), 5);
    // A hub that has not heard of the compaction learns of it from the store's answer.
    f.create(WatchSpec { start_revision: 7, ..spec("a") });
    f.messages();
    f.store.compact_revision = 8;
    f.catch_up();
    assert_eq!(f.next().compact_revision, 8);
    assert_eq!(f.hub.stats().watchers, 2);
}

#[test]
fn compaction_cancels_watchers_of_full_streams_at_once() {
    let mut f = Fixture::with(HubConfig { stream_queue_bytes: 10, ..HubConfig::default() });
    f.watch_all();
    f.messages();
    (0..9).for_each(|_| f.put("a", "1"));
    assert_eq!(f.hub.stats().unsynced, 1);
    f.hub.compacted(3);
    assert_eq!(f.hub.stats().watchers, 1, "what it is owed is still there: the first event is queued");
    f.hub.compacted(9);
    assert_eq!((f.hub.stats().watchers, f.hub.stats().unsynced), (0, 0));
    let messages = f.messages();
    assert_eq!(messages[0].events[0].kv.mod_revision, 2);
    assert_eq!((messages[1].canceled, messages[1].compact_revision), (true, 9));
}

#[test]
fn a_pass_takes_care_of_a_bounded_number_of_watchers() {
    let mut f = Fixture::with(HubConfig { pass_watchers: 10, ..HubConfig::default() });
    (0..9).for_each(|i| f.put("a", &i.to_string()));
    for _ in 0..35 {
        f.create(WatchSpec { start_revision: 5, ..spec("a") });
    }
    let mut left = Vec::new();
    while f.hub.stats().unsynced > 0 {
        f.step();
        left.push(f.hub.stats().unsynced);
    }
    assert_eq!(left, [25, 15, 5, 0]);
    assert_eq!(f.messages().iter().map(|m| m.events.len()).sum::<usize>(), 35 * 6);
    for _ in 0..25 {
        f.create(WatchSpec { start_revision: 5, ..spec("a") });
    }
    f.store.compact_revision = 8;
    f.hub.compacted(8);
    assert_eq!(f.hub.stats().unsynced, 15);
    f.catch_up();
    let canceled = f.messages().iter().filter(|m| m.compact_revision == 8).count();
    assert_eq!((canceled, f.hub.stats().watchers), (25, 35), "the rest learn of it when they ask");
}

#[test]
fn progress_requests_are_answered_only_in_sync() {
    let mut f = Fixture::new();
    f.hub.progress_request(f.stream);
    assert_eq!(f.messages(), [], "a stream without watchers is not answered");
    f.watch_all();
    f.put("a", "1");
    f.hub.progress_request(f.stream);
    f.hub.progress_request(f.stream);
    f.put("a", "2");
    let messages = f.messages();
    let progress: Vec<(usize, i64, i64)> = messages
        .iter()
        .enumerate()
        .filter(|(_, m)| m.events.is_empty() && !m.created)
        .map(|(at, m)| (at, m.watch_id, m.revision))
        .collect();
    assert_eq!(progress, [(2, -1, 2)], "behind the events it vouches for, before those it does not");
    assert_eq!(messages.len(), 4);
    f.create(WatchSpec { start_revision: 2, ..spec("a") });
    f.hub.progress_request(f.stream);
    assert!(f.messages().iter().all(|m| m.created), "not while a watcher reads history");
    f.catch_up();
    f.hub.progress_request(f.stream);
    let messages = f.messages();
    let last = messages.last().unwrap();
    assert_eq!((last.watch_id, last.revision, last.events.len()), (-1, 3, 0));
}

#[test]
fn progress_waits_until_the_hub_has_seen_what_a_create_announced() {
    let mut f = Fixture::new();
    f.store.put("a", "1");
    f.watch_all();
    assert_eq!(f.next().revision, 2);
    f.hub.progress_request(f.stream);
    assert_eq!(f.messages(), []);
    f.publish();
    assert_eq!(f.messages(), [], "the event lies before the watch");
    f.hub.progress_request(f.stream);
    assert_eq!(f.next().revision, 2);
}

#[test]
fn progress_notifications_come_with_jitter_to_quiet_synced_watchers() {
    let mut f = Fixture::with(HubConfig { progress_interval_millis: 1000, seed: 4, ..HubConfig::default() });
    f.hub.tick(Millis(0));
    f.create(WatchSpec { progress_notify: true, ..spec("a") });
    f.create(WatchSpec { progress_notify: true, ..spec("b") });
    f.create(spec("c"));
    f.messages();
    let interval = f.hub.next_tick().unwrap().0;
    assert!((1000..1100).contains(&interval), "{interval}");
    f.hub.tick(Millis(interval - 1));
    assert_eq!(f.messages(), []);
    f.put("b", "1");
    f.messages();
    f.hub.tick(Millis(interval));
    let ids = |messages: &[Message]| -> Vec<(i64, i64)> { messages.iter().map(|m| (m.watch_id, m.revision)).collect() };
    assert_eq!(ids(&f.messages()), [(0, 2)], "an event stands for the next notification");
    f.hub.tick(Millis(2 * interval));
    assert_eq!(ids(&f.messages()), [(0, 2), (1, 2)]);
    f.hub.tick(Millis(10 * interval + 5));
    assert_eq!(ids(&f.messages()).len(), 2, "missed ticks are not made up for");
    f.hub.cancel(f.stream, 0);
    f.hub.cancel(f.stream, 1);
    assert_eq!(f.hub.next_tick(), None);
    let other = f.hub.open_stream();
    f.hub.create(other, &WatchSpec { progress_notify: true, ..spec("a") }, 1, -1);
    let other_interval = f.hub.next_tick().unwrap().0 - (10 * interval + 5);
    assert_ne!(other_interval, interval, "each stream has its own jitter");
}

/// A client goes on behind the revision that it was told of last: that may not lie before what it asked for.
#[test]
fn there_is_no_progress_before_a_watch_has_begun() {
    let mut f = Fixture::with(HubConfig { progress_interval_millis: 1000, seed: 4, ..HubConfig::default() });
    f.hub.tick(Millis(0));
    f.create(WatchSpec { progress_notify: true, ..spec("a") });
    f.create(WatchSpec { progress_notify: true, start_revision: 3, ..spec("b") });
    f.messages();
    let interval = f.hub.next_tick().unwrap().0;
    let told = |f: &mut Fixture, at: u64| -> Vec<(i64, i64)> {
        f.hub.tick(Millis(at));
        f.hub.progress_request(f.stream);
        f.messages().iter().map(|m| (m.watch_id, m.revision)).collect()
    };
    assert_eq!(told(&mut f, interval), [(0, 1)], "the other one begins at 3");
    f.put("c", "1");
    assert_eq!(told(&mut f, 2 * interval), [(0, 2)]);
    f.put("c", "2");
    assert_eq!(told(&mut f, 3 * interval), [(0, 3), (1, 3), (-1, 3)]);

    // One that never began does not keep the others from being told when it is gone.
    f.create(WatchSpec { watch_id: 9, start_revision: 100, ..spec("d") });
    f.messages();
    f.hub.progress_request(f.stream);
    assert_eq!(f.messages(), []);
    f.hub.cancel(f.stream, 9);
    f.messages();
    f.hub.progress_request(f.stream);
    assert_eq!(f.next().watch_id, -1);
}

#[test]
fn missed_batches_are_read_from_history() {
    let mut f = Fixture::new();
    f.watch_all();
    f.create(WatchSpec { start_revision: 100, ..spec("a") });
    f.messages();
    f.store.put("a", "2");
    f.hub.publish(&f.store.batch(EventMode::Off, 1));
    f.store.put("a", "3");
    f.store.put("a", "4");
    f.hub.publish(&f.store.batch(EventMode::Plain, 3));
    assert_eq!(f.hub.stats().unsynced, 1, "a start in the future is not touched");
    f.store.put("a", "5");
    f.hub.jump(5);
    f.catch_up();
    f.put("a", "6");
    let revisions: Vec<i64> = f.messages().iter().flat_map(|m| &m.events).map(|e| e.kv.mod_revision).collect();
    assert_eq!(revisions, [2, 3, 4, 5, 6]);
}

#[test]
fn a_stream_is_named_ready_once_until_it_is_pulled_empty() {
    let mut f = Fixture::new();
    f.watch_all();
    assert_eq!(f.hub.pop_ready(), Some(f.stream));
    f.put("a", "1");
    assert_eq!(f.hub.pop_ready(), None);
    f.messages();
    f.put("a", "2");
    assert_eq!(f.hub.pop_ready(), Some(f.stream));
    f.put("a", "3");
    f.hub.close_stream(f.stream);
    assert_eq!(f.hub.pop_ready(), None);
    assert_eq!(pull(&mut f.hub, f.stream), None);
    assert_eq!((f.hub.stats().watchers, f.hub.stats().streams, f.hub.stats().retained_bytes), (0, 0, 0));
    let again = f.hub.open_stream();
    assert_ne!(again, f.stream, "a key never names another stream");
    assert_eq!(f.create(spec("a")), None);
}

#[test]
fn history_and_what_was_postponed_have_time() {
    let mut f = Fixture::new();
    f.watch_all();
    assert_eq!(f.hub.pop_ready(), Some(f.stream));
    f.messages();
    f.put("a", "1");
    assert_eq!((f.hub.pop_ready(), f.hub.pop_late()), (Some(f.stream), None));
    f.hub.postpone(f.stream);
    assert_eq!((f.hub.pop_ready(), f.hub.pop_late()), (None, Some(f.stream)));
    f.messages();
    f.hub.postpone(f.stream);
    assert_eq!(f.hub.pop_late(), None, "it was pulled empty");

    let late = f.hub.open_stream();
    f.hub.create(late, &WatchSpec { start_revision: 2, ..spec("a") }, f.store.revision, f.store.compact_revision);
    assert_eq!(f.hub.pop_ready(), Some(late), "that it was created is new");
    pull_all(&mut f.hub, late);
    f.catch_up();
    assert_eq!((f.hub.pop_ready(), f.hub.pop_late()), (None, Some(late)));
    assert_eq!(pull_all(&mut f.hub, late).len(), 1);
    f.put("a", "2");
    assert_eq!(f.hub.pop_late(), None, "in sync, its events are new");
}
