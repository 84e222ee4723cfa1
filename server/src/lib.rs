//! The Plinth server: one process that serves etcd's clients and talks to the other members.
//!
//! A tour, from the top floor to the ground. A room names rooms of lower floors, and neighbours where no circle comes of
//! it (`tests/tidy/floors.rs` checks both):
//!
//! - [`reactor`]: the process: reactors, their listeners, start and stop; [`boot`]: from a data directory to a member
//! - [`service`]: what a listener serves: the handlers, the endpoints and the gateway together
//! - [`api`]: the gRPC handlers; [`endpoints`]: the HTTP ones, with [`v2`] for etcd's v2 API; [`gateway`]: calls as JSON;
//!   [`console`]: the page for browsers and what only it asks;
//!   [`mesh`]: calls between reactors
//! - [`cluster`]: the other members: connections, questions to the leader, snapshots, comparison, changes of membership
//! - [`home`]: the one reactor that touches the data: its driver, who waits for what, watchers, leases, flushes
//! - [`caller`]: who asks; [`answer`]: statuses and headers; [`http`]: routing and texts of the HTTP endpoints, as pure functions
//! - [`tokens`]: what a client shows that has proved who it is; [`passwords`]: threads that hash and compare them
//! - [`metrics`]: what reactors record into and what `/metrics` shows
//! - [`backup`]: snapshots of this member on a schedule
//! - [`metad`]: a metad beside the member, in a thread of its own
//! - [`restore`]: a data directory from a snapshot; [`conversion`]: one of etcd's taken over where it lies; [`export`]: one of
//!   etcd's from one of ours; [`follow`]: a standby of a running etcd cluster
//! - [`datadir`]: lays out and locks the data directory and refuses foreign or newer ones
//! - [`discovery`]: who founds the cluster, as a domain or a registry tells it
//! - [`config`]: command line, environment and configuration file become one typed [`config::Config`]
//! - [`tls`]: certificates and keys of both sides, as their files are now
//! - [`logging`]: the process's log: JSON lines in etcd's shape, written by a thread of its own
//! - [`failpoints`]: faults on purpose, in builds that have them
//! - [`notify`], [`wake`]: wake a task from the same reactor, and from outside; [`sys`]: signals, heap, sockets;
//!   [`resources`]: limits of the process

#![deny(unsafe_code)]

pub mod answer;
pub mod api;
pub mod backup;
pub mod boot;
pub mod caller;
pub mod cluster;
pub mod config;
pub mod console;
pub mod conversion;
pub mod datadir;
pub mod discovery;
pub mod endpoints;
pub mod export;
pub mod failpoints;
pub mod follow;
pub mod gateway;
pub mod home;
pub mod http;
pub mod logging;
pub mod mesh;
pub mod metad;
pub mod metrics;
pub mod notify;
pub mod passwords;
pub mod reactor;
pub mod resources;
pub mod restore;
pub mod service;
#[allow(unsafe_code)]
pub mod sys;
pub mod tls;
pub mod tokens;
pub mod v2;
pub mod wake;
