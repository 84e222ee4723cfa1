//! A client over one connection that is kept, and answers that come in pieces.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The index that it names.
    pub fn index(&self) -> u64 {
        self.header("X-Etcd-Index").and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no index: {self:?}"))
    }
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    pub method: String,
    pub target: String,
    pub form: String,
    pub headers: String,
}

/// A request with a form.
pub fn ask(method: &str, target: &str, form: &str) -> Ask {
    let headers = match form {
        "" => String::new(),
        _ => "Content-Type: application/x-www-form-urlencoded\r\n".to_string(),
    };
    Ask { method: method.into(), target: target.into(), form: form.into(), headers }
}

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// To a server that listens.
    pub fn open(address: &str) -> Connection {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        stream.set_nodelay(true).expect("set");
        Connection { stream: BufReader::new(stream) }
    }

    /// Sends a request, and reads the answer to its end.
    pub fn send(&mut self, ask: &Ask) -> Answer {
        self.request(ask);
        let mut answer = self.head();
        if ask.method != "HEAD" {
            self.body(&mut answer);
        }
        answer
    }

    /// Sends a request.
    pub fn request(&mut self, ask: &Ask) {
        let Ask { method, target, form, headers } = ask;
        let text = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n{form}",
            form.len()
        );
        self.stream.get_mut().write_all(text.as_bytes()).expect("taken");
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> Answer {
        let first = self.line().expect("an answer");
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        loop {
            let line = self.line().expect("a head");
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_string(), value.to_string()));
        }
        Answer { status, headers, body: Vec::new() }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_string())
    }

    fn body(&mut self, answer: &mut Answer) {
        if let Some(length) = answer.header("Content-Length") {
            answer.body = vec![0; length.parse().expect("a length")];
            self.stream.read_exact(&mut answer.body).expect("a body");
            return;
        }
        while let Some(chunk) = self.chunk() {
            answer.body.extend(chunk);
        }
    }

    /// The next chunk; nothing at the end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().ok()?, 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// Chunks that come within a time, which ends early at `enough` bytes or at the end of the answer.
    pub fn chunks_within(&mut self, time: Duration, enough: usize) -> Vec<u8> {
        let deadline = Instant::now() + time;
        let mut all = Vec::new();
        while all.len() < enough {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stream.get_ref().set_read_timeout(Some(left)).expect("set");
            // Only whole chunks are taken: what has begun to come is there at once.
            match self.stream.fill_buf() {
                Ok([]) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => panic!("{error}"),
            }
            self.stream.get_ref().set_read_timeout(Some(Duration::from_secs(10))).expect("set");
            match self.chunk() {
                Some(chunk) => all.extend(chunk),
                None => break,
            }
        }
        self.stream.get_ref().set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        all
    }
}

/// Asks over a connection of its own.
pub fn once(address: &str, method: &str, target: &str, form: &str) -> Answer {
    Connection::open(address).send(&ask(method, target, form))
}
