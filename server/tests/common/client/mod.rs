//! A client for tests: the calls of the API over one connection, by the messages of crate `plinth-api`.
//!
//! It is strict: an answer that holds more than its type says, or is not encoded as etcd encodes, is an error. It repeats
//! nothing, so that a test sees each refusal. What tests ask for again and again has a method; everything else goes by
//! [`Client::call`].

mod answers;
mod options;

pub use answers::*;
pub use options::*;
pub use tonic::Status as Error;

use bytes::Buf;
use http::uri::PathAndQuery;
use plinth_api::metadata::TOKEN;
use plinth_api::methods::{self, Method};
use plinth_api::proto::{etcdserverpb as pb, v3electionpb as election, v3lockpb as lock};
use prost::Message;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Largest answer taken unless a test says otherwise; what clients of etcd in Rust take.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How to connect.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    connect_timeout: Option<Duration>,
    user: Option<(String, String)>,
}

impl ConnectOptions {
    /// Without limits, as nobody in particular.
    pub fn new() -> ConnectOptions {
        ConnectOptions::default()
    }

    /// At most this long.
    pub fn with_connect_timeout(mut self, limit: Duration) -> ConnectOptions {
        self.connect_timeout = Some(limit);
        self
    }

    /// As this user, with a password.
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> ConnectOptions {
        self.user = Some((name.into(), password.into()));
        self
    }
}

/// A connection to one server; clones share it. Calls take it mutably as those of generated clients do.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    beside: Vec<(&'static str, MetadataValue<Ascii>)>,
    answer_bytes_max: usize,
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::unavailable(error.to_string())
}

impl Client {
    /// Connects to `ADDRESS:PORT`, or to a URL.
    pub async fn connect(endpoint: impl AsRef<str>, options: Option<ConnectOptions>) -> Result<Client, Error> {
        let (endpoint, options) = (endpoint.as_ref(), options.unwrap_or_default());
        let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let mut target = Endpoint::from_shared(url).expect("a URL");
        if let Some(limit) = options.connect_timeout {
            target = target.connect_timeout(limit);
        }
        let mut client = Client::over(target.connect().await.map_err(unavailable)?);
        if let Some((name, password)) = options.user {
            client.authenticate(&name, &password).await?;
        }
        Ok(client)
    }

    /// A client on a connection that a test has made in its own way.
    pub fn over(channel: Channel) -> Client {
        Client { channel, token: None, beside: Vec::new(), answer_bytes_max: ANSWER_BYTES_MAX }
    }

    /// Takes answers of up to `bytes`.
    pub fn max_decoding_message_size(mut self, bytes: usize) -> Client {
        self.answer_bytes_max = bytes;
        self
    }

    /// Shows this token with every call from now on, or none.
    pub fn set_token(&mut self, token: Option<&str>) {
        self.token = token.map(|token| token.parse().expect("a token is plain ASCII"));
    }

    /// Sends this beside every call from now on.
    pub fn set_metadata(&mut self, name: &'static str, value: &str) {
        self.beside.push((name, value.parse().expect("plain ASCII")));
    }

    /// Gets a token for a user, and shows it from now on.
    pub async fn authenticate(&mut self, name: &str, password: &str) -> Result<String, Error> {
        let request = pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let token = self.call(&methods::AUTHENTICATE, request).await?.token;
        self.set_token(Some(&token));
        Ok(token)
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Error> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(self.answer_bytes_max);
        grpc.ready().await.map_err(unavailable)?;
        Ok(grpc)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN, token.clone());
        }
        for (name, value) in &self.beside {
            request.metadata_mut().insert(*name, value.clone());
        }
        request
    }

    /// One unary call.
    pub async fn call<Q, A>(&mut self, method: &Method<Q, A>, request: Q) -> Result<A, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call_at(method.path, request).await
    }

    /// One unary call of any messages.
    pub async fn call_at<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        Ok(self.grpc().await?.unary(self.request(request), path, Strict::new()).await?.into_inner())
    }

    /// A call with many answers.
    pub async fn server_stream<Q, A>(&mut self, method: &Method<Q, A>, request: Q) -> Result<Streaming<A>, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(method.path);
        Ok(self.grpc().await?.server_streaming(self.request(request), path, Strict::new()).await?.into_inner())
    }

    /// A call in both directions, with its first request.
    pub async fn stream<Q, A>(&mut self, method: &Method<Q, A>, first: Q) -> Result<Stream<Q, A>, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (requests, outgoing) = mpsc::unbounded_channel();
        requests.send(first).expect("its receiver is here");
        let request = self.request(UnboundedReceiverStream::new(outgoing));
        let path = PathAndQuery::from_static(method.path);
        let answers = self.grpc().await?.streaming(request, path, Strict::new()).await?.into_inner();
        Ok(Stream { requests, answers })
    }
}

/// An open call in both directions; dropping it ends it.
#[derive(Debug)]
pub struct Stream<Q, A> {
    requests: mpsc::UnboundedSender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Stream<Q, A> {
    /// Sends one more request. If the call has ended, [`Stream::message`] tells.
    pub fn send(&self, request: Q) {
        let _ = self.requests.send(request);
    }

    /// The next answer; nothing if the server ended the call.
    pub async fn message(&mut self) -> Result<Option<A>, Error> {
        self.answers.message().await
    }
}

/// An open watch; the first answer says that it is created.
pub type WatchStream = Stream<pb::WatchRequest, pb::WatchResponse>;

/// The asking half of a stream of keep-alives.
#[derive(Debug)]
pub struct LeaseKeeper {
    lease: i64,
    requests: mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
}

impl LeaseKeeper {
    /// Asks once more.
    pub async fn keep_alive(&mut self) -> Result<(), Error> {
        self.requests.send(pb::LeaseKeepAliveRequest { id: self.lease }).map_err(unavailable)
    }
}

/// Keys, watches and leases.
impl Client {
    pub async fn put(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        options: Option<PutOptions>,
    ) -> Result<pb::PutResponse, Error> {
        let request = options.unwrap_or_default().request(key, value);
        self.call(&methods::PUT, request).await
    }

    pub async fn get(
        &mut self,
        key: impl Into<Vec<u8>>,
        options: Option<GetOptions>,
    ) -> Result<pb::RangeResponse, Error> {
        let request = options.unwrap_or_default().request(key);
        self.call(&methods::RANGE, request).await
    }

    pub async fn delete(
        &mut self,
        key: impl Into<Vec<u8>>,
        options: Option<DeleteOptions>,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        let request = options.unwrap_or_default().request(key);
        self.call(&methods::DELETE_RANGE, request).await
    }

    pub async fn txn(&mut self, txn: Txn) -> Result<pb::TxnResponse, Error> {
        self.call(&methods::TXN, txn.into()).await
    }

    pub async fn compact(
        &mut self,
        revision: i64,
        options: Option<CompactionOptions>,
    ) -> Result<pb::CompactionResponse, Error> {
        let physical = options.is_some_and(|options| options.physical);
        self.call(&methods::COMPACT, pb::CompactionRequest { revision, physical }).await
    }

    pub async fn watch(
        &mut self,
        key: impl Into<Vec<u8>>,
        options: Option<WatchOptions>,
    ) -> Result<WatchStream, Error> {
        let create = options.unwrap_or_default().request(key);
        let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        self.stream(&methods::WATCH, request).await
    }

    pub async fn lease_grant(
        &mut self,
        seconds: i64,
        options: Option<LeaseGrantOptions>,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        let id = options.map_or(0, |options| options.id);
        self.call(&methods::LEASE_GRANT, pb::LeaseGrantRequest { ttl: seconds, id }).await
    }

    pub async fn lease_revoke(&mut self, id: i64) -> Result<pb::LeaseRevokeResponse, Error> {
        self.call(&methods::LEASE_REVOKE, pb::LeaseRevokeRequest { id }).await
    }

    /// Keeps a lease alive once; what to go on with.
    pub async fn lease_keep_alive(
        &mut self,
        id: i64,
    ) -> Result<(LeaseKeeper, Streaming<pb::LeaseKeepAliveResponse>), Error> {
        let mut stream = self.stream(&methods::LEASE_KEEP_ALIVE, pb::LeaseKeepAliveRequest { id }).await?;
        match stream.message().await? {
            Some(answer) if answer.ttl > 0 => {
                Ok((LeaseKeeper { lease: id, requests: stream.requests }, stream.answers))
            }
            Some(_) => Err(Error::not_found("there is no such lease")),
            None => Err(Error::unknown("the stream of keep-alives ended without an answer")),
        }
    }

    pub async fn lease_time_to_live(
        &mut self,
        id: i64,
        options: Option<LeaseTimeToLiveOptions>,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let keys = options.is_some_and(|options| options.keys);
        self.call(&methods::LEASE_TIME_TO_LIVE, pb::LeaseTimeToLiveRequest { id, keys }).await
    }

    pub async fn leases(&mut self) -> Result<pb::LeaseLeasesResponse, Error> {
        self.call(&methods::LEASES, pb::LeaseLeasesRequest {}).await
    }
}

/// Locks and elections.
impl Client {
    pub async fn lock(
        &mut self,
        name: impl Into<Vec<u8>>,
        options: Option<LockOptions>,
    ) -> Result<lock::LockResponse, Error> {
        let lease = options.map_or(0, |options| options.lease);
        self.call(&methods::LOCK, lock::LockRequest { name: name.into().into(), lease }).await
    }

    pub async fn unlock(&mut self, key: impl Into<Vec<u8>>) -> Result<lock::UnlockResponse, Error> {
        self.call(&methods::UNLOCK, lock::UnlockRequest { key: key.into().into() }).await
    }

    pub async fn campaign(
        &mut self,
        name: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        lease: i64,
    ) -> Result<election::CampaignResponse, Error> {
        let request = election::CampaignRequest { name: name.into().into(), lease, value: value.into().into() };
        self.call(&methods::CAMPAIGN, request).await
    }

    pub async fn proclaim(
        &mut self,
        value: impl Into<Vec<u8>>,
        leader: election::LeaderKey,
    ) -> Result<election::ProclaimResponse, Error> {
        let request = election::ProclaimRequest { leader: Some(leader), value: value.into().into() };
        self.call(&methods::PROCLAIM, request).await
    }

    pub async fn leader(&mut self, name: impl Into<Vec<u8>>) -> Result<election::LeaderResponse, Error> {
        self.call(&methods::LEADER, election::LeaderRequest { name: name.into().into() }).await
    }

    pub async fn resign(&mut self, leader: election::LeaderKey) -> Result<election::ResignResponse, Error> {
        self.call(&methods::RESIGN, election::ResignRequest { leader: Some(leader) }).await
    }
}

/// Members and their upkeep.
impl Client {
    pub async fn status(&mut self) -> Result<pb::StatusResponse, Error> {
        self.call(&methods::STATUS, pb::StatusRequest {}).await
    }

    pub async fn alarm(
        &mut self,
        action: AlarmAction,
        alarm: AlarmType,
        options: Option<AlarmOptions>,
    ) -> Result<pb::AlarmResponse, Error> {
        let member_id = options.map_or(0, |options| options.member);
        let request = pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
        self.call(&methods::ALARM, request).await
    }

    pub async fn defragment(&mut self) -> Result<pb::DefragmentResponse, Error> {
        self.call(&methods::DEFRAGMENT, pb::DefragmentRequest {}).await
    }

    pub async fn hash_kv(&mut self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        self.call(&methods::HASH_KV, pb::HashKvRequest { revision }).await
    }

    pub async fn move_leader(&mut self, target_id: u64) -> Result<pb::MoveLeaderResponse, Error> {
        self.call(&methods::MOVE_LEADER, pb::MoveLeaderRequest { target_id }).await
    }

    pub async fn member_list(&mut self) -> Result<pb::MemberListResponse, Error> {
        self.call(&methods::MEMBER_LIST, pb::MemberListRequest { linearizable: true }).await
    }

    pub async fn member_add(
        &mut self,
        urls: impl IntoIterator<Item = impl Into<String>>,
        options: Option<MemberAddOptions>,
    ) -> Result<pb::MemberAddResponse, Error> {
        let is_learner = options.is_some_and(|options| options.is_learner);
        let request = pb::MemberAddRequest { peer_ur_ls: urls.into_iter().map(Into::into).collect(), is_learner };
        self.call(&methods::MEMBER_ADD, request).await
    }

    pub async fn member_update(
        &mut self,
        id: u64,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: urls.into_iter().map(Into::into).collect() };
        self.call(&methods::MEMBER_UPDATE, request).await
    }

    pub async fn member_promote(&mut self, id: u64) -> Result<pb::MemberPromoteResponse, Error> {
        self.call(&methods::MEMBER_PROMOTE, pb::MemberPromoteRequest { id }).await
    }

    pub async fn member_remove(&mut self, id: u64) -> Result<pb::MemberRemoveResponse, Error> {
        self.call(&methods::MEMBER_REMOVE, pb::MemberRemoveRequest { id }).await
    }
}

/// Messages of these types; see [`decode`].
struct Strict<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> Strict<Q, A> {
    fn new() -> Strict<Q, A> {
        Strict(PhantomData)
    }
}

impl<Q: Message + 'static, A: Message + Default + 'static> Codec for Strict<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = Strict<Q, A>;
    type Decoder = Strict<Q, A>;

    fn encoder(&mut self) -> Strict<Q, A> {
        Strict::new()
    }

    fn decoder(&mut self) -> Strict<Q, A> {
        Strict::new()
    }
}

impl<Q: Message, A> Encoder for Strict<Q, A> {
    type Item = Q;
    type Error = Error;

    fn encode(&mut self, item: Q, into: &mut EncodeBuf<'_>) -> Result<(), Error> {
        item.encode(into).map_err(|error| Error::internal(error.to_string()))
    }
}

impl<Q, A: Message + Default> Decoder for Strict<Q, A> {
    type Item = A;
    type Error = Error;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<A>, Error> {
        decode(from.copy_to_bytes(from.remaining())).map(Some).map_err(Error::internal)
    }
}

/// Decodes an answer and refuses one that holds more than its type says: an unknown field, or an encoding that is not the
/// canonical one, which etcd's clients would accept but hashes and byte counts would show.
pub fn decode<A: Message + Default>(raw: bytes::Bytes) -> Result<A, String> {
    let answer = A::decode(raw.clone()).map_err(|error| format!("undecodable answer: {error}"))?;
    if answer.encoded_len() != raw.len() {
        return Err(format!("answer has unknown fields or a loose encoding: {raw:?}"));
    }
    Ok(answer)
}
