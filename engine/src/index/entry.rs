//! The history of one key: its newest revision in full, older ones by revision only.
//!
//! A key's life is a row of generations, each from a create to a tombstone. They are stored flat: a tombstone ends one,
//! the put after it starts the next. What is not here (version and create revision of an old revision) is in the pair
//! that tree `Rev` holds.
//!
//! Invariants: revisions grow strictly; version 0 means that the newest one is a tombstone.

use super::order::LeafId;
use crate::revision::Revision;

/// History of one key.
#[derive(Debug, Default)]
pub struct Entry {
    main: i64,
    /// Create revision of the newest put.
    create: i64,
    /// Version of the newest put; 0 if the newest revision is a tombstone.
    version: i64,
    /// Everything before the newest revision, in order. Rare enough to hide behind one pointer.
    #[expect(
        clippy::box_collection,
        reason = "a third of the size of a bare vector, for the many keys without history"
    )]
    older: Option<Box<Vec<Older>>>,
    sub: u32,
    /// Where the key is in the order of keys. The order's own; it lies here to fill what would be padding.
    leaf: LeafId,
}

const _: () = assert!(size_of::<Entry>() == 40);

const TOMBSTONE: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
struct Older {
    main: i64,
    /// Sub revision; the top bit marks a tombstone.
    sub: u32,
}

impl Older {
    fn revision(self) -> Revision {
        Revision::new(self.main, i64::from(self.sub & !TOMBSTONE))
    }

    fn is_tombstone(self) -> bool {
        self.sub & TOMBSTONE != 0
    }
}

/// The newest pair of a key as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// When it was put.
    pub revision: Revision,
    /// Main revision of the put that created the key.
    pub create: i64,
    /// Number of puts since then.
    pub version: i64,
}

/// What a key is at some revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// The newest pair, known in full.
    Newest(Head),
    /// An older one; more about it is in tree `Rev`.
    Older(Revision),
}

impl At {
    /// Where tree `Rev` holds the pair.
    pub fn revision(self) -> Revision {
        match self {
            At::Newest(head) => head.revision,
            At::Older(revision) => revision,
        }
    }
}

fn sub_of(revision: Revision) -> u32 {
    assert!(revision.sub < i64::from(TOMBSTONE), "a request changes fewer than 2^31 keys");
    revision.sub as u32
}

impl Entry {
    /// A key created by a put.
    pub fn created(revision: Revision) -> Self {
        Self::restored(revision, revision.main, 1)
    }

    /// The first stored revision of a key, found while opening. `version` is 0 for a tombstone.
    pub fn restored(revision: Revision, create: i64, version: i64) -> Self {
        Self { main: revision.main, create, version, older: None, sub: sub_of(revision), leaf: 0 }
    }

    /// The key's leaf in the order of keys.
    #[inline]
    pub(super) fn leaf(&self) -> LeafId {
        self.leaf
    }

    /// Moves the key to another leaf.
    pub(super) fn set_leaf(&mut self, leaf: LeafId) {
        self.leaf = leaf;
    }

    /// Main part of the newest revision.
    #[inline]
    pub fn newest_main(&self) -> i64 {
        self.main
    }

    /// Whether the newest revision is a put.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.version != 0
    }

    /// The newest pair, if the key is live.
    #[inline]
    pub fn head(&self) -> Option<Head> {
        self.is_live().then(|| Head { revision: self.newest(), create: self.create, version: self.version })
    }

    /// What the key is at main revision `at`.
    #[inline]
    pub fn at(&self, at: i64) -> Option<At> {
        if self.main <= at {
            return self.head().map(At::Newest);
        }
        let older = self.older.as_ref()?;
        let found = older[..older.partition_point(|older| older.main <= at)].last()?;
        (!found.is_tombstone()).then(|| At::Older(found.revision()))
    }

    /// The newest put before `revision`, unless a tombstone lies between.
    pub fn before(&self, revision: Revision) -> Option<Revision> {
        if self.newest() < revision {
            return self.head().map(|head| head.revision);
        }
        let older = self.older.as_ref()?;
        let found = older[..older.partition_point(|older| older.revision() < revision)].last()?;
        (!found.is_tombstone()).then(|| found.revision())
    }

    /// Adds a put.
    #[inline]
    pub fn put(&mut self, revision: Revision) {
        let (create, version) = if self.is_live() { (self.create, self.version + 1) } else { (revision.main, 1) };
        self.push(revision, create, version);
    }

    /// Adds a tombstone.
    pub fn delete(&mut self, revision: Revision) {
        assert!(self.is_live(), "only live keys are deleted");
        self.push(revision, 0, 0);
    }

    /// Adds a stored revision, found while opening. `version` is 0 for a tombstone.
    pub fn restore(&mut self, revision: Revision, create: i64, version: i64) {
        self.push(revision, create, version);
    }

    fn push(&mut self, revision: Revision, create: i64, version: i64) {
        let newest = self.newest();
        assert!(newest < revision, "revisions of a key grow");
        let mark = if self.is_live() { 0 } else { TOMBSTONE };
        self.older.get_or_insert_default().push(Older { main: self.main, sub: self.sub | mark });
        (self.main, self.sub, self.create, self.version) = (revision.main, sub_of(revision), create, version);
    }

    /// Forgets what a compaction at main revision `at` removes and reports it, oldest first, with tombstone marks.
    /// Returns whether nothing is left of the key.
    ///
    /// The newest put at or below `at` stays, and so does everything above. A tombstone stays only if it is at `at`.
    /// (If one request deletes and puts a key, which takes a hole in the duplicate check, etcd forgets the put when
    /// it is compacted at just that revision. Here it stays.)
    pub fn compact(&mut self, at: i64, removed: &mut Vec<(Revision, bool)>) -> bool {
        let is_gone = self.main < at && !self.is_live();
        let Some(older) = self.older.as_mut() else {
            if is_gone {
                removed.push((self.newest(), true));
            }
            return is_gone;
        };
        let below = older.partition_point(|older| older.main <= at);
        let mut cut = if self.main <= at { below } else { below.saturating_sub(1) };
        if self.main > at && below > 0 && older[below - 1].is_tombstone() && older[below - 1].main < at {
            cut = below;
        }
        removed.extend(older.drain(..cut).map(|older| (older.revision(), older.is_tombstone())));
        if older.is_empty() {
            self.older = None;
        } else if older.capacity() > 4 * older.len().max(4) {
            older.shrink_to_fit();
        }
        if is_gone {
            removed.push((self.newest(), true));
        }
        is_gone
    }

    /// All revisions, oldest first, with tombstone marks.
    pub fn revisions(&self) -> impl Iterator<Item = (Revision, bool)> {
        let older = self.older.iter().flat_map(|older| older.iter());
        older
            .map(|older| (older.revision(), older.is_tombstone()))
            .chain(std::iter::once((self.newest(), !self.is_live())))
    }

    /// Memory behind the entry.
    pub fn heap_bytes(&self) -> usize {
        self.older.as_ref().map_or(0, |older| size_of::<Vec<Older>>() + older.capacity() * size_of::<Older>())
    }

    fn newest(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rev(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    /// put 2, put 4, delete 6, put 8, put 8_1... as in: two generations.
    fn two_generations() -> Entry {
        let mut entry = Entry::created(rev(2));
        entry.put(rev(4));
        entry.delete(rev(6));
        entry.put(rev(8));
        entry.put(rev(10));
        entry
    }

    #[test]
    fn reads_at_every_revision() {
        let entry = two_generations();
        let found: Vec<_> = (1..=11).map(|at| entry.at(at).map(|at| at.revision().main)).collect();
        let expected = [None, Some(2), Some(2), Some(4), Some(4), None, None, Some(8), Some(8), Some(10), Some(10)];
        assert_eq!(found, expected);
        assert_eq!(entry.head(), Some(Head { revision: rev(10), create: 8, version: 2 }));
        let before: Vec<_> = (2..=12).step_by(2).map(|main| entry.before(rev(main)).map(|rev| rev.main)).collect();
        assert_eq!(before, [None, Some(2), Some(4), None, Some(8), Some(10)]);
    }

    #[test]
    fn compaction_keeps_what_etcd_keeps() {
        let cases: [(i64, &[i64], bool); 11] = [
            (1, &[2, 4, 6, 8, 10], false),
            (2, &[2, 4, 6, 8, 10], false),
            (3, &[2, 4, 6, 8, 10], false),
            (4, &[4, 6, 8, 10], false),
            (5, &[4, 6, 8, 10], false),
            (6, &[6, 8, 10], false), // the tombstone at the compacted revision stays
            (7, &[8, 10], false),
            (8, &[8, 10], false),
            (9, &[8, 10], false),
            (10, &[10], false),
            (11, &[10], false),
        ];
        for (at, kept, gone) in cases {
            let mut entry = two_generations();
            let mut removed = Vec::new();
            assert_eq!(entry.compact(at, &mut removed), gone, "at {at}");
            assert_eq!(entry.revisions().map(|(rev, _)| rev.main).collect::<Vec<_>>(), kept, "at {at}");
            let removed: Vec<_> = removed.iter().map(|(rev, tombstone)| (rev.main, *tombstone)).collect();
            let expected: Vec<_> =
                [2, 4, 6, 8, 10].into_iter().filter(|rev| !kept.contains(rev)).map(|rev| (rev, rev == 6)).collect();
            assert_eq!(removed, expected, "at {at}");
        }
    }

    #[test]
    fn a_deleted_key_goes_after_its_tombstone() {
        for (at, gone) in [(5, false), (6, false), (7, true)] {
            let mut entry = Entry::created(rev(2));
            entry.delete(rev(6));
            let mut removed = Vec::new();
            assert_eq!(entry.compact(at, &mut removed), gone, "at {at}");
            assert_eq!(removed.last() == Some(&(rev(6), true)), gone, "at {at}");
        }
        let mut lone = Entry::restored(rev(6), 0, 0);
        assert!(!lone.compact(6, &mut Vec::new()));
        assert!(lone.compact(7, &mut Vec::new()));
    }
}
