//! Listening sockets of one reactor.

use super::part;
use crate::answer::status;
use crate::config::{Config, Url};
use crate::logging::events;
use crate::tls::{Carries, Security};
use plinth_net::grpc::{Service, Tally};
use plinth_net::http1::Limits;
use plinth_net::rt;
use plinth_net::server::{ListenOptions, Listener, ServerOptions, Shutdown, serve};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// Whether several reactors listen on the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This one does alone.
    Alone,
    /// Others will too.
    Leads,
    /// Others do already. Unix sockets have one listener only: connections through them are the first reactor's.
    Joins,
}

/// What the servers of a reactor have in common.
pub struct Servers<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// TLS.
    pub security: &'a Security,
    /// Ends them.
    pub shutdown: &'a Shutdown,
    /// Where they count.
    pub tally: &'a Arc<Tally>,
}

impl Servers<'_> {
    /// Binds the given URLs and starts serving what they carry. Those of one address share its socket.
    pub fn start(
        &self,
        urls: &[Url],
        carries: Carries,
        shared: Sharing,
        service: Rc<dyn Service>,
    ) -> Result<Vec<rt::Task<()>>, String> {
        let mut servers = Vec::new();
        for (number, url) in urls.iter().enumerate() {
            let is_done = urls[..number].iter().any(|earlier| earlier.address() == url.address());
            if is_done || shared == Sharing::Joins && url.scheme().is_unix() {
                continue;
            }
            let together: Vec<&Url> = urls.iter().filter(|other| other.address() == url.address()).collect();
            let options = ServerOptions {
                acceptor: self.security.client_acceptor(&together, carries),
                ..server_options(self.config, self.tally)
            };
            let listener = bind(url, self.config, shared)?;
            servers.push(rt::spawn(serve(listener, service.clone(), options, self.shutdown.clone())));
        }
        Ok(servers)
    }
}

/// What listeners for clients carry: gRPC alone if HTTP has listeners of its own.
pub fn carries(config: &Config) -> Carries {
    if config.addresses.listen_client_http.is_empty() { Carries::All } else { Carries::Grpc }
}

/// Listens on a URL's address. Errors are worded as etcd's.
pub fn bind(url: &Url, config: &Config, shared: Sharing) -> Result<Listener, String> {
    let network = if url.scheme().is_unix() { "unix" } else { "tcp" };
    let failed =
        |error: io::Error| format!("listen {network} {}: bind: {}", url.address(), crate::config::reason(&error));
    if url.scheme().is_unix() {
        return Listener::bind_unix(Path::new(url.address())).map_err(failed);
    }
    let reuse_port = shared != Sharing::Alone || config.addresses.reuse_port;
    let options = ListenOptions { reuse_port, ..ListenOptions::default() };
    let address = resolve(url.address()).map_err(failed)?;
    Listener::bind(address, options).map_err(failed)
}

/// Says which addresses are served.
pub fn announce(urls: &[Url], traffic: &str) {
    for url in urls {
        let announce = if url.scheme().is_tls() { events::serving_securely } else { events::serving_insecurely };
        announce(traffic, url.address());
    }
}

fn server_options(config: &Config, tally: &Arc<Tally>) -> ServerOptions {
    let limits = &config.limits;
    ServerOptions {
        max_recv_message_bytes: limits.message_bytes_max(),
        max_concurrent_streams: limits.concurrent_streams_max,
        keepalive_min_time: limits.keepalive_min_time,
        keepalive_interval: limits.keepalive_interval.unwrap_or_default(),
        keepalive_timeout: limits.keepalive_timeout.unwrap_or_default(),
        drain_timeout: part::DRAIN,
        overload: status::TOO_MANY_REQUESTS,
        abandoned: status::STOPPED,
        farewell: Some(status::STOPPED),
        tally: Some(tally.clone()),
        http: Limits {
            // A third more than the message, in base64, and what is around it.
            body_bytes_max: Limits::BODY_BYTES_MAX_DEFAULT.max(2 * limits.message_bytes_max()),
            ..Limits::default()
        },
        ..ServerOptions::default()
    }
}

/// `localhost` means IPv4 first, as for etcd's clients.
fn resolve(address: &str) -> io::Result<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.into_iter().next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}
