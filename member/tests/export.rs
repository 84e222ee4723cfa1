//! A store written as an etcd database holds what the store holds, whatever the steps.

use plinth_bbolt::schema::{self, BUCKETS};
use plinth_bbolt::{Database, check};
use plinth_engine::command::{Command, MemberAttributes, Put};
use plinth_engine::lease::Millis;
use plinth_engine::store::{EntryId, Store, StoreConfig};
use plinth_engine::trees::{MemTrees, TreeId};
use plinth_member::backup::{Bump, Content, Export, Progress, import, import_v2};

fn apply(store: &mut Store<MemTrees>, command: Command) {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    store.apply(Command::access(&bytes).expect("a command"), Millis(1)).expect("applied");
}

fn filled() -> Store<MemTrees> {
    let mut store = Store::open(MemTrees::new(), StoreConfig::default()).expect("an empty store");
    store.begin_entry(EntryId { index: 7, term: 3 }).expect("an entry");
    apply(&mut store, Command::LeaseGrant { id: 77, ttl: 60 });
    for n in 0..500 {
        let key = format!("key/{:03}", n % 200).into();
        let put = Put { key, value: vec![n as u8; n].into(), lease: if n % 7 == 0 { 77 } else { 0 }, ..Put::default() };
        apply(&mut store, Command::Put(put));
    }
    apply(&mut store, Command::Compact { revision: 100 });
    let attributes = MemberAttributes { member: 9, name: "nine".into(), client_urls: vec!["http://a:1".into()] };
    apply(&mut store, Command::SetMemberAttributes(attributes));
    store
}

fn export(store: &Store<MemTrees>, entries: usize, bytes: u64) -> Vec<u8> {
    export_of(store, Content::Whole, entries, bytes)
}

fn export_of(store: &Store<MemTrees>, content: Content, entries: usize, bytes: u64) -> Vec<u8> {
    let view = store.trees();
    let mut export = Export::new(view, "3.7.0", content).expect("readable");
    while export.plan(view, entries).expect("planned") == Progress::More {}
    let size = export.file_bytes().expect("planned");
    export.begin(Vec::new()).expect("begun");
    let mut file = Vec::new();
    while export.write(view, entries, bytes).expect("written") == Progress::More {
        file.append(export.sink_mut());
    }
    file.append(&mut export.finish().expect("whole"));
    assert_eq!(file.len() as u64, size);
    file
}

#[test]
fn the_v2_store_has_buckets_of_its_own() {
    let mut store = filled();
    let set = |number: u8| {
        let content = plinth_v2::command::Content { value: vec![number; 300].into(), ..Default::default() };
        let path = format!("/1/dir/{number}").into();
        let change = plinth_v2::Change::Set { path, dir: false, content };
        Command::V2(plinth_v2::V2Command { at: 0, shown_at: 0, brief: false, change })
    };
    (0..100).for_each(|number| apply(&mut store, set(number)));
    let file = export(&store, 7, 900);
    let database = Database::open(&file[..]).expect("opens");
    assert_eq!(check::verify(&database), Vec::<String>::new());
    let names: Vec<_> = database.buckets().expect("readable").into_iter().map(|(name, _)| name).collect();
    let all = BUCKETS.iter().chain(&schema::V2_BUCKETS).map(|name| name.as_bytes().to_vec());
    assert_eq!(names, all.collect::<Vec<_>>());
    let mut trees = MemTrees::new();
    import(&database, &mut trees, None, &mut |_| Ok(())).expect("taken over");
    let without = Store::open(trees.clone(), StoreConfig::default()).expect("whole");
    assert!(!without.v2().has_begun());
    assert_eq!(import_v2(&database, &mut trees).expect("taken over"), 101);
    let again = Store::open(trees, StoreConfig::default()).expect("whole");
    assert!(again.v2().nodes().eq(store.v2().nodes()));
    assert!(again.v2().history().from(0).eq(store.v2().history().from(0)));
    assert_eq!(again.v2().index(), store.v2().index());
    let without = export_of(&store, Content::WithoutV2, 7, 900);
    assert!(without == export(&filled(), 7, 900), "as if nobody had used it");
}

#[test]
fn a_database_holds_what_the_store_holds() {
    let store = filled();
    let file = export(&store, 1000, u64::MAX);
    let database = Database::open(&file[..]).expect("opens");
    assert_eq!(check::verify(&database), Vec::<String>::new());
    let names: Vec<_> = database.buckets().expect("readable").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, BUCKETS.map(|name| name.as_bytes().to_vec()));
    for (bucket, tree) in [("key", TreeId::Rev), ("lease", TreeId::Lease), ("alarm", TreeId::Alarm)] {
        let place = database.bucket(bucket.as_bytes()).expect("readable").expect("there");
        let mut cursor = database.entries(&place);
        let mut wanted = store.trees().entries(tree);
        while let Some(entry) = cursor.next().expect("readable") {
            assert_eq!(Some(entry), wanted.next(), "bucket {bucket}");
        }
        assert_eq!(wanted.next(), None, "bucket {bucket}");
    }
    let status = check::status(&database).expect("readable");
    assert_eq!((status.revision, status.total_keys, &status.version[..]), (store.revision(), 200, "3.7.0"));
}

#[test]
fn small_records_are_translated() {
    let store = filled();
    let file = export(&store, 1000, u64::MAX);
    let database = Database::open(&file[..]).expect("opens");
    let meta = database.bucket(b"meta").expect("readable").expect("there");
    let mut found = std::collections::BTreeMap::new();
    let mut cursor = database.entries(&meta);
    while let Some((key, value)) = cursor.next().expect("readable") {
        found.insert(String::from_utf8_lossy(key).into_owned(), value.to_vec());
    }
    assert_eq!(found[schema::meta::CONSISTENT_INDEX], 7u64.to_be_bytes());
    assert_eq!(found[schema::meta::TERM], 3u64.to_be_bytes());
    assert_eq!(found[schema::meta::SCHEDULED_COMPACT][..8], 100i64.to_be_bytes());
}

#[test]
fn the_size_of_the_steps_changes_nothing() {
    let store = filled();
    let whole = export(&store, 1_000_000, u64::MAX);
    for (entries, bytes) in [(1, u64::MAX), (7, 1000), (1000, 1)] {
        assert!(export(&store, entries, bytes) == whole, "steps of {entries} entries and {bytes} bytes");
    }
}

#[test]
fn what_was_exported_is_imported() {
    let store = filled();
    let file = export(&store, 1000, u64::MAX);
    let database = Database::open(&file[..]).expect("opens");
    let mut trees = MemTrees::new();
    let imported = import(&database, &mut trees, None, &mut |_| Ok(())).expect("imported");
    assert_eq!((imported.revision, imported.leases), (store.revision(), 1));
    for tree in [TreeId::Rev, TreeId::Lease, TreeId::Alarm] {
        assert!(trees.entries(tree).eq(store.trees().entries(tree)), "tree {tree:?}");
    }
    let again = Store::open(trees, StoreConfig::default()).expect("a store");
    assert_eq!((again.revision(), again.compact_revision()), (store.revision(), store.compact_revision()));
    assert_eq!(again.live_keys(), store.live_keys());
}

#[test]
fn a_bump_raises_the_revision_and_compacts_up_to_it() {
    let store = filled();
    let file = export(&store, 1000, u64::MAX);
    let database = Database::open(&file[..]).expect("opens");
    let mut trees = MemTrees::new();
    let bump = Some(Bump { by: 1_000_000 });
    let imported = import(&database, &mut trees, bump, &mut |_| Ok(())).expect("imported");
    let again = Store::open(trees, StoreConfig::default()).expect("a store");
    assert_eq!(imported.revision, store.revision() + 1_000_000);
    assert_eq!((again.revision(), again.compact_revision()), (imported.revision, imported.revision));
    assert_eq!(again.live_keys(), store.live_keys());
}
