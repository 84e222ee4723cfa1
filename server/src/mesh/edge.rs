//! An edge's end of the mesh: a `Service` that sends calls to the home and hands its answers to the connections.

use super::channel::{Receiver, Sender};
use super::{CallId, ToEdge, ToHome};
use crate::caller::CallFacts;
use crate::notify::Notify;
use bytes::Bytes;
use plinth_net::grpc::{Call, Method, Service, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::Http1Request;
use plinth_net::server::Http1Reply;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A call that waits for the home.
enum Pending {
    Unary(UnaryReply),
    Stream(StreamReply, Rc<Cell<usize>>),
    Http(Http1Reply),
}

/// The calls of one edge.
pub struct Edge {
    methods: &'static [Method],
    pending: RefCell<FxHashMap<CallId, Pending>>,
    outbox: RefCell<Vec<ToHome>>,
    filled: Notify,
    next: Cell<u64>,
}

impl Edge {
    /// An edge without calls, for the methods of the home's API.
    pub fn new(methods: &'static [Method]) -> Rc<Edge> {
        Rc::new(Edge {
            methods,
            pending: RefCell::default(),
            outbox: RefCell::default(),
            filled: Notify::new(),
            next: Cell::new(1),
        })
    }

    fn name(&self) -> CallId {
        let id = self.next.get();
        self.next.set(id + 1);
        CallId(id)
    }

    fn post(&self, message: ToHome) {
        self.outbox.borrow_mut().push(message);
        self.filled.notify();
    }

    /// Sends what calls have posted, as one batch for all that was posted since the last.
    pub async fn send(self: Rc<Self>, sender: Sender<Vec<ToHome>>) {
        loop {
            self.filled.wait().await;
            let batch = std::mem::take(&mut *self.outbox.borrow_mut());
            if !batch.is_empty() && !sender.send(batch).await {
                return;
            }
        }
    }

    /// Hands the home's answers on; returns when the home tells the edge to drain, or is gone.
    pub async fn receive(&self, receiver: &Receiver<Vec<ToEdge>>) -> bool {
        while let Some(batch) = receiver.receive().await {
            for message in batch {
                if matches!(message, ToEdge::Drain) {
                    return true;
                }
                self.hand_on(message);
            }
        }
        false
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
            ToEdge::Drain => {}
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

    /// Tells the home what has left for the socket.
    fn report_drained(&self, id: CallId, reply: &StreamReply, held: &Cell<usize>) {
        let queued = reply.queued_bytes();
        if queued < held.get() {
            self.post(ToHome::Drained(id, held.get() - queued));
            held.set(queued);
        }
    }
}

/// The service that an edge's connections see.
pub struct EdgeService(pub Rc<Edge>);

impl Service for EdgeService {
    fn methods(&self) -> &'static [Method] {
        self.0.methods
    }

    fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply) {
        let id = self.0.name();
        let edge = self.0.clone();
        reply.on_cancel(move || {
            if edge.pending.borrow_mut().remove(&id).is_some() {
                edge.post(ToHome::Gone(id));
            }
        });
        self.0.pending.borrow_mut().insert(id, Pending::Unary(reply));
        self.0.post(ToHome::Unary(id, method, CallFacts::of(call), body));
    }

    fn stream(&self, method: usize, call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        let id = self.0.name();
        let held = Rc::new(Cell::new(0));
        self.0.pending.borrow_mut().insert(id, Pending::Stream(reply.clone(), held.clone()));
        self.0.post(ToHome::Open(id, method, CallFacts::of(call)));
        Box::new(EdgeStream { edge: self.0.clone(), id, reply, held })
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        let id = self.0.name();
        self.0.pending.borrow_mut().insert(id, Pending::Http(reply));
        self.0.post(ToHome::Http(id, request));
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
        self.edge.post(ToHome::Message(self.id, body));
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
