//! Mistakes planted in what drives the store and the page file: each is caught by an assertion that names it, instead of
//! by two members that differ a week later.

use plinth_engine::budget::Budget;
use plinth_engine::command::{Command, DeleteRange, Put};
use plinth_engine::lease::{Lessor, LessorConfig, Millis};
use plinth_engine::pagefile::testing::MemStore;
use plinth_engine::pagefile::{Options, PageFile};
use plinth_engine::store::job::Job;
use plinth_engine::store::range::{RangeQuery, Step};
use plinth_engine::store::{EntryId, Store, StoreConfig};
use plinth_engine::trees::{MemTrees, TreeId, Trees};

fn encoded(command: &Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    bytes
}

fn put(key: &'static str) -> Vec<u8> {
    encoded(&Command::Put(Put { key: key.into(), value: "v".into(), ..Put::default() }))
}

fn filled() -> Store<MemTrees> {
    let config = StoreConfig { quota_bytes: -1, ..StoreConfig::default() };
    let mut store = Store::open(MemTrees::new(), config).expect("empty trees open");
    store.begin_entry(EntryId { index: 5, term: 2 }).expect("memory does not break");
    for key in ["a", "b", "c"] {
        store.apply(Command::access(&put(key)).expect("sound"), Millis(0)).expect("applied");
    }
    store
}

#[test]
#[should_panic(expected = "entry 5 after entry 5")]
fn an_entry_that_is_applied_twice() {
    let _ = filled().begin_entry(EntryId { index: 5, term: 2 });
}

#[test]
#[should_panic(expected = "terms only grow")]
fn an_entry_of_an_older_term() {
    let _ = filled().begin_entry(EntryId { index: 6, term: 1 });
}

/// One of three keys is deleted, then something else is applied.
fn half_deleted(next: &[u8], in_a_job_of_its_own: bool) {
    let mut store = filled();
    let delete = encoded(&Command::DeleteRange(DeleteRange { key: "a".into(), range_end: "z".into(), prev_kv: false }));
    let (mut job, mut one) = (Job::default(), Budget { pairs: 1, ..Budget::UNBOUNDED });
    let delete = Command::access(&delete).expect("sound");
    let done = store.apply_step(&mut job, (None, delete), Millis(0), false, &mut one).expect("not refused");
    assert!(done.is_none() && job.is_under_way());
    let next = Command::access(next).expect("sound");
    if in_a_job_of_its_own {
        job = Job::default();
    }
    let _ = store.apply_step(&mut job, (None, next), Millis(0), false, &mut { Budget::UNBOUNDED });
    let _ = store.apply(delete, Millis(0));
}

#[test]
#[should_panic(expected = "a command that was begun is applied to its end before another one")]
fn a_command_between_two_steps_of_another() {
    half_deleted(&put("d"), false);
}

#[test]
#[should_panic(expected = "revisions of a key grow")]
fn a_command_that_is_left_half_applied() {
    half_deleted(&put("a"), true);
}

#[test]
#[should_panic(expected = "the range has been read")]
fn a_range_that_is_read_on_after_its_end() {
    let store = filled();
    let all = RangeQuery { key: b"\0", range_end: b"\0", ..RangeQuery::default() };
    let (mut cursor, mut out) = (store.range_start(&all).expect("readable"), Vec::new());
    for _ in 0..2 {
        let step = store.range_step(&mut cursor, Budget::UNBOUNDED, &mut out).expect("readable");
        assert!(matches!(step, Step::Done(_)));
    }
}

#[test]
#[should_panic(expected = "leases are restored before serving")]
fn a_lease_that_is_restored_by_a_leader() {
    let mut lessor = Lessor::new(LessorConfig::for_election_timeout(1000));
    lessor.promote(Millis(0), 0);
    lessor.restore(1, 10, 0);
}

fn page_file() -> PageFile<MemStore> {
    let mut file = PageFile::create(MemStore::new(), Options { file_id: 1 }).expect("created");
    file.insert(TreeId::Meta, b"key", b"value").expect("room");
    file
}

#[test]
#[should_panic(expected = "one flush at a time")]
fn a_flush_during_a_flush() {
    let mut file = page_file();
    let _first = file.begin_flush().expect("room").expect("changes");
    file.insert(TreeId::Meta, b"other", b"value").expect("room");
    let _ = file.begin_flush();
}

#[test]
#[should_panic(expected = "the flush is the one under way")]
fn a_flush_of_another_file() {
    let (mut one, mut other) = (page_file(), page_file());
    let _of_one = one.begin_flush().expect("room").expect("changes");
    let of_other = other.begin_flush().expect("room").expect("changes");
    one.finish_flush(of_other);
}

#[test]
#[should_panic(expected = "a flush is under way")]
fn a_flush_that_never_began() {
    let (mut one, mut other) = (page_file(), page_file());
    let of_other = other.begin_flush().expect("room").expect("changes");
    one.finish_flush(of_other);
}
