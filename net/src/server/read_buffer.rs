//! Memory to read into, shared by all connections of a reactor, so that idle connections hold none.
//!
//! A block is filled by one read after the other; what was read is split off and lives as long as somebody (a message
//! on its way through the server) refers to it. A block is given up when little is left of it.

use bytes::{Bytes, BytesMut};

/// Size of a block.
const BLOCK_BYTES: usize = 256 << 10;
/// Room a read must have at least. Also the most that a slow message can keep a block for the sake of.
const READ_BYTES_MIN: usize = 32 << 10;
/// The most that is read at once, which bounds the work between two writes.
const READ_BYTES_MAX: usize = 64 << 10;

/// The current block.
#[derive(Default)]
pub struct ReadBuffer {
    block: BytesMut,
}

impl ReadBuffer {
    /// Room for the next read.
    pub fn room(&mut self) -> &mut [u8] {
        if self.block.len() < READ_BYTES_MIN {
            self.block = BytesMut::zeroed(BLOCK_BYTES);
        }
        let length = self.block.len().min(READ_BYTES_MAX);
        &mut self.block[..length]
    }

    /// Splits off what was read into the room.
    pub fn take(&mut self, count: usize) -> Bytes {
        self.block.split_to(count).freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_keeps_its_bytes() {
        let mut buffer = ReadBuffer::default();
        let mut taken = Vec::new();
        for round in 0..100u8 {
            let count = 5000 + usize::from(round);
            buffer.room()[..count].fill(round);
            taken.push(buffer.take(count));
        }
        for (round, bytes) in taken.iter().enumerate() {
            assert_eq!(bytes.len(), 5000 + round);
            assert!(bytes.iter().all(|byte| usize::from(*byte) == round));
        }
        assert!(buffer.room().len() >= READ_BYTES_MIN);
    }
}
