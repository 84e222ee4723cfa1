//! One connection's task: reads, calls handlers, writes.
//!
//! A pass of the task is: everything that was read is handled, frame by frame; handlers are called as their requests
//! are complete; then all answers leave in one write. Answers that are given later, by other tasks, go straight into
//! the output and wake the task once, so they too leave in one write, however many they are.
//!
//! Invariants: the core is never borrowed while a handler runs; the task sleeps only with a waker registered for each
//! thing it waits for (socket, timer, answers, shutdown).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::rt::Timer;
use bytes::Bytes;

use super::now;
use super::read_buffer::ReadBuffer;
use super::shutdown::{Phase, Subscription};
use crate::grpc::{Action, CallKey, GrpcConnection, ReplySink, Service, Status, StreamReply, Tally, UnaryReply};
use crate::h2::frame::ErrorCode;
use crate::http1::{Http1Reply, HttpSink, Response};
use crate::transport::{Peer, Stream, Transport};
use crate::turn;

/// Calls of handlers in one pass, after which other tasks get their turn. At about 10 µs a call this is what a reactor
/// may be kept from its other work.
const ACTIONS_PER_PASS: usize = 128;
/// Some calls are dearer; so the time of a pass is looked at after so many of them.
const ACTIONS_PER_LOOK: usize = 16;
/// A pass ends when it has taken so long.
const PASS_TIME: Duration = Duration::from_micros(200);
/// What a read takes of the same budget, so that large bodies do not hold the reactor either.
const READ_COST: usize = 8;
/// Bytes of one turn of writing. A client that reads as fast as it is written to would otherwise get a large answer in
/// one go, in some ten milliseconds.
const WRITE_BYTES: usize = 64 << 10;
/// What such a turn takes of the budget of a pass.
const WRITE_COST: usize = 32;
/// Slices of one vectored write.
const SLICES_MAX: usize = 32;
/// How long a closed connection is still read from. Were it closed with bytes unread, the kernel would reset it, and
/// the client might never see our GOAWAY.
const LINGER: Duration = Duration::from_secs(1);

/// The part of a connection that answers reach from outside.
pub(super) struct Shared {
    core: RefCell<GrpcConnection>,
    waker: RefCell<Option<Waker>>,
    /// The task has been woken, or is running, and will write what is in the output.
    awake: Cell<bool>,
}

impl Shared {
    pub(super) fn new(core: GrpcConnection) -> Shared {
        Shared { core: RefCell::new(core), waker: RefCell::new(None), awake: Cell::new(true) }
    }

    fn wake(&self) {
        if !self.awake.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}

impl ReplySink for Shared {
    fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
        self.core.borrow_mut().message(call, encode, finish);
        self.wake();
    }

    fn send_bytes(&self, call: CallKey, body: Bytes, finish: bool) {
        self.core.borrow_mut().message_bytes(call, body, finish);
        self.wake();
    }

    fn send_pieces(&self, call: CallKey, pieces: Vec<Bytes>) {
        self.core.borrow_mut().message_pieces(call, pieces);
        self.wake();
    }

    fn finish(&self, call: CallKey, status: Status) {
        self.core.borrow_mut().finish(call, &status);
        self.wake();
    }

    fn abandon(&self, call: CallKey) {
        self.core.borrow_mut().abandon(call);
        self.wake();
    }

    fn queued_bytes(&self, call: CallKey) -> usize {
        self.core.borrow().queued_bytes(call)
    }

    fn is_closed(&self, call: CallKey) -> bool {
        self.core.borrow().is_closed(call)
    }

    fn on_cancel(&self, call: CallKey, action: Box<dyn FnOnce()>) {
        let too_late = self.core.borrow_mut().on_cancel(call, action);
        if let Some(action) = too_late {
            action();
        }
    }

    fn park(&self, call: CallKey) {
        self.core.borrow_mut().park(call);
        self.wake();
    }
}

/// The answer to a request over HTTP/2 that is not gRPC.
struct Http2Sink {
    shared: Rc<Shared>,
    call: CallKey,
}

impl Http2Sink {
    fn with_core(&self, act: impl FnOnce(&mut GrpcConnection)) {
        act(&mut self.shared.core.borrow_mut());
        self.shared.wake();
    }
}

impl HttpSink for Http2Sink {
    fn respond(&self, response: &Response) {
        self.with_core(|core| core.http_respond(self.call, response, now()));
    }

    fn begin(&self, status: u16, headers: &[(&'static str, Cow<'static, str>)]) {
        self.with_core(|core| core.http_head(self.call, status, headers, None, Some(now())));
    }

    fn upgrade(&self, _headers: &[(&'static str, Cow<'static, str>)]) {
        // HTTP/2 has no such thing.
        self.respond(&Response::error(501, "Not Implemented"));
    }

    fn send(&self, piece: Bytes) {
        self.with_core(|core| core.http_data(self.call, piece));
    }

    fn finish(&self) {
        self.with_core(|core| core.http_end(self.call));
    }

    fn abort(&self) {
        self.with_core(|core| core.http_abort(self.call));
    }

    fn queued_bytes(&self) -> usize {
        self.shared.core.borrow().queued_bytes(self.call)
    }

    fn is_lost(&self) -> bool {
        self.shared.core.borrow().is_closed(self.call)
    }

    fn on_cancel(&self, action: Box<dyn FnOnce()>) {
        ReplySink::on_cancel(&*self.shared, self.call, action);
    }

    fn on_drained(&self, action: Box<dyn FnOnce()>) {
        self.shared.core.borrow_mut().http_on_drained(self.call, action);
    }

    fn peer(&self) -> Rc<Peer> {
        Rc::clone(self.shared.core.borrow().peer())
    }
}

/// The task of an HTTP/2 connection.
pub(super) struct ConnectionTask {
    pub(super) transport: Stream,
    pub(super) shared: Rc<Shared>,
    pub(super) service: Rc<dyn Service>,
    pub(super) read_buffer: Rc<RefCell<ReadBuffer>>,
    pub(super) max_in_flight: usize,
    /// What streams are told when the shutdown begins.
    pub(super) farewell: Option<Status>,
    pub(super) subscription: Subscription,
    pub(super) timer: ConnectionTimer,
    /// How far this connection has followed the shutdown.
    pub(super) phase: Phase,
    /// The client has closed its side.
    pub(super) read_ended: bool,
    /// Everything has been said; what still arrives until then is thrown away.
    pub(super) linger_until: Option<Instant>,
    pub(super) tally: Arc<Tally>,
}

/// How far the output was written.
enum Written {
    /// To its end.
    All,
    /// Until the socket was full.
    Blocked,
    /// As much as a turn may; there is more.
    Enough,
}

/// What a pass found.
enum Pass {
    /// Nothing to do until woken.
    Idle,
    /// There is more to do, but others come first.
    Yield,
    /// There is more to write, but others come first, also those whose requests have not been read yet.
    Pause,
    /// The connection is over.
    Over,
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.keep_waker(cx);
        this.shared.awake.set(true);
        let now = Instant::now();
        let pass = match this.pass(cx, now) {
            Ok(pass) => pass,
            // The client is gone; there is nobody to tell.
            Err(_) => Pass::Over,
        };
        match pass {
            Pass::Idle => {
                this.shared.awake.set(false);
                let deadline = this.linger_until.or_else(|| this.shared.core.borrow().deadline());
                this.timer.arm(deadline, now, cx);
                Poll::Pending
            }
            Pass::Yield => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Pass::Pause => {
                let now = Instant::now();
                this.timer.arm(Some(now + turn::pause(now)), now, cx);
                Poll::Pending
            }
            Pass::Over => {
                this.end(now);
                Poll::Ready(())
            }
        }
    }
}

impl ConnectionTask {
    fn keep_waker(&self, cx: &Context<'_>) {
        let mut waker = self.shared.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
            self.subscription.listen(cx);
        }
    }

    fn pass(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Pass> {
        if !self.follow_clock(now) || !self.follow_shutdown(cx) {
            return Ok(Pass::Over);
        }
        if self.linger_until.is_some() {
            return self.linger(cx, now);
        }
        let mut budget = ACTIONS_PER_PASS;
        loop {
            let used_up = !self.run_actions(&mut budget, now);
            let rest = match self.write(cx)? {
                Written::All if self.is_over() => return self.linger(cx, now),
                Written::All | Written::Blocked => Pass::Idle,
                Written::Enough => {
                    budget = budget.saturating_sub(WRITE_COST);
                    Pass::Pause
                }
            };
            if used_up {
                return Ok(Pass::Yield);
            }
            if !self.may_read() {
                return Ok(rest);
            }
            let mut buffer = self.read_buffer.borrow_mut();
            match self.transport.poll_read(cx, buffer.room())? {
                Poll::Pending => return Ok(rest),
                Poll::Ready(0) => self.read_ended = true,
                Poll::Ready(count) => {
                    let bytes = buffer.take(count);
                    self.shared.core.borrow_mut().h2().receive(bytes, now);
                    budget = budget.saturating_sub(READ_COST);
                }
            }
        }
    }

    /// Nothing more will be served or sent.
    fn is_over(&self) -> bool {
        let mut core = self.shared.core.borrow_mut();
        self.read_ended || core.h2().is_closed() || core.h2().is_drained()
    }

    /// Waits for the client to close, for a while.
    fn linger(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<Pass> {
        if self.linger_until.is_none() {
            self.end(now);
            // Closing is a system call; it never waits.
            let _ = self.transport.poll_close(cx)?;
            self.linger_until = Some(now + LINGER);
        }
        if self.read_ended || self.linger_until.is_some_and(|until| until <= now) {
            return Ok(Pass::Over);
        }
        let mut buffer = self.read_buffer.borrow_mut();
        for _ in 0..ACTIONS_PER_PASS / READ_COST {
            match self.transport.poll_read(cx, buffer.room())? {
                Poll::Pending => return Ok(Pass::Idle),
                Poll::Ready(0) => return Ok(Pass::Over),
                Poll::Ready(_) => {}
            }
        }
        Ok(Pass::Yield)
    }

    fn may_read(&self) -> bool {
        let mut core = self.shared.core.borrow_mut();
        !self.read_ended && core.in_flight() < self.max_in_flight && core.h2().wants_read()
    }

    /// False if the client is dead.
    fn follow_clock(&mut self, now: Instant) -> bool {
        !self.timer.has_fired(now) || self.shared.core.borrow_mut().on_timeout(now)
    }

    /// False if the connection is to be cut.
    fn follow_shutdown(&mut self, cx: &Context<'_>) -> bool {
        let phase = self.subscription.phase();
        if phase > self.phase {
            self.phase = phase;
            self.subscription.listen(cx);
            let core = &mut *self.shared.core.borrow_mut();
            core.h2().start_drain();
            if let Some(status) = &self.farewell {
                core.end_lasting(status);
            }
        }
        phase < Phase::Closing
    }

    /// Calls handlers for everything that was read. False if the budget is used up before.
    fn run_actions(&mut self, budget: &mut usize, now: Instant) -> bool {
        let mut calls = 0;
        let done = loop {
            if *budget == 0 {
                break false;
            }
            let action = self.shared.core.borrow_mut().next_action(now);
            let Some(action) = action else { break true };
            *budget -= 1;
            turn::short_work_came();
            calls += u64::from(matches!(action, Action::Unary { .. }));
            let is_long = matches!(action, Action::Unpacked);
            self.run(action);
            if (is_long || budget.is_multiple_of(ACTIONS_PER_LOOK)) && now.elapsed() > PASS_TIME {
                *budget = 0;
            }
        };
        self.tally.pass(calls, || now.elapsed());
        done
    }

    fn run(&self, action: Action) {
        let sink = || Rc::clone(&self.shared) as Rc<dyn ReplySink>;
        let (key, handler) = match action {
            Action::Unary { method, call, body, key } => {
                return self.service.unary(method, &call, body, UnaryReply::new(sink(), key));
            }
            Action::Http { request, key } => {
                let sink = Http2Sink { shared: Rc::clone(&self.shared), call: key };
                return self.service.http1(request, Http1Reply::new(Rc::new(sink)));
            }
            Action::Open { method, call, key } => match &self.farewell {
                Some(status) if self.phase > Phase::Running => {
                    return self.shared.core.borrow_mut().finish(key, status);
                }
                _ => (key, self.service.stream(method, &call, StreamReply::new(sink(), key))),
            },
            Action::Message(key, mut handler, body) => {
                handler.message(body);
                (key, handler)
            }
            Action::HalfClose(key, mut handler) => {
                handler.half_close();
                (key, handler)
            }
            Action::Writable(key, mut handler) => {
                handler.writable();
                (key, handler)
            }
            Action::Closed(mut handler) => return handler.closed(),
            Action::Unpacked => return,
            Action::Cancelled(action) => return action(),
            Action::Discard(..) => return,
        };
        let orphan = self.shared.core.borrow_mut().restore(key, handler);
        drop(orphan);
    }

    /// Writes what output there is, as much as a turn may.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Written> {
        let mut core = self.shared.core.borrow_mut();
        let h2 = core.h2();
        let mut written = 0;
        loop {
            h2.flush();
            let output = h2.output();
            if output.is_empty() {
                return Ok(match self.transport.poll_flush(cx)? {
                    Poll::Ready(()) => Written::All,
                    Poll::Pending => Written::Blocked,
                });
            }
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
    }

    /// Tells the handlers of open calls that their connection is gone.
    fn end(&mut self, now: Instant) {
        {
            let mut core = self.shared.core.borrow_mut();
            core.h2().close(ErrorCode::NO_ERROR, "");
            core.lose_all();
        }
        while !self.run_actions(&mut { usize::MAX }, now) {}
    }
}

/// The next deadline of a connection. Moving it to later costs nothing: it fires early once, and is armed again.
#[derive(Default)]
pub(crate) struct ConnectionTimer {
    armed: Option<(Instant, Timer)>,
}

impl ConnectionTimer {
    pub(crate) fn has_fired(&mut self, now: Instant) -> bool {
        let fired = self.armed.as_ref().is_some_and(|(when, _)| *when <= now);
        if fired {
            self.armed = None;
        }
        fired
    }

    pub(crate) fn arm(&mut self, deadline: Option<Instant>, now: Instant, cx: &mut Context<'_>) {
        let Some(deadline) = deadline else { return };
        if self.armed.as_ref().is_some_and(|(when, _)| *when <= deadline) {
            return;
        }
        let mut timer = Timer::new(deadline.saturating_duration_since(now));
        if Pin::new(&mut timer).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.armed = Some((deadline, timer));
    }
}
