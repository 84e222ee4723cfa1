//! One machine: its log's disk, what its stores hold, and the process on it.

use super::groups_bugs::Bug;
use super::groups_options::{ELECTION_TICKS, GROUPS, MACHINES, MEMBERS, Options, Time};
use super::groups_store::Store;
use bytes::Bytes;
use plinth_raft::groups::{Groups, GroupsRecovery, LogSpace};
use plinth_raft::log::{self, LOG_SCHEMA};
use plinth_raft::{Entry, Group, GroupConfig, GroupId, HardState, MemberId, PeerMessage, RecoveredLog, WindowBounds};
use plinth_wal::sim_disk::{Loss, Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::{Lsn, RecordKind, Wal, WalId, WalOptions};
use std::collections::{BTreeMap, VecDeque};

pub(super) type SimWal = Wal<SimDisk>;

/// Readies that are durable when the log is, up to a record; with what may be sent then.
pub(super) struct Flight {
    pub(super) lsn: Lsn,
    pub(super) readies: Vec<(GroupId, u64)>,
    pub(super) promises: Vec<PeerMessage>,
    pub(super) is_probe: bool,
}

/// Everything that a crash takes.
pub(super) struct Process {
    pub(super) groups: Groups,
    pub(super) wal: SimWal,
    pub(super) space: LogSpace,
    pub(super) flights: VecDeque<Flight>,
    pub(super) stores: BTreeMap<GroupId, Store>,
    /// Reads that may be served when so much is applied: group, index, call.
    pub(super) reads: Vec<(GroupId, u64, u64)>,
    /// Hard states are written again up to here; when they are durable, the log gives back what is before the other.
    pub(super) releasing: Option<(Lsn, Lsn)>,
    /// The commit index of each group's last hard state in the log.
    pub(super) commits: BTreeMap<GroupId, u64>,
    /// Groups that have ended here.
    pub(super) ended: Vec<GroupId>,
    pub(super) pump_planned: bool,
    pub(super) disk_planned: bool,
}

/// See the module.
pub(super) struct Machine {
    pub(super) at: usize,
    pub(super) medium: SimMedium,
    /// What is stored of each group that is here.
    pub(super) stored: BTreeMap<GroupId, Store>,
    pub(super) process: Option<Process>,
    /// Counts starts and crashes.
    pub(super) life: u64,
    pub(super) stands_until: Time,
    /// Effects of the disk take so many times longer until then.
    pub(super) slow: (u64, Time),
}

pub(super) fn id_of(at: usize) -> MemberId {
    MemberId(at as u64 + 1)
}

pub(super) fn at_of(id: MemberId) -> usize {
    id.0 as usize - 1
}

/// The first members of a group: machines in a row.
pub(super) fn founders(id: GroupId) -> Vec<usize> {
    (0..MEMBERS).map(|i| (id.0 as usize + i) % MACHINES).collect()
}

pub(super) fn append_hard_state(wal: &mut SimWal, space: &mut LogSpace, id: GroupId, state: &HardState) -> Lsn {
    let lsn = wal.append(id, RecordKind::HardState, LOG_SCHEMA, &[&log::encode_hard_state(state)]);
    space.wrote_hard_state(id, lsn);
    lsn
}

pub(super) fn append_entries(wal: &mut SimWal, space: &mut LogSpace, id: GroupId, entries: &[Entry]) {
    let mut begin = None;
    for entry in entries {
        let lsn = wal.append(id, RecordKind::Entry, LOG_SCHEMA, &[&log::entry_header(entry), &entry.data]);
        begin.get_or_insert((entry.index, lsn));
    }
    if let (Some((first, lsn)), Some(last)) = (begin, entries.last()) {
        space.wrote_entries(id, first, last.index, lsn);
    }
}

impl Machine {
    pub(super) fn new(at: usize) -> Machine {
        let mine = (0..GROUPS).map(GroupId).filter(|id| founders(*id).contains(&at));
        Machine {
            at,
            medium: SimMedium::new(),
            stored: mine.map(|id| (id, Store::default())).collect(),
            process: None,
            life: 0,
            stands_until: 0,
            slow: (1, 0),
        }
    }

    /// Starts the process. If the machine goes down in the middle of it there is none, and no error.
    pub(super) fn start(&mut self, random: &mut Rng, options: &Options, bug: Option<Bug>) -> Result<(), String> {
        assert!(self.process.is_none(), "{} runs already", self.at);
        self.life += 1;
        self.stands_until = 0;
        match self.boot(random, options, bug) {
            Ok(process) => self.process = Some(process),
            Err(_) if self.medium.is_dead() => {}
            Err(why) => return Err(why),
        }
        Ok(())
    }

    fn boot(&mut self, random: &mut Rng, options: &Options, bug: Option<Bug>) -> Result<Process, String> {
        let mut recovery = GroupsRecovery::new(self.stored.iter().map(|(id, store)| (*id, store.applied)));
        let disk = SimDisk::new(&self.medium, Schedule::Manual);
        let mut space = LogSpace::default();
        let mut seen = |record: &plinth_wal::Record<'_>| {
            recovery.record(record);
            if self.stored.contains_key(&record.group) {
                space.read(record);
            }
        };
        let opened =
            Wal::open_with(disk, self.wal_options(options), &mut |record: plinth_wal::Record<'_>| seen(&record));
        let (mut wal, _) = opened.map_err(|error| error.to_string())?;
        let mut groups = Groups::new(id_of(self.at), random.bits() | 1, ELECTION_TICKS, 1);
        let mut begins = false;
        let mut logs = Vec::new();
        for (id, recovered) in recovery.finish() {
            let mut recovered = recovered.map_err(|refused| refused.to_string())?;
            if recovered.last().index == 0 && founders(id).contains(&self.at) {
                let voters = founders(id).into_iter().map(|at| (id_of(at), Bytes::new()));
                let first = log::bootstrap(voters.collect());
                append_entries(&mut wal, &mut space, id, &first.entries);
                append_hard_state(&mut wal, &mut space, id, &first.hard_state);
                recovered = RecoveredLog::bootstrapped(first);
                begins = true;
            }
            if bug == Some(Bug::VotesForgotten) {
                recovered.hard_state.vote = None;
                recovered.hard_state.term = recovered.last().term.max(1);
            }
            logs.push((id, recovered));
        }
        if begins {
            self.write_out(&mut wal)?;
        }
        let commits = logs.iter().map(|(id, recovered)| (*id, recovered.hard_state.commit)).collect();
        for (id, recovered) in logs {
            let group = Group::new(self.config(id, random, options), recovered).map_err(|error| error.to_string())?;
            groups.add(id, group);
        }
        for (id, store) in &self.stored {
            space.stored(*id, store.applied.index);
        }
        Ok(Process {
            groups,
            wal,
            space,
            flights: VecDeque::new(),
            stores: self.stored.clone(),
            reads: Vec::new(),
            releasing: None,
            commits,
            ended: Vec::new(),
            pump_planned: false,
            disk_planned: false,
        })
    }

    pub(super) fn wal_options(&self, options: &Options) -> WalOptions {
        let mut wal_options = WalOptions::new(WalId(self.at as u64 + 7));
        wal_options.segment_bytes = options.segment_bytes;
        (wal_options.buffer_bytes, wal_options.in_flight_bytes) = (8 << 10, 16 << 10);
        wal_options.payload_bytes = 4 << 10;
        wal_options
    }

    fn config(&self, id: GroupId, random: &mut Rng, options: &Options) -> GroupConfig {
        let mut config = GroupConfig::new(id, id_of(self.at), random.bits());
        config.election_ticks = ELECTION_TICKS;
        config.conf = self.stored.get(&id).map(|store| store.conf.clone()).unwrap_or_default();
        config.window = WindowBounds { entries: options.window, bytes: 1 << 20 };
        config
    }

    /// A group comes to this machine, with nothing.
    pub(super) fn create(&mut self, id: GroupId, random: &mut Rng, options: &Options) {
        let config = self.config(id, random, options);
        let group = Group::new(config, RecoveredLog::empty()).expect("an empty group");
        let process = self.process.as_mut().expect("it runs");
        process.groups.add(id, group);
        process.stores.insert(id, Store::default());
        self.stored.insert(id, Store::default());
    }

    /// Makes a term durable before anything else happens; false if the machine goes down meanwhile.
    pub(super) fn write_term(&mut self, id: GroupId, state: &HardState) -> Result<bool, String> {
        let mut process = self.process.take().expect("it runs");
        append_hard_state(&mut process.wal, &mut process.space, id, state);
        let written = self.write_out(&mut process.wal);
        self.process = Some(process);
        match written {
            Err(_) if self.medium.is_dead() => Ok(false),
            written => written.map(|()| true),
        }
    }

    fn write_out(&self, wal: &mut SimWal) -> Result<(), String> {
        let last = wal.flush().map_err(|error| error.to_string())?.expect("there are records");
        while wal.durable() < last {
            if self.medium.is_dead() {
                return Err("the machine is down".into());
            }
            if wal.disk_mut().ready() > 0 {
                wal.disk_mut().run(0);
            }
            wal.poll().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, loss: Loss, random: &mut Rng) {
        self.life += 1;
        self.process = None;
        self.medium.crash(loss, random.bits());
    }

    /// The time of one effect of its disk.
    pub(super) fn disk_time(&self, now: Time, random: &mut Rng, options: &Options) -> Time {
        let usual = 10 + random.below(options.disk);
        if now < self.slow.1 { (usual * self.slow.0).min(self.slow.1 - now + usual) } else { usual }
    }

    /// Flushes the store of every group, which is then on the disk, and lets the log go.
    pub(super) fn checkpoint(&mut self, bug: Option<Bug>) {
        let Some(process) = &mut self.process else { return };
        self.stored = process.stores.clone();
        for (id, store) in &self.stored {
            process.space.stored(*id, store.applied.index);
        }
        if process.releasing.is_some() || process.wal.stats().segments_live < 2 {
            return;
        }
        let mut again = process.wal.last();
        if bug == Some(Bug::SpaceOfOthers) {
            process.releasing = Some((again, again));
            return;
        }
        for id in self.stored.keys() {
            let Some(group) = process.groups.get(*id) else { continue };
            let state = group.hard_state();
            if state.term > 0 {
                again = append_hard_state(&mut process.wal, &mut process.space, *id, &state);
            }
        }
        if let Some(holder) = process.space.oldest() {
            process.releasing = Some((again, holder.lsn));
        }
    }
}
