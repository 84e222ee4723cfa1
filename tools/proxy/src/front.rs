//! The side of the clients: connections in clear or with TLS, HTTP/1.1 and HTTP/2 on one port, calls and pages told apart.
//!
//! Bounds: connections, the time for a handshake and for a head. At the end, connections are asked to finish, and what has
//! not after [`GRACE`] is cut off.

use crate::pages;
use crate::proxy::Proxy;
use crate::services;
use bytes::Bytes;
use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use plinth_companion::etcd_log as log;
use plinth_companion::listen::Encryption;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tonic::body::Body;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: u32 = 20_000;

/// How long the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Pause after the system had no more sockets to give.
const PAUSE: Duration = Duration::from_millis(100);

/// How long calls may take to end when the proxy does.
const GRACE: Duration = Duration::from_millis(500);

/// How connections are kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Pause before a silent client is probed; zero: never.
    pub interval: Duration,
    /// How long the probe may take.
    pub timeout: Duration,
    /// Calls of a client at a time.
    pub streams_max: u32,
}

/// A place where clients come in.
pub struct Front {
    pub listener: TcpListener,
    pub encryption: Option<Arc<Encryption>>,
    pub keeping: Keeping,
    /// Calls are answered; else pages alone.
    pub has_calls: bool,
}

impl Front {
    /// Serves until `end` says so, and what was begun for a moment longer.
    pub async fn serve(self, proxy: Arc<Proxy>, mut end: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        let front = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&front.listener, &room) => accepted,
                () = over(&mut end) => break,
            };
            let Some((socket, place)) = accepted else { continue };
            let (front, proxy, end) = (Arc::clone(&front), Arc::clone(&proxy), end.clone());
            tokio::spawn(async move {
                front.connection(socket, proxy, end).await;
                drop(place);
            });
        }
        // All places are free again when all connections have ended.
        let _ = tokio::time::timeout(GRACE, room.acquire_many(CONNECTIONS_MAX)).await;
    }

    async fn connection(&self, socket: TcpStream, proxy: Arc<Proxy>, end: watch::Receiver<bool>) {
        let address = socket.peer_addr();
        let done = match (&self.encryption, socket.set_nodelay(true)) {
            (_, Err(error)) => Err(error.to_string()),
            (None, Ok(())) => self.exchange(socket, proxy, end).await,
            (Some(encryption), Ok(())) => match encryption.accept(socket).await {
                Ok(stream) => self.exchange(stream, proxy, end).await,
                Err(error) => {
                    let remote = address.map(|address| address.to_string()).unwrap_or_default();
                    let fields = [("remote-addr", remote.into()), ("error", error.into())];
                    return log::line("warn", "rejected connection on client endpoint", &fields);
                }
            },
        };
        // What clients break off is nothing to tell of.
        drop(done);
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        proxy: Arc<Proxy>,
        mut end: watch::Receiver<bool>,
    ) -> Result<(), String> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
        let interval = Some(self.keeping.interval).filter(|interval| !interval.is_zero());
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(interval)
            .keep_alive_timeout(self.keeping.timeout)
            .max_concurrent_streams(self.keeping.streams_max);
        let has_calls = self.has_calls;
        let service = service_fn(move |request| answer(Arc::clone(&proxy), request, has_calls));
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = over(&mut end) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(|error| error.to_string())
    }
}

/// Returns when the proxy ends.
async fn over(end: &mut watch::Receiver<bool>) {
    // If nobody can say so any more, that is an end, too.
    let _ = end.wait_for(|end| *end).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, _)) => Some((socket, place)),
        Err(error) => {
            log::line("warn", "failed to accept a connection", &[("error", error.to_string().into())]);
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

async fn answer(proxy: Arc<Proxy>, request: Request<Incoming>, has_calls: bool) -> Result<Response<Body>, Infallible> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    if has_calls && kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return services::serve(proxy, request).await;
    }
    let head = Request::from_parts(request.into_parts().0, Bytes::new());
    Ok(pages::serve(&proxy, &head).await.map(Body::new))
}
