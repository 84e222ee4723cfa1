//! Every byte the log writes.
//!
//! A segment is a file of fixed size. Its first block holds the segment header and nothing else; records follow.
//!
//! ```text
//! segment header (64 bytes)            record header (32 bytes), at a multiple of 8
//!   0  magic "PLNTHWAL"                  0  header crc   (over bytes 4..32)
//!   8  format version                    4  payload crc
//!  12  crc (over the other 60)           8  lsn
//!  16  wal id                           16  payload length
//!  24  segment number                   20  behind: lsn - durable lsn
//!  32  segment bytes                    24  group
//!  40  flags: 1 = recycled file         28  schema version of the payload
//!  44  zero                             30  kind      31  zero
//!  48  reach
//! ```
//!
//! Invariants:
//! - All integers are little-endian. Both checksums of a record start from the segment's [`Identity`], which differs
//!   between any two segments of a log, so a record left over in a recycled file never validates: for equal bytes,
//!   CRC-32 with different initial values always gives different results.
//! - `behind` makes every record a witness: everything up to `lsn - behind` was durable before it was written. The
//!   first record of each write says what was durable when it was submitted, so a write submitted after another had
//!   ended proves that one. That is what tells a damaged log from a torn one (see `recovery_table`).
//! - `reach` bounds what a writer does: what is in flight together takes at least a block less. So whatever unfinished
//!   flushes left behind the last record, and the first witness behind a damaged one, begin within `reach` of the
//!   block boundary behind the last record, or of the next segment's first record: all writes between a damaged one
//!   and its first witness were in flight together with it.
//! - A flush starts at a block boundary. Readers look for the next record right behind the last one, then at the next
//!   boundary; sequence numbers without a gap say which one it is. Padding needs no record of its own.
//!
//! Deliberately absent: files and I/O; what a payload means.

use crate::limits::{
    BLOCK_BYTES, REACH_MIN, RECORD_HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES,
};
use crate::types::{GroupId, Lsn, SegmentSeq, WalId};

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"PLNTHWAL";
/// Version of both layouts in this file.
pub const FORMAT_VERSION: u32 = 1;

/// Schema of a `Segment` record that ends a segment: the log goes on in the next one.
pub(crate) const SCHEMA_SEAL: u16 = 1;
/// Schema of a `Segment` record that only bears witness to what is durable.
pub(crate) const SCHEMA_WITNESS: u16 = 2;

const FLAG_RECYCLED: u32 = 1;

mod segment_at {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = MAGIC + 8;
    pub const CRC: usize = VERSION + 4;
    pub const WAL: usize = CRC + 4;
    pub const SEQ: usize = WAL + 8;
    pub const BYTES: usize = SEQ + 8;
    pub const FLAGS: usize = BYTES + 8;
    pub const RESERVED: usize = FLAGS + 4;
    pub const REACH: usize = RESERVED + 4;
    pub const END: usize = REACH + 16;
}

mod record_at {
    pub const HEADER_CRC: usize = 0;
    pub const PAYLOAD_CRC: usize = HEADER_CRC + 4;
    pub const LSN: usize = PAYLOAD_CRC + 4;
    pub const LENGTH: usize = LSN + 8;
    pub const BEHIND: usize = LENGTH + 4;
    pub const GROUP: usize = BEHIND + 4;
    pub const SCHEMA: usize = GROUP + 4;
    pub const KIND: usize = SCHEMA + 2;
    pub const RESERVED: usize = KIND + 1;
    pub const END: usize = RESERVED + 1;
}

const _: () = {
    assert!(segment_at::END == SEGMENT_HEADER_BYTES);
    assert!(segment_at::CRC == 12 && segment_at::SEQ == 24 && segment_at::FLAGS == 40 && segment_at::REACH == 48);
    assert!(record_at::END == RECORD_HEADER_BYTES);
    assert!(record_at::LSN == 8 && record_at::GROUP == 24 && record_at::KIND == 30);
};

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Initial value of every checksum in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u32);

impl Identity {
    /// The identity of a segment. Distinct for any two segments of a log less than 2^32 apart.
    pub fn new(wal: WalId, seq: SegmentSeq) -> Self {
        Self(crc32fast::hash(&wal.0.to_le_bytes()) ^ seq.get() as u32)
    }

    pub(crate) fn hasher(self) -> crc32fast::Hasher {
        crc32fast::Hasher::new_with_initial(self.0)
    }

    /// Checksum of `bytes` under this identity.
    pub fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub wal: WalId,
    /// Its number, also in the file name.
    pub seq: SegmentSeq,
    pub segment_bytes: u64,
    /// The file was an older segment before: what lies behind the last record is old, not zero.
    pub recycled: bool,
    /// How far behind the last record something of this log may lie; whole blocks.
    pub reach: u64,
}

/// Why a segment header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first bytes are something else.
    #[error("not a segment (magic bytes missing)")]
    Magic,
    /// Damaged.
    #[error("header checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// What the bytes give.
        expected: u32,
        found: u32,
    },
    /// Written by a newer version.
    #[error("format version {0}, this version reads {FORMAT_VERSION}")]
    Version(u32),
    /// A size no segment has.
    #[error("segment size {segment_bytes} (reach {reach}) is not a number of blocks between 16 KiB and 1 GiB")]
    Geometry {
        /// The size of the segment by the header.
        segment_bytes: u64,
        /// The reach by the header.
        reach: u64,
    },
}

impl SegmentHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[segment_at::MAGIC..][..8].copy_from_slice(&MAGIC);
        out[segment_at::VERSION..][..4].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[segment_at::WAL..][..8].copy_from_slice(&self.wal.0.to_le_bytes());
        out[segment_at::SEQ..][..8].copy_from_slice(&self.seq.get().to_le_bytes());
        out[segment_at::BYTES..][..8].copy_from_slice(&self.segment_bytes.to_le_bytes());
        let flags = if self.recycled { FLAG_RECYCLED } else { 0 };
        out[segment_at::FLAGS..][..4].copy_from_slice(&flags.to_le_bytes());
        out[segment_at::REACH..][..8].copy_from_slice(&self.reach.to_le_bytes());
        let crc = Self::crc(&out);
        out[segment_at::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; checks magic, checksum, version and size, in this order.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, HeaderError> {
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let (expected, found) = (Self::crc(bytes), u32_at(bytes, segment_at::CRC));
        if expected != found {
            return Err(HeaderError::Checksum { expected, found });
        }
        let version = u32_at(bytes, segment_at::VERSION);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let segment_bytes = u64_at(bytes, segment_at::BYTES);
        let reach = u64_at(bytes, segment_at::REACH);
        let whole = [segment_bytes, reach].iter().all(|bytes| bytes.is_multiple_of(BLOCK_BYTES as u64));
        let sizes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if !whole || !sizes.contains(&segment_bytes) || !(REACH_MIN..=SEGMENT_BYTES_MAX).contains(&reach) {
            return Err(HeaderError::Geometry { segment_bytes, reach });
        }
        Ok(Self {
            wal: WalId(u64_at(bytes, segment_at::WAL)),
            seq: SegmentSeq::new(u64_at(bytes, segment_at::SEQ)),
            segment_bytes,
            recycled: u32_at(bytes, segment_at::FLAGS) & FLAG_RECYCLED != 0,
            reach,
        })
    }

    /// The segment's identity.
    pub fn identity(&self) -> Identity {
        Identity::new(self.wal, self.seq)
    }

    fn crc(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..segment_at::CRC]);
        hasher.update(&bytes[segment_at::WAL..]);
        hasher.finalize()
    }
}

/// What stands before a payload. `kind` is raw: a code this version does not know must be refused, not skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Checksum of the payload, from the segment's identity.
    pub payload_crc: u32,
    pub lsn: Lsn,
    /// Bytes of payload.
    pub length: u32,
    /// How far behind `lsn` the durable end was when this was appended, or, for the first record of a write, submitted.
    pub behind: u32,
    pub group: GroupId,
    /// Version of the payload's layout.
    pub schema: u16,
    pub kind: u8,
}

impl RecordHeader {
    /// Its bytes in a segment with this identity.
    pub fn encode(&self, identity: Identity) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        out[record_at::PAYLOAD_CRC..][..4].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[record_at::LSN..][..8].copy_from_slice(&self.lsn.get().to_le_bytes());
        out[record_at::LENGTH..][..4].copy_from_slice(&self.length.to_le_bytes());
        out[record_at::BEHIND..][..4].copy_from_slice(&self.behind.to_le_bytes());
        out[record_at::GROUP..][..4].copy_from_slice(&self.group.0.to_le_bytes());
        out[record_at::SCHEMA..][..2].copy_from_slice(&self.schema.to_le_bytes());
        out[record_at::KIND] = self.kind;
        let crc = identity.crc(&out[record_at::PAYLOAD_CRC..]);
        out[record_at::HEADER_CRC..][..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` unless its checksum holds under this identity and its number is one that is given out.
    pub fn decode(bytes: &[u8; RECORD_HEADER_BYTES], identity: Identity) -> Option<Self> {
        let sound = identity.crc(&bytes[record_at::PAYLOAD_CRC..]) == u32_at(bytes, record_at::HEADER_CRC);
        if !sound || matches!(Self::peek_lsn(bytes).get(), 0 | u64::MAX) {
            return None;
        }
        Some(Self {
            payload_crc: u32_at(bytes, record_at::PAYLOAD_CRC),
            lsn: Self::peek_lsn(bytes),
            length: u32_at(bytes, record_at::LENGTH),
            behind: u32_at(bytes, record_at::BEHIND),
            group: GroupId(u32_at(bytes, record_at::GROUP)),
            schema: u16_at(bytes, record_at::SCHEMA),
            kind: bytes[record_at::KIND],
        })
    }

    /// The sequence number alone, unchecked: a cheap filter before a checksum is worth computing.
    pub(crate) fn peek_lsn(bytes: &[u8; RECORD_HEADER_BYTES]) -> Lsn {
        Lsn::new(u64_at(bytes, record_at::LSN))
    }

    /// Everything up to here was durable before this record was written.
    pub fn durable(&self) -> Lsn {
        Lsn::new(self.lsn.get().saturating_sub(u64::from(self.behind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RecordKind;
    use proptest::prelude::*;

    fn sample() -> (SegmentHeader, RecordHeader, &'static [u8]) {
        let segment = SegmentHeader {
            wal: WalId(0x1122_3344_5566_7788),
            seq: SegmentSeq::new(0x0a),
            segment_bytes: 64 << 20,
            recycled: true,
            reach: 8 << 20,
        };
        let payload: &[u8] = b"plinth";
        let record = RecordHeader {
            payload_crc: segment.identity().crc(payload),
            lsn: Lsn::new(0x0102_0304),
            length: payload.len() as u32,
            behind: 3,
            group: GroupId(7),
            schema: 0x0201,
            kind: RecordKind::Entry.code(),
        };
        (segment, record, payload)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.chunks(16).map(|row| row.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect()
    }

    /// If this fails, the format on disk changed: raise [`FORMAT_VERSION`] and keep reading the old one.
    #[test]
    fn golden_bytes() {
        let (segment, record, payload) = sample();
        let dump = format!(
            "segment header\n{}record header\n{}payload\n{}",
            hex(&segment.encode()),
            hex(&record.encode(segment.identity())),
            hex(payload)
        );
        assert_eq!(dump, include_str!("../testdata/format_v1.txt"), "\n{dump}");
    }

    #[test]
    fn headers_round_trip() {
        let (segment, record, _) = sample();
        assert_eq!(SegmentHeader::decode(&segment.encode()), Ok(segment));
        let bytes = record.encode(segment.identity());
        assert_eq!(RecordHeader::decode(&bytes, segment.identity()), Some(record));
        assert_eq!(record.durable(), Lsn::new(0x0102_0301));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let (segment, record, _) = sample();
        let bytes = segment.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "segment header, bit {bit}");
        }
        let bytes = record.encode(segment.identity());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad, segment.identity()), None, "record header, bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_and_an_odd_size_are_named() {
        let mut bytes = sample().0.encode();
        bytes[segment_at::VERSION] = 2;
        let crc = SegmentHeader::crc(&bytes);
        bytes[segment_at::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Version(2)));
        for segment_bytes in [0, 4096, SEGMENT_BYTES_MIN + 8, SEGMENT_BYTES_MAX + 4096, u64::MAX] {
            let header = SegmentHeader { segment_bytes, ..sample().0 };
            let refused = Err(HeaderError::Geometry { segment_bytes, reach: header.reach });
            assert_eq!(SegmentHeader::decode(&header.encode()), refused);
        }
        for reach in [0, 4096, REACH_MIN + 8, u64::MAX] {
            let header = SegmentHeader { reach, ..sample().0 };
            let refused = Err(HeaderError::Geometry { segment_bytes: header.segment_bytes, reach });
            assert_eq!(SegmentHeader::decode(&header.encode()), refused);
        }
    }

    proptest! {
        /// The law behind recycling: the same bytes never carry the same checksum in two segments of a log.
        #[test]
        fn stale_bytes_never_validate(
            wal: u64, a: u32, b: u32, bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assume!(a != b);
            let one = Identity::new(WalId(wal), SegmentSeq::new(a.into()));
            let other = Identity::new(WalId(wal), SegmentSeq::new(b.into()));
            prop_assert_ne!(one.crc(&bytes), other.crc(&bytes));
        }

        #[test]
        fn record_headers_round_trip(
            payload_crc: u32, lsn in 1..u64::MAX, length: u32, behind: u32, group: u32, schema: u16, kind: u8, seq: u32,
        ) {
            let identity = Identity::new(WalId(9), SegmentSeq::new(seq.into()));
            let header = RecordHeader {
                payload_crc, lsn: Lsn::new(lsn), length, behind, group: GroupId(group), schema, kind,
            };
            prop_assert_eq!(RecordHeader::decode(&header.encode(identity), identity), Some(header));
        }
    }
}
