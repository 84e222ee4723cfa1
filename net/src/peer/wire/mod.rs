//! What members say to each other, as bytes: no sockets and no clock here.
//!
//! A connection begins with a [`Hello`] of the one who dials and an [`Answer`] of the one who accepts; if that is
//! [`Verdict::Accepted`], frames follow in both directions. All numbers are little endian.
//!
//! ```text
//! opening  0  magic (8)   8  u16 length of all   10 ..  fields   last 4  u32 crc32 of everything before it
//! hello    10 u16 lowest version   12 u16 highest   14 u8 lane   15 u8 zero   16 u64 cluster   24 u64 from   32 u64 to
//! answer   10 u16 verdict          12 u16 version   14 u16 zero              16 u64 who answers
//!        then what was added since, each u8 kind, u16 length, bytes: kind 1, an address at which the sender itself listens;
//!        kind 2, u16: how new what is replicated may be for the sender to read it
//! frame    0  u32 crc32 of the rest   4 u32 payload length   8 u8 kind   9 u8 zero   10 u16 code   12 u32 id   16 payload
//! ```
//!
//! Invariants: nothing that was decoded was damaged on the way; an opening may be longer than this version knows, and
//! what it adds is skipped, so that versions can be negotiated for ever; no memory is set aside for a length alone.
//! The first byte is none that HTTP or TLS begin with.

mod decoder;
mod frame;
#[cfg(test)]
mod tests;

use super::{Lane, Refusal};

pub use decoder::FrameDecoder;
pub use frame::{Frame, FrameHead, FrameKind, HEAD_BYTES};

/// How a [`Hello`] begins.
pub const HELLO_MAGIC: [u8; 8] = *b"\xb7PLINTH\n";
/// How an [`Answer`] begins. Not as a hello does: a socket that was connected to itself by accident must not agree with
/// itself.
pub const ANSWER_MAGIC: [u8; 8] = *b"\xb7PLINTA\n";
/// The oldest version of frames we speak.
pub const VERSION_LOWEST: u16 = 1;
/// The newest version of frames we speak.
pub const VERSION_HIGHEST: u16 = 1;
/// Length of an opening at most, whatever later versions add to it.
pub const OPENING_BYTES_MAX: usize = 1024;

const HELLO_BYTES: usize = 44;
const ANSWER_BYTES: usize = 28;
/// What is added to a hello: an address of the one who dials.
const ADDRESS: u8 = 1;
/// What is added to a hello: how new what its sender reads may be.
const READS: u8 = 2;
/// Kind and length in front of what is added.
const ADDED_HEAD_BYTES: usize = 3;
/// Where the fields of an opening begin.
const FIELDS: usize = 10;
/// A checksum, which does not cover itself.
const CRC_BYTES: usize = 4;

/// Why bytes are not what a member says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The connection does not begin as it should.
    #[error("the connection does not begin as one between members")]
    Magic,
    /// An opening of impossible length.
    #[error("an opening of {0} bytes")]
    OpeningLength(usize),
    /// Bytes were changed on the way.
    #[error("checksum {found:08x} where {expected:08x} was expected")]
    Checksum {
        /// What the sender said.
        expected: u32,
        /// What the bytes say.
        found: u32,
    },
    /// No such lane.
    #[error("unknown lane {0}")]
    Lane(u8),
    /// Longer than agreed.
    #[error("a frame of {length} bytes, more than {max}")]
    TooLarge {
        /// Bytes of the payload.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// No such kind of frame.
    #[error("unknown kind of frame {0}")]
    Kind(u8),
    /// A field that must be zero is not, or a payload is where none belongs.
    #[error("a malformed {0}")]
    Malformed(&'static str),
    /// A kind of frame that does not travel in this direction.
    #[error("a {0:?} in the wrong direction")]
    Direction(FrameKind),
}

/// What the one who dials says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version it speaks.
    pub version_lowest: u16,
    /// The newest version it speaks.
    pub version_highest: u16,
    /// What the connection is for.
    pub lane: Lane,
    /// The cluster it belongs to.
    pub cluster: u64,
    /// Its member id.
    pub from: u64,
    /// The member it wants to talk to.
    pub to: u64,
}

/// What the sender of a hello says of itself besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Addresses at which it listens.
    pub addresses: Vec<String>,
    /// How new what is replicated may be for it to read it, by numbers of those who use the transport; 0 if it does not say.
    pub reads: u16,
}

/// A hello, and what its sender says besides.
pub type Introduction = (Hello, Told);

/// What the one who accepts says to a [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The member that answers.
    pub member: u64,
    /// Whether it will listen.
    pub verdict: Verdict,
}

/// The answer's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Frames of this version may follow.
    Accepted {
        /// The newest version both speak.
        version: u16,
    },
    /// The connection will be closed.
    Refused(Refusal),
}

impl Hello {
    /// A hello of this software.
    pub fn new(cluster: u64, from: u64, to: u64, lane: Lane) -> Hello {
        Hello { version_lowest: VERSION_LOWEST, version_highest: VERSION_HIGHEST, lane, cluster, from, to }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(&[], 0)
    }

    /// The bytes of one that says what its sender reads, and where it listens, as many of the addresses as there is room for.
    /// Who does not know of that skips it.
    pub fn encode_with(&self, addresses: &[String], reads: u16) -> Vec<u8> {
        let mut added = Vec::new();
        if reads != 0 {
            added.extend_from_slice(&[READS, 2, 0]);
            added.extend_from_slice(&reads.to_le_bytes());
        }
        for address in addresses {
            if HELLO_BYTES + added.len() + ADDED_HEAD_BYTES + address.len() <= OPENING_BYTES_MAX {
                added.push(ADDRESS);
                added.extend_from_slice(&(address.len() as u16).to_le_bytes());
                added.extend_from_slice(address.as_bytes());
            }
        }
        let length = HELLO_BYTES + added.len();
        let mut out = begin_opening(HELLO_MAGIC, length);
        out.extend_from_slice(&self.version_lowest.to_le_bytes());
        out.extend_from_slice(&self.version_highest.to_le_bytes());
        out.extend_from_slice(&[self.lane as u8, 0]);
        for number in [self.cluster, self.from, self.to] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&added);
        end_opening(out, length)
    }

    /// As [`Hello::decode`], with what the sender says besides.
    pub fn decode_with(input: &[u8]) -> Result<Option<(Introduction, usize)>, WireError> {
        let Some((hello, length)) = Hello::decode(input)? else { return Ok(None) };
        let mut added = &input[HELLO_BYTES - CRC_BYTES..length - CRC_BYTES];
        let mut told = Told::default();
        while let [kind, low, high, rest @ ..] = added
            && let Some((bytes, rest)) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))
        {
            match (*kind, bytes) {
                (ADDRESS, _) => told.addresses.extend(std::str::from_utf8(bytes).ok().map(str::to_owned)),
                (READS, [low, high]) => told.reads = u16::from_le_bytes([*low, *high]),
                _ => {}
            }
            added = rest;
        }
        Ok(Some(((hello, told), length)))
    }

    /// Reads the hello at the front of `input`: it and its length, or `None` if more bytes are needed.
    pub fn decode(input: &[u8]) -> Result<Option<(Hello, usize)>, WireError> {
        let Some(bytes) = opening(input, HELLO_MAGIC, HELLO_BYTES)? else { return Ok(None) };
        let hello = Hello {
            version_lowest: u16_at(bytes, FIELDS),
            version_highest: u16_at(bytes, 12),
            lane: Lane::from_byte(bytes[14]).ok_or(WireError::Lane(bytes[14]))?,
            cluster: u64_at(bytes, 16),
            from: u64_at(bytes, 24),
            to: u64_at(bytes, 32),
        };
        Ok(Some((hello, bytes.len())))
    }

    /// The newest version both sides speak.
    pub fn common_version(&self) -> Option<u16> {
        let newest = self.version_highest.min(VERSION_HIGHEST);
        (newest >= self.version_lowest.max(VERSION_LOWEST)).then_some(newest)
    }
}

impl Answer {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (verdict, version) = match self.verdict {
            Verdict::Accepted { version } => (0, version),
            Verdict::Refused(refusal) => (refusal.code(), 0),
        };
        let mut out = begin_opening(ANSWER_MAGIC, ANSWER_BYTES);
        for number in [verdict, version, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.member.to_le_bytes());
        end_opening(out, ANSWER_BYTES)
    }

    /// Reads the answer at the front of `input`: it and its length, or `None` if more bytes are needed.
    pub fn decode(input: &[u8]) -> Result<Option<(Answer, usize)>, WireError> {
        let Some(bytes) = opening(input, ANSWER_MAGIC, ANSWER_BYTES)? else { return Ok(None) };
        let verdict = match u16_at(bytes, FIELDS) {
            0 => Verdict::Accepted { version: u16_at(bytes, 12) },
            code => Verdict::Refused(Refusal::from_code(code)),
        };
        Ok(Some((Answer { member: u64_at(bytes, 16), verdict }, bytes.len())))
    }
}

fn begin_opening(magic: [u8; 8], length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out
}

fn end_opening(mut out: Vec<u8>, length: usize) -> Vec<u8> {
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    assert_eq!(out.len(), length, "the declared length of an opening is its length");
    out
}

/// The whole opening at the front of `input`, which has at least `length_min` bytes, checked.
fn opening(input: &[u8], magic: [u8; 8], length_min: usize) -> Result<Option<&[u8]>, WireError> {
    let known = input.len().min(magic.len());
    if input[..known] != magic[..known] {
        return Err(WireError::Magic);
    }
    if input.len() < FIELDS {
        return Ok(None);
    }
    let length = usize::from(u16_at(input, magic.len()));
    if !(length_min..=OPENING_BYTES_MAX).contains(&length) {
        return Err(WireError::OpeningLength(length));
    }
    let Some(bytes) = input.get(..length) else { return Ok(None) };
    let (fields, crc) = bytes.split_at(length - CRC_BYTES);
    check_crc(u32_at(crc, 0), crc32fast::hash(fields))?;
    Ok(Some(bytes))
}

fn check_crc(expected: u32, found: u32) -> Result<(), WireError> {
    if expected == found { Ok(()) } else { Err(WireError::Checksum { expected, found }) }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
