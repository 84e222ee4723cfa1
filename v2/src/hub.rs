//! Those who wait for changes on this member. Nothing of it is replicated.
//!
//! A watcher does not hold events, but their indices: what it is told of is read from the history when it has room. One
//! that has not taken [`WATCHER_EVENTS_MAX`] of them is told no more, and reads on in the history when it has taken those,
//! until it has caught up. It misses nothing but what the history does not hold any more; then it ends.
//!
//! One who waits below a directory that is removed is told so if there was something where it waits. For that the hub knows
//! of each watched path whether it is there: it was told so when the first watcher came, and each change says more. A
//! watcher that reads on in the history is told in any case.
//!
//! Invariants: the hub has seen every change up to [`Hub::seen`]; the indices that a watcher holds grow; a watcher that
//! waits for one event holds one at most.

use crate::error::V2Error;
use crate::event::Event;
use crate::history::History;
use crate::limits::{WATCHER_EVENTS_MAX, WATCHERS_MAX};
use crate::path;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Names a watcher. Never given out again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WatchId(u64);

/// What a watcher gets next.
#[derive(Debug, PartialEq, Eq)]
pub enum Watched<'a> {
    Event(&'a Event),
    /// Nothing yet.
    Pending,
    /// It has had its event, or fell behind what the history holds.
    Ended,
}

/// Why there is no watcher.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WatchError {
    /// The index that it was to begin with is not known any more.
    #[error(transparent)]
    Refused(#[from] V2Error),
    /// There are as many as there may be.
    #[error("too many watchers")]
    TooMany,
}

#[derive(Debug)]
struct Watcher {
    path: Box<[u8]>,
    recursive: bool,
    stream: bool,
    since: u64,
    told: VecDeque<u64>,
    /// Where it reads on in the history when it has taken what it was told of.
    behind_from: Option<u64>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Place {
    is_there: bool,
    watchers: BTreeSet<WatchId>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Hub {
    watchers: BTreeMap<WatchId, Watcher>,
    /// Those that wait, by path.
    places: BTreeMap<Box<[u8]>, Place>,
    seen: u64,
    next: u64,
    /// Watchers with something new since the last time that somebody asked.
    woken: Vec<WatchId>,
}

/// What one asks to be told of.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    pub path: &'a [u8],
    /// And all below it.
    pub recursive: bool,
    /// All events, not just the first.
    pub stream: bool,
    /// From this index on; 0 for what comes next.
    pub since: u64,
}

impl Hub {
    /// A hub for a tree that has come to this index.
    pub fn new(seen: u64) -> Hub {
        Hub { seen, ..Hub::default() }
    }

    /// The last change that watchers were told of.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Those who wait.
    pub fn waiting(&self) -> usize {
        self.places.values().map(|place| place.watchers.len()).sum()
    }

    /// Begins to watch. `is_there`: whether the path is a node now. All changes must have been published.
    ///
    /// # Errors
    /// If the index is not known any more, or there are too many watchers.
    pub fn watch(&mut self, interest: Interest<'_>, is_there: bool, history: &History) -> Result<WatchId, WatchError> {
        let Interest { path, recursive, stream, since } = interest;
        let since = if since == 0 { self.seen + 1 } else { since };
        let found = history.scan(path, recursive, since).map_err(|error| V2Error { index: self.seen, ..error })?;
        if self.watchers.len() >= WATCHERS_MAX {
            return Err(WatchError::TooMany);
        }
        let found = found.map(Event::index);
        let id = WatchId(self.next);
        self.next += 1;
        let told: VecDeque<u64> = found.into_iter().collect();
        // As in etcd the first one is found by rules of its own. A stream goes on behind it.
        let behind_from = found.filter(|_| stream).map(|index| index + 1);
        if found.is_none() || stream {
            let place = self.places.entry(path.into()).or_default();
            place.is_there |= is_there;
            place.watchers.insert(id);
        }
        let watcher = Watcher { path: path.into(), recursive, stream, since, told, behind_from, is_over: false };
        self.watchers.insert(id, watcher);
        Ok(id)
    }

    /// The watcher is not needed any more.
    pub fn unwatch(&mut self, id: WatchId) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.leave_place(id, &watcher.path);
        }
    }

    fn leave_place(&mut self, id: WatchId, path: &[u8]) {
        let Some(place) = self.places.get_mut(path) else { return };
        place.watchers.remove(&id);
        if place.watchers.is_empty() {
            self.places.remove(path);
        }
    }

    /// Tells of all changes up to `index`. If the history has a gap behind what was seen, whoever waits has fallen behind.
    pub fn publish(&mut self, history: &History, index: u64) {
        if index == self.seen {
            return;
        }
        if history.first_index() > self.seen + 1 || index < self.seen {
            self.end_all();
        } else if !self.places.is_empty() {
            for event in history.from(self.seen + 1) {
                self.tell(event);
            }
        }
        self.seen = index;
    }

    /// Watchers that have something new, each once.
    pub fn take_woken(&mut self) -> Vec<WatchId> {
        let mut woken = std::mem::take(&mut self.woken);
        woken.sort_unstable();
        woken.dedup();
        woken
    }

    fn end_all(&mut self) {
        self.places.clear();
        for (id, watcher) in &mut self.watchers {
            watcher.is_over |= watcher.stream || watcher.told.is_empty();
            self.woken.push(*id);
        }
    }

    fn tell(&mut self, event: &Event) {
        if event.refresh {
            return;
        }
        let key = &event.node.key;
        let mut told = Vec::new();
        for prefix in path::prefixes(key) {
            let Some(place) = self.places.get_mut(prefix) else { continue };
            place.is_there = !(event.action.removes() && prefix.len() == key.len());
            told.extend(&place.watchers);
        }
        if event.removes_dir() {
            let (from, end) = ([key, &b"/"[..]].concat(), [key, &b"0"[..]].concat());
            let range = (Bound::Included(&from[..]), Bound::Excluded(&end[..]));
            for (_, place) in self.places.range_mut::<[u8], _>(range) {
                if std::mem::take(&mut place.is_there) {
                    told.extend(&place.watchers);
                }
            }
        }
        for id in told {
            self.tell_one(id, event);
        }
    }

    fn tell_one(&mut self, id: WatchId, event: &Event) {
        let watcher = self.watchers.get_mut(&id).expect("who has a place is there");
        let index = event.index();
        // That there was something is known of all whose place was looked up.
        if index < watcher.since
            || watcher.behind_from.is_some()
            || !event.is_told(&watcher.path, watcher.recursive, true)
        {
            return;
        }
        if watcher.told.len() >= WATCHER_EVENTS_MAX {
            watcher.behind_from = Some(index);
            return;
        }
        watcher.told.push_back(index);
        self.woken.push(id);
        if !watcher.stream {
            let path = watcher.path.clone();
            self.leave_place(id, &path);
        }
    }

    /// What a watcher gets next. To be asked again until it is pending.
    pub fn next<'a>(&mut self, id: WatchId, history: &'a History) -> Watched<'a> {
        let Some(watcher) = self.watchers.get_mut(&id) else { return Watched::Ended };
        if let (None, Some(from)) = (watcher.told.front(), watcher.behind_from) {
            watcher.read_on(from, history);
        }
        match watcher.told.pop_front().map(|index| history.get(index)) {
            Some(Some(event)) => {
                watcher.is_over |= !watcher.stream;
                Watched::Event(event)
            }
            Some(None) => {
                watcher.is_over = true;
                Watched::Ended
            }
            None if watcher.is_over => Watched::Ended,
            None => Watched::Pending,
        }
    }
}

impl Watcher {
    /// Takes over what the history has from this index on, as much as there is room for.
    fn read_on(&mut self, from: u64, history: &History) {
        if from < history.first_index() {
            self.is_over = true;
            self.behind_from = None;
            return;
        }
        self.behind_from = None;
        for event in history.from(from).filter(|event| event.is_told(&self.path, self.recursive, true)) {
            if self.told.len() >= WATCHER_EVENTS_MAX {
                self.behind_from = Some(event.index());
                return;
            }
            self.told.push_back(event.index());
        }
    }
}
