//! Work that has time: compaction, catching up of watchers, progress notifications, trimming of
//! resident pages. All of it in bounded steps, in the task queue with the least share.

use super::waiter::Waiter;
use super::{Home, State, watching};
use plinth_engine::error::StoreError;
use plinth_engine::store::compact::CompactProgress;
use plinth_member::history;
use plinth_net::rt::sleep;
use plinth_net::turn;
use std::rc::Rc;
use std::time::Duration;

/// How often progress notifications may fall due.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How often a part of the resident pages is let go, and how much.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);
const TRIM_BYTES: u64 = 64 << 20;

/// And of that in one step: the system takes about 50 µs for it if all of it is resident.
const TRIM_STEP_BYTES: u64 = 4 << 20;

/// Compacts and catches up whenever there is something to do. Ends only when the data is broken.
pub async fn work(home: Rc<Home>) -> StoreError {
    loop {
        home.background.wait().await;
        loop {
            match step(&home) {
                Ok(Some(pause)) if pause.is_zero() => {}
                Ok(Some(pause)) => sleep(pause).await,
                Ok(None) => break,
                Err(error) => return error,
            }
            turn::pass().await;
        }
    }
}

/// One step of everything; if there is more to do, the pause before it.
fn step(home: &Rc<Home>) -> Result<Option<Duration>, StoreError> {
    let catches_up = {
        let mut guard = home.state_mut();
        let State { member, hub, .. } = &mut *guard;
        crate::fail_point!(if hub.stats().unsynced > 0, "beforeSyncWatchers");
        history::catch_up(member, hub)?
    };
    let catches_up = watching::deliver_ready(home) || catches_up;
    let catches_up = watching::deliver_late(home) || catches_up;
    let compacts = compact(home)?;
    Ok(match (catches_up, compacts) {
        (true, _) => Some(Duration::ZERO),
        (false, true) => Some(home.profile.pace.compaction_pause),
        (false, false) => None,
    })
}

/// One step of a compaction; those who waited for its end are answered.
fn compact(home: &Rc<Home>) -> Result<bool, StoreError> {
    let mut guard = home.state_mut();
    let state = &mut *guard;
    if !state.member.store().is_compacting() {
        return Ok(false);
    }
    let begun = home.reactor.clock.read();
    crate::fail_point!("compactBeforeCommitScheduledCompact");
    crate::fail_point!("compactBeforeCommitBatch");
    let progress = history::compact(&mut state.member, &mut state.hub, home.profile.pace.compaction_step)?;
    crate::fail_point!("compactAfterCommitBatch");
    state.stages.compacted(progress, &home.reactor.metrics, begun, home.reactor.clock.read());
    let finished = state.member.store().finished_compact_revision();
    let (done, waiting) = std::mem::take(&mut state.physical).into_iter().partition(|(at, _)| *at <= finished);
    state.physical = waiting;
    let (header, revision) = (state.header.clone(), state.member.store().revision());
    drop(guard);
    let done: Vec<(i64, Waiter)> = done;
    for (_, waiter) in done {
        if let Waiter::Physical(reply) = waiter {
            reply.send(|out| header.append(out, revision));
        }
    }
    Ok(!matches!(progress, CompactProgress::Idle))
}

/// Sends progress notifications when they are due.
pub async fn notify_progress(home: Rc<Home>) {
    while !home.is_stopping() {
        sleep(PROGRESS_INTERVAL).await;
        let now = home.reactor.clock.now();
        let due = home.state().hub.next_tick().is_some_and(|at| at <= now);
        if due {
            home.state_mut().hub.tick(now);
            watching::deliver_ready(&home);
        }
    }
}

/// Lets go of resident pages, a part at a time: hot ones come back with a minor fault, cold ones cost no memory.
pub async fn trim(home: Rc<Home>) {
    while !home.is_stopping() {
        sleep(TRIM_INTERVAL).await;
        for _ in 0..TRIM_BYTES / TRIM_STEP_BYTES {
            let at_end = home.state_mut().member.store_mut().trees_mut().trim_resident(TRIM_STEP_BYTES);
            if at_end {
                break;
            }
            turn::pass().await;
        }
    }
}
