//! What a listener serves: gRPC from the handlers of the API, HTTP/1.1 from the endpoints, on the home; and in front of
//! what any reactor has, the JSON gateway.

use crate::api::{self, Api};
use crate::caller::CallFacts;
use crate::config::Config;
use crate::endpoints::HttpEndpoints;
use crate::gateway::Gateway;
use crate::http::{self, Access, Connection, Endpoints};
use crate::v2::{Pieces, Reply, Signals};
use bytes::Bytes;
use plinth_net::grpc::{BodyHandler, Call, Method, Service, StreamHandler, StreamReply, Tally, UnaryReply};
use plinth_net::http1::{BodyMode, Http1Body, Http1Reply, Http1Request};
use plinth_net::rt;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
pub struct HomeService {
    api: Rc<Api>,
    http: Rc<HttpEndpoints>,
    endpoints: Endpoints,
}

impl HomeService {
    /// Answers from `api`, and HTTP requests from `http`, as far as `endpoints` says.
    pub fn new(api: Rc<Api>, http: Rc<HttpEndpoints>, endpoints: Endpoints) -> Rc<HomeService> {
        Rc::new(HomeService { api, http, endpoints })
    }
}

impl Service for HomeService {
    fn methods(&self) -> &'static [Method] {
        api::method_table()
    }

    fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply) {
        self.api.unary(method, CallFacts::of(call), body, reply);
    }

    fn stream(&self, method: usize, call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        self.api.stream(method, CallFacts::of(call), reply)
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        let (http, endpoints) = (self.http.clone(), self.endpoints);
        let connection = Connection::of(&reply.peer());
        rt::spawn(async move {
            match http.respond(&request, endpoints, connection).await {
                Reply::Whole(response) => reply.respond(&response),
                Reply::Waiting(head, waiting) => {
                    let signals = Rc::new(Signals::default());
                    let body = Local(reply.stream(head.status, &head.headers));
                    let lost = signals.clone();
                    body.0.on_cancel(move || lost.lost());
                    waiting.run(body, signals).await;
                }
            }
        })
        .detach();
    }
}

/// The body of an answer on a connection of this reactor.
struct Local(Http1Body);

impl Pieces for Local {
    fn send(&self, piece: Bytes) {
        self.0.send(piece);
    }

    fn queued_bytes(&self) -> usize {
        self.0.queued_bytes()
    }

    fn follow_queue(&self, signals: &Rc<Signals>) {
        let signals = signals.clone();
        self.0.on_drained(move || signals.moved());
    }

    fn finish(self) {
        self.0.finish();
    }
}

/// What a listener for clients serves: `inner`, with the JSON gateway in front unless it is turned off. Its calls count in
/// `tally`.
pub fn for_clients(
    inner: Rc<dyn Service>,
    config: &Config,
    tally: &Arc<Tally>,
    endpoints: Endpoints,
) -> Rc<dyn Service> {
    if !config.http.gateway {
        return inner;
    }
    let access = Access::of(config, endpoints);
    let gateway = Gateway::new(inner.clone(), access, tally.clone(), config.limits.message_bytes_max());
    Rc::new(WithGateway { inner, gateway })
}

/// A service with the JSON gateway in front: requests below `/v3/` become calls of that very service.
struct WithGateway {
    inner: Rc<dyn Service>,
    gateway: Rc<Gateway>,
}

impl Service for WithGateway {
    fn methods(&self) -> &'static [Method] {
        self.inner.methods()
    }

    fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply) {
        self.inner.unary(method, call, body, reply);
    }

    fn stream(&self, method: usize, call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        self.inner.stream(method, call, reply)
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        match http::gateway_path(&request) {
            Some(path) => self.gateway.serve(&path, request, reply),
            None => self.inner.http1(request, reply),
        }
    }

    fn body_mode(&self, head: &Http1Request) -> BodyMode {
        http::gateway_path(head).map_or(BodyMode::Whole, |path| self.gateway.body_mode(&path, head))
    }

    fn http1_open(&self, head: Http1Request, reply: Http1Reply) -> Box<dyn BodyHandler> {
        let path = http::gateway_path(&head).unwrap_or_default();
        self.gateway.open(&path, head, reply)
    }
}
