//! Configurations and their changes (chapter 4).
//!
//! - *A change takes effect when it is applied*, not when it is appended: what is not committed never counts.
//! - *One at a time*: a leader proposes the next change when the last one is applied here; when it is elected, when all of
//!   its log is. So two configurations in use at the same time are next to each other, and any two quorums of neighbours
//!   share a voter: one voter more or less (4.1), or a joint configuration and its halves (4.3).
//! - *A member with a change that is committed and not applied does not campaign.* Otherwise it could count votes by a
//!   configuration that is two changes old, whose quorums share nobody with the present ones. It is enough, because each
//!   change is proposed after the one before it was applied, and its append carries that commit index: who holds change
//!   n + 1 knows that n is committed. After a crash it still does, since a hard state with the commit index is written before
//!   the entries that came with it (`Group::ready`), and a change is handed out for applying only when a durable hard state
//!   commits it.
//! - *The flaw of single-server changes* (Ongaro, raft-dev, 10 July 2015: a leader may commit a change in its term over one
//!   of an earlier leader that it never saw, with quorums that do not meet) needs changes that count before they are
//!   committed. The rules above exclude it; besides, a leader waits until all of its log is applied, which takes an entry of
//!   its own term unless nothing was pending.
//! - *Changes of several voters* go through a joint configuration, of which an automatic one is left by the leader itself as
//!   soon as it is applied; whoever leads by then does it.
//! - *Demoted voters* stay voters of the outgoing half and become learners when it is dropped: nobody is both.
//! - *A leader that no longer votes* leads until the change is applied, and steps down (4.2.2; see `transfer.rs`).

use bytes::Bytes;

use super::Core;
use crate::conf::{Change, ConfChange, ConfChangeKind, ConfState, Transition};
use crate::error::{ApplyConfError, ProposeError};
use crate::types::EntryKind;

impl Core {
    pub(crate) fn set_conf(&mut self, conf: ConfState) {
        assert!(conf.verify().is_ok(), "a configuration in use keeps its own rules");
        self.tracker.follow(&conf, self.own(), self.log.last());
        self.conf = conf;
        self.conf_version += 1;
    }

    /// Whether this member is the only voter: nobody else can lead.
    pub(crate) fn is_alone(&self) -> bool {
        let own = self.own().0;
        self.conf.voters == [own] && self.conf.voters_outgoing.iter().all(|id| *id == own)
    }

    /// Appends a configuration change as the leader, unless it could not be applied.
    pub(crate) fn propose_conf_change(&mut self, change: &ConfChange, data: Bytes) -> Result<(), ProposeError> {
        if change.kind == ConfChangeKind::RecordsOnly {
            return self.propose(EntryKind::ConfChange, data);
        }
        if self.pending_conf > self.log.applied() {
            return Err(ProposeError::ConfChangePending);
        }
        let joint = self.conf.is_joint();
        if joint != (change.kind == ConfChangeKind::LeaveJoint) {
            return Err(ProposeError::Joint { joint });
        }
        self.propose(EntryKind::ConfChange, data)?;
        self.pending_conf = self.log.last();
        assert!(self.pending_conf > self.log.applied(), "a change that was just proposed is not applied");
        Ok(())
    }

    /// Carries a committed configuration change out. On an error nothing has changed.
    pub(crate) fn apply_conf_change(&mut self, change: &ConfChange) -> Result<(), ApplyConfError> {
        if let Some(conf) = changed(&self.conf, &change.kind)? {
            self.change_conf(conf);
        }
        Ok(())
    }

    pub(super) fn change_conf(&mut self, conf: ConfState) {
        assert!(are_neighbours(&self.conf, &conf), "quorums before and behind a change share a voter");
        self.set_conf(conf);
        self.after_conf_change();
    }

    /// Fewer may be enough now, for what is on its way and for reads.
    fn after_conf_change(&mut self) {
        if !self.is_leader() {
            return;
        }
        self.commit_what_a_quorum_has();
        self.finish_round_if_confirmed();
        if self.transfer.is_some_and(|target| !self.conf.voters.contains(&target.0)) {
            self.transfer = None;
        }
        self.abdicate_if_removed();
    }

    /// The leader leaves an automatic joint configuration.
    pub(super) fn leave_joint_if_due(&mut self) {
        if self.is_leader() && self.conf.auto_leave && self.log.applied() >= self.pending_conf {
            assert!(self.conf.is_joint(), "only a joint configuration is left");
            self.append_own(EntryKind::ConfChange, Bytes::new());
            self.pending_conf = self.log.last();
        }
    }
}

/// Whether one follows the other by a rule of the head of this file.
fn are_neighbours(before: &ConfState, after: &ConfState) -> bool {
    let missing = |from: &[u64], of: &[u64]| of.iter().filter(|id| !from.contains(id)).count();
    match (before.is_joint(), after.is_joint()) {
        (false, true) => after.voters_outgoing == before.voters,
        (true, false) => after.voters == before.voters,
        (false, false) => missing(&before.voters, &after.voters) + missing(&after.voters, &before.voters) <= 1,
        (true, true) => false,
    }
}

/// The configuration after a change; `None` for a change of records alone.
fn changed(conf: &ConfState, kind: &ConfChangeKind) -> Result<Option<ConfState>, ApplyConfError> {
    let refused = |detail: &str| Err(ApplyConfError { detail: detail.to_owned() });
    let mut next = conf.clone();
    match kind {
        ConfChangeKind::RecordsOnly => return Ok(None),
        ConfChangeKind::LeaveJoint if !conf.is_joint() => return refused("there is no joint configuration to leave"),
        ConfChangeKind::LeaveJoint => {
            next.learners.append(&mut next.learners_next);
            next.voters_outgoing.clear();
            next.auto_leave = false;
        }
        ConfChangeKind::Members { .. } if conf.is_joint() => return refused("the joint configuration was not left"),
        ConfChangeKind::Members { changes, transition } => {
            let jointly = *transition != Transition::Auto || changes.len() > 1;
            if jointly {
                if conf.voters.is_empty() {
                    return refused("a joint configuration has voters in both halves");
                }
                next.voters_outgoing.clone_from(&conf.voters);
                next.auto_leave = *transition != Transition::JointExplicit;
            }
            changes.iter().for_each(|change| apply(&mut next, *change));
            if next.voters.is_empty() {
                return refused("no voter would be left");
            }
        }
    }
    next.sort();
    match next.verify() {
        Ok(()) => Ok(Some(next)),
        Err(error) => refused(&error.to_string()),
    }
}

fn apply(conf: &mut ConfState, change: Change) {
    let id = change.member().0;
    let was_learner = conf.learners.contains(&id);
    for list in [&mut conf.voters, &mut conf.learners, &mut conf.learners_next] {
        list.retain(|member| *member != id);
    }
    match change {
        Change::AddVoter(_) => conf.voters.push(id),
        Change::AddLearner(_) if !was_learner && conf.voters_outgoing.contains(&id) => conf.learners_next.push(id),
        Change::AddLearner(_) => conf.learners.push(id),
        Change::Remove(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conf(voters: &[u64], outgoing: &[u64], learners: &[u64], next: &[u64], auto_leave: bool) -> ConfState {
        ConfState {
            voters: voters.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            learners: learners.to_vec(),
            learners_next: next.to_vec(),
            auto_leave,
        }
    }

    fn members(changes: &[Change], transition: Transition) -> ConfChangeKind {
        ConfChangeKind::Members { changes: changes.to_vec(), transition }
    }

    #[test]
    fn changes_do_what_they_say() {
        use Change::{AddLearner, AddVoter, Remove};
        use Transition::{Auto, JointExplicit, JointImplicit};
        let three = conf(&[1, 2, 3], &[], &[], &[], false);
        let with_learner = conf(&[1, 2, 3], &[], &[4], &[], false);
        let joint = conf(&[1, 4], &[1, 2, 3], &[], &[3], true);
        let cases = [
            (
                "the first member",
                &ConfState::default(),
                members(&[AddVoter(1)], Auto),
                Ok(conf(&[1], &[], &[], &[], false)),
            ),
            ("a voter", &three, members(&[AddVoter(4)], Auto), Ok(conf(&[1, 2, 3, 4], &[], &[], &[], false))),
            ("again", &three, members(&[AddVoter(3)], Auto), Ok(three.clone())),
            (
                "a promotion",
                &with_learner,
                members(&[AddVoter(4)], Auto),
                Ok(conf(&[1, 2, 3, 4], &[], &[], &[], false)),
            ),
            ("a demotion", &three, members(&[AddLearner(3)], Auto), Ok(conf(&[1, 2], &[], &[3], &[], false))),
            ("a stranger leaves", &three, members(&[Remove(9)], Auto), Ok(three.clone())),
            (
                "two at once",
                &three,
                members(&[AddVoter(4), Remove(1)], Auto),
                Ok(conf(&[2, 3, 4], &[1, 2, 3], &[], &[], true)),
            ),
            (
                "one, jointly",
                &three,
                members(&[Remove(1)], JointImplicit),
                Ok(conf(&[2, 3], &[1, 2, 3], &[], &[], true)),
            ),
            (
                "explicitly",
                &three,
                members(&[Remove(1)], JointExplicit),
                Ok(conf(&[2, 3], &[1, 2, 3], &[], &[], false)),
            ),
            (
                "demoted jointly",
                &with_learner,
                members(&[AddLearner(3), AddLearner(4)], Auto),
                Ok(conf(&[1, 2], &[1, 2, 3], &[4], &[3], true)),
            ),
            ("left", &joint, ConfChangeKind::LeaveJoint, Ok(conf(&[1, 4], &[], &[3], &[], false))),
            ("nothing to leave", &three, ConfChangeKind::LeaveJoint, Err(())),
            ("joint already", &joint, members(&[AddVoter(5)], Auto), Err(())),
            ("nobody left", &conf(&[1], &[], &[], &[], false), members(&[Remove(1)], Auto), Err(())),
            ("joint from nothing", &ConfState::default(), members(&[AddVoter(1)], JointImplicit), Err(())),
        ];
        for (name, before, kind, expected) in cases {
            let found = changed(before, &kind).map(|conf| conf.expect("a change of members")).map_err(drop);
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(changed(&three, &ConfChangeKind::RecordsOnly), Ok(None));
    }

    fn change() -> impl Strategy<Value = ConfChangeKind> {
        let one = (0..3, 1..8u64).prop_map(|(kind, id)| match kind {
            0 => Change::AddVoter(id),
            1 => Change::AddLearner(id),
            _ => Change::Remove(id),
        });
        let transition =
            prop_oneof![Just(Transition::Auto), Just(Transition::JointImplicit), Just(Transition::JointExplicit)];
        prop_oneof![
            4 => (prop::collection::vec(one, 1..4), transition)
                .prop_map(|(changes, transition)| ConfChangeKind::Members { changes, transition }),
            1 => Just(ConfChangeKind::LeaveJoint),
        ]
    }

    proptest! {
        /// The argument of the head of this file rests on it: any quorums of two neighbours share a voter.
        #[test]
        fn neighbouring_configurations_have_quorums_that_meet(
            kinds in prop::collection::vec(change(), 1..12), sides in prop::collection::vec(any::<bool>(), 9),
        ) {
            let mut now = conf(&[1, 2, 3], &[], &[], &[], false);
            for kind in kinds {
                let Ok(Some(next)) = changed(&now, &kind) else { continue };
                prop_assert!(next.verify().is_ok());
                // Whoever is for one side is not for the other: both cannot have a quorum.
                let one = super::super::quorum::agrees(&now, |id| sides[id as usize]);
                let other = super::super::quorum::agrees(&next, |id| !sides[id as usize]);
                prop_assert!(!(one && other), "{now:?} and {next:?}");
                now = next;
            }
        }
    }
}
