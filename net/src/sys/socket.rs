//! Vectored sends, and listening sockets with options of our own.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::rt::{TcpListener, TcpStream};
use socket2::{SockRef, TcpKeepalive};

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

/// Hands a connected stream socket to the reactor of this thread. Reads, writes and closes work on any kind of it.
pub fn stream_from_socket(socket: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor is open and owned by nobody else from here on; what is called on it later reports an error
    // if the kind of socket does not know it.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

/// How long a connection may be idle before the kernel asks whether the other host is there, and how often it does then.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
/// What the kernel holds of a connection without having sent it. Enough to keep it busy while a reactor does other
/// things; little enough that what is written behind it (a ping) is sent soon, even over a slow line.
const UNSENT_BYTES_MAX: u32 = 1 << 20;

/// Prepares a connection between members: no delay, the kernel watches over it, and holds little back.
pub fn prepare_peer(stream: &TcpStream) -> io::Result<()> {
    // SAFETY: the descriptor belongs to the stream, which is borrowed for longer than the descriptor is.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let socket = SockRef::from(&descriptor);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_TIME))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}
