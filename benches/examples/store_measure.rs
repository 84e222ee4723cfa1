//! Measures the store: `cargo run --release -p plinth-benches --example store_measure [dir]`.
//!
//! One million keys of about 40 bytes with 256-byte values, put in random order, over trees that keep nothing (the
//! store's own share) and over a page file in `dir` (default: the system's temporary directory).

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plinth_engine::budget::Budget;
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Command, Compare, CompareResult, CompareTarget, Op, Put, Txn};
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::{FileStore, Options, PageFile};
use plinth_engine::store::compact::CompactProgress;
use plinth_engine::store::hash::HashStep;
use plinth_engine::store::range::{RangeQuery, Step};
use plinth_engine::store::{EntryId, Store, StoreConfig};
use plinth_engine::trees::{Record, TreeError, TreeId, Trees, Visit};

const KEYS: u64 = 1_000_000;
const WINDOW: u64 = 1000;
const BATCH: u64 = 64;
const FLUSH_BYTES: usize = 8 << 20;

/// Trees that forget everything.
#[derive(Default)]
struct Nothing;

impl Trees for Nothing {
    fn get(&self, _: TreeId, _: &[u8]) -> Result<Option<&[u8]>, TreeError> {
        Ok(None)
    }
    fn insert(&mut self, _: TreeId, _: &[u8], value: &[u8]) -> Result<(), TreeError> {
        black_box(value);
        Ok(())
    }
    fn remove(&mut self, _: TreeId, _: &[u8]) -> Result<bool, TreeError> {
        Ok(false)
    }
    fn scan(&self, _: TreeId, _: &[u8], _: &mut Visit<'_>) -> Result<(), TreeError> {
        Ok(())
    }
    fn last(&self, _: TreeId) -> Result<Option<Record<'_>>, TreeError> {
        Ok(None)
    }
    fn size_bytes(&self) -> u64 {
        0
    }
    fn in_use_bytes(&self) -> u64 {
        0
    }
}

/// Key number `i` of a fixed permutation.
fn key(i: u64) -> String {
    let i = i % KEYS * 618_033_989 % KEYS;
    format!("/registry/pods/namespace-{:03}/pod-{:08}", i % 1000, i)
}

/// CPU time of this thread, to a few milliseconds. On a busy machine the clock on the wall tells of the neighbours.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc is there");
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is the time on a CPU"))
}

/// Does `work` for every number, in windows of a thousand, and tells the best and the median window: on a busy machine
/// most windows are interrupted, the best one is not.
fn windows(what: &str, count: u64, mut work: impl FnMut(u64)) {
    let mut times = Vec::new();
    for start in (0..count).step_by(WINDOW as usize) {
        let clock = Instant::now();
        (start..(start + WINDOW).min(count)).for_each(&mut work);
        times.push(clock.elapsed().as_nanos() as u64 / WINDOW);
    }
    times.sort_unstable();
    let (best, tenth, median) = (times[0], times[times.len() / 10], times[times.len() / 2]);
    println!("{what:<44} {best:>6} ns each at best, {tenth:>6} ns in the best tenth, {median:>6} ns in the middle");
}

fn commands(make: impl Fn(u64) -> Command) -> Vec<Vec<u8>> {
    let encode = |i| {
        let mut out = Vec::new();
        make(i).encode_into(&mut out);
        out
    };
    (0..KEYS).map(encode).collect()
}

fn put(i: u64) -> Put {
    Put { key: key(i).into(), value: Bytes::from_static(&[7; 256]), ..Put::default() }
}

fn guarded(i: u64) -> Txn {
    let compare = Compare {
        key: key(i).into(),
        target: CompareTarget::Mod,
        result: CompareResult::Greater,
        ..Compare::default()
    };
    Txn { compare: vec![compare], success: vec![Op::Put(put(i))], failure: vec![] }
}

fn apply<T: Trees>(what: &str, store: &mut Store<T>, commands: &[Vec<u8>], mut flush: impl FnMut(&mut T)) {
    windows(what, commands.len() as u64, |i| {
        if i % BATCH == 0 {
            let index = store.applied().index + 1;
            store.begin_entry(EntryId { index, term: 1 }).expect("the trees work");
        }
        let command = Command::access(&commands[i as usize]).expect("the command is sound");
        black_box(store.apply(command, Millis(0)).expect("nothing is refused"));
        if i % WINDOW == WINDOW - 1 {
            flush(store.trees_mut());
        }
    });
}

fn flush_file(file: &mut PageFile<FileStore>) {
    if file.dirty_bytes() < FLUSH_BYTES {
        return;
    }
    let Some(flush) = file.begin_flush().expect("room for a flush") else { return };
    flush.write_to(&mut file.store().writer()).expect("the disk works");
    file.finish_flush(flush);
}

fn config() -> StoreConfig {
    StoreConfig { quota_bytes: -1, ..StoreConfig::default() }
}

fn measure_commands() {
    let put = put(1);
    let mut out = Vec::with_capacity(1 << 20);
    windows("encode a put", KEYS, |_| {
        out.clear();
        black_box(&put).encode_into(&mut out);
    });
    windows("access a put", KEYS, |_| {
        black_box(Command::access(black_box(&out)).is_ok());
    });
    let txn = guarded(1);
    windows("encode a guarded put", KEYS, |_| {
        out.clear();
        black_box(&txn).encode_into(&mut out);
    });
    windows("access a guarded put", KEYS, |_| {
        black_box(Command::access(black_box(&out)).is_ok());
    });
}

fn measure_reads(store: &Store<PageFile<FileStore>>) {
    let keys: Vec<_> = (0..KEYS).map(|i| key(i * 7)).collect();
    let mut out = Vec::new();
    windows("key exists (index only)", KEYS, |i| {
        let query = RangeQuery { key: keys[i as usize].as_bytes(), count_only: true, ..RangeQuery::default() };
        black_box(store.range(&query, &mut out).expect("the store works"));
    });
    windows("point range", KEYS, |i| {
        out.clear();
        let query = RangeQuery { key: keys[i as usize].as_bytes(), ..RangeQuery::default() };
        black_box(store.range(&query, &mut out).expect("the store works"));
    });
    let list = RangeQuery { key: b"/registry/pods/", range_end: b"/registry/pods0", ..RangeQuery::default() };
    let clock = Instant::now();
    for _ in 0..1000 {
        out.clear();
        black_box(store.range(&RangeQuery { limit: 500, ..list }, &mut out).expect("the store works"));
    }
    println!("list of 500 out of all, with count: {:?}", clock.elapsed() / 1000);
    let clock = Instant::now();
    for _ in 0..1000 {
        let query = RangeQuery { count_only: true, ..list };
        black_box(store.range(&query, &mut out).expect("the store works"));
    }
    println!("count all: {:?}", clock.elapsed() / 1000);
    out.clear();
    let mut cursor = store.range_start(&list).expect("the store works");
    steps("range of everything, steps", || match store.range_step(&mut cursor, Budget::STEP, &mut out) {
        Ok(Step::More) => true,
        Ok(Step::Done(_)) => false,
        Err(error) => panic!("{error}"),
    });
    let mut cursor = store.hash_kv_start(0).expect("the store works");
    steps("HashKV, steps", || match store.hash_kv_step(&mut cursor, WorkBudget::STEP) {
        Ok(HashStep::More) => true,
        Ok(HashStep::Done(_)) => false,
        Err(error) => panic!("{error}"),
    });
}

/// Does steps while there are any, and tells their number and how long they take.
fn steps(what: &str, mut step: impl FnMut() -> bool) {
    let (mut times, start) = (Vec::new(), cpu());
    loop {
        let clock = Instant::now();
        let goes_on = step();
        times.push(clock.elapsed());
        if !goes_on {
            break;
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let total = cpu() - start;
    println!(
        "{what}: {} in {total:?} of CPU; median {:?}, 90 % {:?}, longest {:?}",
        times.len(),
        at(50),
        at(90),
        at(100)
    );
}

fn compact(store: &mut Store<PageFile<FileStore>>) {
    let mut command = Vec::new();
    Command::Compact { revision: store.revision() }.encode_into(&mut command);
    let index = store.applied().index + 1;
    store.begin_entry(EntryId { index, term: 1 }).expect("the file works");
    store.apply(Command::access(&command).expect("sound"), Millis(0)).expect("nothing is refused");
    let mut since_flush = 0;
    steps("compaction with hash, steps", || {
        since_flush += 1;
        if since_flush % 100 == 0 {
            flush_file(store.trees_mut());
        }
        !matches!(store.compact_step(WorkBudget::STEP).expect("the store works"), CompactProgress::Done { .. })
    });
    println!("  removed: {}", store.counters().compacted);
}

fn main() {
    measure_commands();
    let puts = commands(|i| Command::Put(put(i)));
    let updates = commands(|i| Command::Put(put(i * 3)));
    let txns = commands(|i| Command::Txn(guarded(i * 5)));
    let mut store = Store::open(Nothing, config()).expect("nothing opens");
    apply("create keys, without trees", &mut store, &puts, |_| ());
    let bytes = store.index_bytes() as u64 / KEYS;
    println!("  index: {bytes} bytes per key, of which {} are its own", key(1).len());
    apply("update keys, without trees", &mut store, &updates, |_| ());
    drop(store);

    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let path = dir.join(format!("store_measure-{}", std::process::id()));
    let file = PageFile::create(FileStore::open(&path).expect("the file opens"), Options { file_id: 1 });
    let mut store = Store::open(file.expect("the file is new"), config()).expect("an empty file opens");
    apply("create keys, page file", &mut store, &puts, flush_file);
    measure_reads(&store);
    apply("update keys, page file", &mut store, &updates, flush_file);
    apply("guarded puts, page file", &mut store, &txns, flush_file);
    compact(&mut store);
    store.trees_mut().flush_now().expect("the disk works");
    drop(store);
    for _ in 0..3 {
        let file = PageFile::open(FileStore::open(&path).expect("the file opens")).expect("the file is sound");
        let (clock, start) = (Instant::now(), cpu());
        let store = Store::open(file, config()).expect("the file is sound");
        let (took, cpu) = (clock.elapsed(), cpu() - start);
        println!("open: {took:?}, {cpu:?} of CPU; index: {} bytes per key", store.index_bytes() as u64 / KEYS);
        assert_eq!(store.live_keys(), KEYS);
    }
    std::fs::remove_file(&path).expect("the file is there");
}
