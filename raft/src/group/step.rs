//! The gateway for peer messages: what no correct member sends does not get past it.

use super::Group;
use crate::conf::ConfChange;
use crate::core::Waiter;
use crate::error::{ProposeError, StepError};
use crate::limits;
use crate::message::{PeerBody, PeerMessage};
use crate::types::{EntryId, EntryKind, Role};

/// No cluster gets there by elections or proposals; terms and indexes beyond are there to overflow.
const COUNT_MAX: u64 = u64::MAX / 2;

impl Group {
    /// A message arrived. An error means that it had no effect; all but [`StepError::LogLost`] can be ignored.
    pub fn step(&mut self, message: PeerMessage) -> Result<(), StepError> {
        self.check_message(&message)?;
        let (from, term, own) = (message.from, message.term, self.core.role());
        match message.body {
            PeerBody::Propose => return self.step_propose(message),
            PeerBody::ReadIndex { round } => {
                if own.role == Role::Leader {
                    self.core.rounds.add(Waiter::Remote { member: from, round });
                }
            }
            PeerBody::ReadIndexResponse { round, index } => {
                if own.role != Role::Leader && own.leader == Some(from) && own.term == term {
                    self.core.rounds.answer(round, index);
                }
            }
            PeerBody::Snapshot(_) if !self.conf_changes.is_empty() => {
                self.postponed = Some(message);
                return Ok(());
            }
            _ => self.core.step(message)?,
        }
        self.core.begin_read_round();
        Ok(())
    }

    /// A follower's proposals. Only a leader takes them: forwarding twice could go in circles.
    fn step_propose(&mut self, message: PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        if self.role() != Role::Leader {
            return Err(StepError::Proposal { from, reason: ProposeError::NoLeader });
        }
        for entry in message.entries {
            let result = match entry.kind {
                EntryKind::Normal => self.core.propose(entry.kind, entry.data),
                EntryKind::ConfChange => {
                    let change = ConfChange::decode(&entry.data)
                        .map_err(|_| StepError::Malformed { from, rule: "configuration changes decode" })?;
                    self.core.propose_conf_change(&change, entry.data)
                }
            };
            result.map_err(|reason| StepError::Proposal { from, reason })?;
        }
        Ok(())
    }

    fn check_message(&self, message: &PeerMessage) -> Result<(), StepError> {
        let from = message.from;
        if message.group != self.core.config.group || message.to != self.core.config.member {
            let config = &self.core.config;
            let (to, own, own_group) = (message.to, config.member, config.group.0);
            return Err(StepError::NotForUs { group: message.group.0, to, own_group, own });
        }
        let rule = |rule| Err(StepError::Malformed { from, rule });
        if from.0 == 0 || from == self.core.config.member {
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

    /// What depends on the kind. Messages of earlier terms pass: the core ignores them.
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
                    if entry.kind == EntryKind::ConfChange && ConfChange::decode(&entry.data).is_err() {
                        return rule("configuration changes decode");
                    }
                    before = entry.id();
                }
            }
            PeerBody::AppendResponse { index, reject: None, .. } => {
                let ours = self.role() == Role::Leader && message.term == self.term();
                if ours && *index > self.last_index() {
                    return rule("a follower acknowledges what it was sent");
                }
            }
            PeerBody::Heartbeat { commit, .. } if message.term >= self.term() && *commit > self.last_index() => {
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
