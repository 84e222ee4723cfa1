//! The only room with `unsafe`: the ring that lends buffers to the kernel, and a bare system call.
//!
//! Invariant: a buffer is either owned by safe code or by exactly one operation in flight, never both.

mod poll;
mod ring;

pub(crate) use poll::poll_forever;
pub(crate) use ring::{Chain, FILES_MAX, Ring, RingEvent, probe};
