//! The home's end of the mesh, one per edge: runs the API's handlers for calls of another reactor.

use super::channel::{Receiver, Sender};
use super::{CallId, Target, ToEdge, ToHome};
use crate::answer::status;
use crate::api::Api;
use crate::caller::CallFacts;
use crate::endpoints::HttpEndpoints;
use crate::http::Endpoints;
use crate::notify::Notify;
use crate::v2::{Pieces, Reply, Signals};
use bytes::Bytes;
use plinth_net::grpc::{CallKey, ReplySink, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::Response;
use plinth_net::{rt, turn};
use plinth_raft::GroupId;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::rc::Rc;

/// A stream whose queue falls below this is told to go on.
const LOW_WATER_BYTES: usize = 64 << 10;

/// A call of the edge that is not over.
#[derive(Default)]
struct Remote {
    queued: usize,
    was_high: bool,
    on_cancel: Option<Box<dyn FnOnce()>>,
}

/// Takes answers for one edge.
pub struct EdgeSink {
    calls: RefCell<FxHashMap<CallId, Remote>>,
    /// Calls that were ended here: their handlers are to be dropped.
    ended: RefCell<Vec<CallId>>,
    outbox: RefCell<Vec<ToEdge>>,
    filled: Notify,
}

fn key(id: CallId) -> CallKey {
    CallKey { slot: id.0 as u32, generation: (id.0 >> 32) as u32 }
}

fn id(key: CallKey) -> CallId {
    CallId(u64::from(key.slot) | u64::from(key.generation) << 32)
}

impl EdgeSink {
    fn post(&self, message: ToEdge) {
        self.outbox.borrow_mut().push(message);
        self.filled.notify();
    }

    /// Tells the edge that the member stops.
    pub fn drain(&self) {
        self.post(ToEdge::Drain);
    }

    /// Tells the edge that this member can serve nothing, or can again.
    pub fn turn_away(&self, turns_away: bool) {
        self.post(ToEdge::TurnAway(turns_away));
    }

    /// Sends what handlers have answered, as one batch for all since the last.
    pub async fn send(self: Rc<Self>, sender: Sender<Vec<ToEdge>>) {
        loop {
            self.filled.wait().await;
            let batch = std::mem::take(&mut *self.outbox.borrow_mut());
            if !batch.is_empty() && !sender.send(batch).await {
                return;
            }
        }
    }

    fn end(&self, call: CallId) -> bool {
        let ended = self.calls.borrow_mut().remove(&call).is_some();
        if ended {
            self.ended.borrow_mut().push(call);
        }
        ended
    }
}

impl ReplySink for EdgeSink {
    fn send(&self, call: CallKey, encode: &mut dyn FnMut(&mut Vec<u8>), finish: bool) {
        if !self.calls.borrow().contains_key(&id(call)) {
            return;
        }
        let mut body = Vec::new();
        encode(&mut body);
        self.send_bytes(call, body.into(), finish);
    }

    fn send_bytes(&self, call: CallKey, body: Bytes, finish: bool) {
        let call = id(call);
        match self.calls.borrow_mut().get_mut(&call) {
            None => return,
            Some(remote) => {
                remote.queued += body.len();
                remote.was_high |= remote.queued > LOW_WATER_BYTES;
            }
        }
        if finish {
            self.end(call);
        }
        self.post(ToEdge::Send(call, body, finish));
    }

    fn send_pieces(&self, call: CallKey, pieces: Vec<Bytes>) {
        if self.end(id(call)) {
            self.post(ToEdge::Pieces(id(call), pieces));
        }
    }

    fn finish(&self, call: CallKey, status: Status) {
        if self.end(id(call)) {
            self.post(ToEdge::Finish(id(call), status));
        }
    }

    fn abandon(&self, call: CallKey) {
        self.finish(call, status::STOPPED);
    }

    fn queued_bytes(&self, call: CallKey) -> usize {
        self.calls.borrow().get(&id(call)).map_or(0, |remote| remote.queued)
    }

    fn is_closed(&self, call: CallKey) -> bool {
        !self.calls.borrow().contains_key(&id(call))
    }

    fn on_cancel(&self, call: CallKey, action: Box<dyn FnOnce()>) {
        if let Some(remote) = self.calls.borrow_mut().get_mut(&id(call)) {
            remote.on_cancel = Some(action);
            return;
        }
        action();
    }

    fn park(&self, call: CallKey) {
        self.post(ToEdge::Park(id(call)));
    }
}

/// What answers calls to one store.
#[derive(Clone)]
pub struct Answering {
    /// Its calls.
    pub api: Rc<Api>,
    /// Its requests to HTTP endpoints.
    pub http: Rc<HttpEndpoints>,
    /// Those of them that clients get.
    pub endpoints: Endpoints,
}

/// An answer over HTTP whose body comes in pieces, to a client of the edge.
struct Remotely(Rc<EdgeSink>, CallId);

impl Pieces for Remotely {
    fn send(&self, piece: Bytes) {
        self.0.send_bytes(key(self.1), piece, false);
    }

    fn queued_bytes(&self) -> usize {
        self.0.queued_bytes(key(self.1))
    }

    // The edge tells what has left without being asked.
    fn follow_queue(&self, _: &Rc<Signals>) {}

    fn finish(self) {
        self.0.finish(key(self.1), Status::OK);
    }
}

/// What the edge tells of such an answer.
struct HttpBody(Rc<Signals>);

impl StreamHandler for HttpBody {
    fn message(&mut self, _: Bytes) {}

    fn half_close(&mut self) {}

    fn writable(&mut self) {
        self.0.moved();
    }

    fn closed(&mut self) {
        self.0.lost();
    }
}

/// Serves one edge.
pub struct HomeSide {
    /// A few, which are found by looking at each.
    stores: Vec<(GroupId, Answering)>,
    sink: Rc<EdgeSink>,
    streams: FxHashMap<CallId, Box<dyn StreamHandler>>,
}

impl HomeSide {
    /// Answers calls to these stores.
    pub fn new(stores: Vec<(GroupId, Answering)>) -> HomeSide {
        let sink = EdgeSink {
            calls: RefCell::default(),
            ended: RefCell::default(),
            outbox: RefCell::default(),
            filled: Notify::new(),
        };
        HomeSide { stores, sink: Rc::new(sink), streams: FxHashMap::default() }
    }

    /// Where answers go.
    pub fn sink(&self) -> Rc<EdgeSink> {
        self.sink.clone()
    }

    /// Runs until the edge is gone.
    pub async fn receive(mut self, receiver: Receiver<Vec<ToHome>>) {
        while let Some(batch) = receiver.receive().await {
            let bytes = batch.iter().map(ToHome::bytes).sum();
            for message in batch {
                self.take(message);
            }
            if bytes > 0 {
                self.sink.post(ToEdge::Taken(bytes));
            }
            for id in self.sink.ended.borrow_mut().drain(..) {
                self.streams.remove(&id);
            }
        }
        let ids: Vec<CallId> = self.sink.calls.borrow().keys().copied().collect();
        for id in ids {
            self.gone(id);
        }
    }

    fn take(&mut self, message: ToHome) {
        if !matches!(message, ToHome::Drained(..)) {
            turn::short_work_came();
        }
        match message {
            ToHome::Unary(id, target, facts, body) => self.unary(id, target, facts, body),
            ToHome::Open(id, target, facts) => {
                let Some(store) = self.store(target.group) else { return self.refuse(id) };
                self.sink.calls.borrow_mut().insert(id, Remote::default());
                let reply = StreamReply::new(self.sink.clone(), key(id));
                let handler = store.api.stream(target.method, facts, reply);
                self.streams.insert(id, handler);
            }
            ToHome::Message(id, body) => {
                if let Some(handler) = self.streams.get_mut(&id) {
                    handler.message(body);
                }
            }
            ToHome::HalfClose(id) => {
                if let Some(handler) = self.streams.get_mut(&id) {
                    handler.half_close();
                }
            }
            ToHome::Drained(id, bytes) => self.drained(id, bytes),
            ToHome::Gone(id) => self.gone(id),
            ToHome::Http(id, group, request, connection) => {
                let sink = self.sink.clone();
                let Some(Answering { http, endpoints, .. }) = self.store(group).cloned() else {
                    return sink.post(ToEdge::Http(id, Response::error(503, &status::STOPPED.message)));
                };
                let signals = Rc::new(Signals::default());
                self.sink.calls.borrow_mut().insert(id, Remote::default());
                self.streams.insert(id, Box::new(HttpBody(signals.clone())));
                rt::spawn(async move {
                    match http.respond(&request, endpoints, connection).await {
                        Reply::Whole(response) => {
                            sink.end(id);
                            sink.post(ToEdge::Http(id, response));
                        }
                        Reply::Waiting(head, waiting) => {
                            sink.post(ToEdge::HttpHead(id, head));
                            waiting.run(Remotely(sink, id), signals).await;
                        }
                    }
                })
                .detach();
            }
        }
    }

    fn store(&self, group: GroupId) -> Option<&Answering> {
        self.stores.iter().find(|(id, _)| *id == group).map(|(_, store)| store)
    }

    /// The store is not here any more.
    fn refuse(&self, id: CallId) {
        self.sink.post(ToEdge::Finish(id, status::STOPPED));
    }

    fn unary(&self, id: CallId, target: Target, facts: CallFacts, body: Bytes) {
        let Some(store) = self.store(target.group) else { return self.refuse(id) };
        self.sink.calls.borrow_mut().insert(id, Remote::default());
        let reply = UnaryReply::new(self.sink.clone(), key(id));
        store.api.unary(target.method, facts, body, reply);
    }

    fn drained(&mut self, id: CallId, bytes: usize) {
        let is_low = match self.sink.calls.borrow_mut().get_mut(&id) {
            None => return,
            Some(remote) => {
                remote.queued = remote.queued.saturating_sub(bytes);
                remote.queued <= LOW_WATER_BYTES && std::mem::take(&mut remote.was_high)
            }
        };
        if is_low && let Some(handler) = self.streams.get_mut(&id) {
            handler.writable();
        }
    }

    fn gone(&mut self, id: CallId) {
        let remote = self.sink.calls.borrow_mut().remove(&id);
        if let Some(action) = remote.and_then(|remote| remote.on_cancel) {
            action();
        }
        if let Some(mut handler) = self.streams.remove(&id) {
            handler.closed();
        }
    }
}
