//! The seam between transport and handlers: what a handler implements (`Service`, `StreamHandler`) and what it
//! answers with (`UnaryReply`, `StreamReply`).
//!
//! Everything here stays on one reactor (`Rc`, not `Send`). Replies may be completed later, from any task of the same
//! reactor; they append to the connection's output and wake its task once. A reply reaches the transport through
//! `ReplySink`, so that the JSON gateway and tests can call the same handlers without a connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;

use super::call::Call;
use super::status::{Code, Status};
use crate::http1::{BodyMode, Http1Reply, Http1Request, Response};

/// Shape of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many requests, many answers.
    BidiStream,
}

/// A method the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Full path, `/package.Service/Method`.
    pub path: &'static str,
    /// Shape.
    pub kind: MethodKind,
}

/// What a reactor serves. One instance per reactor, used through `Rc`.
pub trait Service: 'static {
    /// All methods. The position in this slice is the `method` argument of the other functions.
    fn methods(&self) -> &'static [Method];

    /// A complete unary request. Must not block; may keep `reply` (and a clone of `call`) and answer later.
    fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply);

    /// A new stream of a `ServerStream` or `BidiStream` method. The handler gets the request messages.
    fn stream(&self, method: usize, call: &Call, reply: StreamReply) -> Box<dyn StreamHandler>;

    /// An HTTP/1.1 request on the same port (told apart by the first bytes). Must not block; may answer later.
    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        drop(request);
        reply.respond(&Response::error(404, "404 page not found"));
    }

    /// How the body of such a request is to come, of which there is the head so far. Those that do not come whole go to
    /// `http1_open`.
    fn body_mode(&self, head: &Http1Request) -> BodyMode {
        let _ = head;
        BodyMode::Whole
    }

    /// A request whose body is handed to the answered handler piece by piece. Must not block.
    fn http1_open(&self, head: Http1Request, reply: Http1Reply) -> Box<dyn BodyHandler> {
        self.http1(head, reply);
        Box::new(Ignored)
    }
}

/// The receiving half of a request whose body comes in pieces. Whoever wants to know that the client is lost asks the
/// reply. A handler is dropped when nothing more will come.
pub trait BodyHandler {
    /// A piece, not empty.
    fn piece(&mut self, piece: Bytes);
    /// The body is complete.
    fn end(&mut self);
}

/// Takes a body that nobody wants.
struct Ignored;

impl BodyHandler for Ignored {
    fn piece(&mut self, _piece: Bytes) {}

    fn end(&mut self) {}
}

/// The receiving half of a stream. The transport calls it; it answers through its `StreamReply`.
pub trait StreamHandler {
    /// A complete request message.
    fn message(&mut self, body: Bytes);
    /// The client will send no more messages.
    fn half_close(&mut self);
    /// The stream's queue has drained below `STREAM_LOW_WATER_BYTES` after it had been above.
    fn writable(&mut self);
    /// The stream is gone: reset by the client, deadline passed, or connection lost. Not called after `finish`.
    /// Nothing may be sent any more.
    fn closed(&mut self);
}

/// Names a call within a sink. A finished call's key never names a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey {
    /// Place in the sink's table.
    pub slot: u32,
    /// Tells successive users of a place apart.
    pub generation: u32,
}

/// Where answers go. All functions ignore keys of calls that have ended.
pub trait ReplySink {
    /// Appends one message and, if `finish`, ends the call with status OK. `encode` is called at most once, with a
    /// buffer it may only append to.
    fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool);
    /// As `send`, for a message that exists already: it is written from where it is, without a copy.
    fn send_bytes(&self, call: CallKey, body: Bytes, finish: bool);
    /// As `send_bytes`, for a large message in pieces, each of which is let go of when it is written. Ends the call.
    fn send_pieces(&self, call: CallKey, pieces: Vec<Bytes>) {
        self.send_bytes(call, pieces.concat().into(), true);
    }
    /// Ends the call.
    fn finish(&self, call: CallKey, status: Status);
    /// Ends a call whose handler has let go of it without an answer, as one does that stops.
    fn abandon(&self, call: CallKey);
    /// Bytes accepted for this call that still wait in its stream.
    fn queued_bytes(&self, call: CallKey) -> usize;
    /// Whether the call has ended: answered, reset, expired, or its connection lost.
    fn is_closed(&self, call: CallKey) -> bool;
    /// Runs `action` when the call ends without an answer; at once if it has.
    fn on_cancel(&self, call: CallKey, action: Box<dyn FnOnce()>);
    /// The call will wait long (a lock): it no longer counts against the limit of calls in flight.
    fn park(&self, call: CallKey);
}

/// The answer of a unary call, to be given once. Dropped without an answer, it abandons the call.
#[must_use = "a call must be answered"]
pub struct UnaryReply {
    sink: Rc<dyn ReplySink>,
    call: CallKey,
    answered: bool,
}

impl UnaryReply {
    /// A reply that goes to `sink`.
    pub fn new(sink: Rc<dyn ReplySink>, call: CallKey) -> UnaryReply {
        UnaryReply { sink, call, answered: false }
    }

    /// A reply for a call that did not come over gRPC: `done` gets the encoded message or the status.
    pub fn local(done: impl FnOnce(Result<Bytes, Status>) + 'static) -> UnaryReply {
        let done = RefCell::new(Some(Box::new(done) as LocalDone));
        let sink = Rc::new(LocalSink { done, body: RefCell::default(), on_cancel: Cell::default() });
        UnaryReply::new(sink, CallKey { slot: 0, generation: 0 })
    }

    /// Answers with one message, encoded straight into the connection's output buffer, and status OK.
    /// `encode` must only append.
    pub fn send(mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.answered = true;
        let mut encode = Some(encode);
        self.sink.send(self.call, &mut |out| encode.take().expect("a sink encodes once")(out), true);
    }

    /// Answers with a message that exists already; large ones are not copied.
    pub fn send_bytes(mut self, body: Bytes) {
        self.answered = true;
        self.sink.send_bytes(self.call, body, true);
    }

    /// Answers with a large message that exists in pieces.
    pub fn send_pieces(mut self, pieces: Vec<Bytes>) {
        self.answered = true;
        self.sink.send_pieces(self.call, pieces);
    }

    /// Ends the call without a message.
    pub fn fail(mut self, status: Status) {
        self.answered = true;
        self.sink.finish(self.call, status);
    }

    /// Whether nobody waits any more (reset, deadline passed, connection lost).
    pub fn is_cancelled(&self) -> bool {
        self.sink.is_closed(self.call)
    }

    /// Runs `action` when the call is cancelled before it is answered; at once if it already is. One action per call.
    pub fn on_cancel(&self, action: impl FnOnce() + 'static) {
        self.sink.on_cancel(self.call, Box::new(action));
    }

    /// Says that the answer may take long (waiting for a lock), so that the connection goes on reading.
    pub fn park(&self) {
        self.sink.park(self.call);
    }
}

impl Drop for UnaryReply {
    fn drop(&mut self) {
        if !self.answered {
            self.sink.abandon(self.call);
        }
    }
}

/// The sending half of a stream. Clones share the stream.
#[derive(Clone)]
pub struct StreamReply {
    sink: Rc<dyn ReplySink>,
    call: CallKey,
}

impl StreamReply {
    /// A reply that goes to `sink`.
    pub fn new(sink: Rc<dyn ReplySink>, call: CallKey) -> StreamReply {
        StreamReply { sink, call }
    }

    /// Appends one message, encoded straight into the connection's output buffer. `encode` must only append.
    pub fn send(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut encode = Some(encode);
        self.sink.send(self.call, &mut |out| encode.take().expect("a sink encodes once")(out), false);
    }

    /// Appends a message that exists already; large ones are not copied.
    pub fn send_bytes(&self, body: Bytes) {
        self.sink.send_bytes(self.call, body, false);
    }

    /// Bytes accepted that still wait in the stream, for the client's window or for their turn. A producer stops at a
    /// bound of its own (at least `STREAM_LOW_WATER_BYTES`) and goes on at `StreamHandler::writable`.
    pub fn queued_bytes(&self) -> usize {
        self.sink.queued_bytes(self.call)
    }

    /// Ends the stream, after everything queued.
    pub fn finish(&self, status: Status) {
        self.sink.finish(self.call, status);
    }

    /// Ends the stream as one that its handler has let go of.
    pub fn abandon(&self) {
        self.sink.abandon(self.call);
    }

    /// Whether the stream has ended.
    pub fn is_closed(&self) -> bool {
        self.sink.is_closed(self.call)
    }
}

type LocalDone = Box<dyn FnOnce(Result<Bytes, Status>)>;

/// Answers one unary call into a closure.
struct LocalSink {
    done: RefCell<Option<LocalDone>>,
    body: RefCell<Bytes>,
    on_cancel: Cell<Option<Box<dyn FnOnce()>>>,
}

impl LocalSink {
    fn end(&self, result: Result<Bytes, Status>) {
        let done = self.done.borrow_mut().take();
        if let Some(done) = done {
            done(result);
        }
    }
}

impl ReplySink for LocalSink {
    fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
        let mut body = Vec::new();
        encode(&mut body);
        self.send_bytes(call, body.into(), finish);
    }

    fn send_bytes(&self, _call: CallKey, body: Bytes, finish: bool) {
        if finish {
            self.end(Ok(body));
        } else {
            *self.body.borrow_mut() = body;
        }
    }

    fn finish(&self, _call: CallKey, status: Status) {
        let body = self.body.take();
        self.end(if status.code == Code::Ok { Ok(body) } else { Err(status) });
    }

    fn abandon(&self, call: CallKey) {
        self.finish(call, Status::new(Code::Unavailable, "no answer"));
    }

    fn queued_bytes(&self, _call: CallKey) -> usize {
        0
    }

    fn is_closed(&self, _call: CallKey) -> bool {
        self.done.borrow().is_none()
    }

    fn on_cancel(&self, _call: CallKey, action: Box<dyn FnOnce()>) {
        // A local call is never cancelled; the action is kept only so that what it captured lives as long as the call.
        self.on_cancel.set(Some(action));
    }

    fn park(&self, _call: CallKey) {}
}
