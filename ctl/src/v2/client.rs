//! Requests over HTTP/1.1 to the members of a cluster, one after the other until one answers.

use crate::failure::Failure;
use crate::tls::{self, Encryption, Place};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

/// Longest part of an answer that is kept.
const BODY_BYTES_MAX: usize = 256 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The header `X-Etcd-Index`.
    pub index: u64,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; nothing if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a request did not come to.
#[derive(Clone, Debug)]
pub enum Refused {
    /// An error of the API: code, message, cause, index.
    Key(Value),
    /// Another error of the API.
    Told(String),
    /// No member answers: what each of them did.
    Unreachable(Vec<String>),
}

impl Refused {
    /// In a line.
    pub fn text(&self) -> String {
        match self {
            Refused::Key(error) => format!(
                "{}: {} ({}) [{}]",
                error["errorCode"],
                error["message"].as_str().unwrap_or_default(),
                error["cause"].as_str().unwrap_or_default(),
                error["index"]
            ),
            Refused::Told(text) => text.clone(),
            Refused::Unreachable(all) => {
                let each: Vec<String> =
                    all.iter().enumerate().map(|(at, text)| format!("; error #{at}: {text}")).collect();
                format!("client: etcd cluster is unavailable or misconfigured{}", each.concat())
            }
        }
    }
}

/// The members of a cluster.
pub struct Client {
    /// Where they are reached.
    pub endpoints: Vec<String>,
    /// `name:password`, if there is a user.
    pub user: Option<String>,
    /// How long a request may take until its answer begins.
    pub patience: Duration,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// Nothing is asked yet. Encryption is set up if an endpoint asks for it.
    ///
    /// # Errors
    /// If the files of the encryption are no use.
    pub fn new(endpoints: Vec<String>, encryption: &Encryption, patience: Duration) -> Result<Client, Failure> {
        let tls = match endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
            true => Some(encryption.settings_for("http/1.1")?),
            false => None,
        };
        Ok(Client { endpoints, user: None, patience, tls })
    }

    /// Asks the first member that answers. `long`: the end of the answer may be far off.
    ///
    /// # Errors
    /// If none does, or what the API refuses.
    pub async fn ask(&self, method: Method, target: &str, body: Content, long: bool) -> Result<Answer, Refused> {
        let mut failures = Vec::new();
        for endpoint in &self.endpoints {
            match self.ask_one(endpoint, method.clone(), target, body.clone(), long).await {
                Ok(answer) if answer.status >= 500 => failures.push(failure_of(&answer)),
                Ok(answer) if answer.status < 300 => return Ok(answer),
                Ok(answer) => return Err(refusal_of(&answer)),
                Err(error) => failures.push(error),
            }
        }
        Err(Refused::Unreachable(failures))
    }

    /// Asks one member.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn ask_one(
        &self,
        endpoint: &str,
        method: Method,
        target: &str,
        body: Content,
        long: bool,
    ) -> Result<Answer, String> {
        let (encrypted, address) = match endpoint.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some((_, rest)) => (false, rest),
            None => (false, endpoint),
        };
        let place = Place::Tcp(address.trim_end_matches('/').to_owned());
        let tls = self.tls.clone().filter(|_| encrypted);
        let dial = timeout(self.patience, tls::socket(&place, tls, None));
        let late = |_| "net/http: request canceled (Client.Timeout exceeded)".to_owned();
        let socket = dial.await.map_err(late)?.map_err(|error| refused(&place, &error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket));
        let (mut sender, connection) = handshake.await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header("Host", place.authority());
        if let Some(user) = &self.user {
            request = request.header("Authorization", format!("Basic {}", encode(user.as_bytes())));
        }
        if let Some(kind) = body.kind() {
            request = request.header("Content-Type", kind);
        }
        let request = request.body(Full::new(body.bytes())).map_err(|error| error.to_string())?;
        let head = timeout(self.patience, sender.send_request(request)).await.map_err(late)?;
        let response = head.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let index = response.headers().get("X-Etcd-Index").and_then(|value| value.to_str().ok()?.parse().ok());
        let whole = http_body_util::Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
        let collected = match long {
            true => whole.await,
            false => timeout(self.patience, whole).await.map_err(late)?,
        };
        connection.abort();
        let body = collected.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, index: index.unwrap_or(0), body })
    }
}

/// A connection that was not to be had, in the words of Go's library.
fn refused(place: &Place, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            format!("dial tcp {}: connect: connection refused", place.authority())
        }
        _ => format!("dial tcp {}: {error}", place.authority()),
    }
}

fn failure_of(answer: &Answer) -> String {
    match answer.json()["message"].as_str() {
        Some(message) => format!("client: etcd member has an error: {message}"),
        None => format!("client: etcd member answers with status {}", answer.status),
    }
}

fn refusal_of(answer: &Answer) -> Refused {
    let error = answer.json();
    match (error.get("errorCode"), error["message"].as_str()) {
        (Some(_), _) => Refused::Key(error),
        (None, Some(message)) => Refused::Told(message.to_owned()),
        (None, None) => Refused::Told(format!("unexpected status code {}", answer.status)),
    }
}

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub enum Content {
    #[default]
    Nothing,
    /// Parameters.
    Form(Vec<(&'static str, String)>),
    Json(Value),
}

impl Content {
    fn kind(&self) -> Option<&'static str> {
        match self {
            Content::Nothing => None,
            Content::Form(_) => Some("application/x-www-form-urlencoded"),
            Content::Json(_) => Some("application/json"),
        }
    }

    fn bytes(&self) -> Bytes {
        match self {
            Content::Nothing => Bytes::new(),
            Content::Form(pairs) => query(pairs).into(),
            Content::Json(value) => value.to_string().into(),
        }
    }
}

/// Parameters as a query.
pub fn query(pairs: &[(&'static str, String)]) -> String {
    let each: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", escape(value, b""))).collect();
    each.join("&")
}

/// The target of a key.
pub fn key_target(key: &str) -> String {
    format!("/v2/keys/{}", escape(key.trim_start_matches('/'), b"/"))
}

fn escape(text: &str, more: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || more.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Base64, of a name and a password.
fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
            text.push(if at <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_escaped() {
        assert_eq!(key_target("/a b/<ö>"), "/v2/keys/a%20b/%3C%C3%B6%3E");
        assert_eq!(query(&[("value", "a&b=c".into()), ("ttl", "5".into())]), "value=a%26b%3Dc&ttl=5");
        for (text, expected) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("root:pw", "cm9vdDpwdw==")]
        {
            assert_eq!(encode(text.as_bytes()), expected);
        }
    }

    #[test]
    fn errors_are_told_in_a_line() {
        let error = serde_json::json!({ "errorCode": 100, "message": "Key not found", "cause": "/a", "index": 7 });
        assert_eq!(Refused::Key(error).text(), "100: Key not found (/a) [7]");
        let all = vec!["dial tcp a:1: connect: connection refused".to_owned()];
        let text =
            "client: etcd cluster is unavailable or misconfigured; error #0: dial tcp a:1: connect: connection refused";
        assert_eq!(Refused::Unreachable(all).text(), text);
    }
}
