//! TLS of both sides, as the flags say, with etcd's texts.

use clap::Args;
use plinth_companion::etcd_log as log;
use plinth_companion::listen::Encryption as Accepting;
use plinth_ctl::tls::Encryption;
use plinth_net::transport::tls::{CertificateFacts, Common, Suites, Version, Versions, read_certificates};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes a certificate in a folder for a host, good for so many years, or finds the one that it made: its file and that of
/// its key.
pub type Make = fn(&Path, &str, u64) -> Result<(PathBuf, PathBuf), String>;

/// TLS towards the clients.
#[derive(Args, Clone, Debug, Default)]
pub struct Clients {
    /// identify secure connections to the proxy using this TLS certificate file
    #[arg(long, default_value = "")]
    pub cert_file: String,
    /// identify secure connections to the proxy using this TLS key file
    #[arg(long, default_value = "")]
    pub key_file: String,
    /// verify certificates of TLS-enabled secure proxy using this CA bundle
    #[arg(long, default_value = "")]
    pub trusted_ca_file: String,
    /// proxy TLS using generated certificates
    #[arg(long)]
    pub auto_tls: bool,
    /// the validity period of the proxy certificates, unit is year
    #[arg(long, default_value_t = 1)]
    pub self_signed_cert_validity: u64,
    /// comma-separated list of supported TLS cipher suites between client/proxy
    #[arg(long, value_delimiter = ',')]
    pub listen_cipher_suites: Vec<String>,
    /// minimum TLS version supported by grpc proxy: TLS1.2, TLS1.3
    #[arg(long, default_value = "TLS1.2")]
    pub tls_min_version: String,
    /// maximum TLS version supported by grpc proxy: TLS1.2, TLS1.3
    #[arg(long, default_value = "")]
    pub tls_max_version: String,
}

/// What certificates towards clients have in common: versions, suites, protocols.
///
/// # Errors
/// If the flags make no sense.
pub fn common(flags: &Clients) -> Result<Common, String> {
    if flags.auto_tls && flags.self_signed_cert_validity == 0 {
        return Err("selfSignedCertValidity is invalid,it should be greater than 0".to_owned());
    }
    let versions = Versions {
        min: version("min", &flags.tls_min_version, Version::Tls12)?,
        max: version("max", &flags.tls_max_version, Version::Tls13)?,
    };
    let (lowest, highest) = (&flags.tls_min_version, &flags.tls_max_version);
    if lowest == "TLS1.3" && highest == "TLS1.2" {
        return Err(format!("min version ({lowest}) is greater than max version ({highest})"));
    }
    if lowest == "TLS1.3" && !flags.listen_cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    let named = Suites::named(&flags.listen_cipher_suites);
    let (suites, left_out) = named.map_err(|name| format!("unexpected TLS cipher suite {name:?}"))?;
    if !left_out.is_empty() {
        log::line("warn", "cipher suites that are not supported are left out", &[("suites", left_out.into())]);
    }
    Ok(Common { versions, suites, protocols: vec!["h2", "http/1.1"] })
}

fn version(which: &str, text: &str, otherwise: Version) -> Result<Version, String> {
    match text {
        "" => Ok(otherwise),
        "TLS1.2" => Ok(Version::Tls12),
        "TLS1.3" => Ok(Version::Tls13),
        _ => Err(format!(
            "tls-{which}-version is invalid: unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)"
        )),
    }
}

/// The clients' side; nothing if it is in clear.
///
/// # Errors
/// If files cannot be used or made.
pub fn towards_clients(
    flags: &Clients,
    data_dir: &Path,
    listen: &str,
    make: Make,
) -> Result<Option<Arc<Accepting>>, String> {
    let Clients { mut cert_file, mut key_file, trusted_ca_file, .. } = flags.clone();
    if cert_file.is_empty() && key_file.is_empty() && trusted_ca_file.is_empty() {
        if !flags.auto_tls {
            return Ok(None);
        }
        let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host).trim_matches(['[', ']']);
        let folder = data_dir.join("fixtures").join("proxy");
        let (cert, key) = make(&folder, host, flags.self_signed_cert_validity)?;
        (cert_file, key_file) = (cert.display().to_string(), key.display().to_string());
    }
    if cert_file.is_empty() || key_file.is_empty() {
        return Err(format!("cannot listen on TLS for {listen}: KeyFile and CertFile are not presented"));
    }
    let authority = Some(trusted_ca_file).filter(|name| !name.is_empty());
    let made = Accepting::with(cert_file, key_file, authority, common(flags)?);
    made.map(|made| Some(Arc::new(made)))
}

/// The servers' side. A certificate with a common name would make every client of the proxy that user.
///
/// # Errors
/// If files cannot be used.
pub fn towards_servers(cert: String, key: String, cacert: String, skip_verify: bool) -> Result<Encryption, String> {
    let file = |name: String| Some(name).filter(|name| !name.is_empty());
    let (cert, key, cacert) = (file(cert), file(key), file(cacert));
    let is_wanted = cert.is_some() || key.is_some() || cacert.is_some() || skip_verify;
    let encryption = Encryption { cacert, cert, key, skip_verify, is_wanted, server_name: None };
    if !is_wanted {
        return Ok(encryption);
    }
    // What is wrong with the files is told now, not with the first connection.
    encryption.settings().map_err(|failure| failure.text)?;
    if let Some(cert) = &encryption.cert {
        let bytes = std::fs::read(cert).map_err(|error| format!("open {cert}: {error}"))?;
        let chain = read_certificates(&bytes)?;
        let facts = chain.first().and_then(|certificate| CertificateFacts::read(certificate));
        if let Some(name) = facts.and_then(|facts| facts.common_name) {
            return Err(format!("cert has non empty Common Name ({name}): {cert}"));
        }
    }
    if skip_verify {
        log::line(
            "warn",
            "--insecure-skip-tls-verify was given: the certificates of servers are not verified. Use it for tests alone.",
            &[],
        );
    }
    Ok(encryption)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_suites_are_named() {
        let with = |min: &str, suites: &[&str]| {
            let listen_cipher_suites = suites.iter().map(|name| (*name).to_owned()).collect();
            common(&Clients { tls_min_version: min.to_owned(), listen_cipher_suites, ..Clients::default() }).map(drop)
        };
        assert_eq!(with("TLS1.2", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]), Ok(()));
        let text = "tls-min-version is invalid: unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)";
        assert_eq!(with("TLS1.1", &[]), Err(text.to_owned()));
        assert_eq!(with("", &["ROT13"]), Err("unexpected TLS cipher suite \"ROT13\"".to_owned()));
        assert!(with("TLS1.3", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).is_err());
    }
}
