//! Clients that watch, and what they must see: every change of their range from where they began, in order, once.
//!
//! When its member dies, or just so, a watcher goes on at another member behind the last revision it has seen. Slow ones
//! fill their stream, and catch up from history. What compaction took is told, and the watcher begins behind it.

use super::bugs::Bug;
use super::node::{CLUSTER, id_of};
use super::options::MS;
use super::protobuf;
use super::truth::{Change, Truth, decode_event, decode_prev};
use super::world::{Broken, Event, World};
use plinth_engine::watch::{HeaderIds, StreamKey, WatchSpec};
use plinth_member::history;
use plinth_wal::sim_disk::Rng;

/// A watcher's stream at a member.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    stream: StreamKey,
}

/// A client that watches.
#[derive(Debug)]
pub struct Watcher {
    key: Vec<u8>,
    end: Vec<u8>,
    /// It wants to know what was there before.
    prev_kv: bool,
    /// The first revision it has not seen; 0 until it knows where it began.
    next: i64,
    /// Where it is connected: member and life.
    place: Option<(usize, u64)>,
    /// Events of a revision that comes in fragments.
    parts: Vec<(Change, i64)>,
    pub seen: u64,
}

impl Watcher {
    /// A watcher of one key, of some, or of all.
    pub fn draw(random: &mut Rng, keys: u64) -> Watcher {
        let name = |key: u64| format!("key/{key:04}").into_bytes();
        let first = random.below(keys);
        let (key, end) = match random.below(3) {
            0 => (name(first), Vec::new()),
            1 => (name(first), name(first + 1 + random.below(keys))),
            _ => (b"\0".to_vec(), b"\0".to_vec()),
        };
        Watcher { key, end, prev_kv: random.chance(50), next: 0, place: None, parts: Vec::new(), seen: 0 }
    }

    fn wants(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            b"" => key == self.key,
            b"\0" => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        }
    }

    fn wanted<'a>(&'a self, truth: &'a Truth, revision: i64) -> impl Iterator<Item = &'a Change> {
        truth.changes(revision).iter().filter(|change| self.wants(&change.key))
    }

    /// Everything up to `revision` must have been seen.
    fn has_seen(&mut self, truth: &Truth, revision: i64) -> Result<(), String> {
        while self.next <= revision {
            if let Some(missed) = self.wanted(truth, self.next).next() {
                return Err(format!("a watcher misses {missed:?} of revision {}", self.next));
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Whole revisions arrived.
    fn take(&mut self, truth: &Truth) -> Result<(), String> {
        let parts = std::mem::take(&mut self.parts);
        self.seen += parts.len() as u64;
        let mut rest = &parts[..];
        while let Some((_, revision)) = rest.first() {
            let revision = *revision;
            if revision < self.next {
                return Err(format!("a watcher gets revision {revision} again, or too late (next {})", self.next));
            }
            self.has_seen(truth, revision - 1)?;
            let len = rest.iter().take_while(|(_, other)| *other == revision).count();
            let (got, behind) = rest.split_at(len);
            if !got.iter().map(|(change, _)| change).eq(self.wanted(truth, revision)) {
                let wanted: Vec<_> = self.wanted(truth, revision).collect();
                return Err(format!("a watcher gets {got:?} at revision {revision} instead of {wanted:?}"));
            }
            self.next = revision + 1;
            rest = behind;
        }
        Ok(())
    }

    /// The pair before a change is there for who wants it, unless there was none or it was compacted.
    fn check_prev(&self, truth: &Truth, event: &[u8], change: &Change, revision: i64) -> Result<(), String> {
        let expected = truth.at(&change.key, revision - 1);
        let found = decode_prev(event)?;
        let may_be_gone = !self.prev_kv || revision - 1 < truth.compacted();
        match (found, expected) {
            (Some((key, pair)), Some(expected)) if self.prev_kv && key == change.key && pair == expected => Ok(()),
            (None, None) => Ok(()),
            (None, Some(_)) if may_be_gone => Ok(()),
            (found, expected) => {
                Err(format!("before {change:?} of revision {revision} was {expected:?}, and is said to be {found:?}"))
            }
        }
    }

    /// A message arrived. False if the watcher has to begin again.
    fn message(&mut self, truth: &Truth, bytes: &[u8]) -> Result<bool, String> {
        let fields = protobuf::fields(bytes).ok_or("a watch response that does not parse")?;
        let header = protobuf::bytes(&fields, 1).and_then(protobuf::fields).ok_or("a watch response without header")?;
        let revision = protobuf::int(&header, 3);
        if protobuf::int(&fields, 4) != 0 {
            let compacted = protobuf::int(&fields, 5);
            if compacted <= self.next {
                return Err(format!("a watcher at {} is canceled by compaction at {compacted}", self.next));
            }
            self.next = compacted;
            return Ok(false);
        }
        if protobuf::int(&fields, 3) != 0 {
            self.next = if self.next == 0 { revision + 1 } else { self.next };
            return Ok(true);
        }
        let mut events = fields.iter().filter(|field| field.number == 11).peekable();
        if events.peek().is_none() {
            // A client goes on behind what it was told of last.
            if revision + 1 < self.next {
                return Err(format!("a watcher at {} is told of progress up to {revision}", self.next));
            }
            return self.has_seen(truth, revision).map(|()| true);
        }
        for event in events {
            let (change, revision) = decode_event(event.bytes)?;
            self.check_prev(truth, event.bytes, &change, revision)?;
            self.parts.push((change, revision));
        }
        if protobuf::int(&fields, 7) == 0 {
            self.take(truth)?;
        }
        Ok(true)
    }
}

impl World {
    /// A watcher's turn: it reads what there is for it, or connects.
    pub(super) fn watch(&mut self, number: usize) -> Result<(), Broken> {
        self.plan_watch(number);
        let place = self.watchers[number].place;
        let place = place.filter(|(at, life)| self.nodes[*at].is_up() && self.nodes[*at].life == *life);
        let Some((at, life)) = place else {
            self.connect(number);
            return Ok(());
        };
        if self.nodes[at].stands_until > self.now {
            return Ok(());
        }
        let is_outside = !self.in_storm && !self.members().contains(&at);
        if is_outside || (self.in_storm && self.random.chance(2)) {
            // It goes elsewhere: just so, or because this is no member any more and may not know.
            let process = self.nodes[at].process.as_mut().expect("filtered");
            if let Some(tap) = process.taps.remove(&number) {
                process.hub.close_stream(tap.stream);
            }
            self.watchers[number].place = None;
            return Ok(());
        }
        if self.random.chance(10)
            && let Some(process) = &mut self.nodes[at].process
            && let Some(tap) = process.taps.get(&number)
        {
            process.hub.progress_request(tap.stream);
        }
        let most = if self.in_storm { 1 + self.random.below(5) } else { u64::MAX };
        self.read_messages(number, at, life, most)?;
        // Whoever reads makes room for more.
        self.wake(at);
        Ok(())
    }

    fn plan_watch(&mut self, number: usize) {
        let pause = (5 + self.random.below(if self.in_storm { 300 } else { 50 })) * MS;
        self.plan(pause, Event::Watch { number });
    }

    fn connect(&mut self, number: usize) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return };
        let watcher = &mut self.watchers[number];
        let spec = WatchSpec {
            key: &watcher.key,
            range_end: &watcher.end,
            start_revision: watcher.next,
            progress_notify: true,
            prev_kv: watcher.prev_kv,
            fragment: self.random.chance(50),
            ..WatchSpec::default()
        };
        watcher.parts.clear();
        watcher.place = Some((at, node.life));
        let stream = process.hub.open_stream();
        history::watch(&mut process.member, &mut process.hub, stream, &spec);
        process.taps.insert(number, Tap { stream });
        self.wake(at);
    }

    fn read_messages(&mut self, number: usize, at: usize, life: u64, most: u64) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let now = node.clock.read(self.now);
        let process = node.process.as_mut().expect("it runs");
        process.hub.tick(now);
        let watcher = &mut self.watchers[number];
        let Some(tap) = process.taps.get(&number).copied() else {
            watcher.place = None;
            return Ok(());
        };
        let ids = HeaderIds { cluster_id: CLUSTER, member_id: id_of(at).0, raft_term: process.member.group().term() };
        let mut bytes = Vec::new();
        let is_told = self.is_told;
        for _ in 0..most {
            bytes.clear();
            if !process.hub.next_message(tap.stream, ids, &mut bytes) {
                break;
            }
            if self.bug == Some(Bug::WatchMessagesLost) && self.random.chance(2) {
                continue;
            }
            if is_told {
                let (next, told) = (watcher.next, describe(&bytes));
                eprintln!("{:>9.3} ms  watcher {number} at {next} gets {told}", self.now as f64 / MS as f64);
            }
            let twice = self.bug == Some(Bug::WatchMessagesDoubled) && self.random.chance(2);
            for _ in 0..=u8::from(twice) {
                let goes_on = watcher.message(&self.truth, &bytes);
                if !goes_on.map_err(|why| format!("watcher {number} at member {at}, life {life}: {why}"))? {
                    process.hub.close_stream(tap.stream);
                    process.taps.remove(&number);
                    watcher.place = None;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether a watcher has seen everything there is.
    pub(super) fn is_watcher_done(&self, number: usize) -> bool {
        let watcher = &self.watchers[number];
        let mut left = watcher.next..=self.truth.revision();
        watcher.next > 0 && left.all(|revision| watcher.wanted(&self.truth, revision).next().is_none())
    }
}

/// A message in words, for the story.
fn describe(bytes: &[u8]) -> String {
    let fields = protobuf::fields(bytes).unwrap_or_default();
    let header = protobuf::bytes(&fields, 1).and_then(protobuf::fields).unwrap_or_default();
    let events = fields.iter().filter(|field| field.number == 11).filter_map(|field| decode_event(field.bytes).ok());
    let revisions: Vec<i64> = events.map(|(_, revision)| revision).collect();
    let flags = [3, 4, 5, 7].map(|number| protobuf::int(&fields, number));
    format!(
        "revisions {revisions:?}, header {}, created, canceled, compacted, fragment {flags:?}",
        protobuf::int(&header, 3)
    )
}
