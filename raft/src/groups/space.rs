//! Which records of the shared log are still needed, and who holds it back.
//!
//! A log is given back from its beginning, so the group that is slowest decides. What a group needs of it: its last hard
//! state (and with it who it is, if the shell writes that down), and every entry that its store does not hold yet. For an idle
//! group that is a hard state somewhere at the beginning, which is written again at the end; for a busy one, entries, for
//! which its store has to be flushed. [`LogSpace::oldest`] says which it is.
//!
//! What is left of a group that was refused stays where it is ([`LogSpace::hold`]): written again, an old vote would look like
//! the last one.
//!
//! Invariants: ranges of a group's entries are in the order of their records and of their indexes; an entry that was
//! replaced counts no more.

use std::collections::{BTreeMap, VecDeque};

use plinth_wal::{Lsn, Record, RecordKind};

use crate::GroupId;
use crate::log;

/// Entries that are read back are remembered in ranges of so many.
const ENTRIES_READ_TOGETHER: u64 = 64;

/// Entries `first..=last` of one `Ready`, the first of which is this record.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    last: u64,
    lsn: Lsn,
}

#[derive(Clone, Debug, Default)]
struct Needs {
    identity: Option<Lsn>,
    hard_state: Option<Lsn>,
    entries: VecDeque<Range>,
    /// The group was refused: nothing from here on goes.
    held: Option<Lsn>,
}

/// Why a record is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is the group's hard state, or says who it is: write both again ([`crate::Group::hard_state`]).
    HardState,
    /// The store of the group holds nothing from this entry on: flush it, at least so far.
    Entry(u64),
    /// The group was refused, and its records stay for whoever mends or removes it.
    Refused,
}

/// The record that has to stay, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The first record that is needed.
    pub lsn: Lsn,
    pub group: GroupId,
    pub need: Need,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LogSpace {
    groups: BTreeMap<GroupId, Needs>,
}

impl Needs {
    /// The first record of what is written again as it is.
    fn standing(&self) -> Option<Lsn> {
        self.identity.into_iter().chain(self.hard_state).min()
    }
}

impl LogSpace {
    /// A record of a group is read back.
    pub fn read(&mut self, record: &Record<'_>) {
        let (group, lsn) = (record.group, record.lsn);
        match record.kind {
            RecordKind::Metadata => self.wrote_identity(group, lsn),
            RecordKind::HardState => self.wrote_hard_state(group, lsn),
            RecordKind::Entry => {
                let Some(index) = log::entry_index(record.payload) else { return };
                let last = self.groups.get_mut(&group).and_then(|needs| needs.entries.back_mut());
                match last {
                    // There may be many, which all go together when a store was flushed.
                    Some(last) if last.last + 1 == index && index - last.first < ENTRIES_READ_TOGETHER => {
                        last.last = index
                    }
                    _ => self.wrote_entries(group, index, index, lsn),
                }
            }
            RecordKind::SnapshotMark if log::is_tombstone(record.schema, record.payload) => self.remove(group),
            RecordKind::SnapshotMark => self.forget_entries(group),
            RecordKind::Segment => {}
        }
    }

    /// A record was appended that says who the group's member is.
    pub fn wrote_identity(&mut self, group: GroupId, lsn: Lsn) {
        let before = self.groups.entry(group).or_default().identity.replace(lsn);
        assert!(before.is_none_or(|before| before < lsn), "an identity is written again behind the one before");
    }

    /// A hard state was appended.
    pub fn wrote_hard_state(&mut self, group: GroupId, lsn: Lsn) {
        let before = self.groups.entry(group).or_default().hard_state.replace(lsn);
        assert!(before.is_none_or(|before| before < lsn), "a hard state is written again behind the one before");
    }

    /// Entries `first..=last` were appended, beginning with this record; those of the same index before them count no more.
    ///
    /// # Panics
    /// If there are none.
    pub fn wrote_entries(&mut self, group: GroupId, first: u64, last: u64, lsn: Lsn) {
        assert!(first <= last, "at least one entry");
        let entries = &mut self.groups.entry(group).or_default().entries;
        while let Some(before) = entries.back_mut().filter(|before| before.last >= first) {
            if before.first >= first {
                entries.pop_back();
            } else {
                before.last = first - 1;
            }
        }
        assert!(entries.back().is_none_or(|before| before.lsn < lsn), "entries are written behind those before them");
        entries.push_back(Range { first, last, lsn });
    }

    /// The group is refused, or will be: this record of it is damaged. Nothing that is there of it is given back before it is
    /// removed.
    pub fn hold(&mut self, group: GroupId, damaged: Option<Lsn>) {
        let needs = self.groups.entry(group).or_default();
        let first = needs.entries.front().map(|range| range.lsn);
        needs.held = damaged.into_iter().chain(needs.held).chain(needs.standing()).chain(first).min();
    }

    /// The group's store holds everything up to this entry.
    pub fn stored(&mut self, group: GroupId, index: u64) {
        if let Some(needs) = self.groups.get_mut(&group) {
            while needs.entries.front().is_some_and(|range| range.last <= index) {
                needs.entries.pop_front();
            }
        }
    }

    /// The group is gone, or its log began anew behind a snapshot.
    pub fn forget_entries(&mut self, group: GroupId) {
        if let Some(needs) = self.groups.get_mut(&group) {
            needs.entries.clear();
        }
    }

    /// The group ends here: nothing is kept for it.
    pub fn remove(&mut self, group: GroupId) {
        self.groups.remove(&group);
    }

    /// Who needs the oldest record. Everything before it can be given back.
    pub fn oldest(&self) -> Option<Holder> {
        let needs = |(group, needs): (&GroupId, &Needs)| {
            let hard_state = needs.standing().map(|lsn| Holder { lsn, group: *group, need: Need::HardState });
            let entry = needs.entries.front();
            let entry = entry.map(|range| Holder { lsn: range.lsn, group: *group, need: Need::Entry(range.first) });
            let held = needs.held.map(|lsn| Holder { lsn, group: *group, need: Need::Refused });
            held.into_iter().chain(hard_state).chain(entry).min_by_key(|holder| holder.lsn)
        };
        self.groups.iter().filter_map(needs).min_by_key(|holder| holder.lsn)
    }

    /// The first record of an entry that some store does not hold yet, or of a group that was refused.
    pub fn oldest_entry(&self) -> Option<Lsn> {
        let entries = self.groups.values().filter_map(|needs| needs.entries.front()).map(|range| range.lsn);
        entries.chain(self.groups.values().filter_map(|needs| needs.held)).min()
    }

    /// Groups whose hard states, or identities, have to be written again before all records before `lsn` are given back.
    pub fn standing_before(&self, lsn: Lsn) -> impl Iterator<Item = GroupId> + '_ {
        let is_before =
            move |needs: &Needs| needs.held.is_none() && needs.standing().is_some_and(|standing| standing < lsn);
        self.groups.iter().filter(move |(_, needs)| is_before(needs)).map(|(group, _)| *group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_group_is_named_with_what_it_needs() {
        let mut space = LogSpace::default();
        let (idle, busy) = (GroupId(1), GroupId(2));
        assert_eq!(space.oldest(), None);
        space.wrote_hard_state(idle, Lsn::new(1));
        space.wrote_hard_state(busy, Lsn::new(2));
        space.wrote_entries(busy, 1, 4, Lsn::new(3));
        space.wrote_entries(busy, 5, 5, Lsn::new(7));
        assert_eq!(space.oldest(), Some(Holder { lsn: Lsn::new(1), group: idle, need: Need::HardState }));
        space.wrote_hard_state(idle, Lsn::new(8));
        space.wrote_hard_state(busy, Lsn::new(9));
        assert_eq!(space.oldest(), Some(Holder { lsn: Lsn::new(3), group: busy, need: Need::Entry(1) }));
        space.stored(busy, 3);
        assert_eq!(space.oldest().map(|holder| holder.lsn), Some(Lsn::new(3)), "entry 4 is of that range");
        space.stored(busy, 4);
        assert_eq!(space.oldest().map(|holder| holder.need), Some(Need::Entry(5)));
        assert_eq!(space.oldest_entry(), Some(Lsn::new(7)));
        space.wrote_identity(idle, Lsn::new(6));
        assert_eq!(space.standing_before(Lsn::new(7)).collect::<Vec<_>>(), [idle]);
        assert_eq!(space.oldest().map(|holder| (holder.lsn, holder.need)), Some((Lsn::new(6), Need::HardState)));
        space.remove(busy);
        assert_eq!(space.oldest().map(|holder| holder.group), Some(idle));
        assert_eq!(space.oldest_entry(), None);
    }

    /// Its hard state is not written again: it may not be the last one.
    #[test]
    fn what_is_left_of_a_refused_group_stays_until_it_is_removed() {
        let mut space = LogSpace::default();
        let (refused, sound) = (GroupId(1), GroupId(2));
        space.wrote_hard_state(refused, Lsn::new(4));
        space.hold(refused, Some(Lsn::new(5)));
        space.wrote_entries(sound, 1, 1, Lsn::new(6));
        space.stored(sound, 1);
        assert_eq!(space.oldest_entry(), Some(Lsn::new(4)));
        assert_eq!(space.oldest(), Some(Holder { lsn: Lsn::new(4), group: refused, need: Need::Refused }));
        assert_eq!(space.standing_before(Lsn::new(9)).count(), 0);
        space.remove(refused);
        assert_eq!(space.oldest_entry(), None);
    }

    #[test]
    fn replaced_entries_hold_nothing_back() {
        let mut space = LogSpace::default();
        let group = GroupId(1);
        space.wrote_entries(group, 1, 4, Lsn::new(1));
        space.wrote_entries(group, 5, 9, Lsn::new(5));
        space.wrote_entries(group, 3, 3, Lsn::new(10));
        space.stored(group, 2);
        assert_eq!(space.oldest().map(|holder| holder.lsn), Some(Lsn::new(10)));
        space.forget_entries(group);
        assert_eq!(space.oldest(), None);
    }
}
