//! The Plinth server: configuration, logging, metrics, HTTP endpoints and the wiring of the cores to the world.
//!
//! A tour, in the order a process passes through it:
//!
//! - [`config`] turns command line, environment and configuration file into one typed [`config::Config`].
//! - [`logging`] installs the process's log: JSON lines in etcd's shape, written by a thread of its own.
//! - [`datadir`] lays out and locks the data directory and refuses foreign or newer ones.
//! - [`metrics`] is what reactors record into and what `/metrics` shows.
//! - [`http`] is the content of the HTTP endpoints beside gRPC, as pure functions.

pub mod answer;
pub mod api;
pub mod boot;
pub mod cluster;
pub mod config;
pub mod datadir;
pub mod endpoints;
pub mod home;
pub mod http;
pub mod logging;
pub mod members;
pub mod mesh;
pub mod metrics;
pub mod notify;
pub mod reactor;
pub mod service;
pub mod sys;
pub mod wake;
