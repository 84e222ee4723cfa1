//! A single member on a hostile disk.
//!
//! Safety: after every start, the state is that after a prefix of what was submitted which holds everything that was
//! acknowledged; linearizable reads see everything acknowledged before they began; a member whose bytes have rotted
//! serves the right state or refuses to start. Liveness: without faults, everything submitted is acknowledged.

use crate::data_file;
use crate::disk_options::Options;
use crate::flush::FlushJob;
use crate::model::{Model, Operation, Pair, State};
use plinth_engine::budget::Budget;
use plinth_engine::budget::WorkBudget;
use plinth_engine::command::{Command, DeleteRange, Op, Put, Txn};
use plinth_engine::kv_codec::KeyValue;
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::PageFile;
use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::store::{Store, StoreConfig};
use plinth_engine::trees::{TreeId, Trees};
use plinth_engine::watch::{Hub, HubConfig};
use plinth_member::limits::APPLY_PER_PUMP;
use plinth_member::log::Log;
use plinth_member::recover::{self, Identity};
use plinth_member::round::{self, Outside};
use plinth_member::space::Lookout;
use plinth_member::{Applied, Changed, Effects, Fatal, Lost, Member, MemberConfig, Pumped, history};
use plinth_raft::{GroupConfig, MemberChange, MemberId, PeerMessage, RoleChange, SnapshotMeta};
use plinth_wal::sim_disk::{Loss, Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::{GroupId, SegmentSeq, WalId, WalOptions};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const GROUP: GroupId = GroupId(0);
const MEMBER: MemberId = MemberId(0x51);
const EIO: i32 = 5;

/// Pumps after which everything submitted must be acknowledged when nothing fails.
const LIVENESS_PUMPS: usize = 20_000;

/// What a run did, for its report and to compare two runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub acknowledged: u64,
    pub reads: u64,
    /// Times the process went down.
    pub crashes: u64,
    /// Faults of the disk that stopped it.
    pub faults: u64,
    /// Starts refused after bit rot.
    pub refusals: u64,
    /// A hash over everything that happened, in order.
    pub trace: u64,
}

/// Who waits.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    Write(u64),
    /// A read, and the revision that was acknowledged when it began.
    Read(i64),
}

type SimMember = Member<PageFile<SimStore>, Waiter>;
type SimLog = Log<SimDisk>;

/// Why a life ended before its time.
enum Stopped {
    /// A fault of the disk, as it should.
    Fault,
    Broken(String),
}

/// What survives a crash.
struct Machine {
    log: SimMedium,
    data: SimStore,
}

struct World {
    random: Rng,
    options: Options,
    model: Model,
    outcome: Outcome,
    now: Millis,
    /// Numbers of lives: seeds and sequences must differ between them.
    life: u64,
    /// Waiters that got no outcome, which is wrong.
    lost: Vec<String>,
}

/// Lives through the world of a seed.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let mut random = Rng::new(seed);
    let options = Options::draw(&mut random);
    let mut world = World {
        random,
        options,
        model: Model::default(),
        outcome: Outcome::default(),
        now: Millis(1000),
        life: 0,
        lost: Vec::new(),
    };
    let mut machine = Machine { log: SimMedium::new(), data: SimStore::new() };
    for _ in 0..options.lives {
        match world.live(machine)? {
            Some(next) => machine = next,
            None => return Ok(world.outcome),
        }
    }
    Ok(world.outcome)
}

impl World {
    fn note(&mut self, what: u64) {
        self.outcome.trace = (self.outcome.trace.rotate_left(7) ^ what).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// One life of the process, from start to crash. Nothing if the machine cannot be started any more.
    fn live(&mut self, mut machine: Machine) -> Result<Option<Machine>, String> {
        self.life += 1;
        let rotten = self.options.rot && self.life > 1 && self.random.chance(40);
        if rotten {
            self.rot(&mut machine);
        }
        let started = self.start(machine.log.clone(), machine.data.clone());
        let (member, log) = match started {
            Ok(started) => started,
            Err(error) if rotten => {
                self.note(error.len() as u64);
                self.outcome.refusals += 1;
                return Ok(None);
            }
            Err(error) => return Err(format!("life {}: it does not start: {error}", self.life)),
        };
        let hub = Hub::new(HubConfig::default(), member.store().revision());
        let mut process =
            Process { member, log, hub, effects: Effects::default(), flush: None, lookout: Lookout::default() };
        match self.serve(&mut process, &machine.log) {
            Ok(()) => {}
            Err(Stopped::Fault) => self.outcome.faults += 1,
            Err(Stopped::Broken(why)) if rotten && why.starts_with("rot:") => {
                self.outcome.refusals += 1;
                return Ok(None);
            }
            Err(Stopped::Broken(why)) => return Err(format!("life {}: {why}", self.life)),
        }
        Ok(Some(self.crash(process, machine.log)))
    }

    /// Flips some bits while nobody looks.
    fn rot(&mut self, machine: &mut Machine) {
        for _ in 0..1 + self.random.below(3) {
            let mask = 1 << self.random.below(8);
            if self.random.chance(50) && !machine.data.bytes().is_empty() {
                let at = self.random.below(machine.data.bytes().len() as u64);
                machine.data.flip_bit(at, mask);
                continue;
            }
            let segments: Vec<SegmentSeq> =
                machine.log.names().iter().filter_map(|name| SegmentSeq::from_file_name(name)).collect();
            if let Some(segment) = segments.get(self.random.below(segments.len().max(1) as u64) as usize) {
                let at = self.random.below(self.options.segment_bytes);
                machine.log.flip(*segment, at, mask as u8);
            }
        }
    }

    /// Boots as the server does.
    fn start(&mut self, log: SimMedium, data: SimStore) -> Result<(SimMember, SimLog), String> {
        let store = data_file::open(data, StoreConfig::default())?;
        let applied = data_file::applied(&store);
        let schedule = Schedule::Shuffled(Rng::new(self.random.bits()));
        let mut options = WalOptions::new(WalId(7));
        options.segment_bytes = self.options.segment_bytes;
        let disk = SimDisk::new(&log, schedule);
        let mut found = recover::recover(disk, options, [(GROUP, applied)]).map_err(|error| error.to_string())?;
        let recovered = found.take(GROUP).map_err(|error| error.to_string())?;
        let (mut log, mut entries) = (found.log, recovered.log);
        let identity = match recovered.identity {
            Some(identity) if recover::is_bootstrapped(&entries) => identity,
            _ => {
                let identity = Identity { member: MEMBER, cluster: 0xc1 };
                let record = plinth_raft::Member { id: MEMBER, ..plinth_raft::Member::default() };
                let members = vec![(MEMBER, MemberChange::Add(record).encode())];
                entries = recover::append_bootstrap(&mut log, GROUP, identity, members);
                log.flush().map_err(|error| error.to_string())?;
                while !log.is_durable() {
                    log.poll().map_err(|error| error.to_string())?;
                }
                identity
            }
        };
        let conf = data_file::conf(&store)?;
        let group = GroupConfig { conf, ..GroupConfig::new(GROUP, MEMBER, self.random.bits()) };
        let config = MemberConfig {
            identity,
            group,
            lease_extension_millis: 1000,
            first_sequence: self.life << 32,
            request_timeout_millis: 60_000,
            learners_max: 1,
            // In every other life commands are applied bit by bit.
            apply_budget: if self.life.is_multiple_of(2) {
                APPLY_PER_PUMP
            } else {
                Budget { pairs: 2, bytes: 64, visits: 3 }
            },
        };
        let member = Member::new(config, entries, store).map_err(|error| error.to_string())?;
        Ok((member, log))
    }

    /// Brings the member up, checks what it holds, and lets clients at it until the end of this life.
    fn serve(&mut self, process: &mut Process, log: &SimMedium) -> Result<(), Stopped> {
        while process.member.pending_reads() == 0 && !process.member.is_leader() {
            self.pump(process)?;
        }
        self.barrier(process)?;
        let found = read_state(process.member.store()).map_err(|why| Stopped::Broken(format!("rot: {why}")))?;
        if let Err(why) = self.model.take_over(&found) {
            // Tolerated after rot alone: a damaged last record cannot be told from a torn one.
            let rot = if self.model.is_cut_short(&found) { "rot: " } else { "" };
            return Err(Stopped::Broken(format!("{rot}{why}")));
        }
        self.note(found.revision as u64);
        let steps = self.random.below(self.options.steps) + 1;
        if self.options.failing_syncs && self.random.chance(50) {
            log.fail_at(log.steps() + self.random.below(400), EIO);
        }
        for _ in 0..steps {
            self.step(process, log)?;
        }
        if self.random.chance(30) && !self.options.failing_syncs {
            self.check_liveness(process, log)?;
        }
        Ok(())
    }

    /// Waits for a linearizable moment without submitting anything.
    fn barrier(&mut self, process: &mut Process) -> Result<(), Stopped> {
        let reads = self.outcome.reads;
        let waiter = Waiter::Read(0);
        process.member.read(waiter, self.now).map_err(|_| Stopped::Broken("a first read is refused".into()))?;
        for _ in 0..LIVENESS_PUMPS {
            if self.outcome.reads > reads {
                return Ok(());
            }
            self.pump(process)?;
        }
        Err(Stopped::Broken("it does not get ready".into()))
    }

    fn step(&mut self, process: &mut Process, log: &SimMedium) -> Result<(), Stopped> {
        match self.random.below(100) {
            0..45 => self.submit(process),
            45..55 => {
                let revision = self.model.acknowledged_state().revision;
                let _ = process.member.read(Waiter::Read(revision), self.now);
                Ok(())
            }
            55..85 => self.pump(process),
            85..95 => self.flush(process),
            95..97 => self.compact(process),
            97..98 => {
                self.now = Millis(self.now.0 + self.random.below(500));
                self.tick(process)
            }
            _ => {
                self.squeeze(process, log);
                Ok(())
            }
        }
    }

    /// Fills the disks up, or makes room again.
    fn squeeze(&mut self, process: &mut Process, log: &SimMedium) {
        if self.options.full_log_disk {
            let full = self.random.chance(50);
            log.set_capacity(full.then(|| log.used_bytes() + self.random.below(2 * self.options.segment_bytes)));
        }
        if self.options.full_data_disk {
            let full = self.random.chance(50);
            let store = process.member.store_mut().trees_mut().store_mut();
            let size = store.bytes().len() as u64;
            store.limit_bytes = full.then_some(size);
        }
    }

    fn submit(&mut self, process: &mut Process) -> Result<(), Stopped> {
        let member = &process.member;
        if !member.has_space(&process.log) {
            // As the server does: refused with NOSPACE before it gets anywhere.
            return Ok(());
        }
        let key = self.random.below(self.options.keys);
        let operation = match self.random.below(10) {
            0..6 => Operation::Put(vec![key]),
            6..8 => {
                let mut keys = vec![key, (key + 1) % self.options.keys, (key + 5) % self.options.keys];
                keys.sort_unstable();
                keys.dedup();
                Operation::Put(keys)
            }
            8 => Operation::Delete(key),
            _ if self.options.compaction => {
                let revision = self.model.acknowledged_state().revision;
                Operation::Compact(revision - self.random.below(20) as i64)
            }
            _ => Operation::Put(vec![key]),
        };
        let number = self.model.submit(operation.clone());
        let command = encode(number, &operation, self.options.value_bytes);
        self.note(number);
        let submitted = process.member.submit(|out| command.encode_into(out), Waiter::Write(number), self.now);
        submitted.map_err(|(error, _)| Stopped::Broken(format!("a submission is refused: {error}")))
    }

    fn pump(&mut self, process: &mut Process) -> Result<(), Stopped> {
        while self.round(process, |around, effects| round::run(around, effects))? == Pumped::More {}
        Ok(())
    }

    /// Time passes: the member ticks, and looks whether its disk has room.
    fn tick(&mut self, process: &mut Process) -> Result<(), Stopped> {
        self.round(process, |around, effects| round::tick(around, effects))?;
        let looked = process.lookout.look(&mut process.member, &process.log, self.now);
        looked.map(drop).map_err(|fatal| self.judge(fatal))
    }

    /// Does a part of a round with what surrounds the member.
    fn round<R>(
        &mut self,
        process: &mut Process,
        drive: impl FnOnce(&mut Around<'_>, &mut Effects<Waiter>) -> Result<R, Ended>,
    ) -> Result<R, Stopped> {
        let mut effects = std::mem::take(&mut process.effects);
        let done = drive(&mut Around { world: self, process }, &mut effects);
        process.effects = effects;
        done.map_err(|ended| match ended {
            Ended::Broken(why) => Stopped::Broken(why),
            Ended::Fatal(fatal) => self.judge(fatal),
        })
    }

    /// The member cannot go on: is that as it should be?
    fn judge(&mut self, fatal: Fatal) -> Stopped {
        self.note(fatal.to_string().len() as u64);
        match fatal {
            Fatal::Wal(_) => Stopped::Fault,
            // The data file's disk is full beyond the reserve: the process stops, loudly.
            Fatal::Store(error) if self.options.full_data_disk && is_full(&error) => Stopped::Fault,
            other => Stopped::Broken(format!("rot: {other}")),
        }
    }

    /// Moves the flush of the data file on by a piece: begin, some writes, sync, meta page, sync, finish.
    fn flush(&mut self, process: &mut Process) -> Result<(), Stopped> {
        let fault = |error: String| Stopped::Broken(format!("rot: flush: {error}"));
        if let Some(job) = process.flush.take() {
            let applied = job.applied;
            let stepped = job.step(process.member.store_mut().trees_mut(), &mut self.random);
            process.flush = stepped.map_err(|error| fault(error.to_string()))?;
            if process.flush.is_none() {
                process.member.stored_up_to(&mut process.log, applied);
            }
        } else if process.member.is_between_entries() {
            let applied = process.member.store().applied().index;
            let begun = process.member.store_mut().trees_mut().begin_flush();
            let begun = begun.map_err(|error| fault(error.to_string()))?;
            process.flush = begun.map(|flush| FlushJob::new(flush, applied));
        }
        Ok(())
    }

    fn compact(&mut self, process: &mut Process) -> Result<(), Stopped> {
        if process.member.is_between_entries() {
            let budget = WorkBudget { records: 1 + self.random.below(50) as usize, bytes: 1 << 20 };
            let step = history::compact(&mut process.member, &mut process.hub, budget);
            step.map_err(|error| match self.options.full_data_disk && is_full(&error) {
                true => Stopped::Fault,
                false => Stopped::Broken(format!("rot: compaction: {error}")),
            })?;
        }
        Ok(())
    }

    /// Without faults everything submitted is acknowledged.
    fn check_liveness(&mut self, process: &mut Process, log: &SimMedium) -> Result<(), Stopped> {
        log.set_capacity(None);
        process.member.store_mut().trees_mut().store_mut().limit_bytes = None;
        for _ in 0..LIVENESS_PUMPS {
            if process.member.pending_commands() == 0 && process.member.is_between_entries() {
                return Ok(());
            }
            self.tick(process)?;
            self.pump(process)?;
        }
        Err(Stopped::Broken(format!("{} commands are never acknowledged", process.member.pending_commands())))
    }

    /// The process is killed, or the power fails.
    fn crash(&mut self, process: Process, log: SimMedium) -> Machine {
        self.outcome.crashes += 1;
        let loss = Loss::ALL[self.random.below(Loss::ALL.len() as u64) as usize];
        let data = process.member.store().trees().store().clone();
        drop(process);
        log.crash(loss, self.random.bits());
        log.set_capacity(None);
        let mut data = match loss {
            Loss::Nothing => data,
            _ => {
                let random = &mut self.random;
                data.crash(&mut || random.bits())
            }
        };
        data.limit_bytes = None;
        Machine { log, data }
    }
}

fn is_full(error: &plinth_engine::error::StoreError) -> bool {
    matches!(error, plinth_engine::error::StoreError::Tree(plinth_engine::trees::TreeError::Full { .. }))
}

/// A running process: everything that a crash takes.
struct Process {
    member: SimMember,
    log: SimLog,
    hub: Hub,
    effects: Effects<Waiter>,
    flush: Option<FlushJob>,
    lookout: Lookout,
}

/// Why a round ended before its time.
enum Ended {
    Fatal(Fatal),
    Broken(String),
}

impl From<Fatal> for Ended {
    fn from(fatal: Fatal) -> Ended {
        Ended::Fatal(fatal)
    }
}

/// What surrounds the member: clients alone.
struct Around<'a> {
    world: &'a mut World,
    process: &'a mut Process,
}

impl Outside for Around<'_> {
    type Disk = SimDisk;
    type Trees = PageFile<SimStore>;
    type Waiter = Waiter;
    type Stop = Ended;

    fn with<R>(&mut self, act: impl FnOnce(&mut SimMember, &mut Hub) -> R) -> R {
        act(&mut self.process.member, &mut self.process.hub)
    }

    fn with_log<R>(&mut self, act: impl FnOnce(&mut SimMember, &mut SimLog) -> R) -> R {
        act(&mut self.process.member, &mut self.process.log)
    }

    fn now(&mut self) -> Millis {
        self.world.now
    }

    fn applied(&mut self, effects: &mut Effects<Waiter>) -> Result<(), Ended> {
        effects.unasked.clear();
        effects.sign_ins.clear();
        Ok(())
    }

    fn role_changed(&mut self, _: RoleChange) -> Result<(), Ended> {
        Ok(())
    }

    fn installed(&mut self, _: SnapshotMeta) -> Result<(), Ended> {
        Err(Ended::Broken("a lone member gets a snapshot".into()))
    }

    fn answer(&mut self, applied: &mut Vec<Applied<Waiter>>) -> Result<(), Ended> {
        for (waiter, result) in applied.drain(..) {
            let Waiter::Write(number) = waiter else {
                return Err(Ended::Broken("a read was answered as a write".into()));
            };
            self.world.model.acknowledge(number);
            self.world.outcome.acknowledged += 1;
            let revision = result.as_ref().map_or(-1, |outcome| outcome.revision);
            self.world.note(number ^ (revision as u64) << 20);
        }
        Ok(())
    }

    fn read(&mut self, reads: &mut Vec<Waiter>) -> Result<(), Ended> {
        let revision = self.process.member.store().revision();
        for waiter in reads.drain(..) {
            let Waiter::Read(acknowledged) = waiter else {
                return Err(Ended::Broken("a write was answered as a read".into()));
            };
            if revision < acknowledged {
                return Err(Ended::Broken(format!("a read at {revision} misses revision {acknowledged}")));
            }
            self.world.outcome.reads += 1;
        }
        Ok(())
    }

    fn lose(&mut self, lost: &mut Vec<(Waiter, Lost)>) {
        self.world.lost.extend(lost.drain(..).map(|(waiter, why)| format!("{waiter:?} is lost: {why:?}")));
    }

    fn changed(&mut self, changed: &mut Vec<Changed<Waiter>>) {
        changed.clear();
    }

    fn send(&mut self, messages: &mut Vec<PeerMessage>) {
        messages.clear();
    }

    fn provide_snapshot(&mut self, _: MemberId) {}

    fn deliver(&mut self) {}

    /// Compactions go on when they like.
    fn wake_background(&mut self) {}

    fn follow_members(&mut self) -> Result<(), Ended> {
        self.world.lost.pop().map_or(Ok(()), |why| Err(Ended::Broken(why)))
    }

    fn removed(&mut self) {}
}

fn key_name(key: u64) -> Vec<u8> {
    format!("key/{key:04}").into_bytes()
}

/// A value that names the operation which wrote it, of a length that depends on it.
fn value_of(number: u64, value_bytes: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    let len = 8 + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % value_bytes;
    value.resize(len as usize, number as u8);
    value
}

fn encode(number: u64, operation: &Operation, value_bytes: u64) -> Command {
    let put =
        |key: &u64| Put { key: key_name(*key).into(), value: value_of(number, value_bytes).into(), ..Put::default() };
    match operation {
        Operation::Put(keys) if keys.len() == 1 => Command::Put(put(&keys[0])),
        Operation::Put(keys) => {
            let success = keys.iter().map(|key| Op::Put(put(key))).collect();
            Command::Txn(Txn { success, ..Txn::default() })
        }
        Operation::Delete(key) => {
            Command::DeleteRange(DeleteRange { key: key_name(*key).into(), ..DeleteRange::default() })
        }
        Operation::Compact(revision) => Command::Compact { revision: *revision },
    }
}

/// Everything that a client could read now, with every value checked to be whole.
fn read_state<T: Trees>(store: &Store<T>) -> Result<State, String> {
    let query = plinth_engine::store::range::RangeQuery { key: b"\0", range_end: b"\0", ..Default::default() };
    let mut bytes = Vec::new();
    store.range(&query, &mut bytes).map_err(|error| error.to_string())?;
    let mut pairs = BTreeMap::new();
    for encoded in split_fields(&bytes)? {
        let pair = KeyValue::decode(encoded).map_err(|error| error.to_string())?;
        let name = std::str::from_utf8(pair.key).map_err(|error| error.to_string())?;
        let key = name.strip_prefix("key/").and_then(|digits| digits.parse().ok()).ok_or("an unknown key")?;
        let number: [u8; 8] = pair.value.get(..8).and_then(|head| head.try_into().ok()).ok_or("a short value")?;
        if pair.value[8..].iter().any(|byte| *byte != number[7]) {
            return Err(format!("the value of {name} is damaged"));
        }
        let found = Pair {
            written_by: u64::from_be_bytes(number),
            create_revision: pair.create_revision,
            mod_revision: pair.mod_revision,
            version: pair.version,
        };
        pairs.insert(key, found);
    }
    // Leases and alarms are not used here; a scan still has to get through their trees.
    store.trees().scan(TreeId::Lease, &[], &mut |_, _| ControlFlow::Continue(())).map_err(|error| error.to_string())?;
    Ok(State { revision: store.revision(), compact_revision: store.compact_revision(), pairs })
}

/// The contents of the length-delimited fields that a range appends.
fn split_fields(mut bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut fields = Vec::new();
    while let Some((0x12, rest)) = bytes.split_first() {
        let mut len = 0_usize;
        let mut taken = 0;
        for (place, byte) in rest.iter().enumerate() {
            len |= usize::from(byte & 0x7f) << (7 * place);
            taken = place + 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        fields.push(rest.get(taken..taken + len).ok_or("a field is cut short")?);
        bytes = &rest[taken + len..];
    }
    if bytes.is_empty() { Ok(fields) } else { Err("something follows the pairs".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_seeds_keep_every_promise_and_repeat_exactly() {
        let mut acknowledged = 0;
        for seed in 1..=100 {
            let first = run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            acknowledged += first.acknowledged;
            if seed % 10 == 0 {
                assert_eq!(run(seed), Ok(first), "seed {seed}: two runs differ");
            }
        }
        assert!(acknowledged > 1000, "the runs did next to nothing: {acknowledged} writes");
    }
}
