//! Bytes in, frames out.
//!
//! A frame that lies in one read is a slice of it. One that is cut by the end of a read is assembled in memory of its
//! own, which grows as its bytes arrive; so does its checksum, so that the end of a large frame is no more work than
//! any other piece of it.

use bytes::Bytes;
use crc32fast::Hasher;

use super::frame::{Frame, HEAD_BYTES};
use super::{CRC_BYTES, WireError};

/// Memory set aside at once for a frame whose head has arrived.
const RESERVE_BYTES: usize = 64 << 10;

/// Takes one connection's bytes apart.
#[derive(Debug)]
pub struct FrameDecoder {
    payload_bytes_max: usize,
    /// The rest of what was received last.
    chunk: Bytes,
    /// The beginning of a frame that was cut; all of `chunk` comes behind it.
    partial: Vec<u8>,
    /// Over `partial` but for its first bytes, which are the checksum.
    hasher: Hasher,
    failed: Option<WireError>,
}

impl FrameDecoder {
    /// A decoder that refuses larger payloads.
    pub fn new(payload_bytes_max: usize) -> FrameDecoder {
        FrameDecoder {
            payload_bytes_max,
            chunk: Bytes::new(),
            partial: Vec::new(),
            hasher: Hasher::new(),
            failed: None,
        }
    }

    /// Takes what was read. All frames of earlier reads must have been taken out.
    pub fn receive(&mut self, bytes: Bytes) {
        assert!(self.chunk.is_empty(), "frames of an earlier read wait");
        self.chunk = bytes;
    }

    /// The next frame, or `None` if more bytes are needed. An error is final: where the next frame begins is not known.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.step();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            (self.chunk, self.partial) = (Bytes::new(), Vec::new());
        }
        result
    }

    /// Bytes held for a frame that is not complete.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    fn step(&mut self) -> Result<Option<Frame>, WireError> {
        if self.partial.is_empty() && self.chunk.len() >= HEAD_BYTES {
            let length = Frame::length(&self.chunk, self.payload_bytes_max)?;
            if self.chunk.len() >= length {
                let bytes = self.chunk.split_to(length);
                let found = crc32fast::hash(&bytes[CRC_BYTES..]);
                return Frame::decode(bytes, found).map(Some);
            }
        }
        if !self.assemble(HEAD_BYTES) {
            return Ok(None);
        }
        let length = Frame::length(&self.partial, self.payload_bytes_max)?;
        if !self.assemble(length) {
            return Ok(None);
        }
        let found = std::mem::take(&mut self.hasher).finalize();
        Frame::decode(Bytes::from(std::mem::take(&mut self.partial)), found).map(Some)
    }

    /// Moves bytes from the chunk until there are `length` of them. False if there are not enough.
    fn assemble(&mut self, length: usize) -> bool {
        let missing = length.saturating_sub(self.partial.len());
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        if taken.len() > self.partial.capacity() - self.partial.len() {
            // Doubles what has really arrived, but never beyond the frame's end: the buffer becomes its payload.
            let arrived = self.partial.len() + taken.len();
            let capacity = length.min(RESERVE_BYTES.max(2 * arrived));
            self.partial.reserve_exact(capacity - self.partial.len());
        }
        let unhashed = self.partial.len().max(CRC_BYTES);
        self.partial.extend_from_slice(&taken);
        self.hasher.update(self.partial.get(unhashed..).unwrap_or_default());
        taken.len() == missing
    }
}
