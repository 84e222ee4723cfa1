//! What happens around a member, as in the server: ticks, effects of the disk, pumps and what comes of them, messages,
//! the flush of the data file, and leases that run out.

use super::bugs::Bug;
use super::clients::{Answer, Ask, Call};
use super::network::Packet;
use super::node::{ELECTION_MILLIS, TICK_MILLIS, at_of, id_of};
use super::options::{MS, Time};
use super::watchers::catch_up;
use super::world::{Broken, Event, World};
use crate::flush::FlushJob;
use plinth_engine::command::{Command, LeaseCheckpoint, LeaseCheckpoints};
use plinth_engine::compact::WorkBudget;
use plinth_engine::lease::Checkpoint;
use plinth_member::{Effects, Fatal, Lost, Pumped};
use plinth_raft::{PeerBody, PeerMessage, Role, RoleChange};
use plinth_wal::sim_disk::Loss;

/// A pump that stops in the middle of applying goes on after this.
const PUMP_AGAIN: Time = 100;
/// How often leases are looked through.
const LEASE_SCAN_MILLIS: u64 = 500;
/// How often the data file is flushed, about.
pub(super) const FLUSH_EVERY: Time = 100 * MS;

impl World {
    pub(super) fn tick(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let process = node.process.as_mut().expect("it runs");
        process.member.tick(now, &mut process.effects);
        let pause = node.clock.really(TICK_MILLIS);
        self.plan(pause, Event::Tick { at, life });
        self.forget_snapshots(at);
        self.pump(at)
    }

    pub(super) fn scan_leases(&mut self, at: usize, life: u64) {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let pause = node.clock.really(LEASE_SCAN_MILLIS);
        let process = node.process.as_mut().expect("it runs");
        let (mut expired, mut told, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
        let term = process.promoted_in;
        // Before it has applied what earlier leaders decided, its times are not to be relied on.
        if process.member.store().applied().term == term {
            let leases = process.member.store_mut().leases_mut();
            leases.expired(now, &mut expired);
            checkpoints = leases.due_checkpoints(now);
        }
        if !checkpoints.is_empty() {
            let checkpoint = |due: &Checkpoint| LeaseCheckpoint { id: due.id, remaining_ttl: due.remaining_ttl };
            let checkpoints = checkpoints.iter().map(checkpoint).collect();
            let command = Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints });
            let _ = process.member.submit(|out| command.encode_into(out), 0, now);
        }
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
    pub(super) fn run_disk(&mut self, at: usize) -> Result<(), Broken> {
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
    pub(super) fn pump(&mut self, at: usize) -> Result<(), Broken> {
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
            self.applied(at, call, result)?;
        }
        for (call, result) in effects.changed.drain(..) {
            let answer = if result.is_ok() { Answer::Done(0, Vec::new()) } else { Answer::Refused };
            self.reply(call, answer);
        }
        effects.unasked.clear();
        effects.granted.clear();
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

    pub(super) fn deliver(&mut self, from: usize, at: usize, packet: Packet) -> Result<(), Broken> {
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
    pub(super) fn background(&mut self, at: usize, life: u64) -> Result<(), Broken> {
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
