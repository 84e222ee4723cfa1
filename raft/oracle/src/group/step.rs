//! The gateway for peer messages: nothing gets past it that raft-rs would panic on or misread.

use super::Group;
use crate::conf::ConfChange;
use crate::convert;
use crate::error::StepError;
use crate::limits;
use crate::message::{PeerBody, PeerMessage, RaftMessage};
use crate::read_index::Waiter;
use crate::types::{EntryId, EntryKind, Role};

/// No cluster gets there by elections or proposals; terms and indexes beyond are there to overflow.
const COUNT_MAX: u64 = u64::MAX / 2;

impl Group {
    /// A message arrived. An error means that it had no effect; all but [`StepError::LogLost`] can be ignored.
    pub fn step(&mut self, message: PeerMessage) -> Result<(), StepError> {
        self.check_message(&message)?;
        let (from, term) = (message.from, message.term);
        match message.body {
            PeerBody::Propose => return self.step_propose(message),
            PeerBody::ReadIndex { round } => {
                if self.role.role == Role::Leader {
                    self.rounds.add(Waiter::Remote { member: from, round });
                }
            }
            PeerBody::ReadIndexResponse { round, index } => {
                if self.role.role != Role::Leader && self.role.leader == Some(from) && self.role.term == term {
                    self.rounds.answer(round, index);
                }
            }
            PeerBody::TimeoutNow if !self.may_campaign() => return Ok(()),
            // A vote is an answer to a request that left when the log was durable; before that, it is a stray one.
            PeerBody::VoteResponse { .. } if !self.is_log_durable() => return Ok(()),
            PeerBody::Snapshot(_) if !self.conf_changes.is_empty() => {
                self.postponed = Some(message);
                return Ok(());
            }
            _ => self.step_raft(message)?,
        }
        self.settle();
        Ok(())
    }

    fn step_raft(&mut self, message: PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        if self.role.role == Role::Leader && message.term == self.role.term {
            match &message.body {
                PeerBody::AppendResponse { reject: Some(_), .. } => self.flow.reset(from),
                PeerBody::AppendResponse { index, .. } => {
                    self.flow.acknowledged(from, *index, &mut self.messages);
                }
                PeerBody::HeartbeatResponse { .. } => self.flow.alive(from, &mut self.messages),
                _ => {}
            }
        }
        let is_snapshot = matches!(message.body, PeerBody::Snapshot(_));
        let malformed = |_| StepError::Malformed { from, rule: "configuration changes decode" };
        let raw = message.into_raft().map_err(malformed)?.expect("a message for raft-rs");
        match self.raw.step(raw) {
            Ok(()) | Err(raft::Error::ProposalDropped) => {}
            Err(_) => return Err(StepError::UnknownPeer { from }),
        }
        if is_snapshot {
            self.refresh_conf();
        }
        Ok(())
    }

    /// A follower's proposals. Only a leader takes them: forwarding twice could go in circles.
    fn step_propose(&mut self, message: PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        if self.role.role != Role::Leader {
            return Err(StepError::Proposal { from, reason: crate::error::ProposeError::NoLeader });
        }
        for entry in message.entries {
            let result = match entry.kind {
                EntryKind::Normal => self.append(convert::normal_entry(entry.data)),
                EntryKind::ConfChange => {
                    let change = ConfChange::decode(&entry.data)
                        .map_err(|_| StepError::Malformed { from, rule: "configuration changes decode" })?;
                    self.append_conf_change(&change, entry.data)
                }
            };
            result.map_err(|reason| StepError::Proposal { from, reason })?;
        }
        Ok(())
    }

    fn check_message(&self, message: &PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        if message.group != self.group || message.to != self.member {
            let (to, own) = (message.to, self.member);
            return Err(StepError::NotForUs { group: message.group.0, to, own_group: self.group.0, own });
        }
        let rule = |rule| Err(StepError::Malformed { from, rule });
        if from.0 == 0 || from == self.member {
            return rule("the sender is another member");
        }
        if message.entries.iter().any(|entry| entry.data.len() > limits::ENTRY_BYTES_MAX) {
            return rule("entries are not too large");
        }
        if !matches!(message.body, PeerBody::Propose | PeerBody::Append { .. }) && !message.entries.is_empty() {
            return rule("only appends and proposals carry entries");
        }
        if message.body == PeerBody::Propose {
            return if message.entries.is_empty() { rule("a proposal has an entry") } else { Ok(()) };
        }
        if message.term == 0 || message.term > COUNT_MAX {
            return rule("terms are positive and not absurd");
        }
        self.check_body(message)
    }

    /// What depends on the kind. Messages of earlier terms pass: raft-rs ignores them.
    fn check_body(&self, message: &PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        let rule = |rule| Err(StepError::Malformed { from, rule });
        match &message.body {
            PeerBody::Append { prev, .. } => {
                if (prev.term == 0) != (prev.index == 0) || prev.index > COUNT_MAX {
                    return rule("every entry has an index and a term");
                }
                let mut before = *prev;
                for entry in &message.entries {
                    if entry.index != before.index + 1 {
                        return rule("entries are contiguous");
                    }
                    if entry.term < before.term || entry.term > message.term || entry.term == 0 {
                        return rule("terms of entries do not fall, nor pass the leader's");
                    }
                    before = entry.id();
                }
            }
            PeerBody::AppendResponse { index, reject: None, .. } => {
                let ours = self.role.role == Role::Leader && message.term == self.role.term;
                if ours && *index > self.last_index() {
                    return rule("a follower acknowledges what it was sent");
                }
            }
            PeerBody::Heartbeat { commit, .. } if message.term >= self.role.term && *commit > self.last_index() => {
                return Err(StepError::LogLost { from, commit: *commit, last: self.last_index() });
            }
            PeerBody::Snapshot(meta) => {
                let EntryId { index, term } = meta.id;
                if index == 0 || index > COUNT_MAX || term == 0 || term > message.term {
                    return rule("a snapshot ends with an entry of the leader's log");
                }
                if meta.conf.is_empty() || meta.conf.verify().is_err() {
                    return rule("a snapshot has a configuration");
                }
            }
            _ => {}
        }
        Ok(())
    }
}
