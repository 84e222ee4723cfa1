//! One machine: what survives a crash, and the process on it. Boots a member as the server does.

use super::bugs::Bug;
use super::options::{Options, Time};
use super::snapshots::{Copied, PIECE_BYTES};
use super::watchers::Tap;
use crate::data_file::{self, SimContent};
use crate::flush::FlushJob;
use plinth_engine::budget::Budget;
use plinth_engine::lease::{LessorConfig, Millis};
use plinth_engine::pagefile::PageFile;
use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::store::{Store, StoreConfig};
use plinth_engine::trees::{TreeId, Trees};
use plinth_engine::watch::{EventMode, Hub, HubConfig};
use plinth_member::addresses::AddressBook;
use plinth_member::compare::Check;
use plinth_member::limits::APPLY_PER_PUMP;
use plinth_member::log::Log;
use plinth_member::recover::{self, Identity, RecoveredMember};
use plinth_member::space::Lookout;
use plinth_member::stall::Stalled;
use plinth_member::transfer::{Fetch, Source};
use plinth_member::{Effects, Member, MemberConfig};
use plinth_raft::{GroupConfig, MemberChange, MemberId, WindowBounds};
use plinth_wal::sim_disk::{Loss, Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::{GroupId, WalId, WalOptions};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The only group.
pub const GROUP: GroupId = GroupId(0);
/// The cluster's id.
pub const CLUSTER: u64 = 0xc1;
/// Consensus feels the time so often, in milliseconds of the member's clock.
pub const TICK_MILLIS: u64 = 100;
/// Ticks of an election timeout.
pub const ELECTION_TICKS: usize = 10;
/// An election timeout.
pub const ELECTION_MILLIS: u64 = TICK_MILLIS * ELECTION_TICKS as u64;
/// Requests are given up after this.
pub const REQUEST_TIMEOUT_MILLIS: u64 = 5_000;

/// A member as it runs here. Who waits is named by the number of a call.
pub type SimMember = Member<PageFile<SimStore>, u64>;
/// The log of a machine.
pub type SimLog = Log<SimDisk>;

/// A monotonic clock that need not run right.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Milliseconds at the beginning of the run.
    offset: u64,
    /// Millionths of a second per second that it runs fast, or slow.
    ppm: i64,
}

impl Clock {
    /// A clock that is wrong by at most so many percent.
    pub fn draw(random: &mut Rng, drift_percent: u64) -> Clock {
        let most = 10_000 * drift_percent;
        Clock { offset: 1000 + random.below(1_000_000), ppm: random.below(2 * most + 1) as i64 - most as i64 }
    }

    /// What it says.
    pub fn read(&self, now: Time) -> Millis {
        let run = i128::from(now) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Millis(self.offset + (run / 1000) as u64)
    }

    /// How long a span of the clock really is.
    pub fn really(&self, millis: u64) -> Time {
        (u128::from(millis) * 1_000_000_000 / (1_000_000 + self.ppm) as u128) as Time
    }
}

/// See the module.
pub struct Node {
    /// Its number in the world.
    pub at: usize,
    pub clock: Clock,
    pub log: SimMedium,
    /// Its data's disk, while no process has it.
    pub data: SimStore,
    /// The process, if it runs.
    pub process: Option<Process>,
    /// Counts starts and crashes, so that what was meant for an earlier life is known by it.
    pub life: u64,
    /// The process stands still until then.
    pub stands_until: Time,
    /// And reads its messages so much later.
    pub wakes_in: Time,
    /// Effects of the disk take so many times longer until then.
    pub slow: (u64, Time),
    /// Its disks do not answer until then: that of the data alone, or that of the log as well.
    pub stuck: (Stalled, Time),
    /// Its disks are full until then.
    pub full_until: Time,
    /// Where it listens, the newest place last: by these URLs, and no others, it is reached.
    pub urls: Vec<String>,
    /// The members that it is told of when it is made.
    pub first: Vec<plinth_raft::Member>,
    /// One of the first members, who knows all of them.
    pub founders: usize,
    /// It knows that it was removed and does not start again.
    pub is_retired: bool,
    /// What the log's disk really holds, if it lies about it.
    pub behind: Option<SimMedium>,
}

/// Everything that a crash takes.
pub struct Process {
    pub member: SimMember,
    pub log: SimLog,
    /// Where it finds the others.
    pub book: AddressBook,
    /// Its count of configuration changes when the list was last read.
    pub seen_changes: Option<u64>,
    /// Taken in after every pump.
    pub effects: Effects<u64>,
    pub hub: Hub,
    /// The clients behind them.
    pub taps: BTreeMap<usize, Tap>,
    /// The flush of the data file under way.
    pub flush: Option<FlushJob>,
    /// Steps of flushes that have ended.
    pub flush_steps: u64,
    /// The last entry that the flush before held.
    pub stored: u64,
    /// Followers that need a snapshot.
    pub wanted: Vec<MemberId>,
    /// Those of them for which the flush under way, or the last one, was begun.
    pub flushed_for: Vec<MemberId>,
    /// Snapshots that others copy.
    pub source: Source,
    /// The snapshot that is copied from the leader.
    pub fetch: Fetch,
    /// Its file.
    pub copied: Option<Copied>,
    /// What it remembers of a full disk.
    pub lookout: Lookout,
    /// The background has something to do.
    pub is_woken: bool,
    /// The comparison of all members under way.
    pub check: Option<Check>,
    /// An effect of the disk is planned.
    pub disk_planned: bool,
    pub pump_planned: bool,
}

/// The id of a member.
pub fn id_of(at: usize) -> MemberId {
    MemberId(at as u64 + 1)
}

/// The member of an id.
pub fn at_of(id: MemberId) -> usize {
    id.0 as usize - 1
}

/// Where a member listens that has moved so many times.
pub fn url_of(at: usize, moves: u64) -> String {
    format!("http://{at}.{moves}:2380")
}

/// A member's record.
pub fn record(at: usize, is_learner: bool) -> plinth_raft::Member {
    let peer_urls = vec![url_of(at, 0)];
    // With the name that it would publish when it starts.
    let name = format!("m{at}");
    plinth_raft::Member { id: id_of(at), name, peer_urls, is_learner, ..plinth_raft::Member::default() }
}

impl Node {
    /// A machine without anything on it.
    pub fn new(at: usize, founders: usize, random: &mut Rng, options: &Options) -> Node {
        Node {
            at,
            clock: Clock::draw(random, options.drift),
            log: SimMedium::new(),
            data: SimStore::new(),
            process: None,
            life: 0,
            stands_until: 0,
            wakes_in: 0,
            slow: (1, 0),
            stuck: (Stalled::Data, 0),
            full_until: 0,
            urls: vec![url_of(at, 0)],
            first: Vec::new(),
            founders,
            is_retired: false,
            behind: None,
        }
    }

    /// Starts the process. If the machine goes down in the middle of it, or its disk fails then as
    /// planned, there is none, and no error.
    pub fn start(&mut self, random: &mut Rng, options: &Options, bug: Option<Bug>) -> Result<(), String> {
        assert!(self.process.is_none(), "{} runs already", self.at);
        self.life += 1;
        (self.stands_until, self.wakes_in) = (0, 0);
        match self.boot(random, options, bug) {
            Ok((member, log, book)) => {
                let hub = Hub::new(hub_config(random), member.store().revision());
                let stored = member.store().applied().index;
                self.process = Some(Process {
                    member,
                    log,
                    book,
                    seen_changes: None,
                    effects: Effects::default(),
                    hub,
                    taps: BTreeMap::new(),
                    flush: None,
                    flush_steps: 0,
                    stored,
                    wanted: Vec::new(),
                    flushed_for: Vec::new(),
                    source: Source::new(PIECE_BYTES),
                    fetch: Fetch::default(),
                    copied: None,
                    lookout: Lookout::default(),
                    is_woken: false,
                    check: None,
                    disk_planned: false,
                    pump_planned: false,
                });
                Ok(())
            }
            Err(why) if self.log.is_dead() || why.ends_with("(os error 5)") => Ok(()),
            Err(why) => Err(why),
        }
    }

    fn boot(
        &mut self,
        random: &mut Rng,
        options: &Options,
        bug: Option<Bug>,
    ) -> Result<(SimMember, SimLog, AddressBook), String> {
        let store = open_store(self.data.clone(), options)?;
        let applied = data_file::applied(&store);
        let mut wal_options = WalOptions::new(WalId(self.at as u64 + 7));
        wal_options.segment_bytes = options.segment_bytes;
        wal_options.buffer_bytes = 16 << 10;
        wal_options.in_flight_bytes = 32 << 10;
        let disk = SimDisk::new(&self.log, Schedule::Manual);
        let mut found = recover::recover(disk, wal_options, [(GROUP, applied)]).map_err(|error| error.to_string())?;
        let RecoveredMember { identity, log: mut entries } = found.take(GROUP).map_err(|error| error.to_string())?;
        let mut log = found.log;
        let own = Identity { member: id_of(self.at), cluster: CLUSTER };
        let is_founder = self.at < self.founders;
        let mut book = AddressBook::new(own.member, Vec::new());
        if identity.is_none() || (is_founder && !recover::is_bootstrapped(&entries)) {
            if is_founder {
                let member = |at| (id_of(at), MemberChange::Add(record(at, false)).encode());
                book = AddressBook::new(own.member, (0..self.founders).map(|at| record(at, false)).collect());
                entries = recover::append_bootstrap(&mut log, GROUP, own, (0..self.founders).map(member).collect());
            } else {
                recover::append_joining(&mut log, GROUP, own);
                book = AddressBook::new(own.member, self.first.clone());
            }
            self.write_out(&mut log)?;
        }
        if bug == Some(Bug::VotesForgotten) {
            entries.hard_state.vote = None;
            entries.hard_state.term = entries.last().term.max(1);
        }
        let conf = data_file::conf(&store)?;
        let mut group = GroupConfig { conf, ..GroupConfig::new(GROUP, own.member, random.bits()) };
        group.election_ticks = ELECTION_TICKS;
        group.window = WindowBounds { entries: options.window, bytes: 1 << 20 };
        let config = MemberConfig {
            identity: own,
            group,
            lease_extension_millis: ELECTION_MILLIS,
            first_sequence: self.life << 32,
            request_timeout_millis: REQUEST_TIMEOUT_MILLIS,
            learners_max: 1,
            // In every other life commands are applied bit by bit.
            apply_budget: if self.life.is_multiple_of(2) {
                APPLY_PER_PUMP
            } else {
                Budget { pairs: 2, bytes: 64, visits: 3 }
            },
        };
        let mut member = Member::new(config, entries, store).map_err(|error| error.to_string())?;
        member.set_event_mode(EventMode::Plain);
        Ok((member, log, book))
    }

    /// Makes the first records durable.
    fn write_out(&self, log: &mut SimLog) -> Result<(), String> {
        log.flush().map_err(|error| error.to_string())?;
        while !log.is_durable() {
            if self.log.is_dead() {
                return Err("the machine is down".into());
            }
            if log.disk_mut().ready() > 0 {
                log.disk_mut().run(0);
            }
            log.poll().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The process is killed, or the power fails.
    pub fn crash(&mut self, loss: Loss, random: &mut Rng) {
        self.life += 1;
        if let Some(process) = self.process.take() {
            self.data = process.member.store().trees().store().clone();
        }
        if let (Some(behind), true) = (self.behind.take(), loss != Loss::Nothing) {
            self.log = behind;
        }
        self.log.crash(loss, random.bits());
        if loss != Loss::Nothing {
            let limit_bytes = self.data.limit_bytes;
            self.data = self.data.crash(&mut || random.bits());
            self.data.limit_bytes = limit_bytes;
        }
    }

    /// The disk of the data has room for so many bytes more, or for all.
    pub fn limit_data(&mut self, room: Option<u64>) {
        let store = match &mut self.process {
            Some(process) => process.member.store_mut().trees_mut().store_mut(),
            None => &mut self.data,
        };
        store.limit_bytes = room.map(|room| store.bytes().len() as u64 + room);
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.member.is_leader())
    }

    /// The time of one effect of a disk of it.
    pub fn disk_time(&self, disk: Stalled, now: Time, random: &mut Rng, options: &Options) -> Time {
        let (factor, until) = self.slow;
        let usual = 10 + random.below(options.disk);
        let time = if now < until { usual * factor } else { usual };
        let (stuck, until) = self.stuck;
        let is_stuck = stuck == Stalled::Log || disk == Stalled::Data;
        if is_stuck { time.max(until.saturating_sub(now)) } else { time }
    }
}

/// Opens a data file, or makes one.
pub fn open_store(data: SimStore, options: &Options) -> Result<SimContent, String> {
    let lessor = LessorConfig {
        checkpoint_interval_seconds: options.checkpoints,
        ..LessorConfig::for_election_timeout(ELECTION_MILLIS)
    };
    let config = StoreConfig { lessor, ..StoreConfig::default() };
    data_file::open(data, config)
}

/// A hub with bounds that are met often, or hardly ever.
pub fn hub_config(random: &mut Rng) -> HubConfig {
    let mut config = HubConfig { seed: random.bits(), ..HubConfig::default() };
    if random.chance(50) {
        config.stream_queue_bytes = 500;
        config.message_bytes = 300;
        config.fragment_bytes = 400;
        config.chunk_revisions = 1 + random.below(20) as i64;
        config.chunk_bytes = 1000;
        // Several revisions, as in the server: streams that let go of every one before it is sent never get on.
        config.retained_bytes = 50_000;
        config.tail_bytes = 1000;
    }
    config.progress_interval_millis = 500;
    config
}

/// Keys and values.
pub type Content = Vec<(Vec<u8>, Vec<u8>)>;

/// All entries of a tree, to be compared between members.
pub fn tree_content<T: Trees>(store: &Store<T>, tree: TreeId) -> Result<Content, String> {
    let mut content = Vec::new();
    let scanned = store.trees().scan(tree, &[], &mut |key, value| {
        content.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| error.to_string())?;
    Ok(content)
}
