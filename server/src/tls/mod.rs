//! Certificates: which files make the settings of TLS, for clients and for the other members.
//!
//! Files are looked at before every handshake, by the threads that do them, so that certificates are exchanged without
//! a restart. A pair that cannot be used leaves the old one in place; a list of revoked certificates that cannot be
//! read lets nobody in.
//!
//! - `live`: something made of files, made anew when they change; `side`: the settings of one side; `auto`: certificates
//!   of the server's own making

mod auto;
mod live;
mod side;

use crate::config::{Config, Tls, Url};
use crate::logging::events;
use crate::sys;
use plinth_net::transport::tls::ClientSettings;
use plinth_net::transport::{Acceptor, Connector, TlsAcceptor};
use side::{ClientSide, ServerSide};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a listener carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// gRPC alone.
    Grpc,
    /// HTTP of both versions, and gRPC.
    All,
    /// Metrics. Certificates shown there must belong to the addresses that they come from.
    Metrics,
}

/// TLS of this process. Shared by its reactors.
#[derive(Clone)]
pub struct Security {
    clients: Option<Arc<ServerSide>>,
    members: Option<Arc<ServerSide>>,
    dialer: Arc<ClientSide>,
    checks_members: bool,
}

impl Security {
    /// Reads what the configuration names, as far as some URL asks for it, and makes what it asks to be made. Says how
    /// connections will be secured.
    pub fn new(config: &Config) -> Result<Security, String> {
        let (addresses, suites) = (&config.addresses, &config.tls.cipher_suites);
        let for_clients = [
            &addresses.listen_client,
            &addresses.listen_client_http,
            &addresses.listen_metrics,
            &addresses.listen_console,
        ];
        let client_urls: Vec<&Url> = for_clients.into_iter().flatten().collect();
        let member_urls: Vec<&Url> = addresses.listen_peer.iter().collect();
        let client_tls = complete(config, "client", &config.client_tls, &client_urls[..])?;
        let member_tls = complete(config, "peer", &config.peer_tls, &member_urls[..])?;
        let open = |side, tls: &Tls, urls: &[&Url]| {
            if !urls.iter().any(|url| url.scheme().is_tls()) {
                return Ok(None);
            }
            events::starting_with_tls(side, tls, suites);
            ServerSide::open(tls, &config.tls).map(|side| Some(Arc::new(side)))
        };
        let clients = open("client", &client_tls, &client_urls)?;
        let members = open("peer", &member_tls, &member_urls)?;
        if clients.is_some() || members.is_some() {
            sys::leave_no_core_dump();
        }
        Ok(Security {
            clients,
            members,
            dialer: Arc::new(ClientSide::new(&member_tls, &config.tls)?),
            checks_members: !member_tls.skip_san_verification,
        })
    }

    /// How many days the certificates that are shown are still valid, by whom they are shown to.
    pub fn days_left(&self) -> Vec<(&'static str, f64)> {
        let days = |side: &ServerSide| (side.ends() - side::now()) as f64 / (24 * 60 * 60) as f64;
        let sides = [("client", &self.clients), ("peer", &self.members)];
        sides.into_iter().filter_map(|(name, side)| Some((name, days(side.as_ref()?)))).collect()
    }

    /// How connections at the address of `urls` are taken: they share a socket, and are in clear, encrypted, or either.
    pub fn client_acceptor(&self, urls: &[&Url], carries: Carries) -> Acceptor {
        let is_tls = |url: &&Url| url.scheme().is_tls();
        let Some(side) = self.clients.as_ref().filter(|_| urls.iter().any(is_tls)) else { return Acceptor::clear() };
        Acceptor::tls(TlsAcceptor {
            source: side.source(carries),
            allows_clear: !urls.iter().all(is_tls),
            names_callers: side.names_callers(),
            checks_address: carries == Carries::Metrics,
            on_rejected: Arc::new(|rejected| events::rejected("client", rejected)),
        })
    }

    /// How the other members' connections at `url` are taken.
    pub fn member_acceptor(&self, url: &Url) -> Acceptor {
        let Some(side) = self.members.as_ref().filter(|_| url.scheme().is_tls()) else { return Acceptor::clear() };
        Acceptor::tls(TlsAcceptor {
            source: side.source(Carries::All),
            allows_clear: false,
            names_callers: false,
            checks_address: self.checks_members,
            on_rejected: Arc::new(|rejected| events::rejected("peer", rejected)),
        })
    }

    /// Dials the other members.
    pub fn connector(&self) -> Connector {
        Connector::with_tls(self.dialer.source())
    }

    /// The settings with which other members are dialed, as their files are now. Reads files.
    pub fn dialing(&self) -> Result<Arc<ClientSettings>, String> {
        self.dialer.current()
    }
}

/// A certificate of the process's own making for one host, and its key: kept in the folder and used again.
///
/// # Errors
/// If it cannot be made or written.
pub fn self_made(folder: &Path, host: &str, years: u64) -> Result<(PathBuf, PathBuf), String> {
    auto::ensure(folder, std::iter::once(host), years).map(|made| (made.cert, made.key))
}

/// The settings of a side, with certificates made if it is asked to.
fn complete(config: &Config, side: &str, tls: &Tls, urls: &[&Url]) -> Result<Tls, String> {
    if !tls.auto || tls.cert_file.is_some() {
        return Ok(Tls { auto: false, ..tls.clone() });
    }
    let folder = config.data_dir.join("fixtures").join(side);
    let hosts = urls.iter().filter_map(|url| url.host_and_port()).map(|(host, _)| host);
    let made = auto::ensure(&folder, hosts, config.tls.self_signed_years)?;
    Ok(Tls { cert_file: Some(made.cert), key_file: Some(made.key), ..tls.clone() })
}
