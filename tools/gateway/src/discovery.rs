//! Endpoints by DNS (`--discovery-srv`). Unless endpoints in clear are wanted, each has to prove the domain's name before it
//! is used: the gateway itself never looks into what it carries (GHSA-wr2v-9rpq-c35q).

use crate::pool::Endpoint;
use clap::{ArgAction, Args};
use plinth_companion::etcd_log as log;
use plinth_ctl::discovery::{Discovery, Found};
use plinth_ctl::quote;
use plinth_ctl::tls::{Encryption, Place, socket};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// For an endpoint to prove its name.
const PROOF: Duration = Duration::from_secs(5);

/// What the flags say.
#[derive(Args, Debug)]
pub struct Domain {
    /// DNS domain used to bootstrap initial cluster
    #[arg(long, default_value = "")]
    discovery_srv: String,
    /// service name to query when using DNS discovery
    #[arg(long, default_value = "")]
    discovery_srv_name: String,
    /// accept insecure SRV records
    #[arg(
        long, action = ArgAction::Set, value_parser = quote::parse_bool,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false"
    )]
    insecure_discovery: bool,
    /// path to the client server TLS CA file for verifying the discovered endpoints when discovery-srv is provided.
    #[arg(long, default_value = "")]
    trusted_ca_file: String,
}

impl Domain {
    /// Endpoints with the priorities and weights of their records; none if there is no domain to ask.
    ///
    /// # Errors
    /// The domain names none, or the file of authorities cannot be read.
    pub async fn endpoints(&self, servers: &[SocketAddr]) -> Result<Vec<Endpoint>, String> {
        if self.discovery_srv.is_empty() {
            return Ok(Vec::new());
        }
        let discovery = Discovery {
            domain: &self.discovery_srv,
            suffix: &self.discovery_srv_name,
            is_insecure: self.insecure_discovery,
        };
        let found = discovery.services(servers).map_err(|failure| failure.text)?;
        let urls: Vec<String> = found.iter().map(Found::url).collect();
        let told = [("srv-server", self.discovery_srv.as_str().into()), ("endpoints", urls.into())];
        log::line("info", "discovered cluster from SRV", &told);
        let used = if self.insecure_discovery { found } else { self.proven(found).await? };
        let endpoint = |found: Found| Endpoint {
            address: found.address(),
            priority: found.service.priority,
            weight: found.service.weight,
        };
        Ok(used.into_iter().map(endpoint).collect())
    }

    async fn proven(&self, found: Vec<Found>) -> Result<Vec<Found>, String> {
        let cacert = (!self.trusted_ca_file.is_empty()).then(|| self.trusted_ca_file.clone());
        let encryption = Encryption { cacert, is_wanted: true, ..Encryption::default() };
        let settings = encryption.settings().map_err(|failure| failure.text)?;
        let mut proven = Vec::new();
        for found in found {
            let failure = if found.is_encrypted {
                let place = Place::Tcp(found.address());
                let dialled = socket(&place, Some(settings.clone()), Some(&self.discovery_srv));
                match timeout(PROOF, dialled).await {
                    Ok(Ok(_)) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("i/o timeout".to_owned()),
                }
            } else {
                Some("it is insecure".to_owned())
            };
            match failure {
                None => proven.push(found),
                Some(error) => {
                    let told = [("endpoint", found.url().into()), ("error", error.into())];
                    log::line("warn", "failed to validate discovered endpoints", &told);
                }
            }
        }
        Ok(proven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_ctl::services::double::serve;

    fn domain(name: &str, insecure_discovery: bool) -> Domain {
        let (discovery_srv, none) = (name.to_owned(), String::new());
        Domain { discovery_srv, discovery_srv_name: none.clone(), insecure_discovery, trusted_ca_file: none }
    }

    #[tokio::test]
    async fn records_become_endpoints_with_their_priorities() {
        let records = &[
            ("_etcd-client._tcp.example.com", 2379, 7, "127.0.0.1"),
            ("_etcd-client-ssl._tcp.example.com", 1, 3, "127.0.0.2"),
        ];
        let servers = [serve(records, false)];
        let found = domain("example.com", true).endpoints(&servers).await.expect("found");
        let told: Vec<_> = found.iter().map(|one| (one.address.as_str(), one.priority)).collect();
        assert_eq!(told, [("127.0.0.2.:1", 3), ("127.0.0.1.:2379", 7)]);
        assert_eq!(domain("", true).endpoints(&servers).await, Ok(Vec::new()), "no domain is asked");
        let error = domain("none.com", true).endpoints(&servers).await.expect_err("nothing");
        assert!(error.contains("no such host"), "{error}");
    }

    #[tokio::test]
    async fn ghsa_wr2v_9rpq_c35q_who_does_not_prove_the_name_is_left_out() {
        let records = &[
            ("_etcd-client._tcp.example.com", 2379, 0, "127.0.0.1"),
            ("_etcd-client-ssl._tcp.example.com", 1, 0, "127.0.0.1"),
        ];
        let servers = [serve(records, false)];
        let found = domain("example.com", false).endpoints(&servers).await;
        assert_eq!(found, Ok(Vec::new()), "one in clear, and one where nobody listens");
    }
}
