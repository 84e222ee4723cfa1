//! The queue of events, and everything that is in the world.

use super::groups_bugs::Bug;
use super::groups_clients::{Call, History};
use super::groups_options::{GROUPS, MACHINES, MS, Options, SECOND, TICK, Time};
use super::groups_store::Store;
use super::machine::{Machine, Process, founders};
use super::rot::Rotten;
use crate::agenda::{Agenda, Planned};
use bytes::Bytes;
use plinth_raft::error::StepError;
use plinth_raft::groups::Refused;
use plinth_raft::{EntryKind, GroupId, MemberId};
use plinth_wal::sim_disk::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was broken.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl From<String> for Broken {
    fn from(why: String) -> Broken {
        Broken(why)
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Operations of histories that were checked.
    pub checked: u64,
    /// Histories that are too long to be checked.
    pub unchecked: u64,
    /// Machines that went down.
    pub crashes: u64,
    /// Logs in which a bit was flipped: so often groups were refused alone, or the log.
    pub refused_groups: u64,
    pub refused_logs: u64,
    /// Leaders elected.
    pub elections: u64,
    /// Snapshots made for followers.
    pub snapshots: u64,
    /// Members that left their group for another machine.
    pub moved: u64,
    /// Parcels sent, and messages in them.
    pub parcels: u64,
    /// See above.
    pub messages: u64,
    /// A hash over everything that happened.
    pub trace: u64,
}

/// What happens; `life` is that of the machine for which it was meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Tick { at: usize, life: u64 },
    Pump { at: usize, life: u64 },
    Disk { at: usize, life: u64 },
    Checkpoint { at: usize, life: u64 },
    SnapshotOver { at: usize, life: u64, id: GroupId, to: MemberId },
    Parcel { from: usize, at: usize, frame: Bytes },
    Start { at: usize },
    Client { client: usize },
    Arrive { call: u64 },
    GiveUp { call: u64 },
    Fault,
    Mend,
}

pub(super) struct World {
    pub(super) options: Options,
    pub(super) random: Rng,
    pub(super) bug: Option<Bug>,
    is_told: bool,
    pub(super) now: Time,
    agenda: Agenda<Event>,
    pub(super) machines: Vec<Machine>,
    /// From and to; nothing passes.
    pub(super) cuts: BTreeSet<(usize, usize)>,
    pub(super) in_storm: bool,
    /// Group and machine, for every member that a group ever had.
    pub(super) hosted: BTreeSet<(GroupId, usize)>,
    /// Those that were made on a machine that is no founder: once each.
    pub(super) made: BTreeSet<(GroupId, usize)>,
    pub(super) leaders: BTreeMap<(GroupId, u64), usize>,
    /// What every member applies, by group and index.
    pub(super) truth: BTreeMap<(GroupId, u64), (u64, EntryKind, Bytes)>,
    /// Snapshots travel beside the parcels; they are here all the time.
    pub(super) snapshots: BTreeMap<(GroupId, u64), Store>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) last_call: u64,
    pub(super) history: History,
    /// The last entry of each group that holds an acknowledged write.
    pub(super) acknowledged: BTreeMap<GroupId, u64>,
    /// Calls whose success the calm waits for, and those that had it.
    pub(super) watched_calls: BTreeSet<u64>,
    pub(super) acknowledged_calls: BTreeSet<u64>,
    pub(super) resting: Vec<usize>,
    pub(super) outcome: Outcome,
}

/// Lives through the run of a seed.
///
/// # Errors
/// What promise was broken.
pub fn run(seed: u64) -> Result<Outcome, String> {
    run_with(seed, None)
}

/// The same with a bug.
///
/// # Errors
/// What promise was broken.
pub fn run_with(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    World::new(seed, bug, false).run()
}

/// The same, with everything told that happens.
///
/// # Errors
/// What promise was broken.
pub fn tell(seed: u64, bug: Option<Bug>) -> Result<Outcome, String> {
    World::new(seed, bug, true).run()
}

impl World {
    fn new(seed: u64, bug: Option<Bug>, is_told: bool) -> World {
        let mut random = Rng::new(seed ^ 0x6706_7075);
        let mut options = Options::draw(&mut random);
        if let Some(bug) = bug {
            bug.choose_weather(&mut options);
        }
        let founded = (0..GROUPS).map(GroupId).flat_map(|id| founders(id).into_iter().map(move |at| (id, at)));
        World {
            options,
            random,
            bug,
            is_told,
            now: 0,
            agenda: Agenda::new(),
            machines: (0..MACHINES).map(Machine::new).collect(),
            cuts: BTreeSet::new(),
            in_storm: false,
            hosted: founded.collect(),
            made: BTreeSet::new(),
            leaders: BTreeMap::new(),
            truth: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            history: History::new(),
            acknowledged: BTreeMap::new(),
            watched_calls: BTreeSet::new(),
            acknowledged_calls: BTreeSet::new(),
            resting: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    fn run(mut self) -> Result<Outcome, String> {
        let seed_of_clients = self.options.clients;
        self.resting = (0..seed_of_clients).collect();
        self.live().map_err(|Broken(why)| format!("after {} ms: {why}", self.now / MS))?;
        Ok(self.outcome)
    }

    fn live(&mut self) -> Result<(), Broken> {
        for at in 0..MACHINES {
            self.start(at)?;
        }
        for _ in 0..self.options.storms {
            self.storm()?;
            self.calm()?;
        }
        self.check_history()
    }

    fn storm(&mut self) -> Result<(), Broken> {
        self.in_storm = true;
        self.tell(|| format!("a storm begins: {:?}", self.options));
        for client in std::mem::take(&mut self.resting) {
            let pause = SECOND + self.random.below(SECOND);
            self.plan(pause, Event::Client { client });
        }
        self.plan(3 * SECOND, Event::Fault);
        let end = self.now + 3 * SECOND + self.options.storm;
        while self.next(end)? {}
        self.in_storm = false;
        Ok(())
    }

    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:>9.3} ms  {}", self.now as f64 / MS as f64, line());
        }
    }

    pub(super) fn plan(&mut self, after: Time, event: Event) {
        self.agenda.plan(self.now + after, event);
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    pub(super) fn stands(&self, at: usize) -> bool {
        self.now < self.machines[at].stands_until
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Process> {
        self.machines.iter().filter_map(|machine| machine.process.as_ref())
    }

    /// Lets the next event happen; false if there is none before `end`, where time then stands.
    pub(super) fn next(&mut self, end: Time) -> Result<bool, Broken> {
        let Some(Planned { time, number, event }) = self.agenda.next(end) else {
            self.now = end;
            return Ok(false);
        };
        self.now = time;
        let of = match &event {
            Event::Tick { at, life }
            | Event::Pump { at, life }
            | Event::Disk { at, life }
            | Event::Checkpoint { at, life }
            | Event::SnapshotOver { at, life, .. } => Some((*at, Some(*life))),
            Event::Parcel { at, .. } => Some((*at, None)),
            _ => None,
        };
        if let Some((at, life)) = of {
            let machine = &self.machines[at];
            if machine.process.is_none() || life.is_some_and(|life| life != machine.life) {
                return Ok(true);
            }
            if self.stands(at) {
                let until = machine.stands_until;
                self.agenda.put_off(Planned { time: until, number, event });
                return Ok(true);
            }
        }
        let what = time ^ number << 40;
        self.outcome.trace = (self.outcome.trace.rotate_left(7) ^ what).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.happen(event)?;
        Ok(true)
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Tick { at, life } => {
                let process = self.machines[at].process.as_mut().expect("it runs");
                process.groups.tick();
                self.plan(TICK, Event::Tick { at, life });
                self.plan_pump(at);
            }
            Event::Pump { at, .. } => self.pump(at)?,
            Event::Disk { at, .. } => self.run_disk(at)?,
            Event::Checkpoint { at, life } => {
                self.machines[at].checkpoint(self.bug);
                let pause = 1 + self.random.below(2 * self.options.checkpoint);
                self.plan(pause, Event::Checkpoint { at, life });
                self.plan_pump(at);
            }
            Event::SnapshotOver { at, id, to, .. } => self.snapshot_over(at, id, to),
            Event::Parcel { from, at, frame } => self.deliver(from, at, &frame)?,
            Event::Start { at } => {
                if self.machines[at].process.is_none() {
                    self.start(at)?;
                }
            }
            Event::Client { client } => {
                if self.in_storm {
                    self.client(client);
                } else {
                    self.resting.push(client);
                }
            }
            Event::Arrive { call } => self.arrive(call),
            Event::GiveUp { call } => self.reply(call, None, 0),
            Event::Fault => self.fault(),
            Event::Mend => self.cuts.clear(),
        }
        Ok(())
    }

    /// Bits rot in a copy of the log of a machine that starts: the run itself goes on with what it had.
    fn rot(&mut self, at: usize) -> Result<(), Broken> {
        let (machine, life) = (&self.machines[at], self.machines[at].life);
        let mut random = Rng::new(self.now ^ (at as u64) << 32 ^ life << 40);
        if life == 0 || random.below(4) > 0 {
            return Ok(());
        }
        let rotten = machine.rot(&mut random, &machine.wal_options(&self.options), self.bug);
        match rotten.map_err(|why| format!("the log of machine {at} rots: {why}"))? {
            Rotten::Alone => self.outcome.refused_groups += 1,
            Rotten::Whole => self.outcome.refused_logs += 1,
            Rotten::Nothing => {}
        }
        Ok(())
    }

    fn start(&mut self, at: usize) -> Result<(), Broken> {
        let bug = self.bug;
        self.rot(at)?;
        self.machines[at]
            .start(&mut self.random, &self.options, bug)
            .map_err(|why| format!("machine {at} does not start: {why}"))?;
        if self.machines[at].process.is_none() {
            // It went down again at once.
            self.crash(at, None);
            return Ok(());
        }
        self.tell(|| format!("machine {at} starts"));
        let life = self.machines[at].life;
        let first = self.random.below(TICK);
        self.plan(first, Event::Tick { at, life });
        let first = self.random.below(self.options.checkpoint);
        self.plan(first, Event::Checkpoint { at, life });
        self.plan_pump(at);
        Ok(())
    }

    fn deliver(&mut self, from: usize, at: usize, frame: &Bytes) -> Result<(), Broken> {
        if self.is_cut(from, at) {
            return Ok(());
        }
        let process = self.machines[at].process.as_mut().expect("it runs");
        let parcel = process.groups.decode(frame).map_err(|error| format!("a parcel: {error}"))?;
        let (mut unknown, mut lost) = (BTreeSet::new(), None);
        process.groups.receive(parcel, |id, why| match why {
            Refused::Unknown => drop(unknown.insert(id)),
            Refused::Step(error @ StepError::LogLost { .. }) => lost = Some(format!("group {id}: {error}")),
            Refused::Step(_) => {}
        });
        if let Some(why) = lost {
            return Err(format!("machine {at}: {why}").into());
        }
        for id in unknown {
            // Who has left a group is not made a member again by a message that comes late.
            let is_invited = self.hosted.contains(&(id, at)) && !founders(id).contains(&at);
            if is_invited && self.made.insert((id, at)) {
                self.tell(|| format!("machine {at} makes group {id}"));
                self.machines[at].create(id, &mut self.random, &self.options);
            }
        }
        self.plan_pump(at);
        Ok(())
    }
}
