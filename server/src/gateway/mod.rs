//! The JSON gateway: `POST /v3/...` with JSON becomes a call of the same handlers that gRPC has, in this process.
//!
//! ```text
//!            [`Gateway::target`]   api::json            Service                 api::json
//!  request ──▶ method, messages ──▶ protobuf ──▶ handler (here or through the mesh) ──▶ JSON, JSON lines, frames
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `head` | of a request: metadata for the handler, deadline |
//! | `fault` | how a call that failed is told: body and HTTP status |
//! | `exchange` | one call: where its handler's answers go |
//! | `input` | bodies of streams, value by value |
//! | `socket`, `frames` | the same over a websocket |
//!
//! Invariants: a call is answered once. JSON of more than [`INLINE_BYTES`] is read and written on a thread, never on the
//! reactor, and in order. What waits is bounded: bodies by the transport, bodies of streams by [`INPUT_BYTES_MAX`],
//! answers by their producers, who ask how much waits.

mod exchange;
mod fault;
mod frames;
mod head;
mod input;
mod socket;

use crate::http::{self, Access, Admission, Connection};
use bytes::Bytes;
pub use fault::response as refusal;

use exchange::{Exchange, Output};
use head::Head;
use plinth_api::json::{self, MessageSpec, ROUTES};
use plinth_net::grpc::{BodyHandler, Call, MethodKind, Service, Status, StreamReply, Tally, UnaryReply};
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{BodyMode, Http1Request, Method, Version};
use plinth_net::rt;
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::Arc;

/// JSON or protobuf that is converted on the reactor: about a tenth of a millisecond. More goes to a thread.
pub const INLINE_BYTES: usize = 64 << 10;

/// Bytes of a stream's requests that wait for a thread, and of one that is not complete.
pub const INPUT_BYTES_MAX: usize = 8 << 20;

/// What a path stands for.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// The method's place in the service's table.
    method: usize,
    kind: MethodKind,
    request: &'static MessageSpec,
    answer: &'static MessageSpec,
}

/// See the module.
pub struct Gateway {
    service: Rc<dyn Service>,
    access: Access,
    targets: FxHashMap<&'static str, Target>,
    tally: Arc<Tally>,
    /// Largest request message, as over gRPC.
    request_bytes_max: usize,
}

impl Gateway {
    /// Calls the handlers of `service`, and counts calls in `tally` as if they had come over gRPC.
    pub fn new(service: Rc<dyn Service>, access: Access, tally: Arc<Tally>, request_bytes_max: usize) -> Rc<Gateway> {
        let methods = service.methods();
        let target = |path: &str| {
            let method = methods.iter().position(|method| method.path == path)?;
            let (request, answer) = json::messages(path)?;
            Some(Target { method, kind: methods[method].kind, request, answer })
        };
        let targets = ROUTES.iter().filter_map(|route| Some((route.path, target(route.method)?))).collect();
        Rc::new(Gateway { service, access, targets, tally, request_bytes_max })
    }

    /// What `path`, which begins with `/v3`, stands for.
    fn target(&self, path: &str) -> Option<Target> {
        self.targets.get(path.strip_prefix("/v3")?).copied()
    }

    /// How the body of a request to `path` is to come.
    pub fn body_mode(&self, path: &str, head: &Http1Request) -> BodyMode {
        if head.version == Version::Http11 && socket::is_upgrade(head) {
            return BodyMode::Raw;
        }
        let is_bidi = self.target(path).is_some_and(|target| target.kind == MethodKind::BidiStream);
        if is_bidi && head.method == Method::Post { BodyMode::Pieces } else { BodyMode::Whole }
    }

    /// Answers a request that has arrived whole.
    pub fn serve(&self, path: &str, request: Http1Request, reply: Http1Reply) {
        let Some((output, target, head)) = self.begin(path, &request, reply) else { return };
        let exchange = self.exchange(target, &head, output);
        match target.kind {
            MethodKind::Unary => self.unary(&exchange, target, head, request.body),
            MethodKind::ServerStream | MethodKind::BidiStream => {
                let mut input = self.stream(&exchange, target, head);
                if !request.body.is_empty() {
                    input.piece(request.body);
                }
                input.end();
            }
        }
    }

    /// Begins to answer a request whose body comes in pieces, or one for a websocket.
    pub fn open(&self, path: &str, request: Http1Request, reply: Http1Reply) -> Box<dyn BodyHandler> {
        if socket::is_upgrade(&request) {
            return self.open_socket(path, &request, reply);
        }
        match self.begin(path, &request, reply) {
            Some((output, target, head)) => {
                let exchange = self.exchange(target, &head, output);
                self.stream(&exchange, target, head)
            }
            None => Box::new(input::Ignored),
        }
    }

    /// Whether a request may go on, and how. Otherwise it has been answered.
    fn begin(&self, path: &str, request: &Http1Request, reply: Http1Reply) -> Option<(Output, Target, Head)> {
        let admission = self.access.admit(request, &connection(&reply));
        if let Admission::Answered(response) = &admission {
            reply.respond(response);
            return None;
        }
        if path == "/v3" {
            reply.respond(&admission.finish(http::redirect("/v3/", request.query())));
            return None;
        }
        let found = self.target(path).ok_or(fault::NOT_FOUND).and_then(|target| {
            if request.method != Method::Post {
                return Err(fault::METHOD_NOT_ALLOWED);
            }
            Ok((target, Head::new(request, reply.peer())?))
        });
        match found {
            Ok((target, head)) => Some((Output::http(reply, admission), target, head)),
            Err(status) => {
                reply.respond(&admission.finish(fault::response(&status)));
                None
            }
        }
    }

    /// As `begin` and `stream` or `unary`, where everything goes through frames.
    fn open_socket(&self, path: &str, request: &Http1Request, reply: Http1Reply) -> Box<dyn BodyHandler> {
        let admission = self.access.admit(request, &connection(&reply));
        if let Admission::Answered(response) = &admission {
            reply.respond(response);
            return Box::new(input::Ignored);
        }
        let Some(headers) = socket::handshake(request) else {
            reply.respond(&admission.finish(socket::refusal()));
            return Box::new(input::Ignored);
        };
        let peer = reply.peer();
        let output = Output::socket(reply.upgrade(&headers));
        let Some(target) = self.target(path) else {
            output.end_with(&fault::body(&fault::NOT_FOUND));
            return Box::new(input::Ignored);
        };
        let head = Head::of_socket(request, peer);
        let exchange = self.exchange(target, &head, output);
        let receiver: Box<dyn BodyHandler> = if target.kind == MethodKind::Unary {
            let (gateway, exchange) = (self.parts(), exchange.clone());
            Box::new(input::First::new(exchange.clone(), move |body| gateway.unary(&exchange, target, head, body)))
        } else {
            self.stream(&exchange, target, head)
        };
        Box::new(socket::Receiver::new(exchange, receiver))
    }

    fn exchange(&self, target: Target, head: &Head, output: Output) -> Rc<Exchange> {
        Exchange::start(target, output, head.timeout, self.tally.clone())
    }

    fn parts(&self) -> Parts {
        Parts { service: self.service.clone(), request_bytes_max: self.request_bytes_max }
    }

    fn unary(&self, exchange: &Rc<Exchange>, target: Target, head: Head, body: Bytes) {
        self.parts().unary(exchange, target, head, body);
    }

    /// Opens the stream's handler; what takes the body.
    fn stream(&self, exchange: &Rc<Exchange>, target: Target, head: Head) -> Box<dyn BodyHandler> {
        if exchange.is_over() {
            return Box::new(input::Ignored);
        }
        let only_first = target.kind == MethodKind::ServerStream;
        let (service, call) = (self.service.clone(), head.call());
        // The handler of a stream with one request is opened when that is there and makes sense, as in etcd.
        let open = {
            let exchange = exchange.clone();
            move || {
                let reply = StreamReply::new(exchange.clone(), exchange::KEY);
                exchange.attach(service.stream(target.method, &call, reply));
            }
        };
        Box::new(input::Input::new(
            exchange.clone(),
            target.request,
            self.request_bytes_max,
            only_first,
            Box::new(open),
        ))
    }
}

/// What a call takes of the gateway beyond its beginning.
#[derive(Clone)]
struct Parts {
    service: Rc<dyn Service>,
    request_bytes_max: usize,
}

impl Parts {
    /// Reads the first value of a body and calls the method.
    fn unary(&self, exchange: &Rc<Exchange>, target: Target, head: Head, body: Bytes) {
        if body.len() <= INLINE_BYTES {
            let read = input::first(target.request, &body);
            return self.call(exchange, target, &head.call(), read);
        }
        let (parts, exchange) = (self.clone(), exchange.clone());
        rt::spawn(async move {
            let read = rt::unblock(move || input::first(target.request, &body)).await;
            parts.call(&exchange, target, &head.call(), read);
        })
        .detach();
    }

    fn call(&self, exchange: &Rc<Exchange>, target: Target, call: &Call, read: Result<Vec<u8>, Status>) {
        if exchange.is_over() {
            return;
        }
        let body = match read.and_then(|body| input::bounded(body, self.request_bytes_max)) {
            Ok(body) => body,
            Err(status) => return exchange.refuse(&status),
        };
        exchange.called(body.len());
        self.service.unary(target.method, call, body, UnaryReply::new(exchange.clone(), exchange::KEY));
    }
}

/// What matters of the connection of a request.
fn connection(reply: &Http1Reply) -> Connection {
    Connection::of(&reply.peer())
}
