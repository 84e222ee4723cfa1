//! The servers behind the proxy: calls go to them in turn, and past those that do not answer.
//!
//! A call that reached nobody is made elsewhere, whatever it is; one that may have reached somebody is repeated only if it
//! reads. One that found nobody for [`WAIT_MAX`] fails. Streams that last have a connection of their own beside that
//! of calls, so that a server that limits streams per connection does not let calls wait behind them.

use crate::codec::Raw;
use bytes::Bytes;
use http::uri::PathAndQuery;
use plinth_api::metadata::{CLIENT_API_VERSION, HAS_LEADER, TOKEN};
use plinth_ctl::rpc::{Client, ConnectError, Options};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// How long a call looks for somebody who takes it.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Pause before all servers are asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a server that did not answer is asked last.
const DOWN: Duration = Duration::from_millis(500);

/// Requests of a stream that wait for the connection.
const REQUESTS_MAX: usize = 1024;

/// What is passed on beside a request.
#[derive(Clone, Debug, Default)]
pub struct Head(MetadataMap);

impl Head {
    /// Of what a client sent.
    pub fn of(metadata: &MetadataMap) -> Head {
        let mut kept = MetadataMap::new();
        for name in [TOKEN, HAS_LEADER, CLIENT_API_VERSION] {
            if let Some(value) = metadata.get(name) {
                kept.insert(name, value.clone());
            }
        }
        Head(kept)
    }

    /// What the client has proved who it is with; empty without that.
    pub fn token(&self) -> &[u8] {
        self.0.get(TOKEN).map_or(b"".as_slice(), |token| token.as_encoded_bytes())
    }

    /// The same, and the server has to see a leader.
    pub fn with_leader(mut self) -> Head {
        self.0.insert(HAS_LEADER, tonic::metadata::MetadataValue::from_static("true"));
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.0.clone();
        request
    }
}

/// A connection, made when it is needed.
#[derive(Default)]
struct Lane(tokio::sync::Mutex<Link>);

#[derive(Default)]
struct Link {
    client: Option<Client>,
    /// The last attempt that failed.
    failure: Option<(Instant, ConnectError)>,
}

impl Lane {
    /// Those who come while an attempt is made share its end.
    async fn client(&self, url: &str, options: &Options) -> Result<Client, ConnectError> {
        let came = Instant::now();
        let mut link = self.0.lock().await;
        if let Some(client) = &link.client {
            return Ok(client.clone());
        }
        if let Some((at, error)) = &link.failure
            && *at > came
        {
            return Err(error.clone());
        }
        match Client::connect(url, options).await {
            Ok(client) => Ok(link.client.insert(client).clone()),
            Err(error) => {
                link.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Whoever makes one meanwhile has a better one.
    fn leave(&self) {
        if let Ok(mut link) = self.0.try_lock() {
            link.client = None;
        }
    }
}

/// One server.
struct Server {
    url: String,
    calls: Lane,
    streams: Lane,
    down_until: Mutex<Option<Instant>>,
}

impl Server {
    fn new(url: String) -> Server {
        Server { url, calls: Lane::default(), streams: Lane::default(), down_until: Mutex::new(None) }
    }

    fn is_down(&self, now: Instant) -> bool {
        self.down_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }

    fn set_down(&self, until: Option<Instant>) {
        *self.down_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Which connection.
#[derive(Clone, Copy)]
enum Use {
    Call,
    Stream,
}

/// All of them.
pub struct Upstream {
    servers: Vec<Server>,
    turn: AtomicUsize,
    options: Options,
}

/// An open call in both directions. Dropping it ends it.
pub struct Duplex {
    pub requests: mpsc::Sender<Bytes>,
    pub answers: Streaming<Bytes>,
}

impl Upstream {
    /// Nothing is connected yet.
    pub fn new(endpoints: Vec<String>, options: Options) -> Arc<Upstream> {
        let servers = endpoints.into_iter().map(Server::new).collect();
        Arc::new(Upstream { servers, turn: AtomicUsize::new(0), options })
    }

    /// The addresses, as they were given.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|server| server.url.as_str())
    }

    /// How they are connected to.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The servers from the one whose turn it is; those that did not answer last.
    fn in_turn(&self) -> Vec<&Server> {
        let (first, now) = (self.turn.fetch_add(1, Ordering::Relaxed), Instant::now());
        let mut servers: Vec<&Server> = self.servers.iter().collect();
        if !servers.is_empty() {
            let count = servers.len();
            servers.rotate_left(first % count);
        }
        servers.sort_by_key(|server| server.is_down(now));
        servers
    }

    /// One call.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub async fn unary(&self, path: &'static str, is_read: bool, head: &Head, body: Bytes) -> Result<Bytes, Status> {
        self.check_size(&body)?;
        self.somewhere(Use::Call, is_read, |mut grpc| {
            let (request, path) = (head.request(body.clone()), PathAndQuery::from_static(path));
            async move { grpc.unary(request, path, Raw).await.map(Response::into_inner) }
        })
        .await
    }

    /// A call with many answers.
    ///
    /// # Errors
    /// As for one call.
    pub async fn server_stream(
        &self,
        path: &'static str,
        head: &Head,
        body: Bytes,
    ) -> Result<Streaming<Bytes>, Status> {
        self.check_size(&body)?;
        self.somewhere(Use::Stream, true, |mut grpc| {
            let (request, path) = (head.request(body.clone()), PathAndQuery::from_static(path));
            async move { grpc.server_streaming(request, path, Raw).await.map(Response::into_inner) }
        })
        .await
    }

    /// A call in both directions, with its first requests.
    ///
    /// # Errors
    /// As for one call.
    pub async fn duplex(&self, path: &'static str, head: &Head, first: Vec<Bytes>) -> Result<Duplex, Status> {
        self.somewhere(Use::Stream, true, |mut grpc| {
            let (requests, outgoing) = mpsc::channel(REQUESTS_MAX.max(first.len()));
            for message in first.iter().cloned() {
                // There is room for them, and the other half is below.
                let _ = requests.try_send(message);
            }
            let request = head.request(ReceiverStream::new(outgoing));
            async move {
                let answers = grpc.streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner();
                Ok(Duplex { requests, answers })
            }
        })
        .await
    }

    fn check_size(&self, body: &Bytes) -> Result<(), Status> {
        let (bytes, limit) = (body.len(), self.options.request_bytes_max);
        match bytes > limit {
            true => {
                let text = format!("trying to send message larger than max ({bytes} vs. {limit})");
                Err(Status::resource_exhausted(text))
            }
            false => Ok(()),
        }
    }

    /// Does it on the first server that takes it.
    async fn somewhere<A, F>(&self, lane: Use, is_read: bool, ask: impl Fn(Grpc<Channel>) -> F) -> Result<A, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let end = Instant::now() + WAIT_MAX;
        let mut last = Status::unavailable("no endpoint given");
        loop {
            for server in self.in_turn() {
                match self.ask(server, lane, &ask).await {
                    Ok(answer) => return Ok(answer),
                    Err(Refusal { status, is_sent }) => match status.code() == Code::Unavailable || !is_sent {
                        true if is_read || !is_sent => last = status,
                        _ => return Err(status),
                    },
                }
            }
            if Instant::now() >= end {
                return Err(last);
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask<A, F>(&self, server: &Server, lane: Use, ask: &impl Fn(Grpc<Channel>) -> F) -> Result<A, Refusal>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let connection = match lane {
            Use::Call => &server.calls,
            Use::Stream => &server.streams,
        };
        let unreached = |text: String| {
            server.set_down(Some(Instant::now() + DOWN));
            Refusal { status: Status::unavailable(format!("{}: {text}", server.url)), is_sent: false }
        };
        let client = connection.client(&server.url, &self.options).await.map_err(|error| match error {
            ConnectError::Unreachable(text) => unreached(text),
            ConnectError::Refused(failure) => unreached(failure.text),
        })?;
        let mut grpc = Grpc::new(client.channel()).max_decoding_message_size(self.options.answer_bytes_max);
        if let Err(error) = grpc.ready().await {
            connection.leave();
            return Err(unreached(error.to_string()));
        }
        match ask(grpc).await {
            Ok(answer) => {
                server.set_down(None);
                Ok(answer)
            }
            // A status with a cause of its own is not the server's, but of the way to it.
            Err(status) if status.source().is_some() => {
                connection.leave();
                server.set_down(Some(Instant::now() + DOWN));
                let (is_sent, text) = (was_sent(&status), status.message().to_owned());
                Err(Refusal { status: Status::unavailable(text), is_sent })
            }
            Err(status) => Err(Refusal { status, is_sent: true }),
        }
    }
}

/// Why a server did not do it, and whether it may have begun to.
struct Refusal {
    status: Status,
    is_sent: bool,
}

/// Nothing is sent where no connection could be made.
fn was_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return false;
        }
        cause = error.source();
    }
    true
}
