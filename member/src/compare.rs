//! Whether all members hold the same: which hashes may be compared, and who is wrong.
//!
//! Two checks, both the leader's: one of the present state ([`Check`]), and one of the hashes that every member keeps of
//! its last compactions ([`kept_to_compare`], [`minority`]).
//!
//! Invariant: members that hold the same are never said to differ, whatever they have applied or compacted by the time
//! they answer. So hashes count only at the same revision and compact revision, and that a member is ahead counts only
//! against what the leader holds after a linearizable moment *behind* the answers.
//!
//! Not here: asking the others, computing the hash (`plinth_engine::hash`), the alarm.

use crate::planted::{Planted, is_planted};
use plinth_engine::store::Store;
use plinth_engine::store::hash::HashKv;
use plinth_engine::trees::Trees;
use plinth_raft::MemberId;
use std::collections::BTreeMap;

/// Compactions whose hashes are compared at most, newest first.
pub const COMPACTIONS_MAX: usize = 10;

/// In place of a member, of an alarm about data that differ when nobody knows who is wrong.
pub const UNKNOWN: MemberId = MemberId(0);

/// A hash, and the revision its member had reached then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    pub hash: HashKv,
    /// The revision its member had reached.
    pub reached: i64,
}

impl Hashed {
    /// Whether the two cannot both be right.
    pub fn contradicts(&self, other: &Hashed) -> bool {
        let (left, right) = (&self.hash, &other.hash);
        left.revision == right.revision && left.compact_revision == right.compact_revision && left.hash != right.hash
    }
}

/// A comparison of all members with the leader.
#[derive(Clone, Debug)]
pub struct Check {
    own: MemberId,
    first: Hashed,
    others: Vec<(MemberId, Hashed)>,
}

impl Check {
    /// Begins with the leader's own hash, at its present revision: the one to ask the others for.
    pub fn begin(own: MemberId, first: Hashed) -> Check {
        Check { own, first, others: Vec::new() }
    }

    /// The revision to ask for.
    pub fn revision(&self) -> i64 {
        self.first.hash.revision
    }

    /// A member has answered. Those that do not are not judged.
    pub fn answered(&mut self, member: MemberId, hashed: Hashed) {
        assert!(member != self.own, "a leader does not ask itself");
        self.others.push((member, hashed));
    }

    /// Who is wrong, by the leader's hash at its revision after a linearizable moment that followed all answers.
    pub fn verdict(&self, second: Hashed) -> Vec<MemberId> {
        assert!(second.reached >= self.first.reached, "the second look is the later one");
        let second = if is_planted(Planted::ComparedTooEarly) { self.first } else { second };
        let own = self.first.contradicts(&second).then_some(self.own);
        let is_wrong = |other: &Hashed| {
            let is_ahead = other.reached > second.reached || other.hash.compact_revision > second.hash.compact_revision;
            is_ahead || self.first.contradicts(other)
        };
        let others = self.others.iter().filter(|(_, other)| is_wrong(other)).map(|(member, _)| *member);
        own.into_iter().chain(others).collect()
    }
}

/// Whether a member may answer for a revision when only the hash of a compaction will do.
pub fn is_kept<T: Trees>(store: &Store<T>, revision: i64) -> bool {
    store.compaction_hashes().iter().any(|kept| kept.revision == revision)
}

/// The leader's own hashes of compactions behind the one that all members have agreed on, newest first.
pub fn kept_to_compare<T: Trees>(store: &Store<T>, agreed: i64) -> Vec<HashKv> {
    let mut kept: Vec<HashKv> = store.compaction_hashes().to_vec();
    kept.sort_by_key(|hash| std::cmp::Reverse(hash.revision));
    kept.retain(|hash| hash.revision > agreed);
    kept.truncate(COMPACTIONS_MAX);
    kept
}

/// Members whose hash is not that of the majority of all `members`; [`UNKNOWN`] if they disagree without one.
/// `None`: those who answered agree.
pub fn minority(hashes: &BTreeMap<MemberId, u32>, members: usize) -> Option<Vec<MemberId>> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    hashes.values().for_each(|hash| *counts.entry(*hash).or_default() += 1);
    if counts.len() < 2 {
        return None;
    }
    match counts.iter().find(|(_, count)| **count > members / 2) {
        None => Some(vec![UNKNOWN]),
        Some((right, _)) => Some(hashes.iter().filter(|(_, hash)| *hash != right).map(|(member, _)| *member).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHED: Hashed = Hashed { hash: HashKv { hash: 1, compact_revision: 2, revision: 3 }, reached: 3 };

    fn with(change: fn(&mut Hashed)) -> Hashed {
        let mut other = HASHED;
        change(&mut other);
        other
    }

    #[test]
    fn hashes_contradict_only_at_the_same_place() {
        assert!(HASHED.contradicts(&with(|other| other.hash.hash = 7)));
        assert!(!HASHED.contradicts(&with(|_| {})));
        assert!(!HASHED.contradicts(&with(|other| (other.hash.hash, other.hash.revision) = (7, 4))));
        assert!(!HASHED.contradicts(&with(|other| (other.hash.hash, other.hash.compact_revision) = (7, 1))));
    }

    #[test]
    fn a_member_is_wrong_that_differs_or_is_ahead_of_everybody() {
        let verdict = |other: Hashed, second: Hashed| {
            let mut check = Check::begin(MemberId(1), HASHED);
            check.answered(MemberId(2), other);
            check.verdict(second)
        };
        assert_eq!(verdict(HASHED, HASHED), []);
        assert_eq!(verdict(with(|other| other.hash.hash = 7), HASHED), [MemberId(2)]);
        assert_eq!(verdict(with(|other| other.reached = 9), HASHED), [MemberId(2)]);
        let later = with(|second| (second.reached, second.hash.revision) = (9, 9));
        assert_eq!(verdict(with(|other| other.reached = 9), later), [], "the leader had not come so far");
        assert_eq!(
            verdict(HASHED, with(|second| second.hash.hash = 7)),
            [MemberId(1)],
            "the leader contradicts itself"
        );
    }

    #[test]
    fn the_minority_is_wrong() {
        let ids = |list: &[u64]| list.iter().copied().map(MemberId).collect::<Vec<_>>();
        let judge = |list: &[(u64, u32)], members| {
            let hashes = list.iter().map(|(member, hash)| (MemberId(*member), *hash)).collect();
            minority(&hashes, members)
        };
        assert_eq!(judge(&[(1, 5), (2, 5), (3, 5)], 3), None);
        assert_eq!(judge(&[(1, 5), (2, 6), (3, 5)], 3), Some(ids(&[2])));
        assert_eq!(judge(&[(1, 5), (2, 6)], 3), Some(ids(&[0])), "one did not answer, two disagree");
        assert_eq!(judge(&[(1, 5), (2, 5)], 3), None);
        assert_eq!(judge(&[(1, 5), (2, 6), (3, 6), (4, 6)], 5), Some(ids(&[1])));
    }
}
