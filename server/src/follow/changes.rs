//! Events of a watch over all keys, as commands for the store that follows.
//!
//! A main revision may be cut by the other side into fragments, and is cut here into commands that are each applied in a
//! step; only of the last one is said that it is.

use plinth_api::proto::mvccpb::{Event, event::EventType};
use plinth_engine::follow::{
    FollowChange, FollowRecord, FollowRecords, RECORDS_BYTES, RECORDS_MAX, put_record, tombstone_record,
};
use plinth_engine::kv_codec::KeyValue;
use std::collections::BTreeSet;

/// Collects events. What is held back is at most one command's worth, and the answer being looked at.
#[derive(Debug, Default)]
pub struct Collector {
    /// The revision under way, what of it is not in a command yet, and the sub revision where that begins.
    main: i64,
    sub: i64,
    records: Vec<FollowRecord>,
    bytes: usize,
    done: Vec<FollowChange>,
    leases: BTreeSet<i64>,
}

/// What came of events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Commands, in order.
    pub changes: Vec<FollowChange>,
    /// Leases that keys were attached to.
    pub leases: BTreeSet<i64>,
}

impl Collector {
    /// Takes the events of an answer. If the answer `is_fragment`, more of its last revision may follow.
    ///
    /// # Errors
    /// If an event makes no sense; what it was.
    pub fn take(&mut self, events: Vec<Event>, is_fragment: bool) -> Result<Collected, String> {
        for event in events {
            let kind = event.r#type();
            let pair = event.kv.ok_or("an event without a key")?;
            if pair.mod_revision < self.main {
                return Err(format!("an event of revision {} behind {}", pair.mod_revision, self.main));
            }
            if pair.mod_revision != self.main {
                self.close();
                (self.main, self.sub) = (pair.mod_revision, 0);
            } else if self.records.len() >= RECORDS_MAX || self.bytes >= RECORDS_BYTES {
                self.cut(false);
            }
            let record = match kind {
                EventType::Delete => tombstone_record(&pair.key),
                EventType::Put => put_record(&KeyValue {
                    key: &pair.key,
                    create_revision: pair.create_revision,
                    mod_revision: pair.mod_revision,
                    version: pair.version,
                    value: &pair.value,
                    lease: pair.lease,
                }),
            };
            if pair.lease != 0 {
                self.leases.insert(pair.lease);
            }
            self.bytes += record.pair.len();
            self.records.push(record);
        }
        if !is_fragment {
            self.close();
        }
        Ok(Collected { changes: std::mem::take(&mut self.done), leases: std::mem::take(&mut self.leases) })
    }

    /// The revision under way is whole.
    fn close(&mut self) {
        if !self.records.is_empty() {
            self.cut(true);
        }
    }

    fn cut(&mut self, is_last: bool) {
        let records = std::mem::take(&mut self.records);
        let (sub, count) = (self.sub, records.len() as i64);
        self.done.push(FollowChange::Records(FollowRecords { main: self.main, sub, records, is_last }));
        (self.sub, self.bytes) = (sub + count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::proto::mvccpb;

    fn put(main: i64, key: &str, lease: i64) -> Event {
        let kv = mvccpb::KeyValue { key: key.to_owned().into(), mod_revision: main, lease, ..Default::default() };
        Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }
    }

    /// Main revision, first sub revision, number of records, whether they are the last.
    fn shape(collected: &Collected) -> Vec<(i64, i64, usize, bool)> {
        let shape = |change: &FollowChange| match change {
            FollowChange::Records(told) => (told.main, told.sub, told.records.len(), told.is_last),
            other => panic!("not records: {other:?}"),
        };
        collected.changes.iter().map(shape).collect()
    }

    #[test]
    fn a_revision_is_closed_by_the_next_one_or_by_the_end_of_an_answer() {
        let mut collector = Collector::default();
        let events = vec![put(2, "a", 0), put(2, "b", 7), put(3, "a", 0)];
        let collected = collector.take(events, false).expect("sound");
        assert_eq!(shape(&collected), [(2, 0, 2, true), (3, 0, 1, true)]);
        assert_eq!(collected.leases, [7].into());
    }

    #[test]
    fn fragments_of_a_revision_go_on_where_the_one_before_ended() {
        let mut collector = Collector::default();
        let first = collector.take(vec![put(2, "a", 0), put(3, "a", 0), put(3, "b", 0)], true).expect("sound");
        assert_eq!(shape(&first), [(2, 0, 1, true)], "of revision 3 more may follow");
        let second = collector.take(vec![put(3, "c", 0)], false).expect("sound");
        assert_eq!(shape(&second), [(3, 0, 3, true)]);
    }

    #[test]
    fn a_large_revision_is_cut() {
        let mut collector = Collector::default();
        let events: Vec<_> = (0..2 * RECORDS_MAX + 1).map(|key| put(5, &key.to_string(), 0)).collect();
        let (max, collected) = (RECORDS_MAX, collector.take(events, false).expect("sound"));
        let first = (5, 0, max, false);
        assert_eq!(shape(&collected), [first, (5, max as i64, max, false), (5, 2 * max as i64, 1, true)]);
        assert!(collector.take(vec![put(4, "late", 0)], false).is_err(), "revisions only grow");
    }
}
