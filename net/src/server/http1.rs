//! The task of an HTTP/1.1 connection: one request after the other, each answered before the next is looked at.
//!
//! Invariants: what is read ahead is bounded by the decoder's limits and one read; nothing is read while a request is
//! being answered but what tells that the client is gone.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::connection::ConnectionTimer;
use super::read_buffer::ReadBuffer;
use super::reply::{Http1Reply, Http1Shared, Progress};
use super::shutdown::{Phase, Shutdown, Subscription};
use super::transport::Transport;
use crate::grpc::Service;
use crate::http1::{CONTINUE, Decoder, Event, Framing};

/// How long a request may take to arrive, once it has begun (etcd's header timeout).
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// What may be read ahead while a request is being answered.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;
/// Slices of one write.
const SLICES_MAX: usize = 8;

pub(super) struct Http1Task<T> {
    pub(super) transport: T,
    pub(super) shared: Rc<Http1Shared>,
    pub(super) service: Rc<dyn Service>,
    pub(super) read_buffer: Rc<RefCell<ReadBuffer>>,
    pub(super) shutdown: Shutdown,
    pub(super) subscription: Subscription,
    pub(super) timer: ConnectionTimer,
    pub(super) decoder: Decoder,
    /// What was read and not yet taken by the decoder.
    pub(super) input: Vec<u8>,
    /// When the request that is arriving has to be complete.
    pub(super) request_deadline: Option<Instant>,
    pub(super) read_ended: bool,
}

impl<T: Transport + Unpin> Future for Http1Task<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        *this.shared.waker.borrow_mut() = Some(cx.waker().clone());
        this.subscription.listen(cx);
        this.shared.awake.set(true);
        // An error means that the client is gone; there is nobody to tell.
        let over = this.pass(cx).unwrap_or(true);
        if !over {
            this.shared.awake.set(false);
            return Poll::Pending;
        }
        this.shared.lost.set(true);
        let cancelled = this.shared.on_cancel.borrow_mut().take();
        if let Some(action) = cancelled {
            action();
        }
        Poll::Ready(())
    }
}

impl<T: Transport> Http1Task<T> {
    /// True if the connection is over.
    fn pass(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let now = Instant::now();
        self.timer.has_fired(now);
        if self.request_deadline.is_some_and(|deadline| deadline <= now) || self.shutdown.phase() == Phase::Closing {
            return Ok(true);
        }
        loop {
            let refused = !self.decode()?;
            let written = self.write(cx)?;
            match self.shared.progress.get() {
                _ if !written => {}
                _ if refused => return Ok(true),
                Progress::Done { keep_alive } => {
                    if !keep_alive || self.shutdown.phase() > Phase::Running {
                        return Ok(true);
                    }
                    self.shared.progress.set(Progress::Idle);
                    continue;
                }
                Progress::Idle if self.read_ended => return Ok(true),
                Progress::Idle if self.shutdown.phase() > Phase::Running && self.decoder.is_idle() => return Ok(true),
                // Nobody is left to read an endless body. A client that only ended its own side still gets its answer.
                Progress::Streaming(..) if self.read_ended => return Ok(true),
                _ => {}
            }
            self.watch_request(now, cx);
            if self.read_ended || self.input.len() >= READ_AHEAD_BYTES_MAX && !self.is_idle() {
                return Ok(false);
            }
            let mut buffer = self.read_buffer.borrow_mut();
            match self.transport.poll_read(cx, buffer.room())? {
                Poll::Pending => return Ok(false),
                Poll::Ready(0) => self.read_ended = true,
                Poll::Ready(count) => self.input.extend_from_slice(&buffer.take(count)),
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.shared.progress.get() == Progress::Idle
    }

    /// Sets or clears the deadline of the request that is arriving.
    fn watch_request(&mut self, now: Instant, cx: &mut Context<'_>) {
        let arriving = self.is_idle() && !(self.decoder.is_idle() && self.input.is_empty());
        self.request_deadline = match self.request_deadline {
            _ if !arriving => None,
            None => Some(now + REQUEST_TIMEOUT),
            deadline => deadline,
        };
        self.timer.arm(self.request_deadline, now, cx);
    }

    /// Takes the next request from the input and hands it to the service. False if the input is refused.
    fn decode(&mut self) -> io::Result<bool> {
        while self.is_idle() && !self.input.is_empty() {
            let step = match self.decoder.advance(&self.input) {
                Ok(step) => step,
                Err(error) => {
                    error.write_response(self.shared.output.borrow_mut().buffer());
                    self.input = Vec::new();
                    return Ok(false);
                }
            };
            self.input.drain(..step.consumed);
            match step.event {
                Event::NeedMore => break,
                Event::SendContinue => self.shared.output.borrow_mut().buffer().extend_from_slice(CONTINUE),
                Event::Request(request) => {
                    let framing = request.framing();
                    let keep_alive = framing.keep_alive && self.shutdown.phase() == Phase::Running;
                    self.shared.progress.set(Progress::Waiting(Framing { keep_alive, ..framing }));
                    self.service.http1(request, Http1Reply::new(Rc::clone(&self.shared)));
                }
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(true)
    }

    /// Writes all output there is. False if the socket is full.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut output = self.shared.output.borrow_mut();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.fill(&mut slices);
            match self.transport.poll_write(cx, &slices[..filled])? {
                Poll::Pending => return Ok(false),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => output.advance(count),
            }
        }
        Ok(true)
    }
}
