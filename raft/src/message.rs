//! What members of a group say to each other, and how it looks on the wire.
//!
//! A frame is a small archived head followed by the bytes of the entries as they are: the same bytes that go to the log.
//! The sender writes the head and then each entry's bytes (no copy into a message buffer); the receiver slices the frame.
//!
//! Layout, little endian:
//! ```text
//! 0  u16 version   2  u16 zero   4  u32 head length   8  head (rkyv archive)   then the entries' bytes, in order
//! ```
//!
//! Invariants: a decoded message is well formed as bytes; whether it makes sense is checked by `Group::step`, because
//! simulations hand over messages without a wire. Messages of one lane between two members are best delivered in order;
//! loss, duplication and reordering are survived, except that a duplicated `Propose` appends twice: transports that may
//! duplicate must not repeat those.
//!
//! Not here: connections, frame lengths, and snapshot bytes (the transport streams them beside the `Snapshot` message,
//! which is delivered when they have arrived).

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use crate::GroupId;
use crate::conf::ConfState;
use crate::error::MessageError;
use crate::limits::{ENTRY_BYTES_MAX, PEER_ENTRIES_MAX, PEER_HEAD_BYTES_MAX};
use crate::types::{Entry, EntryId, EntryKind, MemberId};

/// Version of the frame and of everything archived in its head.
pub const PEER_VERSION: u16 = 1;
const PREFIX_BYTES: usize = 8;

/// One message from a member of a group to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The group both belong to.
    pub group: GroupId,
    pub from: MemberId,
    pub to: MemberId,
    /// The sender's term (the term asked for, in votes; zero in proposals and reads, which belong to no term).
    pub term: u64,
    pub body: PeerBody,
    /// Entries of `Append` and `Propose`.
    pub entries: Vec<Entry>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PeerBody {
    /// A follower hands entries to the leader.
    Propose,
    /// The leader appends the message's entries behind `prev`.
    Append {
        /// The entry before the first one.
        prev: EntryId,
        commit: u64,
    },
    /// How far the log matches the leader's.
    AppendResponse {
        /// Last matching entry, or the refused `prev`.
        index: u64,
        /// The follower's commit index.
        commit: u64,
        /// Set on refusal: where the leader should look next.
        reject: Option<EntryId>,
        /// Set when the follower needs a snapshot of at least this index.
        request_snapshot: u64,
    },
    /// A candidate asks for a vote.
    Vote {
        /// Only asks whether it would be granted.
        pre: bool,
        /// The leader asked for this election, so the receiver's loyalty to it is no obstacle.
        transfer: bool,
        /// End of the candidate's log.
        last: EntryId,
        /// The candidate's commit index.
        commit: EntryId,
    },
    /// The answer.
    VoteResponse {
        /// To a pre-vote.
        pre: bool,
        reject: bool,
        /// The voter's commit index, when it refuses.
        commit: EntryId,
    },
    /// The follower's log is too far behind: install this snapshot. Delivered when its bytes are there.
    Snapshot(SnapshotMeta),
    /// The leader is alive.
    Heartbeat {
        /// Commit index, as far as the follower's log is known to match.
        commit: u64,
        /// The read round to confirm.
        round: Option<u64>,
    },
    /// The answer.
    HeartbeatResponse {
        /// The follower's commit index.
        commit: u64,
        /// The round, echoed.
        round: Option<u64>,
    },
    /// The leader tells the next leader to start its election now.
    TimeoutNow,
    /// A follower asks for a read index.
    ReadIndex {
        /// The follower's round.
        round: u64,
    },
    /// The answer.
    ReadIndexResponse {
        /// The follower's round, echoed.
        round: u64,
        /// Reads are valid once this is applied.
        index: u64,
    },
}

/// What a snapshot holds: the state after `id`, and the configuration then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SnapshotMeta {
    pub id: EntryId,
    /// The configuration after that entry.
    pub conf: ConfState,
    /// The shell's own words about the bytes (name, size, checksum).
    pub context: Bytes,
}

/// Which connection a message belongs on: the small and urgent must never wait behind the bulky.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes, heartbeats, acknowledgements, read rounds.
    Urgent,
    /// Entries.
    Bulk,
    Snapshot,
}

/// An entry in the head of a frame.
#[derive(Clone, Copy, Debug, Archive, Serialize, Deserialize)]
struct EntryHead {
    index: u64,
    term: u64,
    len: u32,
    kind: EntryKind,
}

/// The archived head of a frame.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
struct Head {
    group: u32,
    from: MemberId,
    to: MemberId,
    term: u64,
    body: PeerBody,
    entries: Vec<EntryHead>,
}

impl PeerMessage {
    /// Which connection it belongs on.
    pub fn lane(&self) -> Lane {
        match self.body {
            PeerBody::Append { .. } | PeerBody::Propose => Lane::Bulk,
            PeerBody::Snapshot(_) => Lane::Snapshot,
            _ => Lane::Urgent,
        }
    }

    /// Bytes of the entries.
    pub fn entry_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.data.len()).sum()
    }

    /// Appends the frame up to its entries; the frame is complete when the bytes of `entries` follow, in order.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        let head = Head {
            group: self.group.0,
            from: self.from,
            to: self.to,
            term: self.term,
            body: self.body.clone(),
            entries: self.entries.iter().map(EntryHead::of).collect(),
        };
        let start = out.len();
        out.extend_from_slice(&PEER_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; PREFIX_BYTES - 2]);
        *out = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(&head, std::mem::take(out))
            .expect("archiving into memory does not fail");
        let len = out.len() - start - PREFIX_BYTES;
        assert!(len <= PEER_HEAD_BYTES_MAX, "head of {len} bytes");
        out[start + 4..start + PREFIX_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
    }

    /// The whole frame in one buffer, for tests and small messages.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.entry_bytes());
        self.encode_head(&mut out);
        for entry in &self.entries {
            out.extend_from_slice(&entry.data);
        }
        out
    }

    /// Reads a frame; the entries share its bytes.
    pub fn decode(frame: &Bytes) -> Result<PeerMessage, MessageError> {
        let found = frame.len();
        let Some((prefix, rest)) = frame.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(MessageError::Truncated { expected: PREFIX_BYTES, found });
        };
        let version = u16::from_le_bytes([prefix[0], prefix[1]]);
        if version != PEER_VERSION {
            return Err(MessageError::Version { found: version });
        }
        let len = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
        if len > PEER_HEAD_BYTES_MAX {
            return Err(MessageError::TooLarge { what: "head", found: len, max: PEER_HEAD_BYTES_MAX });
        }
        let head = rest.get(..len).ok_or(MessageError::Truncated { expected: PREFIX_BYTES + len, found })?;
        let head = rkyv::from_bytes::<Head, rkyv::rancor::Error>(head)
            .map_err(|error| MessageError::Archive { detail: error.to_string() })?;
        let entries = slice_entries(frame, PREFIX_BYTES + len, &head.entries)?;
        Ok(PeerMessage {
            group: GroupId(head.group),
            from: head.from,
            to: head.to,
            term: head.term,
            body: head.body,
            entries,
        })
    }
}

impl EntryHead {
    fn of(entry: &Entry) -> EntryHead {
        assert!(entry.data.len() <= ENTRY_BYTES_MAX, "entry of {} bytes", entry.data.len());
        EntryHead { index: entry.index, term: entry.term, len: entry.data.len() as u32, kind: entry.kind }
    }
}

fn slice_entries(frame: &Bytes, mut at: usize, heads: &[EntryHead]) -> Result<Vec<Entry>, MessageError> {
    let found = frame.len();
    if heads.len() > PEER_ENTRIES_MAX {
        return Err(MessageError::TooLarge { what: "number of entries", found: heads.len(), max: PEER_ENTRIES_MAX });
    }
    let mut entries = Vec::with_capacity(heads.len());
    for head in heads {
        let len = head.len as usize;
        if len > ENTRY_BYTES_MAX {
            return Err(MessageError::TooLarge { what: "entry", found: len, max: ENTRY_BYTES_MAX });
        }
        if found - at < len {
            return Err(MessageError::Truncated { expected: at + len, found });
        }
        let data = frame.slice(at..at + len);
        entries.push(Entry { index: head.index, term: head.term, kind: head.kind, data });
        at += len;
    }
    if at != found {
        return Err(MessageError::Trailing { expected: at, found });
    }
    Ok(entries)
}
