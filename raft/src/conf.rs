//! Who votes and who learns: the configuration of a group and the changes to it.
//!
//! A [`ConfChange`] is the content of an entry of kind `ConfChange`. It says what the consensus layer has to do (change
//! voters and learners, leave a joint configuration, or nothing at all) and carries an opaque context for the member
//! records, so that both change at the same index. A change takes effect when it is applied, not when it is appended.
//!
//! Stored form: u16 schema version (little endian), then an rkyv archive. An empty entry means "leave the joint
//! configuration": that is what a leader appends on its own.
//!
//! Not here: what the context means (`membership.rs`) and when a change is allowed (`membership.rs`, raft itself).

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::error::ConfError;
use crate::limits::CONF_MEMBERS_MAX;
use crate::types::MemberId;

/// Schema version of both stored forms of this file.
pub const CONF_SCHEMA: u16 = 1;

/// Voters and learners. The lists are sorted, so that equal configurations are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ConfState {
    /// Voters (of the incoming half, in a joint configuration).
    pub voters: Vec<u64>,
    /// Members that receive the log and do not vote.
    pub learners: Vec<u64>,
    /// Voters of the outgoing half; empty unless the configuration is joint.
    pub voters_outgoing: Vec<u64>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// Whether the leader leaves the joint configuration on its own.
    pub auto_leave: bool,
}

impl ConfState {
    /// A configuration of voters only.
    pub fn of_voters(voters: impl IntoIterator<Item = MemberId>) -> ConfState {
        let mut state = ConfState { voters: voters.into_iter().map(|member| member.0).collect(), ..Default::default() };
        state.sort();
        state
    }

    /// Whether nobody is in it: a member that has yet to learn its configuration from the log.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.learners.is_empty() && self.voters_outgoing.is_empty()
    }

    /// Whether two majorities are needed at the moment.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether `member` votes in either half.
    pub fn is_voter(&self, member: MemberId) -> bool {
        self.voters.contains(&member.0) || self.voters_outgoing.contains(&member.0)
    }

    /// Whether `member` is a learner.
    pub fn is_learner(&self, member: MemberId) -> bool {
        self.learners.contains(&member.0)
    }

    /// Whether `member` takes part at all.
    pub fn contains(&self, member: MemberId) -> bool {
        self.is_voter(member) || self.is_learner(member)
    }

    /// Everybody in it, in order, each once.
    pub fn members(&self) -> Vec<MemberId> {
        let mut ids: Vec<u64> =
            [&self.voters, &self.learners, &self.voters_outgoing].into_iter().flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(MemberId).collect()
    }

    pub(crate) fn sort(&mut self) {
        for list in [&mut self.voters, &mut self.learners, &mut self.voters_outgoing, &mut self.learners_next] {
            list.sort_unstable();
        }
    }

    /// Checks a configuration that came from outside (a snapshot, a store): consensus assumes these rules.
    pub fn verify(&self) -> Result<(), ConfError> {
        let broken = |rule| Err(ConfError::Invalid { rule });
        if self.voters.is_empty() && !self.is_empty() {
            return broken("there is at least one voter");
        }
        if self.members().len() > CONF_MEMBERS_MAX {
            return broken("there are not too many members");
        }
        let lists = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        if lists.into_iter().any(|list| list.contains(&0) || !list.windows(2).all(|pair| pair[0] < pair[1])) {
            return broken("lists are sorted, without repetition or zero");
        }
        if self.learners.iter().any(|id| self.voters.contains(id) || self.voters_outgoing.contains(id)) {
            return broken("no learner is a voter");
        }
        if self.learners_next.iter().any(|id| !self.voters_outgoing.contains(id) || self.voters.contains(id)) {
            return broken("who becomes a learner is an outgoing voter only");
        }
        if self.auto_leave && !self.is_joint() {
            return broken("only a joint configuration is left");
        }
        Ok(())
    }

    /// The stored form.
    pub fn encode(&self) -> Bytes {
        archive(|out| rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, out))
    }

    /// Reads and checks the stored form.
    pub fn decode(bytes: &[u8]) -> Result<ConfState, ConfError> {
        let state = rkyv::from_bytes::<ConfState, rkyv::rancor::Error>(body(bytes)?).map_err(ConfError::archive)?;
        state.verify()?;
        Ok(state)
    }
}

/// How a change of several voters is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Transition {
    /// In one step where that is safe (at most one voter changes), else jointly, leaving automatically.
    #[default]
    Auto,
    /// Jointly; the leader leaves the joint configuration when it may.
    JointImplicit,
    /// Jointly; left by a [`ConfChangeKind::LeaveJoint`] that somebody proposes.
    JointExplicit,
}

/// One member's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Change {
    /// Adds a voter or makes a learner one.
    AddVoter(u64),
    /// Adds a learner or makes a voter one.
    AddLearner(u64),
    /// Removes a voter or learner.
    Remove(u64),
}

impl Change {
    /// Whom it is about.
    pub fn member(self) -> MemberId {
        match self {
            Change::AddVoter(id) | Change::AddLearner(id) | Change::Remove(id) => MemberId(id),
        }
    }
}

/// What consensus has to do.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum ConfChangeKind {
    /// Change voters and learners.
    Members {
        /// In order; the last word about a member counts.
        changes: Vec<Change>,
        /// In one step or jointly.
        transition: Transition,
    },
    /// Drop the outgoing half of a joint configuration.
    LeaveJoint,
    /// Nothing: only the member records change (for example a peer URL).
    RecordsOnly,
}

/// The content of an entry of kind `ConfChange`.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ConfChange {
    /// What consensus has to do.
    pub kind: ConfChangeKind,
    /// For the member records.
    pub context: Bytes,
}

impl ConfChange {
    /// A change of one member, in one step.
    pub fn one(change: Change, context: Bytes) -> ConfChange {
        ConfChange { kind: ConfChangeKind::Members { changes: vec![change], transition: Transition::Auto }, context }
    }

    /// Leaves the joint configuration.
    pub fn leave_joint() -> ConfChange {
        ConfChange { kind: ConfChangeKind::LeaveJoint, context: Bytes::new() }
    }

    /// A change of member records alone.
    pub fn records_only(context: Bytes) -> ConfChange {
        ConfChange { kind: ConfChangeKind::RecordsOnly, context }
    }

    /// The content of an entry.
    pub fn encode(&self) -> Bytes {
        archive(|out| rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, out))
    }

    /// Reads the content of an entry; empty means [`ConfChange::leave_joint`].
    pub fn decode(bytes: &[u8]) -> Result<ConfChange, ConfError> {
        if bytes.is_empty() {
            return Ok(ConfChange::leave_joint());
        }
        let change = rkyv::from_bytes::<ConfChange, rkyv::rancor::Error>(body(bytes)?).map_err(ConfError::archive)?;
        if let ConfChangeKind::Members { changes, .. } = &change.kind {
            if changes.is_empty() || changes.len() > CONF_MEMBERS_MAX {
                return Err(ConfError::Invalid { rule: "a change names a few members" });
            }
            if changes.iter().any(|change| change.member() == MemberId(0)) {
                return Err(ConfError::Invalid { rule: "no member has id zero" });
            }
        }
        Ok(change)
    }
}

/// Schema version and archive in one buffer. rkyv is configured for alignment 1, so the prefix does no harm.
fn archive(write: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, rkyv::rancor::Error>) -> Bytes {
    let out = CONF_SCHEMA.to_le_bytes().to_vec();
    Bytes::from(write(out).expect("archiving into memory does not fail"))
}

fn body(bytes: &[u8]) -> Result<&[u8], ConfError> {
    let (schema, body) = bytes.split_first_chunk::<2>().ok_or(ConfError::Truncated { found: bytes.len() })?;
    match u16::from_le_bytes(*schema) {
        CONF_SCHEMA => Ok(body),
        found => Err(ConfError::Schema { found }),
    }
}
