//! One call of the gateway: its handler's answers become JSON, and go to a response, to lines or to frames.
//!
//! ```text
//!  start ─▶ (attach) ─▶ answers … ─▶ ended by the handler, the client, the clock or the gateway itself
//! ```
//!
//! Invariants: the call ends once, and is counted then; its handler is not called afterwards but to hear of an end that is
//! not its own. Answers keep their order, also where a thread writes their JSON.

use super::{INLINE_BYTES, Target, fault, frames};
use crate::answer::status;
use crate::http::Admission;
use bytes::Bytes;
use plinth_api::json::{Escapes, Malformed, MessageSpec, write};
use plinth_net::grpc::{CallKey, Code, DEADLINE_EXCEEDED, MethodKind, ReplySink, Status, StreamHandler, Tally};
use plinth_net::h2::limits::STREAM_LOW_WATER_BYTES;
use plinth_net::http1::Response;
use plinth_net::http1::{Http1Body, Http1Reply};
use plinth_net::rt;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An exchange is a sink of one call.
pub const KEY: CallKey = CallKey { slot: 0, generation: 0 };

/// Where answers leave.
pub enum Output {
    /// Nothing was said yet.
    Http(Http1Reply, Admission),
    /// Lines of a response that has begun.
    Lines(Http1Body),
    /// Frames of a websocket.
    Socket(Http1Body),
    /// Everything was said, or nobody listens.
    Over,
}

impl Output {
    /// A response to a request that was admitted.
    pub fn http(reply: Http1Reply, admission: Admission) -> Output {
        Output::Http(reply, admission)
    }

    /// A websocket.
    pub fn socket(body: Http1Body) -> Output {
        Output::Socket(body)
    }

    fn body(&self) -> Option<&Http1Body> {
        match self {
            Output::Lines(body) | Output::Socket(body) => Some(body),
            Output::Http(..) | Output::Over => None,
        }
    }

    /// Says what is not a message: the answer to a ping.
    fn frame(&self, frame: Vec<u8>) {
        if let Output::Socket(body) = self {
            body.send(frame);
        }
    }

    /// The last word of a websocket whose call has no more of them.
    pub fn end_with(self, message: &[u8]) {
        if let Output::Socket(body) = self {
            body.send(frames::text(message));
            close(body, 1000);
        }
    }

    /// One message: the only one of a unary call, a line of a stream.
    fn message(self, kind: MethodKind, json: Vec<u8>) -> Output {
        match self {
            Output::Http(reply, admission) if kind == MethodKind::Unary => {
                reply.respond(&admission.finish(answered(Response::with_body(200, "application/json", json))));
                Output::Over
            }
            Output::Http(reply, admission) => {
                let head = admission.finish(answered(Response::with_body(200, "application/json", "")));
                let body = reply.stream(head.status, &head.headers);
                body.send([json.as_slice(), b"\n"].concat());
                Output::Lines(body)
            }
            Output::Lines(body) => {
                body.send([json.as_slice(), b"\n"].concat());
                Output::Lines(body)
            }
            Output::Socket(body) => {
                body.send(frames::text(&json));
                Output::Socket(body)
            }
            Output::Over => Output::Over,
        }
    }

    /// The end of a call. `opened`: whether a stream's handler has said so; then it is a line.
    fn end(self, kind: MethodKind, status: &Status, opened: bool) {
        let is_line = kind != MethodKind::Unary && opened;
        match self {
            Output::Http(reply, admission) if status.code == Code::Ok => {
                reply.stream(200, &admission.finish(Response::new(200)).headers).finish();
            }
            Output::Http(reply, admission) if is_line => {
                let line = [fault::line(status).as_slice(), b"\n"].concat();
                let response = Response::with_body(fault::http_status(status.code), "application/json", line);
                reply.respond(&admission.finish(response));
            }
            Output::Http(reply, admission) => reply.respond(&admission.finish(fault::response(status))),
            Output::Lines(body) => {
                if status.code != Code::Ok {
                    body.send([fault::line(status).as_slice(), b"\n"].concat());
                }
                body.finish();
            }
            Output::Socket(body) => {
                if status.code != Code::Ok {
                    let text = if is_line { fault::line(status) } else { fault::body(status) };
                    body.send(frames::text(&text));
                }
                close(body, 1000);
            }
            Output::Over => {}
        }
    }
}

fn close(body: Http1Body, code: u16) {
    body.send(frames::close(code));
    body.finish();
}

fn answered(response: Response) -> Response {
    response.header("Grpc-Metadata-Content-Type", "application/grpc")
}

/// What a handler, or the gateway, has to say.
enum Answer {
    Message(Vec<Bytes>),
    End { status: Status, opened: bool },
}

/// See the module.
pub struct Exchange {
    me: Weak<Exchange>,
    target: Target,
    tally: Arc<Tally>,
    started: Instant,
    output: RefCell<Output>,
    handler: RefCell<Option<Box<dyn StreamHandler>>>,
    /// Whether there was a handler.
    opened: Cell<bool>,
    on_cancel: RefCell<Option<Box<dyn FnOnce()>>>,
    timer: RefCell<Option<rt::Task<()>>>,
    is_ended: Cell<bool>,
    /// Answers that wait for the thread that writes an earlier one.
    waiting: RefCell<VecDeque<Answer>>,
    /// Bytes of those, and of that one.
    waiting_bytes: Cell<usize>,
    is_writing: Cell<bool>,
    /// The transport will say when few bytes wait.
    is_full: Cell<bool>,
}

impl Exchange {
    /// A call begins.
    pub fn start(target: Target, output: Output, timeout: Option<Duration>, tally: Arc<Tally>) -> Rc<Exchange> {
        tally.start(target.method);
        let exchange = Rc::new_cyclic(|me| Exchange {
            me: me.clone(),
            target,
            tally,
            started: Instant::now(),
            output: RefCell::new(Output::Over),
            handler: RefCell::default(),
            opened: Cell::new(false),
            on_cancel: RefCell::default(),
            timer: RefCell::default(),
            is_ended: Cell::new(false),
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            is_writing: Cell::new(false),
            is_full: Cell::new(false),
        });
        let lost = {
            let exchange = exchange.clone();
            move || exchange.lost()
        };
        match &output {
            Output::Http(reply, _) => reply.on_cancel(lost),
            Output::Lines(body) | Output::Socket(body) => body.on_cancel(lost),
            Output::Over => {}
        }
        *exchange.output.borrow_mut() = output;
        if let Some(timeout) = timeout {
            exchange.expire_in(timeout);
        }
        exchange
    }

    fn expire_in(&self, timeout: Duration) {
        let expired = || Status::new(Code::DeadlineExceeded, DEADLINE_EXCEEDED);
        if timeout.is_zero() {
            return self.refuse(&expired());
        }
        let me = self.me.clone();
        let timer = rt::spawn(async move {
            rt::sleep(timeout).await;
            if let Some(exchange) = me.upgrade() {
                // The timer is this very task, and not to be cancelled by what it does.
                exchange.timer.take().map(rt::Task::detach);
                exchange.end_early(&expired(), exchange.opened.get());
            }
        });
        *self.timer.borrow_mut() = Some(timer);
    }

    /// Whether nothing more is to be said.
    pub fn is_over(&self) -> bool {
        self.is_ended.get()
    }

    /// The handler of a stream, which may have ended it already.
    pub fn attach(&self, handler: Box<dyn StreamHandler>) {
        self.opened.set(true);
        if !self.is_ended.get() {
            *self.handler.borrow_mut() = Some(handler);
        }
    }

    /// A request of so many bytes goes to its handler.
    pub fn called(&self, bytes: usize) {
        self.tally.receive(self.target.method, bytes);
    }

    /// A request message of a stream.
    pub fn message(&self, body: Bytes) {
        self.called(body.len());
        self.with_handler(|handler| handler.message(body));
    }

    /// The client will send no more.
    pub fn half_close(&self) {
        self.with_handler(|handler| handler.half_close());
    }

    fn with_handler(&self, act: impl FnOnce(&mut dyn StreamHandler)) {
        let taken = self.handler.borrow_mut().take();
        let Some(mut handler) = taken else { return };
        act(handler.as_mut());
        if !self.is_ended.get() {
            *self.handler.borrow_mut() = Some(handler);
        }
    }

    /// Says something on a websocket that is no message.
    pub fn frame(&self, frame: Vec<u8>) {
        self.output.borrow().frame(frame);
    }

    /// Ends the call because its request makes no sense.
    pub fn refuse(&self, status: &Status) {
        self.end_early(status, false);
    }

    /// Ends the call for a reason that is not its handler's. `opened`: it counts as the handler's all the same.
    fn end_early(&self, status: &Status, opened: bool) {
        if self.end(status.code) {
            self.say(Answer::End { status: status.clone(), opened });
            self.tell_handler();
        }
    }

    /// The client of a websocket says goodbye, or is told to go.
    pub fn leave(&self, code: u16) {
        let output = self.output.replace(Output::Over);
        if let Output::Socket(body) = output {
            close(body, code);
        }
        self.lost();
    }

    /// Nobody listens any more.
    fn lost(&self) {
        drop(self.output.replace(Output::Over));
        if self.end(Code::Cancelled) {
            self.tell_handler();
        }
    }

    fn tell_handler(&self) {
        let (handler, on_cancel) = (self.handler.take(), self.on_cancel.take());
        if let Some(mut handler) = handler {
            handler.closed();
        }
        if let Some(action) = on_cancel {
            action();
        }
    }

    /// Counts the end of the call. False if it has ended before.
    fn end(&self, code: Code) -> bool {
        if self.is_ended.replace(true) {
            return false;
        }
        self.tally.end(self.target.method, code, || self.started.elapsed());
        drop(self.timer.take());
        true
    }

    /// Lets an answer leave, behind those that wait.
    fn say(&self, answer: Answer) {
        if let Answer::Message(pieces) = &answer {
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            self.waiting_bytes.set(self.waiting_bytes.get() + bytes);
        }
        self.waiting.borrow_mut().push_back(answer);
        if !self.is_writing.get() {
            self.write_waiting();
        }
    }

    fn write_waiting(&self) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                None => return,
                Some(Answer::End { status, opened }) => {
                    self.output.replace(Output::Over).end(self.target.kind, &status, opened);
                }
                Some(Answer::Message(pieces)) => {
                    let bytes = pieces.iter().map(Bytes::len).sum();
                    if bytes > INLINE_BYTES {
                        return self.write_beside(pieces, bytes);
                    }
                    self.written(bytes, render(self.target, &pieces));
                }
            }
        }
    }

    /// Has a thread write the JSON of a large answer.
    fn write_beside(&self, pieces: Vec<Bytes>, bytes: usize) {
        let Some(exchange) = self.me.upgrade() else { return };
        self.is_writing.set(true);
        let target = self.target;
        rt::spawn(async move {
            let json = rt::unblock(move || render(target, &pieces)).await;
            exchange.is_writing.set(false);
            exchange.written(bytes, json);
            exchange.write_waiting();
            if !exchange.is_full.get() {
                // What kept the producer waiting may have been this very answer.
                exchange.with_handler(|handler| handler.writable());
            }
        })
        .detach();
    }

    fn written(&self, bytes: usize, json: Result<Vec<u8>, Malformed>) {
        self.waiting_bytes.set(self.waiting_bytes.get().checked_sub(bytes).expect("it was counted"));
        let output = self.output.replace(Output::Over);
        let output = match json {
            Ok(json) => output.message(self.target.kind, json),
            Err(Malformed) => {
                let status = Status::new(Code::Internal, "grpc: failed to unmarshal the received message");
                output.end(self.target.kind, &status, true);
                Output::Over
            }
        };
        *self.output.borrow_mut() = output;
        self.follow_output();
    }

    /// Asks the transport to say when few bytes wait, if many do.
    fn follow_output(&self) {
        let output = self.output.borrow();
        let Some(body) = output.body() else { return };
        if body.queued_bytes() > STREAM_LOW_WATER_BYTES && !self.is_full.replace(true) {
            let me = self.me.clone();
            body.on_drained(move || {
                if let Some(exchange) = me.upgrade() {
                    exchange.is_full.set(false);
                    exchange.with_handler(|handler| handler.writable());
                }
            });
        }
    }
}

/// The JSON of a message, as it leaves.
fn render(target: Target, pieces: &[Bytes]) -> Result<Vec<u8>, Malformed> {
    let spec: &MessageSpec = target.answer;
    let whole;
    let message: &[u8] = match pieces {
        [one] => one,
        many => {
            whole = many.concat();
            &whole
        }
    };
    let mut out = Vec::with_capacity(message.len() * 2 + 64);
    if target.kind == MethodKind::Unary {
        write(spec, message, Escapes::Least, &mut out)?;
        return Ok(out);
    }
    out.extend_from_slice(b"{\"result\":");
    write(spec, message, Escapes::Html, &mut out)?;
    out.push(b'}');
    Ok(out)
}

impl ReplySink for Exchange {
    fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
        if !self.is_ended.get() {
            let mut body = Vec::new();
            encode(&mut body);
            self.send_bytes(call, body.into(), finish);
        }
    }

    fn send_bytes(&self, _call: CallKey, body: Bytes, finish: bool) {
        if self.is_ended.get() {
            return;
        }
        self.tally.send(self.target.method, body.len());
        self.say(Answer::Message(vec![body]));
        if finish {
            self.finish(KEY, Status::OK);
        }
    }

    fn send_pieces(&self, _call: CallKey, pieces: Vec<Bytes>) {
        if self.is_ended.get() {
            return;
        }
        self.tally.send(self.target.method, pieces.iter().map(Bytes::len).sum());
        self.say(Answer::Message(pieces));
        self.finish(KEY, Status::OK);
    }

    fn finish(&self, _call: CallKey, status: Status) {
        if self.end(status.code) {
            self.say(Answer::End { status, opened: true });
            // Not called any more, but it may be calling: whoever has it drops it.
            let unused = (self.handler.take(), self.on_cancel.take());
            drop(unused);
        }
    }

    fn abandon(&self, call: CallKey) {
        self.finish(call, status::STOPPED);
    }

    fn queued_bytes(&self, _call: CallKey) -> usize {
        let sent = self.output.borrow().body().map_or(0, Http1Body::queued_bytes);
        sent + self.waiting_bytes.get()
    }

    fn is_closed(&self, _call: CallKey) -> bool {
        self.is_ended.get()
    }

    fn on_cancel(&self, _call: CallKey, action: Box<dyn FnOnce()>) {
        if self.is_ended.get() {
            return action();
        }
        let earlier = self.on_cancel.borrow_mut().replace(action);
        drop(earlier);
    }

    fn park(&self, _call: CallKey) {
        // A connection of HTTP/1.1 has one call, and waits for it.
    }
}
