//! The storage engine of one group: page file, multi-version store, leases and watches.
//!
//! Sans-I/O: no clock, no threads, no sockets. Time comes in as an argument, work for the disk goes out as values.
//!
//! Tour, from the bottom up:
//!
//! - [`trees`] is the seam to stored bytes; [`pagefile`] implements it on a file.
//! - [`revision`] and [`kv_codec`] are the bytes of history; [`index`] finds a key's part of it in memory.
//! - [`command`] is what the log replicates, for an [`author`]; [`check`] is what can be said about a request before.
//! - [`store`] applies commands, long ones in steps ([`job`], [`budget`]). Its parts: reads in [`range`] and [`history`],
//!   txns in `txn`, what is rebuilt at start in `open`, background work in [`compact`] and [`hash`], limits in [`quota`] and
//!   [`alarm`]; `sort`, [`pins`] and [`body`] serve what is long: sorted, read in steps, answered. [`error`] says what fails.
//! - [`following`] takes over what another cluster does, instead of what clients ask for; [`follow`] is what it is told.
//! - [`auth`] knows users and roles, and what they may do; [`users`] asks it when commands are applied.
//! - [`lease`] knows leases and deadlines; [`watch`] carries events to watchers.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![deny(unsafe_code)]

pub mod alarm;
pub mod auth;
pub mod author;
pub mod body;
pub mod budget;
pub mod check;
pub mod command;
pub mod compact;
pub mod error;
pub mod follow;
pub mod following;
pub mod hash;
pub mod history;
pub mod index;
pub mod job;
pub mod kv_codec;
pub mod lease;
mod open;
pub mod pagefile;
pub mod pins;
pub mod quota;
pub mod range;
pub mod revision;
mod sort;
pub mod store;
pub mod trees;
pub mod txn;
pub mod users;
pub mod watch;
