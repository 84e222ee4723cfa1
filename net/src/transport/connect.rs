//! Opens connections to others, by the name of a host.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rt::TcpStream;

use super::resolve::Resolver;
use super::stream::{Plain, Stream};
use crate::sys;
use crate::transport::tls::{self, ClientSettings, Source};
use crate::wait::within;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`
    pub address: String,
    /// Whether TLS is spoken there.
    pub is_tls: bool,
}

impl Target {
    /// Reads `https://host:port`, `http://host:port`, or `host:port`, which is as `http`.
    pub fn parse(text: &str) -> Target {
        let (is_tls, address) = match text.split_once("://") {
            Some((scheme, address)) => (scheme.eq_ignore_ascii_case("https"), address),
            None => (false, text),
        };
        Target { address: address.to_owned(), is_tls }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Target {
    /// The host alone, which is what its certificate has to be for.
    fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host)
    }
}

/// Opens connections.
#[derive(Clone, Default)]
pub struct Connector {
    tls: Option<Source<ClientSettings>>,
}

impl Connector {
    /// One that speaks no TLS.
    pub fn clear() -> Connector {
        Connector::default()
    }

    /// One that speaks TLS where a target asks for it, with the settings that `source` yields at each connection.
    pub fn with_tls(source: Source<ClientSettings>) -> Connector {
        Connector { tls: Some(source) }
    }

    /// Resolves the name of a target and connects to the first of its addresses that answers, all within `limit`.
    pub async fn connect(&self, target: &Target, limit: Duration) -> io::Result<Stream> {
        let deadline = Instant::now() + limit;
        let resolved = within(limit, async { Resolver::new().resolve(&target.address).await }).await;
        let addresses = resolved.unwrap_or_else(|| Err(timed_out("the name was not resolved in time")))?;
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.connect_to(target, address, left).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Connects to one address of a target, which was resolved already.
    pub async fn connect_to(&self, target: &Target, address: SocketAddr, limit: Duration) -> io::Result<Stream> {
        if limit.is_zero() {
            return Err(timed_out("the peer did not answer in time"));
        }
        let source = match (target.is_tls, &self.tls) {
            (false, _) => None,
            (true, Some(source)) => Some(source),
            (true, None) => return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS is not configured")),
        };
        let deadline = Instant::now() + limit;
        let stream = TcpStream::connect_timeout(address, limit).await?;
        sys::prepare_peer(&stream)?;
        let Some(source) = source else { return Ok(Stream::Plain(Plain(stream))) };
        let left = deadline.saturating_duration_since(Instant::now());
        let stream = tls::connect(Plain(stream), target.host(), source, left).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// An error of this kind with words instead of "Resource temporarily unavailable".
pub(crate) fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, address, is_tls) in [
            ("http://a:1", "a:1", false),
            ("https://[::1]:2380", "[::1]:2380", true),
            ("HTTPS://a:1", "a:1", true),
            ("127.0.0.1:1", "127.0.0.1:1", false),
        ] {
            assert_eq!(Target::parse(text), Target { address: address.to_owned(), is_tls });
        }
    }

    #[test]
    fn a_name_is_connected_to() {
        crate::rt::block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let target = Target::parse(&format!("http://localhost:{}", listener.local_addr().unwrap().port()));
            assert!(Connector::clear().connect(&target, Duration::from_secs(5)).await.is_ok());
            drop(listener);
            let refused = Connector::clear().connect(&target, Duration::from_secs(5)).await;
            assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
        });
    }
}
