//! Measures the page file on a real disk: `cargo run --release -p plinth-benches --example pagefile_measure [dir]`.
//!
//! Workload: 1 M revisions of 300 B appended in order (flushed every 8 MiB), point reads, opening with a full pass,
//! a compaction that removes nine of ten in order, shrinking. Times per entry are CPU time of the thread, which survives a
//! noisy machine better than the clock; they and resident memory are read from /proc.

use plinth_random::Random;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use plinth_engine::pagefile::{FileStore, Options, PageFile, ShrinkProgress};
use plinth_engine::trees::{TreeId, Trees};

const ENTRIES: u64 = 1_000_000;
const VALUE_BYTES: usize = 300;
const FLUSH_BYTES: usize = 8 << 20;

fn key(revision: u64) -> [u8; 18] {
    let mut key = [b'_'; 18];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key[9..17].copy_from_slice(&0u64.to_be_bytes());
    key
}

/// CPU time of this thread.
#[derive(Clone, Copy)]
struct Cpu(u64);

impl Cpu {
    fn now() -> Cpu {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("/proc is there");
        Cpu(stat.split_whitespace().next().and_then(|first| first.parse().ok()).expect("nanoseconds"))
    }

    fn elapsed(self) -> Duration {
        Duration::from_nanos(Cpu::now().0 - self.0)
    }
}

/// Resident memory in MB: anonymous, of files.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).expect("the field is there");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    };
    (field("RssAnon") / 1024, field("RssFile") / 1024)
}

fn report(what: &str, took: Duration, count: u64) {
    let (anonymous, file) = resident();
    let each = took.as_nanos() as f64 / count as f64;
    println!("{what:<34} {took:>10.3?}  {each:>8.0} ns each   anon {anonymous} MB, file {file} MB");
}

/// Flushes; the time by the clock of the writer's part (begin, finish), and the CPU time of the disk's.
fn flush(file: &mut PageFile<FileStore>) -> (Duration, Duration) {
    let start = Instant::now();
    let Some(flush) = file.begin_flush().expect("room for a flush") else { return Default::default() };
    let began = start.elapsed();
    let mut writer = file.store().writer();
    let writing = Cpu::now();
    flush.write_to(&mut writer).expect("the disk works");
    let wrote = writing.elapsed();
    let finishing = Instant::now();
    file.finish_flush(flush);
    (began + finishing.elapsed(), wrote)
}

fn load(path: &Path) -> PageFile<FileStore> {
    let store = FileStore::open(path).expect("the file opens");
    let mut file = PageFile::create(store, Options { file_id: 1 }).expect("the file is new");
    let value = [7; VALUE_BYTES];
    let [mut frozen, mut written, mut longest, mut slowest] = [Duration::ZERO; 4];
    let start = Cpu::now();
    for revision in 0..ENTRIES {
        let insert = Instant::now();
        file.insert(TreeId::Rev, &key(revision), &value).expect("there is room");
        slowest = insert.elapsed().max(slowest);
        file.insert(TreeId::Meta, b"applied", &revision.to_le_bytes()).expect("there is room");
        if file.dirty_bytes() >= FLUSH_BYTES {
            let (began, wrote) = flush(&mut file);
            longest = began.max(longest);
            frozen += began;
            written += wrote;
        }
    }
    let (began, wrote) = flush(&mut file);
    let total = start.elapsed();
    report("append + mark, without writing", total - written - wrote, ENTRIES);
    println!("  freezing: {:?} in all, {longest:?} at most; writing: {:?}", frozen + began, written + wrote);
    println!("  slowest insert: {slowest:?}");
    println!("  size {} MB, in use {} MB", file.size_bytes() >> 20, file.in_use_bytes() >> 20);
    file
}

fn read(file: &PageFile<FileStore>) {
    let mut random = Random::new(1);
    for (round, range) in [("cold", ENTRIES), ("warm", ENTRIES), ("of 20 k hot", 20_000)] {
        let start = Cpu::now();
        for _ in 0..ENTRIES {
            let found = file.get(TreeId::Rev, &key(random.below(range))).expect("no damage");
            black_box(found.expect("it is there"));
        }
        report(&format!("random gets, {round}"), start.elapsed(), ENTRIES);
    }
}

fn scan(file: &PageFile<FileStore>, what: &str, cold: bool) {
    let start = Cpu::now();
    let (mut count, mut bytes) = (0u64, 0u64);
    let mut visit = |key: &[u8], value: &[u8]| {
        count += 1;
        bytes += (key.len() + usize::from(value[0])) as u64;
        ControlFlow::Continue(())
    };
    let scanned =
        if cold { file.scan_cold(TreeId::Rev, b"", &mut visit) } else { file.scan(TreeId::Rev, b"", &mut visit) };
    scanned.expect("no damage");
    black_box(bytes);
    report(what, start.elapsed(), count);
}

fn compact(file: &mut PageFile<FileStore>) {
    let mut written = Duration::ZERO;
    let start = Cpu::now();
    let mut removed = 0;
    for revision in (0..ENTRIES).filter(|revision| revision % 10 != 0) {
        assert!(file.remove(TreeId::Rev, &key(revision)).expect("no damage"));
        removed += 1;
        if file.dirty_bytes() >= FLUSH_BYTES {
            written += flush(file).1;
        }
    }
    report("compaction, without writing", start.elapsed() - written, removed);
    flush(file);
    flush(file);
    println!("  size {} MB, in use {} MB", file.size_bytes() >> 20, file.in_use_bytes() >> 20);
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let step = Instant::now();
        let progress = file.shrink_step(16).expect("no damage");
        longest = longest.max(step.elapsed());
        match progress {
            ShrinkProgress::More => {}
            ShrinkProgress::AwaitFlush => drop(flush(file)),
            ShrinkProgress::Done | ShrinkProgress::Pinned => break,
        }
    }
    println!("shrunk to {} MB in {:?}, longest step {longest:?}", file.size_bytes() >> 20, start.elapsed());
}

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let path = Path::new(&dir).join("pagefile_measure.tmp");
    let _ = std::fs::remove_file(&path);
    let mut file = load(&path);
    read(&file);
    while !file.trim_resident(64 << 20) {}
    println!("after trimming: {:?} MB", resident());
    drop(file);

    let start = Instant::now();
    let store = FileStore::open(&path).expect("the file opens");
    let file = PageFile::open(store).expect("the file is sound");
    report("open", start.elapsed(), 1);
    scan(&file, "first pass, verifying, cold", true);
    scan(&file, "second pass, cold", true);
    scan(&file, "third pass", false);
    scan(&file, "fourth pass, resident", false);
    let mut file = file;
    compact(&mut file);
    let start = Instant::now();
    println!("{:?}", file.check().expect("sound"));
    report("check", start.elapsed(), 1);
    drop(file);
    let _ = std::fs::remove_file(&path);
}
