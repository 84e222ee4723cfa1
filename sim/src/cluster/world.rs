//! The world of one run: members, network, clients and time, driven by a queue of events.
//!
//! Storms, in which faults occur, alternate with calms (see `calm`).

use super::bugs::Bug;
use super::checks::COMPARE_EVERY;
use super::clients::{Answer, Call, Client, FIRST_QUESTION};
use super::drive::FLUSH_EVERY;
use super::holders::{Holder, Lease};
use super::network::{Network, Packet};
use super::node::{Node, TICK_MILLIS};
use super::options::{MS, Options, SECOND, Time};
use super::truth::Truth;
use super::watchers::Watcher;
use crate::agenda::{Agenda, Planned};
use crate::linear::Operation;
use plinth_member::transfer::Lost;
use plinth_raft::MemberId;
use plinth_wal::sim_disk::{Loss, Rng, SimMedium};
use std::collections::BTreeMap;

/// A process that stood still does what was due meanwhile within this time.
pub(super) const WAKE_MAX: Time = 300;

/// What a run did, for its report and to compare two runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub acknowledged: u64,
    pub reads: u64,
    /// Operations that went through the checker of histories.
    pub checked: u64,
    pub renewals: u64,
    /// Those of them that had to be replicated.
    pub cleared: u64,
    /// Events that watchers have seen.
    pub watched: u64,
    /// Times a process went down.
    pub crashes: u64,
    pub elections: u64,
    pub snapshots: u64,
    /// Changes of the members applied.
    pub changes: u64,
    /// Times a member moved.
    pub moves: u64,
    /// Comparisons of all members that came to an end.
    pub compared: u64,
    /// Leadership handed over on purpose.
    pub handed_over: u64,
    /// Writes refused to a user who may not.
    pub denied: u64,
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
    Background { at: usize, life: u64 },
    ScanLeases { at: usize, life: u64 },
    Keep { at: usize, life: u64, log: SimMedium },
    Start { at: usize },
    Packet { from: usize, at: usize, packet: Box<Packet> },
    Unanswered { at: usize, life: u64, asked: (u64, u64) },
    Fetch { at: usize, life: u64 },
    Client { client: usize },
    Holder { holder: usize },
    Watch { number: usize },
    Arrive { call: u64 },
    Answer { call: u64, answer: Answer },
    GiveUp { call: u64 },
    Fault,
    Room { at: usize },
    Mend,
    Probe,
    Rights,
    V2,
    Compare { at: usize, life: u64 },
    Judge { at: usize, life: u64 },
}

impl Event {
    /// The member whose process takes part in it.
    fn process(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Event::Pump { at, life }
            | Event::Tick { at, life }
            | Event::Disk { at, life }
            | Event::Flush { at, life }
            | Event::Background { at, life }
            | Event::ScanLeases { at, life }
            | Event::Compare { at, life }
            | Event::Judge { at, life }
            | Event::Fetch { at, life }
            | Event::Unanswered { at, life, .. } => Some((*at, Some(*life))),
            Event::Packet { at, .. } => Some((*at, None)),
            _ => None,
        }
    }
}

/// See the module.
pub struct World {
    pub(super) random: Rng,
    pub(super) options: Options,
    pub(super) bug: Option<Bug>,
    pub(super) now: Time,
    agenda: Agenda<Event>,
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
    /// The newest index of the v2 store that anybody was told of.
    pub(super) last_v2: u64,
    pub(super) clients: Vec<Client>,
    pub(super) history: BTreeMap<u64, Vec<Operation>>,
    pub(super) holders: Vec<Holder>,
    pub(super) leases: BTreeMap<i64, Lease>,
    pub(super) last_lease: i64,
    pub(super) watchers: Vec<Watcher>,
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
    plinth_member::planted::plant(world.bug.and_then(Bug::in_shell));
    match world.live() {
        Ok(()) => Ok(world.outcome),
        Err(Broken(why)) => Err(format!("at {} ms: {why}", world.now / MS)),
    }
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut random = Rng::new(seed);
        let mut options = Options::draw(&mut random);
        options.users = bug.is_none() && seed % 4 == 3;
        options.v2 = bug.is_none() && seed % 3 == 1;
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
            agenda: Agenda::new(),
            truth: Truth::default(),
            effects: BTreeMap::new(),
            leaders: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            acknowledged: 1,
            last_v2: 0,
            history: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
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
        self.agenda.plan(self.now + after, event);
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
        if self.options.users {
            self.plan(FIRST_QUESTION, Event::Rights);
        }
        if self.options.v2 {
            self.plan(FIRST_QUESTION, Event::V2);
        }
        for _ in 0..self.options.storms {
            self.storm()?;
            self.calm()?;
        }
        self.hand_over()?;
        self.fill_leader()?;
        self.stall_leader()?;
        self.grant_crowd()?;
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

    /// Lets the next event happen; false if there is none before `end`, where time then stands.
    pub(super) fn next(&mut self, end: Time) -> Result<bool, Broken> {
        let Some(Planned { time, number, event }) = self.agenda.next(end) else {
            self.now = end;
            return Ok(false);
        };
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
                self.agenda.put_off(Planned { time: until + jitter, number, event });
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
            Event::Flush { at, life } => self.flush_regularly(at, life),
            Event::Background { at, life } => self.background(at, life),
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
            Event::Unanswered { at, asked, .. } => self.take_piece(at, asked, Err(Lost::Unanswered)),
            Event::Fetch { at, .. } => self.fetch_on(at),
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
            Event::Room { at } => {
                self.make_room(at);
                Ok(())
            }
            Event::Mend => {
                self.net.mend();
                Ok(())
            }
            Event::Probe => {
                self.probe();
                Ok(())
            }
            Event::Rights => {
                self.change_rights();
                Ok(())
            }
            Event::V2 => {
                self.change_v2();
                Ok(())
            }
            Event::Compare { at, life } => self.begin_check(at, life),
            Event::Judge { at, .. } => {
                self.ask_for_moment(at);
                Ok(())
            }
        }
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
        let first = self.random.below(COMPARE_EVERY);
        self.plan(first, Event::Compare { at, life });
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
}
