//! Answers to HTTP requests that are not gRPC: whole, or piece by piece, over HTTP/1.1 or HTTP/2.
//!
//! As with gRPC, an answer may be given later, from any task of the reactor.

use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;

use super::Response;
use crate::transport::Peer;

/// Where the answer to one request goes. All functions ignore requests that are answered or lost.
pub(crate) trait HttpSink {
    /// Sends a whole response.
    fn respond(&self, response: &Response);
    /// Sends the head of a response whose body comes in pieces.
    fn begin(&self, status: u16, headers: &[(&'static str, Cow<'static, str>)]);
    /// Hands the connection over to another protocol.
    fn upgrade(&self, headers: &[(&'static str, Cow<'static, str>)]);
    /// Sends a piece.
    fn send(&self, piece: Bytes);
    /// Ends the body.
    fn finish(&self);
    /// Cuts the body off.
    fn abort(&self);
    /// Bytes of the body that wait.
    fn queued_bytes(&self) -> usize;
    /// Whether nobody waits any more.
    fn is_lost(&self) -> bool;
    /// Runs `action` when the client is lost before the answer is complete; at once if it is.
    fn on_cancel(&self, action: Box<dyn FnOnce()>);
    /// Runs `action` when the bytes that wait have become few.
    fn on_drained(&self, action: Box<dyn FnOnce()>);
    /// The other end.
    fn peer(&self) -> Rc<Peer>;
}

/// The answer to an HTTP request, to be given once. Dropped without an answer, it is 500.
#[must_use = "a request must be answered"]
pub struct Http1Reply {
    sink: Rc<dyn HttpSink>,
    answered: bool,
}

impl Http1Reply {
    pub(crate) fn new(sink: Rc<dyn HttpSink>) -> Http1Reply {
        Http1Reply { sink, answered: false }
    }

    /// Answers with a whole response.
    pub fn respond(mut self, response: &Response) {
        self.answered = true;
        self.sink.respond(response);
    }

    /// Begins a response whose body comes in pieces.
    pub fn stream(mut self, status: u16, headers: &[(&'static str, Cow<'static, str>)]) -> Http1Body {
        self.answered = true;
        self.sink.begin(status, headers);
        Http1Body { sink: Rc::clone(&self.sink), finished: false }
    }

    /// Hands the connection over to another protocol: what is sent from here on is sent as it is. Only for requests that
    /// came over HTTP/1.1 with the body mode `Raw`; others get 501.
    pub fn upgrade(mut self, headers: &[(&'static str, Cow<'static, str>)]) -> Http1Body {
        self.answered = true;
        self.sink.upgrade(headers);
        Http1Body { sink: Rc::clone(&self.sink), finished: false }
    }

    /// Runs `action` when the client is lost before the answer is complete; at once if it is. One action per request.
    pub fn on_cancel(&self, action: impl FnOnce() + 'static) {
        self.sink.on_cancel(Box::new(action));
    }

    /// Whether nobody waits any more.
    pub fn is_cancelled(&self) -> bool {
        self.sink.is_lost()
    }

    /// The other end.
    pub fn peer(&self) -> Rc<Peer> {
        self.sink.peer()
    }
}

impl Drop for Http1Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.sink.respond(&Response::error(500, "Internal Server Error"));
        }
    }
}

/// The body of a response, in pieces. Dropped before its end, it is cut off, so that the client notices.
pub struct Http1Body {
    sink: Rc<dyn HttpSink>,
    finished: bool,
}

impl Http1Body {
    /// Appends a piece.
    pub fn send(&self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.sink.send(piece);
        }
    }

    /// Bytes that wait. A producer stops at a bound of its own.
    pub fn queued_bytes(&self) -> usize {
        self.sink.queued_bytes()
    }

    /// Runs `action` once, when what waits has fallen to `STREAM_LOW_WATER_BYTES` or less. To be asked for
    /// only while there is more. One action per request, and none if the client is lost.
    pub fn on_drained(&self, action: impl FnOnce() + 'static) {
        self.sink.on_drained(Box::new(action));
    }

    /// Ends the body.
    pub fn finish(mut self) {
        self.finished = true;
        self.sink.finish();
    }

    /// Runs `action` when the client is lost before the body has ended; at once if it is. One action per request.
    pub fn on_cancel(&self, action: impl FnOnce() + 'static) {
        self.sink.on_cancel(Box::new(action));
    }

    /// Whether nobody reads any more.
    pub fn is_cancelled(&self) -> bool {
        self.sink.is_lost()
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        if !self.finished {
            self.sink.abort();
        }
    }
}
