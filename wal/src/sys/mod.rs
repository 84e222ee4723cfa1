//! The only room with `unsafe`: aligned memory, and a few bare system calls on files.

mod aligned;
mod os;

pub use aligned::AlignedBuf;
pub(crate) use os::{forget_cached, reserve, write_back};
