//! What waits to be sent: a queue of references per stream, and the batches that they refer to.
//!
//! A delivery is not encoded until the transport has room for it; until then it is a few words that point into a shared
//! batch, however many watchers the events go to.
//!
//! Invariants: a slot's `refs` is the number of queue items that point to it; a slot without references holds no batch;
//! `queued_bytes` of a stream is the sum of its items' costs.

use std::collections::{BTreeMap, VecDeque};

use super::event::EventBatch;
use super::index::{Run, index32};
use super::response::Control;
use crate::lease::Millis;

/// What an item costs beyond the events it will send.
pub(super) const ITEM_COST: usize = 64;

/// Events of one batch for one watcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) watcher: u32,
    pub(super) slot: u64,
    /// Which runs of it: `first..last` in the slot's list.
    pub(super) first: u32,
    pub(super) last: u32,
    /// Events before this one are not, or no longer, to be sent.
    pub(super) start: u32,
    /// Total length of the event records still to be sent.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum Item {
    Events(Delivery),
    Control(Control),
}

impl Item {
    pub(super) fn cost(&self) -> usize {
        ITEM_COST
            + match self {
                Item::Events(delivery) => delivery.bytes,
                Item::Control(control) => control.heap_bytes(),
            }
    }
}

/// One batch with the runs that its deliveries name.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) batch: Option<EventBatch>,
    pub(super) runs: Vec<Run>,
    refs: u32,
    /// The store's revision, as known when the deliveries were queued: what their messages' headers tell.
    pub(super) revision: i64,
    /// Bytes of all batches that had gone through with this one.
    pub(super) position: u64,
}

/// Batches in order of arrival, each kept until its last delivery is gone.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: VecDeque<Slot>,
    /// Number of the first slot in `slots`.
    base: u64,
    /// Bytes of all batches that ever went through.
    pub(super) total_bytes: u64,
    retained_bytes: usize,
    deliveries: usize,
}

impl Slots {
    /// The number the next slot will have.
    pub(super) fn next_slot(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// Adds a batch that `refs` deliveries point to.
    pub(super) fn push(&mut self, batch: &EventBatch, runs: Vec<Run>, refs: u32, revision: i64) {
        assert!(refs > 0, "a batch is kept for somebody");
        let bytes = batch.heap_bytes() + runs.capacity() * size_of::<Run>() + size_of::<Slot>();
        self.total_bytes += bytes as u64;
        self.slots.push_back(Slot { batch: Some(batch.clone()), runs, refs, revision, position: self.total_bytes });
        self.retained_bytes += batch.heap_bytes();
        self.deliveries += refs as usize;
    }

    pub(super) fn get(&self, slot: u64) -> &Slot {
        &self.slots[(slot - self.base) as usize]
    }

    pub(super) fn batch(&self, slot: u64) -> &EventBatch {
        self.get(slot).batch.as_ref().expect("a referenced slot holds its batch")
    }

    pub(super) fn release(&mut self, slot: u64) {
        assert!(slot >= self.base, "what was released last is not there any more");
        let slot = &mut self.slots[(slot - self.base) as usize];
        slot.refs = slot.refs.checked_sub(1).expect("deliveries are counted");
        self.deliveries = self.deliveries.checked_sub(1).expect("deliveries are counted");
        if slot.refs > 0 {
            return;
        }
        let batch = slot.batch.take().expect("a referenced slot holds its batch");
        slot.runs = Vec::new();
        let left = self.retained_bytes.checked_sub(batch.heap_bytes());
        self.retained_bytes = left.expect("bytes are counted when a batch comes and when it goes");
        while self.slots.front().is_some_and(|slot| slot.refs == 0) {
            self.slots.pop_front();
            self.base += 1;
        }
    }

    /// Deliveries that point to them.
    pub(super) fn deliveries(&self) -> usize {
        self.deliveries
    }

    /// Bytes of the batches that are kept.
    pub(super) fn retained_bytes(&self) -> usize {
        self.retained_bytes
    }
}

/// Entry of `Stream::watches` for a watcher that compaction canceled: its id is taken until the client cancels it, too.
pub(super) const COMPACTED_WATCHER: u32 = u32::MAX;

/// Names a stream of a hub. A key of a closed stream never names another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// One client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) generation: u32,
    pub(super) is_open: bool,
    pub(super) queue: VecDeque<Item>,
    pub(super) queued_bytes: usize,
    pub(super) watches: BTreeMap<i64, u32>,
    /// Where the search for a free watch id starts.
    pub(super) next_id: i64,
    /// The greatest revision that a create or a history chunk spoke of. It may be ahead of what was published here;
    /// until that has followed, no progress is told, so that revisions do not seem to go back.
    pub(super) announced_revision: i64,
    /// The greatest revision at which one of its watchers was asked to begin; it may be gone.
    pub(super) latest_start: i64,
    /// Live watchers, those of them that read history, and those that want progress.
    pub(super) live: usize,
    pub(super) unsynced: usize,
    pub(super) progress_watchers: usize,
    /// Next progress tick, and the stream's own interval.
    pub(super) progress_at: Millis,
    pub(super) progress_interval: u64,
    /// The queue was full: its unsynced watchers are parked until it has drained.
    pub(super) is_blocked: bool,
    /// The shell knows that there is something to pull.
    pub(super) is_listed: bool,
    /// The hub's backlog names the stream.
    pub(super) in_backlog: bool,
}

impl Stream {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            is_open: true,
            queue: VecDeque::new(),
            queued_bytes: 0,
            watches: BTreeMap::new(),
            next_id: 0,
            announced_revision: 0,
            latest_start: 0,
            live: 0,
            unsynced: 0,
            progress_watchers: 0,
            progress_at: Millis::FOREVER,
            progress_interval: 0,
            is_blocked: false,
            is_listed: false,
            in_backlog: false,
        }
    }

    /// Bytes leave the queue.
    pub(super) fn take_off(&mut self, bytes: usize) {
        let left = self.queued_bytes.checked_sub(bytes);
        self.queued_bytes = left.expect("a queue gives back what its items were counted for");
        assert!(
            self.queued_bytes >= self.queue.len().saturating_sub(1) * ITEM_COST,
            "each item costs at least its place"
        );
    }

    /// How many deliveries from the head on can share a message, and the last one's slot: those of one watcher that
    /// stand next to each other, while they fit.
    pub(super) fn mergeable(&self, head: Delivery, bytes_max: usize) -> (usize, u64) {
        let (mut count, mut last_slot, mut bytes) = (1, head.slot, head.bytes);
        for item in self.queue.iter().skip(1) {
            match item {
                Item::Events(next) if next.watcher == head.watcher && bytes + next.bytes < bytes_max => {
                    (count, last_slot, bytes) = (count + 1, next.slot, bytes + next.bytes);
                }
                _ => break,
            }
        }
        (count, last_slot)
    }

    /// The batch that the stream holds longest.
    pub(super) fn oldest_slot(&self) -> Option<u64> {
        self.queue.iter().find_map(|item| match item {
            Item::Events(delivery) => Some(delivery.slot),
            Item::Control(_) => None,
        })
    }
}

/// All streams with what waits in them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) streams: Vec<Stream>,
    free: Vec<u32>,
    pub(super) slots: Slots,
    /// Streams that have something to send and that the shell has not been told about.
    pub(super) ready: VecDeque<StreamKey>,
    /// The same, for streams whose watchers catch up or that have not taken what they got: it has time.
    pub(super) late: VecDeque<StreamKey>,
    /// What is pushed now is history.
    pub(super) is_catching_up: bool,
    /// Streams that hold events, each with the bytes that had gone through when it was last looked at.
    pub(super) backlog: VecDeque<(u64, StreamKey)>,
}

impl Outbox {
    pub(super) fn open(&mut self) -> StreamKey {
        match self.free.pop() {
            Some(index) => {
                let generation = self.streams[index as usize].generation + 1;
                self.streams[index as usize] = Stream::new(generation);
                StreamKey { index, generation }
            }
            None => {
                self.streams.push(Stream::new(0));
                StreamKey { index: index32(self.streams.len() - 1), generation: 0 }
            }
        }
    }

    /// Forgets an empty stream.
    pub(super) fn close(&mut self, key: StreamKey) {
        let stream = &mut self.streams[key.index as usize];
        assert!(stream.queue.is_empty(), "a stream is emptied before it is forgotten");
        assert!(stream.live == 0, "a stream is emptied before it is forgotten");
        *stream = Stream { is_open: false, ..Stream::new(key.generation) };
        self.free.push(key.index);
    }

    /// The next stream of a list that is still open.
    pub(super) fn pop(&mut self, list: fn(&mut Outbox) -> &mut VecDeque<StreamKey>) -> Option<StreamKey> {
        while let Some(key) = list(self).pop_front() {
            if self.get(key).is_some() {
                return Some(key);
            }
        }
        None
    }

    pub(super) fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(key.index as usize).filter(|s| s.is_open && s.generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.streams.get_mut(key.index as usize).filter(|s| s.is_open && s.generation == key.generation)
    }

    /// Number of open streams.
    pub(super) fn open_streams(&self) -> usize {
        self.streams.len() - self.free.len()
    }

    #[inline]
    pub(super) fn push(&mut self, stream: u32, item: Item) {
        let key = StreamKey { index: stream, generation: self.streams[stream as usize].generation };
        let stream = &mut self.streams[stream as usize];
        if !stream.is_listed {
            stream.is_listed = true;
            let list = if self.is_catching_up { &mut self.late } else { &mut self.ready };
            list.push_back(key);
        }
        if !stream.in_backlog && matches!(item, Item::Events(_)) {
            stream.in_backlog = true;
            self.backlog.push_back((self.slots.total_bytes, key));
        }
        stream.queued_bytes += item.cost();
        stream.queue.push_back(item);
    }

    /// A stream that holds on to a batch older than `bytes_max` of newer ones, if there is one.
    ///
    /// A stream is looked at once per `bytes_max` of batches, so that it may hold on for up to twice as long.
    pub(super) fn next_overdue(&mut self, bytes_max: u64) -> Option<StreamKey> {
        let total = self.slots.total_bytes;
        while let Some(&(seen_at, key)) = self.backlog.front() {
            if seen_at + bytes_max >= total {
                return None;
            }
            self.backlog.pop_front();
            let Some(stream) = self.get(key) else { continue };
            let held_since = stream.oldest_slot().map(|slot| self.slots.get(slot).position);
            let stream = &mut self.streams[key.index as usize];
            match held_since {
                None => stream.in_backlog = false,
                Some(position) if position + bytes_max >= total => self.backlog.push_back((total, key)),
                Some(_) => {
                    stream.in_backlog = false;
                    return Some(key);
                }
            }
        }
        None
    }
}
