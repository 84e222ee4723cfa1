//! The log on disk: the payloads of its records, and how a log is recovered from them.
//!
//! Three kinds of WAL record belong to a group: entries, hard states and snapshot marks. The WAL frames, checksums and
//! versions them; this file says what is inside. Entry bytes are written as they are, behind a fixed header.
//!
//! Layouts (schema 1, little endian):
//! ```text
//! entry          0 u64 index   8 u64 term   16 u8 kind   17 zeros   24 the entry's bytes
//! hard state     0 u64 term    8 u64 vote (0 = none)     16 u64 commit
//! snapshot mark  0 u64 index   8 u64 term
//! ```
//!
//! Recovery reads the records in the order they were written. A later entry with an index already seen replaces it and
//! everything behind it: that is how a follower's tail is overwritten by a new leader. A snapshot mark says that a
//! snapshot from the leader was installed: the log starts over behind it. What the store has applied tells where the
//! useful part of the log begins; entries before that are kept for lagging followers, within the bounds of the window.
//!
//! Duties of the shell: the records of one `Ready` are written in the order snapshot mark, hard state, entries (a torn
//! flush may then lose entries, but never the term they belong to; a commit index covers only entries before it in the
//! log, so none that is still to come, and none that is about to be replaced); an installed snapshot is durable in the store before
//! its mark is written; before old segments are given back, the current hard state is written again.
//!
//! Not here: framing, checksums, torn tails (`plinth_wal`), and the window itself (`window.rs`).

use std::collections::VecDeque;

use bytes::Bytes;
use plinth_wal::{Record, RecordKind};

use crate::conf::{Change, ConfChange};
use crate::error::RecoverError;
use crate::limits::{WINDOW_BYTES, WINDOW_ENTRIES};
use crate::types::{Entry, EntryId, EntryKind, HardState, MemberId, member_from_raw, member_to_raw};

/// Schema version of the three record payloads.
pub const LOG_SCHEMA: u16 = 1;
/// Bytes before an entry's own.
pub const ENTRY_HEADER_BYTES: usize = 24;
/// Bytes of a hard state.
pub const HARD_STATE_BYTES: usize = 24;
/// Bytes of a snapshot mark.
pub const SNAPSHOT_MARK_BYTES: usize = 16;

/// The header of an entry's record; the payload is this followed by `entry.data`.
pub fn entry_header(entry: &Entry) -> [u8; ENTRY_HEADER_BYTES] {
    let mut out = [0; ENTRY_HEADER_BYTES];
    out[0..8].copy_from_slice(&entry.index.to_le_bytes());
    out[8..16].copy_from_slice(&entry.term.to_le_bytes());
    out[16] = entry.kind as u8;
    out
}

/// The payload of a hard state's record.
pub fn encode_hard_state(state: &HardState) -> [u8; HARD_STATE_BYTES] {
    let mut out = [0; HARD_STATE_BYTES];
    out[0..8].copy_from_slice(&state.term.to_le_bytes());
    out[8..16].copy_from_slice(&member_to_raw(state.vote).to_le_bytes());
    out[16..24].copy_from_slice(&state.commit.to_le_bytes());
    out
}

/// The payload of the record that says "a snapshot of the state up to `id` is installed". Of [`EntryId::ZERO`] it is a
/// tombstone: the group has ended, see [`crate::groups::GroupsRecovery`].
pub fn encode_snapshot_mark(id: EntryId) -> [u8; SNAPSHOT_MARK_BYTES] {
    let mut out = [0; SNAPSHOT_MARK_BYTES];
    out[0..8].copy_from_slice(&id.index.to_le_bytes());
    out[8..16].copy_from_slice(&id.term.to_le_bytes());
    out
}

/// Whether a snapshot mark says that its group ended there, and that nothing before it counts.
pub fn is_tombstone(schema: u16, payload: &[u8]) -> bool {
    decode_snapshot_mark(schema, payload).is_ok_and(|id| id == EntryId::ZERO)
}

/// Reads an entry's record, copying its bytes.
pub fn decode_entry(schema: u16, payload: &[u8]) -> Result<Entry, RecoverError> {
    const KIND: &str = "entry";
    check(KIND, schema, payload, ENTRY_HEADER_BYTES)?;
    let (index, term) = (read_u64(payload, 0), read_u64(payload, 8));
    let invalid = |detail: String| Err(RecoverError::Invalid { kind: KIND, detail });
    if index == 0 || index == u64::MAX || term == 0 {
        return invalid(format!("index {index}, term {term}"));
    }
    let Some(kind) = EntryKind::from_u8(payload[16]) else {
        return invalid(format!("entry {index} is of unknown kind {}", payload[16]));
    };
    let entry = Entry { index, term, kind, data: Bytes::copy_from_slice(&payload[ENTRY_HEADER_BYTES..]) };
    if kind == EntryKind::ConfChange
        && let Err(error) = ConfChange::decode(&entry.data)
    {
        return invalid(format!("entry {index}: {error}"));
    }
    Ok(entry)
}

/// The index in an entry's record, without a look at the rest of it.
pub fn entry_index(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|index| u64::from_le_bytes(*index))
}

/// Reads a hard state's record.
pub fn decode_hard_state(schema: u16, payload: &[u8]) -> Result<HardState, RecoverError> {
    check("hard state", schema, payload, HARD_STATE_BYTES)?;
    Ok(HardState {
        term: read_u64(payload, 0),
        vote: member_from_raw(read_u64(payload, 8)),
        commit: read_u64(payload, 16),
    })
}

/// Reads a snapshot mark's record.
pub fn decode_snapshot_mark(schema: u16, payload: &[u8]) -> Result<EntryId, RecoverError> {
    check("snapshot mark", schema, payload, SNAPSHOT_MARK_BYTES)?;
    Ok(EntryId { index: read_u64(payload, 0), term: read_u64(payload, 8) })
}

fn check(kind: &'static str, schema: u16, payload: &[u8], expected: usize) -> Result<(), RecoverError> {
    if schema != LOG_SCHEMA {
        return Err(RecoverError::Schema { kind, found: schema });
    }
    if payload.len() < expected {
        return Err(RecoverError::Truncated { kind, expected, found: payload.len() });
    }
    Ok(())
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a new cluster writes to its log before it starts: one configuration change for each member, already committed,
/// as etcd does. Every member writes the same.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// To be appended first.
    pub entries: Vec<Entry>,
    /// To be appended last: a log without it recovers as an empty one, and the bootstrap is done again.
    pub hard_state: HardState,
}

/// The first entries of a cluster of these voters, each with the context for its member record.
///
/// # Panics
/// Without a member, or with two of one id.
pub fn bootstrap(mut members: Vec<(MemberId, Bytes)>) -> Bootstrap {
    assert!(!members.is_empty(), "a cluster has a member");
    members.sort_by_key(|member| member.0);
    assert!(members.windows(2).all(|pair| pair[0].0 != pair[1].0), "member ids differ");
    let entries: Vec<Entry> = (1..)
        .zip(members)
        .map(|(index, (member, context))| Entry {
            index,
            term: 1,
            kind: EntryKind::ConfChange,
            data: ConfChange::one(Change::AddVoter(member.0), context).encode(),
        })
        .collect();
    let hard_state = HardState { term: 1, vote: None, commit: entries.len() as u64 };
    Bootstrap { entries, hard_state }
}

/// A recovered log: contiguous entries behind `base`.
#[derive(Clone, Debug, Default)]
pub struct RecoveredLog {
    /// The entry before the first one. Its term is known, its bytes are not needed.
    pub base: EntryId,
    /// Entries `base.index + 1 ..`, without a gap.
    pub entries: VecDeque<Entry>,
    /// The last hard state, its commit index raised to what the store has applied.
    pub hard_state: HardState,
    /// What the store has applied; entries behind it will be handed out again.
    pub applied: EntryId,
}

impl RecoveredLog {
    /// The log of a member that has none: one that joins a running cluster, or a test.
    pub fn empty() -> RecoveredLog {
        RecoveredLog::default()
    }

    /// The log right after `bootstrap` was made durable.
    pub fn bootstrapped(bootstrap: Bootstrap) -> RecoveredLog {
        RecoveredLog {
            base: EntryId::ZERO,
            entries: bootstrap.entries.into(),
            hard_state: bootstrap.hard_state,
            applied: EntryId::ZERO,
        }
    }

    /// The last entry.
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, Entry::id)
    }
}

/// Rebuilds a log from its records, fed in the order they were written.
#[derive(Debug)]
pub struct LogRecovery {
    applied: EntryId,
    base: Option<EntryId>,
    entries: VecDeque<Entry>,
    bytes: usize,
    hard_state: HardState,
    seen_hard_state: bool,
}

impl LogRecovery {
    /// Begins with what the store has applied ([`EntryId::ZERO`] for an empty store).
    pub fn new(applied: EntryId) -> LogRecovery {
        let hard_state = HardState::default();
        LogRecovery { applied, base: None, entries: VecDeque::new(), bytes: 0, hard_state, seen_hard_state: false }
    }

    /// Feeds a record of this group; kinds that are not the group's are passed over.
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), RecoverError> {
        match record.kind {
            RecordKind::Entry => self.entry(record.schema, record.payload),
            RecordKind::HardState => self.hard_state(record.schema, record.payload),
            RecordKind::SnapshotMark => self.snapshot_mark(record.schema, record.payload),
            RecordKind::Metadata | RecordKind::Segment => Ok(()),
        }
    }

    /// Feeds an entry record.
    pub fn entry(&mut self, schema: u16, payload: &[u8]) -> Result<(), RecoverError> {
        self.push(decode_entry(schema, payload)?)
    }

    /// Feeds an entry that was decoded already.
    pub fn push(&mut self, entry: Entry) -> Result<(), RecoverError> {
        while self.entries.back().is_some_and(|last| last.index >= entry.index) {
            let replaced = self.entries.pop_back().expect("there is a last entry");
            self.bytes -= replaced.data.len();
        }
        let last = self.entries.back().map(|last| last.index).or(self.base.map(|base| base.index));
        match last {
            // A snapshot was installed and its mark lost in a crash; the log went on behind what the store holds.
            Some(last) if entry.index > last + 1 && entry.index <= self.applied.index + 1 => {
                self.base = None;
                self.entries.clear();
                self.bytes = 0;
            }
            Some(last) if entry.index > last + 1 => return Err(RecoverError::Gap { last, found: entry.index }),
            // Behind a snapshot mark, or the part that was trimmed, nothing is replaced: it was applied.
            Some(last) if entry.index <= last => {
                let detail = format!("entry {} replaces one that was applied ({last})", entry.index);
                return Err(RecoverError::Invalid { kind: "entry", detail });
            }
            _ => {}
        }
        let before = self.entries.back().map(Entry::id).or(self.base).unwrap_or_default();
        if entry.term < before.term {
            let detail = format!("the term falls to {} at entry {}, from {}", entry.term, entry.index, before.term);
            return Err(RecoverError::Invalid { kind: "entry", detail });
        }
        self.bytes += entry.data.len();
        self.entries.push_back(entry);
        self.trim();
        Ok(())
    }

    /// Feeds a hard state record.
    pub fn hard_state(&mut self, schema: u16, payload: &[u8]) -> Result<(), RecoverError> {
        let state = decode_hard_state(schema, payload)?;
        // Commit may be lower than before: it is not written with every entry. Terms never go back.
        if state.term < self.hard_state.term {
            let detail = format!("term goes back from {} to {}", self.hard_state.term, state.term);
            return Err(RecoverError::Invalid { kind: "hard state", detail });
        }
        self.hard_state = state;
        self.seen_hard_state = true;
        Ok(())
    }

    /// Feeds a snapshot mark record: the log begins anew behind it.
    pub fn snapshot_mark(&mut self, schema: u16, payload: &[u8]) -> Result<(), RecoverError> {
        self.base = Some(decode_snapshot_mark(schema, payload)?);
        self.entries.clear();
        self.bytes = 0;
        Ok(())
    }

    /// The log, or why it does not fit the store.
    pub fn finish(mut self) -> Result<RecoveredLog, RecoverError> {
        let applied = self.applied;
        let mut base = self.find_base()?;
        if base.index > applied.index {
            return Err(RecoverError::MissingEntries { applied: applied.index, first: base.index + 1 });
        }
        let last = self.entries.back().map_or(base, Entry::id);
        if !self.seen_hard_state {
            // A bootstrap ends with its hard state; one that was cut short never was.
            let unfinished = |entry: &Entry| entry.term == 1 && entry.kind == EntryKind::ConfChange;
            if applied == EntryId::ZERO && base == EntryId::ZERO && self.entries.iter().all(unfinished) {
                return Ok(RecoveredLog::empty());
            }
            return Err(RecoverError::NoHardState { applied, last });
        }
        if applied.index > last.index {
            // A snapshot was installed and the crash came before its mark; then the term of it is known already.
            if self.hard_state.term < applied.term {
                return Err(RecoverError::LogLost { applied, last, term: self.hard_state.term });
            }
            self.entries.clear();
            base = applied;
        }
        self.check_applied(base)?;
        let last = self.entries.back().map_or(base, Entry::id);
        let mut hard_state = self.hard_state;
        if hard_state.term < last.term {
            let detail = format!("term {} is behind the last entry {last:?}", hard_state.term);
            return Err(RecoverError::Invalid { kind: "hard state", detail });
        }
        if hard_state.commit > last.index {
            return Err(RecoverError::CommitLost { commit: hard_state.commit, last });
        }
        hard_state.commit = hard_state.commit.max(applied.index);
        Ok(RecoveredLog { base, entries: self.entries, hard_state, applied })
    }

    /// The entry before the first one that is kept.
    fn find_base(&mut self) -> Result<EntryId, RecoverError> {
        let Some(first) = self.entries.front() else { return Ok(self.base.unwrap_or(self.applied)) };
        match self.base {
            Some(base) if base.index + 1 == first.index => Ok(base),
            _ if first.index == 1 => Ok(EntryId::ZERO),
            _ if first.index == self.applied.index + 1 => Ok(self.applied),
            _ if first.index <= self.applied.index => {
                // The term before it went with its segment: the entry becomes the base itself.
                Ok(self.entries.pop_front().expect("there is a first entry").id())
            }
            _ => Err(RecoverError::MissingEntries { applied: self.applied.index, first: first.index }),
        }
    }

    /// The store and the log must agree on the entry applied last.
    fn check_applied(&self, base: EntryId) -> Result<(), RecoverError> {
        let EntryId { index, term: expected } = self.applied;
        let found = if index == base.index { base.term } else { self.entries[(index - base.index - 1) as usize].term };
        if found != expected {
            return Err(RecoverError::TermMismatch { index, expected, found });
        }
        Ok(())
    }

    /// Forgets applied entries beyond the window, so that a long log does not need its size in memory.
    fn trim(&mut self) {
        while self.entries.len() > WINDOW_ENTRIES || self.bytes > WINDOW_BYTES {
            let first = self.entries.front().expect("a full window has entries");
            if first.index >= self.applied.index {
                break;
            }
            self.bytes -= first.data.len();
            self.base = self.entries.pop_front().map(|first| first.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { index, term }
    }

    fn entry(term: u64, index: u64) -> Entry {
        Entry { index, term, kind: EntryKind::Normal, data: Bytes::from(format!("{term}/{index}")) }
    }

    /// Records of a log in words: `e1/2` an entry (term/index), `h3:4` a hard state (term:commit), `m3/7` a mark.
    fn recover(records: &str, applied: EntryId) -> Result<RecoveredLog, RecoverError> {
        let mut recovery = LogRecovery::new(applied);
        for word in records.split_whitespace() {
            let (kind, rest) = word.split_at(1);
            let (a, b) = rest.split_once(['/', ':']).expect("two numbers");
            let (a, b) = (a.parse().expect("a number"), b.parse().expect("a number"));
            match kind {
                "e" => {
                    let entry = entry(a, b);
                    recovery.entry(LOG_SCHEMA, &[&entry_header(&entry)[..], &entry.data].concat())?;
                }
                "h" => {
                    let state = HardState { term: a, vote: Some(MemberId(5)), commit: b };
                    recovery.hard_state(LOG_SCHEMA, &encode_hard_state(&state))?;
                }
                "m" => recovery.snapshot_mark(LOG_SCHEMA, &encode_snapshot_mark(id(a, b)))?,
                _ => panic!("{word}"),
            }
        }
        recovery.finish()
    }

    fn words(log: &RecoveredLog) -> String {
        let entries: Vec<String> = log.entries.iter().map(|entry| format!("{}/{}", entry.term, entry.index)).collect();
        format!(
            "{}/{}| {} |{}:{}",
            log.base.term,
            log.base.index,
            entries.join(" "),
            log.hard_state.term,
            log.hard_state.commit
        )
    }

    #[test]
    fn logs_are_recovered_from_their_records() {
        let cases = [
            ("nothing at all", "", id(0, 0), "0/0|  |0:0"),
            ("entries", "h1:0 e1/1 e1/2", id(0, 0), "0/0| 1/1 1/2 |1:0"),
            ("a tail replaced", "h1:0 e1/1 e1/2 e1/3 h2:1 e2/2", id(0, 0), "0/0| 1/1 2/2 |2:1"),
            ("a tail replaced twice", "h1:0 e1/1 e1/2 h2:1 e2/2 h3:1 e3/2 e3/3", id(1, 1), "0/0| 1/1 3/2 3/3 |3:1"),
            ("commit behind what was applied", "h1:0 e1/1 e1/2", id(1, 2), "0/0| 1/1 1/2 |1:2"),
            ("a released beginning", "h3:7 e3/6 e3/7 e3/8", id(3, 7), "3/6| 3/7 3/8 |3:7"),
            ("released up to what was applied", "h3:7 e3/8 e3/9", id(3, 7), "3/7| 3/8 3/9 |3:7"),
            ("everything released", "h3:7", id(3, 7), "3/7|  |3:7"),
            ("released, then replaced from before", "h3:7 e3/9 h4:7 e4/8 e4/9", id(3, 7), "3/7| 4/8 4/9 |4:7"),
            ("a snapshot", "h1:1 e1/1 e1/2 m2/9 h2:9 e2/10", id(2, 9), "2/9| 2/10 |2:9"),
            ("a snapshot, nothing behind it", "h1:1 e1/1 m2/9 h2:9", id(2, 9), "2/9|  |2:9"),
            ("a snapshot whose mark was lost", "h2:1 e1/1 e1/2", id(2, 9), "2/9|  |2:9"),
            ("and the log that went on behind it", "h2:1 e1/1 e1/2 h2:10 e2/10 e2/11", id(2, 10), "2/10| 2/11 |2:10"),
            ("an unfinished bootstrap of nobody", "", id(0, 0), "0/0|  |0:0"),
        ];
        for (name, records, applied, expected) in cases {
            let log = recover(records, applied).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(words(&log), expected, "{name}");
            assert_eq!(log.applied, applied, "{name}");
            assert!(log.entries.iter().all(|entry| entry.data == format!("{}/{}", entry.term, entry.index)), "{name}");
        }
    }

    #[test]
    fn logs_that_cannot_be_are_refused() {
        use RecoverError::*;
        type Case = (&'static str, &'static str, EntryId, fn(&RecoverError) -> bool);
        let cases: &[Case] = &[
            ("a gap", "h1:0 e1/1 e1/3", id(0, 0), |e| matches!(e, Gap { last: 1, found: 3 })),
            ("a gap behind what was applied", "h1:0 e1/1 e1/4", id(1, 2), |e| matches!(e, Gap { last: 1, found: 4 })),
            ("begins too late", "h1:0 e1/5", id(1, 3), |e| matches!(e, MissingEntries { applied: 3, first: 5 })),
            ("a mark ahead of the store", "h1:0 m1/5", id(1, 3), |e| matches!(e, MissingEntries { first: 6, .. })),
            ("behind a mark, before it", "h1:0 m1/5 e1/4", id(1, 5), |e| matches!(e, Invalid { kind: "entry", .. })),
            ("no hard state", "e1/1", id(1, 1), |e| matches!(e, NoHardState { .. })),
            ("no hard state, nothing applied", "e1/1", id(0, 0), |e| matches!(e, NoHardState { .. })),
            ("an empty log", "", id(2, 9), |e| matches!(e, NoHardState { .. })),
            ("an older log", "h1:1 e1/1", id(2, 9), |e| matches!(e, LogLost { term: 1, .. })),
            ("another log", "h3:2 e1/1 e3/2", id(2, 2), |e| {
                matches!(e, TermMismatch { index: 2, expected: 2, found: 3 })
            }),
            ("committed entries are missing", "h1:0 e1/1 h1:9", id(0, 0), |e| {
                matches!(e, CommitLost { commit: 9, .. })
            }),
            ("a forgotten term", "h1:0 e1/1 e2/2", id(0, 0), |e| matches!(e, Invalid { kind: "hard state", .. })),
            ("terms of votes go back", "h2:0 h1:0", id(0, 0), |e| matches!(e, Invalid { kind: "hard state", .. })),
            ("terms of entries fall", "h2:0 e2/1 e1/2", id(0, 0), |e| matches!(e, Invalid { kind: "entry", .. })),
        ];
        for (name, records, applied, expected) in cases {
            match recover(records, *applied) {
                Ok(log) => panic!("{name}: recovered as {}", words(&log)),
                Err(error) => assert!(expected(&error), "{name}: {error}"),
            }
        }
    }

    #[test]
    fn a_bootstrap_counts_when_its_hard_state_is_there() {
        let bootstrap = bootstrap(vec![(MemberId(9), Bytes::from_static(b"n")), (MemberId(4), Bytes::new())]);
        assert_eq!(bootstrap.entries.iter().map(|entry| entry.index).collect::<Vec<_>>(), [1, 2]);
        for cut in 0..=3 {
            let mut recovery = LogRecovery::new(EntryId::ZERO);
            for entry in bootstrap.entries.iter().take(cut) {
                recovery.push(entry.clone()).expect("an entry that follows");
            }
            if cut == 3 {
                recovery.hard_state(LOG_SCHEMA, &encode_hard_state(&bootstrap.hard_state)).expect("a hard state");
            }
            let log = recovery.finish().expect("a log");
            let expected = if cut == 3 { RecoveredLog::bootstrapped(bootstrap.clone()) } else { RecoveredLog::empty() };
            assert_eq!((log.entries, log.hard_state), (expected.entries, expected.hard_state), "cut {cut}");
        }
    }

    #[test]
    fn records_look_as_written_down() {
        let change = Entry { index: 2, term: 3, kind: EntryKind::ConfChange, data: Bytes::new() };
        assert_eq!(entry_header(&change), [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let state = HardState { term: 1, vote: Some(MemberId(2)), commit: 3 };
        assert_eq!(encode_hard_state(&state), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode_snapshot_mark(id(2, 1)), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_hard_state(LOG_SCHEMA, &encode_hard_state(&state)).expect("own record"), state);
        assert!(matches!(decode_hard_state(2, &[0; 24]), Err(RecoverError::Schema { found: 2, .. })));
        assert!(matches!(decode_entry(LOG_SCHEMA, &[1; 23]), Err(RecoverError::Truncated { expected: 24, .. })));
        assert!(
            matches!(decode_entry(LOG_SCHEMA, &[1; 25]), Err(RecoverError::Invalid { .. })),
            "no conf change in its byte"
        );
        assert!(matches!(decode_entry(LOG_SCHEMA, &[9; 24]), Err(RecoverError::Invalid { .. })), "kind 9");
        assert!(matches!(decode_entry(LOG_SCHEMA, &[0; 24]), Err(RecoverError::Invalid { .. })), "index 0");
    }

    #[test]
    fn a_long_log_is_trimmed_to_the_window_but_not_beyond_what_was_applied() {
        let count = WINDOW_ENTRIES as u64 + 500;
        for applied in [0, 100, count - 10] {
            let mut recovery = LogRecovery::new(id(u64::from(applied > 0), applied));
            let state = HardState { term: 1, vote: None, commit: 0 };
            recovery.hard_state(LOG_SCHEMA, &encode_hard_state(&state)).expect("a hard state");
            for index in 1..=count {
                recovery.push(entry(1, index)).expect("an entry that follows");
            }
            let log = recovery.finish().expect("a log");
            assert_eq!(log.last(), id(1, count));
            assert_eq!(log.base.index, applied.min(500).saturating_sub(u64::from(applied == 100)), "applied {applied}");
        }
    }

    proptest! {
        /// A log written with overwritten tails recovers as what was last at each index, wherever it is cut, and whatever
        /// part of the committed beginning was given back.
        #[test]
        fn recovery_agrees_with_a_plain_list(steps in prop::collection::vec((1..4u64, 0..4usize, 0..3u64), 1..30), give: prop::sample::Index) {
            let mut model: Vec<Entry> = Vec::new();
            let mut records = String::new();
            let (mut term, mut commit) = (1, 0u64);
            for (appended, dropped, committed) in steps {
                let keep = (model.len() - dropped.min(model.len())).max(commit as usize);
                if keep < model.len() {
                    term += 1;
                }
                model.truncate(keep);
                records += &format!("h{term}:{commit} ");
                for _ in 0..appended {
                    let next = entry(term, model.len() as u64 + 1);
                    records += &format!("e{}/{} ", next.term, next.index);
                    model.push(next);
                }
                commit = (commit + committed).min(model.len() as u64);
            }
            let applied = if commit == 0 { EntryId::ZERO } else { model[commit as usize - 1].id() };
            let log = recover(&records, applied).expect("a log");
            prop_assert_eq!(log.base, EntryId::ZERO);
            prop_assert!(log.entries.iter().eq(model.iter()));

            // Given back: records before the first that the store does not cover.
            let needed = |word: &str| word.strip_prefix('e').and_then(|w| w.split_once('/')).is_some_and(|(_, index)| {
                index.parse::<u64>().expect("an index") > commit
            });
            let words: Vec<&str> = records.split_whitespace().collect();
            let first = words.iter().position(|word| needed(word)).unwrap_or(words.len());
            let from = give.index(first + 1);
            let kept = format!("{} h{term}:{commit}", words[from..].join(" "));
            let log = recover(&kept, applied).expect("a log");
            prop_assert_eq!(log.last(), model.last().expect("it has entries").id());
            prop_assert!(log.base.index <= commit);
            prop_assert!(log.entries.iter().eq(model[log.base.index as usize..].iter()));
        }
    }
}
