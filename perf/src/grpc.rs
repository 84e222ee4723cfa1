//! A gRPC client on bare HTTP/2 (crate `h2`), made for low cost: the request head is built once per method,
//! bodies arrive ready framed, and nothing is decoded unless the caller wants it.
//!
//! Deliberately absent: compression, retries, and per-call timeouts (a run is bounded as a whole).

use crate::endpoint::{Endpoint, Wire};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::task::JoinHandle;

/// The sending half of a connection; clones share the connection.
pub type Sender = SendRequest<Bytes>;

/// Flow-control windows large enough never to throttle a well-behaved generator.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
/// Largest HTTP/2 frame accepted; the protocol's default, which every server knows.
const FRAME_BYTES_MAX: u32 = 16_384;
/// gRPC's message prefix: one compression flag, four bytes of length.
const PREFIX_BYTES: usize = 5;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with a gRPC status other than OK.
    #[error("status {code}: {message}")]
    Status {
        code: u16,
        /// Status message, percent-decoded.
        message: String,
    },
    /// The connection or the stream broke.
    #[error("transport: {0}")]
    Transport(#[from] h2::Error),
    /// Connecting failed.
    #[error("connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The peer did not speak gRPC.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
}

impl CallError {
    /// Whether the connection can still be used after this error.
    pub fn is_status(&self) -> bool {
        matches!(self, CallError::Status { .. })
    }
}

/// One HTTP/2 connection. Dropping it ends the connection.
pub struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects and completes the HTTP/2 handshake.
    pub async fn open(address: Endpoint) -> Result<Connection, CallError> {
        Connection::open_with_window(address, STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES).await
    }

    /// Connects with flow-control windows of the given sizes (a deliberately slow reader takes small ones).
    pub async fn open_with_window(address: Endpoint, stream: u32, connection: u32) -> Result<Connection, CallError> {
        Connection::over(address.dial().await?, stream, connection).await
    }

    /// Completes the HTTP/2 handshake on a connection.
    pub async fn over(wire: Wire, stream: u32, connection: u32) -> Result<Connection, CallError> {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(stream)
            .initial_connection_window_size(connection)
            .max_frame_size(FRAME_BYTES_MAX)
            .enable_push(false)
            .handshake(wire)
            .await?;
        let driver = tokio::spawn(async move {
            // A broken connection shows in the calls that use it; here is nobody to tell.
            let _ = connection.await;
        });
        Ok(Connection { sender, driver })
    }

    /// A handle for issuing calls.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A method's request head, built once and cloned for each call.
#[derive(Clone)]
pub struct Method {
    head: Request<()>,
}

impl Method {
    /// A method of this path at a server with this authority.
    pub fn new(address: Endpoint, path: &str) -> Method {
        let mut head = Request::post(format!("{}://{address}{path}", address.scheme()))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = address.token {
            head = head.header("token", token);
        }
        Method { head: head.body(()).expect("address, path and token are valid in a head") }
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.head.uri().path()
    }
}

/// Puts the gRPC prefix before an encoded message.
pub fn frame(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("a request is far below 4 GiB"));
    message.encode(&mut out).expect("room was reserved");
    out.freeze()
}

/// What to do with the body of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Body,
    /// Count it and let it go.
    Nothing,
}

/// One unary call. `framed` is a message with its prefix (see [`frame`]); the answer is empty with [`Keep::Nothing`].
pub async fn unary(sender: &mut Sender, method: &Method, framed: Bytes, keep: Keep) -> Result<Bytes, CallError> {
    let (response, mut body) = send_request(sender, method, false).await?;
    body.send_data(framed, true)?;
    let (head, mut stream) = response.await?.into_parts();
    check_http(&head)?;
    if stream.is_end_stream() {
        check_status(&head.headers)?;
        return Err(CallError::Malformed("OK without a message"));
    }
    let mut collected = Collected::default();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        let _ = stream.flow_control().release_capacity(chunk.len());
        collected.push(chunk, keep);
    }
    match stream.trailers().await? {
        Some(trailers) => check_status(&trailers)?,
        None => check_status(&head.headers)?,
    }
    collected.finish(keep)
}

/// One call on a connection of its own.
pub async fn call(address: Endpoint, path: &str, framed: Bytes) -> Result<Bytes, CallError> {
    let connection = Connection::open(address).await?;
    let method = Method::new(address, path);
    unary(&mut connection.sender(), &method, framed, Keep::Body).await
}

async fn send_request(
    sender: &mut Sender,
    method: &Method,
    end: bool,
) -> Result<(ResponseFuture, SendStream<Bytes>), CallError> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    Ok(sender.send_request(method.head.clone(), end)?)
}

/// A body put together without a copy in the usual case of one DATA frame.
#[derive(Default)]
struct Collected {
    first: Bytes,
    rest: BytesMut,
    bytes: u64,
}

impl Collected {
    fn push(&mut self, chunk: Bytes, keep: Keep) {
        self.bytes += chunk.len() as u64;
        if keep == Keep::Nothing {
            return;
        }
        if self.first.is_empty() {
            self.first = chunk;
        } else {
            if self.rest.is_empty() {
                self.rest.extend_from_slice(&self.first);
            }
            self.rest.extend_from_slice(&chunk);
        }
    }

    fn finish(self, keep: Keep) -> Result<Bytes, CallError> {
        if self.bytes < PREFIX_BYTES as u64 {
            return Err(CallError::Malformed("OK without a message"));
        }
        if keep == Keep::Nothing {
            return Ok(Bytes::new());
        }
        let mut whole = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        let prefix = whole.split_to(PREFIX_BYTES);
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length != whole.len() {
            return Err(CallError::Malformed("length prefix differs from body"));
        }
        Ok(whole)
    }
}

fn check_http(head: &http::response::Parts) -> Result<(), CallError> {
    if head.status == http::StatusCode::OK { Ok(()) } else { Err(CallError::Malformed("HTTP status is not 200")) }
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let status = headers.get("grpc-status").ok_or(CallError::Malformed("no grpc-status"))?;
    if status.as_bytes() == b"0" {
        return Ok(());
    }
    let code = status.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let message = headers.get("grpc-message").map_or(String::new(), |text| percent_decode(text.as_bytes()));
    Err(CallError::Status { code, message })
}

/// Undoes the escapes of `grpc-message`.
pub fn percent_decode(text: &[u8]) -> String {
    percent_encoding::percent_decode(text).decode_utf8_lossy().into_owned()
}

/// The client's side of a stream call: messages out, messages in.
pub struct Stream {
    outgoing: SendStream<Bytes>,
    incoming: Incoming,
}

impl Stream {
    /// Opens a bidirectional or server-streaming call and sends the first message. The answer's head is awaited
    /// with the first [`Stream::next`], because servers may send it only together with their first message.
    pub async fn open(sender: &mut Sender, method: &Method, first: Bytes) -> Result<Stream, CallError> {
        let (response, mut outgoing) = send_request(sender, method, false).await?;
        outgoing.send_data(first, false)?;
        Ok(Stream { outgoing, incoming: Incoming::Head(response) })
    }

    /// Sends one framed message.
    pub fn send(&mut self, framed: Bytes) -> Result<(), CallError> {
        Ok(self.outgoing.send_data(framed, false)?)
    }

    /// The next message; `None` when the server ended the call with status OK.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            match &mut self.incoming {
                Incoming::Head(response) => {
                    let (head, stream) = response.await?.into_parts();
                    check_http(&head)?;
                    if stream.is_end_stream() {
                        check_status(&head.headers)?;
                        return Ok(None);
                    }
                    self.incoming = Incoming::Body(stream, BytesMut::new());
                }
                Incoming::Body(stream, buffer) => {
                    if let Some(message) = take_message(buffer) {
                        return Ok(Some(message));
                    }
                    match stream.data().await {
                        Some(chunk) => {
                            let chunk = chunk?;
                            let _ = stream.flow_control().release_capacity(chunk.len());
                            buffer.extend_from_slice(&chunk);
                        }
                        None => {
                            let trailers = stream.trailers().await?;
                            check_status(&trailers.unwrap_or_default())?;
                            return Ok(None);
                        }
                    }
                }
            }
        }
    }
}

enum Incoming {
    Head(ResponseFuture),
    Body(RecvStream, BytesMut),
}

/// Cuts the first whole message off a buffer.
fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    if buffer.len() < PREFIX_BYTES {
        return None;
    }
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if buffer.len() < PREFIX_BYTES + length {
        return None;
    }
    buffer.advance(PREFIX_BYTES);
    Some(buffer.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_of_any_chunking() {
        let first = frame(&plinth_api::proto::etcdserverpb::LeaseGrantRequest { ttl: 7, id: 1 });
        let second = frame(&plinth_api::proto::etcdserverpb::LeaseGrantRequest::default());
        let whole: Vec<u8> = [&first[..], &second[..]].concat();
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let mut out = Vec::new();
            out.extend(std::iter::from_fn(|| take_message(&mut buffer)));
            buffer.extend_from_slice(&whole[cut..]);
            out.extend(std::iter::from_fn(|| take_message(&mut buffer)));
            assert_eq!(out, vec![first.slice(PREFIX_BYTES..), Bytes::new()], "cut at {cut}");
        }
    }

    #[test]
    fn status_text_is_percent_decoded() {
        assert_eq!(percent_decode(b"a%20b%zz%C3%A4%"), "a b%zzä%");
    }
}
