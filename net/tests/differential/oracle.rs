//! The two servers, fed by hand: no sockets, no runtime.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use plinth_net::h2 as own;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ANSWER_BYTES, Outcome};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Our connection. Answers every request when it has ended.
pub struct Ours {
    connection: own::Connection<()>,
    now: Instant,
    outcome: Outcome,
}

impl Ours {
    pub fn new() -> Ours {
        let keepalive =
            own::KeepaliveConfig { min_time: Duration::ZERO, interval: Duration::ZERO, timeout: Duration::ZERO };
        let config = own::Config { max_concurrent_streams: u32::MAX, keepalive };
        let now = Instant::now();
        let mut ours = Ours { connection: own::Connection::new(config, now), now, outcome: Outcome::default() };
        ours.send(PREFACE);
        ours
    }

    pub fn send(&mut self, bytes: &[u8]) -> Outcome {
        // Much time passes between frames, so that no ping comes too early.
        self.now += Duration::from_secs(3 * 60 * 60);
        self.connection.receive(Bytes::copy_from_slice(bytes), self.now);
        while let Some(event) = self.connection.poll_event(self.now) {
            self.on_event(event);
        }
        loop {
            self.connection.flush();
            let output = self.connection.output();
            if output.is_empty() {
                return self.outcome.clone();
            }
            let mut slices = [io::IoSlice::new(&[]); 100];
            let filled = output.fill(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            output.advance(bytes.len());
            self.outcome.read(&bytes);
        }
    }

    fn on_event(&mut self, event: own::Event<()>) {
        let (key, ended) = match event {
            own::Event::Request { key, head, end } => {
                let fields = head.fields().iter().filter(|field| !field.name().starts_with(b":"));
                let fields = fields.map(|field| (field.name(), field.value()));
                let request = request(head.method(), head.path(), fields);
                self.outcome.requests.insert(key.id.get(), request);
                self.outcome.bodies.insert(key.id.get(), (Vec::new(), end));
                (key, end)
            }
            own::Event::Data { key, data, end } => {
                let body = self.outcome.bodies.get_mut(&key.id.get()).expect("a request came before");
                body.0.extend_from_slice(&data);
                body.1 |= end;
                (key, end)
            }
            own::Event::Reset { .. } => return,
        };
        if ended {
            self.connection.send_head(key, |encoder, out| encoder.status(out, 200));
            self.connection.send_encoded(key, |out| {
                out.extend_from_slice(&[b'a'; ANSWER_BYTES]);
                true
            });
            let constants = &[own::hpack::Constant::GRPC_STATUS_OK];
            self.connection.send_trailers(key, own::Trailers { constants, literals: Vec::new() });
        }
    }
}

fn request<'a>(
    method: &[u8],
    path: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![(":method".to_owned(), method.to_vec()), (":path".to_owned(), path.to_vec())];
    all.extend(fields.map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())));
    all.sort();
    all
}

/// Bytes to and from the h2 server.
#[derive(Clone, Default)]
struct Wire {
    input: Arc<Mutex<Vec<u8>>>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut input = self.input.lock().unwrap();
        if input.is_empty() {
            return Poll::Pending;
        }
        let count = input.len().min(buffer.remaining());
        buffer.put_slice(&input[..count]);
        input.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Exchange {
    stream: u32,
    body: RecvStream,
    /// All data has been read, and the trailers are waited for.
    data_ended: bool,
    ended: bool,
    respond: SendResponse<Bytes>,
    /// Kept, because dropping it would reset the stream.
    _answer: Option<SendStream<Bytes>>,
}

/// The server of the h2 crate. Answers every request when it has ended.
pub struct Theirs {
    wire: Wire,
    connection: Connection<Wire, Bytes>,
    exchanges: Vec<Exchange>,
    outcome: Outcome,
}

impl Theirs {
    pub fn new() -> Theirs {
        let wire = Wire::default();
        wire.input.lock().unwrap().extend_from_slice(PREFACE);
        let mut builder = Builder::new();
        builder
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_header_list_size(64 << 10)
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(1000)
            .data_frame_budget(1 << 20);
        let mut handshake = Box::pin(builder.handshake(wire.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        let connection = loop {
            if let Poll::Ready(connection) = handshake.as_mut().poll(&mut cx) {
                break connection.unwrap();
            }
        };
        let mut theirs = Theirs { wire, connection, exchanges: Vec::new(), outcome: Outcome::default() };
        theirs.send(&[]);
        theirs
    }

    pub fn send(&mut self, bytes: &[u8]) -> Outcome {
        self.wire.input.lock().unwrap().extend_from_slice(bytes);
        // A round may make room for another; a few of them reach rest.
        for _ in 0..6 {
            self.poll_connection();
            self.exchanges.iter_mut().for_each(|exchange| exchange.poll(&mut self.outcome));
        }
        let output = std::mem::take(&mut *self.wire.output.lock().unwrap());
        self.outcome.read(&output);
        self.outcome.clone()
    }

    fn poll_connection(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(accepted)) = self.connection.poll_accept(&mut cx) {
            let Ok((incoming, respond)) = accepted else { return };
            let stream = respond.stream_id().as_u32();
            let fields = incoming.headers().iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
            let request = request(incoming.method().as_str().as_bytes(), incoming.uri().path().as_bytes(), fields);
            self.outcome.requests.insert(stream, request);
            self.outcome.bodies.insert(stream, (Vec::new(), false));
            let body = incoming.into_body();
            self.exchanges.push(Exchange { stream, body, data_ended: false, ended: false, respond, _answer: None });
        }
    }
}

impl Exchange {
    fn poll(&mut self, outcome: &mut Outcome) {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.data_ended {
            match self.body.poll_data(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(data))) => {
                    let _ = self.body.flow_control().release_capacity(data.len());
                    outcome.bodies.get_mut(&self.stream).unwrap().0.extend_from_slice(&data);
                }
                Poll::Ready(Some(Err(_))) => return,
                Poll::Ready(None) => self.data_ended = true,
            }
        }
        if self.ended || !matches!(self.body.poll_trailers(&mut cx), Poll::Ready(Ok(_))) {
            return;
        }
        self.ended = true;
        outcome.bodies.get_mut(&self.stream).unwrap().1 = true;
        if let Ok(mut answer) = self.respond.send_response(Response::new(()), false) {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let sent = answer.send_data(Bytes::from_static(&[b'a'; ANSWER_BYTES]), false);
            let _ = sent.and_then(|()| answer.send_trailers(trailers)).map_err(|error| {
                assert_ne!(error.reason(), Some(Reason::INTERNAL_ERROR));
            });
            self._answer = Some(answer);
        }
    }
}
