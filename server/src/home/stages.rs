//! Where the time of requests goes: what the driver notes around each pump, and the requests that come of it.
//!
//! Clocks are read per round of the driver: before a pump, before and after apply, and after the answers. Stages are
//! recorded once for each command of a batch, with the time of the whole batch; a request begins with the round in
//! which it was submitted.
//!
//! Invariant: every flush that was counted as submitted is recorded once, when it is durable.

use super::clock::Nanos;
use super::{HomeLog, HomeMember, Waiter};
use crate::metrics::{Applied, Op, ReactorMetrics, Request, Stage};
use plinth_engine::command::CommandKind;
use plinth_engine::store::compact::CompactProgress;
use plinth_member::Effects;
use plinth_wal::Lsn;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A request: what it is, and when it was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it is.
    pub op: Op,
    /// The beginning of the round in which it was submitted.
    pub at: Nanos,
}

/// Flushes on their way.
struct Flights {
    last: Lsn,
    count: u64,
    since: Nanos,
}

/// See the module.
pub struct Stages {
    /// When the first command came that is in no batch yet.
    opened: Option<Nanos>,
    flights: VecDeque<Flights>,
    /// Totals of the log and of the member when they were last looked at.
    flushes: u64,
    batches: u64,
    commands: u64,
    slow_apply: u64,
    /// Flushes when consensus last ticked, and for how many ticks there has been no other.
    flushes_at_tick: u64,
    idle_ticks: u32,
    /// When the compaction under way began.
    compacting: Option<Nanos>,
}

/// What a command counts as that no client of this member waits for.
pub fn op_of(kind: CommandKind) -> Op {
    match kind {
        CommandKind::Put => Op::Put,
        CommandKind::DeleteRange => Op::DeleteRange,
        CommandKind::Compact => Op::Compaction,
        CommandKind::LeaseGrant => Op::LeaseGrant,
        CommandKind::LeaseRevoke | CommandKind::LeaseExpire => Op::LeaseRevoke,
        CommandKind::LeaseCheckpoint => Op::LeaseCheckpoint,
        CommandKind::Alarm => Op::Alarm,
        CommandKind::SetMemberAttributes => Op::ClusterMemberAttrSet,
        CommandKind::SetClusterVersion => Op::ClusterVersionSet,
        CommandKind::SetDowngrade => Op::DowngradeInfoSet,
        CommandKind::Txn | CommandKind::Noop | CommandKind::Follow => Op::Txn,
        CommandKind::AuthEnable => Op::AuthEnable,
        CommandKind::AuthDisable => Op::AuthDisable,
        CommandKind::AuthUserAdd => Op::AuthUserAdd,
        CommandKind::AuthUserDelete => Op::AuthUserDelete,
        CommandKind::AuthUserChangePassword => Op::AuthUserChangePassword,
        CommandKind::AuthUserGrantRole => Op::AuthUserGrantRole,
        CommandKind::AuthUserRevokeRole => Op::AuthUserRevokeRole,
        CommandKind::AuthRoleAdd => Op::AuthRoleAdd,
        CommandKind::AuthRoleDelete => Op::AuthRoleDelete,
        CommandKind::AuthRoleGrantPermission => Op::AuthRoleGrantPermission,
        CommandKind::AuthRoleRevokePermission => Op::AuthRoleRevokePermission,
        CommandKind::Authenticate => Op::Authenticate,
        CommandKind::V2 => Op::V2,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Stages {
    /// Applying that takes longer than this is warned about.
    pub fn new(slow_apply: Duration) -> Stages {
        Stages {
            opened: None,
            flights: VecDeque::new(),
            flushes: 0,
            batches: 0,
            commands: 0,
            slow_apply: nanos(slow_apply),
            flushes_at_tick: 0,
            idle_ticks: 0,
            compacting: None,
        }
    }

    /// A command is submitted.
    pub fn open(&mut self, now: Nanos) {
        self.opened.get_or_insert(now);
    }

    /// The member has done all but applying, from `before` to `after`.
    pub fn advanced(
        &mut self,
        member: &HomeMember,
        log: &HomeLog,
        metrics: &ReactorMetrics,
        before: Nanos,
        after: Nanos,
    ) {
        self.flushed(log, metrics, before, after);
        let (batches, commands) = member.batches();
        let (made, waited) = (batches - self.batches, commands - self.commands);
        if made == 0 {
            return;
        }
        // Nearly always one. The rest of the division goes to the last.
        metrics.batch_commands.record_many(waited / made, made - 1);
        metrics.batch_commands.record(waited - waited / made * (made - 1));
        let opened = self.opened.take().unwrap_or(before);
        metrics.stages.with(Stage::BatchWait).record_many(before.since(opened), waited);
        (self.batches, self.commands) = (batches, commands);
        self.opened = member.has_unproposed().then_some(before);
    }

    fn flushed(&mut self, log: &HomeLog, metrics: &ReactorMetrics, before: Nanos, after: Nanos) {
        let durable = log.wal().durable();
        while self.flights.front().is_some_and(|flights| flights.last <= durable) {
            let done = self.flights.pop_front().expect("front exists");
            let took = before.since(done.since);
            metrics.wal_fsync.record_many(took, done.count);
            metrics.stages.with(Stage::WalFlush).record_many(took, done.count);
        }
        let flushes = log.wal().stats().flushes;
        let count = flushes - self.flushes;
        if count > 0 {
            self.flushes = flushes;
            self.flights.push_back(Flights { last: log.wal().last(), count, since: before });
            metrics.wal_write.record_many(after.since(before), count);
        }
    }

    /// Commands were applied from `before` to `after`, those of this member's clients and all others.
    pub fn applied(&mut self, effects: &mut Effects<Waiter>, metrics: &ReactorMetrics, before: Nanos, after: Nanos) {
        effects.granted.drain(..).for_each(|ttl| metrics.lease_ttl.record(ttl.max(0) as u64));
        let count = (effects.applied.len() + effects.unasked.len()) as u64;
        let took = after.since(before);
        if took > self.slow_apply {
            metrics.slow_applies.inc();
            let took = Duration::from_nanos(took);
            let expected = Duration::from_nanos(self.slow_apply);
            tracing::warn!(?took, "expected-duration" = ?expected, commands = count, "apply request took too long");
        }
        if count == 0 {
            return;
        }
        // One look at the clock for the whole step: one for each command would cost as much as applying a small one.
        let each = took / count;
        metrics.stages.with(Stage::Apply).record_many(took, count);
        // Neighbours are mostly of one kind.
        let mut run: Option<(Applied, u64)> = None;
        let asked = effects.applied.iter().map(|(waiter, result)| (waiter.op(), result.is_ok()));
        let unasked = effects.unasked.drain(..).map(|(kind, success)| (Some(op_of(kind)), success));
        for (op, success) in asked.chain(unasked) {
            let Some(op) = op else { continue };
            let label = Applied { op, success };
            match &mut run {
                Some((last, times)) if *last == label => *times += 1,
                _ => {
                    if let Some((last, times)) = run.replace((label, 1)) {
                        metrics.apply_duration.with(last).record_many(each, times);
                    }
                }
            }
        }
        if let Some((last, times)) = run {
            metrics.apply_duration.with(last).record_many(each, times);
        }
    }

    /// A request has its outcome.
    pub fn answer(&self, asked: Asked, success: bool, metrics: &ReactorMetrics, now: Nanos) {
        let took = now.since(asked.at);
        metrics.request_duration.with(Request { op: asked.op, success }).record(took);
    }

    /// A step of a compaction was made from `begun` to `now`.
    pub fn compacted(&mut self, progress: CompactProgress, metrics: &ReactorMetrics, begun: Nanos, now: Nanos) {
        metrics.compaction_pause.record(now.since(begun));
        let since = *self.compacting.get_or_insert(begun);
        let CompactProgress::Done { revision } = progress else { return };
        self.compacting = None;
        let took = now.since(since);
        metrics.compaction_total.record(took);
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        metrics.compaction_last.set_unsigned(seconds);
        let took = Duration::from_nanos(took);
        tracing::info!("scheduled-compact-revision" = revision, ?took, "finished scheduled compaction");
    }

    /// Consensus ticks: whether nothing has been flushed for `ticks` of them, once for each time of rest.
    pub fn falls_idle(&mut self, flushes: u64, ticks: u32) -> bool {
        let is_idle = std::mem::replace(&mut self.flushes_at_tick, flushes) == flushes;
        self.idle_ticks = if is_idle { self.idle_ticks.saturating_add(1) } else { 0 };
        self.idle_ticks == ticks
    }
}
