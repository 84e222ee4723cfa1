//! Five machines with ten groups of three, without time but for ticks: each machine has one log, which a crash tears at any
//! record, and one line to each other.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use plinth_raft::groups::{Groups, GroupsRecovery, Parcel, Refused, RefusedGroup};
use plinth_raft::log::{self, LOG_SCHEMA};
use plinth_raft::{
    ConfState, Entry, EntryId, EntryKind, Group, GroupConfig, GroupId, MemberId, PeerMessage, Ready, RecoveredLog,
    Role, SnapshotMeta,
};
use plinth_wal::{Lsn, Record, RecordKind};

pub const ELECTION: usize = 10;
pub const GROUPS: u32 = 10;
pub const MACHINES: u64 = 5;

pub type Written = (GroupId, RecordKind, Vec<u8>);

/// What a store holds that does not come of the log: the state of a snapshot.
#[derive(Clone, Default)]
pub struct Stored {
    id: EntryId,
    conf: ConfState,
    entries: Vec<Entry>,
}

/// Snapshots by group and last entry: they travel beside the parcels.
type Snapshots = Rc<RefCell<BTreeMap<(GroupId, u64), Stored>>>;

/// The one log of a machine; records up to `durable` survive.
#[derive(Default)]
pub struct Disk {
    pub records: Vec<Written>,
    pub durable: usize,
}

impl Disk {
    fn ready(&mut self, id: GroupId, ready: &Ready) {
        if let Some(meta) = &ready.snapshot {
            self.records.push((id, RecordKind::SnapshotMark, log::encode_snapshot_mark(meta.id).to_vec()));
        }
        if let Some(state) = &ready.hard_state {
            self.records.push((id, RecordKind::HardState, log::encode_hard_state(state).to_vec()));
        }
        self.entries(id, &ready.entries);
    }

    fn entries(&mut self, id: GroupId, entries: &[Entry]) {
        for entry in entries {
            self.records.push((id, RecordKind::Entry, [&log::entry_header(entry)[..], &entry.data].concat()));
        }
    }

    fn recover(&self, groups: &[(GroupId, EntryId)]) -> plinth_raft::groups::RecoveredGroups {
        let mut recovery = GroupsRecovery::new(groups.iter().copied());
        for (at, (group, kind, payload)) in self.records[..self.durable].iter().enumerate() {
            let lsn = Lsn::new(at as u64 + 1);
            recovery.record(&Record { lsn, group: *group, kind: *kind, schema: LOG_SCHEMA, payload });
        }
        recovery.finish()
    }
}

struct Flush {
    number: u64,
    id: GroupId,
    records: usize,
    messages: Vec<PeerMessage>,
}

pub struct Machine {
    pub id: MemberId,
    pub disk: Disk,
    pub groups: Option<Groups>,
    flushes: VecDeque<Flush>,
    stored: BTreeMap<GroupId, Stored>,
    snapshots: Snapshots,
    pub applied: BTreeMap<GroupId, Vec<Entry>>,
    pub refused: Vec<RefusedGroup>,
    pub is_stuck: bool,
    probes: usize,
    pub parcels_sent: u64,
    pub messages_sent: u64,
}

/// Members of a group: three machines in a row.
pub fn members(id: GroupId) -> Vec<MemberId> {
    (0..3).map(|i| MemberId((u64::from(id.0) + i) % MACHINES + 1)).collect()
}

impl Machine {
    fn new(id: MemberId, snapshots: Snapshots) -> Machine {
        let mut disk = Disk::default();
        for group in (0..GROUPS).map(GroupId).filter(|group| members(*group).contains(&id)) {
            let first = log::bootstrap(members(group).into_iter().map(|member| (member, Bytes::new())).collect());
            disk.entries(group, &first.entries);
            disk.records.push((group, RecordKind::HardState, log::encode_hard_state(&first.hard_state).to_vec()));
        }
        disk.durable = disk.records.len();
        Machine {
            id,
            disk,
            groups: None,
            flushes: VecDeque::new(),
            stored: BTreeMap::new(),
            snapshots,
            applied: BTreeMap::new(),
            refused: Vec::new(),
            is_stuck: false,
            probes: 0,
            parcels_sent: 0,
            messages_sent: 0,
        }
    }

    fn start(&mut self, life: u64) {
        let is_mine = |id: &GroupId| members(*id).contains(&self.id) || self.stored.contains_key(id);
        let mine = (0..GROUPS).map(GroupId).filter(is_mine);
        let mine: Vec<_> =
            mine.map(|id| (id, self.stored.get(&id).map_or(EntryId::ZERO, |stored| stored.id))).collect();
        let mut groups = Groups::new(self.id, life, ELECTION, 1);
        self.applied.clear();
        self.refused.clear();
        for (id, recovered) in self.disk.recover(&mine) {
            match recovered {
                Ok(recovered) => {
                    let stored = self.stored.get(&id).cloned().unwrap_or_default();
                    let mut config = GroupConfig::new(id, self.id, life);
                    config.conf = stored.conf;
                    self.applied.insert(id, stored.entries);
                    groups.add(id, Group::new(config, recovered).expect("a group"));
                }
                Err(refused) => self.refused.push(refused),
            }
        }
        self.groups = Some(groups);
    }

    /// A group is to be here, and is empty.
    pub fn create(&mut self, id: GroupId) {
        let group = Group::new(GroupConfig::new(id, self.id, 99), RecoveredLog::empty()).expect("a group");
        self.stored.entry(id).or_default();
        self.groups.as_mut().expect("it runs").add(id, group);
    }

    pub fn crash(&mut self, torn: usize) {
        self.groups = None;
        self.flushes.clear();
        self.probes = 0;
        self.disk.durable = self.disk.records.len().min(self.disk.durable + torn);
        self.disk.records.truncate(self.disk.durable);
    }

    pub fn parcels(&mut self) -> Vec<Parcel> {
        let Some(groups) = &mut self.groups else { return Vec::new() };
        std::iter::from_fn(|| groups.parcel()).collect()
    }

    /// Takes all work, and finishes flushes but for so many.
    pub fn work(&mut self, left_in_flight: usize) {
        let Some(groups) = &mut self.groups else { return };
        loop {
            while let Some((id, mut ready)) = groups.ready() {
                if let Some(meta) = &ready.snapshot {
                    // The store takes it over before the log says so.
                    let stored = self.snapshots.borrow()[&(id, meta.id.index)].clone();
                    self.applied.insert(id, stored.entries.clone());
                    self.stored.insert(id, stored);
                }
                self.disk.ready(id, &ready);
                let (messages, number) = (std::mem::take(&mut ready.persisted_messages), ready.number);
                self.flushes.push_back(Flush { number, id, records: self.disk.records.len(), messages });
                ready.messages.drain(..).for_each(|message| groups.send(message));
                for to in ready.snapshot_requests.drain(..) {
                    let entries = self.applied.get(&id).cloned().unwrap_or_default();
                    let last = entries.last().map_or(EntryId::ZERO, Entry::id);
                    let conf = groups.get(id).expect("it is here").conf().clone();
                    let meta = SnapshotMeta { id: last, conf: conf.clone(), context: Bytes::new() };
                    self.snapshots.borrow_mut().insert((id, last.index), Stored { id: last, conf, entries });
                    groups.with(id, |group| group.provide_snapshot(to, meta));
                }
                for entry in ready.committed.drain(..) {
                    if entry.kind == EntryKind::ConfChange {
                        groups.apply_conf_change(id, &entry).expect("it is here").expect("a change that fits");
                    }
                    let index = entry.index;
                    self.applied.entry(id).or_default().push(entry);
                    groups.on_applied(id, index);
                }
                groups.recycle(ready);
            }
            if groups.probe_is_due() {
                groups.probe_begun();
                self.probes += 1;
            }
            if !self.is_stuck && self.probes > 0 {
                self.probes = 0;
                groups.probe_ended();
            }
            if self.is_stuck || self.flushes.len() <= left_in_flight {
                return;
            }
            let flush = self.flushes.pop_front().expect("one is in flight");
            self.disk.durable = flush.records;
            flush.messages.into_iter().for_each(|message| groups.send(message));
            groups.on_persisted(flush.id, flush.number);
        }
    }
}

pub struct World {
    pub machines: Vec<Machine>,
    network: VecDeque<Parcel>,
    /// From and to; nothing passes.
    pub cut: Vec<(u64, u64)>,
    /// A machine makes a group that it is spoken to about and does not know.
    pub creates: bool,
    lives: u64,
    seed: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let snapshots = Snapshots::default();
        let machines = (1..=MACHINES).map(|id| Machine::new(MemberId(id), snapshots.clone())).collect();
        let (network, cut) = (VecDeque::new(), Vec::new());
        let mut world = World { machines, network, cut, creates: false, lives: 0, seed };
        (1..=MACHINES).for_each(|id| world.start(id));
        world
    }

    pub fn machine(&mut self, id: u64) -> &mut Machine {
        &mut self.machines[id as usize - 1]
    }

    pub fn start(&mut self, id: u64) {
        self.lives += 1;
        let life = self.seed ^ (self.lives << 32);
        self.machine(id).start(life);
    }

    pub fn groups(&mut self, id: u64) -> &mut Groups {
        self.machine(id).groups.as_mut().expect("it runs")
    }

    /// Everything that can happen without time passing.
    pub fn run_until_quiet(&mut self) {
        loop {
            for machine in &mut self.machines {
                machine.work(0);
                for parcel in machine.parcels() {
                    machine.parcels_sent += 1;
                    machine.messages_sent += parcel.messages.len() as u64;
                    self.network.push_back(parcel);
                }
            }
            let Some(parcel) = self.network.pop_front() else { return };
            self.deliver(parcel);
        }
    }

    pub fn deliver(&mut self, parcel: Parcel) {
        let pair = (parcel.from.0, parcel.to.0);
        let machine = &mut self.machines[pair.1 as usize - 1];
        if self.cut.contains(&pair) {
            return;
        }
        let Some(groups) = &mut machine.groups else { return };
        let mut frame = Vec::new();
        parcel.encode(&mut frame);
        let decoded = groups.decode(&frame.into()).expect("own parcel");
        assert_eq!(decoded, parcel);
        let mut unknown = Vec::new();
        groups.receive(decoded, |id, why| match why {
            Refused::Unknown => unknown.push(id),
            Refused::Step(_) => {}
        });
        if self.creates {
            unknown.dedup();
            unknown.into_iter().for_each(|id| machine.create(id));
        }
    }

    /// Nothing passes between two machines any more.
    pub fn part(&mut self, left: u64, right: u64) {
        self.cut.extend([(left, right), (right, left)]);
    }

    pub fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.machines.iter_mut().filter_map(|machine| machine.groups.as_mut()).for_each(Groups::tick);
            self.run_until_quiet();
        }
    }

    pub fn leader(&self, id: GroupId) -> Option<u64> {
        let leads = |machine: &&Machine| {
            machine.groups.as_ref().and_then(|groups| groups.get(id)).is_some_and(|group| group.role() == Role::Leader)
        };
        let term = |machine: &&Machine| machine.groups.as_ref().and_then(|groups| groups.get(id)).map(Group::term);
        self.machines.iter().filter(leads).max_by_key(term).map(|machine| machine.id.0)
    }

    pub fn propose(&mut self, id: GroupId, data: &'static [u8]) -> bool {
        let Some(leader) = self.leader(id) else { return false };
        self.groups(leader).propose(id, Bytes::from_static(data)).is_ok()
    }

    pub fn sleeping(&self) -> usize {
        let of = |groups: &Groups| groups.ids().filter(|id| groups.is_asleep(*id)).count();
        self.machines.iter().filter_map(|machine| machine.groups.as_ref()).map(of).sum()
    }

    /// What members of a group have applied is the same, as far as both have.
    pub fn check(&self) {
        for id in (0..GROUPS).map(GroupId) {
            let logs: Vec<&Vec<Entry>> = self.machines.iter().filter_map(|machine| machine.applied.get(&id)).collect();
            for pair in logs.windows(2) {
                let both = pair[0].len().min(pair[1].len());
                assert_eq!(pair[0][..both], pair[1][..both], "group {id}, seed {}", self.seed);
            }
        }
    }
}

pub fn all() -> impl Iterator<Item = GroupId> {
    (0..GROUPS).map(GroupId)
}

impl World {
    pub fn has(&self, member: MemberId, id: GroupId, data: &[u8]) -> bool {
        let applied = self.machines[member.0 as usize - 1].applied.get(&id);
        applied.is_some_and(|applied| applied.iter().any(|entry| entry.data == data))
    }

    pub fn asleep_at(&self, machine: u64, id: GroupId) -> bool {
        self.machines[machine as usize - 1].groups.as_ref().is_some_and(|groups| groups.is_asleep(id))
    }

    /// The highest term of a group.
    pub fn term(&self, id: GroupId) -> u64 {
        let of = |machine: &Machine| machine.groups.as_ref().and_then(|groups| groups.get(id)).map_or(0, Group::term);
        self.machines.iter().map(of).max().unwrap_or(0)
    }

    pub fn commit(&mut self, machine: u64, id: GroupId) -> u64 {
        self.groups(machine).get(id).expect("it is here").commit()
    }
}
