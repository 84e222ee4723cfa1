//! A group of one voter, from bootstrap through a crash, driven the way the server drives it.

use bytes::Bytes;
use plinth_raft::batch::{Batch, BatchBuilder};
use plinth_raft::log::{self, LOG_SCHEMA, LogRecovery};
use plinth_raft::{
    ConfState, Entry, EntryId, EntryKind, Group, GroupConfig, GroupId, MemberId, Ready, RecoveredLog, Role,
};

const ME: MemberId = MemberId(0x8e9e05c52164694d);

/// Records as the log would hold them; flushed up to `durable`.
#[derive(Default, Clone)]
struct Disk {
    records: Vec<(u8, Vec<u8>)>,
    durable: usize,
}

impl Disk {
    fn hard_state(&mut self, state: &plinth_raft::HardState) {
        self.records.push((b'h', log::encode_hard_state(state).to_vec()));
    }

    fn entry(&mut self, entry: &Entry) {
        let mut payload = log::entry_header(entry).to_vec();
        payload.extend_from_slice(&entry.data);
        self.records.push((b'e', payload));
    }

    fn ready(&mut self, ready: &Ready) {
        assert!(ready.snapshot.is_none());
        if let Some(state) = &ready.hard_state {
            self.hard_state(state);
        }
        for entry in &ready.entries {
            self.entry(entry);
        }
    }

    fn recover(&self, applied: EntryId) -> RecoveredLog {
        let mut recovery = LogRecovery::new(applied);
        for (kind, payload) in &self.records[..self.durable] {
            match kind {
                b'h' => recovery.hard_state(LOG_SCHEMA, payload).expect("hard state"),
                _ => recovery.entry(LOG_SCHEMA, payload).expect("entry"),
            }
        }
        recovery.finish().expect("a log that fits")
    }
}

/// The state machine: every command applied, and the configuration.
#[derive(Default, Clone)]
struct Store {
    applied: EntryId,
    conf: ConfState,
    commands: Vec<Vec<u8>>,
}

fn apply(group: &mut Group, store: &mut Store, committed: Vec<Entry>) {
    for entry in committed {
        assert_eq!(entry.index, store.applied.index + 1);
        match entry.kind {
            EntryKind::ConfChange => store.conf = group.apply_conf_change(&entry).expect("a change that fits"),
            EntryKind::Normal if entry.data.is_empty() => {}
            EntryKind::Normal => {
                let batch = Batch::parse(&entry.data).expect("own batch");
                assert_eq!(batch.origin(), ME);
                store.commands.extend(batch.iter().map(<[u8]>::to_vec));
            }
        }
        store.applied = entry.id();
        group.on_applied(entry.index);
    }
}

/// Runs until there is nothing to do, flushing after every `Ready`.
fn run(group: &mut Group, disk: &mut Disk, store: &mut Store) -> Vec<(u64, u64)> {
    let mut reads = Vec::new();
    while let Some(ready) = group.ready() {
        assert!(ready.messages.is_empty() && ready.persisted_messages.is_empty());
        disk.ready(&ready);
        disk.durable = disk.records.len();
        group.on_persisted(ready.number);
        reads.extend(ready.read_states.iter().map(|read| (read.token, read.index)));
        apply(group, store, ready.committed);
    }
    reads
}

fn start(disk: &Disk, store: &Store, seed: u64) -> Group {
    let mut config = GroupConfig::new(GroupId(0), ME, seed);
    config.conf = store.conf.clone();
    Group::new(config, disk.recover(store.applied)).expect("a group")
}

fn bootstrapped() -> Disk {
    let mut disk = Disk::default();
    let bootstrap = log::bootstrap(vec![(ME, Bytes::from_static(b"the record of this member"))]);
    for entry in &bootstrap.entries {
        disk.entry(entry);
    }
    disk.hard_state(&bootstrap.hard_state);
    disk.durable = disk.records.len();
    disk
}

fn batch(sequence: u64) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(format!("put {sequence}").as_bytes());
    builder.finish(ME, sequence)
}

#[test]
fn a_single_member_leads_without_a_tick_and_serves() {
    let (mut disk, mut store) = (bootstrapped(), Store::default());
    let mut group = start(&disk, &store, 1);
    run(&mut group, &mut disk, &mut store);
    assert_eq!(group.role(), Role::Leader);
    assert_eq!((group.term(), group.leader(), group.commit()), (2, Some(ME), 2));
    assert_eq!(store.conf, ConfState::of_voters([ME]));

    for sequence in 1..=3 {
        group.propose(batch(sequence)).expect("the leader takes proposals");
    }
    group.read_index(77);
    let reads = run(&mut group, &mut disk, &mut store);
    assert_eq!(reads, [(77, 2)], "the read saw what was committed when it began");
    assert_eq!(store.commands, [b"put 1", b"put 2", b"put 3"]);
    group.read_index(78);
    assert_eq!(run(&mut group, &mut disk, &mut store), [(78, 5)]);
}

#[test]
fn several_readies_in_flight_commit_in_order() {
    let (mut disk, mut store) = (bootstrapped(), Store::default());
    let mut group = start(&disk, &store, 1);
    run(&mut group, &mut disk, &mut store);
    let mut numbers = Vec::new();
    for sequence in 1..=3 {
        group.propose(batch(sequence)).expect("the leader takes proposals");
        let ready = group.ready().expect("entries to persist");
        assert!(ready.committed.is_empty(), "nothing commits before it is durable");
        assert_eq!(ready.entries.len(), 1);
        disk.ready(&ready);
        numbers.push(ready.number);
    }
    assert_eq!(group.status().readies_in_flight, 3);
    // The second flush covers the first; the third is still on its way.
    group.on_persisted(numbers[1]);
    let ready = group.ready().expect("committed entries");
    assert_eq!(ready.committed.iter().map(|entry| entry.index).collect::<Vec<_>>(), [3, 4]);
    apply(&mut group, &mut store, ready.committed);
    group.on_persisted(numbers[2]);
    run(&mut group, &mut disk, &mut store);
    assert_eq!(store.commands.len(), 3);
}

/// Crashes at every durable prefix of the log, with every state the store could have reached by then.
#[test]
fn a_crash_at_any_point_loses_nothing_that_was_applied() {
    let (mut disk, mut store) = (bootstrapped(), Store::default());
    let mut group = start(&disk, &store, 1);
    let mut stores = vec![store.clone()];
    let mut sequence = 0;
    while sequence < 6 {
        run(&mut group, &mut disk, &mut store);
        stores.push(store.clone());
        sequence += 1;
        group.propose(batch(sequence)).expect("the leader takes proposals");
    }
    let bootstrap_records = 2;
    for cut in bootstrap_records..=disk.records.len() {
        for stored in &stores {
            let mut disk = Disk { records: disk.records[..cut].to_vec(), durable: cut };
            let entries = disk.records.iter().filter(|record| record.0 == b'e').count() as u64;
            if stored.applied.index > entries {
                continue; // The store never runs ahead of the log.
            }
            let mut store = stored.clone();
            let mut group = start(&disk, &store, 2);
            run(&mut group, &mut disk, &mut store);
            assert_eq!(group.role(), Role::Leader, "cut {cut}, applied {}", stored.applied.index);
            assert!(store.commands.starts_with(&stored.commands));
            group.propose(batch(99)).expect("the leader takes proposals");
            run(&mut group, &mut disk, &mut store);
            assert_eq!(store.commands.last().map(Vec::as_slice), Some(&b"put 99"[..]));
        }
    }
}
