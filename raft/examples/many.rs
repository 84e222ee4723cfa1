//! What many groups cost a machine, without any I/O: three machines in one thread, every group on all of them.
//!
//! ```text
//! cargo run --release -p plinth-raft --example many [GROUPS]
//! ```
//! Prints, for 1,000 groups unless another number is given: the time until all have a leader and sleep; memory for each
//! group while they sleep; how much of a core a machine needs for time alone, with groups asleep and awake; and what a round
//! costs in which every group, or some of them, write an entry. Signs of life are sent ten times a second, as etcd's heartbeats are.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use plinth_raft::groups::Groups;
use plinth_raft::log::{bootstrap, entry_header};
use plinth_raft::{ConfState, EntryId, Group, GroupConfig, GroupId, MemberId, PeerMessage, RecoveredLog, Role};

const MACHINES: [u64; 3] = [1, 2, 3];
/// Ticks in a second.
const TICKS: u64 = 10;

struct Machine {
    groups: Groups,
    flushes: Vec<(GroupId, u64)>,
    promises: Vec<PeerMessage>,
}

fn machine(id: u64, count: u32) -> Machine {
    let voters = MACHINES.map(MemberId);
    let mut groups = Groups::new(MemberId(id), id, 10, 1);
    for number in 0..count {
        let first = bootstrap(voters.iter().map(|voter| (*voter, Bytes::new())).collect());
        let mut recovered = RecoveredLog::bootstrapped(first);
        recovered.applied = EntryId { index: 3, term: 1 };
        let mut config = GroupConfig::new(GroupId(number), MemberId(id), 5);
        config.conf = ConfState::of_voters(voters);
        groups.add(GroupId(number), Group::new(config, recovered).expect("a group"));
    }
    Machine { groups, flushes: Vec::new(), promises: Vec::new() }
}

struct World {
    machines: [Machine; 3],
    wire: VecDeque<(u64, Bytes)>,
    frame: Vec<u8>,
    bytes_sent: u64,
    parcels: u64,
}

impl World {
    fn round(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        while let Some((id, mut ready)) = machine.groups.ready() {
            for entry in &ready.entries {
                std::hint::black_box(entry_header(entry));
            }
            ready.messages.drain(..).for_each(|message| machine.groups.send(message));
            machine.promises.append(&mut ready.persisted_messages);
            machine.flushes.push((id, ready.number));
            if let Some(last) = ready.committed.last() {
                machine.groups.on_applied(id, last.index);
            }
            machine.groups.recycle(ready);
        }
        machine.promises.drain(..).for_each(|message| machine.groups.send(message));
        machine.flushes.drain(..).for_each(|(id, number)| machine.groups.on_persisted(id, number));
        while let Some(parcel) = machine.groups.parcel() {
            self.frame.clear();
            parcel.encode(&mut self.frame);
            self.bytes_sent += self.frame.len() as u64;
            self.parcels += 1;
            self.wire.push_back((parcel.to.0, Bytes::copy_from_slice(&self.frame)));
            machine.groups.recycle_parcel(parcel);
        }
    }

    /// Until nothing is left to do without time passing.
    fn run_until_quiet(&mut self) {
        loop {
            (0..MACHINES.len()).for_each(|at| self.round(at));
            if self.wire.is_empty() {
                return;
            }
            while let Some((to, bytes)) = self.wire.pop_front() {
                let groups = &mut self.machines[to as usize - 1].groups;
                let parcel = groups.decode(&bytes).expect("own parcel");
                groups.receive(parcel, |id, why| panic!("{id}: {why:?}"));
            }
        }
    }

    fn tick(&mut self) {
        self.machines.iter_mut().for_each(|machine| machine.groups.tick());
        self.run_until_quiet();
    }

    fn awake(&self) -> usize {
        self.machines.iter().map(|machine| machine.groups.awake()).sum()
    }

    /// Seconds of one core for a second of a machine's time.
    fn share_of_a_core(&mut self, seconds: u64) -> f64 {
        let start = Instant::now();
        (0..seconds * TICKS).for_each(|_| self.tick());
        start.elapsed().as_secs_f64() / seconds as f64 / MACHINES.len() as f64
    }

    /// Nanoseconds for an entry in each of so many groups, on all machines together.
    fn round_of(&mut self, count: u32) -> f64 {
        let payload = Bytes::from_static(&[7; 300]);
        let (rounds, mut best) = (20, f64::MAX);
        for _ in 0..10 {
            let start = Instant::now();
            for _ in 0..rounds {
                for number in 0..count {
                    let id = GroupId(number);
                    let leads = |machine: &&mut Machine| {
                        machine.groups.get(id).is_some_and(|group| group.role() == Role::Leader)
                    };
                    let leader = self.machines.iter_mut().find(leads).expect("a leader");
                    leader.groups.propose(id, payload.clone()).expect("the leader takes it");
                }
                self.run_until_quiet();
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds) / f64::from(count));
        }
        best
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() {
    let count = std::env::args().nth(1).map_or(1000, |count| count.parse().expect("a number of groups"));
    let before = resident();
    let start = Instant::now();
    let machines = MACHINES.map(|id| machine(id, count));
    let (wire, frame) = (VecDeque::new(), Vec::new());
    let mut world = World { machines, wire, frame, bytes_sent: 0, parcels: 0 };
    println!("{count} groups of three; made in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let (start, mut ticks) = (Instant::now(), 0);
    while world.awake() > 0 {
        world.tick();
        ticks += 1;
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    println!("all have a leader and sleep after {ticks} ticks, {took:.0} ms of one core for three machines");
    let led = world.machines.each_ref().map(|machine| machine.groups.led());
    println!("led by each machine: {led:?}");
    let bytes = resident().saturating_sub(before) / u64::from(count) / MACHINES.len() as u64;
    println!("asleep: {bytes} bytes resident for each group and machine");
    let sent = (world.parcels, world.bytes_sent);
    let share = world.share_of_a_core(1000);
    let (parcels, bytes) = (world.parcels - sent.0, world.bytes_sent - sent.1);
    println!("asleep: {:.4} % of a core for a machine, {parcels} parcels of {} bytes", share * 100.0, bytes / parcels);
    for writers in [1, 10, 100, count] {
        println!(
            "{writers:>5} groups write: {:>6.0} ns for each entry, on three machines",
            world.round_of(writers.min(count))
        );
    }
    let awake = world.awake();
    let share = world.share_of_a_core(1);
    println!("{} of {} members awake: {:.2} % of a core for a machine", awake, 3 * count, share * 100.0);
}
