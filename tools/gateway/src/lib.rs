//! `etcd gateway start`: a TCP proxy between clients that know one address and the members of a cluster. It looks into
//! nothing that it carries.
//!
//! - [`command`] is the command line, with etcd's texts
//! - [`discovery`] asks a domain for endpoints
//! - [`pool`] says which endpoint is next, and which are left out because they did not answer
//! - [`proxy`] accepts, dials and copies
//!
//! Bounds: connections at a time, the time that a dial may take.

#![forbid(unsafe_code)]

pub mod command;
pub mod discovery;
pub mod pool;
pub mod proxy;

pub use command::main;
