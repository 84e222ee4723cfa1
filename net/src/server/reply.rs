//! Answers to HTTP/1.1 requests: whole, or piece by piece.
//!
//! As with gRPC, an answer may be given later, from any task of the reactor. A connection has one request at a time;
//! the next is read when the answer is complete.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::grpc::Peer;
use crate::h2::Output;
use crate::http1::{BodyCoding, Framing, HttpDate, Response, write_chunk, write_response, write_stream_head};

/// How far the answer to the current request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
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
    pub(super) peer: Rc<Peer>,
    pub(super) progress: Cell<Progress>,
    pub(super) output: RefCell<Output>,
    pub(super) waker: RefCell<Option<Waker>>,
    /// The task will look at the output without being woken.
    pub(super) awake: Cell<bool>,
    /// The connection is gone.
    pub(super) lost: Cell<bool>,
    /// Called when the connection is lost before the answer is complete.
    pub(super) on_cancel: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Http1Shared {
    pub(super) fn new(peer: Rc<Peer>) -> Http1Shared {
        Http1Shared {
            peer,
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

    fn respond(&self, response: &Response) {
        let Progress::Waiting(framing) = self.progress.get() else { return };
        write_response(self.output.borrow_mut().buffer(), response, framing, &now());
        self.complete(framing.keep_alive);
    }

    fn complete(&self, keep_alive: bool) {
        self.progress.set(Progress::Done { keep_alive });
        let unused = self.on_cancel.borrow_mut().take();
        drop(unused);
        self.wake();
    }
}

fn now() -> HttpDate {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    HttpDate::from_unix_seconds(since_epoch.as_secs())
}

/// The answer to an HTTP/1.1 request, to be given once. Dropped without an answer, it is 500.
#[must_use = "a request must be answered"]
pub struct Http1Reply {
    shared: Rc<Http1Shared>,
    answered: bool,
}

impl Http1Reply {
    pub(super) fn new(shared: Rc<Http1Shared>) -> Http1Reply {
        Http1Reply { shared, answered: false }
    }

    /// Answers with a whole response.
    pub fn respond(mut self, response: &Response) {
        self.answered = true;
        self.shared.respond(response);
    }

    /// Begins a response whose body comes in pieces.
    pub fn stream(mut self, status: u16, headers: &[(&'static str, Cow<'static, str>)]) -> Http1Body {
        self.answered = true;
        if let Progress::Waiting(framing) = self.shared.progress.get() {
            let coding = {
                let mut output = self.shared.output.borrow_mut();
                write_stream_head(output.buffer(), status, headers, framing, &now())
            };
            self.shared.progress.set(Progress::Streaming(framing, coding));
            self.shared.wake();
        }
        Http1Body { shared: Rc::clone(&self.shared) }
    }

    /// Runs `action` when the connection is lost before the answer is complete; at once if it is.
    pub fn on_cancel(&self, action: impl FnOnce() + 'static) {
        if self.shared.lost.get() {
            return action();
        }
        *self.shared.on_cancel.borrow_mut() = Some(Box::new(action));
    }

    /// Whether nobody waits any more.
    pub fn is_cancelled(&self) -> bool {
        self.shared.lost.get()
    }

    /// The other end.
    pub fn peer(&self) -> &Rc<Peer> {
        &self.shared.peer
    }
}

impl Drop for Http1Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.respond(&Response::error(500, "Internal Server Error"));
        }
    }
}

/// The body of a response, in pieces. Dropped before its end, it is cut off, so that the client notices.
pub struct Http1Body {
    shared: Rc<Http1Shared>,
}

impl Http1Body {
    /// Appends a piece.
    pub fn send(&self, piece: &[u8]) {
        if let Progress::Streaming(_, coding) = self.shared.progress.get()
            && !piece.is_empty()
        {
            write_chunk(self.shared.output.borrow_mut().buffer(), coding, piece);
            self.shared.wake();
        }
    }

    /// Appends a piece without copying it, where the coding allows.
    pub fn send_bytes(&self, piece: Bytes) {
        match self.shared.progress.get() {
            Progress::Streaming(_, BodyCoding::UntilClose) => {
                self.shared.output.borrow_mut().splice(piece);
                self.shared.wake();
            }
            _ => self.send(&piece),
        }
    }

    /// Bytes that have not been handed to the socket. A producer stops at a bound of its own.
    pub fn queued_bytes(&self) -> usize {
        self.shared.output.borrow().len()
    }

    /// Ends the body.
    pub fn finish(self) {
        if let Progress::Streaming(framing, coding) = self.shared.progress.get() {
            write_chunk(self.shared.output.borrow_mut().buffer(), coding, &[]);
            self.shared.complete(framing.keep_alive && coding != BodyCoding::UntilClose);
        }
    }

    /// Runs `action` when the connection is lost before the body has ended; at once if it is.
    pub fn on_cancel(&self, action: impl FnOnce() + 'static) {
        if self.shared.lost.get() {
            return action();
        }
        *self.shared.on_cancel.borrow_mut() = Some(Box::new(action));
    }

    /// Whether nobody reads any more.
    pub fn is_cancelled(&self) -> bool {
        self.shared.lost.get()
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        if matches!(self.shared.progress.get(), Progress::Streaming(..)) {
            self.shared.complete(false);
        }
    }
}
