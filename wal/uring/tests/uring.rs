//! The log on the real disk: what was durable is read back, across segments, reopenings and sync modes.

use plinth_random::Random;
use plinth_wal::*;
use plinth_wal_uring::*;

const SEGMENT_BYTES: u64 = 256 << 10;

fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES, buffer_bytes: 16 << 10, ..WalOptions::new(WalId(42)) }
}

fn open(folder: &std::path::Path, mode: SyncMode) -> (Wal<UringDisk>, Recovered) {
    let disk = UringOptions { sync: mode, buffer_bytes: 16 << 10, buffers: 4 };
    Wal::open(UringDisk::open(folder, disk).expect("disk"), options()).expect("wal")
}

fn payload(number: u64) -> Vec<u8> {
    (0..number * 37 % 9000).map(|at| (at * 31 + number) as u8).collect()
}

/// Appends records numbered `from..to`, a few per flush, and waits until all are durable.
fn write(wal: &mut Wal<UringDisk>, from: u64, to: u64) {
    for number in from..to {
        let bytes = payload(number);
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        wal.append(GroupId(number as u32 % 3), RecordKind::Entry, number as u16, &[head, tail]);
        if number % 3 == 0 && wal.can_flush() {
            wal.flush().expect("flush");
        }
        wal.poll().expect("poll");
    }
    settle(wal);
}

fn settle(wal: &mut Wal<UringDisk>) {
    let last = wal.last();
    wal.flush().expect("flush");
    while wal.poll().expect("poll") < last {
        wal.disk_mut().wait().expect("wait");
    }
}

fn check(recovered: &Recovered, from: u64, to: u64) {
    let numbers: Vec<u64> = (from..to).collect();
    assert_eq!(recovered.iter().map(|record| u64::from(record.schema)).collect::<Vec<_>>(), numbers);
    for record in recovered.iter() {
        let number = u64::from(record.schema);
        assert_eq!((record.group.0, record.kind), (number as u32 % 3, RecordKind::Entry));
        assert_eq!(record.payload, payload(number), "record {number}");
    }
}

#[test]
fn records_survive_reopening_in_every_mode() {
    for mode in [SyncMode::Fdatasync, SyncMode::Direct, SyncMode::Unsafe] {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut wal, recovered) = open(folder.path(), mode);
        check(&recovered, 0, 0);
        write(&mut wal, 0, 300);
        assert!(wal.stats().segments_cut >= 4, "{:?}", wal.stats());
        drop(wal);
        // The modes read each other's logs.
        for (part, mode) in [SyncMode::Fdatasync, SyncMode::Direct].into_iter().enumerate() {
            let end = 300 + 20 * part as u64;
            let (mut wal, recovered) = open(folder.path(), mode);
            check(&recovered, 0, end);
            assert!(recovered.report.end.starts_with("clean end"), "{:?}", recovered.report);
            write(&mut wal, end, end + 20);
        }
    }
}

/// Polls until everything is durable, also what was waited for in vain.
fn settle_attended(wal: &mut Wal<UringDisk>) {
    wal.flush().expect("flush");
    while wal.poll().expect("poll") < wal.last() {
        if wal.disk().is_attended() {
            std::thread::yield_now();
        } else {
            wal.disk_mut().wait().expect("wait");
        }
    }
}

/// Writes that are waited for, or given up, with others that come meanwhile and are held back behind direct ones.
#[test]
fn writes_that_are_waited_for_mix_with_others() {
    let mut random = Random::from_variable("PLINTH_WAL_ATTENDED_SEED", 2026);
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wal, _) = open(folder.path(), SyncMode::Fdatasync);
    let (mut number, mut waited) = (0, 0);
    let mut append = |wal: &mut Wal<UringDisk>| {
        wal.append(GroupId(number as u32 % 3), RecordKind::Entry, number as u16, &[&payload(number)]);
        number += 1;
        wal.flush().expect("flush");
        number
    };
    let mut end = 0;
    for _ in 0..400 {
        wal.disk_mut().attend(random.chance(80));
        append(&mut wal);
        wal.disk_mut().attend(false);
        for _ in 0..random.below(3) {
            append(&mut wal);
        }
        if random.chance(80) {
            waited += u32::from(wal.disk_mut().wait_attended());
        }
        end = append(&mut wal);
        wal.poll().expect("poll");
        if random.chance(50) {
            settle_attended(&mut wal);
        }
    }
    settle_attended(&mut wal);
    println!("{waited} waits, direct {:?}", wal.disk().attended_time(Way::Direct));
    drop(wal);
    check(&open(folder.path(), SyncMode::Fdatasync).1, 0, end);
}

#[test]
fn segments_are_recycled() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wal, _) = open(folder.path(), SyncMode::Fdatasync);
    for part in 0..20 {
        write(&mut wal, part * 50, part * 50 + 50);
        wal.release_before(wal.durable());
    }
    let cut = wal.stats().segments_cut;
    assert!(cut >= 10, "{cut}");
    assert!(wal.stats().segments_live <= 4, "{:?}", wal.stats());
    let first = wal.first().expect("not empty");
    drop(wal);
    let files = std::fs::read_dir(folder.path()).expect("list").count();
    assert!(files < 10, "{files} files");
    let (_, recovered) = open(folder.path(), SyncMode::Fdatasync);
    assert_eq!(recovered.report.first, Some(first));
    let numbers: Vec<u16> = recovered.iter().map(|record| record.schema).collect();
    assert_eq!(numbers.last(), Some(&999));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

/// Retired files of another size, from before a change of options, are not recycled.
#[test]
fn the_segment_size_may_change_between_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut end = 0;
    for segment_bytes in [SEGMENT_BYTES, 2 * SEGMENT_BYTES, SEGMENT_BYTES] {
        let disk = UringDisk::open(folder.path(), UringOptions::default()).expect("disk");
        let (mut wal, recovered) = Wal::open(disk, WalOptions { segment_bytes, ..options() }).expect("wal");
        assert_eq!(recovered.iter().last().map_or(0, |record| u64::from(record.schema) + 1), end);
        for _ in 0..10 {
            write(&mut wal, end, end + 100);
            end += 100;
            wal.release_before(wal.durable());
        }
    }
    let mut directory = Directory::open(folder.path()).expect("a folder");
    inspect::verify(&mut directory).expect("sound");
}

/// The offline tool's way through the same folder: without a ring, on files.
#[test]
fn offline_inspection_and_repair() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wal, _) = open(folder.path(), SyncMode::Fdatasync);
    write(&mut wal, 0, 300);
    drop(wal);
    let mut directory = Directory::open(folder.path()).expect("a folder");
    let inspection = inspect::inspect(&mut directory).expect("readable");
    assert!(inspection.files.len() >= 5 && inspection.outcome.is_ok(), "{inspection:?}");
    let records: u64 = inspection.contents.values().map(|kind| kind.records).sum();
    assert_eq!(records, 300);
    let sound = inspect::verify(&mut directory).expect("sound");

    let damaged = directory.segment_path(SegmentSeq::new(3));
    let mut bytes = std::fs::read(&damaged).expect("readable");
    bytes[5000] ^= 4;
    std::fs::write(&damaged, &bytes).expect("writable");
    let refused = inspect::verify(&mut directory).expect_err("damaged");
    let OpenError::Corrupt { segment, lsn, .. } = refused else { panic!("{refused}") };
    assert_eq!(segment, SegmentSeq::new(3));
    let report = repair::repair(&mut directory).expect("repaired");
    assert!(report.kept.len() >= 3, "{report:?}");
    let kept = std::fs::read(folder.path().join(format!("{}.1.damaged", segment.file_name()))).expect("kept");
    assert!(kept == bytes, "the damaged file is kept as it was");
    let outcome = report.outcome.expect("a log is left");
    assert_eq!((outcome.last, outcome.first), (lsn.previous(), sound.first));

    let (mut wal, recovered) = open(folder.path(), SyncMode::Fdatasync);
    let end = recovered.iter().count() as u64;
    check(&recovered, 0, end);
    write(&mut wal, end, end + 10);
    drop(wal);
    check(&open(folder.path(), SyncMode::Direct).1, 0, end + 10);
}

/// A file that cannot be read is named.
#[test]
fn faults_name_file_and_errno() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path(), SyncMode::Fdatasync));
    let name = SegmentSeq::FIRST.file_name();
    std::fs::remove_file(folder.path().join(&name)).expect("removed");
    std::fs::create_dir(folder.path().join(&name)).expect("a folder in its place");
    let mut directory = Directory::open(folder.path()).expect("a folder");
    let error = inspect::verify(&mut directory).expect_err("not a file").to_string();
    assert!(error.contains(&name), "{error}");
    let missing = Directory::open(folder.path().join("nothing")).expect_err("not there");
    assert_eq!((missing.action, missing.errno), ("open", libc::ENOENT));
}

/// A real full file system: `PLINTH_SMALL_FS` names an empty folder on one of about 20 MiB.
#[test]
#[ignore = "needs a small file system, e.g. mount -t tmpfs -o size=20m tmpfs <folder>"]
fn a_full_file_system_is_not_fatal() {
    let folder = std::env::var("PLINTH_SMALL_FS").expect("PLINTH_SMALL_FS names a folder");
    let folder = std::path::Path::new(&folder);
    let disk = UringDisk::open(folder.join("wal"), UringOptions::default()).expect("disk");
    let options = WalOptions { segment_bytes: 8 << 20, ..WalOptions::new(WalId(4)) };
    let (mut wal, _) = Wal::open(disk, options).expect("wal");
    let append = |wal: &mut Wal<UringDisk>| {
        let last = wal.append(GroupId(0), RecordKind::Entry, 0, &[&[5; 60_000]]);
        wal.flush().expect("flush");
        while wal.poll().expect("not fatal") < last {
            wal.disk_mut().wait().expect("wait");
        }
    };
    while wal.space() == SpaceState::Ok {
        append(&mut wal);
    }
    let room = wal.room();
    assert!(room > 4 << 20, "{room}");
    for _ in 0..room / 100_000 {
        append(&mut wal);
    }
    wal.release_before(wal.durable());
    while wal.space() == SpaceState::Short {
        wal.disk_mut().wait().expect("wait");
        wal.poll().expect("poll");
    }
    append(&mut wal);
}
