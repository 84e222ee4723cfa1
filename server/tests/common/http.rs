//! A client of HTTP/1.1 that reads what it is sent, and nothing into it.

use super::PATIENCE;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The code.
    pub status: u16,
    /// Names as sent.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// To `127.0.0.1:PORT`.
    pub fn open(address: &str) -> Connection {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Connection { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends a request with a body of known length.
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &str) {
        let length = body.len();
        let text = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        self.send(text.as_bytes());
    }

    /// Begins a request whose body comes in chunks.
    pub fn begin(&mut self, target: &str) {
        self.send(format!("POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    }

    /// Sends a chunk of such a body; an empty one ends it.
    pub fn chunk(&mut self, text: &str) {
        self.send(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    }

    /// Reads more. False at the end.
    pub fn fill(&mut self) -> bool {
        let mut piece = [0; 16 << 10];
        let count = self.stream.read(&mut piece).expect("an answer in time");
        self.buffer.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// What was read and not taken.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether nothing comes for so long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("set");
        let result = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("set");
        self.buffer.is_empty() && result.is_err()
    }

    /// Reads more, if something comes within a time. False if nothing does, or the connection ends.
    pub fn fill_within(&mut self, time: Duration) -> bool {
        let mut piece = [0; 16 << 10];
        self.stream.set_read_timeout(Some(time)).expect("set");
        let count = match self.stream.read(&mut piece) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => panic!("{error}"),
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("set");
        self.buffer.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// Chunks that come within a time, which ends early at `enough` bytes or at the end of the answer.
    pub fn chunks_within(&mut self, time: Duration, enough: usize) -> Vec<u8> {
        let deadline = Instant::now() + time;
        let mut all = Vec::new();
        while all.len() < enough {
            let left = deadline.saturating_duration_since(Instant::now());
            // Only whole chunks are taken: what has begun to come is there at once.
            if self.buffer.is_empty() && (left.is_zero() || !self.fill_within(left)) {
                break;
            }
            match self.next_chunk() {
                Some(chunk) => all.extend(chunk),
                None => break,
            }
        }
        all
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).expect("text");
            }
            assert!(self.fill(), "the connection ended within a line");
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "the connection ended within a body");
        }
        self.buffer.drain(..count).collect()
    }

    /// Status and headers of an answer.
    pub fn head(&mut self) -> Answer {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_string(), value.to_string()));
        }
        Answer { status, headers, body: Vec::new() }
    }

    /// The next chunk of a body; nothing at its end.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("no size of a chunk: {line}"));
        let chunk = self.take(size);
        assert_eq!(self.take(2), b"\r\n");
        (size > 0).then_some(chunk)
    }

    /// The next line of a stream, whose lines come one in a chunk.
    pub fn next_line(&mut self) -> Option<Value> {
        let chunk = self.next_chunk()?;
        assert_eq!(chunk.last(), Some(&b'\n'), "a line in a chunk");
        Some(serde_json::from_slice(&chunk).expect("JSON"))
    }

    /// A whole answer.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        self.rest(&mut answer);
        answer
    }

    /// The body behind a head.
    pub fn rest(&mut self, answer: &mut Answer) {
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.next_chunk() {
                answer.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a number");
            answer.body = self.take(length);
        }
    }
}

/// Asks on a connection of its own.
pub fn ask(address: &str, method: &str, target: &str, headers: &str, body: &str) -> Answer {
    let mut connection = Connection::open(address);
    connection.request(method, target, headers, body);
    connection.answer()
}
