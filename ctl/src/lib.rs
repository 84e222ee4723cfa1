//! The command line tools: `etcdctl` against a running server, `etcdutl` and `plinth wal` on files of a stopped one.
//!
//! A tour, from what the user wrote to what is shown:
//!
//! - [`etcdctl`], [`etcdutl`] and [`wal`] are the tools; [`flags`] and [`usage`] say how flags are written, [`words`] and
//!   [`quote`] how input lines and Go's notations are; [`prompt`] asks for a password
//! - each command is one file in [`command`]: what the user wrote is parsed first, then acted on, then printed; [`context`]
//!   is what all of them work with
//! - [`cluster`] is the endpoints as one, over [`rpc`], encrypted by [`tls`]; [`discovery`] finds
//!   them by DNS ([`services`]); [`session`] keeps leases alive, [`queue`] waits for a turn,
//!   [`watching`] outlives connections, [`signals`] end what holds on, [`urls`] are looked at before they are sent
//! - [`v2`] is `etcdctl` for the v2 API (`ETCDCTL_API=2`)
//! - [`etcd_dir`] reads what a stopped etcd leaves beside its database
//! - [`output`] has the formats; exit codes are one table ([`failure`])
//!
//! Nothing here ends the process or panics on what a user wrote.

#![allow(rustdoc::broken_intra_doc_links, reason = "comments of arguments are help texts: brackets mean optional")]
#![forbid(unsafe_code)]

pub mod cluster;
pub mod command;
pub mod context;
pub mod discovery;
pub mod etcd_dir;
pub mod etcdctl;
pub mod etcdutl;
pub mod failure;
pub mod flags;
pub mod output;
pub mod prompt;
pub mod queue;
pub mod quote;
pub mod rpc;
pub mod services;
pub mod session;
pub mod signals;
pub mod tls;
pub mod urls;
pub mod usage;
pub mod v2;
pub mod wal;
pub mod watching;
pub mod words;
