//! A server on a thread of its own, and a gRPC client on h2 to talk to it.
#![allow(dead_code, reason = "no test uses all of it")]

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use plinth_net::grpc::Service;
use plinth_net::rt;
use plinth_net::server::{ListenOptions, Listener, ServerOptions, Shutdown, serve};

/// What a test may ask of its server.
enum Order {
    TurnAway(bool),
    Drain,
    Close,
}

/// A running server. Closed when dropped.
pub struct Server {
    pub address: SocketAddr,
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server whose service is made on its reactor.
    pub fn start<S: Service>(options: ServerOptions, make: impl FnOnce() -> S + Send + 'static) -> Server {
        let (orders, inbox) = mpsc::channel();
        let (tell_address, address) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            rt::block_on(async move {
                let local = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = Listener::bind(local, ListenOptions::default()).unwrap();
                tell_address.send(listener.local_addr().unwrap()).unwrap();
                let shutdown = Shutdown::new();
                let signal = shutdown.clone();
                rt::spawn(async move {
                    loop {
                        match inbox.try_recv() {
                            Ok(Order::TurnAway(turns_away)) => signal.turn_away(turns_away),
                            Ok(Order::Drain) => signal.drain(),
                            Ok(Order::Close) | Err(mpsc::TryRecvError::Disconnected) => return signal.close(),
                            Err(mpsc::TryRecvError::Empty) => {}
                        }
                        rt::sleep(Duration::from_millis(5)).await;
                    }
                })
                .detach();
                serve(listener, Rc::new(make()), options, shutdown).await;
            });
        });
        Server { address: address.recv().unwrap(), orders, thread: Some(thread) }
    }

    pub fn turn_away(&self, turns_away: bool) {
        self.orders.send(Order::TurnAway(turns_away)).unwrap();
    }

    pub fn drain(&self) {
        self.orders.send(Order::Drain).unwrap();
    }

    /// Waits for the server to end by itself.
    pub fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// Runs a client on this thread.
pub fn run_client<F: Future<Output = ()>>(client: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), client).await.expect("the client takes too long");
    });
}

/// Opens a connection.
pub async fn connect(server: &Server) -> SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    // The client bounds small frames that it has not looked at; a burst of answers is more than its default.
    builder.data_frame_budget(4 << 20);
    connect_with(server, builder).await
}

pub async fn connect_with(server: &Server, builder: h2::client::Builder) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// A request as gRPC clients make it.
pub fn request(path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method("POST").uri(format!("http://server{path}"));
    if !fields.iter().any(|(name, _)| *name == "content-type") {
        builder = builder.header("content-type", "application/grpc");
    }
    builder = builder.header("te", "trailers");
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.len());
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub http_status: u16,
    pub messages: Vec<Bytes>,
    pub status: u32,
    pub text: String,
}

/// A call whose request side is open.
pub struct OpenCall {
    pub send: SendStream<Bytes>,
    pub response: ResponseFuture,
}

pub async fn open(client: &SendRequest<Bytes>, path: &str, fields: &[(&str, &str)]) -> OpenCall {
    let mut client = client.clone().ready().await.unwrap();
    let (response, send) = client.send_request(request(path, fields), false).unwrap();
    OpenCall { send, response }
}

/// A unary call.
pub async fn call(client: &SendRequest<Bytes>, path: &str, message: &[u8]) -> Result<Answer, h2::Error> {
    call_with(client, path, &[], message).await
}

pub async fn call_with(
    client: &SendRequest<Bytes>,
    path: &str,
    fields: &[(&str, &str)],
    message: &[u8],
) -> Result<Answer, h2::Error> {
    let mut call = open(client, path, fields).await;
    send_all(&mut call.send, framed(message)).await;
    answer(call.response).await
}

/// Sends a body as the windows allow, then ends the side. Stops if the server has ended the stream.
pub async fn send_all(send: &mut SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        send.reserve_capacity(body.len());
        let Some(Ok(capacity)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
        let piece = body.split_to(capacity.min(body.len()));
        if send.send_data(piece, body.is_empty()).is_err() {
            return;
        }
    }
}

pub async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let response = response.await?;
    let http_status = response.status().as_u16();
    let head = response.headers().clone();
    assert_eq!(head["content-type"], "application/grpc");
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?;
    let end = trailers.unwrap_or(head);
    Ok(Answer { http_status, messages: messages(bytes.freeze()), status: status(&end), text: text(&end) })
}

pub fn messages(mut body: Bytes) -> Vec<Bytes> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let prefix = body.split_to(5);
        assert_eq!(prefix[0], 0);
        found.push(body.split_to(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize));
    }
    found
}

pub fn status(fields: &HeaderMap) -> u32 {
    fields["grpc-status"].to_str().unwrap().parse().unwrap()
}

fn text(fields: &HeaderMap) -> String {
    fields.get("grpc-message").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Reads until the stream has sent `length` bytes.
pub async fn read(body: &mut RecvStream, length: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    while bytes.len() < length {
        let piece = body.data().await.expect("more data").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    bytes.freeze()
}
