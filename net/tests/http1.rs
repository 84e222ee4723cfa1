//! HTTP/1.1 on the same port: told apart by the first bytes, one request after the other, answers whole or in pieces.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use plinth_net::grpc::{Call, Method, MethodKind, Service, StreamHandler, StreamReply, UnaryReply};
use plinth_net::http1::{Http1Request, Response};
use plinth_net::server::{Http1Reply, ServerOptions};
use support::{Server, call, connect, run_client};

const METHODS: &[Method] = &[Method { path: "/t.Test/Echo", kind: MethodKind::Unary }];

#[derive(Clone, Default)]
struct Pages {
    cancelled: Arc<AtomicUsize>,
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
                glommio::spawn_local(async move {
                    glommio::timer::sleep(Duration::from_millis(20)).await;
                    reply.respond(&Response::with_body(200, "text/plain", "later"));
                })
                .detach();
            }
            "/pieces" => {
                let body = reply.stream(200, &[]);
                glommio::spawn_local(async move {
                    for piece in ["one", "two"] {
                        body.send(piece.as_bytes());
                        glommio::timer::sleep(Duration::from_millis(5)).await;
                    }
                    body.finish();
                })
                .detach();
            }
            "/endless" => {
                let body = reply.stream(200, &[]);
                let cancelled = Arc::clone(&self.cancelled);
                body.on_cancel(move || _ = cancelled.fetch_add(1, Ordering::SeqCst));
                body.send(b"first");
                glommio::spawn_local(async move {
                    while !body.is_cancelled() {
                        glommio::timer::sleep(Duration::from_millis(5)).await;
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
    let pages = Pages::default();
    let service = pages.clone();
    (Server::start(ServerOptions::default(), move || service), pages)
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
    for _ in 0..1000 {
        if pages.cancelled.load(Ordering::SeqCst) == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the handler never hears of it");
}

#[test]
fn what_is_not_http_is_refused() {
    let (server, _) = start();
    let answer = exchange(&server, "\x16\x03\x01 this is no request\r\n\r\n");
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
fn a_drain_closes_idle_connections_and_finishes_others() {
    let (server, _) = start();
    let mut idle = TcpStream::connect(server.address).unwrap();
    let mut fresh = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut some = [0; 1000];
    assert!(idle.read(&mut some).unwrap() > 0);
    let mut busy = TcpStream::connect(server.address).unwrap();
    busy.write_all(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(10));
    server.drain();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert_eq!(parts(&answer), [part("200 OK", "later")]);
    assert_eq!(idle.read(&mut some).unwrap(), 0);
    assert_eq!(fresh.read(&mut some).unwrap(), 0);
    server.join();
}
