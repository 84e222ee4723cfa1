//! The task of one connection, once both sides have agreed to talk: reads, hands frames over, writes.
//!
//! Invariants: nothing is borrowed while frames are handed over; the task sleeps only with a waker registered for each
//! thing it waits for (socket, timer, queue); a pass is bounded, so that a bulky connection does not hold the reactor;
//! whether a peer is dead is decided only after everything that has arrived was read, so that a pause of our own is not
//! taken for one of the peer's.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::wire::{Frame, FrameDecoder, FrameHead, FrameKind, WireError};
use crate::server::{ConnectionTimer, ReadBuffer};
use crate::transport::{Stream, Transport};

/// Reads of one pass, of 64 KiB at most each.
const READS_PER_PASS: usize = 8;
/// Bytes written in one pass, as soon as which others come first.
const WRITE_BYTES_PER_PASS: usize = 1 << 20;
/// Slices of one vectored write.
const SLICES_MAX: usize = 64;

/// Who stands behind a connection.
pub(super) trait End {
    /// A frame has arrived.
    fn frame(&self, frame: Frame) -> Result<(), WireError>;
    /// Whether more may be read, with so many bytes waiting to be written.
    fn may_read(&self, queued_bytes: usize) -> bool;
    /// So many bytes have come and gone.
    fn transferred(&self, received: usize, sent: usize);
    /// A ping was answered.
    fn round_trip(&self, time: Duration);
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("closed")]
    Closed,
    #[error("the peer closed the connection")]
    Ended,
    #[error("the peer was silent for {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Malformed(#[from] WireError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How a side finds out whether the other is alive.
pub(super) enum Watch {
    /// Asks it.
    Pings {
        interval: Duration,
        next: Instant,
        id: u32,
        /// When the ping was sent whose answer is missing.
        waits_since: Option<Instant>,
    },
    /// Is asked by it.
    Listens,
}

impl Watch {
    pub(super) fn pings(interval: Duration) -> Watch {
        Watch::Pings { interval, next: Instant::now(), id: 0, waits_since: None }
    }
}

/// One connection. Ready when it is over.
pub(super) struct Connection<E> {
    stream: Stream,
    outbox: Rc<Outbox>,
    end: Rc<E>,
    decoder: FrameDecoder,
    read_buffer: Rc<RefCell<ReadBuffer>>,
    timer: ConnectionTimer,
    watch: Watch,
    dead_after: Duration,
    /// When the peer was last seen to live: it said something, or took bytes from a socket that had been full.
    alive_at: Instant,
    /// The socket did not take everything.
    full: bool,
}

impl<E: End> Connection<E> {
    /// `decoder` may hold bytes that were read with the opening.
    pub(super) fn new(
        stream: Stream,
        outbox: Rc<Outbox>,
        end: Rc<E>,
        decoder: FrameDecoder,
        read_buffer: Rc<RefCell<ReadBuffer>>,
        watch: Watch,
        dead_after: Duration,
    ) -> Connection<E> {
        let (timer, alive_at) = (ConnectionTimer::default(), Instant::now());
        Connection { stream, outbox, end, decoder, read_buffer, timer, watch, dead_after, alive_at, full: false }
    }

    /// True if there is more to do, but others come first.
    fn pass(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, ConnectionError> {
        self.timer.has_fired(now);
        let mut reads_left = READS_PER_PASS;
        let mut bytes_left = WRITE_BYTES_PER_PASS;
        loop {
            self.hand_over(now)?;
            if self.outbox.is_closed() {
                return Err(ConnectionError::Closed);
            }
            self.ping(now);
            let unwritten = self.write(cx, now, &mut bytes_left)?;
            if reads_left == 0 || unwritten && !self.full {
                return Ok(true);
            }
            if !self.end.may_read(self.outbox.queued_bytes()) {
                break;
            }
            let mut buffer = self.read_buffer.borrow_mut();
            match self.stream.poll_read(cx, buffer.room())? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(ConnectionError::Ended),
                Poll::Ready(count) => {
                    self.decoder.receive(buffer.take(count));
                    self.end.transferred(count, 0);
                    self.alive_at = now;
                    reads_left -= 1;
                }
            }
        }
        match self.deadline() {
            Some(deadline) if deadline <= now => Err(ConnectionError::Silent(self.dead_after)),
            _ => Ok(false),
        }
    }

    fn hand_over(&mut self, now: Instant) -> Result<(), ConnectionError> {
        while let Some(frame) = self.decoder.next_frame()? {
            match (frame.head.kind, &mut self.watch) {
                (FrameKind::Pong, Watch::Pings { id, waits_since, .. }) if frame.head.id == *id => {
                    if let Some(since) = waits_since.take() {
                        self.end.round_trip(now.saturating_duration_since(since));
                    }
                }
                (FrameKind::Pong, Watch::Pings { .. }) => {}
                (FrameKind::Ping, Watch::Listens) => {
                    self.outbox.push_empty(FrameHead { kind: FrameKind::Pong, ..frame.head });
                }
                _ => self.end.frame(frame)?,
            }
            if self.outbox.is_closed() {
                break;
            }
        }
        Ok(())
    }

    fn ping(&mut self, now: Instant) {
        let Watch::Pings { interval, next, id, waits_since } = &mut self.watch else { return };
        if waits_since.is_some() || now < *next {
            return;
        }
        *id = id.wrapping_add(1);
        *next = now + *interval;
        *waits_since = Some(now);
        self.outbox.push_empty(FrameHead { kind: FrameKind::Ping, code: 0, id: *id });
    }

    /// When the peer is dead if it does nothing until then.
    fn deadline(&self) -> Option<Instant> {
        match self.watch {
            Watch::Listens => Some(self.alive_at + self.dead_after),
            Watch::Pings { waits_since, .. } => waits_since.map(|since| since.max(self.alive_at) + self.dead_after),
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        match self.watch {
            Watch::Pings { waits_since: None, next, .. } => Some(next),
            _ => self.deadline(),
        }
    }

    /// Writes what there is. True if something is left: the socket is full, or the pass has written enough.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant, bytes_left: &mut usize) -> io::Result<bool> {
        let mut output = self.outbox.output.borrow_mut();
        while !output.is_empty() && *bytes_left > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.fill(&mut slices);
            match self.stream.poll_write(cx, &slices[..filled])? {
                Poll::Pending => {
                    self.full = true;
                    return Ok(true);
                }
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    output.advance(count);
                    self.end.transferred(0, count);
                    *bytes_left = bytes_left.saturating_sub(count);
                    if std::mem::take(&mut self.full) {
                        self.alive_at = now;
                    }
                }
            }
        }
        if !output.is_empty() {
            return Ok(true);
        }
        let flushed = self.stream.poll_flush(cx)?.is_ready();
        if flushed && std::mem::take(&mut self.full) {
            self.alive_at = now;
        }
        self.full |= !flushed;
        Ok(!flushed)
    }
}

impl<E: End> Future for Connection<E> {
    type Output = ConnectionError;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let this = self.get_mut();
        this.outbox.task_runs(cx);
        let now = Instant::now();
        match this.pass(cx, now) {
            Err(error) => Poll::Ready(error),
            Ok(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(false) => {
                this.timer.arm(this.next_wakeup(), now, cx);
                this.outbox.task_sleeps();
                Poll::Pending
            }
        }
    }
}
