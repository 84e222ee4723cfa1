//! Network edge: HTTP/2 and gRPC, HTTP/1.1, and the transport between members. What it carries is the
//! service's: texts of refusals, names of metadata and of methods come from there.
//!
//! A tour, from the socket up:
//!
//! - [`rt`] is the runtime: tasks, queues, timers; [`turn`] says how long work passes its turn on
//! - [`transport`] makes connected streams: addresses, listeners, dialling; [`transport::tls`] encrypts them, and tells who
//!   is at the other end
//! - [`h2`] is HTTP/2 as a state machine: frames in, frames out, no socket; [`http1`] is HTTP/1.1 in the same way
//! - [`grpc`] makes calls of HTTP/2 streams, and answers of replies; a handler implements its [`grpc::Service`]
//! - [`due`] says when a stream is over whose requests are answered one for one
//! - [`server`] drives connections of clients: tells the protocols apart, reads, writes, keeps alive, drains
//! - [`peer`] connects members with each other: lanes, messages, questions and answers
//! - `wait` and `sys` serve them: time limits, and system calls with all `unsafe`

#![deny(unsafe_code)]

pub mod due;
#[cfg(feature = "runtime")]
pub mod grpc;
pub mod h2;
pub mod http1;
#[cfg(feature = "runtime")]
pub mod peer;
#[cfg(feature = "runtime")]
pub mod rt;
#[cfg(feature = "runtime")]
pub mod server;
#[cfg(feature = "runtime")]
#[allow(unsafe_code)]
mod sys;
#[cfg(feature = "tls")]
pub mod transport;
#[cfg(feature = "runtime")]
pub mod turn;
#[cfg(feature = "runtime")]
mod wait;

/// For a thread beside the reactors whose work has time.
#[cfg(feature = "runtime")]
pub use sys::be_nice;
