//! The page file against maps in memory: any sequence of changes, flushes, reopenings, pins and shrinking.

use plinth_random::Random;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use plinth_engine::pagefile::testing::{CheckedFile, MemStore};
use plinth_engine::pagefile::{Flush, PageFile, PageWriter, Pin, ScrubCursor, ShrinkProgress};
use plinth_engine::trees::{TreeError, TreeId, Trees};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Model = BTreeMap<TreeId, Map>;

const TREES: [TreeId; 3] = [TreeId::Rev, TreeId::Lease, TreeId::Meta];

#[derive(Clone, Debug)]
enum Op {
    Insert {
        tree: usize,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// Keys above all others, as revisions are.
    Append {
        count: usize,
        bytes: usize,
    },
    Remove {
        tree: usize,
        key: Vec<u8>,
    },
    /// Removes existing keys in order, as compaction does.
    Sweep {
        tree: usize,
        skip: usize,
        count: usize,
    },
    BeginFlush,
    FinishFlush,
    Reopen,
    Pin,
    Unpin,
    Shrink {
        budget: usize,
    },
    Scrub,
    Trim,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u16..2000).prop_map(|number| number.to_be_bytes().to_vec()),
        2 => prop::collection::vec(0u8..4, 0..6),
        // Long separators: small fan-out, several levels.
        4 => (0u16..600).prop_map(|number| [&[7; 1500][..], &number.to_be_bytes()].concat()),
        1 => (0u8..4, 100usize..2048).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![10 => 0usize..600, 2 => 600usize..9000, 1 => 9000usize..60_000];
    (any::<u8>(), length).prop_map(|(byte, length)| (0..length).map(|at| byte.wrapping_add((at / 7) as u8)).collect())
}

fn op() -> impl Strategy<Value = Op> {
    let tree = 0..TREES.len();
    prop_oneof![
        20 => (tree.clone(), key(), value()).prop_map(|(tree, key, value)| Op::Insert { tree, key, value }),
        6 => (1usize..300, 0usize..700).prop_map(|(count, bytes)| Op::Append { count, bytes }),
        8 => (tree.clone(), key()).prop_map(|(tree, key)| Op::Remove { tree, key }),
        5 => (tree, 0usize..50, 1usize..400).prop_map(|(tree, skip, count)| Op::Sweep { tree, skip, count }),
        5 => Just(Op::BeginFlush),
        5 => Just(Op::FinishFlush),
        2 => Just(Op::Reopen),
        1 => Just(Op::Pin),
        2 => Just(Op::Unpin),
        2 => (1usize..200).prop_map(|budget| Op::Shrink { budget }),
        1 => Just(Op::Scrub),
        1 => Just(Op::Trim),
    ]
}

/// The system under test, with what it must hold.
struct Run {
    file: PageFile<MemStore>,
    model: Model,
    flushing: Option<(Flush, Model)>,
    durable: Model,
    pins: Vec<(Pin, Model)>,
    next_key: u64,
}

impl Run {
    fn new() -> Run {
        let file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
        let empty: Model = TREES.iter().map(|&tree| (tree, Map::new())).collect();
        Run { file, model: empty.clone(), flushing: None, durable: empty, pins: Vec::new(), next_key: 1 << 40 }
    }

    fn step(&mut self, op: Op) -> Result<(), TreeError> {
        match op {
            Op::Insert { tree, key, value } => self.insert(TREES[tree], key, value)?,
            Op::Append { count, bytes } => {
                for _ in 0..count {
                    self.next_key += 1;
                    self.insert(TreeId::Rev, self.next_key.to_be_bytes().to_vec(), vec![self.next_key as u8; bytes])?;
                }
            }
            Op::Remove { tree, key } => self.remove(TREES[tree], &key)?,
            Op::Sweep { tree, skip, count } => {
                let tree = TREES[tree];
                let keys: Vec<Vec<u8>> = self.model[&tree].keys().skip(skip).take(count).cloned().collect();
                for key in keys {
                    self.remove(tree, &key)?;
                }
            }
            Op::BeginFlush if self.flushing.is_none() => {
                self.flushing = self.file.begin_flush()?.map(|flush| (flush, self.model.clone()));
            }
            Op::BeginFlush => {}
            Op::FinishFlush => self.finish_flush(),
            Op::Reopen => self.reopen(),
            Op::Pin => {
                let pin = self.file.pin();
                let model = self.flushing.as_ref().map_or(&self.durable, |(_, model)| model);
                self.pins.push((pin, model.clone()));
            }
            Op::Unpin if self.pins.len() > 1 => self.file.unpin(self.pins.remove(0).0),
            Op::Unpin => drop(self.pins.pop()),
            Op::Shrink { budget } => drop(self.file.shrink_step(budget)?),
            Op::Scrub => while !self.file.scrub_step(&mut ScrubCursor::default(), 1 << 20)?.done {},
            Op::Trim => drop(self.file.trim_resident(1 << 18)),
        }
        Ok(())
    }

    fn insert(&mut self, tree: TreeId, key: Vec<u8>, value: Vec<u8>) -> Result<(), TreeError> {
        self.file.insert(tree, &key, &value)?;
        self.model.get_mut(&tree).expect("all trees are in the model").insert(key, value);
        Ok(())
    }

    fn remove(&mut self, tree: TreeId, key: &[u8]) -> Result<(), TreeError> {
        let removed = self.file.remove(tree, key)?;
        assert_eq!(removed, self.model.get_mut(&tree).expect("all trees are in the model").remove(key).is_some());
        Ok(())
    }

    fn finish_flush(&mut self) {
        let Some((flush, model)) = self.flushing.take() else { return };
        flush.write_to(self.file.store_mut()).expect("memory does not fail");
        self.file.finish_flush(flush);
        self.durable = model;
    }

    fn reopen(&mut self) {
        let store = MemStore::from_bytes(self.file.store().bytes().to_vec());
        self.pins.clear();
        self.flushing = None;
        self.model = self.durable.clone();
        self.file = match PageFile::open(store) {
            Ok(file) => file,
            Err(plinth_engine::pagefile::OpenError::Blank) => {
                assert!(self.durable.values().all(Map::is_empty));
                PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail")
            }
            Err(error) => panic!("reopen: {error}"),
        };
    }

    fn compare(&self) -> Result<(), TreeError> {
        self.file.check()?;
        for (&tree, map) in &self.model {
            assert_eq!(self.file.entries(tree), map.len() as u64);
            let mut left = map.iter();
            self.file.scan(tree, b"", &mut |key, value| {
                assert_eq!(left.next(), Some((&key.to_vec(), &value.to_vec())), "{tree:?}");
                ControlFlow::Continue(())
            })?;
            assert_eq!(left.next(), None, "{tree:?}");
            let last = map.last_key_value().map(|(key, value)| (&key[..], &value[..]));
            assert_eq!(self.file.last(tree)?, last);
            for (key, value) in map.iter().step_by(17) {
                assert_eq!(self.file.get(tree, key)?, Some(&value[..]));
            }
            assert_eq!(self.file.get(tree, b"\xff\xffnot there")?, None);
        }
        self.compare_pins()
    }

    /// Pinned states have not moved. Scans in chunks, as a snapshot does.
    fn compare_pins(&self) -> Result<(), TreeError> {
        for (pin, model) in &self.pins {
            for (&tree, map) in model {
                let mut seen = Map::new();
                let mut next = Some(Vec::new());
                while let Some(from) = next.take() {
                    let mut budget = 100;
                    self.file.pinned_scan(pin, tree, &from, &mut |key, value| {
                        if budget == 0 {
                            next = Some(key.to_vec());
                            return ControlFlow::Break(());
                        }
                        budget -= 1;
                        seen.insert(key.to_vec(), value.to_vec());
                        ControlFlow::Continue(())
                    })?;
                }
                assert_eq!(&seen, map, "{tree:?} at {}", pin.txn());
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("CASES").map_or(96, |cases| cases.parse().expect("CASES is a number")),
        max_shrink_iters: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_as_maps(ops in prop::collection::vec(op(), 1..120)) {
        let mut run = Run::new();
        for (index, op) in ops.into_iter().enumerate() {
            run.step(op).map_err(|error| TestCaseError::fail(error.to_string()))?;
            if index % 16 == 0 {
                run.compare().map_err(|error| TestCaseError::fail(error.to_string()))?;
            }
        }
        run.compare().map_err(|error| TestCaseError::fail(error.to_string()))?;
        run.finish_flush();
        run.reopen();
        run.compare().map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}

fn flushed(file: &mut PageFile<MemStore>) {
    file.flush_now().expect("memory does not fail");
}

/// Shrinks the file to its end, with a flush whenever one is asked for.
fn shrink(file: &mut PageFile<MemStore>) {
    let mut flushes = 0;
    loop {
        match file.shrink_step(64).expect("no fault") {
            ShrinkProgress::Done => break,
            ShrinkProgress::More => {}
            ShrinkProgress::AwaitFlush => {
                flushed(file);
                flushes += 1;
            }
            ShrinkProgress::Pinned => panic!("nothing is pinned"),
        }
        assert!(flushes < 20, "shrinking ends");
    }
}

/// Compaction removes most of the file in key order: pages come back, and shrinking returns them to the disk.
#[test]
fn space_comes_back() {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    for key in 0u64..50_000 {
        file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 300]).expect("there is room");
        if key % 5000 == 0 {
            flushed(&mut file);
        }
    }
    flushed(&mut file);
    let full = file.in_use_bytes();
    assert!(full < 50_000 * 330, "pages are filled: {full}");
    for key in (0u64..50_000).filter(|key| key % 10 != 0) {
        assert!(file.remove(TreeId::Rev, &key.to_be_bytes()).expect("no fault"));
    }
    flushed(&mut file);
    let swept = file.in_use_bytes();
    assert!(swept < full / 5, "of {full} bytes {swept} are left in use");
    assert!(file.size_bytes() > full);
    shrink(&mut file);
    assert!(file.size_bytes() <= swept + 40 * 16384, "{} bytes in use, {} kept", swept, file.size_bytes());
    assert_eq!(file.store().bytes().len() as u64, file.size_bytes());
    file.check().expect("still sound");
    assert_eq!(file.entries(TreeId::Rev), 5000);
    let reopened = PageFile::open(MemStore::from_bytes(file.store().bytes().to_vec())).expect("opens");
    assert_eq!(reopened.check().expect("sound").entries, 5000);
}

/// Where the space map's own pages happened to lie when the last values went does not keep the end either.
#[test]
fn an_empty_file_is_short() {
    for count in 60_u64..90 {
        for idle_flushes in 0..3_u8 {
            let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
            for key in 0..count {
                file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 65_600]).expect("there is room");
                if key % 20 == 0 {
                    flushed(&mut file);
                }
            }
            for flush in 0..idle_flushes {
                file.insert(TreeId::Meta, b"applied", &[flush]).expect("there is room");
                flushed(&mut file);
            }
            for key in 0..count {
                assert!(file.remove(TreeId::Rev, &key.to_be_bytes()).expect("no fault"));
            }
            shrink(&mut file);
            let (used, kept) = (file.in_use_bytes(), file.size_bytes());
            assert!(
                kept <= used + 32 * 16384,
                "{count} values, {idle_flushes} flushes: {used} bytes in use, {kept} kept"
            );
        }
    }
}

/// Long values in a fragmented file do not keep its end: places are cleared for them.
#[test]
fn long_values_move_down() {
    const CASES: [(&str, std::ops::Range<u64>, u64); 4] = [
        ("some of all lengths", 1000..300_000, 30),
        ("all long", 20_000..100_000, 100),
        ("few huge", 100..1_000_000, 10),
        ("inside leaves", 200..3000, 100),
    ];
    for (name, lengths, percent) in CASES {
        let mut file = CheckedFile(PageFile::create(MemStore::new(), Default::default()).expect("memory"));
        let mut random = Random::new(1);
        let mut random = |below: u64| random.below(below);
        let mut live = Vec::new();
        for revision in 0u64..6000 {
            let long = random(100) < percent;
            let length = if long { lengths.start + random(lengths.end - lengths.start) } else { 300 };
            file.insert(TreeId::Rev, &revision.to_be_bytes(), &vec![1; length as usize]).expect("there is room");
            live.push(revision);
            let keep = if revision == 5999 { 100 } else { 400 };
            while revision % 100 == 99 && live.len() > keep {
                let gone = live.swap_remove(random(live.len() as u64) as usize);
                assert!(file.remove(TreeId::Rev, &gone.to_be_bytes()).expect("no fault"));
            }
            if revision % 100 == 99 {
                flushed(&mut file);
            }
        }
        let before = file.size_bytes();
        let mut steps = 0;
        while match file.shrink_step(64).expect("no fault") {
            ShrinkProgress::Done => false,
            ShrinkProgress::AwaitFlush => {
                flushed(&mut file);
                true
            }
            _ => true,
        } {
            steps += 1;
            assert!(steps < 1000, "{name}: shrinking ends");
        }
        let (size, in_use) = (file.size_bytes(), file.in_use_bytes());
        assert!(size < before / 3, "{name}: {before} before, {size} after");
        assert!(size < in_use / 4 * 5 + 20 * 16384, "{name}: {in_use} in use of {size}");
    }
}

#[test]
fn a_snapshot_opens_as_the_pinned_state() {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    for key in 0u64..5000 {
        let length = if key % 100 == 0 { 40_000 } else { 100 };
        file.insert(TreeId::Rev, &key.to_be_bytes(), &vec![key as u8; length]).expect("there is room");
    }
    let flush = file.begin_flush().expect("there is room").expect("there are changes");
    let pin = file.pin();
    let mut cursor = file.snapshot_start(&pin).expect("no fault");
    let mut copy = MemStore::from_bytes(vec![0; file.snapshot_bytes(&pin) as usize]);
    let mut steps = 0;
    let mut flush = Some(flush);
    while file
        .snapshot_step(&pin, &mut cursor, 1 << 18, &mut |offset, bytes| copy.write_at(offset, bytes).expect("fits"))
        .expect("no fault")
    {
        steps += 1;
        for key in 0u64..50 {
            file.remove(TreeId::Rev, &(steps * 50 + key).to_be_bytes()).expect("no fault");
            file.insert(TreeId::Lease, &(steps * 50 + key).to_be_bytes(), b"new").expect("there is room");
        }
        if let Some(flush) = flush.take() {
            flush.write_to(file.store_mut()).expect("memory does not fail");
            file.finish_flush(flush);
        } else {
            flushed(&mut file);
        }
    }
    assert!(steps > 5);
    let copy = PageFile::open(copy).expect("a complete copy opens");
    assert_eq!(copy.entries(TreeId::Rev), 5000);
    assert_eq!(copy.entries(TreeId::Lease), 0);
    assert_eq!(copy.check().expect("sound").entries, 5000);
    assert_eq!(copy.get(TreeId::Rev, &100u64.to_be_bytes()).expect("no fault"), Some(&vec![100; 40_000][..]));
    file.unpin(pin);
    file.check().expect("sound");
}

/// A full disk is an error before anything is changed, and deleting goes on.
#[test]
fn a_full_disk_is_clean() {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    file.store_mut().limit_bytes = Some(4 << 20);
    let mut key = 0u64;
    let mut warned_at = None;
    let error = loop {
        if file.is_short_of_space() && warned_at.is_none() {
            warned_at = Some(key);
        }
        match file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 1000]) {
            Ok(()) => key += 1,
            Err(error) => break error,
        }
        if key.is_multiple_of(100) {
            flushed(&mut file);
        }
    };
    assert!(matches!(error, TreeError::Full { .. }), "{error}");
    assert!(warned_at.expect("the warning comes first") < key - 50);
    let error = file.insert(TreeId::Rev, b"long", &vec![1; 1 << 20]).expect_err("no room for a long value either");
    assert!(matches!(error, TreeError::Full { .. }), "{error}");
    assert_eq!(file.check().expect("nothing half applied").entries, key);
    flushed(&mut file);
    for gone in 0..key / 2 {
        assert!(file.remove(TreeId::Rev, &gone.to_be_bytes()).expect("deleting needs little room"));
        if gone % 20 == 0 {
            flushed(&mut file);
        }
    }
    flushed(&mut file);
    flushed(&mut file);
    file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 1000]).expect("room again");
    assert_eq!(file.check().expect("sound").entries, key - key / 2 + 1);
}

/// With an overdraft changes go on in memory when the disk is full. They are flushed when there is room again, not before,
/// and what is on the disk meanwhile is the state before them.
#[test]
fn an_overdraft_waits_in_memory_for_room() {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    file.set_overdraft(8 << 20);
    file.store_mut().limit_bytes = Some(2 << 20);
    let mut key = 0u64;
    while !file.is_overdrawn() {
        file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 1000]).expect("on the disk or in memory");
        key += 1;
        if key.is_multiple_of(100) && !file.is_overdrawn() {
            flushed(&mut file);
        }
    }
    let durable = file.durable();
    for _ in 0..2000 {
        file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 1000]).expect("in memory");
        key += 1;
    }
    file.insert(TreeId::Rev, &key.to_be_bytes(), &vec![1; 1 << 20]).expect("a long run in memory");
    key += 1;
    assert!(file.is_short_of_space() && file.begin_flush().expect("no error").is_none());
    assert_eq!(file.check().expect("sound").entries, key);
    let before = PageFile::open(MemStore::from_bytes(file.store().bytes().to_vec())).expect("the file as it is opens");
    assert_eq!(before.durable(), durable);
    assert!(before.check().expect("sound").entries < key - 2000);
    let beyond = file.insert(TreeId::Lease, b"k", &vec![1; 8 << 20]).expect_err("the overdraft has a bound");
    assert!(matches!(beyond, TreeError::Full { .. }), "{beyond}");

    file.store_mut().limit_bytes = None;
    flushed(&mut file);
    assert!(!file.is_overdrawn() && !file.is_short_of_space());
    let after = PageFile::open(MemStore::from_bytes(file.store().bytes().to_vec())).expect("opens");
    assert_eq!(after.check().expect("sound").entries, key);
}

/// Removing pages pays an overdraft back, too.
#[test]
fn an_overdraft_is_paid_back_by_removing() {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    file.set_overdraft(8 << 20);
    file.store_mut().limit_bytes = Some(2 << 20);
    let mut key = 0u64;
    while file.size_bytes() < 4 << 20 {
        file.insert(TreeId::Rev, &key.to_be_bytes(), &[7; 1000]).expect("on the disk or in memory");
        key += 1;
    }
    for gone in 0..key {
        file.remove(TreeId::Rev, &gone.to_be_bytes()).expect("no fault");
    }
    let mut steps = 0;
    while file.is_overdrawn() {
        file.shrink_step(64).expect("no fault");
        steps += 1;
        assert!(steps < 1000, "free pages at the end stay");
    }
    flushed(&mut file);
    assert_eq!(file.check().expect("sound").entries, 0);
}

/// Five levels, grown and taken down in an order without pattern.
#[test]
fn a_deep_tree_grows_and_goes() {
    const KEYS: u64 = 20_011;
    let mut file = CheckedFile(PageFile::create(MemStore::new(), Default::default()).expect("memory"));
    let key = |number: u64| [&[7; 1900][..], &(number * 7919 % KEYS).to_be_bytes()].concat();
    for number in 0..KEYS {
        file.insert(TreeId::Rev, &key(number), &number.to_le_bytes()).expect("there is room");
        if number % 3000 == 0 {
            flushed(&mut file);
        }
    }
    let report = file.check().expect("sound");
    assert!(report.branches > report.leaves / 8 && report.leaves > 2500, "{report:?}");
    for number in 0..KEYS {
        if number % 1000 == 0 {
            flushed(&mut file);
            file.check().expect("sound");
            let found = file.get(TreeId::Rev, &key(KEYS - 1)).expect("no fault");
            assert_eq!(found, Some(&(KEYS - 1).to_le_bytes()[..]));
        }
        assert!(file.remove(TreeId::Rev, &key(number)).expect("no fault"));
    }
    assert_eq!(file.check().expect("sound").leaves, 0);
    for _ in 0..3 {
        flushed(&mut file);
    }
    assert!(file.in_use_bytes() <= 3 * 16384);
}

#[test]
fn too_long_is_refused() {
    let mut file = PageFile::create(MemStore::new(), Default::default()).expect("memory does not fail");
    let error = file.insert(TreeId::Rev, &[0; 2049], b"").expect_err("too long");
    assert!(matches!(error, TreeError::TooLarge { .. }), "{error}");
    file.insert(TreeId::Rev, &[0; 2048], &[0; 8000]).expect("long keys with long values fit");
    file.check().expect("sound");
}
