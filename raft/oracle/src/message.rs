//! Messages as raft-rs has them, and back.

use bytes::Bytes;
use raft::eraftpb::{self, MessageType};

use crate::convert;
use crate::error::ConfError;
use plinth_raft::{EntryId, GroupId, MemberId};
pub use plinth_raft::{PeerBody, PeerMessage, SnapshotMeta};

pub(crate) trait RaftMessage: Sized {
    /// What raft-rs wants sent. `None` for the messages that `Group` replaces by its own.
    fn from_raft(group: GroupId, raw: eraftpb::Message) -> Option<Self>;
    /// The message for raft-rs. `Ok(None)` for those `Group` handles itself.
    fn into_raft(self) -> Result<Option<eraftpb::Message>, ConfError>;
}

impl RaftMessage for PeerMessage {
    fn from_raft(group: GroupId, mut raw: eraftpb::Message) -> Option<PeerMessage> {
        let commit = EntryId { index: raw.commit, term: raw.commit_term };
        let body = match raw.msg_type {
            MessageType::MsgPropose => PeerBody::Propose,
            MessageType::MsgAppend => {
                PeerBody::Append { prev: EntryId { index: raw.index, term: raw.log_term }, commit: raw.commit }
            }
            MessageType::MsgAppendResponse => PeerBody::AppendResponse {
                index: raw.index,
                commit: raw.commit,
                reject: raw.reject.then_some(EntryId { index: raw.reject_hint, term: raw.log_term }),
                request_snapshot: raw.request_snapshot,
            },
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => PeerBody::Vote {
                pre: raw.msg_type == MessageType::MsgRequestPreVote,
                transfer: raw.context == raft::CAMPAIGN_TRANSFER,
                last: EntryId { index: raw.index, term: raw.log_term },
                commit,
            },
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => PeerBody::VoteResponse {
                pre: raw.msg_type == MessageType::MsgRequestPreVoteResponse,
                reject: raw.reject,
                commit,
            },
            MessageType::MsgSnapshot => PeerBody::Snapshot(SnapshotMeta::from_raft(raw.get_snapshot())),
            MessageType::MsgHeartbeat => PeerBody::Heartbeat { commit: raw.commit, round: round_of(&raw.context) },
            MessageType::MsgHeartbeatResponse => {
                PeerBody::HeartbeatResponse { commit: raw.commit, round: round_of(&raw.context) }
            }
            MessageType::MsgTimeoutNow => PeerBody::TimeoutNow,
            _ => return None,
        };
        let entries = raw.take_entries().into_iter().map(convert::entry_from_raft).collect();
        Some(PeerMessage { group, from: MemberId(raw.from), to: MemberId(raw.to), term: raw.term, body, entries })
    }

    fn into_raft(self) -> Result<Option<eraftpb::Message>, ConfError> {
        let mut raw = eraftpb::Message { from: self.from.0, to: self.to.0, term: self.term, ..Default::default() };
        match self.body {
            PeerBody::Append { prev, commit } => {
                raw.msg_type = MessageType::MsgAppend;
                (raw.index, raw.log_term, raw.commit) = (prev.index, prev.term, commit);
                let entries: Result<Vec<_>, _> = self.entries.into_iter().map(convert::entry_to_raft).collect();
                raw.entries = entries?.into();
            }
            PeerBody::AppendResponse { index, commit, reject, request_snapshot } => {
                raw.msg_type = MessageType::MsgAppendResponse;
                (raw.index, raw.commit, raw.request_snapshot) = (index, commit, request_snapshot);
                if let Some(hint) = reject {
                    (raw.reject, raw.reject_hint, raw.log_term) = (true, hint.index, hint.term);
                }
            }
            PeerBody::Vote { pre, transfer, last, commit } => {
                raw.msg_type = if pre { MessageType::MsgRequestPreVote } else { MessageType::MsgRequestVote };
                (raw.index, raw.log_term) = (last.index, last.term);
                (raw.commit, raw.commit_term) = (commit.index, commit.term);
                if transfer {
                    raw.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
                }
            }
            PeerBody::VoteResponse { pre, reject, commit } => {
                raw.msg_type =
                    if pre { MessageType::MsgRequestPreVoteResponse } else { MessageType::MsgRequestVoteResponse };
                raw.reject = reject;
                (raw.commit, raw.commit_term) = (commit.index, commit.term);
            }
            PeerBody::Snapshot(meta) => {
                raw.msg_type = MessageType::MsgSnapshot;
                raw.set_snapshot(meta.to_raft());
            }
            PeerBody::Heartbeat { commit, round } => {
                raw.msg_type = MessageType::MsgHeartbeat;
                (raw.commit, raw.context) = (commit, round_context(round));
            }
            PeerBody::HeartbeatResponse { commit, round } => {
                raw.msg_type = MessageType::MsgHeartbeatResponse;
                (raw.commit, raw.context) = (commit, round_context(round));
            }
            PeerBody::TimeoutNow => raw.msg_type = MessageType::MsgTimeoutNow,
            PeerBody::Propose | PeerBody::ReadIndex { .. } | PeerBody::ReadIndexResponse { .. } => return Ok(None),
        }
        Ok(Some(raw))
    }
}

pub(crate) trait RaftSnapshot: Sized {
    fn from_raft(raw: &eraftpb::Snapshot) -> Self;
    fn to_raft(&self) -> eraftpb::Snapshot;
}

impl RaftSnapshot for SnapshotMeta {
    fn from_raft(raw: &eraftpb::Snapshot) -> SnapshotMeta {
        let meta = raw.get_metadata();
        SnapshotMeta {
            id: EntryId { index: meta.index, term: meta.term },
            conf: convert::conf_state_from_raft(meta.get_conf_state()),
            context: raw.data.clone(),
        }
    }

    fn to_raft(&self) -> eraftpb::Snapshot {
        let mut raw = eraftpb::Snapshot { data: self.context.clone(), ..Default::default() };
        let meta = raw.mut_metadata();
        (meta.index, meta.term) = (self.id.index, self.id.term);
        meta.set_conf_state(convert::conf_state_to_raft(&self.conf));
        raw
    }
}

/// A round as raft-rs carries it.
pub(crate) fn round_context(round: Option<u64>) -> Bytes {
    round.map_or_else(Bytes::new, |round| Bytes::copy_from_slice(&round.to_le_bytes()))
}

pub(crate) fn round_of(context: &[u8]) -> Option<u64> {
    context.try_into().ok().map(u64::from_le_bytes)
}
