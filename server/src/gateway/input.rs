//! Bodies of requests: the JSON values in them, one by one, as messages for a handler.
//!
//! Values keep their order, also where a thread reads a large one. What cannot be read ends the request: the call, if
//! nothing was said yet, otherwise the client's side of it.

use super::exchange::Exchange;
use super::{INLINE_BYTES, INPUT_BYTES_MAX, fault};
use bytes::Bytes;
use plinth_api::json::{MessageSpec, Scanner, Step, read};
use plinth_net::grpc::{BodyHandler, Code, Status};
use plinth_net::rt;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The first value of a body as a message. What follows it is not looked at; nothing is an empty message.
///
/// # Errors
/// The status to refuse the call with.
pub fn first(spec: &'static MessageSpec, body: &[u8]) -> Result<Vec<u8>, Status> {
    let mut scanner = Scanner::default();
    let fault = |error: plinth_api::json::ScanError| fault::malformed(error.to_string());
    let value = match scanner.scan(body).map_err(fault)? {
        Step::Value(range) => Some(range),
        Step::NeedMore => scanner.end().map_err(fault)?,
    };
    value.map_or(Ok(Vec::new()), |range| read(spec, &body[range]).map_err(fault::malformed))
}

/// A message, unless it is larger than one may be.
///
/// # Errors
/// The status to refuse the call with.
pub fn bounded(message: Vec<u8>, bytes_max: usize) -> Result<Bytes, Status> {
    if message.len() > bytes_max {
        let text = format!("grpc: received message larger than max ({} vs. {bytes_max})", message.len());
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(message.into())
}

/// Takes a body that nobody wants.
pub struct Ignored;

impl BodyHandler for Ignored {
    fn piece(&mut self, _piece: Bytes) {}

    fn end(&mut self) {}
}

/// Finds values in pieces.
#[derive(Default)]
struct Values {
    scanner: Scanner,
    buffer: Vec<u8>,
}

impl Values {
    fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next value that is complete.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match self.scanner.scan(&self.buffer) {
            Ok(Step::Value(range)) => {
                let value = Bytes::copy_from_slice(&self.buffer[range.clone()]);
                self.buffer.drain(..range.end);
                Ok(Some(value))
            }
            Ok(Step::NeedMore) if self.buffer.len() > INPUT_BYTES_MAX => Err(too_much()),
            Ok(Step::NeedMore) => Ok(None),
            Err(error) => Err(fault::malformed(error.to_string())),
        }
    }

    /// The last value, which may have no end of its own.
    fn last(&mut self) -> Result<Option<Bytes>, Status> {
        let range = self.scanner.end().map_err(|error| fault::malformed(error.to_string()))?;
        Ok(range.map(|range| Bytes::copy_from_slice(&self.buffer[range])))
    }
}

fn too_much() -> Status {
    Status::new(Code::ResourceExhausted, "too many incomplete messages")
}

/// Waits for the first value, and hands it on.
pub struct First<F> {
    exchange: Rc<Exchange>,
    values: Values,
    then: Option<F>,
}

impl<F: FnOnce(Bytes)> First<F> {
    /// `then` is called once, with the value.
    pub fn new(exchange: Rc<Exchange>, then: F) -> First<F> {
        First { exchange, values: Values::default(), then: Some(then) }
    }
}

impl<F: FnOnce(Bytes)> BodyHandler for First<F> {
    fn piece(&mut self, piece: Bytes) {
        if self.then.is_none() {
            return;
        }
        self.values.push(&piece);
        match self.values.next() {
            Ok(None) => {}
            Ok(Some(value)) => self.then.take().expect("looked at above")(value),
            Err(status) => {
                self.then = None;
                self.exchange.refuse(&status);
            }
        }
    }

    fn end(&mut self) {}
}

/// What came of a body.
enum Found {
    Value(Bytes),
    Fault(Status),
    End,
}

/// Hands the values of a stream's body to its handler.
pub struct Input {
    values: Values,
    feed: Rc<Feed>,
    /// Nothing more is looked at.
    is_done: bool,
}

impl Input {
    /// For messages of `spec`. `open` makes the handler: at once, or, with `only_first`, when the only message is there.
    pub fn new(
        exchange: Rc<Exchange>,
        spec: &'static MessageSpec,
        request_bytes_max: usize,
        only_first: bool,
        open: Box<dyn FnOnce()>,
    ) -> Input {
        let open = if only_first {
            Some(open)
        } else {
            open();
            None
        };
        let feed = Feed {
            exchange,
            spec,
            request_bytes_max,
            only_first,
            open: RefCell::new(open),
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            is_reading: Cell::new(false),
            was_asked: Cell::new(false),
            is_done: Cell::new(false),
        };
        Input { values: Values::default(), feed: Rc::new(feed), is_done: false }
    }

    fn found(&mut self, found: Result<Option<Bytes>, Status>) -> bool {
        match found {
            Ok(None) => return false,
            Ok(Some(value)) => {
                self.is_done = self.feed.only_first;
                self.feed.push(Found::Value(value));
            }
            Err(status) => {
                self.is_done = true;
                self.feed.push(Found::Fault(status));
            }
        }
        !self.is_done
    }
}

impl BodyHandler for Input {
    fn piece(&mut self, piece: Bytes) {
        if self.is_done {
            return;
        }
        self.values.push(&piece);
        loop {
            let next = self.values.next();
            if !self.found(next) {
                break;
            }
        }
    }

    fn end(&mut self) {
        if !self.is_done {
            let last = self.values.last();
            self.found(last);
        }
        self.is_done = true;
        self.feed.push(Found::End);
    }
}

/// What lies between a body and its handler.
struct Feed {
    exchange: Rc<Exchange>,
    spec: &'static MessageSpec,
    request_bytes_max: usize,
    only_first: bool,
    open: RefCell<Option<Box<dyn FnOnce()>>>,
    /// What waits for the thread that reads an earlier value.
    waiting: RefCell<VecDeque<Found>>,
    waiting_bytes: Cell<usize>,
    is_reading: Cell<bool>,
    was_asked: Cell<bool>,
    /// The client's side is over.
    is_done: Cell<bool>,
}

impl Feed {
    fn push(self: &Rc<Self>, found: Found) {
        if !self.is_reading.get() {
            return self.take(found);
        }
        if let Found::Value(value) = &found {
            self.waiting_bytes.set(self.waiting_bytes.get() + value.len());
        }
        if self.waiting_bytes.get() > INPUT_BYTES_MAX {
            self.waiting.borrow_mut().clear();
            return self.exchange.refuse(&too_much());
        }
        self.waiting.borrow_mut().push_back(found);
    }

    fn take(self: &Rc<Self>, found: Found) {
        if self.is_done.get() || self.exchange.is_over() {
            return;
        }
        match found {
            Found::Value(value) if value.len() > INLINE_BYTES => self.read_beside(value),
            Found::Value(value) => self.handle(read(self.spec, &value).map_err(fault::malformed)),
            Found::Fault(status) => self.handle(Err(status)),
            Found::End => {
                if self.only_first && !self.was_asked.get() {
                    self.handle(Ok(Vec::new()));
                }
                self.half_close();
            }
        }
    }

    /// Has a thread read a large value.
    fn read_beside(self: &Rc<Self>, value: Bytes) {
        self.is_reading.set(true);
        let (feed, spec) = (self.clone(), self.spec);
        rt::spawn(async move {
            let message = rt::unblock(move || read(spec, &value)).await;
            feed.is_reading.set(false);
            feed.handle(message.map_err(fault::malformed));
            while !feed.is_reading.get() {
                let next = feed.waiting.borrow_mut().pop_front();
                let Some(next) = next else { return };
                if let Found::Value(value) = &next {
                    feed.waiting_bytes.set(feed.waiting_bytes.get() - value.len());
                }
                feed.take(next);
            }
        })
        .detach();
    }

    fn handle(&self, message: Result<Vec<u8>, Status>) {
        if self.is_done.get() {
            return;
        }
        match message.and_then(|message| bounded(message, self.request_bytes_max)) {
            Ok(message) => {
                self.was_asked.set(true);
                let open = self.open.take();
                if let Some(open) = open {
                    open();
                }
                self.exchange.message(message);
            }
            Err(status) if self.was_asked.get() => {
                tracing::debug!(error = %status.message, "failed to decode a request of a stream");
                self.half_close();
            }
            // etcd leaves the client waiting; this tells it why.
            Err(status) => {
                self.is_done.set(true);
                self.exchange.refuse(&status);
            }
        }
    }

    fn half_close(&self) {
        if !self.is_done.replace(true) {
            self.exchange.half_close();
        }
    }
}
