//! What happens around a member, as in the server: ticks, effects of the disk, pumps and what comes of them, messages,
//! the flush of the data file, and leases that run out.

use super::bugs::Bug;
use super::clients::{Answer, Ask, Call};
use super::network::Packet;
use super::node::{SimLog, SimMember, TICK_MILLIS, at_of, id_of};
use super::options::{MS, Time};
use super::world::{Broken, Event, World};
use crate::flush::FlushJob;
use plinth_engine::budget::WorkBudget;
use plinth_engine::error::StoreError;
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::PageFile;
use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::store::compact::CompactProgress;
use plinth_engine::trees::Trees;
use plinth_engine::watch::{EventBatch, EventMode, Hub};
use plinth_member::round::{self, Outside};
use plinth_member::stall::{Asked, Stalled};
use plinth_member::transfer::Lost as LostPiece;
use plinth_member::{Applied, Changed, Effects, Fatal, Lost, Pumped, history, records};
use plinth_raft::{MemberId, PeerBody, PeerMessage, Role, RoleChange, SnapshotMeta};
use plinth_wal::sim_disk::{Loss, SimDisk};

/// A pump that stops in the middle of applying goes on after this.
const PUMP_AGAIN: Time = 100;
/// Chunks of history that one turn of the background reads.
const CATCH_UPS: usize = 10;
/// Waits for what nobody waits for.
const NOBODY: u64 = 0;
/// How often the data file is flushed, about.
pub(super) const FLUSH_EVERY: Time = 100 * MS;

impl World {
    pub(super) fn tick(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let pause = self.nodes[at].clock.really(TICK_MILLIS);
        self.plan(pause, Event::Tick { at, life });
        self.around(at, |around, effects| round::tick(around, effects))?;
        self.look_for_space(at)?;
        self.look_after_snapshots(at);
        self.pump(at)
    }

    fn look_for_space(&mut self, at: usize) -> Result<(), Broken> {
        let now = self.nodes[at].clock.read(self.now);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        match process.lookout.look(&mut process.member, &process.log, now) {
            Ok(_) => Ok(()),
            Err(fatal) => self.stop(at, &fatal),
        }
    }

    pub(super) fn scan_leases(&mut self, at: usize, life: u64) {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let process = node.process.as_mut().expect("it runs");
        let scan = process.member.scan_leases(now, |_| NOBODY);
        let pause = node.clock.really(scan.pause);
        if scan.expired > 0 {
            self.tell(|| format!("member {at} finds {} leases expired", scan.expired));
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
    pub(super) fn run_disk(&mut self, at: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let process = node.process.as_mut().expect("it runs");
        process.disk_planned = false;
        let disk = process.log.disk_mut();
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
        let pause = node.disk_time(Stalled::Log, now, &mut self.random, &self.options);
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        if !process.disk_planned && process.log.disk_mut().ready() > 0 {
            process.disk_planned = true;
            self.plan(pause, Event::Disk { at, life });
        }
    }

    /// Moves a member on as far as it goes without waiting.
    pub(super) fn pump(&mut self, at: usize) -> Result<(), Broken> {
        self.fetch_on(at)?;
        self.pump_once(at)
    }

    pub(super) fn pump_once(&mut self, at: usize) -> Result<(), Broken> {
        for _ in 0..3 {
            match self.around(at, |around, effects| round::run(around, effects))? {
                None => return Ok(()),
                Some(Pumped::Idle) => break,
                Some(Pumped::More) => self.plan_pump(at),
            }
        }
        self.plan_disk(at);
        Ok(())
    }

    /// Does a part of a round with what surrounds a member. Nothing if the process does not run, or not any more.
    fn around<R>(
        &mut self,
        at: usize,
        drive: impl FnOnce(&mut Around<'_>, &mut Effects<u64>) -> Result<R, Stop>,
    ) -> Result<Option<R>, Broken> {
        let Some(process) = &mut self.nodes[at].process else { return Ok(None) };
        let mut effects = std::mem::take(&mut process.effects);
        let done = drive(&mut Around { world: self, at }, &mut effects);
        if let Some(process) = &mut self.nodes[at].process {
            process.effects = effects;
        }
        match done {
            Ok(done) => Ok(self.nodes[at].is_up().then_some(done)),
            Err(Stop::Fatal(fatal)) => self.stop(at, &fatal).map(|()| None),
            Err(Stop::Broken(broken)) => Err(broken),
        }
    }

    /// A member cannot go on. After a fault that is as it should be.
    pub(super) fn stop(&mut self, at: usize, fatal: &Fatal) -> Result<(), Broken> {
        match fatal {
            Fatal::Wal(_) => self.crash(at, Some(Loss::Nothing)),
            Fatal::Install { .. } if self.options.crashes_at_install => self.crash(at, None),
            other => return Err(format!("member {at} stops: {other}").into()),
        }
        Ok(())
    }

    /// A snapshot took the place of a member's data: what belonged to the old file is void.
    fn installed(&mut self, at: usize, meta: &SnapshotMeta) -> Result<(), Broken> {
        let process = self.nodes[at].process.as_mut().expect("it runs");
        process.flush = None;
        process.source.clear();
        process.stored = process.member.store().applied().index;
        let checked = self.truth.check_store(process.member.store());
        checked.map_err(|why| format!("member {at} installs: {why}"))?;
        self.outcome.snapshots += 1;
        self.tell(|| format!("member {at} installs a snapshot of {:?}", meta.id));
        Ok(())
    }

    /// A member has applied an entry.
    fn published(&mut self, at: usize, batch: &EventBatch) -> Result<(), Broken> {
        let news = self.truth.learn(batch).map_err(|why| format!("member {at}: {why}"))?;
        if !news.is_empty() {
            self.tell(|| format!("member {at} is first to apply revision {}: {news:?}", batch.revision()));
        }
        for change in &news {
            self.effects.extend(change.pair.map(|pair| (pair.written_by, self.now)));
        }
        self.note_lease_ends(&news)
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

    fn role_changed(&mut self, at: usize, change: RoleChange) -> Result<(), Broken> {
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
        if to >= self.nodes.len() || !(packet.is_answer() || self.finds(from, to)) {
            return;
        }
        // There is no connection, and the transport knows: not a byte leaves.
        if let Packet::Peer(message) = &packet
            && message.body == PeerBody::Propose
            && (!self.nodes[to].is_up() || !self.net.is_open(from, to))
            && self.random.chance(70)
            && let Some(process) = &mut self.nodes[from].process
        {
            return process.member.report_unsent(message);
        }
        if self.bug == Some(Bug::SentCallsItselfUnsent)
            && let Packet::Peer(message) = &packet
            && self.random.chance(10)
            && let Some(process) = &mut self.nodes[from].process
        {
            process.member.report_unsent(message);
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

    /// Whether a member knows a URL at which another one listens.
    fn finds(&self, from: usize, to: usize) -> bool {
        let Some(process) = &self.nodes[from].process else { return false };
        let known = process.book.known().get(&id_of(to));
        known.is_some_and(|known| self.nodes[to].urls.iter().any(|url| known.contains(url)))
    }

    /// What a connection begins with: who was removed is told so, others say where they listen. Whether they may go on.
    fn introduce(&mut self, from: usize, at: usize) -> Result<bool, Broken> {
        let process = self.nodes[at].process.as_ref().expect("it runs");
        let removed = records::is_removed(process.member.store(), id_of(from)).map_err(|error| error.to_string())?;
        if removed && self.net.is_open(at, from) && self.nodes[from].is_up() {
            self.tell(|| format!("member {at} tells member {from} that it was removed"));
            self.nodes[from].is_retired = true;
            self.crash(from, Some(Loss::Nothing));
        }
        let urls = self.nodes[from].urls.clone();
        let process = self.nodes[at].process.as_mut().expect("it runs");
        if !removed && process.book.known().get(&id_of(from)) != Some(&urls) {
            let told = process.book.introduced(process.member.store(), id_of(from), &urls);
            told.map_err(|error| error.to_string())?;
        }
        Ok(!removed)
    }

    /// The list of members may have changed.
    fn follow_members(&mut self, at: usize) -> Result<(), Broken> {
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let changes = process.member.conf_changes();
        if process.seen_changes.replace(changes) != Some(changes) {
            process.book.follow(process.member.store()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Tells a leader that a follower holds what it is only being sent.
    fn claim_held(&mut self, from: usize, to: usize, packet: &Packet) {
        let Packet::Peer(message) = packet else { return };
        let (PeerBody::Append { .. }, Some(last)) = (&message.body, message.entries.last()) else { return };
        let body = PeerBody::AppendResponse { index: last.index, commit: 0, reject: None, request_snapshot: 0 };
        let claim = PeerMessage { from: message.to, to: message.from, body, entries: Vec::new(), ..message.clone() };
        self.plan(1, Event::Packet { from: to, at: from, packet: Box::new(Packet::Peer(claim)) });
    }

    pub(super) fn deliver(&mut self, from: usize, at: usize, packet: Packet) -> Result<(), Broken> {
        if !self.net.is_open(from, at) && self.bug != Some(Bug::CommitWithoutQuorum) {
            return Ok(());
        }
        if !packet.is_answer() && !self.introduce(from, at)? {
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
                    return self.announced(at, message);
                }
                let process = self.nodes[at].process.as_mut().expect("it runs");
                if let Err(fatal) = process.member.step(&process.log, message) {
                    return self.stop(at, &fatal);
                }
                self.plan_pump(at);
                Ok(())
            }
            Packet::AskHash { revision } => {
                self.answer_hash(at, from, revision);
                Ok(())
            }
            Packet::Hash { revision, hashed } => {
                self.take_hash(at, from, revision, hashed);
                Ok(())
            }
            Packet::Ask { asked, question } => self.serve(at, from, asked, &question),
            Packet::Piece { asked, answer } => {
                self.take_piece(at, asked, answer.ok_or_else(|| LostPiece::Refused("there is none".into())))
            }
        }
    }

    /// The flush of the data file, and snapshots to pin.
    pub(super) fn flush_regularly(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let pause = self.flush(at)?;
        self.plan(pause, Event::Flush { at, life });
        self.plan_pump(at);
        Ok(())
    }

    /// The background has something to do, soon.
    pub(super) fn wake(&mut self, at: usize) {
        let life = self.nodes[at].life;
        let Some(process) = &mut self.nodes[at].process else { return };
        if !std::mem::replace(&mut process.is_woken, true) {
            let pause = self.random.below(2 * MS);
            self.plan(pause, Event::Background { at, life });
        }
    }

    /// Work that has time: watchers that lag, compaction. While there is more it goes on.
    pub(super) fn background(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let budget = WorkBudget { records: 1 + self.random.below(50) as usize, bytes: 1 << 20 };
        let failed = |error: StoreError| format!("member {at}: background: {error}");
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let mut reads_on = false;
        for _ in 0..CATCH_UPS {
            reads_on = history::catch_up(&process.member, &mut process.hub).map_err(failed)?;
        }
        let progress = history::compact(&mut process.member, &mut process.hub, budget).map_err(failed)?;
        process.is_woken = reads_on || progress != CompactProgress::Idle;
        if process.is_woken {
            let pause = self.random.below(if reads_on { 2 * MS } else { 2 * FLUSH_EVERY });
            self.plan(pause, Event::Background { at, life });
        }
        Ok(())
    }

    /// Moves the flush of the data file on; the time until the next step.
    fn flush(&mut self, at: usize) -> Result<Time, Broken> {
        let now = self.now;
        let disk_time = self.nodes[at].disk_time(Stalled::Data, now, &mut self.random, &self.options);
        let failed = |error: String| Broken(format!("member {at}: flush: {error}"));
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let trees = process.member.store_mut().trees_mut();
        if let Some(job) = process.flush.take() {
            let applied = job.applied;
            process.flush = job.step(trees, &mut self.random).map_err(|error| failed(error.to_string()))?;
            process.flush_steps += 1;
            if process.flush.is_some() {
                return Ok(disk_time);
            }
            // The log keeps what the flush before this one did not hold, as in the server.
            let before = std::mem::replace(&mut process.stored, applied);
            process.member.stored_up_to(&mut process.log, before);
            self.offer_snapshots(at)?;
            return Ok(1 + self.random.below(2 * FLUSH_EVERY));
        }
        if !process.member.is_between_entries() {
            return Ok(disk_time);
        }
        let process = self.nodes[at].process.as_mut().expect("it runs");
        let applied = process.member.store().applied().index;
        let begun = process.member.store_mut().trees_mut().begin_flush();
        process.flush = begun.map_err(|error| failed(error.to_string()))?.map(|flush| FlushJob::new(flush, applied));
        let begun = process.flush.is_some();
        // With nothing to flush all of it is there. Without room for a flush there is no state that holds all of it.
        if begun || !process.member.store().trees().is_overdrawn() {
            process.flushed_for.append(&mut process.wanted);
        }
        if !begun {
            self.offer_snapshots(at)?;
        }
        Ok(if begun { disk_time } else { 1 + self.random.below(2 * FLUSH_EVERY) })
    }
}

/// Why a round ended before its time.
pub(super) enum Stop {
    /// The member cannot go on.
    Fatal(Fatal),
    Broken(Broken),
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Stop {
        Stop::Fatal(fatal)
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Broken(broken)
    }
}

/// What surrounds a member: the world.
pub(super) struct Around<'a> {
    world: &'a mut World,
    at: usize,
}

impl Outside for Around<'_> {
    type Disk = SimDisk;
    type Trees = PageFile<SimStore>;
    type Waiter = u64;
    type Stop = Stop;

    fn with<R>(&mut self, act: impl FnOnce(&mut SimMember, &mut Hub) -> R) -> R {
        let process = self.world.nodes[self.at].process.as_mut().expect("it runs");
        act(&mut process.member, &mut process.hub)
    }

    fn with_log<R>(&mut self, act: impl FnOnce(&mut SimMember, &mut SimLog) -> R) -> R {
        let process = self.world.nodes[self.at].process.as_mut().expect("it runs");
        act(&mut process.member, &mut process.log)
    }

    fn now(&mut self) -> Millis {
        self.world.nodes[self.at].clock.read(self.world.now)
    }

    fn event_mode(&mut self, watched: EventMode) -> EventMode {
        // The truth is told by events.
        watched.max(EventMode::Plain)
    }

    fn data_asked(&mut self) -> Asked {
        let process = self.world.nodes[self.at].process.as_ref().expect("it runs");
        Asked { awaits: process.flush.is_some(), ended: process.flush_steps }
    }

    fn applied(&mut self, effects: &mut Effects<u64>) -> Result<(), Stop> {
        effects.unasked.clear();
        effects.sign_ins.clear();
        effects.granted.clear();
        Ok(self.world.check_progress(self.at)?)
    }

    fn role_changed(&mut self, change: RoleChange) -> Result<(), Stop> {
        Ok(self.world.role_changed(self.at, change)?)
    }

    fn installed(&mut self, meta: SnapshotMeta) -> Result<(), Stop> {
        Ok(self.world.installed(self.at, &meta)?)
    }

    fn answer(&mut self, applied: &mut Vec<Applied<u64>>) -> Result<(), Stop> {
        for (call, result) in applied.drain(..) {
            self.world.applied(self.at, call, result)?;
        }
        Ok(())
    }

    fn read(&mut self, reads: &mut Vec<u64>) -> Result<(), Stop> {
        for call in reads.drain(..) {
            self.world.readable(self.at, call)?;
        }
        Ok(())
    }

    fn lose(&mut self, lost: &mut Vec<(u64, Lost)>) {
        for (call, why) in lost.drain(..) {
            self.world.lost(call, why);
        }
    }

    fn changed(&mut self, changed: &mut Vec<Changed<u64>>) {
        for (call, result) in changed.drain(..) {
            let answer = if result.is_ok() { Answer::Done(0, Vec::new()) } else { Answer::Refused };
            self.world.reply(call, answer);
        }
    }

    fn send(&mut self, messages: &mut Vec<PeerMessage>) {
        for message in messages.drain(..) {
            self.world.send(self.at, at_of(message.to), Packet::Peer(message));
        }
    }

    fn provide_snapshot(&mut self, to: MemberId) {
        let at = self.at;
        self.world.tell(|| format!("member {at} is asked for a snapshot for {to}"));
        self.world.nodes[at].process.as_mut().expect("it runs").wanted.push(to);
    }

    fn published(&mut self, batch: &EventBatch) -> Result<(), Stop> {
        Ok(self.world.published(self.at, batch)?)
    }

    /// Watchers come and read when they like.
    fn deliver(&mut self) {}

    fn wake_background(&mut self) {
        self.world.wake(self.at);
    }

    fn follow_members(&mut self) -> Result<(), Stop> {
        Ok(self.world.follow_members(self.at)?)
    }

    /// It is told, and stops for ever.
    fn removed(&mut self) {
        self.world.nodes[self.at].is_retired = true;
        self.world.crash(self.at, Some(Loss::Nothing));
    }
}
