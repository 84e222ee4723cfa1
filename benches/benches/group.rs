//! A write from its submission to its outcome, in memory: batch, Raft entry, log record, commit, apply, by a group of
//! one whose disk does nothing. `cargo bench -p plinth-benches --bench group`.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plinth_engine::command::{Command, Put};
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::testing::MemStore;
use plinth_engine::pagefile::{Options, PageFile};
use plinth_engine::store::{Store, StoreConfig};
use plinth_member::log::Log;
use plinth_member::recover::{self, Identity};
use plinth_member::{Effects, Member, MemberConfig, Pumped};
use plinth_raft::batch::{Batch, BatchBuilder};
use plinth_raft::{EntryId, GroupConfig, MemberChange, MemberId};
use plinth_wal::sim_disk::NullDisk;
use plinth_wal::{GroupId, WalId, WalOptions};
use std::hint::black_box;

const MEMBER: MemberId = MemberId(1);
const GROUP: GroupId = GroupId(0);
const BATCH: u64 = 64;
const KEYS: u64 = 10_000;

type MemMember = (Member<PageFile<MemStore>, u64>, Log<NullDisk>);

fn put(number: u64) -> Put {
    let key = format!("/registry/pods/default/{:08}", number % KEYS).into_bytes();
    Put { key: key.into(), value: vec![b'v'; 256].into(), ..Put::default() }
}

fn encoded_put(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put(number).encode_into(&mut out);
    out
}

fn member() -> MemMember {
    let file = PageFile::create(MemStore::new(), Options { file_id: 1 }).expect("memory does not fail");
    let config = StoreConfig { quota_bytes: -1, ..StoreConfig::default() };
    let store = Store::open(file, config).expect("an empty store");
    let options = WalOptions::new(WalId(1));
    let groups = [(GROUP, EntryId::default())];
    let mut log = recover::recover(NullDisk::default(), options, groups).expect("an empty log").log;
    let identity = Identity { member: MEMBER, cluster: 1 };
    let record = plinth_raft::Member { id: MEMBER, ..plinth_raft::Member::default() };
    let members = vec![(MEMBER, MemberChange::Add(record).encode())];
    let entries = recover::append_bootstrap(&mut log, GROUP, identity, members);
    log.flush().expect("a disk that does nothing does not fail");
    log.poll().expect("nor does it here");
    let config = MemberConfig {
        identity,
        group: GroupConfig::new(GROUP, MEMBER, 1),
        lease_extension_millis: 1000,
        first_sequence: 0,
        request_timeout_millis: 60_000,
        learners_max: 1,
        apply_budget: plinth_member::limits::APPLY_PER_PUMP,
    };
    (Member::new(config, entries, store).expect("what was just bootstrapped is sound"), log)
}

fn pump((member, log): &mut MemMember, effects: &mut Effects<u64>) {
    while member.pump(log, Millis(1), effects).expect("memory does not fail") == Pumped::More {}
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH));
    let puts: Vec<Put> = (0..BATCH).map(put).collect();
    group.bench_function("encode 64 puts into an entry", |bench| {
        bench.iter(|| {
            let mut builder = BatchBuilder::new();
            for put in &puts {
                builder.push_with(|out| put.encode_into(out));
            }
            builder.finish(MEMBER, 1)
        });
    });
    let mut builder = BatchBuilder::new();
    (0..BATCH).for_each(|number| builder.push(&encoded_put(number)));
    let entry = builder.finish(MEMBER, 1);
    group.bench_function("read 64 commands in place", |bench| {
        bench.iter(|| {
            let batch = Batch::parse(&entry).expect("built above");
            for command in batch.iter() {
                black_box(Command::access(command).expect("built above"));
            }
        });
    });
}

fn puts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("group of one");
    let (mut member, mut effects) = (member(), Effects::default());
    while !member.0.is_leader() {
        member.0.tick(Millis(1), &mut effects);
        pump(&mut member, &mut effects);
    }
    let mut number = 0;
    for size in [1, BATCH] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("{size} puts from submission to outcome"), |bench| {
            bench.iter(|| {
                for _ in 0..size {
                    number += 1;
                    let put = put(number);
                    assert!(member.0.submit(|out| put.encode_into(out), number, Millis(1)).is_ok(), "there is room");
                }
                // What was flushed in one pump is durable in the next.
                while (effects.applied.len() as u64) < size {
                    pump(&mut member, &mut effects);
                }
                effects.applied.clear();
            });
        });
    }
}

criterion_group!(member_of_one, batches, puts);
criterion_main!(member_of_one);
