//! Who a client is: its address, the address that a trusted proxy has seen, or the name in its certificate.

use http::{HeaderMap, HeaderName};
use plinth_companion::listen::Peer;
use std::net::IpAddr;

/// Addresses with the same first bits: `10.0.0.0/8`, or one alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads one.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Network, String> {
        let wrong = || format!("neither an address nor a network: {text:?}");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), |bits| bits.trim().parse().map_err(|_| wrong()))?;
        if bits > bits_max { Err(wrong()) } else { Ok(Network { address, bits }) }
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// How clients are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By address; those of these proxies say whose request they pass on.
    Address { proxies: Vec<Network> },
    /// By the common name of the certificate that each has to show.
    Certificate,
}

impl Identity {
    /// Whether a client can be called so.
    pub fn may_be(&self, name: &str) -> bool {
        match self {
            Identity::Address { .. } => name.parse::<IpAddr>().is_ok(),
            Identity::Certificate => !name.is_empty() && !name.contains('/'),
        }
    }

    /// What the first level of a mapping must be.
    pub fn kind(&self) -> &'static str {
        match self {
            Identity::Address { .. } => "ip",
            Identity::Certificate => "a name without slashes",
        }
    }

    /// Who sent a request.
    ///
    /// # Errors
    /// In words for the client, if that cannot be believed.
    pub fn of(&self, peer: &Peer, headers: &HeaderMap) -> Result<String, String> {
        let proxies = match self {
            Identity::Address { proxies } => proxies,
            Identity::Certificate => {
                let name = peer.certificate.as_ref().and_then(|facts| facts.common_name.clone());
                let name = name.filter(|name| self.may_be(name));
                return name.ok_or_else(|| "no certificate with a common name was shown".to_owned());
            }
        };
        let is_proxy = |address| proxies.iter().any(|network| network.contains(address));
        if proxies.is_empty() || !headers.contains_key("x-forwarded-for") {
            return Ok(peer.address.to_string());
        }
        if !is_proxy(peer.address) {
            return Err(format!("X-Forwarded-For is not taken from {}", peer.address));
        }
        // Each proxy adds at the end whom it has seen: the last one that is no proxy of ours is the client.
        let passed = headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or("?"));
        let passed: Vec<&str> = passed.flat_map(|value| value.split(',')).map(str::trim).collect();
        for text in passed.iter().rev() {
            let address: IpAddr = text.parse().map_err(|_| "X-Forwarded-For is no list of addresses".to_owned())?;
            let address = address.to_canonical();
            if !is_proxy(address) {
                return Ok(address.to_string());
            }
        }
        passed.first().map_or_else(|| Ok(peer.address.to_string()), |first| Ok((*first).to_owned()))
    }
}

/// A header that must be there, so that no page can make a browser ask: `NAME` or `NAME: VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    name: HeaderName,
    value: Option<String>,
}

impl Demand {
    /// Reads one.
    ///
    /// # Errors
    /// If it cannot be the name of a header.
    pub fn parse(text: &str) -> Result<Demand, String> {
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value.trim())));
        let name = name.trim().parse().map_err(|_| format!("not the name of a header: {name:?}"))?;
        Ok(Demand { name, value: value.map(str::to_owned) })
    }

    /// Whether a request has it.
    pub fn is_met(&self, headers: &HeaderMap) -> bool {
        let is_wanted = |value: &http::HeaderValue| self.value.as_deref().is_none_or(|wanted| value == wanted);
        headers.get_all(&self.name).iter().any(is_wanted)
    }

    /// What to tell a client that has left it out.
    pub fn refusal(&self) -> String {
        format!("the header {} is missing", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::transport::tls::CertificateFacts;
    use std::sync::Arc;

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().expect("an address"), certificate: None }
    }

    fn headers(forwarded: &[&str]) -> HeaderMap {
        forwarded
            .iter()
            .map(|value| (HeaderName::from_static("x-forwarded-for"), value.parse().expect("text")))
            .collect()
    }

    #[test]
    fn networks() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).expect("a network").contains(address.parse().expect("an address"))
        };
        assert!(contains("10.0.0.0/8", "10.255.1.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1", "10.0.0.2"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "fe80::1"));
        for wrong in ["", "10.0.0.0/33", "host", "10.0.0.0/x"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_proxies_say_whose_request_it_is() {
        let identity = Identity::Address { proxies: vec![Network::parse("10.0.0.0/8").expect("a network")] };
        let of = |address: &str, forwarded: &[&str]| identity.of(&peer(address), &headers(forwarded));
        assert_eq!(of("192.168.1.9", &[]), Ok("192.168.1.9".to_owned()));
        assert!(of("192.168.1.9", &["1.1.1.1"]).is_err(), "spoofed");
        assert_eq!(of("10.0.0.1", &["192.168.1.9"]), Ok("192.168.1.9".to_owned()));
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 192.168.1.9", "10.0.0.7"]), Ok("192.168.1.9".to_owned()));
        assert_eq!(of("10.0.0.1", &["10.0.0.9"]), Ok("10.0.0.9".to_owned()));
        assert!(of("10.0.0.1", &["a b"]).is_err());
        let nobody = Identity::Address { proxies: Vec::new() };
        assert_eq!(nobody.of(&peer("10.0.0.1"), &headers(&["1.1.1.1"])), Ok("10.0.0.1".to_owned()), "not looked at");
    }

    #[test]
    fn certificates_name_their_owner() {
        let mut peer = peer("10.0.0.1");
        assert!(Identity::Certificate.of(&peer, &HeaderMap::new()).is_err());
        for (name, wanted) in [(Some("node-1"), Some("node-1")), (Some("a/b"), None), (None, None)] {
            let facts = CertificateFacts {
                common_name: name.map(str::to_owned),
                dns_names: Vec::new(),
                ip_addresses: Vec::new(),
                serial: Vec::new(),
                not_before: 0,
                not_after: 0,
                is_for_clients: true,
                is_for_servers: false,
            };
            peer.certificate = Some(Arc::new(facts));
            assert_eq!(Identity::Certificate.of(&peer, &HeaderMap::new()).ok().as_deref(), wanted);
        }
    }

    #[test]
    fn a_header_may_be_demanded() {
        let demand = Demand::parse("X-Metad-Client: yes").expect("a header");
        let with = |value: &str| {
            [(HeaderName::from_static("x-metad-client"), value.parse().expect("text"))].into_iter().collect()
        };
        assert!(demand.is_met(&with("yes")) && !demand.is_met(&with("no")) && !demand.is_met(&HeaderMap::new()));
        assert!(!Demand::parse("X-Any").expect("a header").is_met(&headers(&[])));
        assert!(Demand::parse("no name").is_err());
    }
}
