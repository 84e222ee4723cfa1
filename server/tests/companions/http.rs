//! Requests, one connection each.

use super::common::http;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Its body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends a request whose further header lines are `headers`, and reads the answer to its end.
pub fn send(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut connection = http::Connection::open(address);
    connection.request(method, path, headers, body);
    let mut answer = connection.head();
    if method != "HEAD" {
        connection.rest(&mut answer);
    }
    let body = answer.text();
    Answer { status: answer.status, headers: answer.headers, body }
}

/// Asks for JSON.
pub fn get(address: &str, path: &str) -> Answer {
    send(address, "GET", path, "Accept: application/json\r\n", "")
}
