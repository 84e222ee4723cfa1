//! Versions and cipher suites by the names that Go gives them.

use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Version {
    Tls12,
    Tls13,
}

/// The versions that may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: Version,
    /// The newest.
    pub max: Version,
}

impl Default for Versions {
    fn default() -> Versions {
        Versions { min: Version::Tls12, max: Version::Tls13 }
    }
}

impl Versions {
    pub(super) fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        let all = [(Version::Tls13, &rustls::version::TLS13), (Version::Tls12, &rustls::version::TLS12)];
        all.into_iter().filter(|(version, _)| (self.min..=self.max).contains(version)).map(|(_, found)| found).collect()
    }
}

/// Suites of TLS 1.2 that can be chosen among; those of TLS 1.3 are always all there.
const CHOICE: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Suites of TLS 1.3.
const NEW: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Suites that Go knows and nobody should use: without forward secrecy, or with ciphers that are broken.
const OLD: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// The cipher suites to offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Suites(Vec<SupportedCipherSuite>);

impl Default for Suites {
    fn default() -> Suites {
        Suites(aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec())
    }
}

impl Suites {
    /// Those with these names, and those of TLS 1.3; all if there are no names. Also the names that had to be left out,
    /// being too old. Fails for a name that nobody knows (which it returns), as does Go.
    pub fn named(names: &[String]) -> Result<(Suites, Vec<String>), String> {
        if names.is_empty() {
            return Ok((Suites::default(), Vec::new()));
        }
        let mut suites: Vec<_> =
            aws_lc_rs::DEFAULT_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()).copied().collect();
        let mut left_out = Vec::new();
        for name in names {
            match CHOICE.iter().find(|(known, _)| known == name) {
                Some((_, suite)) if !suites.contains(suite) => suites.push(*suite),
                Some(_) => {}
                None if NEW.contains(&name.as_str()) => {}
                None if OLD.contains(&name.as_str()) => left_out.push(name.clone()),
                None => return Err(name.clone()),
            }
        }
        Ok((Suites(suites), left_out))
    }

    /// Whether a version could be spoken at all with these.
    pub fn serve(&self, versions: Versions) -> bool {
        versions.max == Version::Tls13 || self.0.iter().any(|suite| suite.tls13().is_none())
    }

    pub(super) fn provider(&self) -> rustls::crypto::CryptoProvider {
        rustls::crypto::CryptoProvider { cipher_suites: self.0.clone(), ..aws_lc_rs::default_provider() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghsa_5x4g_q5rc_36jp_weak_suites_are_never_spoken() {
        let all = OLD.iter().chain(CHOICE.iter().map(|(name, _)| name)).map(|name| (*name).to_owned());
        let (asked_for_all, _) = Suites::named(&all.collect::<Vec<_>>()).unwrap();
        for suites in [Suites::default(), asked_for_all] {
            for suite in suites.0 {
                let name = format!("{:?}", suite.suite());
                let is_strong = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
                assert!(is_strong && (name.contains("_GCM_") || name.contains("CHACHA20_POLY1305")), "{name}");
            }
        }
    }

    #[test]
    fn suites_by_name() {
        let named = |names: &[&str]| Suites::named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let (some, left_out) = named(&[CHOICE[0].0, OLD[5], NEW[0], CHOICE[0].0]).unwrap();
        assert_eq!((some.0.len(), left_out), (4, vec![OLD[5].to_owned()]));
        assert_eq!(named(&["TLS_NULL"]).unwrap_err(), "TLS_NULL");
        assert_eq!(named(&[]).unwrap().0, Suites::default());
        let (none, _) = named(&[OLD[0]]).unwrap();
        let old = Versions { min: Version::Tls12, max: Version::Tls12 };
        assert!(!none.serve(old) && some.serve(old) && none.serve(Versions::default()));
    }
}
