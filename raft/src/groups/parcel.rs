//! What one machine sends to another at a time, and how it looks on the wire.
//!
//! Layout, little endian:
//! ```text
//!  0 u16 version   2 u16 flags: 1 = sign of life   4 u32 bytes before the entries' own
//!  8 u64 from     16 u64 to    24 u32 groups asleep   28 u32 messages
//! 32 sign of life, if there is one:  u64 life   u64 life of the receiver that is heard (0 = none)   u32 groups led   u32 zero
//!    each group asleep:              u32 group   u64 term   u64 commit
//!    each message:                   u32 group   u8 kind   u8 flags   u16 zero   u64 term   then by kind:
//!      0 propose                u32 entries, each: u64 index  u64 term  u32 length  u8 kind
//!      1 append                 u64 previous index  u64 its term  u64 commit   then entries as above
//!      2 append response        u64 index  u64 commit  u64 snapshot asked for   flag 1: u64 hint index  u64 its term
//!      3 vote                   u64 last index  u64 its term  u64 commit index  u64 its term   flags 1: pre, 2: transfer
//!      4 vote response          u64 commit index  u64 its term   flags 1: pre, 2: refused
//!      5 snapshot               u64 index  u64 term  u32 length, configuration  u32 length, context
//!      6 heartbeat              u64 commit   flag 1: u64 round
//!      7 heartbeat response     u64 commit   flag 1: u64 round
//!      8 time out now
//!      9 read index             u64 round
//!     10 read index response    u64 round  u64 index
//!    the entries' bytes, in order: the same that go to the log
//! ```
//! All that is before the entries' bytes is one buffer; the sender writes it and then the bytes where they are, and the
//! receiver slices them out of the frame: nothing is copied.
//!
//! Invariants: a decoded parcel is well formed as bytes; whether its messages make sense is checked by `Group::step`. No
//! length in it makes the reader take memory that the frame does not hold. A change of layout is a new version, which
//! both machines have to know before it is sent.
//!
//! Not here: connections, and the checksum that they add.

use bytes::Bytes;

use super::spares::Spares;
use crate::GroupId;
use crate::conf::ConfState;
use crate::error::MessageError;
use crate::limits::{ENTRY_BYTES_MAX, PARCEL_ASLEEP_MAX, PARCEL_HEAD_BYTES_MAX, PARCEL_MESSAGES_MAX, PEER_ENTRIES_MAX};
use crate::message::{PeerBody, PeerMessage, SnapshotMeta};
use crate::types::{Entry, EntryId, EntryKind, MemberId};

/// Version of everything in a parcel.
pub const PARCEL_VERSION: u16 = 1;
const FIXED_BYTES: usize = 32;
const FLAG_SIGN: u16 = 1;

/// A sign of life: the sender's disk works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// The sender's life, not zero.
    pub life: u64,
    /// The receiver's life that the sender has heard from within an election time; zero for none.
    pub hears: u64,
    /// Groups that the sender leads.
    pub leads: u32,
}

/// How a group lies that its leader has put to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    pub group: GroupId,
    /// In which term the sender leads it.
    pub term: u64,
    /// All of its log, committed.
    pub commit: u64,
}

/// What one machine sends to another at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub from: MemberId,
    pub to: MemberId,
    /// A sign of life, if one was due.
    pub sign: Option<Sign>,
    /// Groups that the sender has just put to sleep.
    pub asleep: Vec<Asleep>,
    /// Messages of any groups, in order. Sender and receiver are those of the parcel.
    pub messages: Vec<PeerMessage>,
}

/// Bytes that a message adds to the part before the entries, at most, but for the context of a snapshot.
pub(super) fn head_bytes(message: &PeerMessage) -> usize {
    let snapshot = match &message.body {
        PeerBody::Snapshot(meta) => meta.context.len() + 2048,
        _ => 0,
    };
    64 + 21 * message.entries.len() + snapshot
}

impl Parcel {
    /// The entries of all messages, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.messages.iter().flat_map(|message| &message.entries)
    }

    /// Appends everything up to the entries' bytes; the frame is complete when the bytes of [`Parcel::entries`] follow.
    ///
    /// # Panics
    /// If it is beyond the bounds, or a message is of another pair of machines.
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        assert!(
            self.messages.len() <= PARCEL_MESSAGES_MAX && self.asleep.len() <= PARCEL_ASLEEP_MAX,
            "a parcel is within the bounds by which it is read"
        );
        let start = out.len();
        let put32 = |out: &mut Vec<u8>, value: usize| out.extend_from_slice(&(value as u32).to_le_bytes());
        out.extend_from_slice(&PARCEL_VERSION.to_le_bytes());
        out.extend_from_slice(&(if self.sign.is_some() { FLAG_SIGN } else { 0 }).to_le_bytes());
        put32(out, 0);
        put(out, &[self.from.0, self.to.0]);
        put32(out, self.asleep.len());
        put32(out, self.messages.len());
        if let Some(Sign { life, hears, leads }) = self.sign {
            put(out, &[life, hears, u64::from(leads)]);
        }
        for Asleep { group, term, commit } in &self.asleep {
            put32(out, group.0 as usize);
            put(out, &[*term, *commit]);
        }
        for message in &self.messages {
            assert!((message.from, message.to) == (self.from, self.to), "a parcel is of one pair of machines");
            encode_message(message, out);
        }
        let len = out.len() - start;
        assert!(len <= PARCEL_HEAD_BYTES_MAX, "{len} bytes before the entries");
        out[start + 4..start + 8].copy_from_slice(&(len as u32).to_le_bytes());
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        self.entries().for_each(|entry| out.extend_from_slice(&entry.data));
    }

    /// Reads a frame; the entries share its bytes.
    pub fn decode(frame: &Bytes) -> Result<Parcel, MessageError> {
        Parcel::decode_into(frame, &mut Spares::default())
    }

    /// The same, into buffers that are there.
    pub(super) fn decode_into(frame: &Bytes, spares: &mut Spares) -> Result<Parcel, MessageError> {
        let mut head = Head { bytes: frame, at: 0 };
        let version = head.u16()?;
        if version != PARCEL_VERSION {
            return Err(MessageError::Version { found: version });
        }
        let flags = head.u16()?;
        if flags & !FLAG_SIGN != 0 {
            return unknown("flags of a parcel", u64::from(flags));
        }
        let len = bounded("head", head.u32()? as usize, PARCEL_HEAD_BYTES_MAX)?;
        if len < FIXED_BYTES || len > frame.len() {
            return Err(MessageError::Truncated { expected: len.max(FIXED_BYTES), found: frame.len() });
        }
        head.bytes = &frame[..len];
        let (from, to) = (MemberId(head.u64()?), MemberId(head.u64()?));
        let asleep = bounded("number of sleeping groups", head.u32()? as usize, PARCEL_ASLEEP_MAX)?;
        let messages = bounded("number of messages", head.u32()? as usize, PARCEL_MESSAGES_MAX)?;
        let sign = if flags & FLAG_SIGN != 0 { Some(head.sign()?) } else { None };
        let mut parcel = Parcel { from, to, sign, asleep: spares.asleep(), messages: spares.messages() };
        let mut slices = Slices { frame, at: len };
        for _ in 0..asleep {
            parcel.asleep.push(Asleep { group: GroupId(head.u32()?), term: head.u64()?, commit: head.u64()? });
        }
        for _ in 0..messages {
            parcel.messages.push(decode_message(from, to, &mut head, &mut slices, spares)?);
        }
        if head.at != len {
            return Err(MessageError::Trailing { expected: head.at, found: len });
        }
        if slices.at != frame.len() {
            return Err(MessageError::Trailing { expected: slices.at, found: frame.len() });
        }
        Ok(parcel)
    }
}

fn put(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Kind and flags of a message.
fn kind_of(body: &PeerBody) -> (u8, u8) {
    let flags = |first: bool, second: bool| u8::from(first) | u8::from(second) << 1;
    match body {
        PeerBody::Propose => (0, 0),
        PeerBody::Append { .. } => (1, 0),
        PeerBody::AppendResponse { reject, .. } => (2, flags(reject.is_some(), false)),
        PeerBody::Vote { pre, transfer, .. } => (3, flags(*pre, *transfer)),
        PeerBody::VoteResponse { pre, reject, .. } => (4, flags(*pre, *reject)),
        PeerBody::Snapshot(_) => (5, 0),
        PeerBody::Heartbeat { round, .. } => (6, flags(round.is_some(), false)),
        PeerBody::HeartbeatResponse { round, .. } => (7, flags(round.is_some(), false)),
        PeerBody::TimeoutNow => (8, 0),
        PeerBody::ReadIndex { .. } => (9, 0),
        PeerBody::ReadIndexResponse { .. } => (10, 0),
    }
}

fn encode_message(message: &PeerMessage, out: &mut Vec<u8>) {
    let (kind, flags) = kind_of(&message.body);
    out.extend_from_slice(&message.group.0.to_le_bytes());
    out.extend_from_slice(&[kind, flags, 0, 0]);
    put(out, &[message.term]);
    match &message.body {
        PeerBody::Propose => encode_entries(&message.entries, out),
        PeerBody::Append { prev, commit } => {
            put(out, &[prev.index, prev.term, *commit]);
            encode_entries(&message.entries, out);
        }
        PeerBody::AppendResponse { index, commit, reject, request_snapshot } => {
            put(out, &[*index, *commit, *request_snapshot]);
            if let Some(hint) = reject {
                put(out, &[hint.index, hint.term]);
            }
        }
        PeerBody::Vote { last, commit, .. } => put(out, &[last.index, last.term, commit.index, commit.term]),
        PeerBody::VoteResponse { commit, .. } => put(out, &[commit.index, commit.term]),
        PeerBody::Snapshot(meta) => {
            put(out, &[meta.id.index, meta.id.term]);
            put_bytes(out, &meta.conf.encode());
            put_bytes(out, &meta.context);
        }
        PeerBody::Heartbeat { commit, round } | PeerBody::HeartbeatResponse { commit, round } => {
            put(out, &[*commit]);
            put(out, round.as_slice());
        }
        PeerBody::TimeoutNow => {}
        PeerBody::ReadIndex { round } => put(out, &[*round]),
        PeerBody::ReadIndexResponse { round, index } => put(out, &[*round, *index]),
    }
}

fn encode_entries(entries: &[Entry], out: &mut Vec<u8>) {
    assert!(entries.len() <= PEER_ENTRIES_MAX, "a message is within the bounds by which it is read");
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    for entry in entries {
        assert!(entry.data.len() <= ENTRY_BYTES_MAX, "entry of {} bytes", entry.data.len());
        put(out, &[entry.index, entry.term]);
        out.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
        out.push(entry.kind as u8);
    }
}

fn unknown<T>(what: &'static str, found: u64) -> Result<T, MessageError> {
    Err(MessageError::Unknown { what, found })
}

fn bounded(what: &'static str, found: usize, max: usize) -> Result<usize, MessageError> {
    if found > max { Err(MessageError::TooLarge { what, found, max }) } else { Ok(found) }
}

/// What is before the entries' bytes, and how far it is read.
struct Head<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Head<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let end = self.at + len;
        let found = self.bytes.len();
        let bytes = self.bytes.get(self.at..end).ok_or(MessageError::Truncated { expected: end, found })?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    fn u8(&mut self) -> Result<u8, MessageError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, MessageError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, MessageError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, MessageError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn id(&mut self) -> Result<EntryId, MessageError> {
        Ok(EntryId { index: self.u64()?, term: self.u64()? })
    }

    fn bytes(&mut self) -> Result<&'a [u8], MessageError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    fn sign(&mut self) -> Result<Sign, MessageError> {
        let (life, hears, leads) = (self.u64()?, self.u64()?, self.u64()?);
        if life == 0 {
            return unknown("life", 0);
        }
        let Ok(leads) = u32::try_from(leads) else { return unknown("number of groups led", leads) };
        Ok(Sign { life, hears, leads })
    }

    fn round(&mut self, flags: u8) -> Result<Option<u64>, MessageError> {
        if flags & 1 != 0 { self.u64().map(Some) } else { Ok(None) }
    }
}

/// The entries' bytes, and how far they are given out.
struct Slices<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl Slices<'_> {
    fn take(&mut self, len: usize) -> Result<Bytes, MessageError> {
        let (end, found) = (self.at + len, self.frame.len());
        if end > found {
            return Err(MessageError::Truncated { expected: end, found });
        }
        let slice = self.frame.slice(self.at..end);
        self.at = end;
        Ok(slice)
    }
}

/// Flags that a kind of message may have.
fn flags_of(kind: u8) -> u8 {
    match kind {
        3 | 4 => 3,
        2 | 6 | 7 => 1,
        _ => 0,
    }
}

fn decode_message(
    from: MemberId,
    to: MemberId,
    head: &mut Head<'_>,
    slices: &mut Slices<'_>,
    spares: &mut Spares,
) -> Result<PeerMessage, MessageError> {
    let (group, kind, flags) = (GroupId(head.u32()?), head.u8()?, head.u8()?);
    if head.u16()? != 0 || flags & !flags_of(kind) != 0 {
        return unknown("flags of a message", u64::from(flags));
    }
    let term = head.u64()?;
    let (first, second) = (flags & 1 != 0, flags & 2 != 0);
    let mut entries = Vec::new();
    let body = match kind {
        0 => {
            decode_entries(head, slices, spares, &mut entries)?;
            PeerBody::Propose
        }
        1 => {
            let (prev, commit) = (head.id()?, head.u64()?);
            decode_entries(head, slices, spares, &mut entries)?;
            PeerBody::Append { prev, commit }
        }
        2 => {
            let (index, commit, request_snapshot) = (head.u64()?, head.u64()?, head.u64()?);
            let reject = if first { Some(head.id()?) } else { None };
            PeerBody::AppendResponse { index, commit, reject, request_snapshot }
        }
        3 => PeerBody::Vote { pre: first, transfer: second, last: head.id()?, commit: head.id()? },
        4 => PeerBody::VoteResponse { pre: first, reject: second, commit: head.id()? },
        5 => {
            let id = head.id()?;
            let conf = ConfState::decode(head.bytes()?)
                .map_err(|error| MessageError::Archive { detail: error.to_string() })?;
            PeerBody::Snapshot(SnapshotMeta { id, conf, context: Bytes::copy_from_slice(head.bytes()?) })
        }
        6 => PeerBody::Heartbeat { commit: head.u64()?, round: head.round(flags)? },
        7 => PeerBody::HeartbeatResponse { commit: head.u64()?, round: head.round(flags)? },
        8 => PeerBody::TimeoutNow,
        9 => PeerBody::ReadIndex { round: head.u64()? },
        10 => PeerBody::ReadIndexResponse { round: head.u64()?, index: head.u64()? },
        kind => return unknown("kind of message", u64::from(kind)),
    };
    Ok(PeerMessage { group, from, to, term, body, entries })
}

fn decode_entries(
    head: &mut Head<'_>,
    slices: &mut Slices<'_>,
    spares: &mut Spares,
    entries: &mut Vec<Entry>,
) -> Result<(), MessageError> {
    let count = bounded("number of entries", head.u32()? as usize, PEER_ENTRIES_MAX)?;
    if count > 0 {
        *entries = spares.entries();
    }
    for _ in 0..count {
        let (index, term) = (head.u64()?, head.u64()?);
        let len = bounded("entry", head.u32()? as usize, ENTRY_BYTES_MAX)?;
        let kind = head.u8()?;
        let Some(kind) = EntryKind::from_u8(kind) else { return unknown("kind of entry", u64::from(kind)) };
        entries.push(Entry { index, term, kind, data: slices.take(len)? });
    }
    Ok(())
}
