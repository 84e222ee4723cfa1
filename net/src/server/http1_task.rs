//! The task of an HTTP/1.1 connection: one request after the other, each answered before the next is looked at.
//!
//! Invariants: what is read ahead is bounded by the decoder's limits and one read; nothing is read while a request is
//! being answered but the rest of its body, if that comes in pieces, and what tells that the client is gone.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::http2_task::ConnectionTimer;
use super::now;
use super::read_buffer::ReadBuffer;
use super::shutdown::{Phase, Shutdown, Subscription};
use crate::grpc::{BodyHandler, Service};
use crate::h2::Output;
use crate::h2::limits::{OUTPUT_READ_PAUSE_BYTES, SHARED_BODY_BYTES_MIN, STREAM_LOW_WATER_BYTES};
use crate::http1::{
    BodyCoding, CONTINUE, Decoder, Event, Framing, Http1Reply, HttpSink, Response, write_chunk, write_chunk_end,
    write_chunk_head, write_response_head, write_stream_head, write_upgrade_head,
};
use crate::transport::{Peer, Stream, Transport};
use crate::turn;

/// How long a request may take to arrive, once it has begun.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// What may be read ahead while a request is being answered.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of one turn of writing, as over HTTP/2.
const WRITE_BYTES: usize = 64 << 10;
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
    on_drained: RefCell<Option<Box<dyn FnOnce()>>>,
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
            on_drained: RefCell::new(None),
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
        let unused = (self.on_cancel.borrow_mut().take(), self.on_drained.borrow_mut().take());
        drop(unused);
        self.wake();
    }

    /// Lets a producer go on whose bytes have mostly left. Whether there was one.
    fn run_drained(&self) -> bool {
        if self.output.borrow().len() > STREAM_LOW_WATER_BYTES {
            return false;
        }
        let action = self.on_drained.borrow_mut().take();
        let Some(action) = action else { return false };
        action();
        true
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
        let mut output = self.shared.output.borrow_mut();
        if write_response_head(output.buffer(), response, framing, &now()) {
            append(&mut output, &response.body);
        }
        drop(output);
        self.shared.complete(framing.keep_alive);
    }

    fn begin(&self, status: u16, headers: &[(&'static str, Cow<'static, str>)]) {
        let Progress::Waiting(framing) = self.progress() else { return };
        let coding = write_stream_head(self.shared.output.borrow_mut().buffer(), status, headers, framing, &now());
        self.shared.progress.set(Progress::Streaming(framing, coding));
        self.shared.wake();
    }

    fn upgrade(&self, headers: &[(&'static str, Cow<'static, str>)]) {
        let Progress::Waiting(framing) = self.progress() else { return };
        write_upgrade_head(self.shared.output.borrow_mut().buffer(), headers);
        self.shared.progress.set(Progress::Streaming(framing, BodyCoding::UntilClose));
        self.shared.wake();
    }

    fn send(&self, piece: Bytes) {
        let Progress::Streaming(_, coding) = self.progress() else { return };
        if coding != BodyCoding::None {
            let mut output = self.shared.output.borrow_mut();
            write_chunk_head(output.buffer(), coding, piece.len());
            append(&mut output, &piece);
            write_chunk_end(output.buffer(), coding);
        }
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

    fn on_drained(&self, action: Box<dyn FnOnce()>) {
        if !self.is_lost() {
            let earlier = self.shared.on_drained.borrow_mut().replace(action);
            drop(earlier);
        }
    }

    fn peer(&self) -> Rc<Peer> {
        Rc::clone(&self.shared.peer)
    }
}

/// Appends bytes; many are passed on as they are.
fn append(output: &mut Output, bytes: &Bytes) {
    if bytes.len() < SHARED_BODY_BYTES_MIN {
        output.buffer().extend_from_slice(bytes);
    } else {
        output.splice(bytes.clone());
    }
}

/// How far the output was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// To its end.
    All,
    /// Until the socket was full.
    Blocked,
    /// As much as a turn may; there is more.
    Enough,
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
    /// Takes the rest of the current request's body.
    pub(super) body: Option<Box<dyn BodyHandler>>,
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
        drop(this.shared.on_drained.borrow_mut().take());
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
            if self.shared.run_drained() {
                continue;
            }
            if written == Written::Enough {
                self.timer.arm(Some(now + turn::pause(now)), now, cx);
                return Ok(false);
            }
            match self.shared.progress.get() {
                _ if written == Written::Blocked => {}
                _ if refused => return Ok(true),
                Progress::Done { keep_alive } => {
                    // Where a body that is not wanted any more would end is not waited for.
                    if !keep_alive || self.body.is_some() || self.shutdown.phase() > Phase::Running {
                        return Ok(true);
                    }
                    self.shared.progress.set(Progress::Idle);
                    continue;
                }
                Progress::Idle if self.read_ended => return Ok(true),
                Progress::Idle if self.shutdown.phase() > Phase::Running && self.decoder.is_idle() => return Ok(true),
                // Nobody is left to read an endless body. A client that only ended its own side still gets its answer.
                Progress::Streaming(..) if self.read_ended => return Ok(true),
                // Such answers last as long as their clients like: as calls of gRPC that do, they end with the server.
                Progress::Streaming(..) if self.shutdown.phase() > Phase::Running => return Ok(true),
                // A request that will not be complete.
                Progress::Waiting(_) if self.read_ended && self.body.is_some() => return Ok(true),
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
        while self.may_decode() {
            let service = &self.service;
            let step = match self.decoder.advance_as(&self.input, &|head| service.body_mode(head)) {
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
                    let reply = self.begin(request.framing());
                    self.service.http1(request, reply);
                }
                Event::Open(request) => {
                    let reply = self.begin(request.framing());
                    self.body = Some(self.service.http1_open(request, reply));
                }
                Event::Piece(piece) => self.body.as_mut().expect("it was opened").piece(piece),
                Event::End => self.body.take().expect("it was opened").end(),
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(true)
    }

    /// Whether the input may be looked at: there is no request, or the rest of its body is to come and its answers are
    /// taken.
    fn may_decode(&self) -> bool {
        if self.body.is_none() {
            return self.is_idle() && !self.input.is_empty();
        }
        self.shared.output.borrow().len() < OUTPUT_READ_PAUSE_BYTES
    }

    /// A request is here: where its answer goes.
    fn begin(&self, framing: Framing) -> Http1Reply {
        let keep_alive = framing.keep_alive && self.shutdown.phase() == Phase::Running;
        self.shared.progress.set(Progress::Waiting(Framing { keep_alive, ..framing }));
        self.shared.request.set(self.shared.request.get() + 1);
        let sink = Http1Sink { shared: Rc::clone(&self.shared), request: self.shared.request.get() };
        Http1Reply::new(Rc::new(sink))
    }

    /// Writes what output there is, as much as a turn may.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Written> {
        let mut output = self.shared.output.borrow_mut();
        let mut written = 0;
        while !output.is_empty() {
            if written >= WRITE_BYTES {
                return Ok(Written::Enough);
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.fill(&mut slices);
            match self.transport.poll_write(cx, &slices[..filled])? {
                Poll::Pending => return Ok(Written::Blocked),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    output.advance(count);
                    written += count;
                }
            }
        }
        Ok(if self.transport.poll_flush(cx)?.is_ready() { Written::All } else { Written::Blocked })
    }
}
