//! The task of an HTTP/1.1 connection: one request after the other, each answered before the next is looked at.
//!
//! Invariants: what is read ahead is bounded by the decoder's limits and one read; nothing is read while a request is
//! being answered but what tells that the client is gone.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::ConnectionTimer;
use super::read_buffer::ReadBuffer;
use super::reply::{Http1Reply, HttpSink, now};
use super::shutdown::{Phase, Shutdown, Subscription};
use crate::grpc::{Peer, Service};
use crate::h2::Output;
use crate::http1::{
    BodyCoding, CONTINUE, Decoder, Event, Framing, Response, write_chunk, write_response, write_stream_head,
};
use crate::transport::{Stream, Transport};

/// How long a request may take to arrive, once it has begun (etcd's header timeout).
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// What may be read ahead while a request is being answered.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;
/// Slices of one write.
const SLICES_MAX: usize = 8;

/// How far the answer to the current request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// There is no request.
    Idle,
    /// The handler has the request.
    Waiting(Framing),
    /// The handler sends a body in pieces.
    Streaming(Framing, BodyCoding),
    /// The answer is complete, and `keep_alive` says whether another request may follow.
    Done { keep_alive: bool },
}

/// The part of an HTTP/1.1 connection that answers reach from outside.
pub(super) struct Http1Shared {
    peer: Rc<Peer>,
    /// Counts requests, so that a late answer never goes to the next one.
    request: Cell<u64>,
    progress: Cell<Progress>,
    output: RefCell<Output>,
    waker: RefCell<Option<Waker>>,
    /// The task will look at the output without being woken.
    awake: Cell<bool>,
    /// The connection is gone.
    lost: Cell<bool>,
    on_cancel: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Http1Shared {
    pub(super) fn new(peer: Rc<Peer>) -> Http1Shared {
        Http1Shared {
            peer,
            request: Cell::new(0),
            progress: Cell::new(Progress::Idle),
            output: RefCell::default(),
            waker: RefCell::new(None),
            awake: Cell::new(true),
            lost: Cell::new(false),
            on_cancel: RefCell::new(None),
        }
    }

    fn wake(&self) {
        if !self.awake.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    fn complete(&self, keep_alive: bool) {
        self.progress.set(Progress::Done { keep_alive });
        let unused = self.on_cancel.borrow_mut().take();
        drop(unused);
        self.wake();
    }
}

/// The answer to one request.
struct Http1Sink {
    shared: Rc<Http1Shared>,
    request: u64,
}

impl Http1Sink {
    fn progress(&self) -> Progress {
        let current = self.request == self.shared.request.get() && !self.shared.lost.get();
        if current { self.shared.progress.get() } else { Progress::Idle }
    }
}

impl HttpSink for Http1Sink {
    fn respond(&self, response: &Response) {
        let Progress::Waiting(framing) = self.progress() else { return };
        write_response(self.shared.output.borrow_mut().buffer(), response, framing, &now());
        self.shared.complete(framing.keep_alive);
    }

    fn begin(&self, status: u16, headers: &[(&'static str, Cow<'static, str>)]) {
        let Progress::Waiting(framing) = self.progress() else { return };
        let coding = write_stream_head(self.shared.output.borrow_mut().buffer(), status, headers, framing, &now());
        self.shared.progress.set(Progress::Streaming(framing, coding));
        self.shared.wake();
    }

    fn send(&self, piece: Bytes) {
        let Progress::Streaming(_, coding) = self.progress() else { return };
        write_chunk(self.shared.output.borrow_mut().buffer(), coding, &piece);
        self.shared.wake();
    }

    fn finish(&self) {
        let Progress::Streaming(framing, coding) = self.progress() else { return };
        write_chunk(self.shared.output.borrow_mut().buffer(), coding, &[]);
        self.shared.complete(framing.keep_alive && coding != BodyCoding::UntilClose);
    }

    fn abort(&self) {
        if let Progress::Streaming(..) = self.progress() {
            self.shared.complete(false);
        }
    }

    fn queued_bytes(&self) -> usize {
        self.shared.output.borrow().len()
    }

    fn is_lost(&self) -> bool {
        !matches!(self.progress(), Progress::Waiting(_) | Progress::Streaming(..))
    }

    fn on_cancel(&self, action: Box<dyn FnOnce()>) {
        if self.is_lost() {
            return action();
        }
        let earlier = self.shared.on_cancel.borrow_mut().replace(action);
        drop(earlier);
    }

    fn peer(&self) -> Rc<Peer> {
        Rc::clone(&self.shared.peer)
    }
}

pub(super) struct Http1Task {
    pub(super) transport: Stream,
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

impl Future for Http1Task {
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
        // The client may want to know that nothing was cut off. Whether it hears of it is no concern of ours.
        let _ = this.transport.poll_close(cx);
        let cancelled = this.shared.on_cancel.borrow_mut().take();
        if let Some(action) = cancelled {
            action();
        }
        Poll::Ready(())
    }
}

impl Http1Task {
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
                    self.shared.request.set(self.shared.request.get() + 1);
                    let sink = Http1Sink { shared: Rc::clone(&self.shared), request: self.shared.request.get() };
                    self.service.http1(request, Http1Reply::new(Rc::new(sink)));
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
        Ok(self.transport.poll_flush(cx)?.is_ready())
    }
}
