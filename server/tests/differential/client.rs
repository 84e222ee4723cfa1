//! A gRPC client (tonic) that hands over messages as they were on the wire, so that nothing an answer contains is
//! lost on the way to the comparison.

use super::common::client as strict;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A failed call, as far as it can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The gRPC code.
    pub code: Code,
    /// The message.
    pub message: String,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure { code: status.code(), message: status.message().to_owned() }
    }
}

/// A connection to one server.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    /// What is shown with each call; clones show the same.
    token: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(address: SocketAddr) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URI");
        Client { channel: endpoint.connect_lazy(), token: Arc::default() }
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Shows this token with calls from now on.
    pub fn show(&self, token: Option<String>) {
        *self.token.lock().expect("nothing panics with it") = token;
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = &*self.token.lock().expect("nothing panics with it") {
            request.metadata_mut().insert("token", token.parse().expect("letters"));
        }
        request
    }

    /// One unary call.
    pub async fn unary_at<A: Message + Debug + Default>(
        &self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, Failure> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Failure { code: Code::Unavailable, message: error.to_string() })?;
        let request = self.request(Bytes::from(request.encode_to_vec()));
        let answer = grpc.unary(request, path.parse().expect("a path"), Raw).await?;
        decode(&answer.into_inner())
    }

    /// One unary call.
    pub async fn unary<A: Message + Debug + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, Failure> {
        self.unary_at(path, request).await
    }

    /// One server-streaming call, all messages of it.
    pub async fn collect<A: Message + Debug + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<Vec<A>, Failure> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Failure { code: Code::Unavailable, message: error.to_string() })?;
        let request = self.request(Bytes::from(request.encode_to_vec()));
        let answer = grpc.server_streaming(request, PathAndQuery::from_static(path), Raw).await?;
        let mut stream = answer.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(decode(&message)?);
        }
        Ok(messages)
    }

    /// Opens a bidirectional call. Answers, and in the end the failure if there is one, arrive in the receiver.
    pub fn open<A: Message + Debug + Default + 'static>(
        &self,
        path: &'static str,
    ) -> (Outgoing, mpsc::UnboundedReceiver<Result<A, Failure>>) {
        let (outgoing, requests) = mpsc::unbounded_channel();
        let (answers, incoming) = mpsc::unbounded_channel();
        let mut grpc = self.grpc();
        let requests = self.request(UnboundedReceiverStream::new(requests));
        let task = tokio::spawn(async move {
            let result: Result<(), Failure> = async {
                grpc.ready().await.map_err(|error| Failure { code: Code::Unavailable, message: error.to_string() })?;
                let mut stream = grpc.streaming(requests, PathAndQuery::from_static(path), Raw).await?.into_inner();
                while let Some(message) = stream.message().await? {
                    let _ = answers.send(Ok(decode(&message)?));
                }
                Ok(())
            }
            .await;
            if let Err(failure) = result {
                let _ = answers.send(Err(failure));
            }
        });
        (Outgoing { requests: outgoing, task }, incoming)
    }
}

/// The sending side of a bidirectional call; dropping it cancels the call.
pub struct Outgoing {
    requests: mpsc::UnboundedSender<Bytes>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outgoing {
    /// Sends one message. If the call has ended, its receiver tells.
    pub fn send(&self, message: &impl Message) {
        let _ = self.requests.send(message.encode_to_vec().into());
    }
}

fn decode<A: Message + Debug + Default>(raw: &Bytes) -> Result<A, Failure> {
    strict::decode(raw.clone()).map_err(|message| Failure { code: Code::Internal, message })
}

/// Passes messages through undecoded.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
