//! Endpoints by DNS (`--discovery-srv`): what a domain says where its members are.

use crate::failure::{Exit, Failure};
use crate::services::{self, Service};
use std::net::SocketAddr;

/// What the flags say.
#[derive(Clone, Copy, Debug)]
pub struct Discovery<'a> {
    pub domain: &'a str,
    /// Behind the name of the service, if there are several.
    pub suffix: &'a str,
    /// Endpoints in clear are taken, too.
    pub is_insecure: bool,
}

/// An endpoint that the domain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// It has to be spoken to encrypted.
    pub is_encrypted: bool,
    pub service: Service,
}

impl Found {
    /// As `--endpoints` has it.
    pub fn url(&self) -> String {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("{}:{}", self.service.target, self.service.port)
    }
}

impl Discovery<'_> {
    /// The URLs of the endpoints; those in clear are left out, and the user is told, unless they are wanted.
    ///
    /// # Errors
    /// If there is neither a record of encrypted nor of other ones.
    pub fn endpoints(&self, servers: &[SocketAddr]) -> Result<Vec<String>, Failure> {
        let mut urls = Vec::new();
        for found in self.services(servers)? {
            if found.is_encrypted || self.is_insecure {
                urls.push(found.url());
            } else {
                eprintln!("ignoring discovered insecure endpoint {:?}", found.url());
            }
        }
        Ok(urls)
    }

    /// All endpoints, encrypted ones first.
    ///
    /// # Errors
    /// If there is neither a record of encrypted nor of other ones.
    pub fn services(&self, servers: &[SocketAddr]) -> Result<Vec<Found>, Failure> {
        let find = |kind: &str| {
            let suffix = if self.suffix.is_empty() { String::new() } else { format!("-{}", self.suffix) };
            services::lookup(servers, &format!("_{kind}{suffix}._tcp.{}", self.domain))
        };
        let (encrypted, clear) = (find("etcd-client-ssl"), find("etcd-client"));
        if let (Err(encrypted), Err(clear)) = (&encrypted, &clear) {
            return Err(Failure::new(Exit::Error, format!("dns lookup errors: {encrypted} and {clear}")));
        }
        let found = |is_encrypted| move |service| Found { is_encrypted, service };
        let encrypted = encrypted.into_iter().flatten().map(found(true));
        Ok(encrypted.chain(clear.into_iter().flatten().map(found(false))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::double::serve;

    #[test]
    fn records_become_endpoints() {
        let servers = [serve(
            &[
                ("_etcd-client-ssl._tcp.example.com", 2379, 0, "a.example.com"),
                ("_etcd-client._tcp.example.com", 2380, 0, "b.example.com"),
                ("_etcd-client-ssl-blue._tcp.example.com", 1, 0, "c.example.com"),
                ("_etcd-client._tcp.clear.com", 2, 0, "d.example.com"),
            ],
            false,
        )];
        let found = |domain, suffix, is_insecure| Discovery { domain, suffix, is_insecure }.endpoints(&servers);
        let (a, b) = ("https://a.example.com.:2379", "http://b.example.com.:2380");
        assert_eq!(found("example.com", "", true).expect("found"), [a, b]);
        assert_eq!(found("example.com", "", false).expect("found"), [a]);
        assert_eq!(found("example.com", "blue", true).expect("found"), ["https://c.example.com.:1"]);
        assert_eq!(found("clear.com", "", false).expect("found").len(), 0, "the flag --endpoints counts then");
        let text = found("none.com", "", true).expect_err("nothing").text;
        let lookup = |kind: &str| format!("lookup _{kind}._tcp.none.com on {}: no such host", servers[0]);
        assert_eq!(text, format!("dns lookup errors: {} and {}", lookup("etcd-client-ssl"), lookup("etcd-client")));
    }
}
