//! The v2 store beside the keys: kept through a restart, and nothing of the v3 store hangs on it.

use bytes::Bytes;
use plinth_engine::budget::Budget;
use plinth_engine::command::{Command, MemberAttributes, Put};
use plinth_engine::error::Error;
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::testing::MemStore;
use plinth_engine::pagefile::{Options, PageFile};
use plinth_engine::store::job::Job;
use plinth_engine::store::{EntryId, Outcome, Store, StoreConfig};
use plinth_engine::trees::{TreeId, Trees, View};
use plinth_v2::command::Content;
use plinth_v2::{Answer, Change, V2Command};

type File = PageFile<MemStore>;

const KEY: &[u8] = b"/1/key";

fn apply(store: &mut Store<File>, command: &Command) -> Result<Outcome, Error> {
    let index = store.applied().index + 1;
    store.begin_entry(EntryId { index, term: 1 })?;
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    store.apply(Command::access(&bytes).expect("a command"), Millis(0))
}

fn set(path: &'static [u8], value: Vec<u8>) -> Command {
    let content = Content { value: value.into(), ..Content::default() };
    let change = Change::Set { path: Bytes::from_static(path), dir: false, content };
    Command::V2(V2Command { at: 0, shown_at: 0, brief: false, change })
}

fn answer(outcome: &Outcome) -> Answer {
    Answer::decode(outcome.body.as_slice().expect("a short one")).expect("an answer")
}

fn put(key: &'static str) -> Command {
    Command::Put(Put { key: key.into(), value: "value".into(), ..Put::default() })
}

fn new_store(quota_bytes: i64) -> Store<File> {
    let file = PageFile::create(MemStore::default(), Options::default()).expect("a new file");
    Store::open(file, StoreConfig { quota_bytes, ..StoreConfig::default() }).expect("an empty store")
}

#[test]
fn the_v3_store_does_not_notice() {
    let (mut with, mut without) = (new_store(1 << 20), new_store(1 << 20));
    for store in [&mut with, &mut without] {
        apply(store, &put("a")).expect("put");
    }
    for size in 0..400 {
        let outcome = apply(&mut with, &set(KEY, vec![b'x'; 10_000])).expect("set");
        assert_eq!((outcome.revision, answer(&outcome).status), (2, if size == 0 { 201 } else { 200 }));
        apply(&mut without, &Command::Noop).expect("nothing");
    }
    assert!(with.trees().in_use_bytes() > 2 << 20, "what v2 takes is more than the quota");
    for store in [&mut with, &mut without] {
        apply(store, &put("b")).expect("there is room for keys");
    }
    assert_eq!(with.revision(), without.revision());
    assert_eq!(with.trees().counted_bytes(), without.trees().counted_bytes());
    assert_eq!(with.hash_kv(0).expect("a hash"), without.hash_kv(0).expect("a hash"));
    assert_eq!(with.hash_db().expect("a hash"), without.hash_db().expect("a hash"));
}

#[test]
fn a_restart_keeps_tree_history_and_time() {
    let mut store = new_store(0);
    let attributes = MemberAttributes { member: 7, name: "one".into(), client_urls: Vec::new() };
    apply(&mut store, &Command::SetMemberAttributes(attributes.clone())).expect("published");
    assert!(!store.v2().has_begun(), "who does not use it pays nothing for it");
    let first = apply(&mut store, &set(KEY, b"1".to_vec())).expect("set");
    assert_eq!(answer(&first).index, 3, "the version, what the member has published, and this");
    apply(&mut store, &Command::SetMemberAttributes(attributes)).expect("published");
    apply(&mut store, &set(KEY, b"2".to_vec())).expect("set");
    apply(&mut store, &Command::V2(V2Command::sync(99))).expect("synced");
    store.trees_mut().flush_now().expect("memory does not fail");
    let counted = store.trees().counted_bytes();
    let mut file = std::mem::replace(&mut store, new_store(0));
    let bytes = std::mem::take(file.trees_mut().store_mut());
    let mut again = Store::open(PageFile::open(bytes).expect("flushed"), StoreConfig::default()).expect("whole");
    assert_eq!((again.v2().index(), again.v2().time()), (5, 99));
    assert_eq!(again.trees().counted_bytes(), counted);
    let kept = again.v2().peek(KEY, false, 0).expect("it is there").node;
    assert_eq!((kept.value.as_deref(), kept.modified, kept.created), (Some(&b"2"[..]), 5, 5));
    assert_eq!(again.v2().history().scan(KEY, false, 1).expect("known").map(|event| event.index()), Some(3));
    let next = apply(&mut again, &set(KEY, b"3".to_vec())).expect("set");
    assert_eq!(answer(&next).index, 6);
}

/// What ends with a large directory ends in bounded steps, and all the same as at once.
#[test]
fn a_large_directory_ends_in_steps() {
    let filled = || {
        let mut store = new_store(0);
        for number in 0..2000 {
            let path = Bytes::from(format!("/1/dir/{}/{number}", number % 10));
            let change = Change::Set { path, dir: false, content: Content::default() };
            apply(&mut store, &Command::V2(V2Command { at: 0, shown_at: 0, brief: false, change })).expect("set");
        }
        store
    };
    let delete = Change::Delete { path: Bytes::from_static(b"/1/dir"), dir: false, recursive: true };
    let delete = Command::V2(V2Command { at: 0, shown_at: 0, brief: false, change: delete });
    let (mut at_once, mut stepped) = (filled(), filled());
    let expected = apply(&mut at_once, &delete).expect("deleted");
    let index = stepped.applied().index + 1;
    stepped.begin_entry(EntryId { index, term: 1 }).expect("begun");
    let mut bytes = Vec::new();
    delete.encode_into(&mut bytes);
    let (mut job, mut steps) = (Job::default(), 0);
    let outcome = loop {
        let (before, mut budget) = (stepped.v2().nodes().count(), Budget::STEP);
        let command = Command::access(&bytes).expect("a command");
        let outcome = stepped.apply_step(&mut job, (None, command), Millis(0), true, &mut budget).expect("applied");
        steps += 1;
        assert!(before - stepped.v2().nodes().count() <= Budget::STEP.pairs, "a step has a bound");
        match outcome {
            Some(outcome) => break outcome,
            None => assert!(job.is_under_way() && stepped.v2().is_unfinished()),
        }
    };
    assert!(steps > 10, "{steps} steps");
    assert_eq!(outcome, expected);
    assert_eq!(answer(&outcome).status, 200);
    for store in [&mut at_once, &mut stepped] {
        assert_eq!(store.v2().nodes().count(), 2, "the places of keys and of the cluster");
        store.trees_mut().flush_now().expect("memory does not fail");
    }
    assert!(stepped.v2().history().from(0).eq(at_once.v2().history().from(0)));
    let entries = |store: &Store<File>| {
        let mut all = Vec::new();
        let mut take = |key: &[u8], value: &[u8]| {
            all.push((key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        };
        store.trees().walk(TreeId::V2, b"", &mut take).expect("readable");
        all
    };
    assert_eq!(entries(&stepped), entries(&at_once));
}
