//! A store that follows another one: fed with what a source did, it holds the same at the same revisions, however its feed
//! is cut and repeated, and wherever it is opened again.

use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Command, DeleteRange, Op, Put, Txn};
use plinth_engine::error::{Error, OpError};
use plinth_engine::follow::{
    FollowChange, FollowLease, FollowLeases, FollowRecord, FollowRecords, UserRecord, put_record, tombstone_record,
};
use plinth_engine::kv_codec::KeyValue;
use plinth_engine::lease::Millis;
use plinth_engine::revision::RevKey;
use plinth_engine::store::hash::{HashKv, HashStep};
use plinth_engine::store::{EntryId, Store, StoreConfig, meta};
use plinth_engine::trees::{MemTrees, TreeId, Trees};
use plinth_engine::watch::EventMode;
use plinth_random::Random;
use std::ops::ControlFlow;

const CLUSTER: u64 = 77;

fn apply(store: &mut Store<MemTrees>, command: &Command) -> Result<i64, Error> {
    let applied = store.applied();
    store.begin_entry(EntryId { index: applied.index + 1, term: 1 }).expect("memory");
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    store.apply(Command::access(&bytes).expect("an own command"), Millis(0)).map(|outcome| outcome.revision)
}

fn follow(store: &mut Store<MemTrees>, change: FollowChange) {
    apply(store, &Command::Follow(change)).expect("it is taken");
}

fn refusal(store: &mut Store<MemTrees>, command: &Command) -> OpError {
    match apply(store, command).expect_err("it is refused") {
        Error::Refused(refusal) => refusal,
        Error::Broken(broken) => panic!("broken: {broken}"),
    }
}

fn put(key: &str, value: &str) -> Put {
    Put { key: key.to_owned().into(), value: value.to_owned().into(), ..Put::default() }
}

/// A source that has done much.
fn source(random: &mut Random) -> Store<MemTrees> {
    let mut store = Store::open(MemTrees::new(), StoreConfig::default()).expect("an empty store");
    let key = |random: &mut Random| format!("k{}", random.below(12));
    for _ in 0..120 {
        let command = match random.below(4) {
            0 => Command::DeleteRange(DeleteRange { key: "k1".into(), range_end: "k9".into(), prev_kv: false }),
            1 => {
                let start = random.below(6);
                let ops = (start..start + 4).map(|at| Op::Put(put(&format!("k{at}"), "t"))).collect();
                Command::Txn(Txn { success: ops, ..Txn::default() })
            }
            _ => Command::Put(put(&key(random), &random.below(100).to_string())),
        };
        apply(&mut store, &command).expect("it is applied");
    }
    store
}

/// All records of a store behind a revision, each main revision by itself.
fn records(store: &Store<MemTrees>, behind: i64) -> Vec<(i64, Vec<FollowRecord>)> {
    let mut found: Vec<(i64, Vec<FollowRecord>)> = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        let (revision, is_tombstone) = RevKey::parse(key).expect("a revision");
        let pair = KeyValue::decode(value).expect("a pair");
        let record = if is_tombstone { tombstone_record(pair.key) } else { put_record(&pair) };
        match found.last_mut() {
            Some((main, records)) if *main == revision.main => records.push(record),
            _ if revision.main > behind => found.push((revision.main, vec![record])),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    store.trees().scan(TreeId::Rev, b"", &mut visit).expect("memory");
    found
}

fn hash(store: &Store<MemTrees>) -> HashKv {
    let mut cursor = store.hash_kv_start(0).expect("a revision");
    match store.hash_kv_step(&mut cursor, WorkBudget::UNBOUNDED).expect("memory") {
        HashStep::Done(hash) => hash,
        HashStep::More => panic!("an unbounded step is the last"),
    }
}

fn standby() -> Store<MemTrees> {
    let mut trees = MemTrees::new();
    trees.insert(TreeId::Meta, meta::FOLLOWING, &CLUSTER.to_be_bytes()).expect("memory");
    Store::open(trees, StoreConfig::default()).expect("a store")
}

/// As a process that was killed and has come back: only the trees are left.
fn reopened(store: Store<MemTrees>) -> Store<MemTrees> {
    Store::open(store.trees().clone(), StoreConfig::default()).expect("a store")
}

/// Any cuts, repetitions and restarts, and the same comes of it. Watchers are told of each revision once and as a whole, in
/// one life, and again from its beginning in the next.
#[test]
fn whatever_the_feed_the_store_is_the_same() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let source = source(&mut random);
        let mut store = standby();
        store.set_event_mode(EventMode::WithPrev);
        let mut seen: Vec<(i64, i64)> = Vec::new();
        'lives: loop {
            // A feed begins behind the store's revision, or earlier.
            let from = store.revision().max(1) - 1;
            for (main, records) in records(&source, from) {
                let is_new = main > store.revision();
                let mut sub = 0;
                while sub < records.len() {
                    let end = (sub + 1 + random.below(4) as usize).min(records.len());
                    let (some, is_last) = (records[sub..end].to_vec(), end == records.len());
                    let told = FollowRecords { main, sub: sub as i64, records: some, is_last };
                    follow(&mut store, FollowChange::Records(told));
                    sub = end;
                    if is_new {
                        assert_eq!(store.is_amid_revision(), !is_last, "seed {seed}");
                    }
                    if !store.is_amid_revision() {
                        let batch = store.take_events();
                        assert_eq!(batch.complete(), store.revision());
                        seen.extend(batch.events().map(|event| (event.main(), event.sub())));
                    }
                    if random.below(60) == 0 {
                        let revision = store.revision();
                        store = reopened(store);
                        assert_eq!(store.revision(), revision, "seed {seed}: half a revision is not seen");
                        store.set_event_mode(EventMode::Plain);
                        continue 'lives;
                    }
                }
            }
            break;
        }
        assert_eq!(hash(&store), hash(&source), "seed {seed}");
        assert_eq!((store.revision(), store.live_keys()), (source.revision(), source.live_keys()), "seed {seed}");
        let expected: Vec<(i64, i64)> = records(&source, 0)
            .iter()
            .flat_map(|(main, records)| (0..records.len() as i64).map(move |sub| (*main, sub)))
            .collect();
        assert_eq!(seen, expected, "seed {seed}: each event once, in order");
    }
}

#[test]
fn clients_are_refused_until_the_end() {
    let mut store = standby();
    assert_eq!(store.follows(), Some(CLUSTER));
    let client = [
        Command::Put(put("k", "v")),
        Command::DeleteRange(DeleteRange { key: "k".into(), ..DeleteRange::default() }),
        Command::Txn(Txn::default()),
        Command::Compact { revision: 1 },
        Command::LeaseGrant { id: 1, ttl: 10 },
        Command::LeaseRevoke { id: 1 },
        Command::LeaseExpire { id: 1, term: 1 },
    ];
    for command in &client {
        assert_eq!(refusal(&mut store, command), OpError::Follows, "{command:?}");
    }
    let record =
        put_record(&KeyValue { key: b"k", create_revision: 5, mod_revision: 5, version: 1, value: b"v", lease: 9 });
    let records = FollowRecords { main: 5, sub: 0, records: vec![record], is_last: true };
    let leases =
        FollowLeases { there: vec![FollowLease { id: 9, ttl: 60 }, FollowLease { id: 10, ttl: 60 }], gone: vec![] };
    follow(&mut store, FollowChange::Leases(leases));
    follow(&mut store, FollowChange::Records(records));
    follow(&mut store, FollowChange::Leases(FollowLeases { there: vec![], gone: vec![9, 10] }));
    assert_eq!(store.leases().leases(), [9], "one that has keys stays");
    follow(&mut store, FollowChange::End);
    let mut store = reopened(store);
    assert_eq!((store.follows(), store.has_followed().expect("memory")), (None, Some(CLUSTER)));
    assert_eq!(apply(&mut store, &Command::Put(put("k", "w"))).expect("it takes writes"), 6);
    assert_eq!(refusal(&mut store, &Command::Follow(FollowChange::End)), OpError::FollowsNobody);
}

#[test]
fn what_does_not_follow_breaks_the_store() {
    let pair = |main, create, version| KeyValue {
        key: b"k",
        create_revision: create,
        mod_revision: main,
        version,
        ..KeyValue::default()
    };
    let told =
        |main, sub, record| FollowChange::Records(FollowRecords { main, sub, records: vec![record], is_last: true });
    for change in [
        told(2, 0, put_record(&pair(2, 2, 2))),
        told(2, 0, put_record(&pair(3, 2, 1))),
        told(2, 0, tombstone_record(b"k")),
        told(2, 1, put_record(&pair(2, 2, 1))),
    ] {
        let result = apply(&mut standby(), &Command::Follow(change.clone()));
        assert!(matches!(result, Err(Error::Broken(_))), "{change:?}: {result:?}");
    }
}

#[test]
fn users_come_whole() {
    let mut source = Store::open(MemTrees::new(), StoreConfig::default()).expect("a store");
    let add = |name: &str| {
        Command::Auth(plinth_engine::auth::AuthChange::UserAdd {
            name: name.to_owned(),
            password_hash: b"hash".to_vec(),
            no_password: false,
        })
    };
    let users = |source: &Store<MemTrees>| {
        let mut records = Vec::new();
        for tree in [TreeId::Auth, TreeId::AuthUsers, TreeId::AuthRoles] {
            let entries = source.trees().entries(tree);
            records.extend(entries.map(|(key, value)| UserRecord {
                tree: tree as u8,
                key: key.to_vec().into(),
                value: value.to_vec().into(),
            }));
        }
        FollowChange::Users(records)
    };
    let mut store = standby();
    apply(&mut source, &add("ann")).expect("a user");
    follow(&mut store, users(&source));
    assert!(store.auth().users().contains_key("ann"));
    apply(&mut source, &add("bob")).expect("a user");
    let delete = plinth_engine::auth::AuthChange::UserDelete { name: "ann".to_owned() };
    apply(&mut source, &Command::Auth(delete)).expect("a user");
    follow(&mut store, users(&source));
    assert_eq!(store.auth(), source.auth());
    assert_eq!(reopened(store).auth(), source.auth());
}
