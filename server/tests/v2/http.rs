//! Requests of the v2 API, with forms.

use crate::common::http;
use std::time::Duration;

pub use http::Answer;

/// The index that an answer names.
pub fn index(answer: &Answer) -> u64 {
    let index = answer.header("X-Etcd-Index").and_then(|text| text.parse().ok());
    index.unwrap_or_else(|| panic!("no index: {answer:?}"))
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
pub struct Connection(http::Connection);

impl Connection {
    /// To a server that listens.
    pub fn open(address: &str) -> Connection {
        Connection(http::Connection::open(address))
    }

    /// Sends a request, and reads the answer to its end.
    pub fn send(&mut self, ask: &Ask) -> Answer {
        self.request(ask);
        let mut answer = self.0.head();
        if ask.method != "HEAD" {
            self.0.rest(&mut answer);
        }
        answer
    }

    /// Sends a request.
    pub fn request(&mut self, ask: &Ask) {
        self.0.request(&ask.method, &ask.target, &ask.headers, &ask.form);
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> Answer {
        self.0.head()
    }

    /// The next chunk; nothing at the end, be it that of the connection.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let is_there = !self.0.buffer().is_empty() || self.0.fill();
        if is_there { self.0.next_chunk() } else { None }
    }

    /// Chunks that come within a time, which ends early at `enough` bytes or at the end of the answer.
    pub fn chunks_within(&mut self, time: Duration, enough: usize) -> Vec<u8> {
        self.0.chunks_within(time, enough)
    }
}

/// Asks over a connection of its own.
pub fn once(address: &str, method: &str, target: &str, form: &str) -> Answer {
    Connection::open(address).send(&ask(method, target, form))
}
