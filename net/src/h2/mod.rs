//! HTTP/2 (RFC 9113), the server's side, without any I/O.
//!
//! `frame` is layout, `hpack` header compression, `header_block` what a request must look like, `stream` and `connection` the
//! state, `recv` and `send` what happens to it, `output` the bytes on their way out, `limits` every bound.

mod connection;
pub mod frame;
mod header_block;
pub mod hpack;
mod keepalive;
pub mod limits;
mod output;
mod recv;
mod send;
mod stream;
#[cfg(test)]
mod tests;

pub use connection::{Config, Connection, Event};
pub use header_block::RequestHead;
pub use keepalive::KeepaliveConfig;
pub use output::Output;
pub use stream::{StreamKey, Trailers};
