//! Raft's promises, checked on everything members hand out.
//!
//! - Election safety: a term has one leader.
//! - Log matching: entries of one index and term are the same entry, behind the same entry.
//! - State machine safety: what one member hands out as committed at an index, all do, for ever.
//! - Leader completeness: a new leader's log has every entry committed before.
//! - Configurations: members that have applied the same entries have the same one.

use std::collections::BTreeMap;

use bytes::Bytes;
use plinth_raft::{ConfState, Entry, EntryId, EntryKind, MemberId, PeerBody, PeerMessage, Ready, RecoveredLog, Role};

use super::node::Node;

#[derive(Default)]
pub struct Checks {
    leaders: BTreeMap<u64, MemberId>,
    /// By index and term: kind, data, and the term before.
    entries: BTreeMap<(u64, u64), (EntryKind, Bytes, u64)>,
    committed: BTreeMap<u64, Entry>,
    confs: BTreeMap<u64, ConfState>,
}

impl Checks {
    /// The highest index that anybody was told to apply.
    pub fn committed_max(&self) -> u64 {
        self.committed.last_key_value().map_or(0, |(index, _)| *index)
    }

    pub fn committed(&self) -> impl Iterator<Item = &Entry> {
        self.committed.values()
    }

    /// How often the configuration changed.
    pub fn confs(&self) -> usize {
        let confs: Vec<&ConfState> = self.confs.values().collect();
        confs.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    pub fn recovered(&mut self, id: MemberId, recovered: &RecoveredLog) {
        self.matching(id, recovered.base, recovered.entries.iter());
    }

    /// Entries count from when they are durable or have left the member: what a crash takes back never was.
    pub fn durable(&mut self, id: MemberId, before: EntryId, entries: &[Entry]) {
        self.matching(id, before, entries.iter());
    }

    pub fn sent(&mut self, message: &PeerMessage) {
        if let PeerBody::Append { prev, .. } = message.body {
            self.matching(message.from, prev, message.entries.iter());
        }
    }

    /// Called before the member's picture of its log takes the `Ready` in.
    pub fn ready(&mut self, node: &Node, ready: &Ready) {
        for entry in &ready.committed {
            let known = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "{} commits something else at {}", node.id, entry.index);
        }
        if let Some(change) = ready.role
            && change.role == Role::Leader
        {
            self.elected(node, change.term, &ready.entries);
        }
    }

    fn elected(&mut self, node: &Node, term: u64, appended: &[Entry]) {
        let leader = *self.leaders.entry(term).or_insert(node.id);
        assert_eq!(leader, node.id, "term {term} has two leaders");
        let appended_from = appended.first().map_or(u64::MAX, |entry| entry.index);
        for entry in self.committed.values().filter(|entry| entry.term < term) {
            if entry.index < node.log[0].index || entry.index >= appended_from {
                assert!(entry.index < appended_from, "{} leads term {term} over committed entries", node.id);
                continue;
            }
            let own = node.term_of(entry.index);
            assert_eq!(own, Some(entry.term), "{} leads term {term} without entry {}", node.id, entry.index);
        }
    }

    pub fn applied(&mut self, node: &Node) {
        let index = node.store.applied.index;
        let known = self.confs.entry(index).or_insert_with(|| node.store.conf.clone());
        assert_eq!(*known, node.store.conf, "{} has another configuration at {index}", node.id);
    }

    fn matching<'a>(&mut self, id: MemberId, base: EntryId, entries: impl Iterator<Item = &'a Entry>) {
        let mut before = base;
        for entry in entries {
            assert_eq!(entry.index, before.index + 1, "{id} has a gap");
            assert!(entry.term >= before.term, "{id} has falling terms at {}", entry.index);
            let value = (entry.kind, entry.data.clone(), before.term);
            let known = self.entries.entry((entry.index, entry.term)).or_insert_with(|| value.clone());
            assert_eq!(*known, value, "{id} has another entry {}/{}", entry.term, entry.index);
            before = entry.id();
        }
    }
}
