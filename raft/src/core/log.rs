//! The log in memory: recent entries behind a base, how far they are durable, committed and applied, and what of it is on
//! its way to the disk.
//!
//! ```text
//!   base | kept for followers | to apply | committed, not durable here | not committed
//!        applied            released   min(persisted, committed)             last
//! ```
//!
//! Invariants:
//! - entries are contiguous behind `base`; terms do not fall; nothing at or below `committed` is ever replaced;
//! - `applied <= released <= min(persisted, committed)`: an entry is handed out for applying when it is committed and durable
//!   here, so that a store never runs ahead of its log;
//! - entries beyond what is applied are never dropped; applied ones are dropped from the front when the window exceeds its
//!   bounds. For a follower that is behind the bounds are wider, so that it can go on from the snapshot that travels to it,
//!   or that it has installed: that is what keeps it from needing the next snapshot, and the next.
//!
//! *Flushes.* Several may be in flight (Raft dissertation, 10.2.1), each a promise "the log up to `last` is durable when this
//! one is". A new leader may replace entries while they are on their way, and a third one may bring the first ones back: the
//! log then looks as the first flush left it, but the disk holds the second version in between, and a crash can end there.
//! So the promise is kept by position, not by term: whatever is replaced is taken out of every promise made before
//! (the race is described with etcd's asynchronous storage writes; comparing terms does not see it).

use std::collections::VecDeque;

use crate::config::WindowBounds;
use crate::limits::{PEER_ENTRIES_MAX, WINDOW_ALONE_BYTES, WINDOW_SNAPSHOT_FACTOR};
use crate::log::RecoveredLog;
use crate::message::SnapshotMeta;
use crate::types::{Entry, EntryId, EntryKind, HardState};

/// A `Ready` on its way to the disk.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) number: u64,
    /// The hard state as of this `Ready`.
    pub(crate) hard_state: HardState,
    /// Last entry of a snapshot to be installed.
    pub(crate) snapshot: Option<u64>,
    /// Up to here the log is durable with it; zero if it says nothing (any more).
    pub(crate) last: u64,
    /// Tick count when it was handed out.
    pub(crate) since: u64,
}

/// What became durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Landed {
    pub(crate) hard_state: Option<HardState>,
    /// Last entry of an installed snapshot.
    pub(crate) snapshot: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Log {
    base: EntryId,
    entries: VecDeque<Entry>,
    bytes: usize,
    bounds: WindowBounds,
    /// A snapshot that took the place of the log and is not handed out yet.
    snapshot: Option<SnapshotMeta>,
    /// Last entry handed out to be made durable.
    submitted: u64,
    flights: VecDeque<Flight>,
    persisted: u64,
    committed: u64,
    released: u64,
    applied: u64,
}

impl Log {
    /// Goes on from a recovered log, whose commit index it holds.
    pub(crate) fn new(recovered: RecoveredLog, bounds: WindowBounds) -> Log {
        let last = recovered.last().index;
        let (applied, committed) = (recovered.applied.index, recovered.hard_state.commit);
        assert!(recovered.base.index <= applied && applied <= committed && committed <= last, "a log that fits itself");
        Log {
            base: recovered.base,
            bytes: recovered.entries.iter().map(|entry| entry.data.len()).sum(),
            entries: recovered.entries,
            bounds,
            snapshot: None,
            submitted: last,
            flights: VecDeque::new(),
            persisted: last,
            committed,
            released: applied,
            applied,
        }
    }

    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn first(&self) -> u64 {
        self.base.index + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    pub(crate) fn last_id(&self) -> EntryId {
        self.entries.back().map_or(self.base, Entry::id)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn persisted(&self) -> u64 {
        self.persisted
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Last entry handed out to be applied.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    pub(crate) fn flights(&self) -> &VecDeque<Flight> {
        &self.flights
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.first())?).ok()?)
    }

    /// The term of an entry, or of the base.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.index { Some(self.base.term) } else { self.at(index).map(|entry| entry.term) }
    }

    /// Bytes of an entry; zero where there is none.
    pub(crate) fn bytes_of(&self, index: u64) -> usize {
        self.at(index).map_or(0, |entry| entry.data.len())
    }

    pub(crate) fn committed_id(&self) -> EntryId {
        EntryId { index: self.committed, term: self.term(self.committed).unwrap_or(0) }
    }

    /// Whether the entry is here; then both logs are equal up to it (Raft dissertation, 3.5: log matching).
    pub(crate) fn matches(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// The last entry up to `index` whose term is not above `term`: where another log, in which terms up to there are not
    /// above `term`, may match this one. What lies between cannot, so a diverged log is found in one step for each term
    /// (3.5, the refinement of the refusal; used by follower and leader alike, it takes the fewer of both logs' terms).
    pub(crate) fn last_not_above(&self, index: u64, term: u64) -> EntryId {
        let mut index = index.min(self.last());
        while index > self.base.index
            && let Some(found) = self.term(index)
        {
            if found <= term {
                return EntryId { index, term: found };
            }
            index -= 1;
        }
        self.base
    }

    /// Entries from `from` on, of at most so many bytes but at least one, into an empty vector; their bytes.
    pub(crate) fn collect(&self, from: u64, bytes_max: usize, into: &mut Vec<Entry>) -> usize {
        assert!(from >= self.first() && from <= self.last(), "what is sent is in the log");
        assert!(into.is_empty(), "what another follower was sent is not sent again");
        let (mut bytes, mut count) = (0, 0);
        let start = (from - self.first()) as usize;
        for entry in self.entries.range(start..).take(PEER_ENTRIES_MAX) {
            if count > 0 && bytes + entry.data.len() > bytes_max {
                break;
            }
            bytes += entry.data.len();
            count += 1;
        }
        into.extend(self.entries.range(start..start + count).cloned());
        bytes
    }

    /// Appends as the leader.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last() + 1, "a leader appends at the end");
        assert!(entry.term >= self.last_id().term, "terms of entries do not fall");
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
    }

    /// Appends as a follower: entries that are here already stay, the first that differs replaces all from there on.
    /// `false`, and no change, if that would replace what is committed: no leader asks for it.
    pub(crate) fn accept(&mut self, entries: &mut Vec<Entry>) -> bool {
        let Some(at) = entries.iter().position(|entry| !self.matches(entry.id())) else { return true };
        let first = entries[at].index;
        if first <= self.committed {
            return false;
        }
        self.truncate(first - 1);
        entries.drain(..).skip(at).for_each(|entry| self.append(entry));
        true
    }

    /// Takes back entries behind `last`, and every promise about them.
    fn truncate(&mut self, last: u64) {
        assert!(last >= self.committed, "what is committed stays");
        while self.last() > last {
            let replaced = self.entries.pop_back().expect("the log reaches beyond `last`");
            self.take_off(replaced.data.len());
        }
        self.persisted = self.persisted.min(last);
        self.submitted = self.submitted.min(last);
        self.flights.iter_mut().for_each(|flight| flight.last = flight.last.min(last));
    }

    /// More is committed; whether that is news.
    pub(crate) fn commit_to(&mut self, index: u64) -> bool {
        let index = index.min(self.last());
        let is_news = index > self.committed;
        self.committed = self.committed.max(index);
        assert!(self.committed <= self.last(), "what is committed is in the log");
        is_news
    }

    /// A snapshot takes the place of the whole log.
    pub(crate) fn restore(&mut self, meta: SnapshotMeta) {
        assert!(meta.id.index > self.committed, "a snapshot does not go back");
        // Of what was promised, the committed part is in the snapshot; nothing else is known to be.
        self.persisted = self.persisted.min(self.committed);
        self.flights.iter_mut().for_each(|flight| flight.last = 0);
        self.base = meta.id;
        self.entries.clear();
        self.bytes = 0;
        (self.submitted, self.committed, self.released) = (meta.id.index, meta.id.index, meta.id.index);
        assert!(self.applied < meta.id.index, "a store is not replaced by an older one");
        self.snapshot = Some(meta);
    }

    /// Whether a snapshot is on its way to the disk.
    pub(crate) fn installs(&self) -> bool {
        self.snapshot.is_some() || self.flights.iter().any(|flight| flight.snapshot.is_some())
    }

    /// Whether no part of the log could be lost in a crash.
    pub(crate) fn is_durable(&self) -> bool {
        self.persisted == self.last()
    }

    pub(crate) fn has_unsubmitted(&self) -> bool {
        self.snapshot.is_some() || self.submitted < self.last()
    }

    /// What is to be made durable next: entries, into an empty vector, and a snapshot before them.
    pub(crate) fn submit(&mut self, into: &mut Vec<Entry>) -> Option<SnapshotMeta> {
        assert!(self.submitted >= self.base.index, "what was not handed out yet is not dropped");
        assert!(self.submitted <= self.last(), "what was taken back is handed out again");
        let start = (self.submitted - self.base.index) as usize;
        into.extend(self.entries.range(start..).cloned());
        self.submitted = self.last();
        self.snapshot.take()
    }

    /// Everybody has all of it: nothing is kept in memory but where it ends.
    pub(crate) fn shrink(&mut self) {
        self.compact(self.applied);
        self.entries.shrink_to_fit();
        self.flights.shrink_to_fit();
    }

    /// A `Ready` goes to the disk; the log up to here is durable when it is.
    pub(crate) fn depart(&mut self, flight: Flight) {
        assert!(
            self.flights.back().is_none_or(|before| before.number < flight.number),
            "readies are numbered in order"
        );
        assert!(flight.last <= self.submitted, "a flush promises what was handed out, and no more");
        self.flights.push_back(flight);
    }

    /// Every `Ready` up to `number` is durable.
    pub(crate) fn land(&mut self, number: u64) -> Landed {
        let mut landed = Landed::default();
        while let Some(flight) = self.flights.front()
            && flight.number <= number
        {
            let flight = self.flights.pop_front().expect("there is a front");
            landed.hard_state = Some(flight.hard_state);
            landed.snapshot = flight.snapshot.or(landed.snapshot);
            self.persisted = self.persisted.max(flight.snapshot.unwrap_or(0)).max(flight.last);
        }
        assert!(self.persisted <= self.last(), "what is durable is in the log");
        landed
    }

    /// The next entry to be applied, if it is committed and durable.
    pub(crate) fn next_to_release(&self) -> Option<&Entry> {
        (self.released < self.committed.min(self.persisted)).then(|| self.at(self.released + 1)).flatten()
    }

    /// The next entry was handed out.
    pub(crate) fn release(&mut self) {
        self.released += 1;
        assert!(self.released <= self.committed, "what may still be replaced is not applied");
        assert!(self.released <= self.persisted, "a store does not run ahead of its log");
    }

    /// Everything up to `index` is applied.
    pub(crate) fn applied_to(&mut self, index: u64) {
        assert!(index <= self.released, "entry {index} is applied, {} was the last handed out", self.released);
        self.applied = self.applied.max(index);
    }

    /// Whether a configuration change is committed and not applied.
    pub(crate) fn has_unapplied_conf_change(&self) -> bool {
        self.has_conf_change(self.applied)
    }

    /// Whether a configuration change is committed behind `index`.
    pub(crate) fn has_conf_change(&self, index: u64) -> bool {
        let from = index.max(self.base.index) + 1;
        (from..=self.committed).filter_map(|index| self.at(index)).any(|entry| entry.kind == EntryKind::ConfChange)
    }

    /// Drops entries up to `index`, and not beyond what is applied.
    pub(crate) fn compact(&mut self, index: u64) {
        while self.base.index < index.min(self.applied) {
            let Some(entry) = self.entries.pop_front() else { return };
            self.take_off(entry.data.len());
            assert!(entry.index == self.base.index + 1, "entries follow each other");
            self.base = entry.id();
        }
    }

    /// An entry leaves memory.
    fn take_off(&mut self, bytes: usize) {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.expect("bytes are counted when an entry comes and when it goes");
    }

    /// Drops applied entries beyond the bounds, which are narrower while nobody follows. Entries behind `keep` stay while
    /// the wider bounds allow it.
    pub(crate) fn trim(&mut self, is_followed: bool, keep: Option<u64>) {
        let mut bounds = self.bounds;
        if !is_followed {
            bounds.bytes = bounds.bytes.min(WINDOW_ALONE_BYTES);
        }
        while self.base.index < self.applied {
            let factor = if keep.is_some_and(|keep| self.base.index >= keep) { WINDOW_SNAPSHOT_FACTOR } else { 1 };
            if self.entries.len() <= bounds.entries * factor && self.bytes <= bounds.bytes * factor {
                return;
            }
            self.compact(self.base.index + 1);
        }
    }

    /// How much of the wider bounds is used, in percent: at 100 what a travelling snapshot needs is given up.
    pub(crate) fn fill_percent(&self) -> usize {
        let of = |used: usize, bound: usize| used * 100 / (bound * WINDOW_SNAPSHOT_FACTOR).max(1);
        of(self.entries.len(), self.bounds.entries).max(of(self.bytes, self.bounds.bytes))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const BOUNDS: WindowBounds = WindowBounds { entries: 100, bytes: 8 << 20 };

    fn entry(term: u64, index: u64) -> Entry {
        Entry { index, term, kind: EntryKind::Normal, data: Bytes::from(format!("{term}/{index}")) }
    }

    fn empty() -> Log {
        Log::new(RecoveredLog::empty(), BOUNDS)
    }

    fn flush(log: &mut Log, number: u64) {
        let mut entries = Vec::new();
        log.submit(&mut entries);
        assert!(!entries.is_empty());
        let last = log.last();
        log.depart(Flight { number, hard_state: HardState::default(), snapshot: None, last, since: 0 });
    }

    /// Entry 1 of term 1, replaced by the leader of term 2, and brought back by the leader of term 3.
    #[test]
    fn an_old_flush_does_not_vouch_for_entries_that_were_replaced_and_came_back() {
        let mut log = empty();
        for (number, term) in [(1, 1), (2, 2), (3, 1)] {
            assert!(log.accept(&mut vec![entry(term, 1)]));
            flush(&mut log, number);
        }
        log.land(1);
        assert_eq!(log.persisted(), 0, "the disk may end with the entry of term 2");
        log.land(2);
        assert_eq!(log.persisted(), 0);
        log.land(3);
        assert_eq!(log.persisted(), 1);
    }

    #[test]
    fn a_replaced_tail_takes_only_itself_out_of_a_promise() {
        let mut log = empty();
        assert!(log.accept(&mut (1..=5).map(|index| entry(1, index)).collect()));
        flush(&mut log, 1);
        assert!(log.accept(&mut vec![entry(1, 3), entry(2, 4)]));
        assert_eq!((log.last(), log.persisted()), (4, 0));
        log.land(1);
        assert_eq!(log.persisted(), 3);
    }

    #[test]
    fn what_is_committed_is_not_replaced() {
        let mut log = empty();
        assert!(log.accept(&mut vec![entry(1, 1), entry(1, 2)]));
        assert!(log.commit_to(1));
        assert!(!log.accept(&mut vec![entry(2, 1)]));
        assert!(log.accept(&mut vec![entry(2, 2)]));
        assert_eq!(log.last_id(), EntryId { index: 2, term: 2 });
        assert!(!log.commit_to(1), "no news");
    }

    #[test]
    fn a_refusal_skips_whole_terms() {
        let mut log = empty();
        assert!(log.accept(&mut [1, 3, 3, 3, 5, 5].iter().zip(1..).map(|(term, index)| entry(*term, index)).collect()));
        for (index, term, expected) in [(6, 2, 1), (6, 3, 4), (4, 9, 4), (99, 5, 6), (6, 0, 0)] {
            assert_eq!(log.last_not_above(index, term).index, expected, "up to {index}, term {term}");
        }
    }

    #[test]
    fn a_follower_widens_the_window_and_a_snapshot_even_more() {
        const ENTRY_BYTES: usize = 1 << 20;
        let alone = WINDOW_ALONE_BYTES / ENTRY_BYTES;
        for (is_followed, keep, kept) in
            [(false, None, alone), (true, None, 8), (true, Some(0), 20), (true, Some(17), 8)]
        {
            let mut log = empty();
            for index in 1..=20 {
                log.append(Entry { data: vec![0; ENTRY_BYTES].into(), ..entry(1, index) });
            }
            log.trim(is_followed, keep);
            assert_eq!(log.bytes(), 20 * ENTRY_BYTES, "nothing is applied yet");
            flush(&mut log, 1);
            log.land(1);
            log.commit_to(20);
            (0..20).for_each(|_| log.release());
            log.applied_to(20);
            log.trim(is_followed, keep);
            assert_eq!(log.bytes(), kept * ENTRY_BYTES, "{is_followed} {keep:?}");
            assert_eq!((log.first(), log.last()), (21 - kept as u64, 20));
        }
    }
}
