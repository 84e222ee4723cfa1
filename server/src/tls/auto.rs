//! Certificates of the server's own making (`--auto-tls`, `--peer-auto-tls`): what is said is encrypted, and nobody knows
//! to whom. They are kept in the data directory and used again, however old they are, as etcd does.

use plinth_net::transport::tls::CertificateFacts;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key, as files.
pub struct Files {
    /// PEM.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// Those in `folder`, made if they are not there: for `hosts` (names and addresses), valid for `years` of 365 days.
pub fn ensure<'a>(folder: &Path, hosts: impl Iterator<Item = &'a str>, years: u64) -> Result<Files, String> {
    let files = Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    let text = |error: rcgen::Error| format!("cannot generate self-signed certificate: {error}");
    tracing::warn!(folder = %folder.display(), "automatically generate certificates");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).map_err(text)?;
    let certificate = params(hosts, years).map_err(text)?.self_signed(&key).map_err(text)?;
    assert!(CertificateFacts::read(certificate.der()).is_some(), "what we make can be read");
    let failed = |path: &Path, error: io::Error| format!("open {}: {}", path.display(), crate::config::reason(&error));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(folder, error))?;
    // The key last: with both there, both are whole.
    write(&files.cert, 0o644, &certificate.pem()).map_err(|error| failed(&files.cert, error))?;
    tracing::info!(path = %files.cert.display(), "created cert file");
    write(&files.key, 0o600, &key.serialize_pem()).map_err(|error| failed(&files.key, error))?;
    tracing::info!(path = %files.key.display(), "created key file");
    Ok(files)
}

fn params<'a>(hosts: impl Iterator<Item = &'a str>, years: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut names: Vec<String> = hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect();
    names.iter_mut().for_each(|name| {
        // An address with a zone is for one machine only; certificates have none.
        if let Some((address, _)) = name.split_once('%')
            && address.parse::<IpAddr>().is_ok()
        {
            *name = address.to_owned();
        }
    });
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Far enough for anybody, and not beyond what dates can say.
    let life = DAY.saturating_mul(u32::try_from(years.min(1000).saturating_mul(365)).unwrap_or(u32::MAX));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now;
    params.not_after = params.not_before + life;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Writes a file whole or not at all.
fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_net::transport::tls::{Common, Credentials, ServerSettings, read_certificates, read_key};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn made_once_and_fit_to_serve() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("fixtures/client");
        let hosts = ["127.0.0.1", "localhost", "::1", "127.0.0.1", ""];
        let files = ensure(&place, hosts.into_iter(), 2).expect("made");
        let (cert, key) = (fs::read(&files.cert).expect("there"), fs::read(&files.key).expect("there"));
        let chain = read_certificates(&cert).expect("a certificate");
        let facts = CertificateFacts::read(&chain[0]).expect("a certificate");
        assert_eq!((facts.common_name, facts.dns_names.len(), facts.ip_addresses.len()), (None, 1, 2));
        assert_eq!(facts.not_after - facts.not_before, 2 * 365 * 24 * 60 * 60);
        assert!(facts.is_for_servers && !facts.is_for_clients);
        let credentials = Credentials { chain, key: read_key(&key).expect("a key") };
        ServerSettings::new(&credentials, None, &Common::default()).expect("it can be served");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&place), mode(&files.key)), (0o700, 0o600));
        let again = ensure(&place, ["other"].into_iter(), 1).expect("there");
        assert_eq!(fs::read(&again.cert).expect("there"), cert);
    }
}
