//! What consensus costs per entry: propose, ready, persist, commit, apply for a group of one voter, without any I/O.
//!
//! ```text
//! cargo run --release -p plinth-benches --example consensus_cost
//! ```
//! Prints nanoseconds per entry for several sizes and numbers of readies in flight, and per command for building and
//! reading batches. Each figure is the best of many short runs: what the code takes when nobody else has the core.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use plinth_raft::batch::{Batch, BatchBuilder};
use plinth_raft::log::{bootstrap, entry_header};
use plinth_raft::{ConfState, EntryId, EntryKind, Group, GroupConfig, GroupId, MemberId, PeerMessage, RecoveredLog};

const ME: MemberId = MemberId(1);
/// Entries in a run, and runs; the first ones warm up.
const RUN: u64 = 2_000;
const RUNS: u64 = 100;

fn led_group() -> Group {
    let mut recovered = RecoveredLog::bootstrapped(bootstrap(vec![(ME, Bytes::new())]));
    recovered.applied = EntryId { index: 1, term: 1 };
    let mut config = GroupConfig::new(GroupId(0), ME, 1);
    config.conf = ConfState::of_voters([ME]);
    Group::new(config, recovered).expect("a group")
}

/// Takes what there is to do; returns the number to report as durable, if any.
fn drive(group: &mut Group, in_flight: &mut VecDeque<u64>) {
    while let Some(ready) = group.ready() {
        for entry in &ready.entries {
            black_box(entry_header(entry));
        }
        if ready.must_persist() {
            in_flight.push_back(ready.number);
        }
        if let Some(last) = ready.committed.last() {
            for entry in &ready.committed {
                assert_ne!(entry.kind, EntryKind::ConfChange);
                black_box(&entry.data);
            }
            group.on_applied(last.index);
        }
    }
}

fn per_entry(bytes: usize, depth: usize, reads: bool) -> f64 {
    let mut group = led_group();
    let mut in_flight = VecDeque::new();
    let payload = Bytes::from(vec![7; bytes]);
    let mut best = f64::MAX;
    let mut start = Instant::now();
    for round in 1..=RUNS * RUN {
        group.propose(payload.clone()).expect("the leader takes proposals");
        if reads {
            group.read_index(round);
        }
        drive(&mut group, &mut in_flight);
        if in_flight.len() >= depth {
            let number = in_flight.pop_front().expect("one is in flight");
            group.on_persisted(number);
            drive(&mut group, &mut in_flight);
        }
        if round % RUN == 0 {
            best = best.min(start.elapsed().as_nanos() as f64 / RUN as f64);
            start = Instant::now();
        }
    }
    best
}

fn per_command() -> (f64, f64) {
    let command = [7; 300];
    let batch = 64;
    let mut builder = BatchBuilder::new();
    let (mut build, mut read) = (f64::MAX, f64::MAX);
    for sequence in 0..100_000 {
        let start = Instant::now();
        for _ in 0..batch {
            builder.push(black_box(&command));
        }
        let bytes = builder.finish(ME, sequence);
        build = build.min(start.elapsed().as_nanos() as f64 / f64::from(batch));
        let start = Instant::now();
        let parsed = Batch::parse(&bytes).expect("own batch");
        for command in &parsed {
            black_box(command);
        }
        read = read.min(start.elapsed().as_nanos() as f64 / f64::from(batch));
    }
    (build, read)
}

/// The whole of a cluster of three, messages as frames and back: all members' work for one entry.
fn per_entry_of_three(bytes: usize) -> f64 {
    let ids = [1, 2, 3];
    let member = |id| {
        let mut config = GroupConfig::new(GroupId(0), MemberId(id), 1);
        config.conf = ConfState::of_voters(ids.map(MemberId));
        Group::new(config, RecoveredLog::empty()).expect("a group")
    };
    let mut groups = ids.map(member);
    groups[0].campaign();
    let payload = Bytes::from(vec![7; bytes]);
    let (mut best, mut start) = (f64::MAX, Instant::now());
    let mut frames: VecDeque<(u64, Bytes)> = VecDeque::new();
    for round in 1..=RUNS * RUN / 10 {
        if groups[0].propose(payload.clone()).is_err() {
            assert_eq!(round, 1, "the first proposal comes before the election");
        }
        loop {
            for group in &mut groups {
                while let Some(ready) = group.ready() {
                    group.on_persisted(ready.number);
                    if let Some(last) = ready.committed.last() {
                        group.on_applied(last.index);
                    }
                    for message in ready.messages.iter().chain(&ready.persisted_messages) {
                        frames.push_back((message.to.0, Bytes::from(message.encode())));
                    }
                }
            }
            let Some((to, frame)) = frames.pop_front() else { break };
            let message = PeerMessage::decode(&frame).expect("own frame");
            groups[to as usize - 1].step(message).expect("a message that fits");
        }
        if round % (RUN / 10) == 0 {
            best = best.min(start.elapsed().as_nanos() as f64 / (RUN / 10) as f64);
            start = Instant::now();
        }
    }
    best
}

fn main() {
    for (bytes, depth) in [(300, 1), (16 << 10, 1), (16 << 10, 2), (16 << 10, 4), (1 << 20, 2)] {
        println!("{bytes:>8} B entries, {depth} in flight: {:>6.0} ns per entry", per_entry(bytes, depth, false));
    }
    println!("   16384 B entries, 2 in flight, a read each: {:>6.0} ns per entry", per_entry(16 << 10, 2, true));
    for bytes in [300, 16 << 10] {
        println!("{bytes:>8} B entries, three members in one thread: {:>6.0} ns per entry", per_entry_of_three(bytes));
    }
    let (build, read) = per_command();
    println!("300 B commands, 64 to a batch: {build:.1} ns to push, {read:.1} ns to read");
}
