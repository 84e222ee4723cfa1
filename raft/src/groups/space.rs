//! Which records of the shared log are still needed, and who holds it back.
//!
//! A log is given back from its beginning, so the group that is slowest decides. What a group needs of it: its last hard
//! state, and every entry that its store does not hold yet. For an idle group that is a hard state somewhere at the beginning,
//! which is written again at the end; for a busy one, entries, for which its store has to be flushed. [`LogSpace::oldest`] says
//! which it is.
//!
//! Invariants: ranges of a group's entries are in the order of their records and of their indexes; an entry that was
//! replaced counts no more.

use std::collections::{BTreeMap, VecDeque};

use plinth_wal::Lsn;

use crate::GroupId;

/// Entries `first..=last` of one `Ready`, the first of which is this record.
#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    last: u64,
    lsn: Lsn,
}

#[derive(Clone, Debug, Default)]
struct Needs {
    hard_state: Option<Lsn>,
    entries: VecDeque<Range>,
}

/// Why a record is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is the group's hard state: write it again ([`crate::Group::hard_state`]).
    HardState,
    /// The store of the group holds nothing from this entry on: flush it, at least so far.
    Entry(u64),
}

/// The record that has to stay, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The first record that is needed.
    pub lsn: Lsn,
    /// By which group.
    pub group: GroupId,
    /// For what.
    pub need: Need,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LogSpace {
    groups: BTreeMap<GroupId, Needs>,
}

impl LogSpace {
    /// A hard state was appended.
    pub fn wrote_hard_state(&mut self, group: GroupId, lsn: Lsn) {
        self.groups.entry(group).or_default().hard_state = Some(lsn);
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
        entries.push_back(Range { first, last, lsn });
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
            let hard_state = needs.hard_state.map(|lsn| Holder { lsn, group: *group, need: Need::HardState });
            let entry = needs.entries.front();
            let entry = entry.map(|range| Holder { lsn: range.lsn, group: *group, need: Need::Entry(range.first) });
            hard_state.into_iter().chain(entry).min_by_key(|holder| holder.lsn)
        };
        self.groups.iter().filter_map(needs).min_by_key(|holder| holder.lsn)
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
        space.remove(busy);
        assert_eq!(space.oldest().map(|holder| holder.group), Some(idle));
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
