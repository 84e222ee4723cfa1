//! One frame: its head, and what it says.

use bytes::Bytes;
use crc32fast::Hasher;

use super::{CRC_BYTES, WireError, check_crc, u16_at, u32_at};

/// Bytes in front of a payload.
pub const HEAD_BYTES: usize = 16;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A message, not answered. Dialer to acceptor.
    Message = 1,
    /// A request, answered by one response or failure with its id. Dialer to acceptor.
    Request = 2,
    /// The answer.
    Response = 3,
    /// There is no answer; the code says why.
    Failure = 4,
    /// Are you there? Dialer to acceptor.
    Ping = 5,
    /// I am, with the id of the ping.
    Pong = 6,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<FrameKind> {
        [
            FrameKind::Message,
            FrameKind::Request,
            FrameKind::Response,
            FrameKind::Failure,
            FrameKind::Ping,
            FrameKind::Pong,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What stands in front of a payload, but for its length and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// What the frame is for.
    pub kind: FrameKind,
    /// Kind of a request, reason of a failure, otherwise zero.
    pub code: u16,
    /// Ties answers to requests and pongs to pings; zero in messages.
    pub id: u32,
}

impl FrameHead {
    /// The 16 bytes in front of a payload that consists of `pieces`. The length must fit 32 bits.
    pub fn encode<'a>(&self, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> [u8; HEAD_BYTES] {
        let length = pieces.clone().map(<[u8]>::len).sum::<usize>();
        let mut head = [0; HEAD_BYTES];
        head[4..8].copy_from_slice(&u32::try_from(length).expect("frames are far below 4 GiB").to_le_bytes());
        head[8] = self.kind as u8;
        head[10..12].copy_from_slice(&self.code.to_le_bytes());
        head[12..16].copy_from_slice(&self.id.to_le_bytes());
        let mut hasher = Hasher::new();
        hasher.update(&head[CRC_BYTES..]);
        pieces.for_each(|piece| hasher.update(piece));
        head[..CRC_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
        head
    }
}

/// A frame that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub head: FrameHead,
    /// What it carries.
    pub payload: Bytes,
}

impl Frame {
    /// The whole frame in one buffer, for tests and tools.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head.encode(std::iter::once(&self.payload[..])).to_vec();
        out.extend_from_slice(&self.payload);
        out
    }

    /// Bytes of the whole frame whose head is at the front of `bytes`. Refuses what could not be one, early.
    pub(super) fn length(bytes: &[u8], payload_bytes_max: usize) -> Result<usize, WireError> {
        let length = u32_at(bytes, 4) as usize;
        if length > payload_bytes_max {
            return Err(WireError::TooLarge { length, max: payload_bytes_max });
        }
        Ok(HEAD_BYTES + length)
    }

    /// Reads a whole frame whose bytes behind the checksum have the checksum `found`; the payload shares them.
    pub(super) fn decode(bytes: Bytes, found: u32) -> Result<Frame, WireError> {
        check_crc(u32_at(&bytes, 0), found)?;
        let kind = FrameKind::from_byte(bytes[8]).ok_or(WireError::Kind(bytes[8]))?;
        let head = FrameHead { kind, code: u16_at(&bytes, 10), id: u32_at(&bytes, 12) };
        let payload = bytes.slice(HEAD_BYTES..);
        let coded = matches!(kind, FrameKind::Request | FrameKind::Failure);
        let numbered = kind != FrameKind::Message;
        let loaded = matches!(kind, FrameKind::Message | FrameKind::Request | FrameKind::Response);
        if bytes[9] != 0 || head.code != 0 && !coded || head.id != 0 && !numbered || !payload.is_empty() && !loaded {
            return Err(WireError::Malformed("frame"));
        }
        Ok(Frame { head, payload })
    }
}
