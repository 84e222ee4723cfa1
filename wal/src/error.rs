//! What can go wrong, one type per operation, each with its coordinates.
//!
//! Three kinds: the disk failed ([`DiskFault`], fatal, never retried: the kernel may have dropped the pages), the
//! stored bytes are damaged ([`OpenError`], the log is left untouched), or io_uring is unusable
//! (`UringError`, beside the code that meets it). A full disk is none of these: see
//! [`SpaceState`](crate::SpaceState).

use std::fmt;
use std::io;

use crate::format::HeaderError;
use crate::types::{Lsn, SegmentSeq, WalId};

/// An operation of the operating system that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// What was attempted, as a verb: "write", "fdatasync", "rename" ...
    pub action: &'static str,
    /// The file, with its path where known.
    pub file: String,
    /// Position in the file, where there is one.
    pub offset: Option<u64>,
    /// The operating system's error number; 0 where it gave none (a short write).
    pub errno: i32,
}

impl DiskFault {
    /// A failed operation on a whole file.
    pub fn new(action: &'static str, file: impl Into<String>, error: &io::Error) -> Self {
        Self { action, file: file.into(), offset: None, errno: error.raw_os_error().unwrap_or(0) }
    }

    /// Says where in the file.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Whether space ran out (`ENOSPC`, `EDQUOT`).
    pub fn is_out_of_space(&self) -> bool {
        self.errno == libc::ENOSPC || self.errno == libc::EDQUOT
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.file)?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        match self.errno {
            0 => write!(f, ": incomplete, without an error number"),
            errno => write!(f, ": {}", io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for DiskFault {}

/// The log cannot go on. The process must stop: what of the unfinished flush is on the disk is unknown, and a
/// repeated sync would claim a success that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write-ahead log failed, stopping: {0}")]
pub struct WalError(pub DiskFault);

/// The log was not opened, and nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Reading or preparing failed.
    #[error("open write-ahead log: {0}")]
    Disk(#[from] DiskFault),
    /// The options contradict each other.
    #[error("write-ahead log options: {0}")]
    Options(&'static str),
    /// The first block of a segment is not what was written there.
    #[error("segment {segment} offset 0: bad header: {cause}. {NEXT_STEP}")]
    Header {
        segment: SegmentSeq,
        /// What is wrong with it.
        #[source]
        cause: HeaderError,
    },
    /// The header belongs to another segment: the file was renamed or copied.
    #[error("segment {segment} offset 0: the header says it is {found}. {NEXT_STEP}")]
    Renamed {
        /// The segment by its file name.
        segment: SegmentSeq,
        /// The segment by its header.
        found: SegmentSeq,
    },
    /// The file is shorter or longer than its header says.
    #[error("segment {segment}: {found} bytes, its header says {expected}. {NEXT_STEP}")]
    Size { segment: SegmentSeq, expected: u64, found: u64 },
    /// The segment belongs to another log.
    #[error("segment {segment}: belongs to log {found}, this is log {expected}. {NEXT_STEP}")]
    Foreign {
        segment: SegmentSeq,
        /// The log of the first segment.
        expected: WalId,
        found: WalId,
    },
    /// A segment in the middle, or the one the log went on in, is not there.
    #[error("segment {segment} is missing. Put the file back, or {NEXT_STEP_INNER}")]
    Missing { segment: SegmentSeq },
    /// A record that was durable is damaged: others written after it say so.
    #[error(
        "segment {segment} offset {offset}: record {lsn} is damaged, but record {witness} (segment {witness_segment} \
         offset {witness_offset}) was written after it was durable. {NEXT_STEP}"
    )]
    Corrupt {
        /// Segment of the damaged record.
        segment: SegmentSeq,
        /// Where it should start.
        offset: u64,
        lsn: Lsn,
        /// A later record that proves it.
        witness: Lsn,
        /// Where the witness lies.
        witness_segment: SegmentSeq,
        /// Where the witness lies.
        witness_offset: u64,
    },
    /// The oldest segment must start with a record, and does not.
    #[error("segment {segment} offset {offset}: the first record of the log is damaged. {NEXT_STEP}")]
    Head {
        segment: SegmentSeq,
        /// Where its first record should start.
        offset: u64,
    },
    /// A record that validates has a kind this version does not know.
    #[error("segment {segment} offset {offset}: record kind {kind} is unknown: written by a newer version")]
    UnknownKind {
        segment: SegmentSeq,
        /// Where the record starts.
        offset: u64,
        kind: u8,
    },
}

/// What the operator is told to do about a damaged log.
const NEXT_STEP: &str = "Nothing was changed. In a cluster, remove this member and add it again with an empty data \
    directory. Otherwise restore a snapshot, or drop everything from here on with `plinth wal repair`, which keeps a \
    copy of what it cuts";
const NEXT_STEP_INNER: &str = "in a cluster, remove this member and add it again with an empty data directory; \
    otherwise restore a snapshot, or drop everything from there on with `plinth wal repair`";
