//! The only room with `unsafe`: aligned memory, the ring that lends it to the kernel, and a few bare system calls.
//!
//! Invariant: a buffer is either owned by safe code or by exactly one operation in flight, never both.

mod aligned;
mod os;
mod ring;

pub use aligned::AlignedBuf;
pub(crate) use os::{forget_cached, poll_forever, reserve, write_back};
pub(crate) use ring::{Chain, FILES_MAX, Ring};
