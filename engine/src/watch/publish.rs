//! Matching a batch against watchers and queueing what they want.

use std::ops::Range;

use super::event::EventBatch;
use super::hub::{Hub, State, Watcher};
use super::index::{Group, Run, index32};
use super::queue::{Delivery, Item, Outbox, StreamKey};
use super::response::Control;

/// A watcher that could not take its events of the batch at hand: it is owed everything from main revision `from` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetBack {
    watcher: u32,
    from: i64,
}

/// Which unsynced watchers a history pass is for, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    /// Watchers that are owed events from here ...
    pub(super) from: i64,
    /// ... up to this place among the runnable ones take part.
    pub(super) last: (i64, u32),
    /// Everything before this revision was offered.
    pub(super) next: i64,
}

impl Pass {
    #[inline]
    fn includes(&self, id: u32, watcher: &Watcher) -> bool {
        self.from <= watcher.next.0 && (watcher.next.0, id) <= self.last && !watcher.is_set_back
    }
}

/// What a group wants of a batch, worked out once for all its members.
struct GroupEvents<'a> {
    runs: &'a [Run],
    first: (i64, i64),
    plain_bytes: usize,
    prev_bytes: usize,
}

impl<'a> GroupEvents<'a> {
    fn new(batch: &EventBatch, runs: &'a [Run]) -> Self {
        let first = batch.event(runs[0].start as usize);
        let first = (first.main(), first.sub());
        let plain_bytes = records_len(batch, runs, 0, false);
        let prev_bytes = if batch.with_prev() { records_len(batch, runs, 0, true) } else { 0 };
        Self { runs, first, plain_bytes, prev_bytes }
    }

    /// First event and total length of what is owed from `next` on; `None` if nothing is.
    #[inline]
    fn owed(&self, batch: &EventBatch, next: (i64, i64), prev_kv: bool) -> Option<(u32, usize)> {
        if next <= self.first {
            return Some((self.runs[0].start, if prev_kv { self.prev_bytes } else { self.plain_bytes }));
        }
        let start = batch.lower_bound(next);
        let run = self.runs.iter().find(|run| run.end as usize > start)?;
        let start = run.start.max(index32(start));
        Some((start, records_len(batch, self.runs, start, prev_kv)))
    }
}

/// Total length of the records of `runs` from event `start` on.
pub(super) fn records_len(batch: &EventBatch, runs: &[Run], start: u32, prev_kv: bool) -> usize {
    let events = runs.iter().flat_map(|run| run.start.max(start)..run.end.max(start));
    events.map(|index| batch.event(index as usize).record_len(prev_kv)).sum()
}

impl Hub {
    /// The events of one applied entry. Batches come in order; a batch that was seen already is ignored, and one that is
    /// missing, or incomplete, is made up for from history.
    pub fn publish(&mut self, batch: &EventBatch) {
        if batch.revision() <= self.revision {
            return;
        }
        assert!(batch.previous() <= batch.complete(), "a batch ends behind where it begins");
        assert!(batch.complete() <= batch.revision(), "a batch vouches for no revision that is not there");
        let seen = self.revision;
        self.revision = batch.revision();
        if batch.previous() > seen {
            self.miss(seen + 1, batch.previous());
        }
        if batch.complete() > seen {
            self.feed(batch, seen + 1, None);
            self.place_set_backs();
        }
        if batch.complete() < batch.revision() {
            self.miss(batch.complete().max(seen) + 1, batch.revision());
        }
        self.keep_tail(batch);
        self.drop_overdue();
    }

    /// The store moved to `revision` without events, as it does when it is replaced by a leader's snapshot.
    pub fn jump(&mut self, revision: i64) {
        if revision > self.revision {
            let seen = self.revision;
            self.revision = revision;
            self.miss(seen + 1, revision);
        }
    }

    /// Nothing is known here about the events of `from..=to`: synced watchers have to read them from history.
    fn miss(&mut self, from: i64, to: i64) {
        for id in 0..index32(self.watchers.len()) {
            let watcher = &self.watchers[id as usize];
            if watcher.state == State::Synced && watcher.next.0 <= to {
                self.leave(id);
                let watcher = &mut self.watchers[id as usize];
                watcher.next = watcher.next.max((from, 0));
                self.enter(id);
            }
        }
    }

    /// Matches events from main revision `next` on and queues deliveries: for synced watchers, or for those of a history
    /// pass. Watchers that cannot take theirs are noted in `set_back`.
    pub(super) fn feed(&mut self, batch: &EventBatch, next: i64, pass: Option<Pass>) {
        let index = if pass.is_none() { &mut self.synced } else { &mut self.unsynced };
        index.match_events(batch, batch.lower_bound((next, 0)));
        let mut offer = Offer {
            batch,
            pass,
            slot: self.outbox.slots.next_slot(),
            queue_bytes: self.config.stream_queue_bytes,
            watchers: &mut self.watchers,
            outbox: &mut self.outbox,
            set_back: &mut self.set_back,
            runs: Vec::new(),
            refs: 0,
        };
        for group in index.touched() {
            offer.offer_group(group);
        }
        let Offer { runs, refs, slot, .. } = offer;
        assert!(slot == self.outbox.slots.next_slot(), "deliveries name the slot that their batch gets");
        if refs > 0 {
            self.outbox.slots.push(batch, runs, refs, self.revision.max(batch.complete()));
        }
    }

    /// Watchers that could not take a delivery go to the place that goes with what they are owed.
    pub(super) fn place_set_backs(&mut self) {
        while let Some(SetBack { watcher: id, from }) = self.set_back.pop() {
            self.leave(id);
            let watcher = &mut self.watchers[id as usize];
            assert!(watcher.is_set_back, "a watcher is set back once a batch");
            watcher.is_set_back = false;
            watcher.next = watcher.next.max((from, 0));
            self.enter(id);
        }
    }

    /// Streams that hold on to old batches let go of them and read history when they are ready for it.
    pub(super) fn drop_overdue(&mut self) {
        while let Some(key) = self.outbox.next_overdue(self.config.retained_bytes as u64) {
            self.drop_deliveries(key);
        }
    }

    /// Takes all events out of a stream's queue; its watchers are owed them again, exactly from the first unsent one.
    fn drop_deliveries(&mut self, key: StreamKey) {
        let stream = &mut self.outbox.streams[key.index as usize];
        stream.is_blocked = true;
        stream.queued_bytes = 0;
        for item in std::mem::take(&mut stream.queue) {
            match item {
                Item::Events(delivery) => self.drop_delivery(delivery),
                // Progress would vouch for events that were just taken away.
                Item::Control(Control::Progress { .. }) => {}
                Item::Control(_) => {
                    let stream = &mut self.outbox.streams[key.index as usize];
                    stream.queued_bytes += item.cost();
                    stream.queue.push_back(item);
                }
            }
        }
    }

    fn drop_delivery(&mut self, delivery: Delivery) {
        let event = self.outbox.slots.batch(delivery.slot).event(delivery.start as usize);
        let owed = (event.main(), event.sub());
        self.outbox.slots.release(delivery.slot);
        let id = delivery.watcher;
        let watcher = &self.watchers[id as usize];
        let next = if watcher.state == State::Synced { (self.revision + 1, 0) } else { watcher.next };
        if watcher.state != State::Dead && owed < next {
            self.leave(id);
            self.watchers[id as usize].next = owed;
            self.enter(id);
        }
        self.forget_delivery(id);
    }
}

/// A batch on its way to the members of the groups that want some of it.
struct Offer<'a> {
    batch: &'a EventBatch,
    pass: Option<Pass>,
    /// The slot that the batch will have if anybody takes something.
    slot: u64,
    queue_bytes: usize,
    watchers: &'a mut [Watcher],
    outbox: &'a mut Outbox,
    set_back: &'a mut Vec<SetBack>,
    runs: Vec<Run>,
    refs: u32,
}

impl Offer<'_> {
    fn offer_group(&mut self, group: &Group) {
        let events = GroupEvents::new(self.batch, &group.runs);
        let first = index32(self.runs.len());
        self.runs.extend_from_slice(&group.runs);
        let last = index32(self.runs.len());
        let refs_before = self.refs;
        for &id in &group.members {
            self.offer_watcher(id, &events, first..last);
        }
        if self.refs == refs_before {
            self.runs.truncate(first as usize);
        }
    }

    #[inline]
    fn offer_watcher(&mut self, id: u32, events: &GroupEvents<'_>, runs: Range<u32>) {
        let batch = self.batch;
        let watcher = &mut self.watchers[id as usize];
        if self.pass.is_some_and(|pass| !pass.includes(id, watcher)) {
            return;
        }
        let Some((start, bytes)) = events.owed(batch, watcher.next, watcher.prev_kv) else { return };
        assert!(watcher.state != State::Dead, "a canceled watcher is sent nothing more");
        let stream = &mut self.outbox.streams[watcher.stream as usize];
        let is_full = stream.queued_bytes > self.queue_bytes;
        if is_full || (watcher.prev_kv && !batch.with_prev()) {
            stream.is_blocked |= is_full;
            watcher.is_set_back = true;
            self.set_back.push(SetBack { watcher: id, from: batch.event(start as usize).main() });
            return;
        }
        if self.pass.is_some() {
            stream.announced_revision = stream.announced_revision.max(batch.complete());
        }
        watcher.queued += 1;
        watcher.is_quiet = false;
        self.refs += 1;
        let delivery = Delivery { watcher: id, slot: self.slot, first: runs.start, last: runs.end, start, bytes };
        self.outbox.push(watcher.stream, Item::Events(delivery));
    }
}
