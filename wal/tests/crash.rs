//! Power cuts at every step, in every manner, several lives long; failed writes, failed syncs, full disks.

mod support;

use std::collections::BTreeSet;

use plinth_wal::sim_disk::{Loss, Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::*;
use support::{Ledger, loss, options};

/// A run without a crash: counts its steps.
fn count_steps(seed: u64, rounds: u64) -> u64 {
    let medium = SimMedium::new();
    let mut rng = Rng::new(seed);
    let options = options(&mut rng);
    Ledger::default().live(&medium, &options, &mut rng, rounds).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    medium.steps()
}

/// The same run again, ending at `step`; then a look at what is left, and another life on it.
fn crash_at(seed: u64, rounds: u64, step: u64, how: Loss) -> Result<(), String> {
    let medium = SimMedium::new();
    let mut rng = Rng::new(seed);
    let options = options(&mut rng);
    let mut ledger = Ledger::default();
    medium.crash_at(step);
    ledger.live(&medium, &options, &mut rng, rounds)?;
    medium.crash(how, seed ^ step);
    ledger.live(&medium, &options, &mut rng, 10)?;
    // A kill leaves the cache ahead of the medium; what was said since must survive the power cut that follows.
    medium.crash(Loss::All, seed);
    ledger.live(&medium, &options, &mut rng, 0)
}

#[test]
fn every_step_is_survived_in_every_manner() {
    for seed in 0..12 {
        let rounds = 150;
        let steps = count_steps(seed, rounds);
        assert!(steps > 40, "seed {seed}: {steps} steps");
        for step in 1..=steps {
            for how in Loss::ALL {
                crash_at(seed, rounds, step, how)
                    .unwrap_or_else(|error| panic!("seed {seed}, step {step} of {steps}, {how:?}: {error}"));
            }
        }
    }
}

#[test]
fn many_lives() {
    let mut ends = BTreeSet::new();
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let medium = SimMedium::new();
        let options = options(&mut rng);
        let mut ledger = Ledger::default();
        for life in 0..12 {
            if rng.chance(80) {
                medium.crash_at(medium.steps() + 1 + rng.below(120));
            }
            let rounds = rng.below(200);
            ledger
                .live(&medium, &options, &mut rng, rounds)
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            medium.crash(loss(&mut rng), rng.bits());
        }
        ends.extend(ledger.ends);
    }
    // Every row of the recovery table that a crash can lead to was met.
    let all =
        ["clean end", "clean end, stale behind", "torn before its header", "torn record", "torn tail, out of order"];
    assert_eq!(ends, all.into());
}

/// Whatever fails, it stops the log for good, names the file and the error, and loses nothing that was durable. After
/// a failed sync the cache lies about what arrived: the restart must not believe it.
#[test]
fn a_failure_at_any_step_is_fatal_and_loses_nothing() {
    let mut stopped = 0;
    for seed in 0..6 {
        let rounds = 150;
        let steps = count_steps(seed, rounds);
        for step in 1..=steps {
            let medium = SimMedium::new();
            let mut rng = Rng::new(seed);
            let options = options(&mut rng);
            let mut ledger = Ledger::default();
            medium.fail_at(step, libc::EIO);
            if let Err(error) = ledger.live(&medium, &options, &mut rng, rounds) {
                assert!(error.contains("os error 5") || error.contains("Input/output error"), "{error}");
                let named = [".wal", ".spare", ".tmp", "the folder"].iter().any(|name| error.contains(name));
                assert!(named, "{error}");
                stopped += 1;
            }
            for how in [Loss::Nothing, Loss::All] {
                medium.crash(how, seed ^ step);
                ledger
                    .live(&medium, &options, &mut rng, 20)
                    .unwrap_or_else(|error| panic!("seed {seed}, step {step} of {steps}, {how:?}: {error}"));
            }
        }
    }
    assert!(stopped > 100, "{stopped} runs met their failure");
}

fn open(medium: &SimMedium, options: &WalOptions) -> Wal<SimDisk> {
    Wal::open(SimDisk::new(medium, Schedule::InOrder), options.clone()).expect("open").0
}

#[test]
fn a_fault_latches_and_nothing_is_submitted_after_it() {
    for (errno, action) in [(libc::EIO, "write"), (libc::ENOSPC, "write")] {
        let medium = SimMedium::new();
        let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::new(WalId(1)) };
        let mut wal = open(&medium, &options);
        while medium.names().len() < 2 {
            wal.poll().expect("healthy");
        }
        let before = wal.durable();
        wal.append(GroupId(0), RecordKind::Entry, 0, &[b"lost"]);
        wal.flush().expect("submitting succeeds");
        medium.fail_at(medium.steps(), errno);
        let error = wal.poll().expect_err("the write failed");
        assert_eq!((error.0.action, error.0.errno, error.0.offset), (action, errno, Some(4096)));
        assert_eq!(error.0.file, SegmentSeq::FIRST.file_name());
        let steps = medium.steps();
        wal.append(GroupId(0), RecordKind::Entry, 0, &[b"never written"]);
        assert!(!wal.can_flush());
        assert_eq!(wal.flush().expect_err("latched"), error);
        assert_eq!(wal.poll().expect_err("latched"), error);
        assert_eq!((wal.durable(), medium.steps()), (before, steps));
    }
}

#[test]
fn a_full_disk_is_foreseen_and_recovers_online() {
    let segment_bytes = 64 << 10;
    let medium = SimMedium::new();
    let options = WalOptions { segment_bytes, ..WalOptions::new(WalId(1)) };
    medium.set_capacity(Some(2 * segment_bytes));
    let mut wal = open(&medium, &options);
    let mut appended = 0;
    let mut append = |wal: &mut Wal<SimDisk>| {
        wal.append(GroupId(0), RecordKind::Entry, 0, &[&[7; 1000]]);
        wal.flush().expect("flush");
        wal.poll().expect("not fatal");
        appended += 1;
        appended
    };
    while wal.space() == SpaceState::Ok {
        assert!(append(&mut wal) < 1000, "the disk fills up");
    }
    // Short, and still healthy: the whole second segment is there for deletes and compaction.
    assert_eq!(wal.stats().segments_cut, 1);
    let room = wal.room();
    assert!(room > 40 << 10, "{room} bytes");
    wal.retry_space();
    wal.poll().expect("poll");
    assert_eq!(wal.space(), SpaceState::Short, "a retry on a full disk changes nothing");
    while wal.room() > 0 {
        append(&mut wal);
    }
    assert_eq!(wal.durable(), wal.last());
    // Beyond the room: accepted, kept, not durable until there is space.
    let stuck = wal.append(GroupId(0), RecordKind::Entry, 1, &[&[8; 1000]]);
    wal.flush().expect("flush");
    assert!(wal.poll().expect("not fatal") < stuck);
    // The state reached a point where the first segment is not needed.
    wal.release_before(wal.durable());
    while wal.poll().expect("poll") < stuck {}
    assert_eq!(wal.durable(), stuck);
    assert_eq!(wal.space(), SpaceState::Short, "its segment is the last one again");
    wal.release_before(wal.durable());
    wal.poll().expect("poll");
    assert_eq!(wal.space(), SpaceState::Ok);
    assert_eq!(medium.used_bytes(), 2 * segment_bytes, "retired segments were recycled");
}

#[test]
fn a_full_disk_recovers_by_a_retry() {
    let medium = SimMedium::new();
    let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::new(WalId(1)) };
    medium.set_capacity(Some(64 << 10));
    let mut wal = open(&medium, &options);
    wal.poll().expect("not fatal");
    assert_eq!(wal.space(), SpaceState::Short);
    medium.set_capacity(None);
    wal.poll().expect("poll");
    assert_eq!(wal.space(), SpaceState::Short, "nobody asked");
    wal.retry_space();
    assert_eq!(wal.space(), SpaceState::Short, "not before it is there");
    wal.poll().expect("poll");
    assert_eq!(wal.space(), SpaceState::Ok);
}

/// Recovery looks no further behind the last record than the segment's reach, so no more than that may be in flight.
#[test]
fn bytes_in_flight_stay_within_reach() {
    let medium = SimMedium::new();
    let options = WalOptions {
        segment_bytes: 256 << 10,
        buffer_bytes: 4 << 10,
        in_flight_bytes: 8 << 10,
        payload_bytes: 20 << 10,
        flushes_in_flight: 8,
        ..WalOptions::new(WalId(1))
    };
    let mut wal = Wal::open(SimDisk::new(&medium, Schedule::Manual), options).expect("open").0;
    let step = |wal: &mut Wal<SimDisk>, choice: usize| {
        wal.disk_mut().run(choice);
        wal.poll().expect("poll")
    };
    while wal.disk_mut().ready() > 0 {
        step(&mut wal, 0);
    }
    // Each in a chunk of its own: six of one block, one of five.
    for length in [3000, 3000, 3000, 3000, 20_000, 3000, 3000] {
        wal.append(GroupId(0), RecordKind::Entry, 0, &[&vec![1; length]]);
    }
    wal.flush().expect("flush");
    let mut in_flight = Vec::new();
    while wal.durable() < wal.last() {
        in_flight.push(wal.disk_mut().ready());
        // Write, then sync, of the oldest.
        step(&mut wal, 0);
        step(&mut wal, 0);
    }
    // Two blocks together; the large one alone.
    assert_eq!(in_flight, [2, 2, 2, 1, 1, 2, 1]);
}

/// The durable end waits for the oldest flush, whatever finished before it.
#[test]
fn the_durable_end_is_contiguous() {
    let medium = SimMedium::new();
    let options = WalOptions { flushes_in_flight: 3, segment_bytes: 256 << 10, ..WalOptions::new(WalId(1)) };
    let mut wal = Wal::open(SimDisk::new(&medium, Schedule::Manual), options).expect("open").0;
    while wal.disk_mut().ready() > 0 {
        wal.disk_mut().run(0);
        wal.poll().expect("poll");
    }
    let mut lsns = Vec::new();
    for number in 0..4 {
        assert_eq!(wal.can_flush(), number < 3);
        lsns.push(wal.append(GroupId(0), RecordKind::Entry, 0, &[b"x"]));
        wal.flush().expect("flush");
    }
    let finish = |wal: &mut Wal<SimDisk>, flight: usize| {
        wal.disk_mut().run(flight);
        wal.disk_mut().run(flight);
        wal.poll().expect("poll")
    };
    assert_eq!(finish(&mut wal, 2), Lsn::ZERO);
    assert_eq!(finish(&mut wal, 1), Lsn::ZERO);
    assert!(!wal.can_flush(), "slots are free again only in order");
    assert_eq!(finish(&mut wal, 0), lsns[2]);
    // The fourth found no slot and followed by itself.
    assert_eq!(finish(&mut wal, 0), lsns[3]);
    assert!(wal.can_flush());
}

#[test]
fn a_witness_is_written_once_and_only_when_all_is_durable() {
    let medium = SimMedium::new();
    let mut wal = open(&medium, &WalOptions { segment_bytes: 64 << 10, ..WalOptions::new(WalId(1)) });
    wal.witness();
    assert_eq!(wal.last(), Lsn::ZERO, "nothing to bear witness to");
    let record = wal.append(GroupId(0), RecordKind::Entry, 0, &[b"x"]);
    wal.witness();
    assert_eq!(wal.last(), record, "it is not durable yet");
    wal.flush().expect("flush");
    wal.poll().expect("poll");
    wal.witness();
    let witness = wal.last();
    assert_eq!(witness, record.next());
    wal.flush().expect("flush");
    assert_eq!(wal.poll().expect("poll"), witness);
    wal.witness();
    assert_eq!(wal.last(), witness, "nothing is new");
}

/// Options may change between runs: segments made before keep their size and reach, and records find one they fit.
#[test]
fn options_may_change_between_runs() {
    let medium = SimMedium::new();
    let small = WalOptions {
        segment_bytes: 16 << 10,
        buffer_bytes: 4 << 10,
        in_flight_bytes: 4 << 10,
        payload_bytes: 1000,
        segments_ahead: 2,
        ..WalOptions::new(WalId(1))
    };
    let large = WalOptions { segment_bytes: 128 << 10, ..WalOptions::new(WalId(2)) };
    let mut expected = Vec::new();
    for (run, options) in [&small, &large, &small, &large].into_iter().enumerate() {
        let (mut wal, recovered) = Wal::open(SimDisk::new(&medium, Schedule::InOrder), options.clone()).expect("opens");
        assert_eq!(wal.wal_id(), WalId(1), "the identity is the log's own");
        let found: Vec<Vec<u8>> = recovered.iter().map(|record| record.payload.to_vec()).collect();
        // What was not released, at least.
        assert!(expected.ends_with(&found) && found.len() >= expected.len().min(2), "run {run}: {}", found.len());
        for length in [10, 20, 30, 40, 50].map(|part| part * wal.payload_bytes_max() / 50) {
            let payload = vec![run as u8 + 1; length];
            wal.append(GroupId(0), RecordKind::Entry, 0, &[&payload]);
            expected.push(payload);
            wal.flush().expect("flush");
            wal.poll().expect("poll");
        }
        // Retired files of the other size are not recycled.
        wal.release_before(Lsn::new(wal.last().get() - 2));
        for _ in 0..20 {
            wal.poll().expect("poll");
        }
        assert_eq!(wal.durable(), wal.last());
    }
}

#[test]
fn contradicting_options_are_refused() {
    let sound = WalOptions::new(WalId(1));
    let cases = [
        (WalOptions { segment_bytes: 10_000, ..sound.clone() }, "whole blocks"),
        (WalOptions { segment_bytes: 12 << 10, ..sound.clone() }, "16 KiB"),
        (WalOptions { segment_bytes: 2 << 30, ..sound.clone() }, "1 GiB"),
        (WalOptions { flushes_in_flight: 0, ..sound.clone() }, "flushes_in_flight"),
        (WalOptions { flushes_in_flight: 17, ..sound.clone() }, "flushes_in_flight"),
        (WalOptions { in_flight_bytes: 4096, ..sound.clone() }, "in_flight_bytes"),
        (WalOptions { buffer_bytes: 0, ..sound.clone() }, "buffer_bytes"),
        (WalOptions { in_flight_bytes: 2 << 30, ..sound.clone() }, "in_flight_bytes"),
        (WalOptions { segments_ahead: 0, ..sound.clone() }, "segments_ahead"),
    ];
    for (options, says) in cases {
        let medium = SimMedium::new();
        let refused = Wal::open(SimDisk::new(&medium, Schedule::InOrder), options).err().expect("refused");
        assert!(refused.to_string().contains(says), "{refused}");
        assert!(medium.names().is_empty(), "nothing was created");
    }
}
