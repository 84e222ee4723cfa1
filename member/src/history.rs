//! History of the store for its watchers, and what compaction takes of it: the hub over the store.
//!
//! Invariants: a watcher that catches up gets what one that was there got, previous pairs included; nobody is told of
//! history that compaction may have touched (the hub cancels those who are owed it); what was applied while nobody
//! collected events is read from history by whoever came meanwhile.
//!
//! Each step is bounded: the shell decides when there is time for the next one.

use crate::member::Member;
use crate::planted::{Planted, is_planted};
use plinth_engine::budget::WorkBudget;
use plinth_engine::error::StoreError;
use plinth_engine::store::Store;
use plinth_engine::store::compact::CompactProgress;
use plinth_engine::trees::Trees;
use plinth_engine::watch::{CatchUp, EventBatchBuilder, EventMode, History, Hub, StreamKey, WatchSpec};
use std::ops::ControlFlow;

/// Creates a watcher, and lets the store collect events for it.
pub fn watch<T: Trees, W>(
    member: &mut Member<T, W>,
    hub: &mut Hub,
    stream: StreamKey,
    spec: &WatchSpec<'_>,
) -> Option<i64> {
    let (revision, compacted) = (member.store().revision(), member.store().compact_revision());
    if hub.event_mode() == EventMode::Off {
        // Without watchers nothing is published, so the hub does not know how far the store has come.
        hub.jump(revision);
    }
    let id = hub.create(stream, spec, revision, compacted);
    member.set_event_mode(member.event_mode().max(hub.event_mode()));
    id
}

/// Lets watchers read from history what was applied while nobody collected events: the rest of an entry whose apply
/// was under way when the first watcher came, or what a snapshot brought. Call when everything collected is published.
pub fn close_gap<T: Trees, W>(member: &Member<T, W>, hub: &mut Hub) {
    let is_behind = hub.event_mode() != EventMode::Off && hub.revision() < member.store().revision();
    if is_behind && member.is_between_entries() {
        hub.jump(member.store().revision());
    }
}

/// Answers one history request of the hub; false if there is none.
pub fn catch_up<T: Trees, W>(member: &Member<T, W>, hub: &mut Hub) -> Result<bool, StoreError> {
    let Some(request) = hub.next_catch_up() else { return Ok(false) };
    let history = read(member.store(), request)?;
    hub.catch_up(request.id, history);
    Ok(true)
}

/// Reads what the hub asks for.
fn read<T: Trees>(store: &Store<T>, request: CatchUp) -> Result<History, StoreError> {
    let compacted = store.compact_revision();
    if request.from < compacted {
        return Ok(History::Compacted(compacted));
    }
    let to = store.revision().min(request.from.saturating_add(request.revisions - 1));
    let mut builder = EventBatchBuilder::for_history(request.with_prev, request.from, request.bytes);
    let with_prev = request.with_prev && !is_planted(Planted::HistoryWithoutPrev);
    let mut broken = None;
    store.history(request.from, to, &mut |event| {
        let prev = match with_prev && !event.is_create {
            true => store.kv_at(event.key, event.revision),
            false => Ok(None),
        };
        let prev = match prev {
            Ok(prev) => prev,
            Err(error) => {
                broken = Some(error);
                return ControlFlow::Break(());
            }
        };
        let (main, sub) = (event.revision.main, event.revision.sub);
        match event.is_delete {
            true => builder.delete(main, sub, event.key, prev),
            false => builder.put(main, sub, event.is_create, event.pair, prev),
        }
        if builder.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match broken {
        Some(error) => Err(error),
        None => Ok(History::Events(builder.finish(to))),
    }
}

/// One step of a compaction, if one is under way; watchers that it has overtaken are told.
pub fn compact<T: Trees, W>(
    member: &mut Member<T, W>,
    hub: &mut Hub,
    budget: WorkBudget,
) -> Result<CompactProgress, StoreError> {
    let progress = member.store_mut().compact_step(budget)?;
    if progress != CompactProgress::Idle {
        hub.compacted(member.store().compact_revision());
    }
    Ok(progress)
}
