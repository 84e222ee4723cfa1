//! Whom we believe: chains to the trusted roots, and the names that are allowed besides.
//!
//! Where Go is laxer than webpki and users depend on it, so are we: a certificate that is itself among the trusted ones
//! is believed without a chain, also if it says to be a CA.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::CertificateFacts;

/// Which verified certificates are let in. Empty lists allow all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Common names, letter by letter.
    pub common_names: Vec<String>,
    /// Hosts, of which the certificate must be valid for one.
    pub hostnames: Vec<String>,
}

impl Rules {
    fn check(&self, facts: &CertificateFacts) -> Result<(), Error> {
        let name_fits = self.common_names.is_empty()
            || facts.common_name.as_ref().is_some_and(|name| self.common_names.contains(name));
        let host_fits = self.hostnames.is_empty() || self.hostnames.iter().any(|host| facts.is_valid_for(host));
        // Without context: `failure` has words of its own for it. The other side hears "bad certificate", as from Go.
        if name_fits && host_fits { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

/// What both directions have in common.
#[derive(Debug)]
struct Ground {
    /// The trusted certificates themselves.
    pinned: Vec<CertificateDer<'static>>,
    rules: Rules,
    provider: Arc<CryptoProvider>,
}

impl Ground {
    /// Whether this certificate is one of the trusted; then what there is to check without a chain.
    fn is_pinned(&self, leaf: &CertificateDer<'_>, facts: &CertificateFacts, now: UnixTime) -> Result<bool, Error> {
        if !self.pinned.iter().any(|pinned| pinned.as_ref() == leaf.as_ref()) {
            return Ok(false);
        }
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let moment =
            |seconds: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0).unsigned_abs()));
        if seconds > facts.not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after: moment(facts.not_after) }.into());
        }
        if seconds < facts.not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: moment(facts.not_before) }.into());
        }
        Ok(true)
    }

    fn tls12(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Verified {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn tls13(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Verified {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

type Verified = Result<HandshakeSignatureValid, Error>;

fn facts_of(leaf: &CertificateDer<'_>) -> Result<CertificateFacts, Error> {
    CertificateFacts::read(leaf).ok_or_else(|| CertificateError::BadEncoding.into())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Verifies those who connect to us.
#[derive(Debug)]
struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    ground: Ground,
}

/// Demands certificates of those who connect, and verifies them.
pub(super) fn clients(
    roots: Arc<RootCertStore>,
    pinned: Vec<CertificateDer<'static>>,
    rules: Rules,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)).build().map_err(text)?;
    Ok(Arc::new(Clients { chain, ground: Ground { pinned, rules, provider: Arc::clone(provider) } }))
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let facts = facts_of(end_entity)?;
        if !self.ground.is_pinned(end_entity, &facts, now)? {
            self.chain.verify_client_cert(end_entity, intermediates, now).map_err(of_a_namesake)?;
        } else if !facts.is_for_clients {
            return Err(CertificateError::InvalidPurpose.into());
        }
        self.ground.rules.check(&facts)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verified {
        self.ground.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verified {
        self.ground.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ground.schemes()
    }
}

/// Verifies those we connect to. Without a chain verifier, anybody: encryption only.
#[derive(Debug)]
struct Servers {
    chain: Option<Arc<WebPkiServerVerifier>>,
    ground: Ground,
}

/// Verifies those we connect to; without roots, nobody.
pub(super) fn servers(
    roots: Option<Arc<RootCertStore>>,
    pinned: Vec<CertificateDer<'static>>,
    rules: Rules,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let build = |roots| WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build().map_err(text);
    let chain = roots.map(build).transpose()?;
    Ok(Arc::new(Servers { chain, ground: Ground { pinned, rules, provider: Arc::clone(provider) } }))
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let facts = facts_of(end_entity)?;
        if !self.ground.is_pinned(end_entity, &facts, now)? {
            let verified = chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            verified.map_err(|error| with_names(of_a_namesake(error), &facts))?;
        } else if !facts.is_for_servers {
            return Err(CertificateError::InvalidPurpose.into());
        } else if !facts.is_valid_for(&server_name.to_str()) {
            let expected = server_name.to_owned();
            let error = CertificateError::NotValidForNameContext { expected, presented: Vec::new() };
            return Err(with_names(error.into(), &facts));
        }
        self.ground.rules.check(&facts)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verified {
        self.ground.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Verified {
        self.ground.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ground.schemes()
    }
}

/// An authority that has the name of a trusted one and another key is an unknown one, as for Go: the signature of what it
/// issued does not fit the key that is trusted.
fn of_a_namesake(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        error => error,
    }
}

/// Names as Go lists them: addresses if an address was wanted, otherwise names of hosts.
fn with_names(error: Error, facts: &CertificateFacts) -> Error {
    let Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, .. }) = error else {
        return error;
    };
    let presented = match expected {
        ServerName::IpAddress(_) => facts.ip_addresses.iter().map(ToString::to_string).collect(),
        _ => facts.dns_names.clone(),
    };
    CertificateError::NotValidForNameContext { expected, presented }.into()
}
