//! The log on the real disk: what was durable is read back, across segments, reopenings and sync modes.

use plinth_wal::*;

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
