//! What a certificate says about its owner, and certificates and keys as files have them.

use std::net::{IpAddr, Ipv6Addr};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The part of a certificate that rules are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The common name of the subject, if it has one that is not empty.
    pub common_name: Option<String>,
    /// Host names it is valid for.
    pub dns_names: Vec<String>,
    /// Addresses it is valid for.
    pub ip_addresses: Vec<IpAddr>,
    /// Its number, big-endian, without zeros in front.
    pub serial: Vec<u8>,
    /// The first second of its life, in seconds since 1970.
    pub not_before: i64,
    /// The last second of its life, in seconds since 1970.
    pub not_after: i64,
    /// Whether its owner may show it as a client: it says so, or nothing about its purpose.
    pub is_for_clients: bool,
    /// Whether its owner may show it as a server.
    pub is_for_servers: bool,
}

impl CertificateFacts {
    /// Reads a certificate in DER. `None` if it is none.
    pub fn read(der: &[u8]) -> Option<CertificateFacts> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut dns_names, mut ip_addresses) = (Vec::new(), Vec::new());
        if let Some(names) = certificate.subject_alternative_name().ok()? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => ip_addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let purpose = certificate.extended_key_usage().ok()?;
        let is_for = |named: fn(&x509_parser::extensions::ExtendedKeyUsage<'_>) -> bool| {
            purpose.as_ref().is_none_or(|purpose| purpose.value.any || named(purpose.value))
        };
        // Of several names the last one counts, as in Go.
        let common_name = certificate.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
        Some(CertificateFacts {
            common_name: common_name.filter(|name| !name.is_empty()).map(str::to_owned),
            dns_names,
            ip_addresses,
            serial: certificate.tbs_certificate.serial.to_bytes_be(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_for_clients: is_for(|purpose| purpose.client_auth),
            is_for_servers: is_for(|purpose| purpose.server_auth),
        })
    }

    /// Whether it is valid for a host, which may be an address (also in brackets, or with a zone).
    pub fn is_valid_for(&self, host: &str) -> bool {
        match address_of(host) {
            Some(address) => self.ip_addresses.contains(&address),
            None => self.dns_names.iter().any(|pattern| matches_hostname(pattern, host)),
        }
    }
}

/// The address that a host's text is, if it is one.
pub(super) fn address_of(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let without_zone = bare.split('%').next().unwrap_or(bare);
    without_zone.parse().ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| IpAddr::V6(Ipv6Addr::from(sixteen)))
}

/// Whether a name of a certificate covers a host: letters of either case, a trailing dot does not count, and a first
/// label of `*` stands for any one label.
pub fn matches_hostname(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.strip_suffix('.').unwrap_or(pattern), host.strip_suffix('.').unwrap_or(host));
    if pattern.is_empty() || host.is_empty() {
        return false;
    }
    let (mut wanted, mut found) = (pattern.split('.'), host.split('.'));
    let (first_wanted, first_found) = (wanted.next().unwrap_or(""), found.next().unwrap_or(""));
    let has_more = pattern.contains('.');
    let first_matches = if first_wanted == "*" && has_more {
        !first_found.is_empty()
    } else {
        first_wanted.eq_ignore_ascii_case(first_found)
    };
    let (wanted, found): (Vec<_>, Vec<_>) = (wanted.collect(), found.collect());
    first_matches && wanted.len() == found.len() && wanted.iter().zip(&found).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// The certificates of a PEM text, in its order; other blocks are passed over. None at all is an error.
pub fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("tls: failed to parse certificate: {error}"))?;
    if found.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    Ok(found)
}

/// The authorities that the system trusts.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        Some(error) if found.certs.is_empty() => Err(format!("the system's trusted certificates: {error}")),
        _ => Ok(found.certs),
    }
}

/// The first private key of a PEM text, in any of its usual forms.
pub fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // What the text holds must not get into a log with an error's words.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "tls: failed to find any PEM data in key input".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_hosts_as_in_go() {
        for (pattern, host, expected) in [
            ("a.example", "A.Example.", true),
            ("a.example.", "a.example", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("*", "a", false),
            ("a*.example", "ab.example", false),
            ("", "", false),
            ("a", "b", false),
        ] {
            assert_eq!(matches_hostname(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn facts_of_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost", "*.a.example", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        params.serial_number = Some(vec![0, 1, 2].into());
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
        let facts = CertificateFacts::read(params.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(facts.dns_names, ["localhost", "*.a.example"]);
        assert_eq!(facts.ip_addresses, [IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()]);
        assert_eq!(facts.serial, [1, 2]);
        assert!(facts.is_for_clients && !facts.is_for_servers);
        for (host, valid) in
            [("LOCALHOST", true), ("b.a.example", true), ("[::1]", true), ("::1%lo", true), ("127.0.0.2", false)]
        {
            assert_eq!(facts.is_valid_for(host), valid, "{host}");
        }
        assert_eq!(CertificateFacts::read(b"no certificate"), None);
    }

    #[test]
    fn errors_do_not_show_what_was_read() {
        let error = read_key(b"-----BEGIN PRIVATE KEY-----\nsec!ret\n-----END PRIVATE KEY-----").unwrap_err();
        assert!(!error.contains("sec!ret"), "{error}");
        assert!(read_certificates(b"").is_err());
    }
}
