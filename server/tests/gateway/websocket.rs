//! The same calls over websockets.

use super::client::{Connection, must};
use super::server::Server;
use serde_json::{Value, json};

struct Socket(Connection);

impl Socket {
    fn open(address: &str, path: &str) -> Socket {
        let mut connection = Connection::open(address);
        let head = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: Bearer, abc\r\n";
        connection.send(format!("GET {path}?method=GET HTTP/1.1\r\n{head}{key}\r\n").as_bytes());
        let answer = connection.head();
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-protocol"), Some("Bearer"));
        Socket(connection)
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        let mask = [9, 8, 7, 6];
        let mut frame = vec![first, 0x80 | 126];
        frame.extend_from_slice(&u16::try_from(payload.len()).expect("short").to_be_bytes());
        if payload.len() < 126 {
            frame = vec![first, 0x80 | payload.len() as u8];
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.send(&frame);
    }

    /// The next frame: opcode and payload.
    fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            let buffer = self.0.buffer();
            if let [first, second, rest @ ..] = &buffer[..] {
                assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "whole and not masked");
                let (length, skipped) = match second & 0x7f {
                    126 => (rest.get(..2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]]))), 4),
                    short => (Some(usize::from(short)), 2),
                };
                if let Some(end) = length.map(|length| skipped + length).filter(|end| buffer.len() >= *end) {
                    let frame: Vec<u8> = buffer.drain(..end).collect();
                    return (frame[0] & 0x0f, frame[skipped..].to_vec());
                }
            }
            assert!(self.0.fill(), "the connection ended");
        }
    }

    fn json(&mut self) -> Value {
        let (opcode, payload) = self.next();
        assert_eq!(opcode, 1, "text");
        serde_json::from_slice(&payload).expect("JSON")
    }

    fn expect_end(&mut self, code: u16) {
        assert_eq!(self.next(), (8, code.to_be_bytes().to_vec()));
        assert!(!self.0.fill(), "closed");
    }
}

#[test]
fn watches_and_keep_alives_work() {
    let server = Server::plinth(&[]);
    let address = server.address.as_str();
    let mut socket = Socket::open(address, "/v3/watch");
    socket.send(0x01, br#"{"create_request":"#);
    socket.send(0x89, b"ping");
    socket.send(0x80, br#"{"key":"YQ=="}}"#);
    assert_eq!(socket.next(), (10, b"ping".to_vec()));
    assert_eq!(socket.json()["result"]["created"], true);
    must(address, "/v3/kv/put", r#"{"key":"YQ=="}"#);
    assert_eq!(socket.json()["result"]["events"][0]["kv"]["key"], "YQ==");
    socket.send(0x82, br#"{"progress_request":{}}"#);
    assert_eq!(socket.json()["result"]["watch_id"], "-1");
    socket.send(0x88, &1000_u16.to_be_bytes());
    socket.expect_end(1000);

    must(address, "/v3/lease/grant", r#"{"TTL":60,"ID":9}"#);
    let mut socket = Socket::open(address, "/v3/lease/keepalive");
    for _ in 0..2 {
        socket.send(0x81, br#"{"ID":9}"#);
        assert_eq!(socket.json()["result"]["TTL"], "60");
    }
}

#[test]
fn other_calls_have_one_answer() {
    let server = Server::plinth(&[]);
    let mut socket = Socket::open(&server.address, "/v3/kv/put");
    socket.send(0x81, br#"{"key":"YQ=="}"#);
    assert_eq!(socket.json()["header"]["revision"], "2");
    socket.expect_end(1000);
    let mut socket = Socket::open(&server.address, "/v3/kv/put");
    socket.send(0x81, b"x");
    assert_eq!(socket.json()["code"], 3);
    socket.expect_end(1000);
    let mut socket = Socket::open(&server.address, "/v3/nothing");
    assert_eq!(socket.json(), json!({"code": 5, "message": "Not Found"}));
    socket.expect_end(1000);
}

#[test]
fn broken_frames_end_the_connection() {
    let server = Server::plinth(&[]);
    let mut socket = Socket::open(&server.address, "/v3/watch");
    socket.0.send(&[0x81, 2, b'h', b'i']);
    socket.expect_end(1002);
    let mut connection = Connection::open(&server.address);
    connection.send(b"GET /v3/watch HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let refused = connection.answer();
    assert_eq!((refused.status, refused.header("sec-websocket-version")), (400, Some("13")));
}
