//! The hub against the definition of a watch: each watcher gets exactly the matching events, in order, whatever happens
//! in between: slow readers, late and lost batches, history on another reactor, compaction, cancels, closed streams.

use std::collections::{BTreeMap, VecDeque};

use crate::support::{Change, Happened, Message, NaiveStore, Stored, pull};
use plinth_engine::lease::Millis;
use plinth_engine::watch::{CatchUp, EventBatch, EventMode, History, Hub, HubConfig, StreamKey, WatchSpec};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Spec {
    key: Vec<u8>,
    range_end: Vec<u8>,
    /// Relative to the current revision; `None` is 0.
    start: Option<i64>,
    chosen_id: i64,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    progress: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Apply(Vec<Change>),
    /// Takes the store's new events as one batch, in the hub's mode or as nothing.
    Take {
        off: bool,
    },
    Publish,
    /// The batch gets lost; the next one tells.
    Lose,
    Create(usize, Spec),
    Cancel(usize, i64),
    Progress(usize),
    Pull(usize, usize),
    Ask,
    Read,
    Answer,
    GiveUp,
    Compact(i64),
    TellCompaction,
    Tick(u64),
    Close(usize),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec!["a", "aa", "ab", "b", "ba", "c"]).prop_map(|key| key.as_bytes().to_vec())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (key(), 0usize..40).prop_map(|(key, len)| Change::Put(key, vec![b'v'; len])),
        1 => key().prop_map(Change::Delete),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let end = prop::sample::select(vec!["", "", "b", "c", "\0", "\0"]).prop_map(|end| end.as_bytes().to_vec());
    let start = prop_oneof![3 => Just(None), 4 => (-30i64..3).prop_map(Some)];
    let id = prop_oneof![4 => Just(0i64), 1 => 1i64..5];
    (key(), end, start, id, any::<[bool; 5]>(), any::<bool>()).prop_map(
        |(key, range_end, start, chosen_id, flags, f)| Spec {
            key,
            range_end,
            start,
            chosen_id,
            no_put: flags[0] && flags[1],
            no_delete: flags[1] && flags[2],
            prev_kv: flags[3],
            fragment: flags[4],
            progress: f,
        },
    )
}

const STREAMS: usize = 3;

fn op() -> impl Strategy<Value = Op> {
    let stream = || 0..STREAMS;
    prop_oneof![
        12 => prop::collection::vec(change(), 1..5).prop_map(Op::Apply),
        8 => prop::bool::weighted(0.1).prop_map(|off| Op::Take { off }),
        8 => Just(Op::Publish),
        1 => Just(Op::Lose),
        6 => (stream(), spec()).prop_map(|(stream, spec)| Op::Create(stream, spec)),
        2 => (stream(), 0i64..6).prop_map(|(stream, id)| Op::Cancel(stream, id)),
        3 => stream().prop_map(Op::Progress),
        10 => (stream(), 1usize..6).prop_map(|(stream, count)| Op::Pull(stream, count)),
        5 => Just(Op::Ask),
        5 => Just(Op::Read),
        5 => Just(Op::Answer),
        1 => Just(Op::GiveUp),
        1 => (0i64..40).prop_map(Op::Compact),
        1 => Just(Op::TellCompaction),
        2 => (0u64..2000).prop_map(Op::Tick),
        1 => stream().prop_map(Op::Close),
    ]
}

/// What a client knows about one of its watches.
#[derive(Debug)]
struct Watch {
    spec: Spec,
    start: i64,
    got: Vec<(i64, Happened)>,
    /// The last message was a fragment with more to come.
    is_open_fragment: bool,
    canceled: bool,
}

impl Watch {
    fn wants(&self, event: &Happened) -> bool {
        let key = &event.kv.key;
        let in_range = match &self.spec.range_end[..] {
            [] => *key == self.spec.key,
            [0] => *key >= self.spec.key,
            end => *key >= self.spec.key && key[..] < *end,
        };
        in_range && !(if event.is_delete { self.spec.no_delete } else { self.spec.no_put })
    }

    fn expected<'a>(&'a self, store: &'a NaiveStore) -> impl Iterator<Item = &'a Stored> {
        store.events.iter().filter(|stored| stored.main >= self.start && self.wants(&stored.event))
    }

    /// Everything up to and including `revision` has arrived.
    fn has_all_to(&self, revision: i64, store: &NaiveStore) -> bool {
        self.got.len() >= self.expected(store).filter(|stored| stored.main <= revision).count()
    }
}

#[derive(Default)]
struct Client {
    watches: BTreeMap<i64, Watch>,
    /// Watches that ended; kept to be checked.
    ended: Vec<Watch>,
    /// Creates that were not answered yet: the spec and its absolute start.
    creating: VecDeque<(Spec, i64)>,
    /// The greatest revision that a message spoke of.
    seen: i64,
}

struct World {
    hub: Hub,
    store: NaiveStore,
    config: HubConfig,
    keys: Vec<StreamKey>,
    clients: Vec<Client>,
    taken: i64,
    in_flight: VecDeque<EventBatch>,
    asked: Option<CatchUp>,
    read: Option<(CatchUp, History)>,
    now: u64,
}

impl World {
    fn new(config: HubConfig) -> Self {
        let mut hub = Hub::new(config, 1);
        let keys = (0..STREAMS).map(|_| hub.open_stream()).collect();
        Self {
            hub,
            store: NaiveStore::new(),
            config,
            keys,
            clients: (0..STREAMS).map(|_| Client::default()).collect(),
            taken: 1,
            in_flight: VecDeque::new(),
            asked: None,
            read: None,
            now: 0,
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Apply(changes) => self.store.apply(&changes),
            Op::Take { off } => self.take(off),
            Op::Publish => self.in_flight.pop_front().into_iter().for_each(|batch| self.hub.publish(&batch)),
            Op::Lose => drop(self.in_flight.pop_front()),
            Op::Create(stream, spec) => self.create(stream, spec),
            Op::Cancel(stream, id) => self.hub.cancel(self.keys[stream], id),
            Op::Progress(stream) => self.hub.progress_request(self.keys[stream]),
            Op::Pull(stream, count) => (0..count).for_each(|_| _ = self.pull(stream)),
            Op::Ask if self.asked.is_none() && self.read.is_none() => self.asked = self.hub.next_catch_up(),
            Op::Ask => {}
            Op::Read => self.read = self.read.take().or_else(|| self.asked.take().map(|r| (r, self.store.history(&r)))),
            Op::Answer => {
                if let Some((request, history)) = self.read.take() {
                    self.hub.catch_up(request.id, history);
                }
            }
            Op::GiveUp => {
                if let Some(request) = self.asked.take() {
                    self.hub.catch_up_failed(request.id);
                }
            }
            Op::Compact(back) => {
                let revision = self.store.revision - back;
                self.store.compact_revision = self.store.compact_revision.max(if revision > 0 { revision } else { -1 });
            }
            Op::TellCompaction => self.hub.compacted(self.store.compact_revision),
            Op::Tick(millis) => {
                self.now += millis;
                self.hub.tick(Millis(self.now));
            }
            Op::Close(stream) => {
                self.hub.close_stream(self.keys[stream]);
                self.keys[stream] = self.hub.open_stream();
                let client = std::mem::take(&mut self.clients[stream]);
                client.watches.values().for_each(|watch| check(watch, &self.store, false));
            }
        }
        let slack = 64 * 4096 + 4 * self.config.chunk_bytes;
        assert!(self.hub.stats().retained_bytes < 3 * self.config.retained_bytes + slack);
    }

    fn take(&mut self, off: bool) {
        let mode = if off { EventMode::Off } else { self.hub.event_mode() };
        if self.store.revision > self.taken {
            self.in_flight.push_back(self.store.batch(mode, self.taken));
            self.taken = self.store.revision;
        }
    }

    fn create(&mut self, stream: usize, spec: Spec) {
        let start = spec.start.map_or(0, |back| (self.store.revision + back).max(1));
        let asked = WatchSpec {
            key: &spec.key,
            range_end: &spec.range_end,
            start_revision: start,
            progress_notify: spec.progress,
            no_put: spec.no_put,
            no_delete: spec.no_delete,
            prev_kv: spec.prev_kv,
            watch_id: spec.chosen_id,
            fragment: spec.fragment,
        };
        self.hub.create(self.keys[stream], &asked, self.store.revision, self.store.compact_revision);
        let start = if start == 0 { self.store.revision + 1 } else { start };
        self.clients[stream].creating.push_back((spec, start));
    }

    fn pull(&mut self, stream: usize) -> bool {
        let Some(message) = pull(&mut self.hub, self.keys[stream]) else { return false };
        let client = &mut self.clients[stream];
        let is_stale = message.revision < client.seen;
        client.seen = client.seen.max(message.revision);
        if message.created {
            let (spec, start) = client.creating.pop_front().expect("creates are answered once");
            if message.canceled {
                assert_eq!(message.watch_id, -1);
                return true;
            }
            let watch = Watch { spec, start, got: Vec::new(), is_open_fragment: false, canceled: false };
            assert!(client.watches.insert(message.watch_id, watch).is_none(), "ids are unique");
        } else if message.canceled {
            self.canceled(stream, &message);
        } else if message.events.is_empty() {
            assert!(!is_stale, "progress does not go back");
            self.progressed(stream, &message);
        } else {
            self.received(stream, message);
        }
        true
    }

    fn canceled(&mut self, stream: usize, message: &Message) {
        let client = &mut self.clients[stream];
        let Some(mut watch) = client.watches.remove(&message.watch_id) else {
            return; // Canceled by compaction before, and then by the client.
        };
        check(&watch, &self.store, false);
        if message.compact_revision != 0 {
            assert_eq!(message.revision, 0);
            let next = watch.expected(&self.store).nth(watch.got.len()).map_or(watch.start, |stored| stored.main);
            let is_gone = watch.start < message.compact_revision || next < message.compact_revision;
            assert!(is_gone, "canceled although nothing was lost");
        }
        watch.canceled = true;
        client.ended.push(watch);
    }

    fn progressed(&mut self, stream: usize, message: &Message) {
        let client = &self.clients[stream];
        assert!(message.revision > 0);
        if message.watch_id == -1 {
            let mut all = client.watches.values();
            assert!(all.all(|watch| watch.has_all_to(message.revision, &self.store)), "progress vouches for too much");
        } else {
            let watch = &client.watches[&message.watch_id];
            assert!(watch.spec.progress);
            assert!(watch.has_all_to(message.revision, &self.store), "progress vouches for too much");
        }
    }

    fn received(&mut self, stream: usize, message: Message) {
        let watch = self.clients[stream].watches.get_mut(&message.watch_id).expect("events come to open watches");
        let main = |event: &Happened| event.kv.mod_revision;
        let (first, last) = (main(&message.events[0]), main(message.events.last().unwrap()));
        assert!(message.revision >= last);
        let before = watch.got.last().map_or(0, |(main, _)| *main);
        if watch.is_open_fragment {
            assert_eq!(first, before, "the rest of a revision follows its fragment");
        } else {
            assert!(first > before, "a revision arrives in one message");
        }
        assert!(!message.fragment || watch.spec.fragment);
        if watch.spec.fragment {
            let one_revision_piece = message.events.len() == 1 || message.size < self.config.fragment_bytes;
            assert!(one_revision_piece, "fragments keep to their size");
        }
        watch.is_open_fragment = message.fragment;
        watch.got.extend(message.events.into_iter().map(|event| (main(&event), event)));
    }

    /// Everybody reads and everything is published: what is owed arrives.
    fn settle(&mut self) {
        self.in_flight.clear();
        self.hub.publish(&self.store.batch(self.hub.event_mode(), self.taken));
        if let Some((request, history)) = self.read.take() {
            self.hub.catch_up(request.id, history);
        }
        if let Some(request) = self.asked.take() {
            self.hub.catch_up(request.id, self.store.history(&request));
        }
        let mut rounds = 0;
        loop {
            let mut is_idle = true;
            for stream in 0..STREAMS {
                while self.pull(stream) {
                    is_idle = false;
                }
            }
            if let Some(request) = self.hub.next_catch_up() {
                self.hub.catch_up(request.id, self.store.history(&request));
                is_idle = false;
            }
            if is_idle {
                break;
            }
            rounds += 1;
            assert!(rounds < 10_000, "the hub does not come to rest");
        }
        let stats = self.hub.stats();
        assert_eq!((stats.unsynced, stats.retained_bytes), (0, 0));
        for client in &self.clients {
            assert!(client.creating.is_empty(), "every create is answered");
            client.watches.values().for_each(|watch| check(watch, &self.store, true));
            client.ended.iter().for_each(|watch| check(watch, &self.store, false));
        }
        assert_eq!(stats.watchers, self.clients.iter().map(|client| client.watches.len()).sum::<usize>());
    }
}

/// What arrived is what was owed: all of it, or the first part.
fn check(watch: &Watch, store: &NaiveStore, is_complete: bool) {
    let expected: Vec<_> = watch.expected(store).collect();
    assert!(watch.got.len() <= expected.len());
    assert!(!is_complete || watch.got.len() == expected.len(), "{} of {}", watch.got.len(), expected.len());
    assert!(!is_complete || !watch.is_open_fragment, "a fragment is never the last");
    for ((main, got), stored) in watch.got.iter().zip(expected) {
        assert_eq!(*main, stored.main);
        assert_eq!((got.is_delete, &got.kv), (stored.event.is_delete, &stored.event.kv));
        match &got.prev {
            Some(prev) => {
                assert!(watch.spec.prev_kv);
                assert_eq!(Some(prev), stored.event.prev.as_ref());
            }
            None => {
                let may_lack = !watch.spec.prev_kv || stored.main <= store.compact_revision;
                assert!(may_lack || stored.event.prev.is_none(), "a previous pair is missing");
            }
        }
    }
}

fn config() -> impl Strategy<Value = HubConfig> {
    let small = prop::sample::select(vec![1usize, 100, 300, 2000]);
    (small.clone(), small, 0usize..3, 1i64..12, any::<u64>()).prop_map(|(message, queue, size, revisions, seed)| {
        HubConfig {
            fragment_bytes: [120, 300, 100_000][size],
            message_bytes: message,
            stream_queue_bytes: queue,
            retained_bytes: [2_000, 10_000, 1 << 20][size],
            tail_bytes: [1, 1_000, 1 << 20][size],
            chunk_revisions: revisions,
            chunk_bytes: [50, 500, 1 << 19][size],
            pass_watchers: [1, 2, 512][size],
            progress_interval_millis: 1000,
            seed,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::default())]
    #[test]
    fn every_watcher_gets_exactly_what_it_is_owed(config in config(), ops in prop::collection::vec(op(), 1..250)) {
        let mut world = World::new(config);
        for op in ops {
            world.step(op);
        }
        world.settle();
    }
}
