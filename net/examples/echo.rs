//! A gRPC server that answers every message with itself: something for conformance and load tools to talk to.
//!
//! `cargo run -p plinth-net --example echo -- 127.0.0.1:50051 [most streams of a connection]`
//!
//! Methods: `/echo.Echo/Unary`, `/echo.Echo/Repeat` (server stream: the message ten times), `/echo.Echo/Chat` (both ways).
//! Plain requests over HTTP/1.1 and HTTP/2 get their body back too.

use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use plinth_net::grpc::{Call, Method, MethodKind, Service, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::rt;
use plinth_net::server::{ListenOptions, Listener, ServerOptions, Shutdown, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const METHODS: &[Method] = &[
    Method { path: "/echo.Echo/Unary", kind: MethodKind::Unary },
    Method { path: "/echo.Echo/Repeat", kind: MethodKind::ServerStream },
    Method { path: "/echo.Echo/Chat", kind: MethodKind::BidiStream },
];
const REPEAT: usize = 1;
const REPETITIONS: usize = 10;

struct Echo;

impl Service for Echo {
    fn methods(&self) -> &'static [Method] {
        METHODS
    }

    fn unary(&self, _method: usize, _call: &Call, body: Bytes, reply: UnaryReply) {
        reply.send(|out| out.extend_from_slice(&body));
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        let body = if request.body.is_empty() { Bytes::from_static(b"echo\n") } else { request.body };
        reply.respond(&Response::with_body(200, "text/plain", body));
    }

    fn stream(&self, method: usize, _call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        Box::new(EchoStream { reply, repetitions: if method == REPEAT { REPETITIONS } else { 1 } })
    }
}

struct EchoStream {
    reply: StreamReply,
    repetitions: usize,
}

impl StreamHandler for EchoStream {
    fn message(&mut self, body: Bytes) {
        for _ in 0..self.repetitions {
            self.reply.send_bytes(body.clone());
        }
    }

    fn half_close(&mut self) {
        self.reply.finish(Status::OK);
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".into()).parse()?;
    let max_concurrent_streams = std::env::args().nth(2).map_or(Ok(u32::MAX), |most| most.parse())?;
    let reactor = rt::reactor("echo", None, rt::RING_ENTRIES, move || async move {
        let listener = Listener::bind(address, ListenOptions::default())?;
        println!("listening on {}", listener.local_addr()?);
        let options = ServerOptions { http_over_h2: true, max_concurrent_streams, ..ServerOptions::default() };
        serve(listener, Rc::new(Echo), options, Shutdown::new()).await;
        Ok::<(), std::io::Error>(())
    })?;
    reactor.join()??;
    Ok(())
}
