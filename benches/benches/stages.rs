//! Each stage of a request by itself, in memory: `cargo bench -p plinth-benches`.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use plinth_engine::command::{Command, Put};
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::testing::MemStore;
use plinth_engine::pagefile::{Options, PageFile};
use plinth_engine::store::range::RangeQuery;
use plinth_engine::store::{EntryId, Store, StoreConfig};
use plinth_engine::trees::{TreeId, Trees};
use plinth_engine::watch::{EventBatchBuilder, EventMode, HeaderIds, Hub, HubConfig, WatchSpec};
use plinth_random::Random;
use plinth_wal::sim_disk::NullDisk;
use plinth_wal::{GroupId, RecordKind, Wal, WalId, WalOptions};
use std::hint::black_box;

const VALUE: [u8; 256] = [b'v'; 256];
const KEYS: u64 = 100_000;
const BATCH: u64 = 64;

fn key(n: u64) -> Vec<u8> {
    format!("/registry/pods/default/{n:08}").into_bytes()
}

fn new_file() -> PageFile<MemStore> {
    PageFile::create(MemStore::new(), Options { file_id: 1 }).expect("memory does not fail")
}

fn encoded_put(n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Put { key: key(n).into(), value: VALUE.to_vec().into(), ..Put::default() }.encode_into(&mut out);
    out
}

fn apply(store: &mut Store<PageFile<MemStore>>, index: u64, commands: &[Vec<u8>]) {
    store.begin_entry(EntryId { index, term: 1 }).expect("memory does not fail");
    for command in commands {
        let command = Command::access(command).expect("encoded above");
        black_box(store.apply(command, Millis(1)).expect("applied"));
    }
}

fn filled() -> Store<PageFile<MemStore>> {
    let config = StoreConfig { quota_bytes: -1, ..StoreConfig::default() };
    let mut store = Store::open(new_file(), config).expect("an empty store");
    for first in (0..KEYS).step_by(BATCH as usize) {
        let commands: Vec<Vec<u8>> = (first..first + BATCH).map(encoded_put).collect();
        apply(&mut store, first + 1, &commands);
    }
    store
}

fn wal_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    let payload = vec![7; 16 << 10];
    group.throughput(Throughput::Bytes(payload.len() as u64));
    let (mut wal, _) = Wal::open(NullDisk::default(), WalOptions::new(WalId(1))).expect("a new log");
    group.bench_function("append and flush 16 KiB", |bench| {
        bench.iter(|| {
            let lsn = wal.append(GroupId(0), RecordKind::Entry, 1, &[&payload]);
            wal.flush().expect("flushed");
            wal.poll().expect("polled");
            wal.release_before(lsn);
        });
    });
}

fn page_file(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("page file");
    let mut file = new_file();
    let mut next = 0_u64;
    group.bench_function("insert at the right edge", |bench| {
        bench.iter(|| {
            next += 1;
            file.insert(TreeId::Rev, &next.to_be_bytes(), &VALUE).expect("memory does not fail");
        });
    });
    let (last, mut random) = (next.max(1), Random::new(1));
    group.bench_function("get", |bench| {
        bench.iter(|| {
            let at = random.below(last);
            black_box(file.get(TreeId::Rev, &at.to_be_bytes()).expect("memory does not fail"));
        });
    });
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    let mut store = filled();
    let mut index = KEYS + 1;
    let mut random = Random::new(1);
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("apply a batch of 64 puts", |bench| {
        bench.iter_batched(
            || {
                index += 1;
                let commands: Vec<Vec<u8>> = (0..BATCH).map(|_| encoded_put(random.below(KEYS))).collect();
                (index, commands)
            },
            |(index, commands)| apply(&mut store, index, &commands),
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::new();
    group.bench_function("range of one key", |bench| {
        bench.iter(|| {
            let key = key(random.below(KEYS));
            out.clear();
            black_box(store.range(&RangeQuery { key: &key, ..RangeQuery::default() }, &mut out).expect("read"));
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("range of 1000 keys", |bench| {
        bench.iter(|| {
            out.clear();
            let query = RangeQuery {
                key: b"/registry/pods/default/00001000",
                range_end: b"/registry/pods/default/00002000",
                ..RangeQuery::default()
            };
            black_box(store.range(&query, &mut out).expect("read"));
        });
    });
}

fn watch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch");
    group.throughput(Throughput::Elements(1000));
    let mut hub = Hub::new(HubConfig::default(), 1);
    for _ in 0..10 {
        let stream = hub.open_stream();
        for _ in 0..100 {
            let spec = WatchSpec { key: b"/registry/", range_end: b"/registry0", ..WatchSpec::default() };
            hub.create(stream, &spec, 1, -1);
        }
    }
    let mut revision = 1;
    let mut builder = EventBatchBuilder::new(EventMode::Plain, revision);
    let mut out = Vec::new();
    let pair = {
        let mut pair = vec![0x0a, 31];
        pair.extend_from_slice(&key(7));
        pair.extend_from_slice(&[0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 0x80, 2]);
        pair.extend_from_slice(&VALUE);
        pair
    };
    group.bench_function("one event to 1000 watchers", |bench| {
        bench.iter(|| {
            revision += 1;
            builder.put(revision, 0, true, &pair, None);
            hub.publish(&builder.finish(revision));
            while let Some(stream) = hub.pop_ready() {
                out.clear();
                while hub.next_message(stream, HeaderIds::default(), &mut out) {}
            }
        });
    });
}

criterion_group!(stages, wal_append, page_file, store, watch);
criterion_main!(stages);
