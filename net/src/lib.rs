//! Network edge: HTTP/2 and gRPC, HTTP/1.1, and the transport between members. It knows no word of etcd.
//!
//! A tour, from the socket up:
//!
//! - [`rt`] is the runtime: tasks, queues, timers; [`turn`] says how long work passes its turn on
//! - [`transport`] makes connected streams: addresses, listeners, dialling
//! - [`h2`] is HTTP/2 as a state machine: frames in, frames out, no socket; [`http1`] is HTTP/1.1 in the same way
//! - [`grpc`] makes calls of HTTP/2 streams, and answers of replies; a handler implements its [`grpc::Service`]
//! - [`server`] drives connections of clients: tells the protocols apart, reads, writes, keeps alive, drains
//! - [`peer`] connects members with each other: lanes, messages, questions and answers

pub mod grpc;
pub mod h2;
pub mod http1;
pub mod peer;
pub mod rt;
pub mod server;
mod sys;
pub mod transport;
pub mod turn;
mod wait;
