//! Defaults that depend on other settings and on the machine.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::notice::Notice;
use super::settings::{Config, DEFAULT_NAME};
use super::url::Url;

const DEFAULT_PEER_URL: &str = "http://localhost:2380";
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";

/// Fills in what was left to default: advertised addresses of a member that listens everywhere get the machine's
/// address, and a member with a name of its own is its own initial cluster.
///
/// The order is etcd's and shows: a member that keeps the name `default` keeps the initial cluster at localhost.
pub(super) fn complete(config: &mut Config, default_host: Option<IpAddr>, notices: &mut Vec<Notice>) {
    let addresses = &mut config.addresses;
    let peer_changed =
        advertise_default_host(&addresses.listen_peer, &mut addresses.advertise_peer, DEFAULT_PEER_URL, default_host);
    if config.name != DEFAULT_NAME && config.cluster.initial == format!("{DEFAULT_NAME}={DEFAULT_PEER_URL}") {
        let members: Vec<String> =
            addresses.advertise_peer.iter().map(|url| format!("{}={url}", config.name)).collect();
        config.cluster.initial = members.join(",");
    }
    let client_changed = advertise_default_host(
        &addresses.listen_client,
        &mut addresses.advertise_client,
        DEFAULT_CLIENT_URL,
        default_host,
    );
    if let Some(host) = default_host.filter(|_| peer_changed || client_changed) {
        notices.push(Notice::info("detected default host for advertise").with("host", host.to_string()));
    }
}

fn advertise_default_host(listen: &[Url], advertise: &mut [Url], default: &str, host: Option<IpAddr>) -> bool {
    let (Some(host), Some(listen)) = (host, listen.first()) else { return false };
    let listens_everywhere = matches!(listen.host_and_port(), Some(("0.0.0.0", _)));
    match advertise {
        [url] if url.as_str() == default && listens_everywhere => {
            *url = listen.with_host(host);
            true
        }
        _ => false,
    }
}

/// The address this machine uses towards its default route.
///
/// Connecting a datagram socket sends nothing; it only asks the routing table which source address it would use. The
/// destinations are of the blocks reserved for documentation, so that no specific route covers them.
pub(super) fn default_host() -> Option<IpAddr> {
    let source = |bind: &str, towards: &str| {
        let socket = UdpSocket::bind(bind.parse::<SocketAddr>().ok()?).ok()?;
        socket.connect(towards.parse::<SocketAddr>().ok()?).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
    };
    source("0.0.0.0:0", "192.0.2.1:9").or_else(|| source("[::]:0", "[2001:db8::1]:9"))
}
