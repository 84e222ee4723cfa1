//! Rules of the store, one by one: what the model test would only meet by chance, and numbers taken from a real etcd.

use std::ops::ControlFlow;

use plinth_engine::budget::Budget;
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{
    Alarm, AlarmAction, AlarmKind, Command, CommandRef, Compare, CompareTarget, DeleteRange, LeaseCheckpoint,
    LeaseCheckpoints, MemberAttributes, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use plinth_engine::error::{Error, OpError, StoreError};
use plinth_engine::kv_codec::KeyValue;
use plinth_engine::lease::Millis;
use plinth_engine::revision::{RevKey, Revision};
use plinth_engine::store::compact::CompactProgress;
use plinth_engine::store::hash::HashStep;
use plinth_engine::store::range::{Opened, RangeQuery, Step};
use plinth_engine::store::{EntryId, Outcome, Store, StoreConfig, meta};
use plinth_engine::trees::{MemTrees, TreeId, Trees};

type MemStore = Store<MemTrees>;

fn open(trees: MemTrees) -> MemStore {
    Store::open(trees, StoreConfig { quota_bytes: -1, ..StoreConfig::default() }).expect("sound trees open")
}

fn empty() -> MemStore {
    open(MemTrees::new())
}

fn refusal<V>(result: Result<V, Error>) -> Result<V, OpError> {
    result.map_err(|error| match error {
        Error::Refused(op) => op,
        Error::Broken(error) => panic!("memory does not break: {error}"),
    })
}

fn apply(store: &mut MemStore, command: &Command) -> Result<Outcome, OpError> {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    refusal(store.apply(Command::access(&bytes).expect("encoded right now"), Millis(0)))
}

fn put(key: &'static str, value: &'static str) -> Command {
    Command::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
}

fn put_with_lease(key: &'static str, value: &'static str, lease: i64) -> Command {
    Command::Put(Put { key: key.into(), value: value.into(), lease, ..Put::default() })
}

fn delete(key: &'static str, range_end: &'static str) -> Command {
    Command::DeleteRange(DeleteRange { key: key.into(), range_end: range_end.into(), prev_kv: false })
}

fn must(store: &mut MemStore, command: &Command) -> i64 {
    apply(store, command).unwrap_or_else(|error| panic!("{command:?}: {error}")).revision
}

fn checkpoint(term: u64, id: i64, remaining_ttl: i64) -> Command {
    Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints: vec![LeaseCheckpoint { id, remaining_ttl }] })
}

fn compact(store: &mut MemStore, revision: i64) {
    must(store, &Command::Compact { revision });
    finish_compaction(store);
}

fn finish_compaction(store: &mut MemStore) {
    while store.compact_step(WorkBudget::STEP).expect("memory does not break") != CompactProgress::Idle {}
}

fn op(command: Command) -> Op {
    match command {
        Command::Put(put) => Op::Put(put),
        Command::DeleteRange(delete) => Op::DeleteRange(delete),
        Command::Txn(txn) => Op::Txn(txn),
        other => panic!("{other:?} is no operation"),
    }
}

fn txn(success: Vec<Op>) -> Command {
    Command::Txn(Txn { success, ..Txn::default() })
}

/// Keys and values found, `more`, `count`.
fn range(store: &MemStore, query: &RangeQuery<'_>) -> Result<(String, bool, i64), OpError> {
    let mut out = Vec::new();
    let summary = refusal(store.range(query, &mut out))?;
    Ok((shown(&out), summary.more, summary.count))
}

/// `key=value` of fields `kvs` with pairs below 128 bytes.
fn shown(mut fields: &[u8]) -> String {
    let mut shown = Vec::new();
    while let [0x12, len, rest @ ..] = fields {
        let (pair, rest) = rest.split_at(usize::from(*len));
        let pair = KeyValue::decode(pair).expect("answers are canonical");
        shown.push(format!("{}={}", pair.key.escape_ascii(), pair.value.escape_ascii()));
        fields = rest;
    }
    assert!(fields.is_empty(), "only pairs are appended");
    shown.join(" ")
}

const ALL: RangeQuery<'static> = RangeQuery {
    key: b"\0",
    range_end: b"\0",
    limit: 0,
    revision: 0,
    sort_order: SortOrder::None,
    sort_target: SortTarget::Key,
    keys_only: false,
    count_only: false,
    min_mod_revision: 0,
    max_mod_revision: 0,
    min_create_revision: 0,
    max_create_revision: 0,
};

/// The numbers are those that etcd 3.5.16 answered to the same requests.
#[test]
fn hash_kv_is_etcds() {
    let mut store = empty();
    must(&mut store, &Command::LeaseGrant { id: 123, ttl: 1000 });
    for command in [
        put("a", "1"),
        put("b", "2"),
        put("a", "11"),
        put_with_lease("c", "3", 123),
        delete("b", ""),
        txn(vec![op(put("d", "4")), op(put("e", "5"))]),
        put("b", "22"),
        delete("a", "c"),
        put("z", ""),
    ] {
        must(&mut store, &command);
    }
    let check = |store: &MemStore, expected: &[(i64, u32, i64)]| {
        for &(revision, hash, compact_revision) in expected {
            let found = refusal(store.hash_kv(revision)).expect("the revision is there");
            assert_eq!((found.hash, found.compact_revision), (hash, compact_revision), "at {revision}");
        }
    };
    let before = [
        (0, 710_508_235, -1),
        (1, 1_084_519_789, -1),
        (2, 2_587_454_935, -1),
        (3, 1_827_592_406, -1),
        (4, 2_181_957_126, -1),
        (5, 878_826_782, -1),
        (6, 680_549_752, -1),
        (7, 3_346_271_987, -1),
        (8, 1_759_639_936, -1),
        (9, 473_093_541, -1),
        (10, 710_508_235, -1),
    ];
    check(&store, &before);
    compact(&mut store, 6);
    assert_eq!(refusal(store.hash_kv(5)), Err(OpError::Compacted));
    let after_6 =
        [(6, 680_549_752, -1), (7, 334_688_187, 6), (8, 2_623_886_806, 6), (9, 975_768_767, 6), (10, 3_049_279_222, 6)];
    check(&store, &after_6);
    compact(&mut store, 9);
    check(&store, &[(9, 975_768_767, 6), (10, 3_031_126_749, 9)]);
    must(&mut store, &delete("\0", "\0"));
    check(&store, &[(9, 975_768_767, 6), (10, 3_031_126_749, 9), (11, 2_119_337_403, 9)]);
    compact(&mut store, 11);
    check(&store, &[(11, 755_265_595, 9), (0, 1_084_519_789, 11)]);
    must(&mut store, &put("q", "1"));
    check(&store, &[(11, 755_265_595, 9), (12, 3_377_119_634, 11), (0, 3_377_119_634, 11)]);
    assert_eq!(refusal(store.hash_kv(13)), Err(OpError::FutureRevision));
    let told: Vec<_> = store.compaction_hashes().iter().map(|hash| hash.revision).collect();
    assert_eq!(told, [6, 9, 11]);
}

#[test]
fn a_hash_starts_over_when_a_compaction_comes_between() {
    let mut store = empty();
    for _ in 0..20 {
        must(&mut store, &put("a", "1"));
        must(&mut store, &put("b", "2"));
    }
    let one = WorkBudget { records: 1, bytes: usize::MAX };
    let mut lives = store.hash_kv_start(30).expect("the revision is there");
    let mut dies = store.hash_kv_start(20).expect("the revision is there");
    for _ in 0..5 {
        assert_eq!(refusal(store.hash_kv_step(&mut lives, one)), Ok(HashStep::More));
        assert_eq!(refusal(store.hash_kv_step(&mut dies, one)), Ok(HashStep::More));
    }
    compact(&mut store, 25);
    assert_eq!(refusal(store.hash_kv_step(&mut dies, one)), Err(OpError::Compacted));
    let hash = loop {
        if let HashStep::Done(hash) = refusal(store.hash_kv_step(&mut lives, one)).expect("above the compaction") {
            break hash;
        }
    };
    assert_eq!(hash, refusal(store.hash_kv(30)).expect("the revision is there"));
    assert_eq!(hash.compact_revision, 25);
}

#[test]
fn revisions_of_requests() {
    let mut store = empty();
    assert_eq!((store.revision(), store.compact_revision()), (1, -1));
    assert_eq!(must(&mut store, &delete("a", "")), 1, "a delete of nothing has no revision");
    assert_eq!(must(&mut store, &put("a", "1")), 2);
    assert_eq!(must(&mut store, &put("a", "1")), 3, "an equal value is a change");
    assert_eq!(must(&mut store, &txn(vec![])), 3);
    assert_eq!(must(&mut store, &txn(vec![op(put("b", "")), op(put("c", "")), op(delete("a", ""))])), 4);
    assert_eq!(must(&mut store, &Command::LeaseGrant { id: 1, ttl: 10 }), 4);
    assert_eq!(must(&mut store, &put_with_lease("d", "", 1)), 5);
    assert_eq!(must(&mut store, &put_with_lease("c", "", 1)), 6);
    assert_eq!(must(&mut store, &Command::LeaseRevoke { id: 1 }), 7, "all keys of a lease go at once");
    assert_eq!(range(&store, &ALL), Ok(("b=".to_owned(), false, 1)));
    assert_eq!(must(&mut store, &Command::LeaseGrant { id: 2, ttl: 10 }), 7);
    assert_eq!(must(&mut store, &Command::LeaseRevoke { id: 2 }), 7, "a lease without keys has no revision");
}

#[test]
fn headers_inside_a_txn() {
    let mut store = empty();
    must(&mut store, &put("a", "1"));
    let range = || Op::Range(Range { key: "a".into(), count_only: true, ..Range::default() });
    let ops =
        vec![range(), op(delete("x", "")), op(put("b", "")), range(), op(delete("x", "")), op(txn(vec![range()]))];
    let outcome = apply(&mut store, &txn(ops)).expect("nothing is wrong");
    let expected = [
        &[0x10, 1][..],                                 // succeeded
        &[0x1a, 8, 0x0a, 6, 0x0a, 2, 0x18, 2, 0x20, 1], // range before the first change
        &[0x1a, 6, 0x1a, 4, 0x0a, 2, 0x18, 2],          // delete of nothing
        &[0x1a, 6, 0x12, 4, 0x0a, 2, 0x18, 3],          // put
        &[0x1a, 8, 0x0a, 6, 0x0a, 2, 0x18, 3, 0x20, 1], // range after it
        &[0x1a, 6, 0x1a, 4, 0x0a, 2, 0x18, 3],          // delete of nothing after it
        &[0x1a, 16, 0x22, 14, 0x0a, 0, 0x10, 1],        // nested: empty header, succeeded
        &[0x1a, 8, 0x0a, 6, 0x0a, 2, 0x18, 3, 0x20, 1], // its range
    ]
    .concat();
    assert_eq!((outcome.revision, outcome.body.into_vec()), (3, expected));
}

#[test]
fn a_txn_is_all_or_nothing() {
    let mut store = empty();
    must(&mut store, &put("a", "1"));
    let failing: [(&str, Op, OpError); 5] = [
        ("unknown lease", op(put_with_lease("b", "", 9)), OpError::LeaseNotFound),
        (
            "ignore_value on a missing key",
            Op::Put(Put { key: "b".into(), ignore_value: true, ..Put::default() }),
            OpError::KeyNotFound,
        ),
        (
            "future revision",
            Op::Range(Range { key: "a".into(), revision: 3, ..Range::default() }),
            OpError::FutureRevision,
        ),
        (
            "negative revision",
            Op::Range(Range { key: "a".into(), revision: -2, ..Range::default() }),
            OpError::Compacted,
        ),
        ("nested", op(txn(vec![op(put_with_lease("b", "", 9))])), OpError::LeaseNotFound),
    ];
    for (name, bad, error) in failing {
        let command = txn(vec![op(put("a", "2")), op(put("c", "")), bad]);
        assert_eq!(apply(&mut store, &command), Err(error), "{name}");
        assert_eq!(store.revision(), 2, "{name}");
        assert_eq!(range(&store, &ALL), Ok(("a=1".to_owned(), false, 1)), "{name}");
    }
    // The first failed check in order of operations is told, of a put that of its lease.
    let bad_put = |lease| Op::Put(Put { key: "b".into(), lease, ignore_value: true, ..Put::default() });
    let bad_range = || Op::Range(Range { key: "a".into(), revision: 9, ..Range::default() });
    let cases = [
        (vec![bad_put(9), bad_range()], OpError::LeaseNotFound),
        (vec![bad_put(0), bad_range()], OpError::KeyNotFound),
        (vec![bad_range(), bad_put(9)], OpError::FutureRevision),
        (vec![op(txn(vec![bad_range()])), bad_put(9)], OpError::FutureRevision),
    ];
    for (ops, error) in cases {
        assert_eq!(apply(&mut store, &txn(ops.clone())), Err(error), "{ops:?}");
    }
    // Of a plain range, -2 is the newest revision; of a range in a txn, -1 is while nothing was compacted.
    assert!(range(&store, &RangeQuery { revision: -2, ..ALL }).is_ok());
    let minus_one = Op::Range(Range { key: "a".into(), revision: -1, ..Range::default() });
    assert!(apply(&mut store, &txn(vec![minus_one])).is_ok());
}

#[test]
fn conditions_look_at_the_state_before_the_txn() {
    let mut store = empty();
    must(&mut store, &put("a", "1"));
    let unchanged = Compare { key: "a".into(), target: CompareTarget::Mod, number: 2, ..Compare::default() };
    let inner = Txn { compare: vec![unchanged], success: vec![op(put("b", "held"))], failure: vec![] };
    must(&mut store, &txn(vec![op(put("a", "2")), Op::Txn(inner)]));
    assert_eq!(range(&store, &ALL), Ok(("a=2 b=held".to_owned(), false, 2)));
}

#[test]
fn keeping_what_was_deleted_in_the_same_txn() {
    // A delete without end is not matched against puts, so that the pair to keep can be gone. etcd crashes on this.
    let mut store = empty();
    must(&mut store, &put("a", "1"));
    let keep = Put { key: "a".into(), ignore_value: true, ignore_lease: true, ..Put::default() };
    let command = txn(vec![op(delete("a", "\0")), Op::Put(keep)]);
    assert!(matches!(&command, Command::Txn(txn) if txn.check(128).is_ok()));
    must(&mut store, &command);
    assert_eq!(range(&store, &ALL), Ok(("a=".to_owned(), false, 1)));
    compact(&mut store, 3);
    assert_eq!(range(&store, &ALL), Ok(("a=".to_owned(), false, 1)), "compaction keeps what exists");
}

#[test]
fn order_and_limit() {
    let mut store = empty();
    for command in [put("a", "3"), put("b", "1"), put("c", "2"), put("d", "1"), put("b", "1")] {
        must(&mut store, &command);
    }
    use SortOrder::{Ascend, Descend, None};
    use SortTarget::{Create, Key, Mod, Value, Version};
    let cases: [(&str, SortOrder, SortTarget, i64, &str, bool); 13] = [
        ("as stored", None, Key, 0, "a=3 b=1 c=2 d=1", false),
        ("limit", None, Key, 2, "a=3 b=1", true),
        ("limit that cuts nothing", None, Key, 4, "a=3 b=1 c=2 d=1", false),
        ("keys up", Ascend, Key, 2, "a=3 b=1", true),
        ("keys down", Descend, Key, 2, "d=1 c=2", true),
        ("values up", Ascend, Value, 0, "b=1 d=1 c=2 a=3", false),
        ("values down", Descend, Value, 3, "a=3 c=2 b=1", true),
        ("versions down", Descend, Version, 1, "b=1", true),
        ("creates down", Descend, Create, 2, "d=1 c=2", true),
        ("mods down", Descend, Mod, 2, "b=1 d=1", true),
        ("mods up", Ascend, Mod, 0, "a=3 c=2 d=1 b=1", false),
        // Without an order, a target other than the key sorts upwards what the limit (and one more) left.
        ("limit before the sort", None, Value, 2, "b=1 c=2", true),
        ("limit before the sort, nothing cut", None, Mod, 4, "a=3 c=2 d=1 b=1", false),
    ];
    for (name, sort_order, sort_target, limit, expected, more) in cases {
        let query = RangeQuery { sort_order, sort_target, limit, ..ALL };
        assert_eq!(range(&store, &query), Ok((expected.to_owned(), more, 4)), "{name}");
    }
    let filtered = RangeQuery { min_mod_revision: 4, max_mod_revision: 5, limit: 1, ..ALL };
    assert_eq!(range(&store, &filtered), Ok(("c=2".to_owned(), true, 4)), "limit after filters, count before");
    let keys = RangeQuery { keys_only: true, sort_target: Value, sort_order: Ascend, ..ALL };
    assert_eq!(range(&store, &keys), Ok(("b= d= c= a=".to_owned(), false, 4)), "values are cleared after the sort");
}

/// Vitess' locks look for them, for one.
#[test]
fn keys_alone_have_their_leases() {
    let mut store = empty();
    must(&mut store, &Command::LeaseGrant { id: 7, ttl: 1000 });
    must(&mut store, &put_with_lease("a", "1", 7));
    must(&mut store, &put("b", "2"));
    let leases = |store: &MemStore, query: &RangeQuery<'_>| {
        let mut out = Vec::new();
        refusal(store.range(query, &mut out)).expect("served");
        let mut leases = Vec::new();
        let mut fields = &out[..];
        while let [0x12, len, rest @ ..] = fields {
            let (pair, rest) = rest.split_at(usize::from(*len));
            let pair = KeyValue::decode(pair).expect("answers are canonical");
            assert_eq!(pair.value, b"");
            leases.push(pair.lease);
            fields = rest;
        }
        leases
    };
    let keys = RangeQuery { keys_only: true, ..ALL };
    assert_eq!(leases(&store, &keys), [7, 0]);
    assert_eq!(leases(&store, &RangeQuery { sort_order: SortOrder::Descend, ..keys }), [0, 7]);
    must(&mut store, &put("a", "without"));
    assert_eq!(leases(&store, &keys), [0, 0]);
    assert_eq!(leases(&store, &RangeQuery { revision: 3, ..keys }), [7, 0], "as it was then");
}

#[test]
fn ranges_of_keys() {
    let mut store = empty();
    for command in [put("a", ""), put("aa", ""), put("b", ""), put("\0", "")] {
        must(&mut store, &command);
    }
    let cases: [(&[u8], &[u8], &str); 8] = [
        (b"a", b"", "a="),
        (b"a", b"b", "a= aa="),
        (b"a", b"\0", "a= aa= b="),
        (b"\0", b"\0", "\\x00= a= aa= b="),
        (b"a", b"a", ""),
        (b"b", b"a", ""),
        (b"x", b"", ""),
        (b"\0", b"", "\\x00="),
    ];
    for (key, range_end, expected) in cases {
        let (found, _, count) = range(&store, &RangeQuery { key, range_end, ..RangeQuery::default() }).expect("fine");
        assert_eq!(found, expected, "{key:?} to {range_end:?}");
        assert_eq!(count as usize, expected.split_whitespace().count());
    }
}

#[test]
fn a_cursor_is_pinned() {
    let mut store = empty();
    for key in ["a", "b", "c", "d"] {
        must(&mut store, &put(key, "1"));
    }
    let two = Budget { pairs: 2, ..Budget::UNBOUNDED };
    let mut out = Vec::new();
    let mut cursor = store.range_start(&ALL).expect("the newest revision is there");
    assert_eq!(refusal(store.range_step(&mut cursor, two, &mut out)), Ok(Step::More));
    must(&mut store, &delete("c", ""));
    must(&mut store, &put("cc", "2"));
    let Ok(Step::Done(summary)) = refusal(store.range_step(&mut cursor, two, &mut out)) else { panic!("that is all") };
    assert_eq!(shown(&out), "a=1 b=1 c=1 d=1");
    assert_eq!((summary.revision, summary.count, summary.kvs), (5, 4, 4));

    let mut cursor = store.range_start(&ALL).expect("the newest revision is there");
    assert_eq!(refusal(store.range_step(&mut cursor, two, &mut out)), Ok(Step::More));
    compact(&mut store, 7);
    assert_eq!(refusal(store.range_step(&mut cursor, two, &mut out)).map(|_| ()), Ok(()), "at the revision itself");
    let mut cursor = store.range_start(&RangeQuery { limit: 3, ..ALL }).expect("the newest revision is there");
    must(&mut store, &put("e", ""));
    compact(&mut store, 8);
    assert_eq!(refusal(store.range_step(&mut cursor, two, &mut out)), Err(OpError::Compacted));
}

/// A list and a txn that take their time are answered as of when they began, whatever is compacted meanwhile; when they are
/// done, or given up, compaction goes on.
#[test]
fn what_is_read_in_steps_stays() {
    let mut store = empty();
    for key in ["a", "b", "c", "d"] {
        must(&mut store, &put(key, "1"));
    }
    must(&mut store, &put("a", "2"));
    let one = Budget { pairs: 1, ..Budget::UNBOUNDED };
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let opened = refusal(store.range_open(&ALL, one, &mut out)).expect("the newest revision is there");
    let Opened::More(mut list) = opened else { panic!("there are four keys") };
    let older = Range { key: "\0".into(), range_end: "\0".into(), revision: 5, ..Range::default() };
    let read = Command::Txn(Txn { success: vec![Op::Range(older)], ..Txn::default() });
    read.encode_into(&mut bytes);
    let Ok(CommandRef::Txn(read)) = Command::access(&bytes) else { panic!("a txn is a txn") };
    let at_once = refusal(store.read_txn(read)).expect("the revision is there");
    let mut txn = store.read_txn_start();
    assert_eq!(refusal(store.read_txn_step(&mut txn, read, one)), Ok(None));

    for command in [delete("b", ""), put("c", "2"), put("d", "2"), Command::Compact { revision: 9 }] {
        must(&mut store, &command);
    }
    for _ in 0..10 {
        assert_ne!(store.compact_step(WorkBudget::STEP).expect("memory does not break"), CompactProgress::Idle);
    }
    assert_eq!(store.finished_compact_revision(), -1, "somebody reads what it would remove");
    let summary = loop {
        if let Step::Done(summary) = refusal(store.range_step(&mut list, one, &mut out)).expect("it is kept") {
            break summary;
        }
    };
    assert_eq!((shown(&out).as_str(), summary.count), ("a=2 b=1 c=1 d=1", 4));
    drop(list);
    assert_ne!(store.compact_step(WorkBudget::STEP).expect("memory does not break"), CompactProgress::Idle);
    assert_eq!(store.finished_compact_revision(), -1, "the txn still does");
    let outcome = loop {
        if let Some(outcome) = refusal(store.read_txn_step(&mut txn, read, one)).expect("it is kept") {
            break outcome;
        }
    };
    assert_eq!(outcome, at_once, "as of when it began");
    drop(txn);
    finish_compaction(&mut store);
    assert_eq!(store.finished_compact_revision(), 9);

    let given_up = refusal(store.range_open(&ALL, one, &mut Vec::new())).expect("the newest revision is there");
    assert!(matches!(given_up, Opened::More(_)));
    must(&mut store, &put("a", "3"));
    drop(given_up);
    compact(&mut store, 10);
}

#[test]
fn compact_requests() {
    let mut store = empty();
    assert_eq!(apply(&mut store, &Command::Compact { revision: -1 }), Err(OpError::Compacted));
    assert_eq!(must(&mut store, &Command::Compact { revision: 0 }), 1, "0 was never compacted");
    assert_eq!(apply(&mut store, &Command::Compact { revision: 0 }), Err(OpError::Compacted));
    assert_eq!(apply(&mut store, &Command::Compact { revision: 2 }), Err(OpError::FutureRevision));
    must(&mut store, &put("a", "1"));
    must(&mut store, &put("a", "2"));
    must(&mut store, &put("a", "3"));
    must(&mut store, &Command::Compact { revision: 3 });
    assert_eq!((store.compact_revision(), store.finished_compact_revision()), (3, -1));
    assert_eq!(range(&store, &RangeQuery { revision: 2, ..ALL }), Err(OpError::Compacted));
    assert_eq!(range(&store, &RangeQuery { revision: 3, ..ALL }), Ok(("a=2".to_owned(), false, 1)));
    finish_compaction(&mut store);
    assert_eq!((store.finished_compact_revision(), store.counters().compacted), (3, 1));
    assert_eq!(range(&store, &RangeQuery { revision: 3, ..ALL }), Ok(("a=2".to_owned(), false, 1)));
    assert_eq!(store.kv_at(b"a", Revision::new(3, 0)).expect("memory does not break"), None, "below the compaction");
    assert!(store.kv_at(b"a", Revision::new(4, 0)).expect("memory does not break").is_some());
}

#[test]
fn history_of_a_compacted_store() {
    let mut store = empty();
    for command in [put("a", "1"), put("b", "1"), delete("a", ""), put("a", "2"), put("b", "2"), delete("b", "")] {
        must(&mut store, &command);
    }
    compact(&mut store, 4);
    let mut seen = Vec::new();
    let mut visit = |event: plinth_engine::store::history::HistoryEvent<'_>| {
        let what = if event.is_delete {
            "delete"
        } else if event.is_create {
            "create"
        } else {
            "change"
        };
        seen.push(format!("{} {what} {}", event.revision, event.key.escape_ascii()));
        ControlFlow::Continue(())
    };
    store.history(4, 6, &mut visit).expect("memory does not break");
    assert_eq!(seen, ["4_0 delete a", "5_0 create a", "6_0 change b"]);
}

#[test]
fn a_full_store() {
    let trees = MemTrees::new();
    let mut store = Store::open(trees, StoreConfig { quota_bytes: 1000, ..StoreConfig::default() }).expect("empty");
    assert!(store.has_room(999));
    assert!(!store.has_room(1000), "size and cost have to stay below the quota");
    assert!(store.has_room(0));
    must(&mut store, &put("a", "1"));
    let big: &'static str = "x".repeat(800).leak();
    // Not refused before it was replicated, it is applied, but the client is told.
    assert_eq!(apply(&mut store, &put("big", big)), Err(OpError::NoSpace));
    assert_eq!((store.revision(), store.live_keys()), (3, 2));
    assert_eq!(apply(&mut store, &txn(vec![op(put("b", big))])), Err(OpError::NoSpace));
    assert_eq!(store.revision(), 4);
    assert_eq!(apply(&mut store, &Command::LeaseGrant { id: 1, ttl: 10 }), Err(OpError::NoSpace));
    assert!(store.leases().contains(1));
    // What fails anyway fails for its own reason.
    assert_eq!(apply(&mut store, &put_with_lease("b", big, 9)), Err(OpError::LeaseNotFound));
    assert_eq!(apply(&mut store, &Command::LeaseGrant { id: 1, ttl: 10 }), Err(OpError::LeaseExists));
    must(&mut store, &delete("b", ""));
    assert_eq!(store.quota().bytes(), Some(1000));
    assert_eq!(empty().quota().bytes(), None);
    let default = Store::open(MemTrees::new(), StoreConfig::default()).expect("empty");
    assert_eq!(default.quota().bytes(), Some(2 << 30));
}

fn alarm(action: AlarmAction, member: u64, kind: AlarmKind) -> Command {
    Command::Alarm(Alarm { action, member, kind })
}

#[test]
fn alarms_stop_what_they_should_and_survive() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmKind::{Corrupt, NoSpace, None};
    let mut store = empty();
    must(&mut store, &Command::LeaseGrant { id: 1, ttl: 10 });
    must(&mut store, &put("a", "1"));
    let body = |store: &mut MemStore, command: &Command| {
        apply(store, command).expect("alarms are not stopped").body.into_vec()
    };
    assert_eq!(body(&mut store, &alarm(Activate, 7, None)), b"", "no kind, no effect");
    assert_eq!(body(&mut store, &alarm(Activate, 7, NoSpace)), [0x12, 4, 0x08, 7, 0x10, 1]);
    assert_eq!(body(&mut store, &alarm(Activate, 7, NoSpace)), [0x12, 4, 0x08, 7, 0x10, 1], "once more is the same");
    let commands = |revision| {
        [
            ("put", put("b", "")),
            ("txn with a put", txn(vec![op(put("b", ""))])),
            ("txn with a nested put", txn(vec![op(txn(vec![op(put("b", ""))]))])),
            ("grant", Command::LeaseGrant { id: 2, ttl: 10 }),
            ("txn without puts", txn(vec![op(delete("b", ""))])),
            ("delete", delete("b", "")),
            ("compact", Command::Compact { revision }),
            ("revoke", Command::LeaseRevoke { id: 1 }),
        ]
    };
    let no_space = OpError::NoSpace;
    for ((name, command), stopped) in commands(1).iter().zip([true, true, true, true, false, false, false, false]) {
        let expected = if stopped { Err(no_space) } else { Ok(()) };
        assert_eq!(apply(&mut store, command).map(|_| ()), expected, "NOSPACE, {name}");
    }
    must(&mut store, &alarm(Activate, 0, Corrupt));
    let mut store = open(store.trees().clone());
    for (name, command) in &commands(2) {
        assert_eq!(apply(&mut store, command).map(|_| ()), Err(OpError::Corrupt), "CORRUPT, {name}");
    }
    assert!(range(&store, &ALL).is_ok(), "direct reads go on");
    must(&mut store, &checkpoint(0, 1, 1));
    assert_eq!(body(&mut store, &alarm(Get, 0, None)), [0x12, 4, 0x08, 7, 0x10, 1, 0x12, 2, 0x10, 2]);
    assert_eq!(body(&mut store, &alarm(Get, 9, NoSpace)), [0x12, 4, 0x08, 7, 0x10, 1], "the member does not matter");
    assert_eq!(body(&mut store, &alarm(Deactivate, 8, NoSpace)), b"", "member and kind have to be right");
    assert_eq!(body(&mut store, &alarm(Deactivate, 0, Corrupt)), [0x12, 2, 0x10, 2]);
    assert_eq!(body(&mut store, &alarm(Deactivate, 7, NoSpace)), [0x12, 4, 0x08, 7, 0x10, 1]);
    must(&mut store, &put("b", ""));
    assert!(!store.alarms().has(NoSpace));
    assert_eq!(store.trees().entries(TreeId::Alarm).count(), 0);
}

#[test]
fn leases() {
    let mut store = empty();
    let granted = apply(&mut store, &Command::LeaseGrant { id: -3, ttl: 0 }).expect("the id is free");
    let id = [0x10, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(granted.body.into_vec(), [&id[..], &[0x18, 2]].concat(), "short TTLs are raised to the minimum");
    assert_eq!(apply(&mut store, &Command::LeaseGrant { id: -3, ttl: 5 }), Err(OpError::LeaseExists));
    let too_large = Command::LeaseGrant { id: 4, ttl: 9_000_000_001 };
    assert_eq!(apply(&mut store, &too_large), Err(OpError::LeaseTtlTooLarge));
    assert_eq!(apply(&mut store, &Command::LeaseRevoke { id: 4 }), Err(OpError::LeaseNotFound));
    must(&mut store, &checkpoint(0, 4, 1));
    must(&mut store, &checkpoint(0, -3, 1));
    for command in [put_with_lease("b", "", -3), put_with_lease("a", "", -3), put("c", ""), put("b", "")] {
        must(&mut store, &command);
    }
    let mut store = open(store.trees().clone());
    assert_eq!(store.leases().stored_ttl(-3), Some((2, 1)), "checkpoints are stored");
    assert_eq!(store.leases().keys(-3).collect::<Vec<_>>(), [b"a"], "a put without a lease took b off");
    must(&mut store, &Command::LeaseRevoke { id: -3 });
    assert_eq!(range(&store, &ALL), Ok(("b= c=".to_owned(), false, 2)));
    assert_eq!(store.trees().entries(TreeId::Lease).count(), 0);
}

#[test]
fn what_the_cluster_knows_of_itself() {
    let mut store = empty();
    must(&mut store, &Command::SetClusterVersion("3.7.0".to_owned()));
    assert_eq!(store.meta(meta::CLUSTER_VERSION).expect("memory does not break"), Some(&b"3.7.0"[..]));
    let downgrade = |enabled| {
        Command::SetDowngrade(plinth_engine::command::Downgrade { enabled, target_version: "3.6.0".to_owned() })
    };
    must(&mut store, &downgrade(true));
    assert_eq!(store.meta(meta::DOWNGRADE).expect("memory does not break"), Some(&b"3.6.0"[..]));
    must(&mut store, &downgrade(false));
    assert_eq!(store.meta(meta::DOWNGRADE).expect("memory does not break"), None);
    let attributes =
        MemberAttributes { member: 5, name: "m5".to_owned(), client_urls: vec!["u".to_owned(), "v".to_owned()] };
    must(&mut store, &Command::SetMemberAttributes(attributes));
    let stored = store.trees().get(TreeId::Members, b"\0\0\0\0\0\0\0\x05a").expect("memory does not break");
    assert_eq!(stored, Some(&b"\x0a\x02m5\x12\x01u\x12\x01v"[..]));
    must(&mut store, &Command::Noop);
    assert_eq!(store.revision(), 1);
}

#[test]
fn entries_are_applied_once() {
    let mut store = empty();
    store.begin_entry(EntryId { index: 5, term: 2 }).expect("memory does not break");
    let mut store = open(store.trees().clone());
    assert_eq!(store.applied(), EntryId { index: 5, term: 2 });
    let again = std::panic::AssertUnwindSafe(|| store.begin_entry(EntryId { index: 5, term: 2 }));
    assert!(std::panic::catch_unwind(again).is_err(), "an entry is not begun twice");
}

#[test]
fn the_revision_never_falls() {
    // All that was written may be compacted away, as older releases do it with the last tombstone.
    for key in [meta::SCHEDULED_COMPACT, meta::FINISHED_COMPACT] {
        let mut trees = MemTrees::new();
        trees.insert(TreeId::Meta, key, &RevKey::floor(9)).expect("memory does not break");
        let mut store = open(trees);
        assert_eq!((store.revision(), store.compact_revision()), (9, 9));
        assert_eq!(store.is_compacting(), key == meta::SCHEDULED_COMPACT);
        finish_compaction(&mut store);
        assert_eq!(store.finished_compact_revision(), 9);
        assert_eq!(must(&mut store, &put("a", "")), 10);
    }
}

#[test]
fn damaged_records_are_named() {
    let rev = RevKey::put(Revision::new(2, 0));
    let cases: [(&str, TreeId, &[u8], &[u8]); 8] = [
        ("a key that is no revision", TreeId::Rev, b"short", b"\x0a\x01a"),
        ("a pair that does not decode", TreeId::Rev, &rev, b"\x0a\x09a"),
        ("a put without a version", TreeId::Rev, &rev, b"\x0a\x01a\x10\x02\x18\x02"),
        ("a lease that does not decode", TreeId::Lease, &[0; 8], b"\x08"),
        ("a lease under another id", TreeId::Lease, &[0, 0, 0, 0, 0, 0, 0, 2], b"\x08\x01\x10\x05"),
        ("an alarm of no kind", TreeId::Alarm, b"\x10\x63", b""),
        ("a mark that is no revision", TreeId::Meta, meta::FINISHED_COMPACT, b"6"),
        ("an applied entry cut short", TreeId::Meta, meta::APPLIED, b"123456789"),
    ];
    for (name, tree, key, value) in cases {
        let mut trees = MemTrees::new();
        trees.insert(tree, key, value).expect("memory does not break");
        let error = Store::open(trees, StoreConfig::default()).map(|_| ()).expect_err(name);
        assert!(matches!(error, StoreError::Record { .. } | StoreError::Pair { .. }), "{name}: {error}");
        assert!(!error.to_string().is_empty());
    }
}

/// Damage that is found while serving breaks the store instead of being answered.
#[test]
fn a_missing_pair_breaks_the_read() {
    let mut store = empty();
    must(&mut store, &put("a", "1"));
    store.trees_mut().remove(TreeId::Rev, &RevKey::put(Revision::new(2, 0))).expect("memory does not break");
    let result = store.range(&ALL, &mut Vec::new());
    assert!(matches!(result, Err(Error::Broken(StoreError::Missing { revision })) if revision.main == 2));
}

/// A compaction at revision 0 leaves a checksum of revision 0, which is not the one of the newest.
#[test]
fn a_hash_of_the_newest_is_none_of_a_compaction() {
    let mut store = empty();
    compact(&mut store, 0);
    for key in ["a", "b"] {
        must(&mut store, &put(key, "1"));
    }
    let newest = refusal(store.hash_kv(0)).expect("there is a newest revision");
    assert_eq!(newest, refusal(store.hash_kv(3)).expect("the newest"));
    assert_eq!((newest.revision, newest.compact_revision), (3, 0));
}

#[test]
fn only_the_term_that_found_a_lease_expired_ends_it() {
    let mut store = empty();
    must(&mut store, &Command::LeaseGrant { id: 7, ttl: 10 });
    must(&mut store, &put_with_lease("k", "v", 7));
    store.begin_entry(EntryId { index: 9, term: 3 }).expect("memory does not fail");
    let revision = store.revision();
    assert_eq!(must(&mut store, &Command::LeaseExpire { id: 7, term: 2 }), revision);
    assert!(store.leases().contains(7), "the leader of term 3 may have extended it");
    assert_eq!(must(&mut store, &Command::LeaseExpire { id: 7, term: 3 }), revision + 1);
    assert!(!store.leases().contains(7));
}

#[test]
fn only_the_term_that_measured_what_is_left_of_a_lease_records_it() {
    let mut store = empty();
    must(&mut store, &Command::LeaseGrant { id: 7, ttl: 10 });
    store.begin_entry(EntryId { index: 9, term: 3 }).expect("memory does not fail");
    must(&mut store, &checkpoint(2, 7, 4));
    assert_eq!(store.leases().stored_ttl(7), Some((10, 0)), "the leader of term 3 may have renewed it");
    must(&mut store, &checkpoint(3, 7, 4));
    assert_eq!(store.leases().stored_ttl(7), Some((10, 4)));
    must(&mut store, &checkpoint(2, 7, 0));
    assert_eq!(store.leases().stored_ttl(7), Some((10, 4)), "who was told of that renewal asks again");
    let gone = LeaseCheckpoint { id: 6, remaining_ttl: 1 };
    let checkpoints = vec![gone, LeaseCheckpoint { id: 7, remaining_ttl: 0 }];
    must(&mut store, &Command::LeaseCheckpoint(LeaseCheckpoints { term: 3, checkpoints }));
    assert_eq!(store.leases().stored_ttl(7), Some((10, 0)), "others than those that are gone");
}
