//! gRPC calls: one connection, messages encoded by prost.
//!
//! Deliberately absent: generated clients (a method is a path and two types), and the choice among several endpoints,
//! which is [`crate::cluster`]'s.

use crate::failure::{Exit, Failure};
use crate::tls::{self, Encryption, Place};
use http::uri::PathAndQuery;
use plinth_api::metadata::{HAS_LEADER, TOKEN};
use plinth_api::methods::{AUTHENTICATE, HEALTH_CHECK, Method};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::health::HealthCheckRequest;
use prost::Message;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Largest answer taken unless the user says otherwise.
pub const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// Largest request sent unless the user says otherwise.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;

/// Servers end connections that are probed more often.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limit for connecting.
    pub dial_timeout: Duration,
    /// Pause before a silent connection is probed.
    pub keepalive_time: Duration,
    /// How long a probe may take.
    pub keepalive_timeout: Duration,
    /// Largest request sent.
    pub request_bytes_max: usize,
    /// Largest answer taken.
    pub answer_bytes_max: usize,
    pub credentials: Credentials,
    /// How connections are encrypted, where they are.
    pub encryption: Encryption,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A token that was obtained elsewhere.
    Token(String),
    /// A user, who gets a token when connecting.
    User { name: String, password: String },
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody answers; somebody may, later or elsewhere.
    Unreachable(String),
    Refused(Failure),
}

/// A connection to one endpoint.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    request_bytes_max: usize,
    answer_bytes_max: usize,
}

impl Client {
    /// Connects, or fails within the limit.
    pub async fn connect(endpoint: &str, options: &Options) -> Result<Client, ConnectError> {
        let timeout = options.dial_timeout;
        let refused =
            |error: tonic::transport::Error| ConnectError::Refused(Failure::new(Exit::BadConnection, describe(&error)));
        let (uri, encrypted) = match target(endpoint, options.encryption.is_wanted) {
            Target::Clear(uri) => (uri, None),
            Target::Encrypted(place) => {
                let settings = options.encryption.settings().map_err(ConnectError::Refused)?;
                (format!("https://{}", place.authority()), Some((place, settings)))
            }
        };
        let target = Endpoint::from_shared(uri)
            .map_err(refused)?
            .connect_timeout(timeout)
            .http2_keep_alive_interval(options.keepalive_time.max(KEEPALIVE_TIME_MIN))
            .keep_alive_timeout(options.keepalive_timeout);
        // The limit above covers the TCP connection alone.
        let connecting = async {
            match encrypted {
                None => target.connect().await,
                Some((place, settings)) => {
                    tls::connect(target, place, settings, options.encryption.server_name.clone()).await
                }
            }
        };
        let channel = match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(ConnectError::Unreachable(describe(&error))),
            Err(_) => return Err(ConnectError::Unreachable("no answer in time".to_owned())),
        };
        let mut client = Client {
            channel,
            token: None,
            request_bytes_max: options.request_bytes_max,
            answer_bytes_max: options.answer_bytes_max,
        };
        match tokio::time::timeout(timeout, client.token(&options.credentials)).await {
            Ok(token) => client.token = token?,
            Err(_) => return Err(ConnectError::Unreachable("no token in time".to_owned())),
        }
        Ok(client)
    }

    /// The connection itself, for those who pass on messages that are none of theirs.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Waits until the server has answered anything at all, be it that it does not know the question.
    pub async fn wait_for_answer(&self, limit: Duration) -> Result<(), ConnectError> {
        let asked = self.call(&HEALTH_CHECK, HealthCheckRequest::default());
        match tokio::time::timeout(limit, asked).await {
            Ok(Err(status)) if is_broken(&status) => Err(ConnectError::Unreachable(status.message().to_owned())),
            Ok(_) => Ok(()),
            Err(_) => Err(ConnectError::Unreachable("no answer in time".to_owned())),
        }
    }

    /// The token to show with every call. Where authentication is off, none is needed.
    async fn token(&self, credentials: &Credentials) -> Result<Option<MetadataValue<Ascii>>, ConnectError> {
        let token = match credentials {
            Credentials::None => return Ok(None),
            Credentials::Token(token) => token.clone(),
            Credentials::User { name, password } => {
                let request = pb::AuthenticateRequest { name: name.clone(), password: password.clone() };
                match self.call(&AUTHENTICATE, request).await {
                    Ok(answer) => answer.token,
                    Err(status) if status.message() == "etcdserver: authentication is not enabled" => return Ok(None),
                    Err(status) if status.code() == Code::Unavailable => {
                        return Err(ConnectError::Unreachable(status.message().to_owned()));
                    }
                    Err(status) => {
                        return Err(ConnectError::Refused(Failure::from(status).exiting(Exit::BadConnection)));
                    }
                }
            }
        };
        let token = token.parse().map_err(|_| Failure::new(Exit::BadConnection, "the token is not plain ASCII"));
        token.map(Some).map_err(ConnectError::Refused)
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(self.answer_bytes_max);
        match grpc.ready().await {
            Ok(()) => Ok(grpc),
            Err(error) => Err(Status::unavailable(describe(&error))),
        }
    }

    /// The request with what goes beside it.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN, token.clone());
        }
        request
    }

    /// One call.
    pub async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (bytes, limit) = (request.encoded_len(), self.request_bytes_max);
        if bytes > limit {
            let text = format!("trying to send message larger than max ({bytes} vs. {limit})");
            return Err(Status::resource_exhausted(text));
        }
        let path = PathAndQuery::from_static(method.path);
        Ok(self.grpc().await?.unary(self.request(request), path, Prost::new()).await?.into_inner())
    }

    /// A call with many answers.
    pub async fn server_stream<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(method.path);
        Ok(self.grpc().await?.server_streaming(self.request(request), path, Prost::new()).await?.into_inner())
    }

    /// A call in both directions; dropping either half ends it.
    pub async fn stream<Q, A>(&self, method: &Method<Q, A>, first: Q) -> Result<Stream<Q, A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (requests, outgoing) = mpsc::unbounded_channel();
        // Nobody has dropped the receiver yet.
        let _ = requests.send(first);
        let mut request = self.request(UnboundedReceiverStream::new(outgoing));
        request.metadata_mut().insert(HAS_LEADER, MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static(method.path);
        let answers = self.grpc().await?.streaming(request, path, Prost::new()).await?.into_inner();
        Ok(Stream { requests, answers })
    }
}

/// An open call.
pub struct Stream<Q, A> {
    requests: mpsc::UnboundedSender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Stream<Q, A> {
    /// Sends one more request. If the call has ended, [`Stream::next`] tells.
    pub fn send(&self, request: Q) {
        let _ = self.requests.send(request);
    }

    /// The next answer; nothing if the server ended the call.
    pub async fn next(&mut self) -> Result<Option<A>, Status> {
        self.answers.message().await
    }
}

/// Where an endpoint is, and how it is spoken to.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// In clear, at this URI.
    Clear(String),
    /// With TLS.
    Encrypted(Place),
}

/// Reads an endpoint as users write them. One that does not say whether to encrypt is encrypted if that `is_wanted`.
fn target(endpoint: &str, is_wanted: bool) -> Target {
    let path = |rest: &str| rest.strip_prefix("//").unwrap_or(rest).to_owned();
    match endpoint.split_once(':') {
        Some(("https", rest)) if rest.starts_with("//") => Target::Encrypted(Place::Tcp(path(rest))),
        Some(("unixs", rest)) => Target::Encrypted(Place::Unix(path(rest))),
        Some(("unix", rest)) if is_wanted => Target::Encrypted(Place::Unix(path(rest))),
        Some(("unix", _)) => Target::Clear(endpoint.to_owned()),
        Some(("http", rest)) if rest.starts_with("//") => Target::Clear(endpoint.to_owned()),
        _ if is_wanted => Target::Encrypted(Place::Tcp(endpoint.to_owned())),
        _ => Target::Clear(format!("http://{endpoint}")),
    }
}

/// The innermost cause says most.
fn describe(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Messages of these types, by prost.
struct Prost<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> Prost<Q, A> {
    fn new() -> Prost<Q, A> {
        Prost(PhantomData)
    }
}

impl<Q: Message + 'static, A: Message + Default + 'static> Codec for Prost<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = Prost<Q, A>;
    type Decoder = Prost<Q, A>;

    fn encoder(&mut self) -> Prost<Q, A> {
        Prost::new()
    }

    fn decoder(&mut self) -> Prost<Q, A> {
        Prost::new()
    }
}

impl<Q: Message, A> Encoder for Prost<Q, A> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, item: Q, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, A: Message + Default> Decoder for Prost<Q, A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        A::decode(from).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Whether another endpoint, or the same one later, may do better: the server says so, or it is the connection that
/// failed, which a status with a cause of its own tells.
pub fn is_broken(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_say_where_and_how() {
        let clear = |uri: &str| Target::Clear(uri.to_owned());
        let tcp = |address: &str| Target::Encrypted(Place::Tcp(address.to_owned()));
        let unix = |path: &str| Target::Encrypted(Place::Unix(path.to_owned()));
        for (endpoint, otherwise, wanted) in [
            ("127.0.0.1:2379", clear("http://127.0.0.1:2379"), tcp("127.0.0.1:2379")),
            ("http://a:1", clear("http://a:1"), clear("http://a:1")),
            ("https://[::1]:1", tcp("[::1]:1"), tcp("[::1]:1")),
            ("unix:///tmp/s", clear("unix:///tmp/s"), unix("/tmp/s")),
            ("unixs:///tmp/s", unix("/tmp/s"), unix("/tmp/s")),
        ] {
            assert_eq!(target(endpoint, false), otherwise);
            assert_eq!(target(endpoint, true), wanted);
        }
    }
}
