//! The watchers of one reactor. Sans-I/O: no clock, no sockets, no store; one seed explains every choice.
//!
//! ```text
//!             create, in the future          create, in the past
//!                      |                              |
//!                      v     queue full, gap          v       compacted
//!  publish --match--> SYNCED ----------------> UNSYNCED ------------------> canceled
//!                      ^                        runnable <--> parked
//!                      |   caught up              |   ^     (stream full)
//!                      +--------------------------+   | history chunk
//!                                                 next_catch_up / catch_up
//! ```
//!
//! Invariants:
//! - An unsynced watcher is owed every matching event from its `next` on, and nothing before: those are in its stream's
//!   queue or were sent. A synced one is owed what is published from now on, but nothing before its `next`, which may
//!   lie in the future. That makes "no gap, no duplicate" a local property.
//! - A watcher is in exactly one place: the synced index, the unsynced index and `runnable`, or `parked`.
//! - A stream's queue is in order: created, events by revision, canceled; a progress response stands behind all events
//!   that it vouches for.
//!
//! The work is split by concept: `publish` matches live events, `catch_up` reads history, `deliver` encodes messages.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::event::EventMode;
use super::index::{NO_DELETE, NO_PUT, Place, WatchIndex, index32};
use super::interval::SplitMix;
use super::queue::{COMPACTED_WATCHER, Item, Outbox, Stream, StreamKey};
use super::range::KeyRange;
use super::response::{Control, HeaderCache, INVALID_WATCH_ID};
use crate::lease::Millis;

/// `cancel_reason` of a create whose watch id is in use.
pub const REASON_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// `cancel_reason` of a create whose range holds no key.
pub const REASON_EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// `cancel_reason` of a create with a negative start revision.
pub const REASON_COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// Limits and intervals of a hub.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// A revision's events are split over several messages from this size on, if the watcher allows it.
    pub fragment_bytes: usize,
    /// Several revisions share a message up to this size.
    pub message_bytes: usize,
    /// A stream's watchers turn unsynced when more than this is queued. One delivery may go beyond it.
    pub stream_queue_bytes: usize,
    /// A stream may hold on to a batch until this many bytes of newer ones have gone through (at most twice as many).
    pub retained_bytes: usize,
    /// Live batches kept while a history chunk is on its way.
    pub tail_bytes: usize,
    /// Revisions asked for in one history chunk.
    pub chunk_revisions: i64,
    /// Event bytes asked for in one history chunk; a single revision may go beyond it.
    pub chunk_bytes: usize,
    /// Watchers that one history chunk is for, and that one call cancels.
    pub pass_watchers: usize,
    /// Interval of progress notifications, before the jitter of up to a tenth; 0 turns them off.
    pub progress_interval_millis: u64,
    /// For jitter and tree balance.
    pub seed: u64,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            // Request limit plus overhead: what a client accepts by default.
            fragment_bytes: 2 << 20,
            message_bytes: 64 << 10,
            stream_queue_bytes: 1 << 20,
            retained_bytes: 64 << 20,
            tail_bytes: 8 << 20,
            // Together about a tenth of a millisecond: every event of a chunk is offered to every watcher of a pass.
            chunk_revisions: 256,
            chunk_bytes: 256 << 10,
            pass_watchers: 64,
            progress_interval_millis: 600_000,
            seed: 0,
        }
    }
}

/// What a `WatchCreateRequest` asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchSpec<'a> {
    /// First key; empty stands for the smallest key.
    pub key: &'a [u8],
    /// Empty: just `key`. One zero byte: no end. Else the first key that is not meant.
    pub range_end: &'a [u8],
    /// First revision wanted; 0 for what comes.
    pub start_revision: i64,
    /// Send progress now and then.
    pub progress_notify: bool,
    /// Filter NOPUT.
    pub no_put: bool,
    /// Filter NODELETE.
    pub no_delete: bool,
    pub prev_kv: bool,
    /// Id chosen by the client; 0 to let the stream choose.
    pub watch_id: i64,
    /// Big revisions may be split.
    pub fragment: bool,
}

/// Figures for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HubStats {
    pub streams: usize,
    pub watchers: usize,
    /// Those of them that read history, or wait to.
    pub unsynced: usize,
    /// Bytes of event batches kept for slow streams.
    pub retained_bytes: usize,
    /// Events put into messages since the start, once for each watcher they went to.
    pub events_sent: u64,
    /// Deliveries that wait to be sent: what one entry's events mean to one watcher.
    pub deliveries: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Synced,
    /// Takes part in history chunks.
    Runnable,
    /// Waits until its stream has drained.
    Parked,
    /// Canceled; kept until its queued events are sent.
    Dead,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: u32,
    pub(super) watch_id: i64,
    range: Rc<KeyRange>,
    class: u8,
    place: Option<Place>,
    pub(super) state: State,
    /// The revision asked for, 0 for what comes: there is no progress to tell before the store reaches it.
    start: i64,
    /// The first (main, sub) revision owed. The sub revision is 0 unless a revision was sent in part, as fragments.
    pub(super) next: (i64, i64),
    /// Deliveries in the stream's queue.
    pub(super) queued: u32,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    progress_notify: bool,
    /// No event was queued since the last progress tick.
    pub(super) is_quiet: bool,
    /// Could not take a delivery of the batch at hand.
    pub(super) is_set_back: bool,
}

/// Watch state of one reactor. See the module's documentation.
#[derive(Debug)]
pub struct Hub {
    pub(super) config: HubConfig,
    /// Everything up to here was published.
    pub(super) revision: i64,
    pub(super) outbox: Outbox,
    pub(super) watchers: Vec<Watcher>,
    free_watchers: Vec<u32>,
    pub(super) synced: WatchIndex,
    pub(super) unsynced: WatchIndex,
    /// Unsynced watchers by `next`.
    pub(super) runnable: BTreeSet<(i64, u32)>,
    /// Unsynced watchers on full streams by `next`.
    pub(super) parked: BTreeSet<(i64, u32)>,
    pub(super) catch_up: super::catch_up::CatchUpState,
    /// Scratch: watchers that could not take a delivery, with the first event they are owed.
    pub(super) set_back: Vec<super::publish::SetBack>,
    pub(super) header: HeaderCache,
    progress_due: BTreeSet<(Millis, u32)>,
    now: Millis,
    random: SplitMix,
    live: usize,
    pub(super) live_with_prev: usize,
    pub(super) events_sent: u64,
}

impl Hub {
    /// A hub that has seen everything up to `revision`, the store's current one.
    pub fn new(config: HubConfig, revision: i64) -> Self {
        assert!(config.chunk_revisions > 0, "a history chunk makes progress");
        assert!(config.pass_watchers > 0, "a history chunk is for somebody");
        assert!(config.chunk_bytes <= config.retained_bytes / 2, "a history chunk lasts until it can be sent");
        let mut random = SplitMix(config.seed);
        Self {
            config,
            revision,
            outbox: Outbox::default(),
            watchers: Vec::new(),
            free_watchers: Vec::new(),
            synced: WatchIndex::new(random.next()),
            unsynced: WatchIndex::new(random.next()),
            runnable: BTreeSet::new(),
            parked: BTreeSet::new(),
            catch_up: super::catch_up::CatchUpState::default(),
            set_back: Vec::new(),
            header: HeaderCache::default(),
            progress_due: BTreeSet::new(),
            now: Millis(0),
            random,
            live: 0,
            live_with_prev: 0,
            events_sent: 0,
        }
    }

    /// The last published revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What the store has to collect for this hub.
    pub fn event_mode(&self) -> EventMode {
        match (self.live, self.live_with_prev) {
            (0, _) => EventMode::Off,
            (_, 0) => EventMode::Plain,
            _ => EventMode::WithPrev,
        }
    }

    /// Figures for metrics.
    pub fn stats(&self) -> HubStats {
        HubStats {
            streams: self.outbox.open_streams(),
            watchers: self.live,
            unsynced: self.runnable.len() + self.parked.len(),
            retained_bytes: self.outbox.slots.retained_bytes(),
            events_sent: self.events_sent,
            deliveries: self.outbox.slots.deliveries(),
        }
    }

    /// Opens a stream.
    pub fn open_stream(&mut self) -> StreamKey {
        let key = self.outbox.open();
        let interval = self.config.progress_interval_millis;
        let jitter = if interval < 10 { 0 } else { self.random.next() % (interval / 10) };
        let stream = &mut self.outbox.streams[key.index as usize];
        stream.progress_interval = interval + jitter;
        stream.progress_at = self.now.plus(stream.progress_interval);
        key
    }

    /// Forgets a stream with its watchers and whatever is queued.
    pub fn close_stream(&mut self, key: StreamKey) {
        let Some(stream) = self.outbox.get_mut(key) else { return };
        let watches = std::mem::take(&mut stream.watches);
        let queue = std::mem::take(&mut stream.queue);
        for item in queue {
            if let Item::Events(delivery) = item {
                self.outbox.slots.release(delivery.slot);
                self.forget_delivery(delivery.watcher);
            }
        }
        for watcher in watches.into_values().filter(|&watcher| watcher != COMPACTED_WATCHER) {
            self.kill(watcher);
        }
        self.outbox.close(key);
    }

    /// Creates a watcher, or refuses to; either way the answer is queued. Returns the watch id if there is a watcher now.
    ///
    /// `current_revision` is the store's, which may be ahead of what was published here, as is `compact_revision`.
    pub fn create(
        &mut self,
        key: StreamKey,
        spec: &WatchSpec<'_>,
        current_revision: i64,
        compact_revision: i64,
    ) -> Option<i64> {
        let revision = self.revision.max(current_revision);
        self.outbox.get(key)?;
        if spec.start_revision < 0 {
            self.reject(key, REASON_COMPACTED, revision);
            return None;
        }
        let Some(range) = KeyRange::new(spec.key, spec.range_end) else {
            self.reject(key, REASON_EMPTY_RANGE, revision);
            return None;
        };
        let stream = &mut self.outbox.streams[key.index as usize];
        let Some(watch_id) = choose_id(stream, spec.watch_id) else {
            self.reject(key, REASON_DUPLICATE_ID, revision);
            return None;
        };
        stream.announced_revision = stream.announced_revision.max(revision);
        self.outbox.push(key.index, Item::Control(Control::Created { watch_id, revision }));
        let next = if spec.start_revision == 0 { revision + 1 } else { spec.start_revision };
        assert!(next > 0, "revisions are positive");
        if next < compact_revision && next <= revision {
            self.outbox.streams[key.index as usize].watches.insert(watch_id, COMPACTED_WATCHER);
            self.outbox.push(key.index, Item::Control(Control::Compacted { watch_id, compact_revision }));
            return None;
        }
        self.add_watcher(key.index, watch_id, spec, range, next);
        Some(watch_id)
    }

    fn add_watcher(&mut self, stream: u32, watch_id: i64, spec: &WatchSpec<'_>, range: KeyRange, next: i64) {
        assert!(self.outbox.streams[stream as usize].is_open, "a watcher of a closed stream would never be closed");
        let watcher = Watcher {
            stream,
            watch_id,
            range: Rc::new(range),
            class: if spec.no_put { NO_PUT } else { 0 } | if spec.no_delete { NO_DELETE } else { 0 },
            place: None,
            state: State::Dead,
            start: spec.start_revision,
            next: (next, 0),
            queued: 0,
            prev_kv: spec.prev_kv,
            fragment: spec.fragment,
            progress_notify: spec.progress_notify,
            is_quiet: true,
            is_set_back: false,
        };
        let id = match self.free_watchers.pop() {
            Some(id) => {
                let last = &self.watchers[id as usize];
                assert!(
                    last.state == State::Dead && last.queued == 0,
                    "a place is free when nothing of its watcher is left"
                );
                self.watchers[id as usize] = watcher;
                id
            }
            None => {
                self.watchers.push(watcher);
                index32(self.watchers.len() - 1)
            }
        };
        self.live += 1;
        self.live_with_prev += usize::from(spec.prev_kv);
        let entry = &mut self.outbox.streams[stream as usize];
        let before = entry.watches.insert(watch_id, id);
        assert!(before.is_none(), "two watchers of one id: the first could never be canceled");
        entry.live += 1;
        entry.latest_start = entry.latest_start.max(spec.start_revision);
        if spec.progress_notify {
            entry.progress_watchers += 1;
            if entry.progress_watchers == 1 {
                self.plan_progress(stream);
            }
        }
        self.enter(id);
    }

    /// Refuses a create: for reasons that only the server knows, such as permissions.
    pub fn reject(&mut self, key: StreamKey, reason: &str, current_revision: i64) {
        let revision = self.revision.max(current_revision);
        if let Some(stream) = self.outbox.get_mut(key) {
            stream.announced_revision = stream.announced_revision.max(revision);
            self.outbox.push(key.index, Item::Control(Control::Rejected { reason: reason.into(), revision }));
        }
    }

    /// Cancels a watcher on its client's request. Events already queued are still sent, before the answer. An unknown id
    /// is not answered.
    pub fn cancel(&mut self, key: StreamKey, watch_id: i64) {
        let Some(stream) = self.outbox.get_mut(key) else { return };
        let Some(watcher) = stream.watches.remove(&watch_id) else { return };
        let revision = self.revision.max(stream.announced_revision);
        self.outbox.push(key.index, Item::Control(Control::Canceled { watch_id, revision }));
        if watcher != COMPACTED_WATCHER {
            self.kill(watcher);
        }
    }

    /// The client asks how far its watchers are: answered if all of them are synced and have begun, else not at all.
    pub fn progress_request(&mut self, key: StreamKey) {
        let revision = self.revision;
        let Some(stream) = self.outbox.get_mut(key) else { return };
        if stream.live == 0 || stream.unsynced > 0 || revision < stream.announced_revision {
            return;
        }
        if stream.latest_start > revision {
            // Whoever was to begin last may be gone by now.
            let watchers = stream.watches.values().filter_map(|&id| self.watchers.get(id as usize));
            stream.latest_start = watchers.map(|watcher| watcher.start).max().unwrap_or(0);
            if stream.latest_start > revision {
                return;
            }
        }
        assert!(stream.unsynced == 0, "progress does not vouch for events that are yet to be read");
        if let Some(Item::Control(Control::Progress { watch_id: INVALID_WATCH_ID, revision: last })) =
            stream.queue.back_mut()
        {
            *last = revision; // A client that asks without reading gets one answer for all.
            return;
        }
        self.outbox.push(key.index, Item::Control(Control::Progress { watch_id: INVALID_WATCH_ID, revision }));
    }

    /// Time passes: queues the progress notifications that are due.
    pub fn tick(&mut self, now: Millis) {
        self.now = self.now.max(now);
        while let Some(&(at, index)) = self.progress_due.first() {
            if at > self.now {
                break;
            }
            self.progress_due.pop_first();
            self.notify_progress(index);
            self.plan_progress(index);
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<Millis> {
        self.progress_due.first().map(|&(at, _)| at)
    }

    fn notify_progress(&mut self, index: u32) {
        let stream = &self.outbox.streams[index as usize];
        let has_room = stream.queued_bytes <= self.config.stream_queue_bytes;
        let may_announce = has_room && self.revision >= stream.announced_revision;
        let mut due = Vec::new();
        for &id in stream.watches.values().filter(|&&id| id != COMPACTED_WATCHER) {
            let watcher = &mut self.watchers[id as usize];
            let has_begun = watcher.state == State::Synced && watcher.start <= self.revision;
            if watcher.progress_notify && watcher.is_quiet && has_begun && may_announce {
                due.push(watcher.watch_id);
            }
            watcher.is_quiet = true;
        }
        for watch_id in due {
            assert!(
                self.revision >= self.outbox.streams[index as usize].announced_revision,
                "revisions do not go back"
            );
            self.outbox.push(index, Item::Control(Control::Progress { watch_id, revision: self.revision }));
        }
    }

    /// Plans the stream's next tick. Ticks are multiples of the stream's interval since it was opened.
    fn plan_progress(&mut self, index: u32) {
        let stream = &mut self.outbox.streams[index as usize];
        if stream.progress_watchers == 0 || self.config.progress_interval_millis == 0 {
            return;
        }
        if stream.progress_at <= self.now {
            let missed = (self.now.0 - stream.progress_at.0) / stream.progress_interval + 1;
            stream.progress_at = stream.progress_at.plus(missed * stream.progress_interval);
        }
        assert!(stream.progress_at > self.now, "a tick that is due now would be told twice");
        self.progress_due.insert((stream.progress_at, index));
    }

    /// Takes a watcher out of everything but its stream's queue.
    pub(super) fn kill(&mut self, id: u32) {
        self.leave(id);
        let watcher = &mut self.watchers[id as usize];
        watcher.state = State::Dead;
        let gone = "a watcher is counted when it comes and when it goes";
        self.live = self.live.checked_sub(1).expect(gone);
        self.live_with_prev = self.live_with_prev.checked_sub(usize::from(watcher.prev_kv)).expect(gone);
        let stream = &mut self.outbox.streams[watcher.stream as usize];
        stream.live = stream.live.checked_sub(1).expect(gone);
        assert!(stream.unsynced <= stream.live, "only the living read history");
        if watcher.progress_notify {
            stream.progress_watchers = stream.progress_watchers.checked_sub(1).expect(gone);
            if stream.progress_watchers == 0 {
                self.progress_due.remove(&(stream.progress_at, watcher.stream));
            }
        }
        if watcher.queued == 0 {
            self.free_watchers.push(id);
        }
    }

    /// A delivery of the watcher left the queue.
    pub(super) fn forget_delivery(&mut self, id: u32) {
        let watcher = &mut self.watchers[id as usize];
        watcher.queued = watcher.queued.checked_sub(1).expect("deliveries are counted when they are queued");
        if watcher.queued == 0 && watcher.state == State::Dead {
            self.free_watchers.push(id);
        }
    }

    /// Takes a watcher out of the place that goes with its state.
    pub(super) fn leave(&mut self, id: u32) {
        let watcher = &mut self.watchers[id as usize];
        let index = match watcher.state {
            State::Synced => &mut self.synced,
            State::Runnable => &mut self.unsynced,
            State::Parked => {
                assert!(self.parked.remove(&(watcher.next.0, id)), "parked watchers are listed");
                self.outbox.streams[watcher.stream as usize].unsynced -= 1;
                return;
            }
            State::Dead => unreachable!("a dead watcher is nowhere"),
        };
        if watcher.state == State::Runnable {
            assert!(self.runnable.remove(&(watcher.next.0, id)), "runnable watchers are listed");
            self.outbox.streams[watcher.stream as usize].unsynced -= 1;
        }
        if let Some(place) = watcher.place.take()
            && let Some(moved) = index.remove(id, place)
        {
            self.watchers[moved as usize].place = Some(place);
        }
    }

    /// Puts a watcher where its `next` says that it belongs.
    pub(super) fn enter(&mut self, id: u32) {
        let watcher = &mut self.watchers[id as usize];
        assert!(watcher.place.is_none(), "a watcher in two places gets its events twice");
        let stream = &mut self.outbox.streams[watcher.stream as usize];
        let index = if watcher.next.0 > self.revision {
            watcher.state = State::Synced;
            &mut self.synced
        } else if stream.is_blocked {
            watcher.state = State::Parked;
            stream.unsynced += 1;
            self.parked.insert((watcher.next.0, id));
            return;
        } else {
            watcher.state = State::Runnable;
            stream.unsynced += 1;
            self.runnable.insert((watcher.next.0, id));
            &mut self.unsynced
        };
        watcher.place = index.insert(id, &mut watcher.range, watcher.class);
    }
}

/// The id of a new watcher; `None` if the wanted one is taken.
fn choose_id(stream: &mut Stream, wanted: i64) -> Option<i64> {
    if wanted != 0 {
        return (!stream.watches.contains_key(&wanted)).then_some(wanted);
    }
    while stream.watches.contains_key(&stream.next_id) {
        stream.next_id += 1;
    }
    stream.next_id += 1;
    Some(stream.next_id - 1)
}
