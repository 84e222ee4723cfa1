//! The settings of one side: its files, read together.

use super::Carries;
use super::live::{Live, read};
use crate::config::{Tls, TlsCommon};
use plinth_net::transport::tls::{
    CertificateFacts, ClientSettings, Common, Credentials, Failure, Revoked, Rules, ServerSettings, Source, Suites,
    Trust, Version, Versions, read_certificates, read_key, system_roots,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is said when files have changed and cannot be used: etcd's words.
const NOT_REPLACED: &str = "failed to create peer certificate";

/// Settings of the same files for each kind of listener.
struct Made {
    all: Arc<ServerSettings>,
    grpc: Arc<ServerSettings>,
}

/// The accepting side of clients or members.
pub struct ServerSide {
    made: Arc<Live<Made>>,
    revoked: Option<Arc<Live<Revoked>>>,
    names_callers: bool,
    /// When the certificate that is shown ends, in seconds since 1970.
    ends: Arc<AtomicI64>,
}

impl ServerSide {
    /// Reads the files once, so that what is wrong with them is told at the start.
    pub fn open(tls: &Tls, common: &TlsCommon) -> Result<ServerSide, String> {
        let (cert, key) = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => return Err("KeyFile and CertFile are not presented".to_owned()),
        };
        let revoked = tls.crl_file.clone().map(|file| {
            let files = vec![file.clone()];
            Arc::new(Live::new(files, None, move || Revoked::read(&read(&file)?)))
        });
        let files =
            [Some(cert.clone()), Some(key.clone()), tls.trusted_ca_file.clone()].into_iter().flatten().collect();
        let (trust, common, ends) = (Trusted::of(tls), settings_of(common)?, Arc::new(AtomicI64::new(0)));
        let ending = Arc::clone(&ends);
        let build = move || {
            let (credentials, end) = read_pair(&cert, &key)?;
            let trust = trust.as_ref().map(Trusted::read).transpose()?;
            let with = |protocols: &[&'static str]| {
                let common = Common { protocols: protocols.to_vec(), ..common.clone() };
                ServerSettings::new(&credentials, trust.as_ref(), &common).map(Arc::new)
            };
            let made = Made { all: with(&["h2", "http/1.1"])?, grpc: with(&["h2"])? };
            ending.store(end, Ordering::Relaxed);
            Ok(made)
        };
        let made = Arc::new(Live::new(files, Some(NOT_REPLACED), build));
        made.current()?;
        Ok(ServerSide { made, revoked, names_callers: tls.client_cert_auth, ends })
    }

    /// Whether certificates say who calls: only where they are demanded by name of that flag.
    pub fn names_callers(&self) -> bool {
        self.names_callers
    }

    /// When the certificate that is shown ends, in seconds since 1970.
    pub fn ends(&self) -> i64 {
        self.ends.load(Ordering::Relaxed)
    }

    /// The settings at each handshake.
    pub fn source(&self, carries: Carries) -> Source<ServerSettings> {
        let (made, revoked) = (Arc::clone(&self.made), self.revoked.clone());
        Arc::new(move || {
            let made = made.current().map_err(Failure::Settings)?;
            let settings = if carries == Carries::Grpc { &made.grpc } else { &made.all };
            let Some(revoked) = &revoked else { return Ok(Arc::clone(settings)) };
            let revoked = revoked.current().map_err(Failure::Settings)?;
            Ok(Arc::new(settings.with_revoked(revoked)))
        })
    }
}

/// The side that dials other members.
pub struct ClientSide(Arc<Live<ClientSettings>>);

impl ClientSide {
    /// Nothing is read until somebody is dialed.
    pub fn new(tls: &Tls, common: &TlsCommon) -> Result<ClientSide, String> {
        let pair = match (&tls.client_cert_file, &tls.client_key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            _ => tls.cert_file.clone().zip(tls.key_file.clone()),
        };
        let rules = Rules { common_names: tls.allowed_cns.clone(), hostnames: tls.allowed_hostnames.clone() };
        // Members with certificates of their own making do not know each other.
        let trust = (!tls.auto).then(|| Trusted { roots: tls.trusted_ca_file.clone(), rules });
        let (cert, key) = pair.clone().unzip();
        let files = [cert, key, tls.trusted_ca_file.clone()].into_iter().flatten().collect();
        let common = settings_of(common)?;
        let build = move || {
            let credentials =
                pair.as_ref().map(|(cert, key)| read_pair(cert, key).map(|(pair, _)| pair)).transpose()?;
            let trust = trust.as_ref().map(Trusted::read).transpose()?;
            ClientSettings::new(credentials.as_ref(), trust.as_ref(), &common)
        };
        Ok(ClientSide(Arc::new(Live::new(files, Some(NOT_REPLACED), build))))
    }

    /// The settings now.
    pub fn current(&self) -> Result<Arc<ClientSettings>, String> {
        self.0.current()
    }

    /// The settings at each connection.
    pub fn source(&self) -> Source<ClientSettings> {
        let settings = Arc::clone(&self.0);
        Arc::new(move || settings.current().map_err(Failure::Settings))
    }
}

/// Whose certificates are believed, by files.
struct Trusted {
    /// `None`: those that the system trusts.
    roots: Option<PathBuf>,
    rules: Rules,
}

impl Trusted {
    /// As the flags say; nothing if no certificates are demanded.
    fn of(tls: &Tls) -> Option<Trusted> {
        if tls.trusted_ca_file.is_none() && !tls.client_cert_auth {
            return None;
        }
        let rules = Rules { common_names: tls.allowed_cns.clone(), hostnames: tls.allowed_hostnames.clone() };
        Some(Trusted { roots: tls.trusted_ca_file.clone(), rules })
    }

    fn read(&self) -> Result<Trust, String> {
        let roots = match &self.roots {
            Some(file) => read_certificates(&read(file)?)?,
            None => system_roots()?,
        };
        Ok(Trust { roots, rules: self.rules.clone() })
    }
}

/// A certificate with its key, and when it ends. What is expired or not yet valid is served as etcd serves it, but told; so
/// is a key that others can read.
fn read_pair(cert: &Path, key: &Path) -> Result<(Credentials, i64), String> {
    let credentials = Credentials { chain: read_certificates(&read(cert)?)?, key: read_key(&read(key)?)? };
    let leaf = credentials.chain.first().and_then(|leaf| CertificateFacts::read(leaf));
    let leaf = leaf.ok_or("tls: failed to parse certificate")?;
    let file = cert.display();
    let left = (leaf.not_after - now()) / DAY_SECONDS;
    if !(leaf.not_before..=leaf.not_after).contains(&now()) {
        tracing::warn!(%file, "the certificate has expired or is not yet valid; others will refuse it");
    } else if left < DAYS_WARNED_OF {
        tracing::warn!(%file, "days-left" = left, "the certificate will expire soon");
    }
    if fs::metadata(key).is_ok_and(|found| found.mode() & 0o007 != 0) {
        tracing::warn!(file = %key.display(), "the private key can be read by everybody");
    }
    Ok((credentials, leaf.not_after))
}

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Certificates with fewer days left are warned of when they are read.
const DAYS_WARNED_OF: i64 = 14;

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed())
}

fn settings_of(common: &TlsCommon) -> Result<Common, String> {
    let (suites, _) = Suites::named(&common.cipher_suites).map_err(unknown_suite)?;
    let version = |text: &str, default| match text {
        "TLS1.2" => Version::Tls12,
        "TLS1.3" => Version::Tls13,
        _ => default,
    };
    let versions = Versions {
        min: version(&common.min_version, Version::Tls12),
        max: version(&common.max_version, Version::Tls13),
    };
    Ok(Common { versions, suites, protocols: Vec::new() })
}

fn unknown_suite(name: String) -> String {
    format!("unexpected TLS cipher suite {name:?}")
}
