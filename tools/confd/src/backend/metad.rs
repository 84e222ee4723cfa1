//! A metad: each key is a path of its data API, answered as JSON. Long polls go on from the version that was read, so that
//! no change falls between.

use super::{Pairs, common, is_meant, tops};
use crate::resource::Resource;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use plinth_ctl::tls::Encryption;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long a long poll is waited for; then it is asked again, lest a connection that broke in silence is waited for.
const POLL_TIME: Duration = Duration::from_secs(300);

/// Pause after nobody has answered.
const PAUSE: Duration = Duration::from_secs(2);

/// Metads of one group.
pub struct Metad {
    nodes: Vec<Uri>,
    encryption: Encryption,
    /// Further lines of every request, such as one that the metad demands.
    headers: Vec<(String, String)>,
    time: Duration,
    /// The node that answered last.
    current: AtomicUsize,
    /// The lowest version that was read since the last poll; 0: none.
    version: AtomicI64,
    /// What is polled.
    path: String,
}

impl Metad {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// If a node is no address.
    pub fn new(
        nodes: &[String],
        encryption: Encryption,
        headers: Vec<(String, String)>,
        time: Duration,
    ) -> Result<Metad, String> {
        let node = |node: &String| {
            let url = if node.contains("://") { node.clone() } else { format!("http://{node}") };
            let uri: Uri = url.parse().map_err(|_| format!("not an address: {node:?}"))?;
            match uri.scheme_str() {
                Some("http" | "https") if uri.host().is_some() => Ok(uri),
                _ => Err(format!("not an address: {node:?}")),
            }
        };
        let nodes = nodes.iter().map(node).collect::<Result<Vec<_>, String>>()?;
        let (current, version) = (AtomicUsize::new(0), AtomicI64::new(0));
        Ok(Metad { nodes, encryption, headers, time, current, version, path: "/".to_owned() })
    }

    /// The pairs at these keys and below them.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn get(&self, keys: &[String]) -> Result<Pairs, String> {
        let mut pairs = Pairs::new();
        for key in tops(keys.iter().cloned()) {
            let (version, found) = self.ask(&key, self.time).await?;
            // The lowest: what has changed between two answers is asked for again.
            let lowest = self.version.load(Ordering::Relaxed);
            if lowest == 0 || version < lowest {
                self.version.store(version, Ordering::Relaxed);
            }
            walk(&key, &found, &mut pairs);
        }
        pairs.retain(|key, _| is_meant(keys, key));
        Ok(pairs)
    }

    /// Polls what all these resources have in common.
    pub fn watch(&mut self, resources: &[Resource]) {
        self.path = common(resources);
    }

    /// Returns when the state has another version than what was read.
    pub async fn changed(&mut self) {
        loop {
            let version = self.version.load(Ordering::Relaxed);
            let query = if version > 0 { format!("&prev_version={version}") } else { String::new() };
            match self.ask(&format!("{}?wait=true{query}", self.path), POLL_TIME).await {
                Ok((now, _)) if now != version => {
                    self.version.store(0, Ordering::Relaxed);
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    plinth_companion::warn!("{error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Asks one node after the other; gives the version and what was found. What is not there is nothing.
    async fn ask(&self, path: &str, time: Duration) -> Result<(i64, serde_json::Value), String> {
        let mut errors = Vec::new();
        for _ in 0..self.nodes.len() {
            let number = self.current.load(Ordering::Relaxed) % self.nodes.len();
            let node = &self.nodes[number];
            let error = match tokio::time::timeout(time, self.ask_one(node, path)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => "no answer in time".to_owned(),
            };
            errors.push(format!("metad at {node}: {error}"));
            self.current.store(number + 1, Ordering::Relaxed);
        }
        Err(errors.join("; "))
    }

    async fn ask_one(&self, node: &Uri, path: &str) -> Result<(i64, serde_json::Value), String> {
        let socket = self.connect(node).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let authority = node.authority().map_or("", http::uri::Authority::as_str);
        let (plain, query) = path.split_once('?').unwrap_or((path, ""));
        let plain = percent_encoding::utf8_percent_encode(plain, PATH);
        let mut request = Request::get(format!("{plain}?{query}"))
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let version = answer.headers().get("x-metad-version").and_then(|value| value.to_str().ok()?.parse().ok());
        let version = version.unwrap_or(0);
        let result = match answer.status() {
            StatusCode::NOT_FOUND => Ok((version, serde_json::Value::Object(serde_json::Map::new()))),
            StatusCode::OK => {
                let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
                let body = body.map_err(|error| error.to_string())?.to_bytes();
                // What was read is not shown.
                serde_json::from_slice(&body).map(|found| (version, found)).map_err(|_| "no JSON".to_owned())
            }
            status => Err(format!("it answers {status}")),
        };
        driver.abort();
        result
    }

    async fn connect(&self, node: &Uri) -> Result<Box<dyn Socket>, String> {
        let (host, is_encrypted) = (node.host().unwrap_or_default(), node.scheme_str() == Some("https"));
        let port = node.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        if !is_encrypted {
            return Ok(Box::new(socket));
        }
        let mut settings = (*self.encryption.settings().map_err(|failure| failure.text)?).clone();
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = tokio_rustls::rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is no name of a server"))?;
        let connector = TlsConnector::from(std::sync::Arc::new(settings));
        let stream = connector.connect(name, socket).await.map_err(|error| error.to_string())?;
        Ok(Box::new(stream))
    }
}

/// What a path of a request cannot have in it.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'%');

/// A connected socket of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// Texts by path; of a list of objects with names, the names are the paths.
fn walk(path: &str, value: &serde_json::Value, pairs: &mut Pairs) {
    use serde_json::Value::{Array, Bool, Null, Number, Object, String};
    let below = |name: &str| format!("{}/{name}", path.trim_end_matches('/'));
    match value {
        Null => drop(pairs.insert(path.to_owned(), "null".to_owned())),
        Bool(is_so) => drop(pairs.insert(path.to_owned(), is_so.to_string())),
        Number(number) => drop(pairs.insert(path.to_owned(), number.to_string())),
        String(text) => drop(pairs.insert(path.to_owned(), text.clone())),
        Array(list) => {
            for (number, value) in list.iter().enumerate() {
                let name = value.get("name").and_then(|name| name.as_str()).map(str::to_owned);
                walk(&below(&name.unwrap_or_else(|| number.to_string())), value, pairs);
            }
        }
        Object(map) => map.iter().for_each(|(name, value)| walk(&below(name), value, pairs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_keys() {
        let json = serde_json::json!({"a": {"b": "1", "n": 2.5, "z": null}, "l": [{"name": "x", "v": true}, "y"]});
        let mut pairs = Pairs::new();
        walk("/self", &json, &mut pairs);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let wanted = [
            ("/self/a/b", "1"),
            ("/self/a/n", "2.5"),
            ("/self/a/z", "null"),
            ("/self/l/1", "y"),
            ("/self/l/x/name", "x"),
            ("/self/l/x/v", "true"),
        ];
        assert_eq!(pairs, wanted);
    }

    #[test]
    fn nodes_are_addresses() {
        let new = |node: &str| Metad::new(&[node.to_owned()], Encryption::default(), Vec::new(), PAUSE);
        assert!(new("127.0.0.1:9180").is_ok() && new("https://metad:443").is_ok());
        assert!(new("ftp://x").is_err() && new("http://").is_err());
    }
}
