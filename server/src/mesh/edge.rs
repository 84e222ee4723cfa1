//! An edge's end of the mesh: a `Service` that sends calls to the home and hands its answers to the connections.

use super::channel::{Receiver, Sender};
use super::{CallId, IN_FLIGHT_BYTES_MAX, Target, ToEdge, ToHome};
use crate::answer::refusal::RefusedStream;
use crate::answer::status;
use crate::caller::CallFacts;
use crate::http::Connection;
use crate::notify::Notify;
use bytes::Bytes;
use plinth_net::grpc::{Call, Method, Service, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::h2::limits::STREAM_LOW_WATER_BYTES;
use plinth_net::http1::{Http1Body, Http1Reply, Http1Request, Response};
use plinth_net::server::Shutdown;
use plinth_raft::GroupId;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// A call that waits for the home.
enum Pending {
    Unary(UnaryReply),
    Stream(StreamReply, Rc<Cell<usize>>),
    Http(Http1Reply),
    /// An answer over HTTP that has begun.
    Body(Rc<Http1Body>, Rc<Cell<usize>>),
}

/// The calls of one edge.
pub struct Edge {
    me: Weak<Edge>,
    methods: &'static [Method],
    pending: RefCell<FxHashMap<CallId, Pending>>,
    outbox: RefCell<Vec<ToHome>>,
    /// Bytes that the home has not taken yet, in the outbox and in the channel.
    in_flight: Cell<usize>,
    /// Bytes of streams that were handed to their sockets, until the home is told.
    drained: RefCell<FxHashMap<CallId, usize>>,
    filled: Notify,
    next: Cell<u64>,
}

impl Edge {
    /// An edge without calls, for the methods of the home's API.
    pub fn new(methods: &'static [Method]) -> Rc<Edge> {
        Rc::new_cyclic(|me| Edge {
            me: me.clone(),
            methods,
            pending: RefCell::default(),
            outbox: RefCell::default(),
            in_flight: Cell::new(0),
            drained: RefCell::default(),
            filled: Notify::new(),
            next: Cell::new(1),
        })
    }

    fn name(&self) -> CallId {
        let id = self.next.get();
        self.next.set(id + 1);
        CallId(id)
    }

    /// Whether another request may be posted. What ends calls is posted all the same: of that there is one each.
    fn has_room(&self) -> bool {
        self.in_flight.get() < IN_FLIGHT_BYTES_MAX
    }

    fn post(&self, message: ToHome) {
        self.in_flight.set(self.in_flight.get() + message.bytes());
        self.outbox.borrow_mut().push(message);
        self.filled.notify();
    }

    /// Sends what calls have posted, as one batch for all that was posted since the last.
    pub async fn send(self: Rc<Self>, sender: Sender<Vec<ToHome>>) {
        loop {
            self.filled.wait().await;
            let batch = self.take_batch();
            if !batch.is_empty() && !sender.send(batch).await {
                return;
            }
        }
    }

    fn take_batch(&self) -> Vec<ToHome> {
        let mut batch = self.outbox.take();
        let sent = batch.len();
        batch.extend(self.drained.borrow_mut().drain().map(|(id, bytes)| ToHome::Drained(id, bytes)));
        let more: usize = batch[sent..].iter().map(ToHome::bytes).sum();
        self.in_flight.set(self.in_flight.get() + more);
        batch
    }

    /// Hands the home's answers on, and tells the server when connections are to go, until the home is gone.
    pub async fn receive(&self, receiver: &Receiver<Vec<ToEdge>>, shutdown: &Shutdown) {
        while let Some(batch) = receiver.receive().await {
            for message in batch {
                match message {
                    ToEdge::Drain => shutdown.drain(),
                    ToEdge::TurnAway(turns_away) => shutdown.turn_away(turns_away),
                    answer => self.hand_on(answer),
                }
            }
        }
    }

    fn hand_on(&self, message: ToEdge) {
        match message {
            ToEdge::Send(id, body, finish) => self.answer(id, body, finish),
            ToEdge::Pieces(id, pieces) => self.answer_unary(id, pieces),
            ToEdge::Finish(id, status) => {
                let pending = self.pending.borrow_mut().remove(&id);
                match pending {
                    Some(Pending::Unary(reply)) => reply.fail(status),
                    Some(Pending::Stream(reply, _)) => reply.finish(status),
                    Some(Pending::Body(body, _)) => finish(body),
                    Some(Pending::Http(_)) | None => {}
                }
            }
            ToEdge::Park(id) => {
                if let Some(Pending::Unary(reply)) = self.pending.borrow().get(&id) {
                    reply.park();
                }
            }
            ToEdge::Http(id, response) => {
                let pending = self.pending.borrow_mut().remove(&id);
                if let Some(Pending::Http(reply)) = pending {
                    reply.respond(&response);
                }
            }
            ToEdge::HttpHead(id, head) => {
                let pending = self.pending.borrow_mut().remove(&id);
                if let Some(Pending::Http(reply)) = pending {
                    let body = Rc::new(reply.stream(head.status, &head.headers));
                    self.pending.borrow_mut().insert(id, Pending::Body(body, Rc::default()));
                }
            }
            ToEdge::Taken(bytes) => {
                let left = self.in_flight.get().checked_sub(bytes);
                self.in_flight.set(left.expect("the home takes no more than was sent"));
            }
            ToEdge::Drain | ToEdge::TurnAway(_) => unreachable!("no answer"),
        }
    }

    fn answer_unary(&self, id: CallId, pieces: Vec<Bytes>) {
        let pending = self.pending.borrow_mut().remove(&id);
        if let Some(Pending::Unary(reply)) = pending {
            reply.send_pieces(pieces);
        }
    }

    fn answer(&self, id: CallId, body: Bytes, finish: bool) {
        let unary = matches!(self.pending.borrow().get(&id), Some(Pending::Unary(_)));
        if unary {
            let pending = self.pending.borrow_mut().remove(&id);
            if let Some(Pending::Unary(reply)) = pending {
                reply.send_bytes(body);
            }
            return;
        }
        if let Some(Pending::Body(to, held)) = self.pending.borrow().get(&id) {
            held.set(held.get() + body.len());
            to.send(body);
            return self.follow_body(id, to, held);
        }
        let stream = match self.pending.borrow().get(&id) {
            Some(Pending::Stream(reply, held)) => Some((reply.clone(), held.clone())),
            _ => None,
        };
        let Some((reply, held)) = stream else { return };
        held.set(held.get() + body.len());
        reply.send_bytes(body);
        if finish {
            self.pending.borrow_mut().remove(&id);
            reply.finish(Status::OK);
        } else {
            self.report_drained(id, &reply, &held);
        }
    }

    /// Tells the home what of a body has left, now and when the rest has.
    fn follow_body(&self, id: CallId, body: &Rc<Http1Body>, held: &Rc<Cell<usize>>) {
        self.note_drained(id, body.queued_bytes(), held);
        if body.queued_bytes() > STREAM_LOW_WATER_BYTES {
            let (edge, weak, held) = (self.me.clone(), Rc::downgrade(body), held.clone());
            body.on_drained(move || {
                if let (Some(edge), Some(body)) = (edge.upgrade(), weak.upgrade()) {
                    edge.note_drained(id, body.queued_bytes(), &held);
                }
            });
        }
    }

    /// Tells the home what has left for the socket.
    fn report_drained(&self, id: CallId, reply: &StreamReply, held: &Cell<usize>) {
        self.note_drained(id, reply.queued_bytes(), held);
    }

    fn note_drained(&self, id: CallId, queued: usize, held: &Cell<usize>) {
        if queued < held.get() {
            *self.drained.borrow_mut().entry(id).or_default() += held.get() - queued;
            held.set(queued);
            self.filled.notify();
        }
    }
}

/// The service that connections of an edge see, to a listener of a store.
pub struct EdgeService {
    edge: Rc<Edge>,
    group: GroupId,
}

impl EdgeService {
    /// Asks the home of this group.
    pub fn new(edge: Rc<Edge>, group: GroupId) -> EdgeService {
        EdgeService { edge, group }
    }
}

impl Service for EdgeService {
    fn methods(&self) -> &'static [Method] {
        self.edge.methods
    }

    fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply) {
        if !self.edge.has_room() {
            return reply.fail(status::TOO_MANY_REQUESTS);
        }
        let id = self.edge.name();
        let edge = self.edge.clone();
        reply.on_cancel(move || {
            if edge.pending.borrow_mut().remove(&id).is_some() {
                edge.post(ToHome::Gone(id));
            }
        });
        self.edge.pending.borrow_mut().insert(id, Pending::Unary(reply));
        self.edge.post(ToHome::Unary(id, Target { group: self.group, method }, CallFacts::of(call), body));
    }

    fn stream(&self, method: usize, call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        if !self.edge.has_room() {
            reply.finish(status::TOO_MANY_REQUESTS);
            return Box::new(RefusedStream);
        }
        let id = self.edge.name();
        let held = Rc::new(Cell::new(0));
        self.edge.pending.borrow_mut().insert(id, Pending::Stream(reply.clone(), held.clone()));
        self.edge.post(ToHome::Open(id, Target { group: self.group, method }, CallFacts::of(call)));
        Box::new(EdgeStream { edge: self.edge.clone(), id, reply, held })
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        if !self.edge.has_room() {
            return reply.respond(&Response::error(503, &status::TOO_MANY_REQUESTS.message));
        }
        let id = self.edge.name();
        let connection = Connection::of(&reply.peer());
        let edge = self.edge.clone();
        reply.on_cancel(move || {
            if edge.pending.borrow_mut().remove(&id).is_some() {
                edge.post(ToHome::Gone(id));
            }
        });
        self.edge.pending.borrow_mut().insert(id, Pending::Http(reply));
        self.edge.post(ToHome::Http(id, self.group, request, connection));
    }
}

/// Ends a body that nobody else has.
fn finish(body: Rc<Http1Body>) {
    if let Ok(body) = Rc::try_unwrap(body) {
        body.finish();
    }
}

struct EdgeStream {
    edge: Rc<Edge>,
    id: CallId,
    reply: StreamReply,
    held: Rc<Cell<usize>>,
}

impl StreamHandler for EdgeStream {
    fn message(&mut self, body: Bytes) {
        if self.edge.has_room() {
            return self.edge.post(ToHome::Message(self.id, body));
        }
        if self.edge.pending.borrow_mut().remove(&self.id).is_some() {
            self.reply.finish(status::TOO_MANY_REQUESTS);
            self.edge.post(ToHome::Gone(self.id));
        }
    }

    fn half_close(&mut self) {
        self.edge.post(ToHome::HalfClose(self.id));
    }

    fn writable(&mut self) {
        self.edge.report_drained(self.id, &self.reply, &self.held);
    }

    fn closed(&mut self) {
        self.edge.pending.borrow_mut().remove(&self.id);
        self.edge.post(ToHome::Gone(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::grpc::{CallKey, MethodKind, ReplySink};
    use plinth_net::transport::{Peer, PeerAddress};
    use std::time::Instant;

    static METHODS: [Method; 1] = [Method { path: "/a/b", kind: MethodKind::Unary }];

    /// Keeps how a stream ended.
    #[derive(Default)]
    struct Ending(RefCell<Vec<Status>>);

    impl ReplySink for Ending {
        fn send(&self, _: CallKey, _: &mut dyn FnMut(&mut Vec<u8>), _: bool) {}

        fn send_bytes(&self, _: CallKey, _: Bytes, _: bool) {}

        fn finish(&self, _: CallKey, status: Status) {
            self.0.borrow_mut().push(status);
        }

        fn abandon(&self, _: CallKey) {}

        fn queued_bytes(&self, _: CallKey) -> usize {
            0
        }

        fn is_closed(&self, _: CallKey) -> bool {
            false
        }

        fn on_cancel(&self, _: CallKey, _: Box<dyn FnOnce()>) {}

        fn park(&self, _: CallKey) {}
    }

    fn call() -> Call {
        let peer = Peer::in_clear(PeerAddress::Unix);
        Call::new(Rc::new(Vec::new()), Rc::new(peer), None, Instant::now())
    }

    #[test]
    fn what_the_home_does_not_take_is_bounded() {
        let edge = Edge::new(&METHODS);
        let service = EdgeService::new(edge.clone(), GroupId(0));
        let ending = Rc::new(Ending::default());
        let stream_reply = || StreamReply::new(ending.clone(), CallKey { slot: 0, generation: 0 });
        let mut stream = service.stream(0, &call(), stream_reply());
        let refusals = Rc::new(RefCell::new(Vec::new()));
        let body = Bytes::from(vec![0; 1 << 20]);
        let ask = || {
            let refusals = refusals.clone();
            let done = move |result: Result<Bytes, Status>| refusals.borrow_mut().extend(result.err());
            service.unary(0, &call(), body.clone(), UnaryReply::local(done));
        };
        for _ in 0..80 {
            ask();
        }
        assert!(edge.in_flight.get() < IN_FLIGHT_BYTES_MAX + (2 << 20), "{}", edge.in_flight.get());
        assert_eq!(refusals.take(), vec![status::TOO_MANY_REQUESTS; 80 - 64]);
        stream.message(Bytes::new());
        stream.message(Bytes::new());
        assert_eq!(ending.0.take(), [status::TOO_MANY_REQUESTS], "one that was open ends, once");
        drop(service.stream(0, &call(), stream_reply()));
        assert_eq!(ending.0.take(), [status::TOO_MANY_REQUESTS], "a new one does not begin");

        let batch = edge.take_batch();
        assert!(matches!(batch.last(), Some(ToHome::Gone(_))), "the home hears of the stream's end");
        edge.hand_on(ToEdge::Taken(batch.iter().map(ToHome::bytes).sum()));
        assert_eq!(edge.in_flight.get(), 0);
        ask();
        assert_eq!((refusals.take(), edge.take_batch().len()), (Vec::new(), 1), "there is room again");
    }
}
