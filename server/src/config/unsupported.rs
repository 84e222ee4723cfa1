//! What is understood but not built yet. A feature that arrives removes its line here and nothing else.
//!
//! A setting is refused if ignoring it would break a promise its name makes (encryption, discovery, other members),
//! and only warned about if the server is as correct without it.

use super::notice::Notice;
use super::settings::{Config, LogLevel, Tls};
use super::url::Url;

enum Consequence {
    Refuse,
    Warn,
}

struct Missing {
    /// What is missing, as the subject of a sentence.
    what: &'static str,
    consequence: Consequence,
    /// Whether the configuration asks for it.
    asked: fn(&Config) -> bool,
}

use Consequence::{Refuse, Warn};

/// The list.
const MISSING: &[Missing] = &[
    Missing { what: "TLS towards clients", consequence: Refuse, asked: |c| wants_tls(&c.client_tls, client_urls(c)) },
    Missing { what: "TLS towards peers", consequence: Refuse, asked: |c| wants_tls(&c.peer_tls, peer_urls(c)) },
    Missing { what: "Listening on Unix sockets", consequence: Refuse, asked: listens_on_unix_socket },
    Missing { what: "JWT authentication (--auth-token)", consequence: Refuse, asked: |c| c.auth.token != "simple" },
    Missing { what: "Bootstrap by discovery", consequence: Refuse, asked: wants_discovery },
    Missing { what: "--force-new-cluster", consequence: Refuse, asked: |c| c.cluster.force_new },
    Missing { what: "Distributed tracing", consequence: Refuse, asked: |c| c.monitoring.tracing },
    Missing { what: "--memory-mlock", consequence: Warn, asked: |c| c.memory_mlock },
    Missing { what: "--enable-pprof", consequence: Warn, asked: wants_profiles },
];

/// Applies the list. An error names everything that has to be taken out of the configuration.
pub(super) fn check(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let mut refused = Vec::new();
    for missing in MISSING.iter().filter(|missing| (missing.asked)(config)) {
        match missing.consequence {
            Refuse => refused.push(missing.what),
            Warn => notices.push(Notice::warn(format!("{} is not supported yet - ignoring", missing.what))),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(format!("not supported yet by this version: {}", refused.join("; "))) }
}

fn client_urls(config: &Config) -> impl Iterator<Item = &Url> {
    let addresses = &config.addresses;
    addresses
        .listen_client
        .iter()
        .chain(&addresses.listen_client_http)
        .chain(&addresses.listen_metrics)
        .chain(&addresses.advertise_client)
}

fn peer_urls(config: &Config) -> impl Iterator<Item = &Url> {
    config.addresses.listen_peer.iter().chain(&config.addresses.advertise_peer)
}

fn wants_tls<'a>(tls: &Tls, mut urls: impl Iterator<Item = &'a Url>) -> bool {
    *tls != Tls::default() || urls.any(|url| url.scheme().is_tls())
}

fn listens_on_unix_socket(config: &Config) -> bool {
    client_urls(config).chain(peer_urls(config)).any(|url| url.scheme().is_unix())
}

fn wants_discovery(config: &Config) -> bool {
    let discovery = &config.cluster.discovery;
    !discovery.endpoints.is_empty() || !discovery.srv_domain.is_empty()
}

/// By its flag; log level debug implies it without asking for it.
fn wants_profiles(config: &Config) -> bool {
    config.http.pprof && config.log.level != LogLevel::Debug
}
