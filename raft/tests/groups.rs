//! Five machines with ten groups of three, and what one machine shares among its groups: a log that a crash tears at any
//! record, connections, and the notion of who is alive.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use plinth_raft::groups::{Asleep, Groups, GroupsRecovery, Parcel};
use plinth_raft::log::{self, LOG_SCHEMA};
use plinth_raft::{
    Change, ConfChange, ConfState, Entry, EntryId, EntryKind, Group, GroupConfig, GroupId, MemberId, PeerBody,
    PeerMessage, Ready, Role,
};
use plinth_wal::{Lsn, Record, RecordKind};

const ELECTION: usize = 10;
const GROUPS: u32 = 10;
const MACHINES: u64 = 5;

type Written = (GroupId, RecordKind, Vec<u8>);

/// The one log of a machine; records up to `durable` survive.
#[derive(Default)]
struct Disk {
    records: Vec<Written>,
    durable: usize,
}

impl Disk {
    fn ready(&mut self, id: GroupId, ready: &Ready) {
        assert!(ready.snapshot.is_none(), "no log is cut here");
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

    fn recover(&self, groups: &[GroupId]) -> plinth_raft::groups::RecoveredGroups {
        let mut recovery = GroupsRecovery::new(groups.iter().map(|id| (*id, EntryId::ZERO)));
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

struct Machine {
    id: MemberId,
    disk: Disk,
    groups: Option<Groups>,
    flushes: VecDeque<Flush>,
    applied: BTreeMap<GroupId, Vec<Entry>>,
    refused: Vec<GroupId>,
    is_stuck: bool,
    parcels_sent: u64,
}

/// Members of a group: three machines in a row.
fn members(id: GroupId) -> Vec<MemberId> {
    (0..3).map(|i| MemberId((u64::from(id.0) + i) % MACHINES + 1)).collect()
}

impl Machine {
    fn new(id: MemberId) -> Machine {
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
            applied: BTreeMap::new(),
            refused: Vec::new(),
            is_stuck: false,
            parcels_sent: 0,
        }
    }

    fn start(&mut self, seed: u64) {
        let mine: Vec<GroupId> = (0..GROUPS).map(GroupId).filter(|id| members(*id).contains(&self.id)).collect();
        let mut groups = Groups::new(self.id, ELECTION, 1);
        self.applied.clear();
        self.refused.clear();
        for (id, recovered) in self.disk.recover(&mine) {
            match recovered {
                Ok(recovered) => {
                    let config = GroupConfig::new(id, self.id, seed);
                    groups.add(id, Group::new(config, recovered).expect("a group"));
                }
                Err(_) => self.refused.push(id),
            }
        }
        self.groups = Some(groups);
    }

    fn crash(&mut self, torn: usize) {
        self.groups = None;
        self.flushes.clear();
        self.disk.durable = self.disk.records.len().min(self.disk.durable + torn);
        self.disk.records.truncate(self.disk.durable);
    }

    /// Takes all work, and finishes flushes but for so many.
    fn work(&mut self, left_in_flight: usize) {
        let Some(groups) = &mut self.groups else { return };
        loop {
            while let Some((id, mut ready)) = groups.ready() {
                self.disk.ready(id, &ready);
                let (messages, number) = (std::mem::take(&mut ready.persisted_messages), ready.number);
                self.flushes.push_back(Flush { number, id, records: self.disk.records.len(), messages });
                ready.messages.into_iter().for_each(|message| groups.send(message));
                for entry in ready.committed {
                    if entry.kind == EntryKind::ConfChange {
                        groups.apply_conf_change(id, &entry).expect("it is here").expect("a change that fits");
                    }
                    let index = entry.index;
                    self.applied.entry(id).or_default().push(entry);
                    groups.on_applied(id, index);
                }
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

struct World {
    machines: Vec<Machine>,
    network: VecDeque<Parcel>,
    cut: Vec<(u64, u64)>,
    lives: u64,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let machines = (1..=MACHINES).map(|id| Machine::new(MemberId(id))).collect();
        let mut world = World { machines, network: VecDeque::new(), cut: Vec::new(), lives: 0, seed };
        (1..=MACHINES).for_each(|id| world.start(id));
        world
    }

    fn machine(&mut self, id: u64) -> &mut Machine {
        &mut self.machines[id as usize - 1]
    }

    fn start(&mut self, id: u64) {
        self.lives += 1;
        let seed = self.seed ^ (self.lives << 32);
        self.machine(id).start(seed);
    }

    fn groups(&mut self, id: u64) -> &mut Groups {
        self.machine(id).groups.as_mut().expect("it runs")
    }

    /// Everything that can happen without time passing.
    fn settle(&mut self) {
        loop {
            for machine in &mut self.machines {
                machine.work(0);
                let parcels = machine.groups.as_mut().map(Groups::parcels).unwrap_or_default();
                machine.parcels_sent += parcels.len() as u64;
                self.network.extend(parcels);
            }
            let Some(parcel) = self.network.pop_front() else { return };
            self.deliver(parcel);
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        let pair = (parcel.from.0, parcel.to.0);
        if self.cut.contains(&pair) || self.cut.contains(&(pair.1, pair.0)) {
            return;
        }
        if let Some(groups) = &mut self.machines[pair.1 as usize - 1].groups {
            drop(groups.receive(parcel));
        }
    }

    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.machines.iter_mut().filter_map(|machine| machine.groups.as_mut()).for_each(Groups::tick);
            self.settle();
        }
    }

    fn leader(&self, id: GroupId) -> Option<u64> {
        let leads = |machine: &&Machine| {
            machine.groups.as_ref().and_then(|groups| groups.get(id)).is_some_and(|group| group.role() == Role::Leader)
        };
        let term = |machine: &&Machine| machine.groups.as_ref().and_then(|groups| groups.get(id)).map(Group::term);
        self.machines.iter().filter(leads).max_by_key(term).map(|machine| machine.id.0)
    }

    fn propose(&mut self, id: GroupId, data: &'static [u8]) -> bool {
        let Some(leader) = self.leader(id) else { return false };
        self.groups(leader).propose(id, Bytes::from_static(data)).is_ok()
    }

    fn sleeping(&self) -> usize {
        let of = |groups: &Groups| groups.ids().filter(|id| groups.is_asleep(*id)).count();
        self.machines.iter().filter_map(|machine| machine.groups.as_ref()).map(of).sum()
    }

    /// What members of a group have applied is the same, as far as both have.
    fn check(&self) {
        for id in (0..GROUPS).map(GroupId) {
            let logs: Vec<&Vec<Entry>> = self.machines.iter().filter_map(|machine| machine.applied.get(&id)).collect();
            for pair in logs.windows(2) {
                let both = pair[0].len().min(pair[1].len());
                assert_eq!(pair[0][..both], pair[1][..both], "group {id}, seed {}", self.seed);
            }
        }
    }
}

fn all() -> impl Iterator<Item = GroupId> {
    (0..GROUPS).map(GroupId)
}

#[test]
fn groups_elect_sleep_wake_and_sleep_again() {
    let mut world = World::new(1);
    world.tick(30);
    assert!(all().all(|id| world.leader(id).is_some()), "every group has a leader");
    world.tick(30);
    assert_eq!(world.sleeping(), 30, "every member of every group sleeps");
    // Asleep, only signs of life travel: one for each pair of machines that share a group, each way, each tick.
    let sent = |world: &World| world.machines.iter().map(|machine| machine.parcels_sent).sum::<u64>();
    let before = sent(&world);
    world.tick(100);
    assert_eq!(sent(&world) - before, 100 * MACHINES * (MACHINES - 1));
    assert_eq!(world.sleeping(), 30);
    // A proposal at a sleeping follower wakes its group, and no other.
    let id = GroupId(4);
    let follower = members(id).into_iter().find(|member| Some(member.0) != world.leader(id)).expect("a follower");
    world.groups(follower.0).propose(id, Bytes::from_static(b"x")).expect("it knows the leader");
    world.settle();
    assert_eq!(world.sleeping(), 27);
    world.tick(1);
    let has = |machine: &Machine| machine.applied[&id].iter().any(|entry| &entry.data[..] == b"x");
    assert!(members(id).iter().all(|member| has(&world.machines[member.0 as usize - 1])));
    world.tick(30);
    assert_eq!(world.sleeping(), 30);
    world.check();
}

#[test]
fn every_input_wakes() {
    let inputs: [fn(&mut Groups, GroupId, MemberId); 4] = [
        |groups, id, _| drop(groups.propose(id, Bytes::from_static(b"x"))),
        |groups, id, _| groups.read_index(id, 1),
        |groups, id, target| groups.transfer_leader(id, target).expect("the leader can hand over"),
        |groups, id, _| {
            let change = ConfChange::one(Change::AddLearner(9), Bytes::new());
            groups.propose_conf_change(id, &change).expect("the leader takes it");
        },
    ];
    for input in inputs {
        let mut world = World::new(1);
        world.tick(60);
        let (id, leader) = (GroupId(3), world.leader(GroupId(3)).expect("a leader"));
        let target = members(id).into_iter().find(|member| member.0 != leader).expect("another member");
        assert!(world.groups(leader).is_asleep(id));
        input(world.groups(leader), id, target);
        assert!(!world.groups(leader).is_asleep(id));
    }
}

#[test]
fn when_a_machine_dies_only_its_groups_wake_and_they_elect_in_time() {
    let mut world = World::new(3);
    world.tick(60);
    assert_eq!(world.sleeping(), 30);
    let led: Vec<GroupId> = all().filter(|id| world.leader(*id) == Some(2)).collect();
    assert!(!led.is_empty(), "another seed, in which machine 2 leads something");
    world.machine(2).crash(0);
    // Silence for an election time, then the draw of each: within two election times all have new leaders.
    world.tick(2 * ELECTION + 2);
    for id in &led {
        assert!(world.leader(*id).is_some_and(|leader| leader != 2), "group {id} has no leader");
    }
    let strangers: Vec<GroupId> = all().filter(|id| !members(*id).contains(&MemberId(2))).collect();
    for id in strangers {
        let leader = world.leader(id).expect("a leader");
        assert!(world.groups(leader).is_asleep(id), "group {id} has nothing to do with it");
    }
    // A member that is away keeps its groups awake; when it is back, all sleep.
    world.start(2);
    world.tick(60);
    assert_eq!(world.sleeping(), 30);
    world.check();
}

#[test]
fn a_machine_with_a_stuck_disk_leads_nothing() {
    let mut world = World::new(3);
    world.tick(60);
    let led: Vec<GroupId> = all().filter(|id| world.leader(*id) == Some(2)).collect();
    assert!(!led.is_empty());
    world.machine(2).is_stuck = true;
    // One of its groups has something to write; that is how it notices.
    assert!(world.propose(led[0], b"x"));
    world.tick(5 * ELECTION);
    for id in &led {
        assert!(world.leader(*id).is_some_and(|leader| leader != 2), "group {id} is still led by the stuck machine");
    }
    world.machine(2).is_stuck = false;
    world.tick(60);
    assert_eq!(world.sleeping(), 30);
    world.check();
}

#[test]
fn a_member_that_is_behind_is_not_left_asleep() {
    let mut world = World::new(5);
    world.tick(60);
    let id = GroupId(6);
    let leader = world.leader(id).expect("a leader");
    let behind = members(id).into_iter().find(|member| member.0 != leader).expect("a follower").0;
    // What the leader says is lost on the way to one member, and it restarts: it must not believe in sleep before it has
    // what the leader has.
    world.machine(behind).crash(0);
    assert!(world.propose(id, b"x"));
    world.tick(3);
    world.start(behind);
    let (term, commit) = {
        let group = world.groups(leader).get(id).expect("it is here");
        (group.term(), group.commit())
    };
    let asleep = vec![Asleep { group: id, term, commit }];
    let parcel = Parcel { from: MemberId(leader), to: MemberId(behind), alive: true, asleep, messages: Vec::new() };
    drop(world.groups(behind).receive(parcel));
    assert!(!world.groups(behind).is_asleep(id), "it has not caught up");
    world.tick(60);
    assert!(world.groups(behind).is_asleep(id));
    assert_eq!(world.groups(behind).get(id).expect("it is here").commit(), commit);
}

#[test]
fn damage_to_one_groups_records_refuses_that_group_alone() {
    let mut world = World::new(7);
    world.tick(40);
    all().for_each(|id| assert!(world.propose(id, b"x")));
    world.tick(20);
    world.machine(1).crash(0);
    let mine: Vec<GroupId> = all().filter(|id| members(*id).contains(&MemberId(1))).collect();
    let bad = mine[1];
    let machine = world.machine(1);
    let of_bad = |record: &Written| record.0 == bad && record.1 == RecordKind::Entry;
    let at = machine.disk.records.iter().rposition(of_bad).expect("it has entries");
    machine.disk.records[at].2[16] = 9; // An entry of a kind that does not exist.
    world.start(1);
    assert_eq!(world.machine(1).refused, [bad]);
    let ids: Vec<GroupId> = world.groups(1).ids().collect();
    assert_eq!(ids.len(), mine.len() - 1);
    world.tick(60);
    all().for_each(|id| assert!(world.propose(id, b"y"), "group {id}"));
    world.tick(5);
    world.check();
    assert!(world.machine(1).applied[&mine[0]].iter().any(|entry| &entry.data[..] == b"y"));
}

#[test]
fn a_group_that_is_removed_leaves_the_others_alone() {
    let mut world = World::new(8);
    world.tick(60);
    let gone = GroupId(0);
    for member in members(gone) {
        assert!(world.groups(member.0).remove(gone).is_some());
    }
    world.tick(20);
    assert_eq!(world.sleeping(), 27);
    world.machine(1).crash(0);
    world.start(1);
    world.tick(60);
    assert!(all().skip(1).all(|id| world.propose(id, b"x")));
}

/// splitmix64.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)) % bound
}

/// Crashes that tear the shared log at any record, partitions, stuck disks, lost parcels; then all heals and every group must
/// make progress and fall asleep. `PLINTH_SEEDS=n` runs n seeds; a failure names its seed.
#[test]
fn groups_survive_any_weather_and_come_to_rest() {
    let seeds = std::env::var("PLINTH_SEEDS").map_or(40, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let mut dice = seed;
        let mut world = World::new(seed);
        for _ in 0..300 {
            storm(&mut world, &mut dice);
        }
        world.cut.clear();
        for id in 1..=MACHINES {
            world.machine(id).is_stuck = false;
            if world.machine(id).groups.is_none() {
                world.start(id);
            }
        }
        world.tick(100);
        all().for_each(|id| assert!(world.propose(id, b"goal"), "seed {seed}: group {id} has no leader"));
        world.tick(60);
        world.check();
        for id in all() {
            for member in members(id) {
                let applied = &world.machines[member.0 as usize - 1].applied[&id];
                let has = applied.iter().any(|entry| &entry.data[..] == b"goal");
                assert!(has, "seed {seed}: group {id} is behind on machine {member}");
            }
        }
        assert_eq!(world.sleeping(), 30, "seed {seed}: some group does not come to rest");
    }
}

fn storm(world: &mut World, dice: &mut u64) {
    let id = 1 + below(dice, MACHINES);
    let runs = world.machine(id).groups.is_some();
    match below(dice, 20) {
        0 if runs => {
            let torn = below(dice, 6) as usize;
            world.machine(id).crash(torn);
        }
        1 | 2 if !runs => world.start(id),
        3 => {
            let other = 1 + below(dice, MACHINES);
            world.cut.push((id, other));
        }
        4 => world.cut.clear(),
        5 if runs => world.machine(id).is_stuck ^= true,
        6..=9 => drop(world.propose(GroupId(below(dice, u64::from(GROUPS)) as u32), b"x")),
        10 => {
            // Time for one machine, with flushes left in flight and everything it says lost.
            let left = below(dice, 5) as usize;
            let machine = world.machine(id);
            if let Some(groups) = &mut machine.groups {
                groups.tick();
            }
            machine.work(left);
            if let Some(groups) = &mut machine.groups {
                drop(groups.parcels());
            }
        }
        _ => world.tick(1),
    }
    world.check();
}

#[test]
fn a_group_says_nothing_of_another() {
    // A message of a group that is not here is dropped.
    let mut groups = Groups::new(MemberId(1), ELECTION, 1);
    let mut config = GroupConfig::new(GroupId(1), MemberId(1), 1);
    config.conf = ConfState::of_voters([MemberId(1), MemberId(2)]);
    groups.add(GroupId(1), Group::new(config, plinth_raft::RecoveredLog::empty()).expect("a group"));
    let (from, to) = (MemberId(2), MemberId(1));
    let body = PeerBody::Heartbeat { commit: 0, round: None };
    let message = |group| PeerMessage { group, from, to, term: 1, body: body.clone(), entries: Vec::new() };
    let messages = vec![message(GroupId(2)), message(GroupId(1))];
    assert!(groups.receive(Parcel { from, to, alive: true, asleep: Vec::new(), messages }).is_empty());
    assert_eq!(groups.get(GroupId(1)).and_then(Group::leader), Some(from));
    assert!(groups.get(GroupId(2)).is_none());
}
