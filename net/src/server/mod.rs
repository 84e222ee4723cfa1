//! The server on a reactor: listener, one task per connection, graceful shutdown.
//!
//! `serve` runs on one reactor. Several reactors each call it with a listener of their own on the same address
//! (`ListenOptions::reuse_port`), and the kernel spreads connections over them.

mod http1_task;
mod http2_task;
mod read_buffer;
mod server_options;
mod shutdown;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::rt::{self, TcpStream, Timer, sleep};

pub use crate::transport::{ListenOptions, Listener};
pub use server_options::ServerOptions;
pub use shutdown::{Phase, Shutdown};

use crate::grpc::{CallLimits, GrpcConnection, MethodTable, Service, Tally, Timing};
use crate::h2::frame::PREFACE;
use crate::h2::{Config, KeepaliveConfig};
use crate::http1::{Decoder, HttpDate, Limits};
use crate::transport::{Accepted, Peer, PeerAddress, Stream, Transport};
use http1_task::{Http1Shared, Http1Task, REQUEST_TIMEOUT};
pub(crate) use http2_task::ConnectionTimer;
use http2_task::{ConnectionTask, Shared};
pub(crate) use read_buffer::ReadBuffer;
pub(crate) use shutdown::Subscription;

/// How long accepting pauses when the system has no descriptor or memory to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The date of a response.
fn now() -> HttpDate {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    HttpDate::from_unix_seconds(since_epoch.as_secs())
}

/// How far the first line is followed to tell what it is.
const REQUEST_LINE_BYTES_MAX: usize = 4096;

/// What the connections of a server share.
struct Common {
    service: Rc<dyn Service>,
    options: ServerOptions,
    methods: Rc<MethodTable>,
    limits: Rc<CallLimits>,
    /// Those of encrypted connections.
    encrypted_limits: Rc<CallLimits>,
    read_buffer: Rc<RefCell<ReadBuffer>>,
    shutdown: Shutdown,
}

/// Serves until `shutdown` is given and every connection is closed.
pub async fn serve(listener: Listener, service: Rc<dyn Service>, options: ServerOptions, shutdown: Shutdown) {
    let tally = options.tally.clone();
    let uncounted = || Arc::new(Tally::new(service.methods().len(), Timing::default()));
    let limits = CallLimits {
        tally: tally.unwrap_or_else(uncounted),
        max_recv_message_bytes: options.max_recv_message_bytes,
        max_in_flight_per_reactor: options.max_in_flight_per_reactor,
        overload: options.overload.clone(),
        abandoned: options.abandoned.clone(),
        in_flight_on_reactor: Rc::new(Cell::new(0)),
        http: options.http_over_h2.then_some(options.http),
    };
    let encrypted_limits = CallLimits { http: Some(options.http), ..limits.clone() };
    let common = Rc::new(Common {
        methods: Rc::new(MethodTable::new(service.methods())),
        service,
        options,
        limits: Rc::new(limits),
        encrypted_limits: Rc::new(encrypted_limits),
        read_buffer: Rc::default(),
        shutdown: shutdown.clone(),
    });
    accept(listener, &common).await;
    let subscription = shutdown.subscribe(false);
    let mut timeout = pin!(Timer::new(common.options.drain_timeout));
    poll_fn(|cx| {
        if shutdown.phase() < Phase::Closing && timeout.as_mut().poll(cx).is_ready() {
            shutdown.close();
        }
        subscription.poll_no_connections(cx)
    })
    .await;
}

/// Accepts until the shutdown begins.
async fn accept(listener: Listener, common: &Rc<Common>) {
    let subscription = common.shutdown.subscribe(false);
    loop {
        let accepted = {
            let mut accepting = pin!(listener.accept());
            poll_fn(|cx| match subscription.poll_phase(cx, Phase::Draining) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accepting.as_mut().poll(cx).map(Some),
            })
            .await
        };
        match accepted {
            None => return,
            Some(Ok((stream, address))) => start(stream, address, common),
            // The system is short of something; it gets time to recover.
            Some(Err(_)) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn start(socket: TcpStream, address: PeerAddress, common: &Rc<Common>) {
    let (common, subscription) = (Rc::clone(common), common.shutdown.subscribe(true));
    rt::spawn(async move {
        let accepted = unless_draining(&subscription, common.options.acceptor.accept(socket, address)).await;
        let Some(Accepted { stream, peer, first }) = accepted else { return };
        NewConnection { transport: stream, peer: Rc::new(peer), common, subscription }.run(first).await;
    })
    .detach();
}

/// What `future` yields, or nothing if the shutdown begins before.
async fn unless_draining<T>(subscription: &Subscription, future: impl Future<Output = Option<T>>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match subscription.poll_phase(cx, Phase::Draining) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx),
    })
    .await
}

/// What a connection's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Not enough of them.
    Unknown,
    /// The connection preface.
    Http2,
    /// A request line.
    Http1,
    /// Nothing we speak. Such connections are closed without a word.
    None,
}

fn protocol(first: &[u8]) -> Protocol {
    if first.starts_with(PREFACE) {
        return Protocol::Http2;
    }
    if PREFACE.starts_with(first) {
        return Protocol::Unknown;
    }
    match first.iter().position(|byte| *byte == b'\n') {
        // Method, target, version; what is in them is the parser's business.
        Some(end) => {
            let last_word = first[..end].trim_ascii_end().rsplit(|byte| *byte == b' ').next();
            let is_http = last_word.is_some_and(|word| word.starts_with(b"HTTP/"));
            if is_http { Protocol::Http1 } else { Protocol::None }
        }
        // A longer line is the parser's to refuse.
        None if first.len() > REQUEST_LINE_BYTES_MAX => Protocol::Http1,
        None => Protocol::Unknown,
    }
}

/// A connection whose protocol is not known yet.
struct NewConnection {
    transport: Stream,
    peer: Rc<Peer>,
    common: Rc<Common>,
    subscription: Subscription,
}

impl NewConnection {
    /// Tells the protocols apart by the first bytes, then serves.
    async fn run(mut self, mut first: Vec<u8>) {
        let protocol = loop {
            match protocol(&first) {
                Protocol::Unknown => match self.read_some().await {
                    Some(bytes) => first.extend_from_slice(&bytes),
                    None => return,
                },
                known => break known,
            }
        };
        match protocol {
            // A client that has heard nothing turns to another server.
            Protocol::Http2 if self.common.shutdown.turns_away() => {}
            Protocol::Http2 => self.run_http2(first).await,
            Protocol::Http1 => self.run_http1(first).await,
            Protocol::Unknown | Protocol::None => {}
        }
    }

    /// `None` if there will be nothing to serve.
    async fn read_some(&mut self) -> Option<bytes::Bytes> {
        let mut timeout = pin!(Timer::new(REQUEST_TIMEOUT));
        let (transport, subscription) = (&mut self.transport, &self.subscription);
        poll_fn(|cx| {
            let expired = timeout.as_mut().poll(cx).is_ready();
            if expired || subscription.poll_phase(cx, Phase::Draining).is_ready() {
                return Poll::Ready(None);
            }
            let mut buffer = self.common.read_buffer.borrow_mut();
            let read = transport.poll_read(cx, buffer.room());
            read.map(|result| result.ok().filter(|count| *count > 0).map(|count| buffer.take(count)))
        })
        .await
    }

    async fn run_http2(self, first: Vec<u8>) {
        let now = Instant::now();
        let options = &self.common.options;
        let keepalive = KeepaliveConfig {
            min_time: options.keepalive_min_time,
            interval: options.keepalive_interval,
            timeout: options.keepalive_timeout,
        };
        let config = Config { max_concurrent_streams: options.max_concurrent_streams, keepalive };
        let limits = if self.peer.is_encrypted { &self.common.encrypted_limits } else { &self.common.limits };
        let (limits, methods) = (Rc::clone(limits), Rc::clone(&self.common.methods));
        let tally = Arc::clone(&limits.tally);
        let mut core = GrpcConnection::new(config, limits, methods, self.peer, now);
        core.h2().receive(first.into(), now);
        let task = ConnectionTask {
            transport: self.transport,
            shared: Rc::new(Shared::new(core)),
            service: Rc::clone(&self.common.service),
            read_buffer: Rc::clone(&self.common.read_buffer),
            max_in_flight: options.max_in_flight_per_connection,
            farewell: options.farewell.clone(),
            subscription: self.subscription,
            timer: ConnectionTimer::default(),
            phase: Phase::Running,
            read_ended: false,
            linger_until: None,
            tally: Arc::clone(&tally),
        };
        tally.connected();
        task.await;
        tally.disconnected();
    }

    async fn run_http1(self, first: Vec<u8>) {
        let common = &self.common;
        let (service, buffer) = (Rc::clone(&common.service), Rc::clone(&common.read_buffer));
        http1_task(self.transport, self.peer, first, service, common.options.http, buffer, self.subscription).await;
    }
}

/// Serves a connection that speaks HTTP/1.1 and began with `first`, until it is over or `shutdown` is given.
pub(crate) async fn serve_http1(
    transport: Stream,
    peer: Peer,
    first: Vec<u8>,
    service: Rc<dyn Service>,
    limits: Limits,
    read_buffer: Rc<RefCell<ReadBuffer>>,
    shutdown: &Shutdown,
) {
    http1_task(transport, Rc::new(peer), first, service, limits, read_buffer, shutdown.subscribe(true)).await;
}

fn http1_task(
    transport: Stream,
    peer: Rc<Peer>,
    first: Vec<u8>,
    service: Rc<dyn Service>,
    limits: Limits,
    read_buffer: Rc<RefCell<ReadBuffer>>,
    subscription: Subscription,
) -> Http1Task {
    Http1Task {
        transport,
        shared: Rc::new(Http1Shared::new(peer)),
        service,
        read_buffer,
        shutdown: subscription.shutdown().clone(),
        subscription,
        timer: ConnectionTimer::default(),
        decoder: Decoder::new(limits),
        body: None,
        input: first,
        request_deadline: None,
        read_ended: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_by_their_first_bytes() {
        let long = [b'x'; REQUEST_LINE_BYTES_MAX + 1];
        let cases: &[(&[u8], Protocol)] = &[
            (b"", Protocol::Unknown),
            (b"PRI * HTTP/2.0\r\n", Protocol::Unknown),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Protocol::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Protocol::Http1),
            (b"PRIVATE", Protocol::Unknown),
            (b"GET / HTTP/1.1\r\n", Protocol::Http1),
            (b"GET / HTTP/1.0\n", Protocol::Http1),
            (b"INVALID CONNECTION PREFACE\r\n", Protocol::None),
            (b"\x16\x03\x01\n", Protocol::None),
            (b"\r\n", Protocol::None),
            (&long, Protocol::Http1),
        ];
        for (first, expected) in cases {
            assert_eq!(protocol(first), *expected, "{}", first.escape_ascii());
        }
    }
}
