//! The storage engine of one group: page file, multi-version store, leases and watches.
//!
//! Sans-I/O: no clock, no threads, no sockets. Time comes in as an argument, work for the disk goes out as values.
//!
//! Tour, from the bottom up:
//!
//! - [`trees`] is the seam to stored bytes; [`pagefile`] implements it on a file.
//! - [`revision`] and [`kv_codec`] are the bytes of history; [`index`] finds a key's part of it in memory.
//! - [`command`] is what the log replicates, for an [`author`]; [`check`] is what can be said about a request before.
//! - `record` is where stored history is read; [`error`] says what fails; `sort`, [`pins`], [`body`] and [`budget`] serve
//!   what is long: sorted, read in steps, answered, cut into steps.
//! - [`store`] is all of these as one state: it applies commands, answers reads and compacts. Its own tour names its parts.
//! - [`auth`] knows users and roles, and what they may do; [`follow`] is what another cluster tells a store that follows it.
//! - [`lease`] knows leases and deadlines; [`watch`] carries events to watchers.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![deny(unsafe_code)]

pub mod auth;
pub mod author;
pub mod body;
pub mod budget;
pub mod check;
pub mod command;
pub mod error;
pub mod follow;
pub mod index;
pub mod kv_codec;
pub mod lease;
pub mod pagefile;
pub mod pins;
mod record;
pub mod revision;
mod sort;
pub mod store;
pub mod trees;
pub mod watch;
