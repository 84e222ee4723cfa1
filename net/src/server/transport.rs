//! The seam to the socket, so that TLS can stand between the socket and the connection.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::rt::TcpStream;
use futures_io::{AsyncRead, AsyncWrite};

use crate::sys;

/// A byte stream that never blocks.
pub trait Transport: 'static {
    /// Reads into `buffer`. Zero is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes the beginning of `slices`, of which the first is not empty.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
    /// Says that nothing more will be written.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// TCP without anything on top.
pub struct Plain(pub TcpStream);

impl Transport for Plain {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if slices.len() > 1 {
            match sys::send_vectored(self.0.as_raw_fd(), slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        // Tries once more, and otherwise waits for room with the reactor.
        Pin::new(&mut self.0).poll_write(cx, &slices[0])
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
