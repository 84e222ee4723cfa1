//! A connection to another process, and the seam that connections are written against.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::rt::TcpStream;
use futures_io::{AsyncRead, AsyncWrite};

use crate::sys;
use crate::transport::tls::TlsStream;

/// A byte stream that never blocks.
pub trait Transport: 'static {
    /// Reads into `buffer`. Zero is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Takes the beginning of `slices`, of which the first is not empty. What was taken is on its way only when
    /// `poll_flush` says so.
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
    /// Ready when the socket has everything that was taken. To be called whenever there is nothing more to write.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Says that nothing more will be written.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A socket without anything on top.
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

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// A connection of either side.
pub enum Stream {
    /// In clear.
    Plain(Plain),
    /// Encrypted.
    Tls(Box<TlsStream>),
}

impl Transport for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(plain) => plain.poll_read(cx, buffer),
            Stream::Tls(tls) => tls.poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(plain) => plain.poll_write(cx, slices),
            Stream::Tls(tls) => tls.poll_write(cx, slices),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(plain) => plain.poll_flush(cx),
            Stream::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(plain) => plain.poll_close(cx),
            Stream::Tls(tls) => tls.poll_close(cx),
        }
    }
}

/// Writes all of `bytes`, until the socket has them.
pub async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|cx| stream.poll_write(cx, &[IoSlice::new(bytes)])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    poll_fn(|cx| stream.poll_flush(cx)).await
}

/// What has arrived, into `buffer`. Zero is the end.
pub async fn read_some(stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buffer)).await
}
