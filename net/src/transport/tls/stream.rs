//! A connection once both sides have agreed on keys.
//!
//! ```text
//!   socket --> the reactor's scratch --> rustls (opens records) --> the reader's buffer
//!   writer's slices --> rustls (seals records of 16 KiB) --------> socket, when the turn's output is complete
//! ```
//!
//! Invariants: what one turn writes leaves in as few records and calls as it fits into, so sealing waits for
//! `poll_flush` or 32 KiB; ciphertext is read into memory that all connections of the thread share.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::task::{Context, Poll};

use rustls::Connection;

use super::Failure;
use crate::transport::{Plain, Transport};

/// What is read from a socket at once. Holds several of the largest records.
const SCRATCH_BYTES: usize = 64 << 10;
/// Sealed bytes beyond which they are sent although more may come.
const SEND_BYTES: usize = 32 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `with` with memory that is used until it returns.
pub(super) fn with_scratch<T>(with: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(SCRATCH_BYTES, 0);
        with(scratch)
    })
}

/// An encrypted connection of either side.
pub struct TlsStream {
    socket: Plain,
    connection: Box<Connection>,
    /// What was read and did not fit: only ever a few records.
    unread: Vec<u8>,
    /// Sealed bytes that wait for the socket, about.
    unsent: usize,
}

/// The socket as rustls writes to it.
struct Sink<'a, 'b> {
    socket: &'a mut Plain,
    cx: &'a mut Context<'b>,
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.socket.poll_write(self.cx, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what `connection` has sealed.
pub(super) fn poll_send(socket: &mut Plain, connection: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while connection.wants_write() {
        match connection.write_tls(&mut Sink { socket, cx }) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

/// Hands ciphertext over, from which what is taken is cut off. Stops where opened bytes have to be fetched first.
pub(super) fn feed(connection: &mut Connection, input: &mut &[u8]) -> Result<(), Failure> {
    while !input.is_empty() {
        // Refused only for the sake of bytes that wait to be read; what is malformed is found below.
        match connection.read_tls(input) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        connection.process_new_packets()?;
    }
    Ok(())
}

impl TlsStream {
    /// `unread`: ciphertext that was read behind the handshake.
    pub(super) fn new(socket: Plain, connection: Box<Connection>, unread: Vec<u8>) -> TlsStream {
        TlsStream { socket, connection, unread, unsent: 0 }
    }

    /// Moves opened bytes into `buffer` from `filled` on. True if there will be no more.
    fn fetch(&mut self, buffer: &mut [u8], filled: &mut usize) -> io::Result<bool> {
        use std::io::Read;
        while *filled < buffer.len() {
            match self.connection.reader().read(&mut buffer[*filled..]) {
                Ok(0) => return Ok(true),
                Ok(count) => *filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Opens what is in `input` into `buffer` and keeps what does not fit. True if there will be no more.
    fn open(&mut self, mut input: &[u8], buffer: &mut [u8], filled: &mut usize) -> io::Result<bool> {
        loop {
            let before = (input.len(), *filled);
            let fed = feed(&mut self.connection, &mut input);
            let ended = self.fetch(buffer, filled)?;
            fed?;
            if ended || input.is_empty() || before == (input.len(), *filled) {
                self.unread = input.to_vec();
                return Ok(ended);
            }
        }
    }
}

impl Transport for TlsStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        let ended = self.fetch(buffer, &mut filled)?;
        if ended || filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        let unread = std::mem::take(&mut self.unread);
        if !unread.is_empty() {
            let ended = self.open(&unread, buffer, &mut filled)?;
            if ended || filled > 0 {
                return Poll::Ready(Ok(filled));
            }
        }
        with_scratch(|scratch| {
            loop {
                let room = scratch.len().min(buffer.len().max(4096));
                let count = match self.socket.poll_read(cx, &mut scratch[..room])? {
                    Poll::Ready(count) => count,
                    Poll::Pending => break,
                };
                if count == 0 {
                    // Cut off without a farewell. What is carried (HTTP, frames) tells by itself where it ends.
                    return Poll::Ready(Ok(0));
                }
                let opened = self.open(&scratch[..count], buffer, &mut filled);
                if opened.is_err() {
                    // The other side is to hear why.
                    let _ = poll_send(&mut self.socket, &mut self.connection, cx);
                }
                if opened? || filled > 0 {
                    return Poll::Ready(Ok(filled));
                }
            }
            // Answers of the protocol itself, such as to new keys.
            if self.unsent == 0 && self.connection.wants_write() {
                let _ = poll_send(&mut self.socket, &mut self.connection, cx)?;
            }
            Poll::Pending
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let count = self.connection.writer().write_vectored(slices)?;
            self.unsent += count;
            if count == 0 {
                // Full. What was sealed has to go first.
                match self.poll_flush(cx)? {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.unsent >= SEND_BYTES {
                let _ = self.poll_flush(cx)?;
            }
            return Poll::Ready(Ok(count));
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = poll_send(&mut self.socket, &mut self.connection, cx);
        if let Poll::Ready(Ok(())) = sent {
            self.unsent = 0;
        }
        sent
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked more than once, it says so once.
        self.connection.send_close_notify();
        // If the socket is full the other side is not told in words, but it sees the end.
        let _ = self.poll_flush(cx)?;
        self.socket.poll_close(cx)
    }
}
