//! What either side of a connection is to do, built from certificates, keys and rules. Immutable: what changes is
//! replaced, and connections go on with what they began with.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};

use super::verify;
use super::{Failure, Revoked, Rules, Suites, Versions};

/// Yields the settings that count now. May look at files: it is asked on threads that may wait.
pub type Source<T> = Arc<dyn Fn() -> Result<Arc<T>, Failure> + Send + Sync>;

/// A certificate with what leads to its root, and its key.
pub struct Credentials {
    /// The own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first one.
    pub key: PrivateKeyDer<'static>,
}

/// What both sides have in common.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Versions that may be spoken.
    pub versions: Versions,
    /// Cipher suites that may be used.
    pub suites: Suites,
    /// Protocols to agree on, the preferred first (ALPN). None: nothing is said about it.
    pub protocols: Vec<&'static str>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The roots; each is also believed itself.
    pub roots: Vec<CertificateDer<'static>>,
    /// What else must be true.
    pub rules: Rules,
}

impl Trust {
    fn store(&self) -> Result<Arc<RootCertStore>, String> {
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(self.roots.iter().cloned());
        if added == 0 {
            return Err("no certificate of the trusted ones can be used".to_owned());
        }
        Ok(Arc::new(store))
    }
}

/// The side that accepts.
pub struct ServerSettings {
    pub(super) config: Arc<ServerConfig>,
    pub(super) revoked: Option<Arc<Revoked>>,
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings").finish_non_exhaustive()
    }
}

impl ServerSettings {
    /// Shows `credentials`. With `trust`, demands a certificate of whoever connects.
    pub fn new(credentials: &Credentials, trust: Option<&Trust>, common: &Common) -> Result<ServerSettings, String> {
        let provider = Arc::new(common.suites.provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder =
            builder.with_protocol_versions(&common.versions.supported()).map_err(|error| error.to_string())?;
        let builder = match trust {
            None => builder.with_no_client_auth(),
            Some(trust) => {
                let (roots, rules) = (trust.roots.clone(), trust.rules.clone());
                builder.with_client_cert_verifier(verify::clients(trust.store()?, roots, rules, &provider)?)
            }
        };
        let key = certified(credentials, &provider)?;
        let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = protocols(common);
        // No session is taken up again: the clients there are do not ask for it, two records less are written in each
        // handshake, and whoever was revoked or renamed is looked at anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(ServerSettings { config: Arc::new(config), revoked: None })
    }

    /// For those who drive the protocol themselves, and know nobody who is revoked.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The same, but refuses those who show a revoked certificate.
    pub fn with_revoked(&self, revoked: Arc<Revoked>) -> ServerSettings {
        ServerSettings { config: Arc::clone(&self.config), revoked: Some(revoked) }
    }
}

/// The side that dials.
pub struct ClientSettings {
    pub(super) config: Arc<ClientConfig>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings").finish_non_exhaustive()
    }
}

impl ClientSettings {
    /// Believes `trust`; without it, anybody, which keeps only listeners out. Shows `credentials` if it is asked to.
    pub fn new(
        credentials: Option<&Credentials>,
        trust: Option<&Trust>,
        common: &Common,
    ) -> Result<ClientSettings, String> {
        let provider = Arc::new(common.suites.provider());
        let builder: ConfigBuilder<ClientConfig, _> = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder =
            builder.with_protocol_versions(&common.versions.supported()).map_err(|error| error.to_string())?;
        let verifier = match trust {
            None => verify::servers(None, Vec::new(), Rules::default(), &provider)?,
            Some(trust) => verify::servers(Some(trust.store()?), trust.roots.clone(), trust.rules.clone(), &provider)?,
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match credentials {
            None => builder.with_no_client_auth(),
            Some(credentials) => {
                let key = certified(credentials, &provider)?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = protocols(common);
        config.resumption = rustls::client::Resumption::disabled();
        Ok(ClientSettings { config: Arc::new(config) })
    }

    /// For those who drive the protocol themselves.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

fn protocols(common: &Common) -> Vec<Vec<u8>> {
    common.protocols.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// Joins certificate and key, which must belong together.
fn certified(credentials: &Credentials, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let key = provider.key_provider.load_private_key(credentials.key.clone_key());
    let key = key.map_err(|_| "tls: failed to parse private key".to_owned())?;
    let certified = CertifiedKey::new(credentials.chain.clone(), key);
    match certified.keys_match() {
        // Of a kind of key that cannot tell its public half, the first handshake tells.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err("tls: private key does not match public key".to_owned()),
        Err(error) => Err(format!("tls: failed to parse certificate: {error}")),
    }
}
