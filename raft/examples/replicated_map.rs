//! A map on three members in one process: written through the leader, killed, restarted from its log, and caught up.
//!
//! ```text
//! cargo run -p plinth-raft --example replicated_map
//! ```
//! What a shell has to do is all here: a disk for the records of the log, a network, a clock, and a store that applies
//! entries in order. Real ones differ in that they wait for the disk, and flush their stores so that the log can be cut.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use plinth_raft::log::{self, LOG_SCHEMA, LogRecovery};
use plinth_raft::{ConfState, Entry, EntryId, EntryKind, Group, GroupConfig, GroupId, MemberId, PeerMessage, Role};

/// A record of the log, as it would be in a file.
enum Record {
    HardState(Vec<u8>),
    Entry(Vec<u8>),
}

/// What a machine keeps when its process is killed.
#[derive(Default)]
struct Disk(Vec<Record>);

impl Disk {
    fn write(&mut self, hard_state: Option<&plinth_raft::HardState>, entries: &[Entry]) {
        self.0.extend(hard_state.map(|state| Record::HardState(log::encode_hard_state(state).to_vec())));
        let record = |entry: &Entry| Record::Entry([&log::entry_header(entry)[..], &entry.data].concat());
        self.0.extend(entries.iter().map(record));
    }
}

/// A running member: consensus, and the map that it applies entries to.
struct Process {
    group: Group,
    map: BTreeMap<String, String>,
    reads: Vec<(u64, u64)>,
}

impl Process {
    /// Reads the log and begins with an empty map: all that is committed is applied again.
    fn start(id: MemberId, seed: u64, disk: &Disk) -> Process {
        let mut recovery = LogRecovery::new(EntryId::ZERO);
        for record in &disk.0 {
            match record {
                Record::HardState(bytes) => recovery.hard_state(LOG_SCHEMA, bytes),
                Record::Entry(bytes) => recovery.entry(LOG_SCHEMA, bytes),
            }
            .expect("an undamaged record");
        }
        let recovered = recovery.finish().expect("a log without holes");
        let group = Group::new(GroupConfig::new(GroupId(0), id, seed), recovered).expect("a valid configuration");
        Process { group, map: BTreeMap::new(), reads: Vec::new() }
    }

    /// Does what the group wants done. The disk is instantaneous here, so everything may be sent in the end.
    fn work(&mut self, disk: &mut Disk, network: &mut VecDeque<PeerMessage>) {
        while let Some(ready) = self.group.ready() {
            assert!(ready.snapshot.is_none(), "no log is cut here, so nobody needs a snapshot");
            disk.write(ready.hard_state.as_ref(), &ready.entries);
            network.extend(ready.messages);
            network.extend(ready.persisted_messages);
            self.group.on_persisted(ready.number);
            ready.committed.iter().for_each(|entry| self.apply(entry));
            self.reads.extend(ready.read_states.iter().map(|read| (read.token, read.index)));
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match entry.kind {
            EntryKind::ConfChange => drop(self.group.apply_conf_change(entry).expect("a change that fits")),
            EntryKind::Normal => {
                // A new leader's first entry is empty.
                if let Some((key, value)) = String::from_utf8_lossy(&entry.data).split_once('=') {
                    self.map.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        self.group.on_applied(entry.index);
    }
}

struct Machine {
    disk: Disk,
    process: Option<Process>,
}

struct Cluster {
    machines: BTreeMap<MemberId, Machine>,
    network: VecDeque<PeerMessage>,
    seed: u64,
}

impl Cluster {
    /// Every member's log begins with the members of the cluster.
    fn new(ids: [MemberId; 3]) -> Cluster {
        let first = log::bootstrap(ids.map(|id| (id, Bytes::new())).to_vec());
        let machine = |id| {
            let mut disk = Disk::default();
            disk.write(None, &first.entries);
            disk.write(Some(&first.hard_state), &[]);
            (id, Machine { disk, process: None })
        };
        let mut cluster = Cluster { machines: ids.map(machine).into(), network: VecDeque::new(), seed: 1 };
        ids.into_iter().for_each(|id| cluster.start(id));
        cluster
    }

    fn start(&mut self, id: MemberId) {
        self.seed += 1; // Another one for each life of a process.
        let machine = self.machines.get_mut(&id).expect("a machine");
        machine.process = Some(Process::start(id, self.seed, &machine.disk));
    }

    fn kill(&mut self, id: MemberId) {
        self.machines.get_mut(&id).expect("a machine").process = None;
    }

    fn group(&mut self, id: MemberId) -> &mut Process {
        self.machines.get_mut(&id).and_then(|machine| machine.process.as_mut()).expect("it runs")
    }

    /// Time passes for all, and everything that follows from it happens.
    fn tick(&mut self) {
        for process in self.machines.values_mut().filter_map(|machine| machine.process.as_mut()) {
            process.group.tick();
        }
        loop {
            for Machine { disk, process } in self.machines.values_mut() {
                if let Some(process) = process {
                    process.work(disk, &mut self.network);
                }
            }
            let Some(message) = self.network.pop_front() else { return };
            if let Some(process) = &mut self.machines.get_mut(&message.to).expect("a machine").process {
                process.group.step(message).expect("a message between members of the group");
            }
        }
    }

    /// Lets time pass until somebody leads.
    fn leader(&mut self) -> MemberId {
        for _ in 0..100 {
            let leads = |machine: &Machine| machine.process.as_ref().is_some_and(|p| p.group.role() == Role::Leader);
            if let Some((id, _)) = self.machines.iter().find(|(_, machine)| leads(machine)) {
                return *id;
            }
            self.tick();
        }
        panic!("two of three members elect a leader within an election timeout or two");
    }
}

fn main() {
    let mut cluster = Cluster::new([1, 2, 3].map(MemberId));
    let first = cluster.leader();
    println!("{first} leads");
    cluster.group(first).group.propose(Bytes::from_static(b"color=green")).expect("the leader takes it");
    cluster.tick();

    cluster.kill(first);
    let second = cluster.leader();
    println!("{first} was killed, {second} leads");
    cluster.group(second).group.propose(Bytes::from_static(b"shape=round")).expect("the leader takes it");
    cluster.tick();

    cluster.start(first);
    (0..3).for_each(|_| cluster.tick());
    // A linearizable read, at the member that was away: it asks the leader how far it has to be.
    cluster.group(first).group.read_index(7);
    cluster.tick();
    let process = cluster.group(first);
    let (token, index) = process.reads[0];
    assert!(token == 7 && process.group.applied() >= index);
    println!("{first} is back and has {:?}", process.map);
    assert_eq!(process.map.len(), 2);
    assert_eq!(*process.group.conf(), ConfState::of_voters([1, 2, 3].map(MemberId)));
}
