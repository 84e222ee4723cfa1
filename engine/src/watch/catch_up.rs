//! Unsynced watchers read history, many at a time, in bounded chunks.
//!
//! The hub asks (`next_catch_up`), the shell reads the store, here or on another reactor, and answers (`catch_up`). One
//! request is under way at a time. Batches published meanwhile are kept as a *tail*, within a limit: a chunk that reaches
//! the tail is continued with it, so that watchers arrive at the present although the present moves. Without the tail
//! (its limit was exceeded) they just need another chunk.
//!
//! Requests alternate between the oldest and the newest revision wanted: the oldest so that nobody waits forever, the
//! newest so that a watcher that fell behind a little does not wait for one that replays a long history.

use super::event::EventBatch;
use super::hub::Hub;
use super::publish::Pass;
use super::queue::{COMPACTED_WATCHER, Item};
use super::response::Control;

/// A request for history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatchUp {
    /// To be handed back with the answer.
    pub id: u64,
    /// First revision wanted.
    pub from: i64,
    /// Number of revisions that suffices.
    pub revisions: i64,
    /// Bytes of events that suffice; one revision is always read as a whole.
    pub bytes: usize,
    /// Whether previous pairs are wanted.
    pub with_prev: bool,
}

/// An answer to [`CatchUp`].
#[derive(Clone, Debug)]
pub enum History {
    /// All events of `from..=complete`, with `complete >= from`, as built by `EventBatchBuilder::for_history`.
    Events(EventBatch),
    /// `from` lies before this compact revision.
    Compacted(i64),
}

/// The request under way.
#[derive(Debug, Default)]
pub(super) struct CatchUpState {
    pending: Option<CatchUp>,
    next_id: u64,
    wants_newest: bool,
    /// Batches published since the request.
    tail: Vec<EventBatch>,
    tail_bytes: usize,
}

impl Hub {
    /// Whether [`Hub::next_catch_up`] has a request.
    pub fn wants_history(&self) -> bool {
        self.catch_up.pending.is_none() && !self.runnable.is_empty()
    }

    /// The next history request, if there is one and none is under way.
    pub fn next_catch_up(&mut self) -> Option<CatchUp> {
        if self.catch_up.pending.is_some() {
            return None;
        }
        let (mut from, _) = *self.runnable.first()?;
        if self.catch_up.wants_newest {
            let (newest, _) = *self.runnable.last().expect("there is a first");
            let window = newest - (self.config.chunk_revisions - 1);
            (from, _) = *self.runnable.range((window, 0)..).next().expect("the newest lies in its window");
        }
        let request = CatchUp {
            id: self.catch_up.next_id,
            from,
            revisions: self.config.chunk_revisions,
            bytes: self.config.chunk_bytes,
            with_prev: self.live_with_prev > 0,
        };
        self.catch_up.next_id += 1;
        self.catch_up.wants_newest = !self.catch_up.wants_newest;
        self.catch_up.pending = Some(request);
        Some(request)
    }

    /// The answer to the request under way. Answers to older requests are ignored.
    pub fn catch_up(&mut self, id: u64, history: History) {
        let Some(request) = self.catch_up.pending.take_if(|request| request.id == id) else { return };
        let tail = std::mem::take(&mut self.catch_up.tail);
        self.catch_up.tail_bytes = 0;
        match history {
            History::Events(chunk) => {
                assert!(chunk.previous() == request.from - 1, "a chunk starts where it was asked to");
                assert!(chunk.complete() >= request.from, "a chunk makes progress");
                self.outbox.is_catching_up = true;
                self.run_pass(&chunk, &tail);
                self.outbox.is_catching_up = false;
                self.drop_overdue();
            }
            History::Compacted(revision) => {
                assert!(revision > request.from, "compacted history ends after what was asked for");
                self.compacted(revision);
            }
        }
    }

    /// The request under way will not be answered.
    pub fn catch_up_failed(&mut self, id: u64) {
        if self.catch_up.pending.take_if(|request| request.id == id).is_some() {
            self.catch_up.tail.clear();
            self.catch_up.tail_bytes = 0;
        }
    }

    /// History before `compact_revision` is gone: watchers that are owed some of it are canceled. Those beyond the number
    /// that one call takes care of are found when they ask for history.
    pub fn compacted(&mut self, compact_revision: i64) {
        let end = (compact_revision, 0);
        let late = self.runnable.range(..end).chain(self.parked.range(..end)).map(|&(_, id)| id);
        let late: Vec<u32> = late.take(self.config.pass_watchers).collect();
        for id in late {
            let (stream, watch_id) = (self.watchers[id as usize].stream, self.watchers[id as usize].watch_id);
            self.kill(id);
            self.outbox.streams[stream as usize].watches.insert(watch_id, COMPACTED_WATCHER);
            self.outbox.push(stream, Item::Control(Control::Compacted { watch_id, compact_revision }));
        }
    }

    /// Offers a chunk, and what followed it, to the watchers that are owed something of it. Those that took what they
    /// want, or want nothing, advance; the number of watchers is bounded, because each costs some time.
    fn run_pass(&mut self, chunk: &EventBatch, tail: &[EventBatch]) {
        let from = chunk.previous() + 1;
        let within = (from, 0)..=(chunk.complete(), u32::MAX);
        let members: Vec<(i64, u32)> = self.runnable.range(within).take(self.config.pass_watchers).copied().collect();
        let Some(&last) = members.last() else { return };
        let mut pass = Pass { from, last, next: from };
        for batch in std::iter::once(chunk).chain(tail) {
            if batch.previous() < pass.next && pass.next <= batch.complete() {
                self.feed(batch, pass.next, Some(pass));
                pass.next = batch.complete() + 1;
            }
        }
        for (_, id) in members {
            if !self.watchers[id as usize].is_set_back {
                self.leave(id);
                self.watchers[id as usize].next = (pass.next, 0);
                self.enter(id);
            }
        }
        self.place_set_backs();
    }

    /// Keeps a published batch for the chunk under way.
    pub(super) fn keep_tail(&mut self, batch: &EventBatch) {
        if self.catch_up.pending.is_none() {
            return;
        }
        self.catch_up.tail_bytes += batch.heap_bytes();
        self.catch_up.tail.push(batch.clone());
        if self.catch_up.tail_bytes > self.config.tail_bytes {
            // The chunk will not reach what is kept from here on: its watchers go round once more.
            self.catch_up.tail.clear();
        }
    }
}
