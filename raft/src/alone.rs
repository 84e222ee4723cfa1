//! A member goes on alone: what is appended to its log when the majority of its group is lost for good.
//!
//! Consensus cannot do this, since it is what consensus exists to prevent: somebody has to know that the others will never
//! come back. What is appended reads as if this member had been elected in a further term and everybody else had been
//! removed by changes that a majority had agreed to. All that is in the log counts as committed, acknowledged or not: what
//! was acknowledged by the majority that is lost may be there, and its commit not.
//!
//! As in an election the vote is appended before the entries of its term, and the hard state that commits them last: a log
//! that ends anywhere between is that of a member that campaigned, and the same can be done with it again.

use std::collections::BTreeSet;

use crate::conf::{Change, ConfChange, ConfChangeKind, ConfState};
use crate::log::RecoveredLog;
use crate::membership::MemberChange;
use crate::types::{Entry, EntryKind, HardState, MemberId};

/// What is appended, in this order.
#[derive(Clone, Debug)]
pub struct Alone {
    /// To be appended first: the vote for the term of the entries.
    pub vote: HardState,
    /// A change for each of the others, behind the last entry.
    pub entries: Vec<Entry>,
    /// To be appended last.
    pub hard_state: HardState,
    /// Who is removed, by id.
    pub removed: Vec<MemberId>,
}

/// The member has no part in what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("member {0} has not heard yet that it is a member: it has nothing to go on with")]
pub struct NotAMember(pub MemberId);

/// Makes `own` the only member. `conf` is the configuration as of what the store has applied. Nothing if it already is
/// the only one, and votes.
///
/// # Errors
/// If `own` is in no configuration at all.
pub fn alone(log: &RecoveredLog, conf: &ConfState, own: MemberId) -> Result<Option<Alone>, NotAMember> {
    let pending = log.entries.iter().filter(|entry| entry.index > log.applied.index);
    let changes: Vec<Change> = pending.filter_map(changes_of).flatten().collect();
    let (mut members, mut learns): (BTreeSet<MemberId>, bool) =
        (conf.members().into_iter().collect(), conf.is_learner(own));
    for change in changes {
        // Removed ones stay in the set: a change that does not fit the records is declined where it is applied.
        members.insert(change.member());
        learns = match change {
            Change::AddVoter(id) if id == own.0 => false,
            Change::AddLearner(id) if id == own.0 => true,
            _ => learns,
        };
    }
    if !members.remove(&own) {
        return Err(NotAMember(own));
    }
    if members.is_empty() && !learns && !conf.is_joint() {
        return Ok(None);
    }
    let joint = conf.is_joint().then(ConfChange::leave_joint);
    let promotion = learns.then(|| MemberChange::Promote(own).to_conf_change());
    let others = members.iter().map(|id| MemberChange::Remove(*id).to_conf_change());
    let (last, term) = (log.last(), log.hard_state.term + 1);
    assert!(last.term < term, "the log ends in a term that was");
    let entries: Vec<Entry> = (last.index + 1..)
        .zip(joint.into_iter().chain(promotion).chain(others))
        .map(|(index, change)| Entry { index, term, kind: EntryKind::ConfChange, data: change.encode() })
        .collect();
    let commit = entries.last().expect("somebody is removed, or becomes a voter").index;
    let vote = HardState { term, vote: Some(own), commit: log.hard_state.commit };
    let hard_state = HardState { commit, ..vote };
    Ok(Some(Alone { vote, entries, hard_state, removed: members.into_iter().collect() }))
}

fn changes_of(entry: &Entry) -> Option<Vec<Change>> {
    if entry.kind != EntryKind::ConfChange {
        return None;
    }
    match ConfChange::decode(&entry.data).ok()?.kind {
        ConfChangeKind::Members { changes, .. } => Some(changes),
        ConfChangeKind::LeaveJoint | ConfChangeKind::RecordsOnly => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LOG_SCHEMA, LogRecovery, encode_hard_state};
    use crate::types::EntryId;
    use bytes::Bytes;

    const OWN: MemberId = MemberId(2);

    fn log(pending: &[Change]) -> RecoveredLog {
        let applied = EntryId { index: 7, term: 3 };
        let entry = |(index, change): (u64, &Change)| Entry {
            index,
            term: 4,
            kind: EntryKind::ConfChange,
            data: ConfChange::one(*change, Bytes::new()).encode(),
        };
        RecoveredLog {
            base: applied,
            entries: (8..).zip(pending).map(entry).collect(),
            hard_state: HardState { term: 5, vote: Some(MemberId(1)), commit: 7 },
            applied,
        }
    }

    fn changes(alone: &Alone) -> Vec<Change> {
        alone.entries.iter().filter_map(changes_of).flatten().collect()
    }

    #[test]
    fn all_others_are_removed_in_a_term_of_its_own() {
        let conf = ConfState { learners: vec![9], ..ConfState::of_voters([1, 2, 3].map(MemberId)) };
        let alone =
            alone(&log(&[Change::AddLearner(4), Change::Remove(3)]), &conf, OWN).expect("a member").expect("others");
        assert_eq!(changes(&alone), [1, 3, 4, 9].map(Change::Remove));
        assert_eq!(alone.removed, [1, 3, 4, 9].map(MemberId));
        assert_eq!(
            alone.entries.iter().map(|entry| (entry.index, entry.term)).collect::<Vec<_>>(),
            [(10, 6), (11, 6), (12, 6), (13, 6)]
        );
        assert_eq!(alone.vote, HardState { term: 6, vote: Some(OWN), commit: 7 });
        assert_eq!(alone.hard_state, HardState { term: 6, vote: Some(OWN), commit: 13 });
    }

    /// However much of it reached the disk, the log is one.
    #[test]
    fn a_start_that_is_cut_off_leaves_a_log() {
        let conf = ConfState::of_voters([1, 2, 3].map(MemberId));
        let before = log(&[Change::AddLearner(4)]);
        let alone = alone(&before, &conf, OWN).expect("a member").expect("others");
        for kept in 0..=alone.entries.len() {
            let mut recovery = LogRecovery::new(before.applied);
            recovery.hard_state(LOG_SCHEMA, &encode_hard_state(&alone.vote)).expect("a vote");
            for entry in before.entries.iter().chain(&alone.entries[..kept]) {
                recovery.push(entry.clone()).expect("an entry");
            }
            let recovered = recovery.finish().expect("a log");
            let again = super::alone(&recovered, &conf, OWN).expect("a member").expect("others");
            assert_eq!(again.removed, alone.removed, "{kept} entries");
        }
    }

    #[test]
    fn a_learner_votes_before_nobody_else_does() {
        let conf = ConfState { learners: vec![2], ..ConfState::of_voters([MemberId(1)]) };
        let learner = alone(&log(&[]), &conf, OWN).expect("a member").expect("another");
        assert_eq!(changes(&learner), [Change::AddVoter(2), Change::Remove(1)]);
        let promoted = alone(&log(&[Change::AddVoter(2)]), &conf, OWN).expect("a member").expect("another");
        assert_eq!(changes(&promoted), [Change::Remove(1)]);
    }

    #[test]
    fn the_only_member_stays_as_it_is() {
        assert!(alone(&log(&[]), &ConfState::of_voters([OWN]), OWN).expect("a member").is_none());
    }

    #[test]
    fn who_is_no_member_has_nothing_to_go_on_with() {
        assert_eq!(alone(&log(&[]), &ConfState::default(), OWN).err(), Some(NotAMember(OWN)));
    }

    #[test]
    fn a_joint_configuration_is_left_first() {
        let conf = ConfState { voters_outgoing: vec![1, 3], ..ConfState::of_voters([MemberId(1), OWN]) };
        let alone = alone(&log(&[]), &conf, OWN).expect("a member").expect("others");
        assert_eq!(ConfChange::decode(&alone.entries[0].data).expect("a change").kind, ConfChangeKind::LeaveJoint);
        assert_eq!(changes(&alone), [1, 3].map(Change::Remove));
    }
}
