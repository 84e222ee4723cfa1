//! Encoding of queued messages, when the transport has room for them.

use super::event::EventBatch;
use super::hub::{Hub, State};
use super::index::Run;
use super::publish::records_len;
use super::queue::{Delivery, ITEM_COST, Item, StreamKey};
use super::response::{HeaderIds, fragment_prefix_len, put_event_prefix};

/// How much of a delivery goes into one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cut {
    /// The first event that stays behind.
    end: u32,
    bytes: usize,
    /// The message ends in the middle of a revision.
    is_fragment: bool,
}

/// Sizes that bound a message.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Whole revisions are added up to this.
    message_bytes: usize,
    /// A single revision is split from this on, if at all.
    fragment_bytes: Option<usize>,
}

impl Hub {
    /// The next stream that has something new to send. A stream is named once, here or by [`Hub::pop_late`], until it was
    /// pulled empty: a shell that stops pulling has to come back to it by itself, or [`Hub::postpone`] it.
    pub fn pop_ready(&mut self) -> Option<StreamKey> {
        self.outbox.pop(|outbox| &mut outbox.ready)
    }

    /// The next stream that has something to send for which there is time: history, or what was postponed.
    pub fn pop_late(&mut self) -> Option<StreamKey> {
        self.outbox.pop(|outbox| &mut outbox.late)
    }

    /// Names a stream by [`Hub::pop_late`] that was named and not pulled empty.
    pub fn postpone(&mut self, key: StreamKey) {
        if self.outbox.get(key).is_some_and(|stream| stream.is_listed) {
            self.outbox.late.push_back(key);
        }
    }

    /// Bytes waiting in a stream: what is to be sent, roughly. A shell stops taking requests from a client that does not
    /// read its answers.
    pub fn queued_bytes(&self, key: StreamKey) -> usize {
        self.outbox.get(key).map_or(0, |stream| stream.queued_bytes)
    }

    /// Whether a stream has a message. If not, it will be named ready again.
    pub fn has_message(&mut self, key: StreamKey) -> bool {
        let Some(stream) = self.outbox.get_mut(key) else { return false };
        if !stream.queue.is_empty() {
            return true;
        }
        stream.is_listed = false;
        if stream.is_blocked {
            self.unblock(key);
        }
        false
    }

    /// Appends the next encoded `WatchResponse` of a stream to `out`. False if there is none.
    pub fn next_message(&mut self, key: StreamKey, ids: HeaderIds, out: &mut Vec<u8>) -> bool {
        if !self.has_message(key) {
            return false;
        }
        let stream = &mut self.outbox.streams[key.index as usize];
        match stream.queue.front() {
            Some(&Item::Events(delivery)) => self.encode_events(key, delivery, ids, out),
            _ => {
                let Some(Item::Control(control)) = stream.queue.pop_front() else { unreachable!("there is a message") };
                stream.take_off(ITEM_COST + control.heap_bytes());
                control.encode(&mut self.header, ids, out);
            }
        }
        let stream = &self.outbox.streams[key.index as usize];
        if stream.is_blocked && stream.queued_bytes <= self.config.stream_queue_bytes / 2 {
            self.unblock(key);
        }
        true
    }

    /// The stream has room again: its unsynced watchers read on.
    fn unblock(&mut self, key: StreamKey) {
        let stream = &mut self.outbox.streams[key.index as usize];
        stream.is_blocked = false;
        if stream.unsynced == 0 {
            return;
        }
        let ids: Vec<u32> = stream.watches.values().copied().collect();
        for id in ids {
            if self.watchers.get(id as usize).is_some_and(|watcher| watcher.state == State::Parked) {
                self.leave(id);
                self.enter(id);
            }
        }
    }

    fn encode_events(&mut self, key: StreamKey, head: Delivery, ids: HeaderIds, out: &mut Vec<u8>) {
        let watcher = &self.watchers[head.watcher as usize];
        let (watch_id, prev_kv) = (watcher.watch_id, watcher.prev_kv);
        let mut limits = Limits { message_bytes: self.config.message_bytes, fragment_bytes: None };
        if watcher.fragment {
            let header = self.header.get(ids, self.outbox.slots.get(head.slot).revision);
            let room = self.config.fragment_bytes.saturating_sub(fragment_prefix_len(header, watch_id));
            limits = Limits { message_bytes: limits.message_bytes.min(room), fragment_bytes: Some(room) };
        }
        if head.bytes >= limits.message_bytes {
            self.encode_part(key, head, limits, ids, out);
            return;
        }
        let stream = &mut self.outbox.streams[key.index as usize];
        let (count, last_slot) = stream.mergeable(head, limits.message_bytes);
        let revision = self.outbox.slots.get(last_slot).revision;
        put_event_prefix(self.header.get(ids, revision), watch_id, false, out);
        for _ in 0..count {
            let stream = &mut self.outbox.streams[key.index as usize];
            let Some(Item::Events(delivery)) = stream.queue.pop_front() else { unreachable!("counted above") };
            stream.take_off(ITEM_COST + delivery.bytes);
            let slot = self.outbox.slots.get(delivery.slot);
            let batch = self.outbox.slots.batch(delivery.slot);
            let runs = &slot.runs[delivery.first as usize..delivery.last as usize];
            self.events_sent += append_events(batch, runs, delivery.start..u32::MAX, prev_kv, out);
            self.outbox.slots.release(delivery.slot);
            self.forget_delivery(head.watcher);
        }
    }

    /// A delivery too big for one message: sends some revisions of it, or a piece of one.
    fn encode_part(&mut self, key: StreamKey, head: Delivery, limits: Limits, ids: HeaderIds, out: &mut Vec<u8>) {
        let watcher = &self.watchers[head.watcher as usize];
        let prev_kv = watcher.prev_kv;
        let batch = self.outbox.slots.batch(head.slot);
        let runs = &self.outbox.slots.get(head.slot).runs[head.first as usize..head.last as usize];
        let cut = cut(batch, runs, head.start, prev_kv, limits);
        assert!(cut.bytes > 0, "a message takes at least one event");
        let revision = self.outbox.slots.get(head.slot).revision;
        put_event_prefix(self.header.get(ids, revision), watcher.watch_id, cut.is_fragment, out);
        self.events_sent += append_events(batch, runs, head.start..cut.end, prev_kv, out);
        let rest = head.bytes - cut.bytes;
        assert!(rest == records_len(batch, runs, cut.end, prev_kv), "a delivery knows its size");
        let stream = &mut self.outbox.streams[key.index as usize];
        stream.take_off(cut.bytes);
        if rest > 0 {
            let rest = Delivery { start: cut.end, bytes: rest, ..head };
            *stream.queue.front_mut().expect("the delivery is the head") = Item::Events(rest);
            return;
        }
        stream.take_off(ITEM_COST);
        stream.queue.pop_front();
        self.outbox.slots.release(head.slot);
        self.forget_delivery(head.watcher);
    }
}

/// Appends the records of events and returns how many they are.
fn append_events(
    batch: &EventBatch,
    runs: &[Run],
    within: std::ops::Range<u32>,
    prev_kv: bool,
    out: &mut Vec<u8>,
) -> u64 {
    let mut count = 0;
    for run in runs {
        let (start, end) = (run.start.max(within.start), run.end.min(within.end));
        if start >= end {
            continue;
        }
        count += u64::from(end - start);
        if prev_kv {
            (start..end).for_each(|index| batch.event(index as usize).append_record(true, out));
        } else {
            batch.append_plain(start as usize..end as usize, out);
        }
    }
    count
}

/// Takes whole revisions from event `start` on while they fit, at least one; or as much of the first as fits if it is to
/// be split. Never stops inside a revision otherwise.
fn cut(batch: &EventBatch, runs: &[Run], start: u32, prev_kv: bool, limits: Limits) -> Cut {
    let mut taken = Cut { end: start, bytes: 0, is_fragment: false };
    // The revision being looked at, of which `piece` fits into a fragment.
    let mut main = 0;
    let mut revision = taken;
    let mut piece = taken;
    let events = runs.iter().flat_map(|run| run.start.max(start)..run.end.max(start));
    for index in events {
        let event = batch.event(index as usize);
        let len = event.record_len(prev_kv);
        if event.main() != main {
            taken = Cut { is_fragment: false, ..revision };
            main = event.main();
        }
        revision = Cut { end: index + 1, bytes: revision.bytes + len, is_fragment: false };
        if taken.bytes == 0 {
            match limits.fragment_bytes {
                Some(room) if piece.bytes > 0 && piece.bytes + len >= room => {
                    return Cut { is_fragment: true, ..piece };
                }
                _ => piece = revision,
            }
        } else if revision.bytes >= limits.message_bytes {
            return taken;
        }
    }
    revision
}
