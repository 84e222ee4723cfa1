//! kill -9 of a process writing to the real log: what it said was durable is there, and nothing it did not append.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use plinth_wal::*;
use plinth_wal_uring::*;

const FOLDER: &str = "PLINTH_WAL_KILL_FOLDER";

fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..number * 131 % 12_000).map(|at| (at ^ number) as u8));
    bytes
}

fn open(folder: &Path) -> (Wal<UringDisk>, Recovered) {
    let disk = UringDisk::open(folder, UringOptions::default()).expect("disk");
    let options = WalOptions { segment_bytes: 1 << 20, flushes_in_flight: 3, ..WalOptions::new(WalId(8)) };
    Wal::open(disk, options).expect("opens")
}

/// Checks that the records are some of 0, 1, 2 ... without a gap; gives the number after the last.
fn check(recovered: &Recovered) -> u64 {
    let mut expected = None;
    for record in recovered.iter() {
        let number = u64::from_le_bytes(*record.payload.first_chunk().expect("a number"));
        assert!(expected.is_none_or(|expected| expected == number), "{number}, expected {expected:?}");
        assert!(record.payload == payload(number), "record {number}");
        expected = Some(number + 1);
    }
    expected.unwrap_or(0)
}

/// The process that is killed: says each number once it is durable.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let (mut wal, recovered) = open(Path::new(&folder));
    let mut next = check(&recovered);
    let mut waiting = std::collections::VecDeque::new();
    let mut out = std::io::stdout();
    loop {
        while wal.can_flush() {
            for _ in 0..1 + next % 4 {
                waiting.push_back((wal.append(GroupId(0), RecordKind::Entry, 1, &[&payload(next)]), next));
                next += 1;
            }
            // Every other time the first of them is waited for, directly or not, and others queue behind it.
            wal.disk_mut().attend(next.is_multiple_of(2));
            wal.flush().expect("flush");
        }
        match wal.disk().is_attended() {
            true if wal.disk_mut().wait_attended() => {}
            true => std::thread::yield_now(),
            false => wal.disk_mut().wait().expect("wait"),
        }
        let durable = wal.poll().expect("poll");
        while waiting.front().is_some_and(|(lsn, _)| *lsn <= durable) {
            let (_, number) = waiting.pop_front().expect("checked");
            writeln!(out, "durable {number}").expect("the parent reads");
        }
        out.flush().expect("the parent reads");
        wal.release_before(Lsn::new(durable.get().saturating_sub(500)));
    }
}

#[test]
fn what_was_durable_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut said = 0;
    for life in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawned");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let reader = std::thread::spawn(move || {
            let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ")?.parse().ok());
            numbers.last()
        });
        std::thread::sleep(Duration::from_millis(150 + 70 * life));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let durable: Option<u64> = reader.join().expect("read to its end");
        let (_, recovered) = open(folder.path());
        let next = check(&recovered);
        assert!(durable.is_none_or(|durable| durable < next), "life {life}: {durable:?} was durable, next is {next}");
        said += u64::from(durable.is_some());
    }
    assert!(said >= 2, "the child had time to write in {said} lives only");
}
