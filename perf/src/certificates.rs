//! Certificates of a run: an authority, a server's certificate and keys of tokens, made anew and known to nobody else;
//! and how the generator dials with them. All servers get the same, and agree on the same suite and curve.

use crate::endpoint::Dialer;
use crate::failure::Failure;
use clap::Args;
use plinth_net::transport::tls::{
    ClientSettings, Common, Credentials, Rules, Trust, read_certificates, read_key, system_roots,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sessions kept for resumption: more than connections are under way at once.
const SESSIONS: usize = 1_024;

/// Certificates and keys as files, and those who dial with them.
pub struct Certificates {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The halves of the key that signs tokens.
    pub token_key: PathBuf,
    pub token_public: PathBuf,
    /// Makes a full handshake each time.
    pub full: &'static Dialer,
    /// Takes up earlier sessions where the server lets it.
    pub resuming: &'static Dialer,
    /// A full handshake in which the client spares itself what it can: it stands for another machine.
    pub careless: &'static Dialer,
}

impl Certificates {
    /// Makes them in `folder`. They live as long as the process.
    pub fn make(folder: &Path) -> Result<&'static Certificates, Failure> {
        fs::create_dir_all(folder)?;
        let mut authority = CertificateParams::new(Vec::<String>::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let (key, token_key) = (KeyPair::generate()?, KeyPair::generate()?);
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(hosts)?.signed_by(&key, &authority)?;
        let file = |name: &str, text: String| {
            let path = fs::canonicalize(folder)?.join(name);
            fs::write(&path, text).map(|()| path)
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let config = |resumption: Resumption| -> Result<ClientConfig, Failure> {
            let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
            let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
            let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec()];
            config.resumption = resumption;
            Ok(config)
        };
        let mut careless = config(Resumption::disabled())?;
        careless.dangerous().set_certificate_verifier(Arc::new(Careless));
        let sessions = Arc::new(ClientSessionMemoryCache::new(SESSIONS));
        Ok(Box::leak(Box::new(Certificates {
            cert: file("server.crt", certificate.pem())?,
            key: file("server.key", key.serialize_pem())?,
            token_key: file("token.key", token_key.serialize_pem())?,
            token_public: file("token.pub", token_key.public_key_pem())?,
            full: Dialer::leak(Arc::new(config(Resumption::disabled())?)),
            resuming: Dialer::leak(Arc::new(config(Resumption::store(sessions))?)),
            careless: Dialer::leak(Arc::new(careless)),
        })))
    }
}

/// etcdctl's flags for encrypted connections, and for who connects.
#[derive(Args, Clone)]
pub struct Connect {
    /// Authorities to trust, instead of the system's (PEM).
    #[arg(long)]
    pub cacert: Option<PathBuf>,
    /// Certificate to show (PEM).
    #[arg(long, requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, requires = "cert")]
    pub key: Option<PathBuf>,
    /// Encrypt, but trust anybody.
    #[arg(long)]
    pub insecure_skip_tls_verify: bool,
    /// Whether to connect in clear if no other flag asks for TLS.
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value_t = true)]
    pub insecure_transport: bool,
    /// Who connects, as `name:password`.
    #[arg(long, value_parser = credentials)]
    pub user: Option<(String, String)>,
}

fn credentials(text: &str) -> Result<(String, String), String> {
    let (name, password) = text.split_once(':').ok_or("expected NAME:PASSWORD")?;
    Ok((name.to_owned(), password.to_owned()))
}

/// Dials as flags say; `None` in clear.
pub fn dialer(flags: &Connect) -> Result<Option<&'static Dialer>, Failure> {
    let is_named = flags.cacert.is_some() || flags.cert.is_some() || flags.insecure_skip_tls_verify;
    if !is_named && flags.insecure_transport {
        return Ok(None);
    }
    let credentials = match (&flags.cert, &flags.key) {
        (Some(cert), Some(key)) => {
            Some(Credentials { chain: read_certificates(&fs::read(cert)?)?, key: read_key(&fs::read(key)?)? })
        }
        _ => None,
    };
    let roots = match &flags.cacert {
        Some(file) => read_certificates(&fs::read(file)?)?,
        None if flags.insecure_skip_tls_verify => Vec::new(),
        None => system_roots()?,
    };
    let trust = Trust { roots, rules: Rules::default() };
    let trust = Some(&trust).filter(|_| !flags.insecure_skip_tls_verify);
    let common = Common { protocols: vec!["h2"], ..Common::default() };
    Ok(Some(Dialer::leak(ClientSettings::new(credentials.as_ref(), trust, &common)?.config())))
}

/// One suite and one curve, which every server has.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    provider
}

/// Believes anybody.
#[derive(Debug)]
struct Careless;

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
