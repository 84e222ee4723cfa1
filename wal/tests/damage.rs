//! Bit rot, lost files, hostile bytes: durable records are recovered or the log is refused, with the place and the
//! next step named; a repair keeps all before the damage; nothing panics.

mod support;

use plinth_wal::inspect::{inspect, verify};
use plinth_wal::repair::{RepairStep, plan, repair};
use plinth_wal::sim_disk::{Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::*;
use support::{Kept, Ledger};

const SEGMENT_BYTES: u64 = 16 << 10;

fn small() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES, buffer_bytes: 4 << 10, ..WalOptions::new(WalId(77)) }
}

fn disk(medium: &SimMedium) -> SimDisk {
    SimDisk::new(medium, Schedule::InOrder)
}

/// A log of several segments, everything durable, a witness at its end. With `released`, its files are recycled ones.
fn sample(records: u64, released: bool) -> (SimMedium, Vec<Kept>) {
    let medium = SimMedium::new();
    let (mut wal, _) = Wal::open(disk(&medium), small()).expect("open");
    let mut rng = Rng::new(records);
    let mut ledger = Ledger::default();
    if released {
        for _ in 0..40 {
            wal.append(GroupId(0), RecordKind::Entry, 0, &[&[3; 3000]]);
            wal.flush().expect("flush");
            let durable = wal.poll().expect("poll");
            wal.release_before(durable);
        }
        let last = wal.last();
        wal.release_before(last);
    }
    for number in 0..records {
        let payload = vec![number as u8; rng.below(1500) as usize];
        let (group, kind, schema) = (GroupId(1), RecordKind::Entry, number as u16);
        let lsn = wal.append(group, kind, schema, &[&payload]);
        ledger.appended.push(Kept { lsn, group, kind, schema, payload });
        if number % 3 == 2 {
            wal.flush().expect("flush");
            wal.poll().expect("poll");
        }
    }
    wal.flush().expect("flush");
    wal.poll().expect("poll");
    wal.witness();
    wal.flush().expect("flush");
    assert_eq!(wal.poll().expect("poll"), wal.last());
    (medium, ledger.appended)
}

fn found(recovered: &Recovered) -> Vec<Kept> {
    recovered.iter().filter(|record| record.group == GroupId(1)).map(Kept::of).collect()
}

/// With a witness behind it, no single damaged byte of a record goes unnoticed: it is either outside all records, and
/// everything is recovered, or the log is refused.
#[test]
fn every_damaged_byte_is_noticed() {
    for released in [false, true] {
        let (medium, appended) = sample(20, released);
        let (mut noticed, mut harmless) = (0, 0);
        let end = verify(&mut disk(&medium)).expect("sound").end;
        assert!(end == "clean end" || (released && end == "clean end, stale behind"), "{end}");
        let seqs = disk(&medium).list().expect("list");
        for seq in seqs {
            for offset in (0..SEGMENT_BYTES).step_by(3) {
                let damaged = medium.fork();
                damaged.flip(seq, offset, 1 << (offset % 8));
                match Wal::open(disk(&damaged), small()) {
                    Ok((_, recovered)) => {
                        assert_eq!(found(&recovered), appended, "segment {seq} offset {offset}");
                        harmless += 1;
                    }
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains(".wal"), "{text}");
                        noticed += 1;
                    }
                }
            }
        }
        assert!(noticed > 4000 && harmless > 1000, "{noticed} noticed, {harmless} harmless");
    }
}

/// Reads on behind damaged records.
#[derive(Default)]
struct Tolerant {
    found: Vec<Kept>,
    damaged: Vec<Damaged>,
}

impl Reader for Tolerant {
    fn record(&mut self, record: Record<'_>) {
        if record.group == GroupId(1) {
            self.found.push(Kept::of(record));
        }
    }

    fn damaged(&mut self, damaged: Damaged) -> bool {
        self.damaged.push(damaged);
        true
    }
}

/// A damaged payload costs its record alone, if the reader wants it so, and is told of at every start; a damaged header
/// could be anybody's.
#[test]
fn what_is_behind_a_damaged_record_is_read_where_its_header_is_sound() {
    for released in [false, true] {
        let (medium, appended) = sample(20, released);
        let (mut alone, mut refused) = (0, 0);
        for seq in disk(&medium).list().expect("list") {
            for offset in (4096..SEGMENT_BYTES).step_by(7) {
                let rotten = medium.fork();
                rotten.flip(seq, offset, 1 << (offset % 8));
                let mut reader = Tolerant::default();
                let Ok((mut wal, report)) = Wal::open_with(disk(&rotten), small(), &mut reader) else {
                    refused += 1;
                    continue;
                };
                assert_eq!(report.damaged, reader.damaged);
                let Some(damaged) = reader.damaged.first().copied() else { continue };
                assert_eq!((reader.damaged.len(), damaged.segment), (1, seq));
                let others = || appended.iter().filter(|record| record.lsn != damaged.lsn).cloned();
                assert_eq!(reader.found, others().collect::<Vec<_>>(), "segment {seq} offset {offset}");
                alone += 1;
                if alone % 50 == 0 {
                    wal.append(GroupId(1), RecordKind::Entry, 0, &[b"behind"]);
                    wal.flush().expect("flush");
                    wal.poll().expect("poll");
                    drop(wal);
                    let mut again = Tolerant::default();
                    Wal::open_with(disk(&rotten), small(), &mut again).expect("opens as before");
                    assert_eq!((again.damaged, again.found.len()), (vec![damaged], reader.found.len() + 1));
                    assert!(matches!(Wal::open(disk(&rotten), small()), Err(OpenError::Corrupt { .. })));
                }
            }
        }
        assert!(alone > 500 && refused > 50, "{alone} alone, {refused} refused");
    }
}

/// A header that a torn flush left behind the last record is not found in the place of the one that got its number, when that
/// one's header rots: it has another group's name, and ends where a later record may well begin.
#[test]
fn a_stale_header_is_not_blamed_for_a_damaged_one() {
    let options = || WalOptions { buffer_bytes: 12 << 10, ..small() };
    let medium = SimMedium::new();
    let (mut wal, _) = Wal::open(disk(&medium), options()).expect("open");
    wal.append(GroupId(1), RecordKind::Entry, 0, &[b"whole"]);
    let torn = wal.append(GroupId(2), RecordKind::Entry, 0, &[&[7; 6000]]);
    wal.flush().expect("flush");
    wal.poll().expect("poll");
    drop(wal);
    medium.flip(SegmentSeq::FIRST, 2 * 4096 + 99, 1);
    let (mut wal, recovered) = Wal::open(disk(&medium), options()).expect("opens");
    assert_eq!((wal.last(), recovered.report.end), (torn.previous(), "torn record"));
    for payload in [b"first", b"other"] {
        wal.append(GroupId(1), RecordKind::Entry, 0, &[payload]);
        wal.flush().expect("flush");
        wal.poll().expect("poll");
    }
    drop(wal);
    let bytes = medium.read(&SegmentSeq::FIRST.file_name()).expect("there");
    assert!(bytes[4096 + 40..2 * 4096].iter().all(|byte| *byte == 0), "the rest of the block is zeroed");
    medium.flip(SegmentSeq::FIRST, 2 * 4096 + 9, 1);
    let mut reader = Tolerant::default();
    let refused = Wal::open_with(disk(&medium), options(), &mut reader).err();
    assert!(matches!(refused, Some(OpenError::Corrupt { lsn, .. }) if lsn == torn), "{refused:?}");
    assert_eq!(reader.damaged, [], "nobody knows whose it was");
}

#[test]
fn corruption_names_its_place_and_its_witness() {
    let (medium, _) = sample(20, false);
    let report = inspect(&mut disk(&medium)).expect("readable");
    let first = report.segments[0];
    medium.flip(first.header.seq, 4096 + 40, 1);
    let error = Wal::open(disk(&medium), small()).err().expect("refused");
    let OpenError::Corrupt { segment, offset, lsn, witness, .. } = error.clone() else { panic!("{error}") };
    assert_eq!((segment, offset, lsn), (first.header.seq, 4096, Lsn::FIRST));
    assert!(witness > lsn);
    let text = error.to_string();
    for part in ["0000000000000001.wal offset 4096", "record 1 is damaged", "Nothing was changed", "plinth wal repair"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Damage to what was never proven durable is a torn tail: the end of the log without a witness.
#[test]
fn without_a_witness_the_last_record_is_a_torn_tail() {
    let medium = SimMedium::new();
    let (mut wal, _) = Wal::open(disk(&medium), small()).expect("open");
    let first = wal.append(GroupId(0), RecordKind::Entry, 0, &[b"first"]);
    wal.flush().expect("flush");
    wal.poll().expect("poll");
    wal.append(GroupId(0), RecordKind::Entry, 0, &[b"second"]);
    wal.flush().expect("flush");
    wal.poll().expect("poll");
    drop(wal);
    medium.flip(SegmentSeq::FIRST, 2 * 4096 + 33, 1);
    let (wal, recovered) = Wal::open(disk(&medium), small()).expect("opens");
    assert_eq!((wal.last(), recovered.report.end), (first, "torn record"));
    let erased = &recovered.report.erased;
    assert_eq!((erased.len(), erased[0].from, erased[0].to), (1, 2 * 4096, 3 * 4096));
    let bytes = medium.read(&SegmentSeq::FIRST.file_name()).expect("there");
    assert!(bytes[2 * 4096..].iter().all(|byte| *byte == 0), "the torn tail is zeroed");
}

/// A write is proven by the first one submitted after it ended, also when all records were appended in one burst.
#[test]
fn a_burst_proves_all_but_its_last_writes() {
    for flushes_in_flight in 1..=3 {
        let medium = SimMedium::new();
        // Writes of one block, one record each; several segments.
        let options = WalOptions { flushes_in_flight, in_flight_bytes: 16 << 10, ..small() };
        let shuffled = Schedule::Shuffled(Rng::new(flushes_in_flight as u64));
        let (mut wal, _) = Wal::open(SimDisk::new(&medium, shuffled), options.clone()).expect("open");
        let mut places = Vec::new();
        for _ in 0..12 {
            wal.append(GroupId(1), RecordKind::Entry, 0, &[&[9; 3000]]);
        }
        wal.flush().expect("flush");
        while wal.durable() < wal.last() {
            wal.poll().expect("poll");
        }
        drop(wal);
        for segment in inspect(&mut disk(&medium)).expect("readable").segments {
            // Seals take a block of their own as well.
            places.extend((0..segment.records).map(|at| (segment.header.seq, (1 + at) * 4096)));
        }
        assert!(places.len() > 14, "{places:?}");
        let proven = places.len() - flushes_in_flight;
        for (number, (seq, offset)) in places.into_iter().enumerate() {
            let damaged = medium.fork();
            damaged.flip(seq, offset + 9, 1);
            let refused = Wal::open(disk(&damaged), options.clone()).is_err();
            assert!(refused || number >= proven, "write {number}, {flushes_in_flight} in flight");
            assert!(!refused || number + 1 < proven + flushes_in_flight, "nothing proves the last write");
        }
    }
}

type Damage = fn(&SimMedium);

/// Named cases: what is done to a sound log of at least four segments, and what open must say.
const REFUSALS: &[(&str, Damage, &str)] = &[
    ("first segment's header", |m| m.flip(SegmentSeq::new(1), 20, 1), "0000000000000001.wal offset 0: bad header"),
    ("magic", |m| m.flip(SegmentSeq::new(2), 0, 1), "0000000000000002.wal offset 0: bad header: not a segment"),
    ("middle segment gone", |m| m.delete("0000000000000002.wal"), "0000000000000002.wal is missing"),
    ("all behind a seal gone", |m| delete_from(m, 3), "0000000000000003.wal is missing"),
    ("first segment gone", |m| m.delete("0000000000000001.wal"), ""),
    ("segment cut short", |m| resize(m, 3, -512), "0000000000000003.wal: 15872 bytes, its header says 16384"),
    ("segment grown", |m| resize(m, 3, 4096), "0000000000000003.wal: 20480 bytes"),
    ("segment empty", |m| resize(m, 3, -16384), "0000000000000003.wal: 0 bytes"),
    ("files swapped", swap, "0000000000000002.wal offset 0: the header says it is 0000000000000003.wal"),
    ("segment of another log", foreign, "0000000000000002.wal: belongs to log 0000000000000063"),
    ("first record of a later segment", |m| m.flip(SegmentSeq::new(3), 4100, 1), "0000000000000003.wal offset 4096"),
    ("newer version", newer, "format version 2"),
    ("newer kind", newer_kind, "record kind 9 is unknown"),
];

fn delete_from(medium: &SimMedium, from: u64) {
    for name in medium.names() {
        if SegmentSeq::from_file_name(&name).is_some_and(|seq| seq.get() >= from) {
            medium.delete(&name);
        }
    }
}

fn resize(medium: &SimMedium, seq: u64, by: i64) {
    let name = SegmentSeq::new(seq).file_name();
    let mut bytes = medium.read(&name).expect("there");
    bytes.resize((bytes.len() as i64 + by) as usize, 0);
    medium.put(&name, bytes);
}

fn swap(medium: &SimMedium) {
    let (one, other) = (SegmentSeq::new(2).file_name(), SegmentSeq::new(3).file_name());
    let bytes = medium.read(&one).expect("there");
    medium.put(&one, medium.read(&other).expect("there"));
    medium.put(&other, bytes);
}

fn rewrite_header(medium: &SimMedium, seq: u64, change: impl FnOnce(&mut format::SegmentHeader)) {
    let name = SegmentSeq::new(seq).file_name();
    let mut bytes = medium.read(&name).expect("there");
    let mut header = format::SegmentHeader::decode(bytes.first_chunk().expect("64 bytes")).expect("sound");
    change(&mut header);
    bytes[..64].copy_from_slice(&header.encode());
    medium.put(&name, bytes);
}

fn foreign(medium: &SimMedium) {
    rewrite_header(medium, 2, |header| header.wal = WalId(99));
}

fn newer(medium: &SimMedium) {
    let name = SegmentSeq::new(2).file_name();
    let mut bytes = medium.read(&name).expect("there");
    bytes[8] = 2;
    let crc = crc32fast::hash(&[&bytes[..12], &bytes[16..64]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    medium.put(&name, bytes);
}

fn newer_kind(medium: &SimMedium) {
    let name = SegmentSeq::new(2).file_name();
    let mut bytes = medium.read(&name).expect("there");
    let identity = format::Identity::new(WalId(77), SegmentSeq::new(2));
    let raw: &[u8; 32] = bytes[4096..].first_chunk().expect("a header");
    let header = format::RecordHeader { kind: 9, ..format::RecordHeader::decode(raw, identity).expect("sound") };
    bytes[4096..4128].copy_from_slice(&header.encode(identity));
    medium.put(&name, bytes);
}

#[test]
fn refusals_say_what_and_where_and_change_nothing() {
    for (name, damage, says) in REFUSALS {
        let (medium, _) = sample(60, false);
        damage(&medium);
        let before: Vec<_> = medium.names().iter().map(|name| medium.read(name)).collect();
        match Wal::open(disk(&medium), small()) {
            // The log cannot know how far it was released: a missing head is noticed by its readers.
            Ok((_, recovered)) => {
                assert_eq!(*name, "first segment gone");
                assert!(recovered.report.first > Some(Lsn::FIRST));
                continue;
            }
            Err(error) => assert!(error.to_string().contains(says), "{name}: {error}"),
        }
        let after: Vec<_> = medium.names().iter().map(|name| medium.read(name)).collect();
        assert!(before == after, "{name}: changed");
    }
}

/// After a repair the log opens, holds everything before the damage, takes new records, and every byte that was
/// dropped is still in some file.
#[test]
fn a_repair_keeps_all_before_the_damage() {
    for (name, damage, _) in REFUSALS.iter().filter(|(name, ..)| *name != "first segment gone") {
        let (medium, appended) = sample(60, false);
        damage(&medium);
        let problem = verify(&mut disk(&medium)).expect_err("refused");
        let files_before = medium.names().len();
        let planned = plan(&mut disk(&medium));
        if let OpenError::UnknownKind { .. } = problem {
            planned.expect_err("a newer version's log is not for cutting");
            continue;
        }
        let planned = planned.expect("repairable").expect("damaged");
        assert_eq!(planned.problem, problem, "{name}");
        assert_eq!(medium.names().len(), files_before, "planning changes nothing");
        let report = repair(&mut disk(&medium)).expect("repaired");
        assert_eq!(report.plans[0], planned, "{name}");
        let dropped = planned.steps.iter().filter(|s| matches!(s, RepairStep::SetAside(_) | RepairStep::Copy(_)));
        assert!(report.kept.len() >= dropped.count(), "{name}");
        assert!(report.kept.iter().all(|file| medium.read(file).is_some()), "{name}");

        let (mut wal, recovered) = Wal::open(disk(&medium), small()).expect("opens");
        let kept = found(&recovered);
        assert_eq!(kept[..], appended[..kept.len()], "{name}");
        if let OpenError::Corrupt { lsn, .. } = problem {
            assert_eq!(recovered.report.last, lsn.previous(), "{name}");
        }
        wal.append(GroupId(1), RecordKind::Entry, 7, &[b"after the repair"]);
        wal.flush().expect("flush");
        assert_eq!(wal.poll().expect("poll"), wal.last());
        drop(wal);
        let (_, recovered) = Wal::open(disk(&medium), small()).expect("opens again");
        assert_eq!(found(&recovered).len(), kept.len() + 1, "{name}");
    }
}

#[test]
fn several_damages_are_repaired_in_one_go() {
    let (medium, appended) = sample(60, false);
    medium.flip(SegmentSeq::new(1), 4096 + 8, 1);
    medium.flip(SegmentSeq::new(2), 8, 1);
    medium.delete("0000000000000003.wal");
    let report = repair(&mut disk(&medium)).expect("repaired");
    assert!(report.plans.len() >= 2, "{report:?}");
    let (_, recovered) = Wal::open(disk(&medium), small()).expect("opens");
    assert!(appended.starts_with(&found(&recovered)));
}

#[test]
fn a_sound_or_empty_log_needs_no_repair() {
    let (medium, appended) = sample(30, true);
    let before = medium.names();
    let report = repair(&mut disk(&medium)).expect("nothing to do");
    assert!(report.plans.is_empty() && report.kept.is_empty());
    assert_eq!(medium.names(), before);
    let inspection = inspect(&mut disk(&medium)).expect("readable");
    let outcome = inspection.outcome.expect("sound");
    assert_eq!(Some(&outcome), report.outcome.as_ref());
    let summary = inspection.contents[&(GroupId(1), RecordKind::Entry)];
    assert_eq!(summary.records, appended.len() as u64);
    assert_eq!((summary.first, summary.last), (appended[0].lsn, appended[appended.len() - 1].lsn));
    assert_eq!(summary.payload_bytes, appended.iter().map(|kept| kept.payload.len() as u64).sum::<u64>());
    assert_eq!(inspection.files.len(), inspection.segments.len());
    assert_eq!(plan(&mut disk(&SimMedium::new())).expect("readable"), None);
}
