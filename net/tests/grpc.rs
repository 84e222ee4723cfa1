//! The server as a client sees it: unary and streaming calls, errors, deadlines, cancellation, large messages,
//! back-pressure and shutdown, over real sockets with h2 as the client.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use plinth_net::grpc::{
    Call, Code, Method, MethodKind, PairedReply, Service, Status, StreamHandler, StreamReply, UnaryReply,
};
use plinth_net::rt;
use plinth_net::server::ServerOptions;
use support::{
    Answer, Server, answer, call, call_with, connect, connect_with, framed, open, read, run_client, send_all,
};

const METHODS: &[Method] = &[
    Method { path: "/t.Test/Echo", kind: MethodKind::Unary },
    Method { path: "/t.Test/Fail", kind: MethodKind::Unary },
    Method { path: "/t.Test/Later", kind: MethodKind::Unary },
    Method { path: "/t.Test/Forget", kind: MethodKind::Unary },
    Method { path: "/t.Test/Hold", kind: MethodKind::Unary },
    Method { path: "/t.Test/Metadata", kind: MethodKind::Unary },
    Method { path: "/t.Test/Repeat", kind: MethodKind::ServerStream },
    Method { path: "/t.Test/Chat", kind: MethodKind::BidiStream },
    Method { path: "/t.Test/Pour", kind: MethodKind::ServerStream },
    Method { path: "/t.Test/ChatLater", kind: MethodKind::BidiStream },
];
const ECHO: &str = "/t.Test/Echo";
const CHAT_LATER: &str = "/t.Test/ChatLater";

/// Counts that outlive the server's thread.
#[derive(Clone, Default)]
struct Counts {
    cancelled: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    poured: Arc<AtomicUsize>,
    largest_queue: Arc<AtomicUsize>,
}

struct Test {
    counts: Counts,
    held: Rc<RefCell<Vec<UnaryReply>>>,
}

impl Test {
    fn new(counts: Counts) -> Test {
        Test { counts, held: Rc::default() }
    }
}

impl Service for Test {
    fn methods(&self) -> &'static [Method] {
        METHODS
    }

    fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply) {
        match METHODS[method].path {
            ECHO if body.len() > 100_000 => reply.send_bytes(body),
            ECHO => reply.send(|out| out.extend_from_slice(&body)),
            "/t.Test/Fail" => reply.fail(Status::new(Code::NotFound, "100% not found: \u{e9}")),
            "/t.Test/Later" => {
                let wait = Duration::from_millis(20);
                rt::spawn(async move {
                    rt::sleep(wait).await;
                    reply.send(|out| out.extend_from_slice(&body));
                })
                .detach();
            }
            "/t.Test/Forget" => drop(reply),
            "/t.Test/Hold" => {
                let cancelled = Arc::clone(&self.counts.cancelled);
                reply.on_cancel(move || _ = cancelled.fetch_add(1, Ordering::SeqCst));
                self.held.borrow_mut().push(reply);
            }
            "/t.Test/Metadata" => {
                let field = |name| call.metadata(name).map(String::from_utf8_lossy);
                let text = format!(
                    "{:?} {:?} {}",
                    field("token"),
                    field("second"),
                    call.peer().address.to_string().rsplit_once(':').unwrap().0,
                );
                reply.send(|out| out.extend_from_slice(text.as_bytes()));
            }
            other => unreachable!("{other}"),
        }
    }

    fn stream(&self, method: usize, _call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        let kind = METHODS[method].path;
        if kind == CHAT_LATER {
            return Box::new(ChatLater(PairedReply::new(reply)));
        }
        Box::new(TestStream { kind, reply, counts: self.counts.clone(), left: 0, last: Bytes::new() })
    }
}

/// Answers every message, each a while after it came.
struct ChatLater(Rc<PairedReply>);

impl StreamHandler for ChatLater {
    fn message(&mut self, body: Bytes) {
        let answer = self.0.request();
        rt::spawn(async move {
            rt::sleep(Duration::from_millis(20)).await;
            answer.send(|out| out.extend_from_slice(&body));
        })
        .detach();
    }

    fn half_close(&mut self) {
        self.0.half_close();
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

struct TestStream {
    kind: &'static str,
    reply: StreamReply,
    counts: Counts,
    /// Messages that are still to be poured.
    left: usize,
    last: Bytes,
}

impl TestStream {
    /// Sends as long as the queue is short.
    fn pour(&mut self) {
        while self.left > 0 && self.reply.queued_bytes() < 256 << 10 {
            self.left -= 1;
            self.counts.poured.fetch_add(1, Ordering::SeqCst);
            self.reply.send(|out| out.extend_from_slice(&[7; 1000]));
            self.counts.largest_queue.fetch_max(self.reply.queued_bytes(), Ordering::SeqCst);
        }
        if self.left == 0 {
            self.reply.finish(Status::OK);
        }
    }
}

impl StreamHandler for TestStream {
    fn message(&mut self, body: Bytes) {
        match self.kind {
            "/t.Test/Repeat" => self.last = body,
            "/t.Test/Chat" => self.reply.send(|out| out.extend_from_slice(&body)),
            "/t.Test/Pour" => {
                self.left = std::str::from_utf8(&body).unwrap().parse().unwrap();
                self.pour();
            }
            other => unreachable!("{other}"),
        }
    }

    fn half_close(&mut self) {
        match self.kind {
            "/t.Test/Repeat" => {
                for _ in 0..3 {
                    self.reply.send_bytes(self.last.clone());
                }
                self.reply.finish(Status::OK);
            }
            "/t.Test/Chat" => self.reply.finish(Status::OK),
            _ => {}
        }
    }

    fn writable(&mut self) {
        self.pour();
    }

    fn closed(&mut self) {
        self.counts.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn start(options: ServerOptions) -> (Server, Counts) {
    let counts = Counts::default();
    let service_counts = counts.clone();
    (Server::start(options, move || Test::new(service_counts)), counts)
}

fn ok(messages: &[&[u8]]) -> Answer {
    let messages = messages.iter().map(|message| Bytes::copy_from_slice(message)).collect();
    Answer { http_status: 200, messages, status: 0, text: String::new() }
}

fn failed(http_status: u16, status: Code, text: &str) -> Answer {
    Answer { http_status, messages: Vec::new(), status: status as u32, text: text.to_owned() }
}

/// Waits for another thread to get somewhere.
async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[test]
fn unary_calls() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        for round in 0..100 {
            let message = format!("message {round}");
            assert_eq!(call(&client, ECHO, message.as_bytes()).await.unwrap(), ok(&[message.as_bytes()]));
        }
        assert_eq!(call(&client, ECHO, b"").await.unwrap(), ok(&[b""]));
        assert_eq!(call(&client, "/t.Test/Later", b"x").await.unwrap(), ok(&[b"x"]));
    });
}

#[test]
fn errors() {
    let (server, _) = start(ServerOptions { max_recv_message_bytes: 100, ..ServerOptions::default() });
    run_client(async {
        let client = connect(&server).await;
        let too_large = [0; 101];
        let cases: &[(&str, &[u8], Answer)] = &[
            ("/t.Test/Fail", b"", failed(200, Code::NotFound, "100%25 not found: %C3%A9")),
            ("/t.Test/Forget", b"", failed(200, Code::Unavailable, "no answer")),
            ("/t.Test/None", b"", failed(200, Code::Unimplemented, "unknown method None for service t.Test")),
            ("/none/None", b"", failed(200, Code::Unimplemented, "unknown service none")),
            (
                ECHO,
                &too_large,
                failed(200, Code::ResourceExhausted, "grpc: received message larger than max (101 vs. 100)"),
            ),
        ];
        for (path, message, expected) in cases {
            assert_eq!(call(&client, path, message).await.unwrap(), *expected, "{path}");
        }
        assert_eq!(call(&client, ECHO, b"still fine").await.unwrap(), ok(&[b"still fine"]));
    });
}

#[test]
fn metadata() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "None None 127.0.0.1"),
            (&[("token", "a.1"), ("other", "b")], "Some(\"a.1\") None 127.0.0.1"),
            (&[("second", "c"), ("second", "d")], "None Some(\"c\") 127.0.0.1"),
        ];
        for (fields, expected) in cases {
            let answer = call_with(&client, "/t.Test/Metadata", fields, b"").await.unwrap();
            assert_eq!(answer, ok(&[expected.as_bytes()]));
        }
    });
}

#[test]
fn server_stream() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        assert_eq!(call(&client, "/t.Test/Repeat", b"again").await.unwrap(), ok(&[b"again", b"again", b"again"]));
    });
}

#[test]
fn both_ways() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        let mut chat = open(&client, "/t.Test/Chat", &[]).await;
        chat.send.send_data(framed(b"one"), false).unwrap();
        let mut body = chat.response.await.unwrap().into_body();
        assert_eq!(read(&mut body, 8).await, framed(b"one"));
        // A message in two pieces, and two messages in one piece.
        let two = framed(b"two");
        chat.send.send_data(two.slice(..6), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        chat.send.send_data([&two[6..], &framed(b"three"), &framed(b"")].concat().into(), true).unwrap();
        assert_eq!(read(&mut body, 23).await, [&two[..], &framed(b"three"), &framed(b"")].concat());
        assert_eq!(support::status(&body.trailers().await.unwrap().unwrap()), 0);
    });
}

#[test]
fn what_is_due_is_answered_before_a_stream_ends() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        // Head, messages and end are written before the client's connection gets its turn: they leave in one packet.
        let several: [&[&[u8]]; 3] = [&[], &[b"one"], &[b"one", b"two", b"three"]];
        for messages in several {
            let mut chat = open(&client, CHAT_LATER, &[]).await;
            let body: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            chat.send.send_data(body.into(), true).unwrap();
            assert_eq!(answer(chat.response).await.unwrap(), ok(messages));
        }
        for path in ["/t.Test/Repeat", "/t.Test/Pour"] {
            let mut unasked = open(&client, path, &[]).await;
            unasked.send.send_data(Bytes::new(), true).unwrap();
            assert_eq!(answer(unasked.response).await.unwrap(), failed(200, Code::Unknown, "EOF"), "{path}");
        }
    });
}

#[test]
fn compressed_requests_are_served_and_other_encodings_refused() {
    let (server, _) = start(ServerOptions { max_recv_message_bytes: 1 << 20, ..ServerOptions::default() });
    run_client(async {
        let client = connect(&server).await;
        let packed = |message: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, message).unwrap();
            let mut frame = framed(&encoder.finish().unwrap()).to_vec();
            frame[0] = 1;
            Bytes::from(frame)
        };
        for length in [0, 1, 100, 99_999, 1 << 20] {
            let message = vec![b'x'; length];
            let mut call = open(&client, ECHO, &[("grpc-encoding", "gzip")]).await;
            send_all(&mut call.send, packed(&message)).await;
            assert!(answer(call.response).await.unwrap() == ok(&[&message]), "{length} bytes");
        }
        let mut call = open(&client, ECHO, &[("grpc-encoding", "gzip")]).await;
        send_all(&mut call.send, packed(&vec![0; 20 << 20])).await;
        let text = "grpc: received message after decompression larger than max 1048576";
        assert_eq!(answer(call.response).await.unwrap(), failed(200, Code::ResourceExhausted, text));

        let call = open(&client, ECHO, &[("grpc-encoding", "snappy")]).await;
        let response = call.response.await.unwrap();
        assert_eq!(response.headers()["grpc-accept-encoding"], "gzip");
        assert_eq!(support::status(response.headers()), Code::Unimplemented as u32);
    });
}

#[test]
fn large_messages_both_ways() {
    let (server, _) = start(ServerOptions { max_recv_message_bytes: 8 << 20, ..ServerOptions::default() });
    run_client(async {
        let client = connect(&server).await;
        for length in [16_383, 16_384, 65_535, 70_000, 99_999, 100_001, 1 << 20, 5_000_000] {
            let message: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let answer = call(&client, ECHO, &message).await.unwrap();
            assert!(answer == ok(&[&message]), "{length} bytes come back as they were");
        }
    });
}

#[test]
fn many_calls_at_once() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        let calls = (0..2000u32).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let path = if n % 3 == 0 { "/t.Test/Later" } else { ECHO };
                let message = n.to_string();
                assert_eq!(call(&client, path, message.as_bytes()).await.unwrap(), ok(&[message.as_bytes()]));
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
    });
}

#[test]
fn a_deadline_ends_the_call() {
    let (server, counts) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        let fields = [("grpc-timeout", "50m")];
        let expected = failed(200, Code::DeadlineExceeded, "context deadline exceeded");
        assert_eq!(call_with(&client, "/t.Test/Hold", &fields, b"").await.unwrap(), expected);
        eventually("the handler hears of it", || counts.cancelled.load(Ordering::SeqCst) == 1).await;

        // Long enough for a first message on a busy machine.
        let mut chat = open(&client, "/t.Test/Chat", &[("grpc-timeout", "2S")]).await;
        chat.send.send_data(framed(b"x"), false).unwrap();
        let mut body = chat.response.await.unwrap().into_body();
        assert_eq!(read(&mut body, 6).await, framed(b"x"));
        assert_eq!(support::status(&body.trailers().await.unwrap().unwrap()), 4);
        eventually("the stream's handler hears of it", || counts.closed.load(Ordering::SeqCst) == 1).await;
    });
}

#[test]
fn a_reset_and_a_lost_connection_cancel() {
    let (server, counts) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        let mut held = open(&client, "/t.Test/Hold", &[]).await;
        held.send.send_data(framed(b""), true).unwrap();
        let mut chat = open(&client, "/t.Test/Chat", &[]).await;
        chat.send.send_data(framed(b"x"), false).unwrap();
        let mut body = chat.response.await.unwrap().into_body();
        read(&mut body, 6).await;

        held.send.send_reset(h2::Reason::CANCEL);
        eventually("the unary call is cancelled", || counts.cancelled.load(Ordering::SeqCst) == 1).await;
        chat.send.send_reset(h2::Reason::CANCEL);
        eventually("the stream is closed", || counts.closed.load(Ordering::SeqCst) == 1).await;
        assert_eq!(call(&client, ECHO, b"still fine").await.unwrap(), ok(&[b"still fine"]));
    });
    // A client of its own runtime, which ends with a call open.
    run_client(async {
        let client = connect(&server).await;
        let mut held = open(&client, "/t.Test/Hold", &[]).await;
        held.send.send_data(framed(b""), true).unwrap();
        assert_eq!(call(&client, ECHO, b"x").await.unwrap(), ok(&[b"x"]));
    });
    run_client(eventually("the lost call is cancelled", || counts.cancelled.load(Ordering::SeqCst) == 2));
}

#[test]
fn a_slow_reader_holds_its_producer_back() {
    let (server, counts) = start(ServerOptions::default());
    run_client(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(100_000).initial_connection_window_size(1 << 20);
        let client = connect_with(&server, builder).await;
        let mut pour = open(&client, "/t.Test/Pour", &[]).await;
        send_all(&mut pour.send, framed(b"5000")).await;
        let mut body = pour.response.await.unwrap().into_body();
        eventually("window and queue are full", || counts.poured.load(Ordering::SeqCst) >= 200).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let early = counts.poured.load(Ordering::SeqCst);
        assert!(early < 600, "{early} messages were made for a window of 100 kB");
        // Others are served meanwhile.
        assert_eq!(call(&client, ECHO, b"x").await.unwrap(), ok(&[b"x"]));
        let all = read(&mut body, 5000 * 1005).await;
        assert_eq!(support::messages(all).len(), 5000);
        assert_eq!(support::status(&body.trailers().await.unwrap().unwrap()), 0);
        assert!(counts.largest_queue.load(Ordering::SeqCst) < (256 << 10) + 2000);
    });
}

#[test]
fn too_much_in_flight_is_refused() {
    let options = ServerOptions { max_in_flight_per_reactor: 3, ..ServerOptions::default() };
    let (server, _) = start(options);
    run_client(async {
        let client = connect(&server).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut call = open(&client, "/t.Test/Hold", &[]).await;
            call.send.send_data(framed(b""), true).unwrap();
            held.push(call);
        }
        let refused = failed(200, Code::ResourceExhausted, "too many requests");
        assert_eq!(call(&client, ECHO, b"x").await.unwrap(), refused);
        held.pop().unwrap().send.send_reset(h2::Reason::CANCEL);
        assert_eq!(call(&client, ECHO, b"x").await.unwrap(), ok(&[b"x"]));
    });
}

#[test]
fn a_drain_lets_open_calls_end() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let client = connect(&server).await;
        let mut chat = open(&client, "/t.Test/Chat", &[]).await;
        chat.send.send_data(framed(b"x"), false).unwrap();
        let mut body = chat.response.await.unwrap().into_body();
        read(&mut body, 6).await;
        server.drain();
        eventually("the port is closed", || std::net::TcpStream::connect(server.address).is_err()).await;
        chat.send.send_data(framed(b"y"), true).unwrap();
        assert_eq!(read(&mut body, 6).await, framed(b"y"));
        assert_eq!(support::status(&body.trailers().await.unwrap().unwrap()), 0);
    });
    server.join();
}

/// With a farewell streams end at once, old and new ones; a unary call that is being worked on is still answered.
#[test]
fn a_farewell_ends_streams() {
    let farewell = Status::new(Code::Unavailable, "gone");
    let (server, counts) = start(ServerOptions { farewell: Some(farewell), ..ServerOptions::default() });
    run_client(async {
        let client = connect(&server).await;
        let mut chat = open(&client, "/t.Test/Chat", &[]).await;
        chat.send.send_data(framed(b"x"), false).unwrap();
        let mut body = chat.response.await.unwrap().into_body();
        assert_eq!(read(&mut body, 6).await, framed(b"x"));
        let mut later = open(&client, "/t.Test/Later", &[]).await;
        later.send.send_data(framed(b"y"), true).unwrap();
        server.drain();
        assert_eq!(support::status(&body.trailers().await.unwrap().unwrap()), Code::Unavailable as u32);
        eventually("the handler hears of it", || counts.closed.load(Ordering::SeqCst) == 1).await;
        assert_eq!(answer(later.response).await.unwrap(), ok(&[b"y"]));
    });
    server.join();
}

/// Clients are told to go, and new ones hear nothing, until they are welcome again; what was asked before is still answered.
#[test]
fn clients_are_turned_away_and_taken_again() {
    let farewell = Status::new(Code::Unavailable, "gone");
    let (server, _) = start(ServerOptions { farewell: Some(farewell), ..ServerOptions::default() });
    run_client(async {
        for _ in 0..2 {
            let client = connect(&server).await;
            let mut chat = open(&client, "/t.Test/Chat", &[]).await;
            chat.send.send_data(framed(b"x"), false).unwrap();
            let mut body = chat.response.await.unwrap().into_body();
            assert_eq!(read(&mut body, 6).await, framed(b"x"));
            let mut later = open(&client, "/t.Test/Later", &[]).await;
            later.send.send_data(framed(b"y"), true).unwrap();
            server.turn_away(true);
            assert_eq!(support::status(&body.trailers().await.unwrap().unwrap()), Code::Unavailable as u32);
            assert_eq!(answer(later.response).await.unwrap(), ok(&[b"y"]));
            let gone = async {
                while client.clone().ready().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the connection ends");
            assert!(is_turned_away(&server).await);
            server.turn_away(false);
            let welcome = async { while is_turned_away(&server).await {} };
            tokio::time::timeout(Duration::from_secs(10), welcome).await.expect("it takes clients again");
        }
        assert_eq!(call(&connect(&server).await, ECHO, b"x").await.unwrap(), ok(&[b"x"]));
    });
}

/// Whether a new client hears nothing before its connection ends.
async fn is_turned_away(server: &Server) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    matches!(stream.read(&mut [0; 9]).await, Ok(0) | Err(_))
}

#[test]
fn a_drain_does_not_wait_forever() {
    let options = ServerOptions { drain_timeout: Duration::from_millis(100), ..ServerOptions::default() };
    let (server, counts) = start(options);
    run_client(async {
        let client = connect(&server).await;
        let mut held = open(&client, "/t.Test/Hold", &[]).await;
        held.send.send_data(framed(b""), true).unwrap();
        assert_eq!(call(&client, ECHO, b"x").await.unwrap(), ok(&[b"x"]));
        server.drain();
        assert!(answer(held.response).await.is_err());
        eventually("the call is cancelled", || counts.cancelled.load(Ordering::SeqCst) == 1).await;
    });
    server.join();
}

#[test]
fn too_many_pings() {
    let (server, _) = start(ServerOptions::default());
    run_client(async {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        let ended = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut count = 0;
        while count < 10 && pings.ping(h2::Ping::opaque()).await.is_ok() {
            count += 1;
        }
        // The third strike is the fourth ping; it may be answered before the connection ends.
        assert!((3..=4).contains(&count), "{count} pings were answered");
        let error = ended.await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
        assert!(client.send_request(support::request(ECHO, &[]), true).is_err());
    });
}
