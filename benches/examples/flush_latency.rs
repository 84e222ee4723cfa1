//! Measures flushes of the real log in a folder: latency and CPU, per sync mode, size and depth.
//!
//! `cargo run --release -p plinth-benches --example flush_latency -- <folder> [rounds]`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use plinth_wal::*;
use plinth_wal_uring::*;

/// User and system time of this process, io_uring's workers included, in seconds.
fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let seconds = |at: usize| fields[at].parse::<f64>().expect("ticks") / 100.0;
    (seconds(11), seconds(12))
}

fn report(name: &str, mut took: Vec<Duration>, before: (f64, f64), wall: Duration) {
    let after = cpu_seconds();
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_micros();
    let per = 1e6 / took.len() as f64;
    println!(
        "{name:<34} p50 {:>5} p90 {:>5} p99 {:>6} max {:>6} us   cpu/flush user {:>5.1} sys {:>5.1} us   {:>6.0} flushes/s",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        (after.0 - before.0) * per,
        (after.1 - before.1) * per,
        took.len() as f64 / wall.as_secs_f64(),
    );
}

fn blocking(folder: &Path, rounds: usize) {
    use std::os::unix::fs::FileExt;
    let path = folder.join("blocking.bin");
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).expect("open");
    file.write_all(&vec![0; 64 << 20]).expect("fill");
    file.sync_all().expect("sync");
    let block = [7u8; 4096];
    let (before, start) = (cpu_seconds(), Instant::now());
    let took = (0..rounds).map(|round| {
        let started = Instant::now();
        file.write_all_at(&block, (round as u64 * 4096) % (64 << 20)).expect("write");
        file.sync_data().expect("sync");
        started.elapsed()
    });
    let took = took.collect();
    report("blocking write+fdatasync, 4 KiB", took, before, start.elapsed());
    std::fs::remove_file(path).expect("remove");
}

fn uring(folder: &Path, rounds: usize, mode: SyncMode, bytes: usize, depth: usize) {
    let folder = folder.join("uring");
    let options = UringOptions { sync: mode, ..Default::default() };
    let disk = UringDisk::open(&folder, options).expect("disk");
    let registered = disk.buffers_registered();
    let options = WalOptions { flushes_in_flight: depth, ..WalOptions::new(WalId(1)) };
    let (mut wal, _) = Wal::open(disk, options).expect("wal");
    let payload = vec![7u8; bytes - limits::RECORD_HEADER_BYTES];
    let mut started = std::collections::VecDeque::new();
    let mut took = Vec::with_capacity(rounds);
    // Let the first segments be made first.
    std::thread::sleep(Duration::from_millis(500));
    let (before, start) = (cpu_seconds(), Instant::now());
    while took.len() < rounds {
        while wal.can_flush() {
            let lsn = wal.append(GroupId(0), RecordKind::Entry, 1, &[&payload]);
            started.push_back((lsn, Instant::now()));
            wal.flush().expect("flush");
        }
        wal.disk_mut().wait().expect("wait");
        let durable = wal.poll().expect("poll");
        while started.front().is_some_and(|(lsn, _)| *lsn <= durable) {
            took.push(started.pop_front().expect("checked").1.elapsed());
        }
        wal.release_before(durable);
    }
    let name =
        format!("{mode:?}, {} KiB, depth {depth}{}", bytes >> 10, if registered { "" } else { ", unregistered" });
    report(&name, took, before, start.elapsed());
    drop(wal);
    std::fs::remove_dir_all(folder).expect("remove");
}

/// Times opening a log with this many bytes of records in entries of 16 KiB.
fn reopening(folder: &Path, bytes: usize) {
    let folder = folder.join("reopen");
    let open = || {
        let disk = UringDisk::open(&folder, UringOptions::default()).expect("disk");
        let started = Instant::now();
        let mut records = 0u64;
        let (wal, report) =
            Wal::open_with(disk, WalOptions::new(WalId(1)), &mut |_: plinth_wal::Record<'_>| records += 1)
                .expect("wal");
        (wal, report, records, started.elapsed())
    };
    let (mut wal, .., created) = open();
    println!("new log created in {created:?}");
    let payload = vec![7u8; 16 << 10];
    for _ in 0..bytes / payload.len() {
        while wal.room() == 0 || !wal.can_flush() {
            wal.disk_mut().wait().expect("wait");
            wal.poll().expect("poll");
        }
        wal.append(GroupId(0), RecordKind::Entry, 1, &[&payload]);
        wal.flush().expect("flush");
    }
    while wal.poll().expect("poll") < wal.last() {
        wal.disk_mut().wait().expect("wait");
    }
    drop(wal);
    for _ in 0..2 {
        let (_, report, records, took) = open();
        println!("reopened {records} records, {} MiB, in {took:?} ({})", bytes >> 20, report.end);
    }
    std::fs::remove_dir_all(folder).expect("remove");
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder on the disk to measure");
    let rounds = arguments.next().map_or(3000, |rounds| rounds.parse().expect("a number"));
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("create the folder");
    blocking(folder, rounds);
    for bytes in [4 << 10, 64 << 10] {
        for depth in [1, 2, 3] {
            for mode in [SyncMode::Fdatasync, SyncMode::Direct] {
                uring(folder, rounds, mode, bytes, depth);
            }
        }
    }
    for mebibytes in [1, 100, 300] {
        reopening(folder, mebibytes << 20);
    }
}
