//! Unary requests that take long: a line for each, with etcd's fields, who asked, for what, and how much came of it.
//!
//! It stands between a handler and the transport as the sink of the handler's reply: what goes through it is timed from the
//! arrival of the call to its answer. Nothing is made into text unless the request was slow.
//!
//! Invariants: what is kept of a request until its answer is bounded, as large ones are made into text at once and those
//! that wait long (locks) are copied out of the buffer they arrived in; at most [`LINES_PER_SECOND`] lines are written, the
//! others are counted and told.

use crate::caller::CallFacts;
use crate::logging::timestamp;
use bytes::Bytes;
use plinth_api::go::format_duration;
use plinth_api::logged::{Asked, Logged, is_shown};
use plinth_net::grpc::{CallKey, ReplySink, Status, UnaryReply};
use plinth_net::transport::PeerAddress;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// Lines in a second; a line costs as much as a request or two.
const LINES_PER_SECOND: u32 = 100;

/// Larger requests are made into text when they come, and not kept.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// See the module.
pub struct SlowRequests {
    limit: Duration,
    calls: RefCell<Calls>,
    told: Cell<Told>,
}

/// Lines of the present second.
#[derive(Clone, Copy, Default)]
struct Told {
    since: Option<Instant>,
    lines: u32,
    untold: u64,
}

/// Calls under way, by their place.
#[derive(Default)]
struct Calls {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    call: Option<Timed>,
}

/// A call under way.
struct Timed {
    /// Where its answer goes; away while that is asked for something.
    reply: Option<UnaryReply>,
    path: &'static str,
    from: PeerAddress,
    arrived: Instant,
    request: Kept,
}

/// What is kept of a request.
enum Kept {
    Nothing,
    Body(Bytes),
    Text(Box<Asked>),
}

impl Calls {
    fn add(&mut self, call: Timed) -> CallKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, call: None });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[slot as usize];
        assert!(place.call.is_none(), "a free place holds no call");
        place.call = Some(call);
        CallKey { slot, generation: place.generation }
    }

    fn get(&mut self, key: CallKey) -> Option<&mut Timed> {
        let place = self.places.get_mut(key.slot as usize)?;
        place.call.as_mut().filter(|_| place.generation == key.generation)
    }

    fn take(&mut self, key: CallKey) -> Option<Timed> {
        self.get(key)?;
        let place = &mut self.places[key.slot as usize];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.slot);
        place.call.take()
    }
}

impl SlowRequests {
    /// Requests that take longer than this are told.
    pub fn new(limit: Duration) -> Rc<SlowRequests> {
        Rc::new(SlowRequests { limit, calls: RefCell::default(), told: Cell::default() })
    }

    /// The reply for the handler of a call, in the place of the transport's.
    pub fn watch(
        self: &Rc<SlowRequests>,
        path: &'static str,
        facts: &CallFacts,
        body: &Bytes,
        reply: UnaryReply,
    ) -> UnaryReply {
        let request = match body.len() {
            _ if !is_shown(path) => Kept::Nothing,
            0..=KEPT_BYTES_MAX => Kept::Body(body.clone()),
            _ => Asked::new(path, body).map_or(Kept::Nothing, |asked| Kept::Text(Box::new(asked))),
        };
        let (from, arrived) = (facts.caller.peer.address, facts.arrived);
        let key = self.calls.borrow_mut().add(Timed { reply: Some(reply), path, from, arrived, request });
        UnaryReply::new(self.clone(), key)
    }

    /// Asks the transport's reply of a call for something.
    fn with<R>(&self, key: CallKey, act: impl FnOnce(&UnaryReply) -> R) -> Option<R> {
        // It may call back, so that nothing is borrowed meanwhile.
        let reply = self.calls.borrow_mut().get(key)?.reply.take()?;
        let result = act(&reply);
        if let Some(call) = self.calls.borrow_mut().get(key) {
            call.reply = Some(reply);
        }
        Some(result)
    }

    /// A call has its answer, which `answer` gives, or a refusal.
    fn ended(&self, call: &mut Timed, answer: impl FnOnce() -> Option<Bytes>) {
        let took = call.arrived.elapsed();
        if took <= self.limit {
            return;
        }
        let now = call.arrived + took;
        self.tell_untold(now);
        let mut told = self.told.get();
        if told.since.is_none() {
            told = Told { since: Some(now), ..Told::default() };
        }
        if told.lines < LINES_PER_SECOND {
            told.lines += 1;
            let asked = match std::mem::replace(&mut call.request, Kept::Nothing) {
                Kept::Nothing => None,
                Kept::Body(body) => Asked::new(call.path, &body),
                Kept::Text(asked) => Some(*asked),
            };
            let logged = asked.map_or_else(Logged::nothing, |asked| asked.answered(answer().as_deref()));
            self.line(call, took, &logged);
        } else {
            told.untold += 1;
        }
        self.told.set(told);
    }

    fn line(&self, call: &Timed, took: Duration, logged: &Logged) {
        tracing::warn!(
            "start time" = timestamp(SystemTime::now() - took),
            "time spent" = format_duration(took),
            remote = %call.from,
            "response type" = call.path,
            "request count" = logged.request_count,
            "request size" = logged.request_size,
            "response count" = logged.response_count,
            "response size" = logged.response_size,
            "request content" = logged.content,
            "request stats"
        );
    }

    /// Tells of requests that had no line of their own, once their second is over.
    pub fn tell_untold(&self, now: Instant) {
        let told = self.told.get();
        if told.since.is_some_and(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            self.told.set(Told::default());
            if told.untold > 0 {
                let expected = format_duration(self.limit);
                tracing::warn!(requests = told.untold, "expected-duration" = expected, "more requests took too long");
            }
        }
    }

    /// Whether [`SlowRequests::tell_untold`] has something to tell, sooner or later.
    pub fn has_untold(&self) -> bool {
        self.told.get().untold > 0
    }
}

impl ReplySink for SlowRequests {
    fn send(&self, key: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), _finish: bool) {
        let Some(mut call) = self.calls.borrow_mut().take(key) else { return };
        let Some(reply) = call.reply.take() else { return };
        reply.send(|out| {
            let start = out.len();
            encode(out);
            self.ended(&mut call, || Some(Bytes::copy_from_slice(&out[start..])));
        });
    }

    fn send_bytes(&self, key: CallKey, body: Bytes, _finish: bool) {
        let Some(mut call) = self.calls.borrow_mut().take(key) else { return };
        self.ended(&mut call, || Some(body.clone()));
        if let Some(reply) = call.reply.take() {
            reply.send_bytes(body);
        }
    }

    fn send_pieces(&self, key: CallKey, pieces: Vec<Bytes>) {
        let Some(mut call) = self.calls.borrow_mut().take(key) else { return };
        self.ended(&mut call, || Some(pieces.concat().into()));
        if let Some(reply) = call.reply.take() {
            reply.send_pieces(pieces);
        }
    }

    fn finish(&self, key: CallKey, status: Status) {
        let Some(mut call) = self.calls.borrow_mut().take(key) else { return };
        self.ended(&mut call, || None);
        if let Some(reply) = call.reply.take() {
            reply.fail(status);
        }
    }

    fn abandon(&self, key: CallKey) {
        let Some(mut call) = self.calls.borrow_mut().take(key) else { return };
        self.ended(&mut call, || None);
        // The transport's reply, let go of, tells the client.
    }

    fn queued_bytes(&self, _key: CallKey) -> usize {
        // One answer, and that ends the call.
        0
    }

    fn is_closed(&self, key: CallKey) -> bool {
        self.with(key, UnaryReply::is_cancelled).unwrap_or(true)
    }

    fn on_cancel(&self, key: CallKey, action: Box<dyn FnOnce()>) {
        self.with(key, |reply| reply.on_cancel(action));
    }

    fn park(&self, key: CallKey) {
        if let Some(Timed { request: Kept::Body(body), .. }) = self.calls.borrow_mut().get(key) {
            *body = Bytes::copy_from_slice(body);
        }
        self.with(key, UnaryReply::park);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Caller;
    use plinth_api::methods;
    use plinth_net::grpc::Code;
    use plinth_net::transport::Peer;

    type Answers = Rc<RefCell<Vec<Result<Bytes, Code>>>>;

    fn call(slow: &Rc<SlowRequests>, answers: &Answers) -> UnaryReply {
        let answers = answers.clone();
        let reply = UnaryReply::local(move |result| answers.borrow_mut().push(result.map_err(|status| status.code)));
        let caller = Caller { user: None, peer: Peer::in_clear(PeerAddress::Unix), token: None };
        let facts = CallFacts { caller, requires_leader: false, client_api_version: None, arrived: Instant::now() };
        slow.watch(methods::PUT.path, &facts, &Bytes::from_static(b"\x0a\x01k"), reply)
    }

    #[test]
    fn every_way_to_answer_reaches_the_client_once() {
        let (slow, answers) = (SlowRequests::new(Duration::ZERO), Answers::default());
        call(&slow, &answers).send(|out| out.extend_from_slice(b"sent"));
        call(&slow, &answers).send_bytes(Bytes::from_static(b"bytes"));
        call(&slow, &answers).send_pieces(vec![Bytes::from_static(b"pie"), Bytes::from_static(b"ces")]);
        call(&slow, &answers).fail(Status::new(Code::NotFound, "no"));
        drop(call(&slow, &answers));
        let parked = call(&slow, &answers);
        parked.park();
        assert!(!parked.is_cancelled());
        parked.send(|_| {});
        let text = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        let expected =
            [text("sent"), text("bytes"), text("pieces"), Err(Code::NotFound), Err(Code::Unavailable), text("")];
        assert_eq!(*answers.borrow(), expected);
        let calls = slow.calls.borrow();
        assert_eq!((calls.places.len(), calls.free.len()), (1, 1), "places are used again");
    }

    #[test]
    fn lines_are_limited_and_the_rest_is_counted() {
        let (slow, answers) = (SlowRequests::new(Duration::ZERO), Answers::default());
        for _ in 0..LINES_PER_SECOND + 5 {
            call(&slow, &answers).send(|_| std::thread::sleep(Duration::from_nanos(10)));
        }
        assert!(slow.has_untold());
        slow.tell_untold(Instant::now() + Duration::from_secs(2));
        assert!(!slow.has_untold());
    }
}
