//! The names of things in the log. Raw integers appear only in the codecs.
//!
//! Invariants: an [`Lsn`] and a [`SegmentSeq`] only grow. Deliberately absent: what a record means.

use std::fmt;

/// Log sequence number: records of one log are numbered 1, 2, 3 ... without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);
    /// The first record of a log.
    pub const FIRST: Lsn = Lsn(1);

    /// The record with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself, for codecs and metrics.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The record after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("log sequence number reached u64::MAX"))
    }

    /// The record before this one; zero stays zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One replicated keyspace. Several share one log; every record says whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a segment; its file is named after it. Never reused, also not when the file is recycled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSeq(u64);

impl SegmentSeq {
    /// The first segment of a log.
    pub const FIRST: SegmentSeq = SegmentSeq(1);

    /// The segment with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("segment number reached u64::MAX"))
    }

    /// Name of the segment's file.
    pub fn file_name(self) -> String {
        format!("{:016x}.wal", self.0)
    }

    /// The segment a file name stands for, if it is one.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".wal")?;
        let canonical = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return None;
        }
        // The ends of the range are never given out, so that a segment always has neighbours to speak of.
        u64::from_str_radix(digits, 16).ok().filter(|number| (1..u64::MAX).contains(number)).map(Self)
    }
}

impl fmt::Display for SegmentSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.wal", self.0)
    }
}

/// Identity of one log, drawn at random by whoever creates it. A segment copied in from another log is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WalId(pub u64);

impl fmt::Display for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a record is for. The log itself acts on `Segment` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Who the log belongs to.
    Metadata = 1,
    /// An entry of a group's consensus log.
    Entry = 2,
    /// Term, vote and commit of a group.
    HardState = 3,
    /// Written by the log about itself; never handed to a reader.
    Segment = 4,
    /// Entries up to a point are covered by stored state.
    SnapshotMark = 5,
}

impl RecordKind {
    /// The kind with this code in a record header.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Metadata),
            2 => Some(Self::Entry),
            3 => Some(Self::HardState),
            4 => Some(Self::Segment),
            5 => Some(Self::SnapshotMark),
            _ => None,
        }
    }

    /// Its code in a record header.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// One record as recovery hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log.
    pub lsn: Lsn,
    pub group: GroupId,
    pub kind: RecordKind,
    /// Version of the payload's layout, as given to `append`.
    pub schema: u16,
    pub payload: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_reject_others() {
        for number in [1, 0x2a, u64::MAX - 1] {
            let seq = SegmentSeq::new(number);
            assert_eq!(SegmentSeq::from_file_name(&seq.file_name()), Some(seq));
        }
        assert_eq!(SegmentSeq::from_file_name(&SegmentSeq::new(0).file_name()), None);
        assert_eq!(SegmentSeq::from_file_name(&SegmentSeq::new(u64::MAX).file_name()), None);
        for name in ["", "1.wal", "000000000000000A.wal", "+00000000000000a.wal", "0000000000000001.spare"] {
            assert_eq!(SegmentSeq::from_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn kind_codes_round_trip() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|code| RecordKind::from_code(*code).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4, 5]);
        for code in known {
            assert_eq!(RecordKind::from_code(code).map(RecordKind::code), Some(code));
        }
    }
}
