//! Vectored sends, and listening sockets with options of our own.

use std::io::{self, IoSlice};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use glommio::net::TcpListener;

/// Sends without waiting. `fd` must be a socket the caller owns for the duration of the call.
pub fn send_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is a valid one: no name, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len();
    // SAFETY: IoSlice has the layout of iovec; the slices live until the call returns, and sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Hands a listening socket to the reactor of this thread.
pub fn listener_from_socket(socket: OwnedFd) -> TcpListener {
    // SAFETY: the descriptor is open, owned by nobody else from here on, and a listening socket by the caller's word;
    // were it another kind of socket, accepting from it would fail, which is safe.
    unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) }
}
