//! The log's real disk: a folder, an io_uring of its own, and a helper thread for everything slow.
//!
//! [`UringDisk`] implements the seam [`plinth_wal::Disk`] (`uring_disk`); `quiet` chooses how a write goes that somebody
//! waits for, `preparer` is the thread, `sys` the ring, with all `unsafe` of this crate. What is written, and when, is decided by [`plinth_wal::Wal`], which knows none of this.

#![deny(unsafe_code)]

mod preparer;
mod quiet;
#[allow(unsafe_code)]
mod sys;
mod uring_disk;

pub use quiet::{WAIT_MAX, Way};
pub use uring_disk::{SyncMode, UringDisk, UringError, UringOptions, probe};
