//! The storage engine of one group: page file, multi-version store, leases and watches.
//!
//! Sans-I/O: no clock, no threads, no sockets. Time comes in as an argument, work for the disk goes out as values.
//!
//! Tour, from the bottom up: [`trees`] is the seam to stored bytes, and `pagefile` implements it on a file. `command`
//! is what the log replicates. `store` applies commands and answers reads.

pub mod command;
pub mod index;
pub mod kv_codec;
pub mod lease;
pub mod pagefile;
pub mod revision;
pub mod trees;
pub mod watch;
