//! One buffer being filled with records, for one place in one segment.
//!
//! Invariants: `used` is a multiple of 8 and at most the capacity; the chunk starts at a block boundary; once
//! finished its length is whole blocks with zeros behind the last record. Deliberately absent: deciding where a chunk
//! goes and when it is written (`wal`).

use crate::format::{Identity, RecordHeader};
use crate::limits::{BLOCK_BYTES, RECORD_ALIGN, RECORD_HEADER_BYTES, block_up, record_bytes};
use crate::sys::AlignedBuf;
use crate::types::{GroupId, Lsn, RecordKind, SegmentSeq, WalId};

/// What a record says about itself.
#[derive(Clone, Copy)]
pub(crate) struct RecordMeta {
    pub lsn: Lsn,
    pub durable: Lsn,
    pub group: GroupId,
    pub kind: RecordKind,
    pub schema: u16,
}

/// How far the durable end is behind. (It never is by 2^32 records: memory bounds what is pending.)
fn behind(lsn: Lsn, durable: Lsn) -> u32 {
    u32::try_from(lsn.get() - durable.get()).expect("pending records fit memory")
}

#[derive(Debug)]
pub(crate) struct Chunk {
    pub segment: SegmentSeq,
    pub offset: u64,
    /// The newest segment that must exist before this may be written.
    pub requires: SegmentSeq,
    pub last: Lsn,
    /// Reach of its segment.
    pub reach: u64,
    identity: Identity,
    used: usize,
    /// Bytes it may hold: the buffer's, or less if the segment's reach is.
    capacity: usize,
    buffer: AlignedBuf,
}

impl Chunk {
    pub fn new(segment: SegmentSeq, wal: WalId, reach: u64, offset: u64, buffer: AlignedBuf) -> Self {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "chunks start at a block boundary");
        let identity = Identity::new(wal, segment);
        let capacity = buffer.capacity().min(reach as usize - BLOCK_BYTES);
        Self { segment, offset, requires: segment, last: Lsn::ZERO, reach, identity, used: 0, capacity, buffer }
    }

    /// Bytes a write of it takes.
    pub fn whole_bytes(&self) -> usize {
        block_up(self.used as u64) as usize
    }

    /// Bytes filled so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether a record of this size (header and padding included) still fits the buffer.
    pub fn fits(&self, record_bytes: usize) -> bool {
        record_bytes <= self.capacity - self.used
    }

    /// Copies a record's pieces behind the last one. One pass over the payload for the copy, one for the checksum
    /// while it is in the cache.
    pub fn push(&mut self, meta: RecordMeta, payload: &[&[u8]], length: usize) {
        assert!(meta.lsn > self.last, "records are appended in order");
        assert!(meta.durable < meta.lsn, "a record is not durable before it is written");
        let size = record_bytes(length);
        assert!(self.fits(size), "the caller checked `fits`");
        let (header, rest) = self.buffer.bytes_mut()[self.used..self.used + size].split_at_mut(RECORD_HEADER_BYTES);
        let mut at = 0;
        for piece in payload {
            rest[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        assert_eq!(at, length, "length is the sum of the pieces");
        rest[at..].fill(0);
        let record = RecordHeader {
            payload_crc: self.identity.crc(&rest[..length]),
            lsn: meta.lsn,
            length: u32::try_from(length).expect("a record fits a segment"),
            behind: behind(meta.lsn, meta.durable),
            group: meta.group,
            schema: meta.schema,
            kind: meta.kind.code(),
        };
        header.copy_from_slice(&record.encode(self.identity));
        self.used += size;
        self.last = meta.lsn;
        debug_assert!(self.used.is_multiple_of(RECORD_ALIGN));
    }

    /// Zeros behind the last record up to the block boundary; gives the buffer and the bytes to write.
    ///
    /// The first record learns what is durable now: it was appended some time ago, but it is written after all up to
    /// here, and that is what makes it a witness for every chunk that was in flight no more.
    pub fn finish(mut self, durable: Lsn) -> (AlignedBuf, usize) {
        let whole = self.whole_bytes();
        let bytes = &mut self.buffer.bytes_mut()[..whole];
        bytes[self.used..].fill(0);
        let first = bytes.first_chunk_mut::<RECORD_HEADER_BYTES>().expect("a chunk holds a record");
        let header = RecordHeader::decode(first, self.identity).expect("encoded by `push`");
        assert!(durable < header.lsn, "a record is not durable before it is written");
        *first = RecordHeader { behind: behind(header.lsn, durable), ..header }.encode(self.identity);
        (self.buffer, whole)
    }
}
