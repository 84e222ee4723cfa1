//! What has happened, once and for all: the changes of every revision, as the first member that applied them told.
//!
//! Every other member, and every later life, must tell the same; so must answers to clients and watchers. Values name
//! the operation that wrote them, so a write applied twice is seen as well.
//!
//! Not here: the order of clients' operations in time (`linear`), which this knows nothing about.

use super::protobuf;
use crate::linear::State;
use plinth_engine::kv_codec::KeyValue;
use plinth_engine::store::Store;
use plinth_engine::store::range::RangeQuery;
use plinth_engine::trees::Trees;
use plinth_engine::watch::{EventBatch, EventKind};
use std::collections::BTreeMap;

/// A pair, in the parts that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The operation that wrote it.
    pub written_by: u64,
    /// Revision of the put that created the key.
    pub create_revision: i64,
    pub version: i64,
    /// The lease it hangs on.
    pub lease: i64,
}

/// A change of a key: a pair, or nothing for a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Vec<u8>,
    /// What it holds from now on.
    pub pair: Option<Pair>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    /// Changes of revision 2, 3, ...
    revisions: Vec<Vec<Change>>,
    by_key: BTreeMap<Vec<u8>, Vec<(i64, Option<Pair>)>>,
    written: BTreeMap<u64, i64>,
    /// Term, revision and compact revision after an entry.
    entries: BTreeMap<u64, (u64, i64, i64)>,
    /// The greatest of those compact revisions.
    compacted: i64,
}

/// The value that an operation writes: its number, and padding that depends on it.
pub fn value_of(number: u64, bytes_max: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    let len = 8 + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % bytes_max;
    value.resize(len as usize, number as u8);
    value
}

/// The operation that wrote a value; nothing if the value is damaged.
pub fn writer_of(value: &[u8]) -> Option<u64> {
    let (number, padding) = value.split_first_chunk::<8>()?;
    padding.iter().all(|byte| *byte == number[7]).then_some(u64::from_be_bytes(*number))
}

fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Pair, i64), String> {
    let pair = KeyValue::decode(bytes).map_err(|error| error.to_string())?;
    let written_by = writer_of(pair.value).ok_or_else(|| format!("the value of {:?} is damaged", name(pair.key)))?;
    let KeyValue { create_revision, version, lease, .. } = pair;
    Ok((pair.key.to_vec(), Pair { written_by, create_revision, version, lease }, pair.mod_revision))
}

fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Reads an encoded `mvccpb.Event`: its change and revision.
pub fn decode_event(bytes: &[u8]) -> Result<(Change, i64), String> {
    let event = protobuf::fields(bytes).ok_or("an event that does not parse")?;
    let pair = protobuf::bytes(&event, 2).ok_or("an event without a pair")?;
    if protobuf::int(&event, 1) == 1 {
        let pair = KeyValue::decode(pair).map_err(|error| error.to_string())?;
        return Ok((Change { key: pair.key.to_vec(), pair: None }, pair.mod_revision));
    }
    let (key, pair, revision) = decode(pair)?;
    Ok((Change { key, pair: Some(pair) }, revision))
}

/// The pair before a change, if an encoded `mvccpb.Event` tells it: key and pair.
pub fn decode_prev(bytes: &[u8]) -> Result<Option<(Vec<u8>, Pair)>, String> {
    let event = protobuf::fields(bytes).ok_or("an event that does not parse")?;
    let prev = protobuf::bytes(&event, 3).map(decode).transpose()?;
    Ok(prev.map(|(key, pair, _)| (key, pair)))
}

impl Truth {
    /// The newest revision that anybody has applied.
    pub fn revision(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    /// The changes of a revision, which exists.
    pub fn changes(&self, revision: i64) -> &[Change] {
        usize::try_from(revision - 2).ok().and_then(|at| self.revisions.get(at)).map_or(&[], Vec::as_slice)
    }

    /// The revision at which an operation took effect.
    pub fn revision_of(&self, operation: u64) -> Option<i64> {
        self.written.get(&operation).copied()
    }

    /// A member applied an entry. Returns the changes that are news.
    pub fn learn(&mut self, batch: &EventBatch) -> Result<Vec<Change>, String> {
        if batch.complete() != batch.revision() {
            return Err("a small batch leaves events to history".into());
        }
        let mut told: Vec<Vec<Change>> = Vec::new();
        told.resize(usize::try_from(batch.revision() - batch.previous()).map_err(|_| "revisions fall")?, Vec::new());
        for event in batch.events() {
            let record = protobuf::fields(event.plain_record()).ok_or("a record that does not parse")?;
            let (change, revision) = decode_event(protobuf::bytes(&record, 11).ok_or("a record without an event")?)?;
            if revision != event.main() || (event.kind() == EventKind::Delete) != change.pair.is_none() {
                return Err(format!("an event of revision {} says {change:?} at {revision}", event.main()));
            }
            told[(event.main() - batch.previous() - 1) as usize].push(change);
        }
        let mut news = Vec::new();
        for (revision, changes) in (batch.previous() + 1..).zip(told) {
            if revision <= self.revision() {
                if self.changes(revision) != changes {
                    let known = self.changes(revision);
                    return Err(format!("revision {revision} is {changes:?}, and was {known:?} elsewhere"));
                }
            } else if revision > self.revision() + 1 {
                return Err(format!("revision {revision} follows {}", self.revision()));
            } else {
                news.extend_from_slice(&changes);
                self.add(changes)?;
            }
        }
        Ok(news)
    }

    fn add(&mut self, changes: Vec<Change>) -> Result<(), String> {
        let revision = self.revision() + 1;
        for change in &changes {
            let history = self.by_key.entry(change.key.clone()).or_default();
            let before = history.last().and_then(|(_, pair)| *pair);
            match change.pair {
                None if before.is_none() => return Err(format!("{:?} is deleted twice", name(&change.key))),
                None => {}
                Some(pair) => {
                    let (create_revision, version) =
                        before.map_or((revision, 1), |before| (before.create_revision, before.version + 1));
                    if (pair.create_revision, pair.version) != (create_revision, version) {
                        return Err(format!("{:?} becomes {pair:?} after {before:?}", name(&change.key)));
                    }
                    match self.written.insert(pair.written_by, revision) {
                        Some(other) if other != revision => {
                            let number = pair.written_by;
                            return Err(format!("operation {number} is applied twice, at {other} and {revision}"));
                        }
                        _ => {}
                    }
                }
            }
            history.push((revision, change.pair));
        }
        self.revisions.push(changes);
        Ok(())
    }

    /// A member has applied an entry: it must have the same term and lead to the same revisions everywhere.
    pub fn applied(&mut self, index: u64, found: (u64, i64, i64)) -> Result<(), String> {
        self.compacted = self.compacted.max(found.2);
        match self.entries.insert(index, found) {
            Some(known) if known != found => {
                Err(format!("entry {index} has (term, revision, compacted) {found:?} here, and {known:?} elsewhere"))
            }
            _ => Ok(()),
        }
    }

    /// The newest compact revision that anybody has applied.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// What a key held at a revision.
    pub fn at(&self, key: &[u8], revision: i64) -> Option<Pair> {
        let history = self.by_key.get(key)?;
        let upto = history.partition_point(|(changed, _)| *changed <= revision);
        history[..upto].last().and_then(|(_, pair)| *pair)
    }

    /// As the client of a register sees it.
    pub fn state_at(&self, key: &[u8], revision: i64) -> State {
        self.at(key, revision).map(|pair| (pair.written_by, pair.version))
    }

    /// All pairs of a range at a revision, in order.
    pub fn range_at(&self, from: &[u8], to: &[u8], revision: i64) -> Vec<(Vec<u8>, Pair)> {
        let keys = self.by_key.range(from.to_vec()..to.to_vec()).map(|(key, _)| key);
        keys.filter_map(|key| Some((key.clone(), self.at(key, revision)?))).collect()
    }

    /// A store must hold exactly what was true at its revision.
    pub fn check_store<T: Trees>(&self, store: &Store<T>) -> Result<(), String> {
        let revision = store.revision();
        if revision > self.revision() {
            return Err(format!("the store is at revision {revision}, nobody went beyond {}", self.revision()));
        }
        let query = RangeQuery { key: b"\0", range_end: b"\0", ..RangeQuery::default() };
        let mut bytes = Vec::new();
        store.range(&query, &mut bytes).map_err(|error| error.to_string())?;
        let found = decode_ranges(&bytes)?;
        let expected = self.by_key.keys().filter_map(|key| Some((key.clone(), self.at(key, revision)?)));
        let expected: Vec<_> = expected.collect();
        if found != expected {
            let same = found.iter().zip(&expected).take_while(|(found, expected)| found == expected);
            let at = same.count();
            let (found, expected) = (found.get(at), expected.get(at));
            return Err(format!("at revision {revision} the store holds {found:?} instead of {expected:?}"));
        }
        Ok(())
    }
}

/// Reads what a range over one key answered.
pub fn decode_range(bytes: &[u8]) -> Result<Option<(Pair, i64)>, String> {
    let fields = protobuf::fields(bytes).ok_or("a range that does not parse")?;
    match fields.first() {
        None => Ok(None),
        Some(field) => decode(field.bytes).map(|(_, pair, revision)| Some((pair, revision))),
    }
}

/// Reads what a range answered.
pub fn decode_ranges(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Pair)>, String> {
    let fields = protobuf::fields(bytes).ok_or("a range that does not parse")?;
    fields.iter().map(|field| decode(field.bytes).map(|(key, pair, _)| (key, pair))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_engine::command::{Command, DeleteRange, Put};
    use plinth_engine::lease::Millis;
    use plinth_engine::store::{EntryId, StoreConfig};
    use plinth_engine::trees::MemTrees;
    use plinth_engine::watch::EventMode;

    fn store() -> Store<MemTrees> {
        let mut store = Store::open(MemTrees::new(), StoreConfig::default()).expect("an empty store");
        store.set_event_mode(EventMode::Plain);
        store
    }

    fn put(number: u64) -> Command {
        Command::Put(Put { key: "key".into(), value: value_of(number, 20).into(), ..Put::default() })
    }

    fn delete() -> Command {
        Command::DeleteRange(DeleteRange { key: "key".into(), ..DeleteRange::default() })
    }

    /// Applies each command as an entry and tells the truth about it.
    fn tell(truth: &mut Truth, store: &mut Store<MemTrees>, commands: &[Command]) -> Result<(), String> {
        for command in commands {
            let index = store.applied().index + 1;
            store.begin_entry(EntryId { index, term: 1 }).expect("memory does not fail");
            let mut bytes = Vec::new();
            command.encode_into(&mut bytes);
            store.apply(Command::access(&bytes).expect("valid"), Millis(1)).expect("applied");
            truth.learn(&store.take_events())?;
            truth.applied(index, (1, store.revision(), store.compact_revision()))?;
        }
        truth.check_store(store)
    }

    #[test]
    fn members_that_agree_are_accepted() {
        let mut truth = Truth::default();
        let commands = [put(1), put(2), delete(), delete(), put(3)];
        for _ in 0..2 {
            assert_eq!(tell(&mut truth, &mut store(), &commands), Ok(()));
        }
        assert_eq!(truth.revision(), 5);
        assert_eq!((truth.state_at(b"key", 3), truth.state_at(b"key", 4)), (Some((2, 2)), None));
        assert_eq!(truth.revision_of(3), Some(5));
    }

    #[test]
    fn a_member_that_differs_is_noticed() {
        let mut truth = Truth::default();
        tell(&mut truth, &mut store(), &[put(1), put(2), put(3)]).expect("the first one is right");
        assert!(tell(&mut truth, &mut store(), &[put(1), put(3)]).is_err(), "a write is lost");
        assert!(tell(&mut truth, &mut store(), &[put(2), put(1)]).is_err(), "two writes are reordered");
        assert!(tell(&mut truth, &mut store(), &[put(1), delete()]).is_err(), "another write");
        assert!(tell(&mut truth, &mut store(), &[put(1), put(2), put(3), put(1)]).is_err(), "a write applied twice");
    }
}
