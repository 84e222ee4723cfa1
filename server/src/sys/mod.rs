//! The server's unsafe code: handing file descriptors to the reactor, signals, and the allocator's settings.

mod heap;
mod secrets;
mod signals;

pub use heap::give_back_freed_memory;
pub use secrets::leave_no_core_dump;
pub use signals::Signals;

use plinth_net::rt::UnixStream;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// A connected Unix socket as a stream of the calling reactor.
pub fn adopt_unix_stream(socket: OwnedFd) -> UnixStream {
    let fd = socket.into_raw_fd();
    // SAFETY: `fd` was owned until the line above and nobody else closes it, so the stream may own it now.
    unsafe { UnixStream::from_raw_fd(fd) }
}
