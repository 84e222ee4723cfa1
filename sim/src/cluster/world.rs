//! The world of one run: members, network, clients and time, driven by a queue of events.
//!
//! Storms, in which faults occur, alternate with calms, in which everything is mended and the cluster must recover: it
//! answers, all members hold the same, watchers have seen everything, and leases that nobody holds end.

use super::bugs::Bug;
use super::clients::{Answer, Ask, Call, Caller, Client, FIRST_QUESTION};
use super::flush::FlushJob;
use super::holders::{Holder, Lease};
use super::network::{Network, Packet};
use super::node::{ELECTION_MILLIS, Node, TICK_MILLIS, at_of, id_of, tree_content};
use super::options::{MS, Options, SECOND, Time};
use super::truth::Truth;
use super::watchers::{Watcher, catch_up};
use crate::linear::Operation;
use plinth_engine::command::Command;
use plinth_engine::compact::WorkBudget;
use plinth_engine::trees::TreeId;
use plinth_member::{Effects, Fatal, Lost, Pumped};
use plinth_raft::{MemberId, PeerBody, PeerMessage, Role, RoleChange};
use plinth_wal::sim_disk::{Loss, Rng, SimMedium};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A calm must have brought the cluster back by then.
const CALM_MAX: Time = 60 * SECOND;
/// A pump that stops in the middle of applying goes on after this.
const PUMP_AGAIN: Time = 100;
/// A process that stood still does what was due meanwhile within this time.
pub(super) const WAKE_MAX: Time = 300;
/// How often leases are looked through.
const LEASE_SCAN_MILLIS: u64 = 500;
/// How often the data file is flushed, about.
const FLUSH_EVERY: Time = 100 * MS;
/// How long after a calm leases that nobody holds may still be there, at most: the longest TTL, what an election adds,
/// a second try, drift.
const LEASES_GONE: Time = 30 * SECOND;

/// What a run did, for its report and to compare two runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Reads checked.
    pub reads: u64,
    /// Operations that went through the checker of histories.
    pub checked: u64,
    /// Leases renewed.
    pub renewals: u64,
    /// Events that watchers have seen.
    pub watched: u64,
    /// Times a process went down.
    pub crashes: u64,
    /// Elections won.
    pub elections: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Changes of the members applied.
    pub changes: u64,
    /// A hash over everything that happened, in order.
    pub trace: u64,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl From<String> for Broken {
    fn from(why: String) -> Broken {
        Broken(why)
    }
}

impl From<&str> for Broken {
    fn from(why: &str) -> Broken {
        Broken(why.into())
    }
}

/// What happens at a moment.
pub(super) enum Event {
    Pump { at: usize, life: u64 },
    Tick { at: usize, life: u64 },
    Disk { at: usize, life: u64 },
    Flush { at: usize, life: u64 },
    ScanLeases { at: usize, life: u64 },
    Keep { at: usize, life: u64, log: SimMedium },
    Start { at: usize },
    Packet { from: usize, at: usize, packet: Box<Packet> },
    AskAgain { at: usize, life: u64, snapshot: u64, piece: usize },
    Client { client: usize },
    Holder { holder: usize },
    Watch { number: usize },
    Arrive { call: u64 },
    Answer { call: u64, answer: Answer },
    GiveUp { call: u64 },
    Fault,
    Mend,
    Probe,
}

impl Event {
    /// The member whose process takes part in it.
    fn process(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Event::Pump { at, life }
            | Event::Tick { at, life }
            | Event::Disk { at, life }
            | Event::Flush { at, life }
            | Event::ScanLeases { at, life }
            | Event::AskAgain { at, life, .. } => Some((*at, Some(*life))),
            Event::Packet { at, .. } => Some((*at, None)),
            _ => None,
        }
    }
}

struct Planned {
    time: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        (self.time, self.number) == (other.time, other.number)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

/// See the module.
pub struct World {
    pub(super) random: Rng,
    pub(super) options: Options,
    pub(super) bug: Option<Bug>,
    pub(super) now: Time,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) net: Network,
    pub(super) truth: Truth,
    /// When each operation was first seen to have taken effect.
    pub(super) effects: BTreeMap<u64, Time>,
    /// Who led each term, and since when.
    pub(super) leaders: BTreeMap<u64, (MemberId, Time)>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) last_call: u64,
    /// The newest revision that anybody was told of.
    pub(super) acknowledged: i64,
    pub(super) clients: Vec<Client>,
    pub(super) history: BTreeMap<u64, Vec<Operation>>,
    pub(super) holders: Vec<Holder>,
    pub(super) leases: BTreeMap<i64, Lease>,
    pub(super) last_lease: i64,
    pub(super) watchers: Vec<Watcher>,
    pub(super) snapshots: u64,
    pub(super) in_storm: bool,
    /// A question of the probe was answered since it was asked.
    pub(super) is_well: bool,
    pub(super) outcome: Outcome,
    /// Its story is told while it happens.
    pub(super) is_told: bool,
}

/// Lives through the world of a seed.
pub fn run(seed: u64) -> Result<Outcome, String> {
    run_with(seed, None)
}

/// Lives through the world of a seed, with a bug planted.
pub fn run_with(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    live(World::new(seed, bug))
}

/// Lives through the world of a seed and tells on standard error what happens.
pub fn tell(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    let mut world = World::new(seed, bug);
    world.is_told = true;
    live(world)
}

fn live(mut world: World) -> Result<Outcome, String> {
    match world.live() {
        Ok(()) => Ok(world.outcome),
        Err(Broken(why)) => Err(format!("at {} ms: {why}", world.now / MS)),
    }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut random = Rng::new(seed);
        let mut options = Options::draw(&mut random);
        if let Some(bug) = bug {
            bug.choose_weather(&mut options);
        }
        let founders = options.members;
        let nodes = (0..founders).map(|at| Node::new(at, founders, &mut random, &options)).collect();
        World {
            net: Network::new(&options),
            nodes,
            clients: (0..options.clients).map(|_| Client::default()).collect(),
            holders: vec![Holder::default(); options.holders],
            watchers: (0..options.watchers).map(|_| Watcher::draw(&mut random, options.keys)).collect(),
            random,
            options,
            bug,
            now: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            truth: Truth::default(),
            effects: BTreeMap::new(),
            leaders: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            acknowledged: 1,
            history: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            snapshots: 0,
            in_storm: false,
            is_well: false,
            outcome: Outcome::default(),
            is_told: false,
        }
    }

    pub(super) fn note(&mut self, what: u64) {
        self.outcome.trace = (self.outcome.trace.rotate_left(7) ^ what).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// A line of the story.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:>9.3} ms  {}", self.now as f64 / MS as f64, line());
        }
    }

    pub(super) fn plan(&mut self, after: Time, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse(Planned { time: self.now + after, number: self.planned, event }));
    }

    fn live(&mut self) -> Result<(), Broken> {
        for at in 0..self.nodes.len() {
            self.start(at)?;
        }
        for number in 0..self.watchers.len() {
            self.plan(SECOND, Event::Watch { number });
        }
        for holder in 0..self.holders.len() {
            self.plan(FIRST_QUESTION, Event::Holder { holder });
        }
        for _ in 0..self.options.storms {
            self.storm()?;
            self.calm()?;
        }
        self.await_ends_of_leases()?;
        self.compare()?;
        self.outcome.watched = self.watchers.iter().map(|watcher| watcher.seen).sum();
        self.check_history()
    }

    fn storm(&mut self) -> Result<(), Broken> {
        self.in_storm = true;
        self.tell(|| format!("a storm begins: {:?}", self.options));
        self.net.rough(&self.options);
        for client in 0..self.clients.len() {
            if self.now == 0 || std::mem::take(&mut self.clients[client].is_resting) {
                let pause = FIRST_QUESTION + self.random.below(100 * MS);
                self.plan(pause, Event::Client { client });
            }
        }
        let end = self.now + FIRST_QUESTION + self.options.storm;
        self.plan(FIRST_QUESTION, Event::Fault);
        while self.next(end)? {}
        self.in_storm = false;
        Ok(())
    }

    /// Mends everything and waits until all is well.
    fn calm(&mut self) -> Result<(), Broken> {
        self.tell(|| "a calm begins".into());
        self.net.calm_down();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            (node.stands_until, node.wakes_in, node.slow) = (0, 0, (1, 0));
            node.log.crash_at(u64::MAX);
            node.log.fail_at(u64::MAX, 0);
            if !node.is_up() && !node.is_retired {
                self.start(at)?;
            }
        }
        self.is_well = false;
        self.plan(0, Event::Probe);
        let end = self.now + CALM_MAX;
        loop {
            let until = self.now + 200 * MS;
            while self.next(until)? {}
            match self.why_not_well() {
                None => return Ok(()),
                Some(why) if self.now >= end => {
                    let state = self.describe();
                    return Err(format!("no recovery after faults: {why}\n{state}").into());
                }
                Some(_) => {}
            }
        }
    }

    /// Members of the configuration that has been applied last.
    pub(super) fn members(&self) -> Vec<usize> {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let furthest = processes.max_by_key(|process| process.member.store().applied().index);
        let conf = furthest.map(|process| process.member.group().status().conf).unwrap_or_default();
        conf.members().into_iter().map(at_of).collect()
    }

    /// The members' state, for messages.
    fn describe(&self) -> String {
        let mut lines = vec![format!("{:?}", self.options)];
        for node in &self.nodes {
            lines.push(match &node.process {
                None => format!("member {} is down, retired: {}", node.at, node.is_retired),
                Some(process) => {
                    let status = process.member.group().status();
                    let (served, fetches) = (process.served.len(), process.fetch.is_some());
                    format!("member {}: serves {served}, fetches {fetches}, {status:?}", node.at)
                }
            });
        }
        lines.extend(self.watchers.iter().map(|watcher| format!("{watcher:?}")));
        lines.join("\n")
    }

    fn why_not_well(&self) -> Option<String> {
        if !self.is_well {
            return Some("nobody answers".into());
        }
        let revision = self.truth.revision();
        let members = self.members();
        if members.is_empty() {
            return Some("nobody is a member".into());
        }
        let mut indexes = Vec::new();
        for at in members {
            let Some(process) = &self.nodes[at].process else { return Some(format!("member {at} is down")) };
            let store = process.member.store();
            if store.revision() != revision || !process.member.is_between_entries() {
                return Some(format!("member {at} is at revision {} of {revision}", store.revision()));
            }
            indexes.push(store.applied().index);
        }
        if indexes.iter().any(|index| *index != indexes[0]) {
            return Some(format!("members have applied {indexes:?}"));
        }
        if !self.calls.is_empty() {
            return Some("questions are open".into());
        }
        let watchers = 0..self.watchers.len();
        watchers.filter(|number| !self.is_watcher_done(*number)).map(|number| format!("watcher {number} lags")).next()
    }

    /// Leases that nobody holds end.
    fn await_ends_of_leases(&mut self) -> Result<(), Broken> {
        let end = self.now + LEASES_GONE;
        loop {
            let leases = |at: &usize| self.nodes[*at].process.as_ref().map_or(1, |p| p.member.store().leases().len());
            let left: usize = self.members().iter().map(leases).sum();
            if left == 0 && self.why_not_well().is_none() {
                break;
            }
            if self.now > end {
                return Err(format!("{left} leases never end, or {:?}", self.why_not_well()).into());
            }
            let until = self.now + 500 * MS;
            while self.next(until)? {}
        }
        let revision = self.truth.revision();
        let kept = self.truth.range_at(b"lease/", b"lease0", revision);
        if !kept.is_empty() {
            return Err(format!("all leases have ended, and left {kept:?}").into());
        }
        Ok(())
    }

    /// All members hold the same: pairs, history, leases, member records.
    fn compare(&mut self) -> Result<(), Broken> {
        let mut first = None;
        for at in self.members() {
            let process = self.nodes[at].process.as_mut().expect("all is well");
            let store = process.member.store_mut();
            self.truth.check_store(store).map_err(|why| format!("member {at}: {why}"))?;
            let hash = store.hash_kv(0).map_err(|error| format!("member {at}: {error}"))?;
            let found =
                (hash, tree_content(store, TreeId::Lease)?, tree_content(store, TreeId::Members)?, store.applied());
            store.trees().check().map_err(|error| format!("member {at}: {error}"))?;
            self.note(u64::from(hash.hash));
            match &first {
                None => first = Some(found),
                Some(first) if *first != found => {
                    return Err(format!("members differ: {first:?}; member {at}: {found:?}").into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Lets the next event happen; false if there is none before `end`, where time then stands.
    fn next(&mut self, end: Time) -> Result<bool, Broken> {
        if self.queue.peek().is_none_or(|Reverse(planned)| planned.time > end) {
            self.now = end;
            return Ok(false);
        }
        let Reverse(Planned { time, number, event }) = self.queue.pop().expect("peeked");
        self.now = time;
        let process = match &event {
            Event::Arrive { call } => self.calls.get(call).map(|call| (call.at, None)),
            event => event.process(),
        };
        let is_call = matches!(event, Event::Arrive { .. });
        if let Some((at, life)) = process {
            let node = &self.nodes[at];
            if life.is_some_and(|life| life != node.life) || !(is_call || node.is_up()) {
                return Ok(true);
            }
            // When it goes on, messages wait in their order; what else is due then happens before, between or after.
            let is_packet = matches!(event, Event::Packet { .. });
            let until = node.stands_until + if is_packet { node.wakes_in } else { 0 };
            if node.is_up() && until > self.now {
                let jitter = if is_packet { 0 } else { self.random.below(WAKE_MAX) };
                self.queue.push(Reverse(Planned { time: until + jitter, number, event }));
                return Ok(true);
            }
        }
        self.note(time ^ number << 40);
        self.happen(event)?;
        Ok(true)
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Pump { at, .. } => {
                self.nodes[at].process.as_mut().expect("it runs").pump_planned = false;
                self.pump(at)
            }
            Event::Tick { at, life } => self.tick(at, life),
            Event::Disk { at, .. } => self.run_disk(at),
            Event::Flush { at, life } => self.background(at, life),
            Event::ScanLeases { at, life } => {
                self.scan_leases(at, life);
                Ok(())
            }
            Event::Keep { at, life, log } => {
                if self.nodes[at].life == life {
                    self.nodes[at].behind = Some(log);
                }
                Ok(())
            }
            Event::Start { at } => {
                let node = &self.nodes[at];
                if node.is_up() || node.is_retired { Ok(()) } else { self.start(at) }
            }
            Event::Packet { from, at, packet } => self.deliver(from, at, *packet),
            Event::AskAgain { at, snapshot, piece, .. } => {
                self.ask(at, snapshot, piece);
                Ok(())
            }
            Event::Client { client } => {
                self.client(client);
                Ok(())
            }
            Event::Holder { holder } => {
                self.holder(holder);
                Ok(())
            }
            Event::Watch { number } => self.watch(number),
            Event::Arrive { call } => self.arrive(call),
            Event::Answer { call, answer } => self.answer(call, answer),
            Event::GiveUp { call } => self.answer(call, Answer::Unknown),
            Event::Fault => self.fault(),
            Event::Mend => {
                self.net.mend();
                Ok(())
            }
            Event::Probe => {
                self.probe();
                Ok(())
            }
        }
    }

    /// Asks somebody to write something, until that works.
    fn probe(&mut self) {
        if self.in_storm || self.is_well {
            return;
        }
        let members = self.members();
        if !members.is_empty() {
            let at = members[self.random.below(members.len() as u64) as usize];
            self.call(Caller::Probe, at, Ask::Put(vec![self.options.keys + 1]));
        }
        self.plan(SECOND, Event::Probe);
    }

    /// Starts a process, and what happens in it regularly.
    pub(super) fn start(&mut self, at: usize) -> Result<(), Broken> {
        let bug = self.bug;
        let started = self.nodes[at].start(&mut self.random, &self.options, bug);
        started.map_err(|why| format!("member {at} does not start: {why}"))?;
        let node = &self.nodes[at];
        let Some(process) = &node.process else {
            // It went down again at once.
            self.crash(at, None);
            return Ok(());
        };
        let store = process.member.store();
        self.tell(|| format!("member {at} starts at {:?}, revision {}", store.applied(), store.revision()));
        self.truth.check_store(store).map_err(|why| format!("member {at} starts: {why}"))?;
        let life = node.life;
        let tick = node.clock.really(TICK_MILLIS);
        let first = self.random.below(tick);
        self.plan(first, Event::Tick { at, life });
        let first = self.random.below(FLUSH_EVERY);
        self.plan(first, Event::Flush { at, life });
        self.plan(first, Event::ScanLeases { at, life });
        self.plan_pump(at);
        Ok(())
    }

    /// The process goes down, and comes back after a while.
    pub(super) fn crash(&mut self, at: usize, loss: Option<Loss>) {
        let loss = loss.unwrap_or_else(|| Loss::ALL[self.random.below(Loss::ALL.len() as u64) as usize]);
        self.tell(|| format!("member {at} goes down, of what is not synced it loses: {loss:?}"));
        self.nodes[at].crash(loss, &mut self.random);
        self.outcome.crashes += 1;
        let down = if self.random.chance(60) { 50 * MS } else { 3 * SECOND };
        let down = 1 + self.random.below(down);
        self.plan(down, Event::Start { at });
    }

    fn tick(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let process = node.process.as_mut().expect("it runs");
        process.member.tick(now, &mut process.effects);
        let pause = node.clock.really(TICK_MILLIS);
        self.plan(pause, Event::Tick { at, life });
        self.forget_snapshots(at);
        self.pump(at)
    }

    fn scan_leases(&mut self, at: usize, life: u64) {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let pause = node.clock.really(LEASE_SCAN_MILLIS);
        let process = node.process.as_mut().expect("it runs");
        let (mut expired, mut told) = (Vec::new(), Vec::new());
        process.member.store_mut().leases_mut().expired(now, &mut expired);
        let term = process.promoted_in;
        for id in expired.into_iter().filter(|_| self.bug != Some(Bug::LeasesKept)) {
            told.push(id);
            let command = match self.bug {
                Some(Bug::FollowersRevoke | Bug::DeposedRevoke) => Command::LeaseRevoke { id },
                _ => Command::LeaseExpire { id, term },
            };
            let _ = process.member.submit(|out| command.encode_into(out), 0, now);
        }
        if !told.is_empty() {
            self.tell(|| format!("member {at} finds leases {told:?} expired in term {term}"));
        }
        self.plan(pause, Event::ScanLeases { at, life });
        self.plan_pump(at);
    }

    pub(super) fn plan_pump(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        if !std::mem::replace(&mut process.pump_planned, true) {
            let pause = self.random.below(PUMP_AGAIN);
            self.plan(pause, Event::Pump { at, life });
        }
    }

    /// One effect of the log's disk.
    fn run_disk(&mut self, at: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let process = node.process.as_mut().expect("it runs");
        process.disk_planned = false;
        let disk = process.member.wal_mut().disk_mut();
        let ready = disk.ready();
        if ready > 0 {
            disk.run(self.random.below(ready as u64) as usize);
        }
        if node.log.is_dead() {
            self.crash(at, None);
            return Ok(());
        }
        if self.bug == Some(Bug::SyncsLie) && self.random.chance(10) {
            let (life, log) = (node.life, node.log.fork());
            self.plan(100 * MS, Event::Keep { at, life, log });
        }
        self.pump(at)
    }

    fn plan_disk(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let pause = node.disk_time(now, &mut self.random, &self.options);
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        if !process.disk_planned && process.member.wal_mut().disk_mut().ready() > 0 {
            process.disk_planned = true;
            self.plan(pause, Event::Disk { at, life });
        }
    }

    /// Moves a member on as far as it goes without waiting.
    fn pump(&mut self, at: usize) -> Result<(), Broken> {
        let mut offered = self.offer_fetched(at);
        for _ in 0..3 {
            let node = &mut self.nodes[at];
            let now = node.clock.read(self.now);
            let Some(process) = &mut node.process else { return Ok(()) };
            let pumped = match std::mem::replace(&mut offered, Ok(())) {
                Ok(()) => process.member.pump(now, &mut process.effects),
                Err(fatal) => Err(fatal),
            };
            let pumped = match pumped {
                Ok(pumped) => pumped,
                Err(fatal) => return self.stop(at, &fatal),
            };
            self.settle(at)?;
            if pumped == Pumped::Idle {
                break;
            }
            self.plan_pump(at);
        }
        self.plan_disk(at);
        Ok(())
    }

    /// A member cannot go on. After a fault that is as it should be.
    fn stop(&mut self, at: usize, fatal: &Fatal) -> Result<(), Broken> {
        match fatal {
            Fatal::Wal(_) => self.crash(at, Some(Loss::Nothing)),
            Fatal::Install { .. } if self.options.crashes_at_install => self.crash(at, None),
            other => return Err(format!("member {at} stops: {other}").into()),
        }
        Ok(())
    }

    /// Takes in what came of a pump.
    fn settle(&mut self, at: usize) -> Result<(), Broken> {
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let mut effects = std::mem::take(&mut process.effects);
        if effects.installed.is_some() {
            // What belonged to the old file is void.
            process.flush = None;
            process.served.clear();
            process.stored = process.member.store().applied().index;
            self.outcome.snapshots += 1;
            let installed = effects.installed.as_ref().map(|meta| meta.id);
            self.tell(|| format!("member {at} installs a snapshot of {installed:?}"));
        }
        for batch in effects.events.drain(..) {
            self.nodes[at].process.as_mut().expect("it runs").hub.publish(&batch);
            let news = self.truth.learn(&batch).map_err(|why| format!("member {at}: {why}"))?;
            if !news.is_empty() {
                self.tell(|| format!("member {at} is first to apply revision {}: {news:?}", batch.revision()));
            }
            for change in &news {
                self.effects.extend(change.pair.map(|pair| (pair.written_by, self.now)));
            }
            self.note_lease_ends(&news)?;
        }
        self.check_progress(at)?;
        if effects.installed.take().is_some() {
            let store = self.nodes[at].process.as_ref().expect("it runs").member.store();
            self.truth.check_store(store).map_err(|why| format!("member {at} installs: {why}"))?;
        }
        self.hub_jumps(at);
        for change in effects.roles.drain(..) {
            self.change_role(at, change)?;
        }
        for (call, result) in effects.applied.drain(..) {
            self.applied(call, result);
        }
        for (call, result) in effects.changed.drain(..) {
            let answer = if result.is_ok() { Answer::Done(0, Vec::new()) } else { Answer::Refused };
            self.reply(call, answer);
        }
        for call in effects.reads.drain(..) {
            self.readable(at, call)?;
        }
        for (call, why) in effects.lost.drain(..) {
            self.lost(call, why);
        }
        self.finish_settling(at, effects)
    }

    fn finish_settling(&mut self, at: usize, mut effects: Effects<u64>) -> Result<(), Broken> {
        for message in effects.messages.drain(..) {
            self.send(at, at_of(message.to), Packet::Peer(message));
        }
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let wanted = effects.snapshot_requests.clone();
        process.wanted.append(&mut effects.snapshot_requests);
        if !wanted.is_empty() {
            self.tell(|| format!("member {at} is asked for snapshots for {wanted:?}"));
        }
        if std::mem::take(&mut effects.removed) {
            // It is told, and stops for ever.
            self.nodes[at].is_retired = true;
            self.crash(at, Some(Loss::Nothing));
            return Ok(());
        }
        self.nodes[at].process.as_mut().expect("it runs").effects = effects;
        Ok(())
    }

    /// Every member gets to the same state by the same entries.
    fn check_progress(&mut self, at: usize) -> Result<(), Broken> {
        let member = &self.nodes[at].process.as_ref().expect("it runs").member;
        let store = member.store();
        let id = store.applied();
        if member.is_between_entries() && id.index > 0 {
            let found = (id.term, store.revision(), store.compact_revision());
            self.truth.applied(id.index, found).map_err(|why| format!("member {at}: {why}"))?;
        }
        Ok(())
    }

    fn change_role(&mut self, at: usize, change: RoleChange) -> Result<(), Broken> {
        let leads = change.role == Role::Leader;
        self.tell(|| format!("member {at}: {change:?}"));
        if leads {
            self.outcome.elections += 1;
            let id = id_of(at);
            match self.leaders.insert(change.term, (id, self.now)) {
                Some((other, _)) if other != id => {
                    return Err(format!("{other} and {id} both lead term {}", change.term).into());
                }
                _ => {}
            }
        }
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let process = node.process.as_mut().expect("it runs");
        process.promoted_in = change.term;
        let leases = process.member.store_mut().leases_mut();
        if leads || (self.bug == Some(Bug::FollowersRevoke) && !leases.is_promoted()) {
            leases.promote(now, ELECTION_MILLIS);
        } else if self.bug != Some(Bug::FollowersRevoke) {
            leases.demote();
        }
        Ok(())
    }

    fn lost(&mut self, call: u64, why: Lost) {
        let answer = match (self.calls.get(&call), why) {
            // A read that was lost told nothing.
            (Some(Call { ask: Ask::Get(..) | Ask::Scan | Ask::GetAt(..) | Ask::KeepAlive(_), .. }), _) => {
                Answer::Refused
            }
            _ => Answer::Unknown,
        };
        self.reply(call, answer);
    }

    /// Sends a packet to another member.
    pub(super) fn send(&mut self, from: usize, to: usize, packet: Packet) {
        if to >= self.nodes.len() {
            return;
        }
        if self.bug == Some(Bug::CommitWithoutQuorum) {
            self.claim_held(from, to, &packet);
        }
        let mut arrivals = self.net.send(&mut self.random, self.now, from, to, &packet);
        if self.bug == Some(Bug::ProposalsDoubled)
            && let (Packet::Peer(PeerMessage { body: PeerBody::Propose, .. }), Some(first)) =
                (&packet, arrivals.first().copied())
        {
            arrivals.push(first + 1);
        }
        if arrivals.is_empty() && self.random.chance(10) {
            // The transport notices now and then.
            if let Some(process) = &mut self.nodes[from].process {
                process.member.report_unreachable(id_of(to));
                self.plan_pump(from);
            }
        }
        let Some(last) = arrivals.pop() else { return };
        for arrival in arrivals {
            self.plan(arrival - self.now, Event::Packet { from, at: to, packet: Box::new(packet.clone()) });
        }
        self.plan(last - self.now, Event::Packet { from, at: to, packet: Box::new(packet) });
    }

    /// Tells a leader that a follower holds what it is only being sent.
    fn claim_held(&mut self, from: usize, to: usize, packet: &Packet) {
        let Packet::Peer(message) = packet else { return };
        let (PeerBody::Append { .. }, Some(last)) = (&message.body, message.entries.last()) else { return };
        let body = PeerBody::AppendResponse { index: last.index, commit: 0, reject: None, request_snapshot: 0 };
        let claim = PeerMessage { from: message.to, to: message.from, body, entries: Vec::new(), ..message.clone() };
        self.plan(1, Event::Packet { from: to, at: from, packet: Box::new(Packet::Peer(claim)) });
    }

    fn deliver(&mut self, from: usize, at: usize, packet: Packet) -> Result<(), Broken> {
        if !self.net.is_open(from, at) && self.bug != Some(Bug::CommitWithoutQuorum) {
            return Ok(());
        }
        let frames = self.options.frames;
        match packet {
            Packet::Peer(mut message) => {
                if frames {
                    let frame = message.encode().into();
                    message = PeerMessage::decode(&frame).map_err(|error| format!("a frame: {error}"))?;
                }
                if matches!(message.body, PeerBody::Snapshot(_)) {
                    self.begin_fetch(at, message);
                    return Ok(());
                }
                let process = self.nodes[at].process.as_mut().expect("it runs");
                if let Err(fatal) = process.member.step(message) {
                    return self.stop(at, &fatal);
                }
                self.plan_pump(at);
                Ok(())
            }
            Packet::Ask { snapshot, piece } => self.serve(at, from, snapshot, piece),
            Packet::Piece { snapshot, piece, content } => self.take_piece(at, snapshot, piece, content),
            Packet::NoSnapshot { snapshot } => {
                self.drop_fetch(at, snapshot);
                Ok(())
            }
        }
    }

    /// Work that has time: the flush of the data file in pieces, compaction, snapshots to pin, watchers that lag.
    fn background(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let pause = self.flush(at)?;
        let node = &mut self.nodes[at];
        let process = node.process.as_mut().expect("it runs");
        if process.member.store().is_compacting() && process.member.is_between_entries() {
            let budget = WorkBudget { records: 1 + self.random.below(50) as usize, bytes: 1 << 20 };
            let step = process.member.store_mut().compact_step(budget);
            step.map_err(|error| format!("member {at}: compaction: {error}"))?;
            process.hub.compacted(process.member.store().compact_revision());
        }
        catch_up(process)?;
        self.plan(pause, Event::Flush { at, life });
        self.plan_pump(at);
        Ok(())
    }

    /// Moves the flush of the data file on; the time until the next step.
    fn flush(&mut self, at: usize) -> Result<Time, Broken> {
        let now = self.now;
        let disk_time = self.nodes[at].disk_time(now, &mut self.random, &self.options);
        let failed = |error: String| Broken(format!("member {at}: flush: {error}"));
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let trees = process.member.store_mut().trees_mut();
        if let Some(job) = process.flush.take() {
            let applied = job.applied;
            process.flush = job.step(trees, &mut self.random).map_err(|error| failed(error.to_string()))?;
            if process.flush.is_some() {
                return Ok(disk_time);
            }
            // The log keeps what the flush before this one did not hold, as in the server.
            let before = std::mem::replace(&mut process.stored, applied);
            process.member.stored_up_to(before);
            return Ok(1 + self.random.below(2 * FLUSH_EVERY));
        }
        if !process.member.is_between_entries() {
            return Ok(disk_time);
        }
        if self.bug == Some(Bug::SnapshotMislabelled) {
            self.pin_snapshots(at)?;
        }
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let applied = process.member.store().applied().index;
        let begun = process.member.store_mut().trees_mut().begin_flush();
        process.flush = begun.map_err(|error| failed(error.to_string()))?.map(|flush| FlushJob::new(flush, applied));
        self.pin_snapshots(at)?;
        let begun = self.nodes[at].process.as_ref().is_some_and(|process| process.flush.is_some());
        Ok(if begun { disk_time } else { 1 + self.random.below(2 * FLUSH_EVERY) })
    }
}
