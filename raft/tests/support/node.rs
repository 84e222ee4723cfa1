//! One member: its group, its disk, its store.

use std::collections::VecDeque;

use bytes::Bytes;
use plinth_raft::log::{self, LOG_SCHEMA, LogRecovery};
use plinth_raft::{ConfState, Entry, EntryId, EntryKind, HardState, MemberId, PeerMessage, Ready, RecoveredLog};

use super::checks::Checks;
use super::{Images, Options, group_config};
use crate::Group;

#[derive(Clone, Debug)]
pub enum Record {
    HardState(Vec<u8>),
    Entry(u64, Vec<u8>),
    Mark(Vec<u8>),
}

/// Log records in the order they were written; those up to `durable` survive a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub records: Vec<Record>,
    pub durable: usize,
}

impl Disk {
    pub fn hard_state(&mut self, state: &HardState) {
        self.records.push(Record::HardState(log::encode_hard_state(state).to_vec()));
    }

    pub fn entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            let mut payload = log::entry_header(entry).to_vec();
            payload.extend_from_slice(&entry.data);
            self.records.push(Record::Entry(entry.index, payload));
        }
    }

    pub fn mark(&mut self, id: EntryId) {
        self.records.push(Record::Mark(log::encode_snapshot_mark(id).to_vec()));
    }

    pub fn recover(&self, applied: EntryId) -> RecoveredLog {
        let mut recovery = LogRecovery::new(applied);
        for record in &self.records[..self.durable] {
            let fed = match record {
                Record::HardState(payload) => recovery.hard_state(LOG_SCHEMA, payload),
                Record::Entry(_, payload) => recovery.entry(LOG_SCHEMA, payload),
                Record::Mark(payload) => recovery.snapshot_mark(LOG_SCHEMA, payload),
            };
            fed.expect("own record");
        }
        recovery.finish().expect("a log that fits its store")
    }

    /// Gives back what the store no longer needs: records before the first entry behind `applied`, but for the hard state,
    /// which is written anew.
    pub fn release(&mut self, applied: u64, state: &HardState) {
        assert_eq!(self.durable, self.records.len(), "only between flushes");
        self.hard_state(state);
        self.durable = self.records.len();
        let needed = |record: &Record| match record {
            Record::Entry(index, _) => *index > applied,
            Record::Mark(_) => true,
            Record::HardState(_) => false,
        };
        let first = self.records.iter().position(needed).unwrap_or(self.records.len() - 1);
        self.records.drain(..first);
        self.durable -= first;
    }
}

/// The state machine: what was applied, and the configuration at that point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    pub applied: EntryId,
    pub conf: ConfState,
    pub data: Vec<Bytes>,
}

/// A flush under way.
pub struct Flush {
    number: u64,
    records: usize,
    messages: Vec<PeerMessage>,
    before: EntryId,
    entries: Vec<Entry>,
}

pub struct Node {
    pub id: MemberId,
    pub group: Option<Group>,
    pub life: u64,
    /// Snapshots installed.
    pub installed: u64,
    pub disk: Disk,
    /// In memory, and as last flushed.
    pub store: Store,
    pub stored: Store,
    pub flushes: VecDeque<Flush>,
    pub to_apply: VecDeque<Entry>,
    pub snapshots_wanted: Vec<MemberId>,
    /// The log as this member believes it to be, durable or not: terms from `log_base` on.
    pub log: Vec<EntryId>,
}

impl Node {
    pub fn new(id: MemberId, disk: Disk, store: Store) -> Node {
        Node {
            id,
            group: None,
            life: 0,
            installed: 0,
            disk,
            stored: store.clone(),
            store,
            flushes: VecDeque::new(),
            to_apply: VecDeque::new(),
            snapshots_wanted: Vec::new(),
            log: Vec::new(),
        }
    }

    pub fn start(&mut self, options: &Options, checks: &mut Checks) {
        assert!(self.group.is_none(), "{} runs already", self.id);
        self.life += 1;
        self.store = self.stored.clone();
        let recovered = self.disk.recover(self.store.applied);
        self.log = vec![recovered.base];
        self.log.extend(recovered.entries.iter().map(Entry::id));
        checks.recovered(self.id, &recovered);
        let config = group_config(options, self.id, self.life, &self.store.conf);
        self.group = Some(Group::new(config, recovered).expect("a group"));
    }

    pub fn crash(&mut self, torn: usize) {
        self.group = None;
        self.disk.durable = self.disk.records.len().min(self.disk.durable + torn);
        self.disk.records.truncate(self.disk.durable);
        self.flushes.clear();
        self.to_apply.clear();
        self.snapshots_wanted.clear();
    }

    pub fn group(&self) -> &Group {
        self.group.as_ref().expect("it runs")
    }

    pub fn is_leader(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.role() == plinth_raft::Role::Leader)
    }

    /// The term of an entry of the log, `None` before its base or behind its end.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        let at = index.checked_sub(self.log[0].index)?;
        self.log.get(at as usize).map(|id| id.term)
    }

    pub fn begin_flush(&mut self, ready: Ready, images: &Images) {
        let must_persist = ready.must_persist();
        if let Some(meta) = &ready.snapshot {
            let image = u64::from_le_bytes(meta.context[..].try_into().expect("an image number"));
            self.store = images[&image].clone();
            // The store is installed first and at once durable; its mark follows in the log.
            self.stored = self.store.clone();
            assert_eq!((self.store.applied, &self.store.conf), (meta.id, &meta.conf));
            self.installed += 1;
            self.to_apply.clear();
            self.disk.mark(meta.id);
            self.log = vec![meta.id];
        }
        if let Some(state) = &ready.hard_state {
            self.disk.hard_state(state);
        }
        self.disk.entries(&ready.entries);
        let mut before = EntryId::ZERO;
        if let Some(first) = ready.entries.first() {
            before.index = first.index - 1;
            before.term = self.term_of(before.index).expect("a log without a gap");
            self.log.truncate((first.index - self.log[0].index) as usize);
            self.log.extend(ready.entries.iter().map(Entry::id));
        }
        self.to_apply.extend(ready.committed);
        if must_persist || !ready.persisted_messages.is_empty() {
            let (number, records) = (ready.number, self.disk.records.len());
            let Ready { persisted_messages: messages, entries, .. } = ready;
            self.flushes.push_back(Flush { number, records, messages, before, entries });
        }
    }

    pub fn finish_flush(&mut self, checks: &mut Checks) -> Option<Vec<PeerMessage>> {
        let flush = self.flushes.pop_front()?;
        self.disk.durable = flush.records;
        checks.durable(self.id, flush.before, &flush.entries);
        self.group.as_mut().expect("it runs").on_persisted(flush.number);
        Some(flush.messages)
    }

    pub fn apply_one(&mut self) -> Option<Entry> {
        let entry = self.to_apply.pop_front()?;
        let group = self.group.as_mut().expect("it runs");
        assert_eq!(entry.index, self.store.applied.index + 1, "{} applies in order", self.id);
        match entry.kind {
            EntryKind::ConfChange => {
                if let Ok(conf) = group.apply_conf_change(&entry) {
                    self.store.conf = conf;
                }
            }
            EntryKind::Normal if !entry.data.is_empty() => self.store.data.push(entry.data.clone()),
            EntryKind::Normal => {}
        }
        self.store.applied = entry.id();
        group.on_applied(entry.index);
        Some(entry)
    }

    /// The store reaches the disk.
    pub fn flush_store(&mut self) {
        self.stored = self.store.clone();
    }

    /// Gives log records back that the durable store covers.
    pub fn release_log(&mut self) {
        if self.flushes.is_empty() && self.disk.durable == self.disk.records.len() {
            let state = self.group().hard_state();
            self.disk.release(self.stored.applied.index, &state);
        }
    }
}
