//! The write-ahead log of one reactor: records of all groups at home there, in segments.
//!
//! Sans-I/O at the core: [`Wal`] takes records and completions and hands out writes, through the seam [`Disk`];
//! the real one is a crate of its own, `plinth-wal-uring`, the simulated one is `sim_disk`, with the feature `testing`. Nothing
//! here knows what a record means.
//!
//! Tour, from the bottom up: [`limits`], [`types`], [`error`], [`format`](mod@format) (every byte on disk), [`disk`] (the seam), `chunk` (a
//! buffer being filled), [`wal`] (the core), `scan`, [`recovery`] and [`recovery_table`] (reading back, and what the end
//! means), [`inspect`] and [`repair`] (for the offline tool), `directory` (the folder of segments) and `sys` (aligned memory and
//! bare system calls; all `unsafe` is there).
//!
//! Driving it, on a reactor:
//!
//! ```text
//! loop:
//!   while wal.room() > 0 and there is work:  wal.append(..)      number of the record
//!   if wal.can_flush():                      wal.flush()?        everything appended goes on its way
//!   await wake_fd readable, drain it:        wal.poll()?         the durable end; acknowledge up to there
//!   when state up to a record is stored:     wal.release_before(oldest record still needed)
//!   when wal.space() is Short:               refuse writes; wal.retry_space() about once a second
//!   when idle and at the end:                wal.witness(); flush
//! any error: stop the process
//! ```
//!
//! What is durable is never rewritten, never acknowledged early, and never dropped silently: `recovery_table` has the
//! cases, and the tests cut the power at every step.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![deny(unsafe_code)]

mod chunk;
#[allow(clippy::disallowed_methods, reason = "the folder of segments, behind the seam `disk`")]
mod directory;
pub mod disk;
pub mod error;
pub mod format;
pub mod inspect;
pub mod limits;
pub mod recovery;
pub mod recovery_table;
pub mod repair;
mod scan;
#[cfg(any(test, feature = "testing"))]
pub mod sim_disk;
#[allow(unsafe_code)]
mod sys;
pub mod types;
pub mod wal;

pub use directory::{Access, Directory};
pub use disk::{Completion, Disk, RepairStore, Segments, Write};
pub use error::{DiskFault, OpenError, WalError};
pub use recovery::{Damaged, Reader, Recovered, RecoveryReport};
pub use sys::AlignedBuf;
pub use types::{GroupId, Lsn, Record, RecordKind, SegmentSeq, WalId};
pub use wal::{SpaceState, Wal, WalOptions, WalStats};
