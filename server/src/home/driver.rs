//! The task that moves the member forward, and the answers that come of it.

use super::{Home, State, flush, watching};
use crate::answer::header::HeaderTemplate;
use crate::answer::status;
use crate::metrics::{Stage, Success};
use crate::wake::Woken;
use plinth_member::{Effects, Fatal, Lost, Pumped};
use plinth_net::rt::{self, sleep};
use plinth_raft::{Role, RoleChange, SnapshotMeta};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Election timeouts without a leader after which streams end whose clients asked for that.
const LEADERLESS_ELECTIONS: u64 = 3;

/// Ticks without a flush after which the log is marked as whole.
const TICKS_AT_REST: u32 = 2;

/// Runs until the member fails, for good.
pub async fn drive(home: Rc<Home>) -> Fatal {
    let mut effects = Effects::default();
    loop {
        home.pump.wait().await;
        loop {
            if let Some(fatal) = home.take_failure() {
                return fatal;
            }
            match step(&home, &mut effects) {
                Ok(Pumped::Idle) => break,
                Ok(Pumped::More) => rt::yield_now().await,
                Err(fatal) => return fatal,
            }
        }
    }
}

/// One pump and its answers.
fn step(home: &Rc<Home>, effects: &mut Effects<super::Waiter>) -> Result<Pumped, Fatal> {
    let begun = home.begin_round();
    let advanced = {
        let mut guard = home.state_mut();
        let state = &mut *guard;
        state.member.set_event_mode(state.hub.event_mode());
        state.member.advance(effects)?;
        let advanced = home.clock.read();
        state.stages.advanced(&state.member, &home.metrics, begun, advanced);
        advanced
    };
    // Followers write while this member applies.
    send(home, effects);
    let pumped = {
        let mut guard = home.state_mut();
        let state = &mut *guard;
        let has_work = state.member.has_committed();
        let pumped = if flush::is_overdue(&state.member) {
            // The end of the flush notifies.
            state.member.release(effects);
            Pumped::Idle
        } else {
            state.member.apply_committed(advanced.millis(), effects)?
        };
        if has_work {
            state.stages.applied(effects, &home.metrics, advanced, home.clock.read());
        }
        pumped
    };
    settle(home, effects);
    home.end_round();
    Ok(pumped)
}

/// Answers everyone, in order, and delivers what watchers are owed.
pub fn settle(home: &Rc<Home>, effects: &mut Effects<super::Waiter>) {
    for change in effects.roles.drain(..) {
        change_role(home, change);
    }
    if let Some(meta) = effects.installed.take() {
        installed(home, &meta);
    }
    if !effects.applied.is_empty() {
        answer_applied(home, effects);
    }
    if !effects.reads.is_empty() {
        answer_reads(home, effects);
    }
    if !effects.lost.is_empty() {
        count_lost_reads(home, effects);
        for (waiter, why) in effects.lost.drain(..) {
            waiter.lost(home, why);
        }
    }
    for (waiter, result) in effects.changed.drain(..) {
        waiter.changed(result);
    }
    send(home, effects);
    for to in effects.snapshot_requests.drain(..) {
        home.others.clone().provide_snapshot(home, to);
    }
    home.others.follow_members(home);
    if std::mem::take(&mut effects.removed) {
        home.removed();
    }
    if !effects.events.is_empty() {
        for batch in effects.events.drain(..) {
            home.state_mut().hub.publish(&batch);
        }
        watching::deliver_ready(home);
    }
    watching::close_gap(home);
    wake_background(home);
}

/// Lets the background see to what waits in the state itself. Whoever caused it: a follower compacts and catches up, too,
/// though nobody asks it anything.
fn wake_background(home: &Home) {
    let state = home.state();
    if state.member.store().is_compacting() || state.hub.wants_history() {
        home.background.notify();
    }
}

/// Answers those whose commands were applied.
fn answer_applied(home: &Home, effects: &mut Effects<super::Waiter>) {
    let begun = home.clock.read();
    let commands = effects.applied.len() as u64;
    {
        let stages = &mut home.state_mut().stages;
        for (waiter, result) in &effects.applied {
            if let Some(asked) = waiter.asked() {
                stages.answer(asked, result.is_ok(), &home.metrics, begun);
            }
        }
    }
    let header = home.state().header.clone();
    let mut physical = Vec::new();
    for (waiter, result) in effects.applied.drain(..) {
        physical.extend(waiter.applied(home, &header, result));
    }
    if !physical.is_empty() {
        let mut state = home.state_mut();
        let compact_revision = state.member.store().compact_revision();
        state.physical.extend(physical.into_iter().map(|(waiter, _)| (compact_revision, waiter)));
    }
    let ended = home.clock.read();
    home.metrics.stages.with(Stage::Respond).record_many(ended.since(begun), commands);
    home.state_mut().stages.tell_slow(ended);
}

/// Reads for those whose moment has come. The time of one range is that of all of them, divided.
fn answer_reads(home: &Rc<Home>, effects: &mut Effects<super::Waiter>) {
    let begun = home.clock.read();
    let reads = effects.reads.len() as u64;
    {
        let stages = &mut home.state_mut().stages;
        for asked in effects.reads.iter().filter_map(super::Waiter::asked) {
            stages.answer(asked, true, &home.metrics, begun);
        }
    }
    let ranges = home.metrics.ranges.get();
    for waiter in effects.reads.drain(..) {
        waiter.readable(home);
    }
    let ranges = home.metrics.ranges.get() - ranges;
    let ended = home.clock.read();
    home.metrics.range_duration.with(Success(true)).record_many(ended.since(begun) / reads, ranges);
    home.state_mut().stages.tell_slow(ended);
}

/// Linearizable reads share rounds; what is lost together was one.
fn count_lost_reads(home: &Home, effects: &Effects<super::Waiter>) {
    let has_lost =
        |is_meant: fn(Lost) -> bool| effects.lost.iter().any(|(waiter, why)| waiter.is_read() && is_meant(*why));
    if has_lost(|why| why == Lost::Timeout) {
        home.metrics.slow_read_indexes.inc();
    }
    if has_lost(|why| matches!(why, Lost::LeaderChanged | Lost::NoLeader)) {
        home.metrics.read_indexes_failed.inc();
    }
}

/// Sends what may leave.
fn send(home: &Home, effects: &mut Effects<super::Waiter>) {
    home.others.send_all(home, &mut effects.messages);
}

/// A snapshot took the place of the data.
fn installed(home: &Home, meta: &SnapshotMeta) {
    home.others.data_replaced();
    let physical = {
        let mut guard = home.state_mut();
        let State { member, hub, physical, .. } = &mut *guard;
        hub.compacted(member.store().compact_revision());
        std::mem::take(physical)
    };
    for (_, waiter) in physical {
        waiter.fail(status::LEADER_CHANGED);
    }
    tracing::info!(index = meta.id.index, term = meta.id.term, "applied snapshot");
}

fn change_role(home: &Home, change: RoleChange) {
    let mut guard = home.state_mut();
    let State { member, header, .. } = &mut *guard;
    *header = HeaderTemplate::new(home.profile.cluster_id, home.profile.member_id, change.term);
    let now = home.clock.now();
    let leases = member.store_mut().leases_mut();
    match change.role {
        Role::Leader => leases.promote(now, home.profile.election_millis),
        _ => leases.demote(),
    }
    drop(guard);
    let leader = change.leader.map(|leader| leader.to_string()).unwrap_or_default();
    let role = format!("{:?}", change.role);
    tracing::info!(member = %format!("{:x}", home.profile.member_id), term = change.term, role, leader, "role changed");
    if change.leader.is_some() {
        home.metrics.leader_changes.inc();
        home.note_election();
    }
}

/// Wakes the driver when the log has news.
pub async fn watch_log(home: Rc<Home>, mut woken: Woken) -> std::io::Result<()> {
    loop {
        woken.wait().await?;
        home.pump.notify();
    }
}

fn has_followers(home: &Home) -> bool {
    let state = home.state();
    state.member.is_leader() && !state.member.group().is_alone()
}

/// Marks in the log that all of it is durable, when nothing was written for some ticks.
fn rest(home: &Home) -> Result<(), Fatal> {
    let state = &mut *home.state_mut();
    let flushes = state.member.wal().stats().flushes;
    if state.stages.falls_idle(flushes, TICKS_AT_REST) {
        mark(&mut state.member)?;
    }
    Ok(())
}

/// Writes records that wait for company, or else marks that there are none.
fn mark(member: &mut super::HomeMember) -> Result<(), Fatal> {
    let wal = member.wal_mut();
    if wal.durable() < wal.last() && wal.can_flush() {
        wal.flush()?;
    }
    member.rest()
}

/// The member stops: makes the log whole and marks it, or leaves it as it is if that takes too long.
pub async fn rest_for_good(home: &Home) -> Result<(), Fatal> {
    const PATIENCE: Duration = Duration::from_secs(1);
    const LOOK: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + PATIENCE;
    loop {
        {
            let member = &mut home.state_mut().member;
            member.wal_mut().poll()?;
            mark(member)?;
            if member.wal().durable() == member.wal().last() {
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
        leaderless = if has_leader { 0 } else { leaderless + interval.as_millis() as u64 };
        if leaderless >= patience {
            home.end_leader_bound();
        }
        if late && has_followers(&home) {
            home.metrics.heartbeat_send_failures.inc();
            tracing::warn!(late = ?next.elapsed(), "leader failed to send out heartbeat on time");
        }
        home.state_mut().member.tick(home.clock.now(), &mut effects);
        settle(&home, &mut effects);
        if let Err(fatal) = rest(&home) {
            home.fail(fatal);
        }
        home.pump.notify();
    }
}
