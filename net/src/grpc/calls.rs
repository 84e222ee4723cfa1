//! The calls of one connection, without any I/O: HTTP/2 events in, calls to handlers out; answers in, frames out.
//!
//! ```text
//!   bytes ▶ h2::Connection ▶ Event ▶ GrpcConnection::next_action ▶ Action ▶ the shell calls the Service
//!   bytes ◀ h2::Connection ◀ send_* ◀ message / finish            ◀ ReplySink ◀ UnaryReply, StreamReply
//! ```
//!
//! A handler is never called from in here, because it answers into this very object. So what has to be called is
//! handed out as an `Action`, with the handler itself; the shell calls it and brings it back (`restore`).
//!
//! Invariants: a call is in `calls` from its first frame to its last; its key is that of its stream. A handler that
//! must not be called again is handed out for dropping, never dropped in here, because dropping may answer too.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::DEADLINE_EXCEEDED;
use super::call::Call;
use super::call_head::{CallHead, MethodTable, Refusal};
use super::http::HttpRequest;
use super::message::{Coding, MessageReader, PREFIX_BYTES, Taken, prefix};
use super::service::{CallKey, MethodKind, StreamHandler};
use super::status::{Code, Status, percent_encoded};
use super::tally::Tally;
use crate::h2::frame::StreamId;
use crate::h2::hpack::Constant;
use crate::h2::limits::SHARED_BODY_BYTES_MIN;
use crate::h2::{Config, Connection, Event, StreamKey, Trailers};
use crate::http1::{Http1Request, Limits};
use crate::transport::Peer;

/// Incomplete messages of one connection, all together.
pub const PARTIAL_BYTES_MAX: usize = 64 << 20;
/// Largest message that is sent (grpc-go: 2^31 - 1).
const SEND_BYTES_MAX: usize = i32::MAX as usize;
/// Deadlines are looked at no more often than this.
const DEADLINE_STEP: Duration = Duration::from_millis(5);

/// Bounds of the calls of a connection, and what it shares with the others of its reactor.
#[derive(Clone)]
pub struct CallLimits {
    /// Largest request message.
    pub max_recv_message_bytes: usize,
    /// Unary calls in flight on the reactor beyond which new ones get `overload`.
    pub max_in_flight_per_reactor: usize,
    /// The answer beyond it.
    pub overload: Status,
    /// The answer to a call that its handler has let go of.
    pub abandoned: Status,
    /// Unary calls in flight on the reactor.
    pub in_flight_on_reactor: Rc<Cell<usize>>,
    /// Bounds of requests that are not gRPC, if such are served (they are on TLS connections). `None`: they get 415.
    pub http: Option<Limits>,
    /// What the reactor counts.
    pub tally: Arc<Tally>,
}

/// What the shell has to do next.
pub enum Action {
    /// Call `Service::unary`.
    Unary {
        /// Position of the method.
        method: usize,
        call: Call,
        /// The request.
        body: Bytes,
        /// Where the answer goes.
        key: CallKey,
    },
    /// Call `Service::stream`, then `restore`.
    Open {
        /// Position of the method.
        method: usize,
        call: Call,
        /// Where the answers go.
        key: CallKey,
    },
    /// Call `Service::http1`.
    Http {
        request: Http1Request,
        /// Where the answer goes.
        key: CallKey,
    },
    /// Call `StreamHandler::message`, then `restore`.
    Message(CallKey, Box<dyn StreamHandler>, Bytes),
    /// Call `StreamHandler::half_close`, then `restore`.
    HalfClose(CallKey, Box<dyn StreamHandler>),
    /// Call `StreamHandler::writable`, then `restore`.
    Writable(CallKey, Box<dyn StreamHandler>),
    /// Call `StreamHandler::closed`, then drop it.
    Closed(Box<dyn StreamHandler>),
    /// Nothing to call: a message is being unpacked, which took about as long as a call.
    Unpacked,
    /// Call it: a call is lost, or has room for more of its answer.
    Cancelled(Box<dyn FnOnce()>),
    /// Drop what a finished call leaves behind.
    Discard(Option<Box<dyn StreamHandler>>, Option<Box<dyn FnOnce()>>),
}

/// How far a call's request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Messages are expected.
    Receiving,
    /// A unary request is complete, but the client has not ended its side. The handler waits for the end of what was
    /// read, so that the stream usually ends in good order instead of by a reset.
    Complete,
    /// The request is with its handler (unary), or the client has ended its side (streams).
    Done,
}

/// What a call is.
pub(super) enum Kind {
    Unary,
    Stream,
    /// Not gRPC at all.
    Http(Box<HttpRequest>),
}

pub(super) struct CallState {
    id: StreamId,
    method: usize,
    pub(super) kind: Kind,
    progress: Progress,
    /// The client's side has ended, but messages before that may still be in `reader`.
    ended: bool,
    head_sent: bool,
    /// A message has come.
    was_asked: bool,
    /// Counts as in flight.
    counted: bool,
    call: Call,
    /// The complete request of a unary call.
    request: Bytes,
    reader: MessageReader,
    handler: Option<Box<dyn StreamHandler>>,
    on_cancel: Option<Box<dyn FnOnce()>>,
}

/// The calls of one connection.
pub struct GrpcConnection {
    pub(super) h2: Connection<CallHead>,
    methods: Rc<MethodTable>,
    peer: Rc<Peer>,
    pub(super) limits: Rc<CallLimits>,
    /// By slot of the stream.
    calls: Vec<Option<CallState>>,
    /// Unary calls that have not been answered.
    in_flight: usize,
    partial_bytes: usize,
    /// The call whose messages are being taken from its reader.
    current: Option<CallKey>,
    /// Calls in `Progress::Complete`.
    complete: Vec<CallKey>,
    actions: VecDeque<Action>,
    /// No call's deadline is before this.
    next_deadline: Option<Instant>,
}

impl GrpcConnection {
    /// A connection on which nothing has been read.
    pub fn new(
        config: Config,
        limits: Rc<CallLimits>,
        methods: Rc<MethodTable>,
        peer: Rc<Peer>,
        now: Instant,
    ) -> GrpcConnection {
        GrpcConnection {
            h2: Connection::new(config, now),
            methods,
            peer,
            limits,
            calls: Vec::new(),
            in_flight: 0,
            partial_bytes: 0,
            current: None,
            complete: Vec::new(),
            actions: VecDeque::new(),
            next_deadline: None,
        }
    }

    /// The connection below.
    pub fn h2(&mut self) -> &mut Connection<CallHead> {
        &mut self.h2
    }

    /// Unary calls that have not been answered and are not parked.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The next thing to do, or `None` when the input is used up.
    pub fn next_action(&mut self, now: Instant) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if let Some(key) = self.current {
                match self.advance(key) {
                    Some(action) => return Some(action),
                    None => self.current = None,
                }
                continue;
            }
            match self.h2.poll_event(now) {
                Some(event) => {
                    if let Some(action) = self.on_event(event, now) {
                        return Some(action);
                    }
                }
                None => return self.next_complete().or_else(|| self.next_writable()),
            }
        }
    }

    fn on_event(&mut self, event: Event<CallHead>, now: Instant) -> Option<Action> {
        match event {
            Event::Request { key, head, end } => {
                let digest = head.digest.get_or_init(|| CallHead::new(&head, &self.methods));
                if !digest.is_grpc && self.limits.http.is_some() {
                    return self.open_http(key, head, end);
                }
                let method = match &digest.method {
                    Ok(method) => *method,
                    Err(refusal) => {
                        let refusal = refusal.clone();
                        self.refuse(key, &refusal);
                        return None;
                    }
                };
                let deadline = digest.timeout.and_then(|timeout| now.checked_add(timeout));
                if let Some(deadline) = deadline {
                    self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
                }
                let coding = digest.coding;
                let call = Call::new(head, Rc::clone(&self.peer), deadline, now);
                self.open(key, method, call, coding, end)
            }
            Event::Data { key, data, end } => {
                let key = call_key(key);
                let call = self.call_mut(key)?;
                call.ended = end;
                if matches!(call.kind, Kind::Http(_)) {
                    return self.on_http_data(key, &data, end);
                }
                if matches!(call.kind, Kind::Unary) && call.progress != Progress::Receiving {
                    // Whatever follows a unary request is ignored, but for its end.
                    return if call.progress == Progress::Complete && end { self.dispatch(key) } else { None };
                }
                call.reader.push(data);
                self.advance(key).inspect(|_| self.current = Some(key))
            }
            Event::Reset { key } => {
                self.lose(call_key(key));
                None
            }
        }
    }

    fn open(&mut self, key: StreamKey, method: usize, call: Call, coding: Coding, ended: bool) -> Option<Action> {
        let unary = self.methods.get(method).kind == MethodKind::Unary;
        self.limits.tally.start(method);
        let open = (!unary).then(|| call.clone());
        self.insert(key, if unary { Kind::Unary } else { Kind::Stream }, method, call, ended);
        let key = call_key(key);
        self.call_mut(key).expect("it was just made").reader = MessageReader::new(coding);
        if ended {
            self.current = Some(key);
        }
        open.map(|call| Action::Open { method, call, key })
    }

    pub(super) fn insert(&mut self, key: StreamKey, kind: Kind, method: usize, call: Call, ended: bool) {
        let slot = key.slot as usize;
        if slot >= self.calls.len() {
            self.calls.resize_with(slot + 1, || None);
        }
        self.calls[slot] = Some(CallState {
            id: key.id,
            method,
            kind,
            progress: Progress::Receiving,
            ended,
            head_sent: false,
            was_asked: false,
            counted: false,
            call,
            request: Bytes::new(),
            reader: MessageReader::default(),
            handler: None,
            on_cancel: None,
        });
    }

    /// Takes the next message of a call, or its end. `None` if there is nothing to do for now.
    fn advance(&mut self, key: CallKey) -> Option<Action> {
        let max_bytes = self.limits.max_recv_message_bytes;
        let call = self.call_mut(key)?;
        if call.progress != Progress::Receiving {
            return None;
        }
        let partial_before = call.reader.partial_bytes();
        let next = call.reader.next(max_bytes);
        let partial_after = call.reader.partial_bytes();
        let (unary, ended) = (matches!(call.kind, Kind::Unary), call.ended);
        self.partial_bytes = self.partial_bytes + partial_after - partial_before;
        match next {
            Err(status) => {
                self.fail(key, &status);
                None
            }
            Ok(Taken::Message(body)) if unary => {
                let call = self.calls[key.slot as usize].as_mut().expect("it was just there");
                self.limits.tally.receive(call.method, body.len());
                call.request = body;
                call.progress = Progress::Complete;
                if ended {
                    return self.dispatch(key);
                }
                self.complete.push(key);
                None
            }
            Ok(Taken::Message(body)) => {
                let call = self.calls[key.slot as usize].as_mut().expect("it was just there");
                self.limits.tally.receive(call.method, body.len());
                call.was_asked = true;
                let handler = call.handler.take()?;
                Some(Action::Message(key, handler, body))
            }
            Ok(Taken::Nothing) if ended => self.end_of_request(key, unary),
            Ok(_) if self.partial_bytes > PARTIAL_BYTES_MAX => {
                self.fail(key, &Status::new(Code::ResourceExhausted, "too many incomplete messages"));
                None
            }
            Ok(Taken::Busy) => Some(Action::Unpacked),
            Ok(Taken::Nothing) => None,
        }
    }

    /// The client's side of a call has ended, and every message has been taken.
    fn end_of_request(&mut self, key: CallKey, unary: bool) -> Option<Action> {
        let call = self.call_mut(key)?;
        call.progress = Progress::Done;
        let (cut, method, was_asked) = (!call.reader.is_at_boundary(), call.method, call.was_asked);
        let code = if unary { Code::Unknown } else { Code::Internal };
        if cut {
            self.fail(key, &Status::new(code, "unexpected EOF"));
            return None;
        }
        // The handler waits for a request that will not come.
        let unasked = unary || self.methods.get(method).kind == MethodKind::ServerStream && !was_asked;
        if unasked {
            self.fail(key, &Status::new(Code::Unknown, "EOF"));
            return None;
        }
        let handler = self.call_mut(key)?.handler.take()?;
        Some(Action::HalfClose(key, handler))
    }

    /// Hands a complete unary request to its handler.
    fn dispatch(&mut self, key: CallKey) -> Option<Action> {
        if self.limits.in_flight_on_reactor.get() >= self.limits.max_in_flight_per_reactor {
            let overload = self.limits.overload.clone();
            self.limits.tally.refuse();
            self.fail(key, &overload);
            return None;
        }
        let call = self.call_mut(key)?;
        assert_eq!(call.progress, Progress::Complete);
        call.progress = Progress::Done;
        call.counted = true;
        let action = Action::Unary {
            method: call.method,
            call: call.call.clone(),
            body: std::mem::take(&mut call.request),
            key,
        };
        self.change_in_flight(1);
        Some(action)
    }

    /// Unary requests whose clients have not ended their side.
    fn next_complete(&mut self) -> Option<Action> {
        while let Some(key) = self.complete.pop() {
            if self.call_mut(key).is_some_and(|call| call.progress == Progress::Complete) {
                return self.dispatch(key);
            }
        }
        None
    }

    fn next_writable(&mut self) -> Option<Action> {
        while let Some(key) = self.h2.poll_drained() {
            let key = call_key(key);
            let Some(call) = self.call_mut(key) else { continue };
            if let Kind::Http(request) = &mut call.kind {
                if let Some(action) = request.take_on_drained() {
                    return Some(Action::Cancelled(action));
                }
            } else if let Some(handler) = call.handler.take() {
                return Some(Action::Writable(key, handler));
            }
        }
        None
    }

    /// Brings back a handler that was handed out. One whose call has ended meanwhile is returned, to be dropped.
    pub fn restore(&mut self, key: CallKey, handler: Box<dyn StreamHandler>) -> Option<Box<dyn StreamHandler>> {
        match self.call_mut(key) {
            Some(call) => {
                call.handler = Some(handler);
                None
            }
            None => Some(handler),
        }
    }

    /// Appends one message of a call; with `finish` also the status OK.
    pub fn message(&mut self, key: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
        let Some(method) = self.begin_answer(key) else { return };
        let mut length = 0;
        self.h2.send_encoded(stream_key(key), |out| {
            let at = out.len();
            out.extend_from_slice(&[0; PREFIX_BYTES]);
            encode(out);
            length = out.len().checked_sub(at + PREFIX_BYTES).expect("an encoder only appends");
            if length <= SEND_BYTES_MAX {
                out[at..at + PREFIX_BYTES].copy_from_slice(&prefix(length));
            }
            length <= SEND_BYTES_MAX
        });
        self.after_message(key, method, length, finish);
    }

    /// Ends a call behind its last message, or because a message is too large to be sent.
    fn after_message(&mut self, key: CallKey, method: usize, length: usize, finish: bool) {
        if length > SEND_BYTES_MAX {
            let text = format!("grpc: trying to send message larger than max ({length} vs. {SEND_BYTES_MAX})");
            return self.fail(key, &Status::new(Code::ResourceExhausted, text));
        }
        self.limits.tally.send(method, length);
        if finish {
            self.finish(key, &Status::OK);
        }
    }

    /// As `message`, for one that exists already.
    pub fn message_bytes(&mut self, key: CallKey, body: Bytes, finish: bool) {
        if body.len() < SHARED_BODY_BYTES_MIN {
            return self.message(key, &mut |out| out.extend_from_slice(&body), finish);
        }
        self.message_parts(key, body.len(), [body], finish);
    }

    /// As `message_bytes`, for one that exists in pieces, and that ends the call.
    pub fn message_pieces(&mut self, key: CallKey, pieces: Vec<Bytes>) {
        self.message_parts(key, pieces.iter().map(Bytes::len).sum(), pieces, true);
    }

    fn message_parts(&mut self, key: CallKey, length: usize, parts: impl IntoIterator<Item = Bytes>, finish: bool) {
        let Some(method) = self.begin_answer(key) else { return };
        if length <= SEND_BYTES_MAX {
            self.h2.send_bytes(stream_key(key), Bytes::copy_from_slice(&prefix(length)));
            parts.into_iter().for_each(|part| self.h2.send_bytes(stream_key(key), part));
        }
        self.after_message(key, method, length, finish);
    }

    /// Ends a call whose handler has let go of it.
    pub fn abandon(&mut self, key: CallKey) {
        let status = self.limits.abandoned.clone();
        self.finish(key, &status);
    }

    /// Ends a call.
    pub fn finish(&mut self, key: CallKey, status: &Status) {
        let Some(call) = self.remove(key) else { return };
        self.count_end(&call, status.code);
        let stream = stream_key(key);
        if !call.head_sent {
            self.send_status_only(stream, 200, status);
        } else if status.code == Code::Ok {
            self.h2.send_trailers(stream, Trailers { constants: &[Constant::GRPC_STATUS_OK], literals: Vec::new() });
        } else {
            let mut literals = vec![("grpc-status", (status.code as u8).to_string())];
            if !status.message.is_empty() {
                literals.push(("grpc-message", percent_encoded(&status.message).into_owned()));
            }
            self.h2.send_trailers(stream, Trailers { constants: &[], literals });
        }
        self.discard(call);
    }

    fn count_end(&self, call: &CallState, code: Code) {
        if !matches!(call.kind, Kind::Http(_)) {
            self.limits.tally.end(call.method, code, || call.call.arrived().elapsed());
        }
    }

    /// Hands out what a call leaves behind.
    pub(super) fn discard(&mut self, call: CallState) {
        if call.handler.is_some() || call.on_cancel.is_some() {
            self.actions.push_back(Action::Discard(call.handler, call.on_cancel));
        }
    }

    /// Sends the response head before the first message; the call's method. `None` if the call has ended.
    fn begin_answer(&mut self, key: CallKey) -> Option<usize> {
        let call = self.call_mut(key)?;
        let method = call.method;
        if !std::mem::replace(&mut call.head_sent, true) {
            self.h2.send_head(stream_key(key), |encoder, out| {
                encoder.status(out, 200);
                encoder.constant(out, Constant::CONTENT_TYPE_GRPC);
            });
        }
        Some(method)
    }

    /// An answer without a message: head and trailers in one block.
    fn send_status_only(&mut self, key: StreamKey, http_status: u16, status: &Status) {
        self.refuse(key, &Refusal { http_status, status: status.clone(), accepted: None });
    }

    fn refuse(&mut self, key: StreamKey, refusal: &Refusal) {
        let Refusal { http_status, status, accepted } = refusal;
        self.h2.send_head_only(key, |encoder, out| {
            encoder.status(out, *http_status);
            encoder.constant(out, Constant::CONTENT_TYPE_GRPC);
            if let Some(accepted) = accepted {
                encoder.literal(out, b"grpc-accept-encoding", accepted.as_bytes());
            }
            if status.code == Code::Ok {
                encoder.constant(out, Constant::GRPC_STATUS_OK);
            } else {
                encoder.literal(out, b"grpc-status", (status.code as u8).to_string().as_bytes());
                encoder.literal(out, b"grpc-message", percent_encoded(&status.message).as_bytes());
            }
        });
    }

    /// Bytes of a call that have not reached the socket.
    pub fn queued_bytes(&self, key: CallKey) -> usize {
        self.h2.queued_bytes(stream_key(key))
    }

    /// Whether a call has ended.
    pub fn is_closed(&self, key: CallKey) -> bool {
        self.call(key).is_none()
    }

    /// Leaves an action for the case that the call is lost. Gives it back if that has happened.
    pub fn on_cancel(&mut self, key: CallKey, action: Box<dyn FnOnce()>) -> Option<Box<dyn FnOnce()>> {
        match self.call_mut(key) {
            Some(call) => {
                if let Some(earlier) = call.on_cancel.replace(action) {
                    self.actions.push_back(Action::Discard(None, Some(earlier)));
                }
                None
            }
            None => Some(action),
        }
    }

    /// The call no longer counts as in flight.
    pub fn park(&mut self, key: CallKey) {
        if let Some(call) = self.call_mut(key)
            && std::mem::take(&mut call.counted)
        {
            self.change_in_flight(-1);
        }
    }

    fn change_in_flight(&mut self, change: isize) {
        let sum = |count: usize| count.checked_add_signed(change).expect("every call is counted once");
        self.in_flight = sum(self.in_flight);
        self.limits.in_flight_on_reactor.set(sum(self.limits.in_flight_on_reactor.get()));
        self.limits.tally.change_in_flight(change);
    }

    /// When `on_timeout` is to be called; may be later by the time it comes.
    pub fn deadline(&self) -> Option<Instant> {
        [self.h2.deadline(), self.next_deadline].into_iter().flatten().min()
    }

    /// Ends calls whose time is over. False if the client is dead and the connection to be dropped.
    #[must_use]
    pub fn on_timeout(&mut self, now: Instant) -> bool {
        if self.next_deadline.is_some_and(|deadline| deadline <= now) {
            let mut next: Option<Instant> = None;
            for slot in 0..self.calls.len() {
                let Some(call) = &self.calls[slot] else { continue };
                let Some(deadline) = call.call.deadline() else { continue };
                if deadline <= now {
                    let key = CallKey { slot: slot as u32, generation: call.id.get() };
                    self.fail(key, &Status::new(Code::DeadlineExceeded, DEADLINE_EXCEEDED));
                } else {
                    next = Some(next.map_or(deadline, |next| next.min(deadline)));
                }
            }
            self.next_deadline = next.map(|next| next.max(now + DEADLINE_STEP));
        }
        self.h2.on_timeout(now)
    }

    /// Ends a call that its handler has not ended.
    fn fail(&mut self, key: CallKey, status: &Status) {
        let Some(call) = self.call_mut(key) else { return };
        let (handler, on_cancel) = (call.handler.take(), call.on_cancel.take());
        self.finish(key, status);
        self.notify_lost(handler, on_cancel);
    }

    /// Ends all calls, because the connection is lost.
    pub fn lose_all(&mut self) {
        for slot in 0..self.calls.len() {
            if let Some(call) = &self.calls[slot] {
                let key = CallKey { slot: slot as u32, generation: call.id.get() };
                self.lose(key);
            }
        }
    }

    /// Ends the calls that would otherwise last as long as their clients like: streams, and calls that were parked.
    pub fn end_lasting(&mut self, status: &Status) {
        for slot in 0..self.calls.len() {
            let Some(call) = &self.calls[slot] else { continue };
            let lasts = match call.kind {
                Kind::Stream => true,
                Kind::Unary => call.progress == Progress::Done && !call.counted,
                Kind::Http(_) => false,
            };
            if lasts {
                let key = CallKey { slot: slot as u32, generation: call.id.get() };
                self.fail(key, status);
            }
        }
    }

    /// A call's stream is gone.
    fn lose(&mut self, key: CallKey) {
        if let Some(call) = self.remove(key) {
            self.count_end(&call, Code::Cancelled);
            self.notify_lost(call.handler, call.on_cancel);
        }
    }

    fn notify_lost(&mut self, handler: Option<Box<dyn StreamHandler>>, on_cancel: Option<Box<dyn FnOnce()>>) {
        self.actions.extend(handler.map(Action::Closed));
        self.actions.extend(on_cancel.map(Action::Cancelled));
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    pub(super) fn remove(&mut self, key: CallKey) -> Option<CallState> {
        self.call(key)?;
        let call = self.calls[key.slot as usize].take().expect("it was just there");
        self.partial_bytes -= call.reader.partial_bytes();
        if call.counted {
            self.change_in_flight(-1);
        }
        Some(call)
    }

    fn call(&self, key: CallKey) -> Option<&CallState> {
        self.calls.get(key.slot as usize)?.as_ref().filter(|call| call.id.get() == key.generation)
    }

    pub(super) fn call_mut(&mut self, key: CallKey) -> Option<&mut CallState> {
        self.calls.get_mut(key.slot as usize)?.as_mut().filter(|call| call.id.get() == key.generation)
    }
}

pub(super) fn call_key(key: StreamKey) -> CallKey {
    CallKey { slot: key.slot, generation: key.id.get() }
}

pub(super) fn stream_key(key: CallKey) -> StreamKey {
    StreamKey { slot: key.slot, id: StreamId::from_wire(key.generation) }
}
