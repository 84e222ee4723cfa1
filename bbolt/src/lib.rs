//! etcd's files: its database (bbolt, format version 2), its write-ahead log and the positions beside it, read with suspicion
//! and written in one pass.
//!
//! Sans-I/O: a file is a [`Source`] of bytes at offsets, a new one goes to a [`Sink`] page by page. Memory is bounded by
//! one path of pages from root to leaf, whatever the size of the file.
//!
//! Tour, from the bottom up:
//!
//! - [`mod@format`]: pages, elements and metas as bytes
//! - [`Database`] (`database`, `buckets`), in a `file` for instance, and [`Cursor`] (`cursor`): the buckets of a file and their entries in order;
//!   every page is checked before it is believed; why one is not is in `error`
//! - [`Writer`] (`writer`): a new file from buckets in order; [`Plan`] tells its size before the first byte is written
//! - [`schema`]: what etcd keeps in which bucket
//! - [`wal`] and [`snap`]: etcd's write-ahead log, and its `.snap` files with the members of older releases, read;
//!   [`position`]: both as a member begins with them that stands at a position, written
//! - [`copy`]: a file written anew, with a changed value here or there; [`hash`]: its `HashKV`
//! - [`check`]: what `snapshot status` and bbolt's own check demand, and the figures that it prints
//!
//! Invariant: no input makes it panic, read out of range or loop; what is damaged is named by page and bucket.
//!
//! Deliberately absent: changing a file in place, the free list (new files have none), nested buckets (etcd has none).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![forbid(unsafe_code)]

mod buckets;
pub mod check;
pub mod copy;
mod cursor;
mod database;
mod error;
mod file;
pub mod format;
pub mod hash;
pub mod position;
pub mod schema;
pub mod snap;
pub mod wal;
mod writer;

pub use cursor::{Cursor, Pair};
pub use database::{Bucket, Database, Source};
pub use error::Error;
pub use file::DatabaseFile;
pub use writer::{Layout, Plan, Sink, Writer};
