//! Every setting and bound of the server, with its default and where the number comes from.

use std::sync::Arc;
use std::time::Duration;

use crate::grpc::{Code, Status, Tally};
use crate::http1::Limits;
use crate::transport::Acceptor;

/// What a server allows its clients, and how it watches over them.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Largest request message; beyond it ResourceExhausted. 1.5 MiB and 512 KiB of what is around it.
    pub max_recv_message_bytes: usize,
    /// Streams a client may have open on one connection.
    pub max_concurrent_streams: u32,
    /// Shortest gap between a client's pings that is tolerated.
    pub keepalive_min_time: Duration,
    /// A connection silent for this long is pinged. Zero: never.
    pub keepalive_interval: Duration,
    /// How long the answer to such a ping may take. Zero: as long as it likes.
    pub keepalive_timeout: Duration,
    /// Unary calls in flight on one connection at which the server stops reading from it.
    pub max_in_flight_per_connection: usize,
    /// Unary calls in flight on the reactor beyond which new ones are answered with `overload`.
    pub max_in_flight_per_reactor: usize,
    /// The answer beyond `max_in_flight_per_reactor`.
    pub overload: Status,
    /// The answer to a call that its handler has let go of without one.
    pub abandoned: Status,
    /// How long open calls may take to end after a graceful shutdown began, before they are cut off.
    pub drain_timeout: Duration,
    /// What streams and parked calls are told when a graceful shutdown begins. `None`: they end in their own time.
    pub farewell: Option<Status>,
    /// Bounds of HTTP requests that are not gRPC.
    pub http: Limits,
    /// Whether such requests are served over HTTP/2 too where it is not encrypted; otherwise they get 415 there.
    pub http_over_h2: bool,
    /// From accepted sockets to streams: in clear, or encrypted.
    pub acceptor: Acceptor,
    /// Where the reactor counts; servers of one reactor may share it. `None`: nobody wants to know.
    pub tally: Option<Arc<Tally>>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            max_recv_message_bytes: (3 << 19) + (1 << 19),
            max_concurrent_streams: u32::MAX,
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            max_in_flight_per_connection: 4096,
            max_in_flight_per_reactor: 65_536,
            overload: Status {
                code: Code::ResourceExhausted,
                message: std::borrow::Cow::Borrowed("too many requests"),
            },
            abandoned: Status { code: Code::Unavailable, message: std::borrow::Cow::Borrowed("no answer") },
            drain_timeout: Duration::from_secs(7),
            farewell: None,
            http: Limits::default(),
            http_over_h2: false,
            acceptor: Acceptor::clear(),
            tally: None,
        }
    }
}
