//! `etcd grpc-proxy start`: a proxy of etcd's calls between many clients and a cluster, that understands what it carries.
//!
//! - [`command`] is the command line, with etcd's texts; [`tls`] are its certificates
//! - [`front`] takes connections; [`services`] says what is done with a call, [`pages`] answers what is to be had by HTTP
//! - [`kv`] goes through the [`namespace`] and the [`cache`] of reads
//! - [`watch`] lets many watchers share a watch, [`lease`] many keep-alives a renewal: state machines without I/O, and the
//!   streams around them
//! - [`members`] is what clients are told of the members
//! - [`upstream`] are the servers, asked in turn; [`codec`] leaves messages as they are; [`proxy`] is what calls share
//!
//! Deliberately absent: leasing, ordering of serializable reads, progress of watches on request.
//!
//! Bounds: connections, requests, watchers, upstream watches, answers that wait for a client, keep-alives that wait, what is
//! cached, the time that a call looks for a server.

#![forbid(unsafe_code)]

pub mod cache;
pub mod codec;
pub mod command;
pub mod front;
pub mod kv;
pub mod lease;
pub mod members;
pub mod namespace;
pub mod pages;
pub mod proxy;
pub mod services;
pub mod tls;
pub mod upstream;
pub mod watch;

pub use command::main;
