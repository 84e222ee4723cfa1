//! The task that moves the member forward, and the answers that come of it.

use super::{Home, State};
use crate::api::wire::HeaderTemplate;
use crate::api::{status, watch};
use crate::cluster::snapshot_source;
use crate::wake::Woken;
use glommio::timer::sleep;
use plinth_member::{Effects, Fatal, Pumped};
use plinth_raft::{Role, RoleChange, SnapshotMeta};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Election timeouts without a leader after which streams end whose clients asked for that.
const LEADERLESS_ELECTIONS: u64 = 3;

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
                Ok(Pumped::More) => glommio::executor().yield_task_queue_now().await,
                Err(fatal) => return fatal,
            }
        }
    }
}

/// One pump and its answers.
fn step(home: &Rc<Home>, effects: &mut Effects<super::Waiter>) -> Result<Pumped, Fatal> {
    {
        let mut guard = home.state_mut();
        let state = &mut *guard;
        state.member.set_event_mode(state.hub.event_mode());
        state.member.advance(effects)?;
    }
    // Followers write while this member applies.
    send(home, effects);
    let pumped = home.state_mut().member.apply_committed(home.clock.now(), effects)?;
    settle(home, effects);
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
        if home.state().member.store().is_compacting() {
            home.background.notify();
        }
    }
    for waiter in effects.reads.drain(..) {
        waiter.readable(home);
    }
    for (waiter, why) in effects.lost.drain(..) {
        waiter.lost(home, why);
    }
    for (waiter, result) in effects.changed.drain(..) {
        waiter.changed(result);
    }
    send(home, effects);
    for to in effects.snapshot_requests.drain(..) {
        snapshot_source::provide(home, to);
    }
    if let Some(link) = home.link() {
        link.follow_members(home);
    }
    if std::mem::take(&mut effects.removed) {
        home.removed();
    }
    if !effects.events.is_empty() {
        for batch in effects.events.drain(..) {
            home.state_mut().hub.publish(&batch);
        }
        watch::deliver_ready(home);
    }
    watch::close_gap(home);
}

/// Sends what may leave.
fn send(home: &Home, effects: &mut Effects<super::Waiter>) {
    match home.link() {
        Some(link) => link.send_all(home, &mut effects.messages),
        None => effects.messages.clear(),
    }
}

/// A snapshot took the place of the data.
fn installed(home: &Home, meta: &SnapshotMeta) {
    if let Some(link) = home.link() {
        link.source.clear();
    }
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
    home.background.notify();
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
        let has_leader = home.state().member.group().leader().is_some();
        leaderless = if has_leader { 0 } else { leaderless + interval.as_millis() as u64 };
        if leaderless >= patience {
            home.end_leader_bound();
        }
        home.state_mut().member.tick(home.clock.now(), &mut effects);
        settle(&home, &mut effects);
        home.pump.notify();
    }
}
