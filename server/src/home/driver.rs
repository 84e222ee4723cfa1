//! The task that moves the member forward, and the answers that come of it.

use super::calm::Calm;
use super::clock::Nanos;
use super::reactor::Reactor;
use super::waiter::Waiter;
use super::{Home, HomeLog, HomeMember, State, flush, stall, v2, watching};
use crate::answer::header::HeaderTemplate;
use crate::answer::status;
use crate::caller;
use crate::fail_point;
use crate::metrics::{Stage, Success};
use crate::wake::Woken;
use plinth_engine::lease::Millis;
use plinth_engine::pagefile::{FileStore, PageFile};
use plinth_engine::watch::Hub;
use plinth_member::round::{self, Outside};
use plinth_member::stall::Asked;
use plinth_member::{Applied, Changed, Effects, Fatal, Lost, Pumped};
use plinth_net::rt::{self, sleep};
use plinth_net::turn;
use plinth_raft::{MemberId, PeerMessage, RoleChange, SnapshotMeta};
use plinth_wal_uring::UringDisk;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Election timeouts without a leader after which streams end whose clients asked for that.
const LEADERLESS_ELECTIONS: u64 = 3;

/// Ticks without a flush after which the log is marked as whole.
const TICKS_AT_REST: u32 = 2;

/// Runs until the member fails, for good.
pub async fn drive(home: Rc<Home>) -> Fatal {
    let mut effects = Effects::default();
    let mut calm = Calm::default();
    loop {
        home.reactor.pump.wait().await;
        loop {
            if let Some(fatal) = home.reactor.take_failure() {
                return fatal;
            }
            calm.attend_log(&home);
            let pumped = step(&home, &mut effects);
            home.reactor.log_mut().disk_mut().attend(false);
            match pumped {
                Ok(Pumped::Idle) if calm.wait_for_log(&home).await => {}
                Ok(Pumped::Idle) => break,
                // A command of many steps is long work like any other, but for consensus, which goes on before each.
                Ok(Pumped::More) if home.state().member.is_amid_command() => turn::pass().await,
                Ok(Pumped::More) => rt::yield_now().await,
                Err(fatal) => return fatal,
            }
        }
    }
}

/// One round of the member, with the clock read between its parts.
fn step(home: &Rc<Home>, effects: &mut Effects<Waiter>) -> Result<Pumped, Fatal> {
    let begun = home.reactor.begin_round();
    if home.has_readable() {
        serve_readable(home);
    }
    fail_point!(if home.state().member.pending_commands() > 0, "raftBeforeSave");
    let mut turn = Turn { home, has_work: false, at: begun };
    let pumped = round::run(&mut turn, effects)?;
    home.reactor.end_round();
    fail_point!("raftBeforeAdvance");
    Ok(if home.has_readable() { Pumped::More } else { pumped })
}

/// Hands over what came of the member outside of a round.
pub fn hand_over(home: &Rc<Home>, effects: &mut Effects<Waiter>) {
    let mut turn = Turn { home, has_work: false, at: home.reactor.clock.read() };
    // Nothing here asks the member for anything that can fail.
    if let Err(fatal) = round::hand_over(&mut turn, effects) {
        home.reactor.fail(fatal);
    }
}

/// The home, for one round of its member.
struct Turn<'a> {
    home: &'a Rc<Home>,
    /// Committed entries waited when the log had got its work.
    has_work: bool,
    /// When the part of the round began that is under way.
    at: Nanos,
}

impl Outside for Turn<'_> {
    type Disk = UringDisk;
    type Trees = PageFile<FileStore>;
    type Waiter = Waiter;
    type Stop = Fatal;

    fn with<R>(&mut self, act: impl FnOnce(&mut HomeMember, &mut Hub) -> R) -> R {
        let mut guard = self.home.state_mut();
        let State { member, hub, .. } = &mut *guard;
        act(member, hub)
    }

    fn with_log<R>(&mut self, act: impl FnOnce(&mut HomeMember, &mut HomeLog) -> R) -> R {
        act(&mut self.home.state_mut().member, &mut self.home.reactor.log_mut())
    }

    fn now(&mut self) -> Millis {
        self.at.millis()
    }

    fn data_asked(&mut self) -> Asked {
        self.home.flushes.asked()
    }

    fn advanced(&mut self) {
        let now = self.home.reactor.clock.read();
        let mut guard = self.home.state_mut();
        let State { member, stages, .. } = &mut *guard;
        stages.advanced(member, &self.home.reactor.log(), &self.home.reactor.metrics, self.at, now);
        (self.has_work, self.at) = (member.has_committed(), now);
        fail_point!(if self.has_work, "beforeApplyOneEntryNormal");
    }

    fn must_wait(&mut self) -> bool {
        // The end of the flush notifies.
        flush::is_overdue(&self.home.state().member)
    }

    fn applied(&mut self, effects: &mut Effects<Waiter>) -> Result<(), Fatal> {
        self.home.note_sign_ins(&mut effects.sign_ins);
        // Before whoever has enabled them hears that they count.
        caller::note_users(self.home.has_users());
        if self.has_work {
            let now = self.home.reactor.clock.read();
            self.home.state_mut().stages.applied(effects, &self.home.reactor.metrics, self.at, now);
        }
        Ok(())
    }

    fn role_changed(&mut self, change: RoleChange) -> Result<(), Fatal> {
        role_changed(self.home, change);
        Ok(())
    }

    fn installed(&mut self, meta: SnapshotMeta) -> Result<(), Fatal> {
        installed(self.home, &meta);
        Ok(())
    }

    fn answer(&mut self, applied: &mut Vec<Applied<Waiter>>) -> Result<(), Fatal> {
        answer_applied(self.home, applied);
        Ok(())
    }

    fn read(&mut self, reads: &mut Vec<Waiter>) -> Result<(), Fatal> {
        answer_reads(self.home, reads);
        Ok(())
    }

    fn lose(&mut self, lost: &mut Vec<(Waiter, Lost)>) {
        count_lost_reads(self.home, lost);
        for (waiter, why) in lost.drain(..) {
            waiter.lost(self.home, why);
        }
    }

    fn changed(&mut self, changed: &mut Vec<Changed<Waiter>>) {
        for (waiter, result) in changed.drain(..) {
            waiter.changed(result);
        }
    }

    fn send(&mut self, messages: &mut Vec<PeerMessage>) {
        fail_point!(if !messages.is_empty() && self.home.state().member.is_leader(), "raftBeforeLeaderSend");
        fail_point!(if !messages.is_empty() && !self.home.state().member.is_leader(), "raftBeforeFollowerSend");
        self.home.others.send_all(self.home, messages);
    }

    fn provide_snapshot(&mut self, to: MemberId) {
        self.home.others.clone().provide_snapshot(self.home, to);
    }

    fn deliver(&mut self) {
        watching::deliver_ready(self.home);
    }

    fn wake_background(&mut self) {
        self.home.background.notify();
    }

    fn follow_members(&mut self) -> Result<(), Fatal> {
        self.home.others.follow_members(self.home);
        v2::publish(self.home);
        Ok(())
    }

    fn removed(&mut self) {
        self.home.removed();
    }
}

/// Answers those whose commands were applied.
fn answer_applied(home: &Home, applied: &mut Vec<Applied<Waiter>>) {
    let begun = home.reactor.clock.read();
    let commands = applied.len() as u64;
    {
        let stages = &mut home.state_mut().stages;
        for (waiter, result) in applied.iter() {
            if let Some(asked) = waiter.asked() {
                stages.answer(asked, result.is_ok(), &home.reactor.metrics, begun);
            }
        }
    }
    let header = home.state().header.clone();
    let mut physical = Vec::new();
    for (waiter, result) in applied.drain(..) {
        physical.extend(waiter.applied(home, &header, result));
    }
    if !physical.is_empty() {
        let mut state = home.state_mut();
        let compact_revision = state.member.store().compact_revision();
        state.physical.extend(physical.into_iter().map(|(waiter, _)| (compact_revision, waiter)));
    }
    let ended = home.reactor.clock.read();
    home.reactor.metrics.stages.with(Stage::Respond).record_many(ended.since(begun), commands);
}

/// Reads for those whose moment has come, as many as a step allows.
fn answer_reads(home: &Rc<Home>, reads: &mut Vec<Waiter>) {
    let begun = home.reactor.clock.read();
    {
        let stages = &mut home.state_mut().stages;
        for asked in reads.iter().filter_map(Waiter::asked) {
            stages.answer(asked, true, &home.reactor.metrics, begun);
        }
    }
    home.add_readable(reads);
    serve_readable(home);
}

/// Reads for those who wait for their turn, as many as a step allows: their moment does not pass, so the others may wait
/// on. The time of one range is that of all of them, divided.
fn serve_readable(home: &Rc<Home>) {
    /// A step of reading, in nanoseconds.
    const STEP: u64 = 300_000;
    let (begun, ranges) = (home.reactor.clock.read(), home.reactor.metrics.ranges.get());
    let (mut reads, mut ended) = (0, begun);
    while let Some(waiter) = home.next_readable() {
        waiter.readable(home);
        reads += 1;
        ended = home.reactor.clock.read();
        if ended.since(begun) >= STEP {
            break;
        }
    }
    let ranges = home.reactor.metrics.ranges.get() - ranges;
    home.reactor.metrics.range_duration.with(Success(true)).record_many(ended.since(begun) / reads.max(1), ranges);
}

/// Linearizable reads share rounds; what is lost together was one.
fn count_lost_reads(home: &Home, lost: &[(Waiter, Lost)]) {
    let has_lost = |is_meant: fn(Lost) -> bool| lost.iter().any(|(waiter, why)| waiter.is_read() && is_meant(*why));
    if has_lost(|why| why == Lost::Timeout) {
        home.reactor.metrics.slow_read_indexes.inc();
    }
    if has_lost(|why| matches!(why, Lost::LeaderChanged | Lost::NoLeader)) {
        home.reactor.metrics.read_indexes_failed.inc();
    }
}

/// A snapshot took the place of the data.
fn installed(home: &Home, meta: &SnapshotMeta) {
    home.note_data_replaced();
    home.forget_tokens();
    home.others.data_replaced();
    let physical = std::mem::take(&mut home.state_mut().physical);
    for (_, waiter) in physical {
        waiter.fail(status::LEADER_CHANGED);
    }
    fail_point!("raftAfterApplySnap");
    tracing::info!(index = meta.id.index, term = meta.id.term, "applied snapshot");
}

fn role_changed(home: &Home, change: RoleChange) {
    let header = HeaderTemplate::new(home.profile.cluster_id, home.profile.member_id, change.term);
    home.state_mut().header = header;
    let leader = change.leader.map(|leader| leader.to_string()).unwrap_or_default();
    let role = format!("{:?}", change.role);
    tracing::info!(member = %format!("{:x}", home.profile.member_id), term = change.term, role, leader, "role changed");
    if change.leader.is_some() {
        home.reactor.metrics.leader_changes.inc();
        home.note_election();
    }
}

/// Wakes the driver when the log has news.
pub async fn watch_log(reactor: Rc<Reactor>, mut woken: Woken) -> std::io::Result<()> {
    loop {
        woken.wait().await?;
        fail_point!("raftAfterSave");
        reactor.pump.notify();
    }
}

fn has_followers(home: &Home) -> bool {
    let state = home.state();
    state.member.is_leader() && !state.member.group().is_alone()
}

/// Whether this member and those it is connected to are a majority of the voters.
fn reaches_majority(home: &Home) -> bool {
    let (own, state) = (home.profile.member_id, home.state());
    let voters = &state.member.group().conf().voters;
    let reached = |id: &&u64| **id == own || home.others.connected_since(MemberId(**id)).is_some();
    2 * voters.iter().filter(reached).count() > voters.len()
}

/// Marks in the log that all of it is durable, when nothing was written for some ticks.
fn mark_at_rest(home: &Home) -> Result<(), Fatal> {
    let mut log = home.reactor.log_mut();
    if home.state_mut().stages.falls_idle(log.wal().stats().flushes, TICKS_AT_REST) {
        log.mark()?;
    }
    Ok(())
}

/// The process stops: makes the log whole and marks it, or leaves it as it is if that takes too long.
pub async fn mark_at_stop(reactor: &Reactor) -> Result<(), Fatal> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const LOOK: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        {
            let mut log = reactor.log_mut();
            log.poll()?;
            log.mark()?;
            if log.is_durable() {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// Lets consensus feel the time.
pub async fn tick(home: Rc<Home>, interval: Duration) {
    let mut effects = Effects::default();
    let mut leaderless = 0;
    let mut hurries = home.profile.hurries_first_election;
    let patience = LEADERLESS_ELECTIONS * home.profile.election_millis;
    let mut next = Instant::now();
    while !home.is_stopping() {
        // At fixed times, but what was missed is not made up for: a pause of this process must not look like one of
        // the leader.
        let now = Instant::now();
        next = if next + interval > now { next + interval } else { now + interval };
        sleep(next - now).await;
        let late = next.elapsed() > interval;
        let has_leader = home.state().member.group().leader().is_some();
        if hurries && (has_leader || reaches_majority(&home)) {
            hurries = false;
            home.state_mut().member.hurry_election();
        }
        leaderless = if has_leader { 0 } else { leaderless + interval.as_millis() as u64 };
        if leaderless >= patience {
            home.end_leader_bound();
        }
        if late && has_followers(&home) {
            home.reactor.metrics.heartbeat_send_failures.inc();
            tracing::warn!(late = ?next.elapsed(), "leader failed to send out heartbeat on time");
        }
        if home.slow.has_untold() {
            home.slow.tell_untold(Instant::now());
        }
        let mut turn = Turn { home: &home, has_work: false, at: home.reactor.clock.read() };
        if let Err(fatal) = round::tick(&mut turn, &mut effects) {
            home.reactor.fail(fatal);
        }
        if let Err(fatal) = mark_at_rest(&home) {
            home.reactor.fail(fatal);
        }
        stall::look(&home);
        home.sweep_tokens();
        home.reactor.pump.notify();
    }
}
