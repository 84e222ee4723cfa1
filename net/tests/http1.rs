//! HTTP/1.1 on the same port: told apart by the first bytes, one request after the other, answers whole or in pieces.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use plinth_net::grpc::{Call, Method, MethodKind, Service, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::Http1Reply;
use plinth_net::http1::{Http1Request, Response};
use plinth_net::rt;
use plinth_net::server::ServerOptions;
use support::{Server, answer, call, connect, run_client, send_all};

const METHODS: &[Method] = &[Method { path: "/t.Test/Echo", kind: MethodKind::Unary }];

#[derive(Clone, Default)]
struct Pages {
    cancelled: Arc<AtomicUsize>,
    /// Requests that are answered a little later.
    delayed: Arc<AtomicUsize>,
}

impl Service for Pages {
    fn methods(&self) -> &'static [Method] {
        METHODS
    }

    fn unary(&self, _method: usize, _call: &Call, body: Bytes, reply: UnaryReply) {
        reply.send_bytes(body);
    }

    fn stream(&self, _method: usize, _call: &Call, _reply: StreamReply) -> Box<dyn StreamHandler> {
        unreachable!("there is no such method")
    }

    fn http1(&self, request: Http1Request, reply: Http1Reply) {
        match request.path() {
            "/echo" => reply.respond(&Response::with_body(200, "text/plain", request.body)),
            "/later" => {
                self.delayed.fetch_add(1, Ordering::SeqCst);
                rt::spawn(async move {
                    rt::sleep(Duration::from_millis(20)).await;
                    reply.respond(&Response::with_body(200, "text/plain", "later"));
                })
                .detach();
            }
            "/pieces" => {
                let body = reply.stream(200, &[]);
                rt::spawn(async move {
                    for piece in ["one", "two"] {
                        body.send(piece);
                        rt::sleep(Duration::from_millis(5)).await;
                    }
                    body.finish();
                })
                .detach();
            }
            "/endless" => {
                let body = reply.stream(200, &[]);
                let cancelled = Arc::clone(&self.cancelled);
                body.on_cancel(move || _ = cancelled.fetch_add(1, Ordering::SeqCst));
                body.send("first");
                rt::spawn(async move {
                    while !body.is_cancelled() {
                        rt::sleep(Duration::from_millis(5)).await;
                    }
                })
                .detach();
            }
            "/forgotten" => drop(reply),
            _ => reply.respond(&Response::error(404, "404 page not found")),
        }
    }
}

fn start() -> (Server, Pages) {
    start_with(ServerOptions::default())
}

fn start_with(options: ServerOptions) -> (Server, Pages) {
    let pages = Pages::default();
    let service = pages.clone();
    (Server::start(options, move || service), pages)
}

/// Sends requests, of which the last asks for the connection to be closed, and reads to the end.
fn exchange(server: &Server, requests: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(requests.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Status line and body of each of several answers with a known length.
fn parts(mut answers: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while !answers.is_empty() {
        let (head, rest) = answers.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let (body, rest) = rest.split_at(length.parse().unwrap());
        found.push((head.lines().next().unwrap().to_owned(), body.to_owned()));
        answers = rest;
    }
    found
}

fn part(status: &str, body: &str) -> (String, String) {
    (format!("HTTP/1.1 {status}"), body.to_owned())
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (server, _) = start();
    let answers = exchange(
        &server,
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /later HTTP/1.1\r\nHost: h\r\n\r\n\
         GET /forgotten HTTP/1.1\r\nHost: h\r\n\r\nGET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    let expected = [
        part("200 OK", "hello"),
        part("200 OK", "later"),
        part("500 Internal Server Error", "Internal Server Error\n"),
        part("404 Not Found", "404 page not found\n"),
    ];
    assert_eq!(parts(&answers), expected);
}

#[test]
fn a_request_may_arrive_byte_by_byte_even_if_it_looks_like_http2() {
    let (server, _) = start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"PRINT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer), [part("200 OK", "hi")]);
}

#[test]
fn a_body_in_pieces() {
    let (server, _) = start();
    let answer = exchange(&server, "GET /pieces HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn a_client_that_ended_its_side_still_gets_its_answer() {
    let (server, _) = start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer), [part("200 OK", "later")]);
}

#[test]
fn a_lost_client_cancels_an_endless_body() {
    let (server, pages) = start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut some = [0; 1000];
    assert!(stream.read(&mut some).unwrap() > 0);
    assert_eq!(pages.cancelled.load(Ordering::SeqCst), 0);
    drop(stream);
    eventually("the handler hears of it", || pages.cancelled.load(Ordering::SeqCst) == 1);
}

/// Waits for the server's thread to get somewhere.
fn eventually(what: &str, reached: impl Fn() -> bool) {
    for _ in 0..4000 {
        if reached() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

#[test]
fn what_is_not_http_is_refused() {
    let (server, _) = start();
    assert_eq!(exchange(&server, "\x16\x03\x01 this is no request\r\n\r\n"), "");
    let answer = exchange(&server, "no request HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
}

#[test]
fn http2_is_served_beside_it() {
    let (server, _) = start();
    run_client(async {
        let client = connect(&server).await;
        assert_eq!(call(&client, "/t.Test/Echo", b"x").await.unwrap().messages, ["x"]);
    });
}

#[test]
fn plain_requests_over_http2() {
    let (server, pages) = start_with(ServerOptions { http_over_h2: true, ..ServerOptions::default() });
    run_client(async {
        let client = connect(&server).await;
        let large = "x".repeat(300_000);
        let cases =
            [("/echo", "hello", "hello"), ("/echo", "", ""), ("/echo", &large, &large), ("/later", "", "later")];
        for (path, body, expected) in cases.into_iter().chain([("/pieces", "", "onetwo")]) {
            assert_eq!(plain(&client, "POST", path, body).await, (200, expected.to_owned()), "{path}");
        }
        assert_eq!(plain(&client, "HEAD", "/later", "").await, (200, String::new()));
        assert_eq!(plain(&client, "GET", "/none", "").await, (404, "404 page not found\n".to_owned()));
        assert_eq!(plain(&client, "GET", "/forgotten", "").await, (500, "Internal Server Error\n".to_owned()));
        let too_large = "x".repeat((4 << 20) + 1);
        assert_eq!(plain(&client, "POST", "/echo", &too_large).await.0, 413);
        assert_eq!(call(&client, "/t.Test/Echo", b"x").await.unwrap().messages, ["x"]);

        let request = http::Request::builder().uri("http://h/endless").body(()).unwrap();
        let (response, mut send) = client.clone().send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "first");
        send.send_reset(h2::Reason::CANCEL);
        for _ in 0..1000 {
            if pages.cancelled.load(Ordering::SeqCst) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the handler never hears of it");
    });
}

#[test]
fn plain_requests_over_http2_are_refused_unless_they_are_wanted() {
    let (server, _) = start();
    run_client(async {
        let client = connect(&server).await;
        let request = http::Request::builder().uri("http://h/echo").body(()).unwrap();
        let (response, _) = client.clone().send_request(request, true).unwrap();
        let answer = answer(response).await.unwrap();
        assert_eq!((answer.http_status, answer.status), (415, 3));
        assert_eq!(answer.text, "invalid gRPC request content-type \"\"");
    });
}

/// Status and body of a request that is not gRPC.
async fn plain(client: &SendRequest<Bytes>, method: &str, path: &str, body: &str) -> (u16, String) {
    let uri = format!("http://host{path}");
    let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut send) = client.send_request(request, body.is_empty()).unwrap();
    send_all(&mut send, Bytes::copy_from_slice(body.as_bytes())).await;
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        text.extend_from_slice(&piece);
    }
    (status, String::from_utf8(text).unwrap())
}

#[test]
fn a_drain_closes_idle_connections_and_finishes_others() {
    let (server, pages) = start();
    let mut idle = TcpStream::connect(server.address).unwrap();
    let mut fresh = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut some = [0; 1000];
    assert!(idle.read(&mut some).unwrap() > 0);
    let mut busy = TcpStream::connect(server.address).unwrap();
    busy.write_all(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    eventually("the last request has come", || pages.delayed.load(Ordering::SeqCst) == 1);
    server.drain();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer), [part("200 OK", "later")]);
    assert_eq!(idle.read(&mut some).unwrap(), 0);
    assert_eq!(fresh.read(&mut some).unwrap(), 0);
    server.join();
}
