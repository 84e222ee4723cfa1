//! What a listener of the home serves: gRPC from the handlers of the API, HTTP/1.1 from the endpoints.

use crate::api::{self, Api};
use crate::caller::CallFacts;
use crate::endpoints::HttpEndpoints;
use crate::http::Endpoints;
use bytes::Bytes;
use plinth_net::grpc::{Call, Method, Service, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::Http1Request;
use plinth_net::rt;
use plinth_net::server::Http1Reply;
use std::rc::Rc;

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
        rt::spawn(async move { reply.respond(&http.respond(&request, endpoints).await) }).detach();
    }
}
