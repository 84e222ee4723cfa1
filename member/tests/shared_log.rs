//! Members of several groups on one machine, and one log under all of them: one flush for all, nothing lost in crashes,
//! nothing given back that one of them needs, and damage to one that is its own matter.

use plinth_engine::command::{Command, Put};
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::pagefile::{Options, PageFile};
use plinth_engine::store::range::RangeQuery;
use plinth_engine::store::{Store, StoreConfig};
use plinth_member::log::Log;
use plinth_member::recover::{self, Identity, RecoverError, Recovered};
use plinth_member::{Effects, META_CONF_STATE, Member, MemberConfig, Pumped};
use plinth_raft::{ConfState, EntryId, GroupConfig, MemberChange, MemberId};
use plinth_wal::sim_disk::{Loss, Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::{GroupId, RecordKind, Wal, WalId, WalOptions};
use std::collections::BTreeMap;

const GROUPS: [GroupId; 3] = [GroupId(3), GroupId(5), GroupId(8)];
const SEGMENT_BYTES: u64 = 64 << 10;
const NOW: Millis = Millis(1);
/// More rounds than anything here needs.
const ROUNDS_MAX: usize = 10_000;

type Data = Store<PageFile<SimStore>>;

/// A member, and how far it has come in the eyes of its client: each put is one revision.
struct Kept {
    member: Member<PageFile<SimStore>, i64>,
    effects: Effects<i64>,
    /// What the flush before the last one held.
    stored: u64,
    /// Revisions that were acknowledged, and that were asked for.
    acknowledged: i64,
}

/// A machine: what survives a crash, and what runs on it.
struct Machine {
    medium: SimMedium,
    data: BTreeMap<GroupId, SimStore>,
    log: Option<Log<SimDisk>>,
    members: BTreeMap<GroupId, Kept>,
    acknowledged: BTreeMap<GroupId, i64>,
    submitted: BTreeMap<GroupId, i64>,
    lives: u64,
}

fn identity(group: GroupId) -> Identity {
    Identity { member: MemberId(7), cluster: u64::from(group.0) + 100 }
}

fn open_data(store: SimStore) -> Data {
    let mut file = match PageFile::open(store.clone()) {
        Ok(file) => file,
        Err(_) => PageFile::create(store, Options { file_id: 1 }).expect("memory does not fail"),
    };
    file.flush_now().expect("memory does not fail");
    Store::open(file, StoreConfig::default()).expect("sound data")
}

fn config(group: GroupId, conf: ConfState, life: u64) -> MemberConfig {
    MemberConfig {
        identity: identity(group),
        group: GroupConfig { conf, ..GroupConfig::new(group, MemberId(7), life) },
        lease_extension_millis: 1000,
        first_sequence: life << 32,
        request_timeout_millis: 60_000,
        learners_max: 1,
        apply_budget: plinth_member::limits::APPLY_PER_PUMP,
    }
}

fn options() -> WalOptions {
    let mut options = WalOptions::new(WalId(1));
    options.segment_bytes = SEGMENT_BYTES;
    (options.buffer_bytes, options.in_flight_bytes, options.payload_bytes) = (4 << 10, 8 << 10, 48 << 10);
    options
}

impl Machine {
    fn new() -> Machine {
        Machine {
            medium: SimMedium::new(),
            data: GROUPS.iter().map(|group| (*group, SimStore::new())).collect(),
            log: None,
            members: BTreeMap::new(),
            acknowledged: GROUPS.iter().map(|group| (*group, 1)).collect(),
            submitted: GROUPS.iter().map(|group| (*group, 1)).collect(),
            lives: 0,
        }
    }

    fn recover(&self, schedule: Schedule) -> (Recovered<SimDisk>, BTreeMap<GroupId, Data>) {
        let stores: BTreeMap<GroupId, Data> =
            self.data.iter().map(|(group, data)| (*group, open_data(data.clone()))).collect();
        let applied = |store: &Data| EntryId { index: store.applied().index, term: store.applied().term };
        let groups: Vec<_> = stores.iter().map(|(group, store)| (*group, applied(store))).collect();
        let found = recover::recover(SimDisk::new(&self.medium, schedule), options(), groups).expect("a sound log");
        (found, stores)
    }

    /// Starts all members, those of new groups with a bootstrap.
    fn start(&mut self, schedule: Schedule) {
        self.start_but(None, schedule);
    }

    /// Starts all members but that of a group that is refused.
    fn start_but(&mut self, refused: Option<GroupId>, schedule: Schedule) {
        self.lives += 1;
        let (mut found, stores) = self.recover(schedule);
        for (group, store) in stores {
            if refused == Some(group) {
                assert!(found.take(group).is_err(), "it does not hold together");
                continue;
            }
            let recovered = found.take(group).expect("each group holds together");
            let mut entries = recovered.log;
            if !recover::is_bootstrapped(&entries) {
                let record = plinth_raft::Member { id: MemberId(7), ..plinth_raft::Member::default() };
                let founder = vec![(MemberId(7), MemberChange::Add(record).encode())];
                entries = recover::append_bootstrap(&mut found.log, group, identity(group), founder);
            } else {
                assert_eq!(recovered.identity, Some(identity(group)), "who it is was not given back");
            }
            let conf = store.meta(META_CONF_STATE).expect("sound data");
            let conf = conf.map(|bytes| ConfState::decode(bytes).expect("sound data")).unwrap_or_default();
            let stored = store.applied().index;
            let member = Member::new(config(group, conf, self.lives), entries, store).expect("a sound member");
            let acknowledged = self.acknowledged[&group];
            self.members.insert(group, Kept { member, effects: Effects::default(), stored, acknowledged });
        }
        found.log.flush().expect("a good disk");
        while !found.log.is_durable() {
            found.log.poll().expect("a good disk");
        }
        self.log = Some(found.log);
        for group in self.members.keys().copied().collect::<Vec<_>>() {
            self.check(group);
        }
    }

    /// After a start: whoever leads has applied all that was acknowledged, and nothing that was not asked for.
    fn check(&mut self, group: GroupId) {
        self.wait(|machine| machine.members[&group].member.is_leader());
        assert!(self.kept(group).member.read(0, NOW).is_ok(), "there is room");
        self.wait(|machine| machine.members[&group].member.pending_reads() == 0);
        let (acknowledged, submitted) = (self.acknowledged[&group], self.submitted[&group]);
        let kept = self.kept(group);
        let store = kept.member.store();
        let revision = store.revision();
        assert!((acknowledged..=submitted).contains(&revision), "{group:?}: {acknowledged}, {revision}, {submitted}");
        let prefix = format!("{}/", group.0);
        let end = format!("{}0", group.0);
        let query = RangeQuery { key: prefix.as_bytes(), range_end: end.as_bytes(), ..RangeQuery::default() };
        let found = store.range(&query, &mut Vec::new()).expect("sound data").count;
        assert_eq!(found, revision - 1, "{group:?} has its own keys alone");
        assert_eq!(store.live_keys() as i64, revision - 1, "{group:?} has no keys of others");
        kept.acknowledged = revision;
        self.submitted.insert(group, revision);
    }

    fn kept(&mut self, group: GroupId) -> &mut Kept {
        self.members.get_mut(&group).expect("it runs")
    }

    fn put(&mut self, group: GroupId, bytes: usize) {
        let submitted = self.submitted.get_mut(&group).expect("it is known");
        *submitted += 1;
        let waiter = *submitted;
        let key = format!("{}/{waiter:08}", group.0).into_bytes();
        let put = Command::Put(Put { key: key.into(), value: vec![b'v'; bytes].into(), ..Put::default() });
        assert!(self.kept(group).member.submit(|out| put.encode_into(out), waiter, NOW).is_ok(), "there is room");
    }

    /// One round of all members: each fills the log, one flush, each applies.
    fn round(&mut self) {
        let log = self.log.as_mut().expect("it runs");
        log.poll().expect("a good disk");
        loop {
            let mut moved = false;
            for kept in self.members.values_mut() {
                moved |= kept.member.fill(log, NOW, &mut kept.effects).expect("a good disk");
            }
            if !log.flush_awaited().expect("a good disk") && !moved {
                break;
            }
        }
        for (group, kept) in &mut self.members {
            while kept.member.apply_committed(NOW, &mut kept.effects).expect("sound data") == Pumped::More {}
            for (revision, result) in kept.effects.applied.drain(..) {
                assert_eq!(result.expect("it fits").revision, revision, "{group:?} answers in order");
                kept.acknowledged = revision;
            }
            assert!(kept.effects.lost.is_empty() && kept.effects.messages.is_empty());
            kept.effects.reads.clear();
        }
    }

    fn wait(&mut self, is_done: impl Fn(&Machine) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if is_done(self) {
                return;
            }
            self.round();
        }
        panic!("it does not come to an end");
    }

    /// Flushes the data of a group, as the server does: the log keeps what the flush before did not hold.
    fn store(&mut self, group: GroupId) {
        let log = self.log.as_mut().expect("it runs");
        let kept = self.members.get_mut(&group).expect("it runs");
        let applied = kept.member.store().applied().index;
        kept.member.store_mut().trees_mut().flush_now().expect("memory does not fail");
        kept.member.stored_up_to(log, std::mem::replace(&mut kept.stored, applied));
    }

    fn crash(&mut self, loss: Loss, seed: u64) {
        self.log = None;
        let mut random = Rng::new(seed);
        for (group, kept) in std::mem::take(&mut self.members) {
            self.acknowledged.insert(group, kept.acknowledged);
            let data = kept.member.store().trees().store().clone();
            let is_killed = loss == Loss::Nothing;
            self.data.insert(group, if is_killed { data } else { data.crash(&mut || random.bits()) });
        }
        self.medium.crash(loss, seed);
    }

    fn segments(&self) -> usize {
        self.log.as_ref().expect("it runs").wal().stats().segments_live
    }

    fn all_applied(&self) -> bool {
        self.members.iter().all(|(group, kept)| kept.acknowledged == self.submitted[group])
    }
}

#[test]
fn one_flush_covers_all_members() {
    let mut machine = Machine::new();
    machine.start(Schedule::InOrder);
    for _ in 0..20 {
        // What is left of the elections.
        machine.round();
    }
    let before = machine.log.as_ref().expect("it runs").wal().stats();
    for group in GROUPS {
        machine.put(group, 10);
    }
    machine.wait(Machine::all_applied);
    let after = machine.log.as_ref().expect("it runs").wal().stats();
    assert_eq!(after.flushes - before.flushes, 1);
}

#[test]
fn a_group_at_rest_holds_nothing_back_and_one_that_is_not_stored_does() {
    let [idle, stored, lazy] = GROUPS;
    let mut machine = Machine::new();
    machine.start(Schedule::InOrder);
    machine.put(idle, 10);
    machine.wait(Machine::all_applied);
    for group in GROUPS {
        machine.store(group);
        machine.store(group);
    }
    for _ in 0..200 {
        machine.put(stored, 500);
        machine.wait(Machine::all_applied);
        machine.store(stored);
    }
    machine.round();
    assert!(machine.segments() <= 3, "nobody but the busy group needs the log: {}", machine.segments());
    machine.put(lazy, 10);
    for _ in 0..200 {
        machine.put(stored, 500);
        machine.wait(Machine::all_applied);
        machine.store(stored);
    }
    assert!(machine.segments() > 3, "one put of another group is in the log alone: {}", machine.segments());
    machine.crash(Loss::All, 1);
    machine.start(Schedule::InOrder);
    for _ in 0..2 {
        machine.store(lazy);
        machine.store(stored);
        machine.store(idle);
    }
    machine.wait(|machine| machine.segments() <= 3);
}

/// An entry that leaves out others, for which its group is refused: no member writes that. And a record of a group that
/// nobody asks for.
fn append_gap(machine: &Machine, group: GroupId) {
    let disk = SimDisk::new(&machine.medium, Schedule::InOrder);
    let mut wal = Wal::open(disk, options()).expect("a sound log").0;
    let entry = plinth_raft::Entry { index: 99, term: 1, kind: plinth_raft::EntryKind::Normal, data: [][..].into() };
    wal.append(group, RecordKind::Entry, plinth_raft::log::LOG_SCHEMA, &[&plinth_raft::log::entry_header(&entry)]);
    wal.append(GroupId(77), RecordKind::Metadata, recover::METADATA_SCHEMA, &[&[0; 3]]);
    let last = wal.flush().expect("a good disk").expect("there are records");
    while wal.durable() < last {
        wal.poll().expect("a good disk");
    }
}

/// A machine that has stopped with something of each group in its log, and a gap in that of one.
fn stopped_with_a_gap(damaged: GroupId) -> Machine {
    let mut machine = Machine::new();
    machine.start(Schedule::InOrder);
    for group in GROUPS {
        machine.put(group, 10);
    }
    machine.wait(Machine::all_applied);
    machine.crash(Loss::Nothing, 1);
    append_gap(&machine, damaged);
    machine
}

#[test]
fn damage_to_one_group_is_its_own_matter() {
    let [damaged, sound, other] = GROUPS;
    let machine = stopped_with_a_gap(damaged);
    let (mut found, _) = machine.recover(Schedule::InOrder);
    assert!(matches!(found.take(damaged), Err(RecoverError::Log(_))));
    assert_eq!(found.take(sound).expect("sound").identity, Some(identity(sound)));
    assert_eq!(found.take(other).expect("sound").identity, Some(identity(other)));
}

/// What is left of a refused group holds the log back until somebody ends it; so does a group that is not stored.
#[test]
fn a_group_that_has_ended_holds_nothing_back() {
    let [refused, dropped, busy] = GROUPS;
    let mut machine = stopped_with_a_gap(refused);
    machine.start_but(Some(refused), Schedule::InOrder);
    let write = |machine: &mut Machine| {
        for _ in 0..200 {
            machine.put(busy, 500);
            machine.wait(Machine::all_applied);
            machine.store(busy);
        }
    };
    write(&mut machine);
    let held = machine.segments();
    assert!(held > 3, "two groups need what is at the beginning: {held}");
    machine.members.remove(&dropped);
    machine.log.as_mut().expect("it runs").end_group(dropped);
    write(&mut machine);
    assert!(machine.segments() > held, "one of them still does");
    machine.log.as_mut().expect("it runs").end_group(refused);
    write(&mut machine);
    assert!(machine.segments() <= 3, "nobody but the busy group needs the log: {}", machine.segments());
    machine.crash(Loss::All, 2);
    // Both numbers are free again.
    machine.data.extend([refused, dropped].map(|group| (group, SimStore::new())));
    for group in [refused, dropped] {
        machine.acknowledged.insert(group, 1);
        machine.submitted.insert(group, 1);
    }
    machine.start(Schedule::InOrder);
}

#[test]
fn nothing_acknowledged_is_lost_in_crashes() {
    let first = std::env::var("PLINTH_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in first.map_or(0..60, |seed: u64| seed..seed + 1) {
        println!("PLINTH_SEED={seed}");
        let mut random = Rng::new(seed);
        let mut machine = Machine::new();
        for _ in 0..4 {
            machine.start(Schedule::Shuffled(Rng::new(random.bits())));
            for _ in 0..random.below(150) {
                let group = GROUPS[random.below(3) as usize];
                match random.below(10) {
                    0..6 => machine.put(group, random.below(200) as usize),
                    6..9 => machine.round(),
                    _ => machine.store(group),
                }
            }
            let loss = Loss::ALL[random.below(Loss::ALL.len() as u64) as usize];
            machine.crash(loss, random.bits());
        }
        machine.start(Schedule::InOrder);
    }
}
