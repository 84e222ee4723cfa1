//! From an accepted socket to a stream of requests: in clear, encrypted, or whichever the first byte says.
//!
//! Invariants: a connection whose handshake is not complete has a deadline, and their number a bound; who is refused is
//! told of once, by the acceptor's callback.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::remote::{Peer, PeerAddress};
use super::stream::{Plain, Stream, read_some};
use crate::rt::TcpStream;
use crate::transport::tls::{self, Failure, HANDSHAKE_BYTE, Identity, ServerSettings, Source};
use crate::wait::within;

/// How long a handshake may take, from the first byte that is waited for.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Connections of one listener that have not completed their handshakes. Each takes some 10 KB.
const HANDSHAKES_MAX: usize = 4096;

/// Who was not let in, and why.
#[derive(Debug)]
pub struct Rejected {
    /// Where it came from.
    pub address: PeerAddress,
    /// The host it asked for, if it got that far.
    pub server_name: Option<String>,
    /// The addresses of its certificate, if that was accepted before something else was not.
    pub ip_addresses: Vec<IpAddr>,
    /// The names of that certificate.
    pub dns_names: Vec<String>,
    /// Why.
    pub failure: Failure,
}

/// How a listener takes connections that are encrypted.
#[derive(Clone)]
pub struct TlsAcceptor {
    /// The settings that count at each handshake.
    pub source: Source<ServerSettings>,
    /// Connections in clear are taken as well.
    pub allows_clear: bool,
    /// The common name of a verified certificate is the caller's name.
    pub names_callers: bool,
    /// A verified certificate must belong to the address that it comes from.
    pub checks_address: bool,
    /// Told of everyone who is not let in.
    pub on_rejected: Arc<dyn Fn(&Rejected) + Send + Sync>,
}

/// Takes connections as a listener should. Clones share the bound of handshakes.
#[derive(Clone, Default)]
pub struct Acceptor {
    tls: Option<TlsAcceptor>,
    handshakes: Arc<AtomicUsize>,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("is_tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// A connection that may speak.
pub(crate) struct Accepted {
    pub stream: Stream,
    pub peer: Peer,
    /// What was read of a connection in clear to find that it is one.
    pub first: Vec<u8>,
}

/// A place among those whose handshakes are not complete.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Acceptor {
    /// Takes connections in clear.
    pub fn clear() -> Acceptor {
        Acceptor::default()
    }

    /// Takes encrypted ones.
    pub fn tls(tls: TlsAcceptor) -> Acceptor {
        Acceptor { tls: Some(tls), handshakes: Arc::default() }
    }

    /// Makes a stream of a socket. `None` if it is not let in, of which the callback has heard.
    pub(crate) async fn accept(&self, socket: TcpStream, address: PeerAddress) -> Option<Accepted> {
        let socket = Plain(socket);
        let Some(tls) = &self.tls else {
            return Some(Accepted { stream: Stream::Plain(socket), peer: Peer::in_clear(address), first: Vec::new() });
        };
        let reject = |failure, identity: Identity| {
            let (ip_addresses, dns_names) =
                identity.certificate.map(|facts| (facts.ip_addresses, facts.dns_names)).unwrap_or_default();
            let server_name = identity.server_name;
            (tls.on_rejected)(&Rejected { address, server_name, ip_addresses, dns_names, failure });
        };
        let others = self.handshakes.fetch_add(1, Ordering::Relaxed);
        let _place = Place(Arc::clone(&self.handshakes));
        if others >= HANDSHAKES_MAX {
            reject(Failure::TooMany, Identity::default());
            return None;
        }
        let (mut socket, mut first) = (Stream::Plain(socket), Vec::new());
        if tls.allows_clear {
            match within(HANDSHAKE_TIME, first_bytes(&mut socket)).await.unwrap_or(Err(Failure::TimedOut)) {
                Ok(bytes) => first = bytes,
                Err(failure) => {
                    reject(failure, Identity::default());
                    return None;
                }
            }
            if first[0] != HANDSHAKE_BYTE {
                return Some(Accepted { stream: socket, peer: Peer::in_clear(address), first });
            }
        }
        let Stream::Plain(socket) = socket else { unreachable!("nothing was encrypted yet") };
        // In memory of its own: most of a task's life comes after it.
        match Box::pin(tls::accept(socket, first, &tls.source, HANDSHAKE_TIME)).await {
            Ok((stream, identity)) => {
                if let (true, Some(facts), PeerAddress::Tcp(from)) =
                    (tls.checks_address, &identity.certificate, address)
                {
                    let checked = within(HANDSHAKE_TIME, tls::check_address(facts, from.ip())).await;
                    if let Err(failure) = checked.unwrap_or(Err(Failure::TimedOut)) {
                        reject(failure, identity);
                        return None;
                    }
                }
                let name = identity.certificate.and_then(|facts| facts.common_name).filter(|_| tls.names_callers);
                let peer = Peer { address, common_name: name, is_encrypted: true };
                Some(Accepted { stream: Stream::Tls(Box::new(stream)), peer, first: Vec::new() })
            }
            Err((failure, identity)) => {
                reject(failure, identity);
                None
            }
        }
    }
}

/// What arrives first, at least a byte.
async fn first_bytes(socket: &mut Stream) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; 4096];
    let count = read_some(socket, &mut bytes).await?;
    bytes.truncate(count);
    if bytes.is_empty() { Err(Failure::Eof) } else { Ok(bytes) }
}
