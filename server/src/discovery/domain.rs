//! Founders by DNS: services `_etcd-server-ssl._tcp.DOMAIN` (encrypted) and `_etcd-server._tcp.DOMAIN` (clear), named and
//! put together as etcd does, so that all members arrive at the same ids.

use crate::config::Url;
use plinth_ctl::services::{Service, lookup};
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};

/// Services and the scheme of their servers.
const KINDS: [(&str, &str); 2] = [("etcd-server-ssl", "https"), ("etcd-server", "http")];

/// What the domain says, of its cluster behind `suffix` if it has several, as `--initial-cluster` has it. The other members have no names there and get numbers.
pub fn initial_cluster(
    (domain, suffix): (&str, &str),
    name: &str,
    advertised: &[Url],
    servers: &[SocketAddr],
) -> Result<String, String> {
    let suffix = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
    let own = own_addresses(advertised)?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (kind, scheme) in KINDS {
        let service = format!("{kind}{suffix}");
        let services = lookup(servers, &format!("_{service}._tcp.{domain}"));
        match services.map_err(|error| error.to_string()).and_then(|services| {
            let founders = founders(&service, scheme, name, &own, &services);
            founders.map_err(|error| error.to_string())
        }) {
            Ok(founders) => found.extend(founders),
            Err(error) => problems.push(format!("error querying DNS SRV records for _{service} {error}")),
        }
    }
    if found.is_empty() {
        return Err(problems.join("; "));
    }
    for problem in problems {
        tracing::warn!(error = problem, "failed to resolve during SRV discovery");
    }
    if !found.iter().any(|(founder, _)| founder == name) {
        return Err(format!("cannot find local etcd member {name:?} in SRV records"));
    }
    let pairs: Vec<String> = found.into_iter().map(|(founder, url)| format!("{founder}={url}")).collect();
    Ok(pairs.join(","))
}

/// Where this member says it listens, by address.
fn own_addresses(advertised: &[Url]) -> Result<HashMap<SocketAddr, &Url>, String> {
    let named = advertised.iter().filter(|url| !url.scheme().is_unix());
    named.map(|url| Ok((first_address(url.address())?, url))).collect()
}

fn first_address(place: &str) -> Result<SocketAddr, String> {
    let mut addresses = place.to_socket_addrs().map_err(|error| format!("lookup {place}: {error}"))?;
    addresses.next().ok_or_else(|| format!("lookup {place}: no such host"))
}

/// Names and URLs of a service's servers. One that has no address is left out.
fn founders(
    service: &str,
    scheme: &str,
    name: &str,
    own: &HashMap<SocketAddr, &Url>,
    services: &[Service],
) -> Result<Vec<(String, String)>, String> {
    let (mut founders, mut number, mut last) = (Vec::new(), 0, None);
    for server in services {
        let host = server.target.trim_end_matches('.');
        let place = format!("{host}:{}", server.port);
        let url = format!("{scheme}://{place}");
        let address = match first_address(&place) {
            Ok(address) => address,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let founder = match own.get(&address) {
            Some(peer) if peer.scheme().is_tls() != (scheme == "https") => {
                last = Some(format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {peer}"
                ));
                continue;
            }
            Some(_) => name.to_owned(),
            None => {
                number += 1;
                (number - 1).to_string()
            }
        };
        founders.push((founder, url));
    }
    match last {
        Some(error) if founders.is_empty() => Err(error),
        _ => Ok(founders),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_ctl::services::double::serve;

    #[test]
    fn a_domain_names_the_founders() {
        let records = &[
            ("_etcd-server._tcp.example.com", 2380, 0, "127.0.0.1"),
            ("_etcd-server._tcp.example.com", 2381, 1, "127.0.0.1"),
            ("_etcd-server-ssl-blue._tcp.example.com", 2382, 0, "127.0.0.1"),
        ];
        let servers = [serve(records, false)];
        let asked =
            |domain: &str, name: &str, own: &str| initial_cluster((domain, name), "me", &urls(&[own]), &servers);
        let found = asked("example.com", "", "http://127.0.0.1:2381");
        assert_eq!(found, Ok("0=http://127.0.0.1:2380,me=http://127.0.0.1:2381".to_owned()));
        let found = asked("example.com", "blue", "https://127.0.0.1:2382");
        assert_eq!(found, Ok("me=https://127.0.0.1:2382".to_owned()));
        let error = asked("example.com", "", "http://127.0.0.1:9").expect_err("not this member");
        assert_eq!(error, "cannot find local etcd member \"me\" in SRV records");
        let error = asked("none.com", "", "http://127.0.0.1:9").expect_err("nothing");
        assert!(error.starts_with("error querying DNS SRV records for _etcd-server-ssl lookup "), "{error}");
    }

    fn server(target: &str, port: u16) -> Service {
        Service { target: target.to_owned(), port, priority: 0, weight: 0 }
    }

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| Url::parse(text).expect("a URL")).collect()
    }

    #[test]
    fn the_own_entry_is_found_by_its_address_and_others_are_numbered() {
        let advertised = urls(&["http://127.0.0.1:2380"]);
        let own = own_addresses(&advertised).expect("an address");
        let services = [server("127.0.0.2.", 2380), server("127.0.0.1.", 2380), server("127.0.0.3.", 2380)];
        let found = founders("etcd-server", "http", "me", &own, &services).expect("founders");
        let expected =
            [("0", "http://127.0.0.2:2380"), ("me", "http://127.0.0.1:2380"), ("1", "http://127.0.0.3:2380")];
        assert_eq!(found, expected.map(|(name, url)| (name.to_owned(), url.to_owned())));
    }

    #[test]
    fn a_scheme_that_differs_is_told() {
        let advertised = urls(&["http://127.0.0.1:2380"]);
        let own = own_addresses(&advertised).expect("an address");
        let error = founders("etcd-server-ssl", "https", "me", &own, &[server("127.0.0.1.", 2380)]).expect_err("clear");
        assert_eq!(
            error,
            "bootstrap at https://127.0.0.1:2380 from DNS for etcd-server-ssl has scheme mismatch with expected peer \
             http://127.0.0.1:2380"
        );
    }

    #[test]
    fn who_has_no_address_is_left_out() {
        // A label that is too long, which nobody is asked about.
        let services = [server(&"x".repeat(64), 1), server("127.0.0.2.", 1)];
        let found = founders("etcd-server", "http", "me", &HashMap::new(), &services).expect("one founder");
        assert_eq!(found, [("0".to_owned(), "http://127.0.0.2:1".to_owned())]);
        founders("etcd-server", "http", "me", &HashMap::new(), &services[..1]).expect_err("nobody is left");
    }
}
