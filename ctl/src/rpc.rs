//! gRPC calls: one typed constant per method, one connection, messages encoded by prost.
//!
//! Deliberately absent: generated clients (a method is a path and two types), retries of calls that may have taken
//! effect, and balancing: the first endpoint that answers serves the whole command.

use crate::failure::{Exit, Failure};
use http::uri::PathAndQuery;
use plinth_net::proto::etcdserverpb as pb;
use prost::Message;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Largest answer taken, as in the reference client.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

/// A method of the API.
pub struct Method<Q, A> {
    path: &'static str,
    types: PhantomData<fn(Q) -> A>,
}

macro_rules! methods {
    ($($name:ident: $path:literal, $request:ty => $answer:ty;)*) => {
        $(
            #[doc = concat!("`", $path, "`")]
            pub const $name: Method<$request, $answer> = Method {
                path: concat!("/etcdserverpb.", $path),
                types: PhantomData,
            };
        )*
    };
}

methods! {
    RANGE: "KV/Range", pb::RangeRequest => pb::RangeResponse;
    PUT: "KV/Put", pb::PutRequest => pb::PutResponse;
    DELETE: "KV/DeleteRange", pb::DeleteRangeRequest => pb::DeleteRangeResponse;
    TXN: "KV/Txn", pb::TxnRequest => pb::TxnResponse;
    COMPACT: "KV/Compact", pb::CompactionRequest => pb::CompactionResponse;
    WATCH: "Watch/Watch", pb::WatchRequest => pb::WatchResponse;
    LEASE_GRANT: "Lease/LeaseGrant", pb::LeaseGrantRequest => pb::LeaseGrantResponse;
    LEASE_REVOKE: "Lease/LeaseRevoke", pb::LeaseRevokeRequest => pb::LeaseRevokeResponse;
    LEASE_KEEP_ALIVE: "Lease/LeaseKeepAlive", pb::LeaseKeepAliveRequest => pb::LeaseKeepAliveResponse;
    LEASE_TIME_TO_LIVE: "Lease/LeaseTimeToLive", pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse;
    LEASES: "Lease/LeaseLeases", pb::LeaseLeasesRequest => pb::LeaseLeasesResponse;
    MEMBER_LIST: "Cluster/MemberList", pb::MemberListRequest => pb::MemberListResponse;
    ALARM: "Maintenance/Alarm", pb::AlarmRequest => pb::AlarmResponse;
    STATUS: "Maintenance/Status", pb::StatusRequest => pb::StatusResponse;
    DEFRAGMENT: "Maintenance/Defragment", pb::DefragmentRequest => pb::DefragmentResponse;
    HASH_KV: "Maintenance/HashKV", pb::HashKvRequest => pb::HashKvResponse;
}

/// A connection to one endpoint.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects, or fails within `timeout`.
    pub async fn connect(endpoint: &str, timeout: Duration) -> Result<Client, Failure> {
        let bad = |error: tonic::transport::Error| Failure::new(Exit::BadConnection, describe(&error));
        let target = Endpoint::from_shared(target(endpoint)?).map_err(bad)?.connect_timeout(timeout);
        // The limit above covers the TCP connection alone.
        match tokio::time::timeout(timeout, target.connect()).await {
            Ok(connected) => Ok(Client { channel: connected.map_err(bad)? }),
            Err(_) => Err(Failure::deadline().exiting(Exit::BadConnection)),
        }
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Failure> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        match grpc.ready().await {
            Ok(()) => Ok(grpc),
            Err(error) => Err(Status::unavailable(describe(&error)).into()),
        }
    }

    /// One call.
    pub async fn call<Q, A>(&self, method: &Method<Q, A>, request: Q) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(method.path);
        let answer = self.grpc().await?.unary(Request::new(request), path, Prost::new()).await?;
        Ok(answer.into_inner())
    }

    /// A call in both directions; dropping either half ends it.
    pub async fn stream<Q, A>(&self, method: &Method<Q, A>, first: Q) -> Result<Stream<Q, A>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (requests, outgoing) = mpsc::unbounded_channel();
        // Nobody has dropped the receiver yet.
        let _ = requests.send(first);
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
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
    pub async fn next(&mut self) -> Result<Option<A>, Failure> {
        Ok(self.answers.message().await?)
    }
}

/// The URI of an endpoint as users write them.
fn target(endpoint: &str) -> Result<String, Failure> {
    if endpoint.starts_with("https://") || endpoint.starts_with("unixs:") {
        return Err(Failure::unsupported(&format!("TLS (endpoint {endpoint})")));
    }
    if endpoint.starts_with("http://") || endpoint.starts_with("unix:") {
        return Ok(endpoint.to_owned());
    }
    Ok(format!("http://{endpoint}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_become_uris() {
        assert_eq!(target("127.0.0.1:2379").as_deref(), Ok("http://127.0.0.1:2379"));
        assert_eq!(target("http://a:1").as_deref(), Ok("http://a:1"));
        assert_eq!(target("unix:///tmp/s").as_deref(), Ok("unix:///tmp/s"));
        assert_eq!(target("https://a:1").map_err(|failure| failure.exit), Err(Exit::Error));
        assert_eq!(RANGE.path, "/etcdserverpb.KV/Range");
    }
}
