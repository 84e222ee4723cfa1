//! What the settings of TLS have to hold together, in etcd's words.

use super::notice::Notice;
use super::settings::{Config, Tls};
use super::url::{Scheme, Url};
use plinth_net::transport::tls::{Suites, Version, Versions};

/// Checks everything but the contents of files.
pub(super) fn check(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let versions = check_versions(config)?;
    let named = Suites::named(&config.tls.cipher_suites);
    let (suites, left_out) = named.map_err(|name| format!("unexpected TLS cipher suite {name:?}"))?;
    for name in left_out {
        notices.push(Notice::warn("this cipher suite is too weak to be served; leaving it out").with("suite", name));
    }
    if !suites.serve(versions) {
        return Err("none of the given cipher suites can be used with TLS1.2".to_owned());
    }
    check_pairs(&config.client_tls)?;
    check_pairs(&config.peer_tls)?;
    check_client_urls(config, notices)?;
    check_peer_urls(config, notices)
}

fn check_versions(config: &Config) -> Result<Versions, String> {
    let version = |text: &str| match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(Version::Tls12)),
        "TLS1.3" => Ok(Some(Version::Tls13)),
        other => Err(format!("unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)")),
    };
    let (min, max) = (&config.tls.min_version, &config.tls.max_version);
    let (min_version, max_version) = (version(min)?, version(max)?);
    if max_version.is_some() && min_version > max_version {
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    if min_version == Some(Version::Tls13) && !config.tls.cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    let default = Versions::default();
    Ok(Versions { min: min_version.unwrap_or(default.min), max: max_version.unwrap_or(default.max) })
}

/// Certificates and keys come together.
fn check_pairs(tls: &Tls) -> Result<(), String> {
    let text =
        |file: &Option<std::path::PathBuf>| file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    if tls.cert_file.is_some() != tls.key_file.is_some() {
        let (cert, key) = (text(&tls.cert_file), text(&tls.key_file));
        return Err(format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"));
    }
    if tls.client_cert_file.is_some() != tls.client_key_file.is_some() {
        let (cert, key) = (text(&tls.client_cert_file), text(&tls.client_key_file));
        // The bracket is etcd's.
        return Err(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
        ));
    }
    if !tls.allowed_cns.is_empty() && !tls.allowed_hostnames.is_empty() {
        return Err(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
            tls.allowed_cns.join(" "),
            tls.allowed_hostnames.join(" ")
        ));
    }
    Ok(())
}

fn check_peer_urls(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let tls = &config.peer_tls;
    if tls.auto && tls.cert_file.is_some() {
        notices.push(Notice::warn("ignoring peer auto TLS since certs given"));
    }
    for url in &config.addresses.listen_peer {
        if url.scheme().is_tls() && tls.cert_file.is_none() && !tls.auto {
            let address = url.address();
            return Err(format!("cannot listen on TLS for {address}: KeyFile and CertFile are not presented"));
        }
        let mut ignored = |message: &str| notices.push(Notice::warn(message).with("peer-url", url.as_str()));
        if !url.scheme().is_tls() && tls.cert_file.is_some() {
            ignored("scheme is HTTP while key and cert files are present; ignoring key and cert files");
        }
        if !url.scheme().is_tls() && tls.client_cert_auth {
            ignored("scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL");
        }
    }
    Ok(())
}

fn check_client_urls(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let (addresses, tls) = (&config.addresses, &config.client_tls);
    let has_certificate = tls.cert_file.is_some() || tls.auto;
    if tls.auto && tls.cert_file.is_some() {
        notices.push(Notice::warn("ignoring client auto TLS since certs given"));
    }
    let for_clients = [&addresses.listen_client, &addresses.listen_client_http, &addresses.listen_console];
    for url in for_clients.into_iter().flatten() {
        if url.scheme().is_tls() && !has_certificate {
            return Err(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
            ));
        }
        let mut ignored = |message: &str| notices.push(Notice::warn(message).with("client-url", url.as_str()));
        if !url.scheme().is_tls() && tls.cert_file.is_some() {
            ignored("scheme is http or unix while key and cert files are present; ignoring key and cert files");
        }
        if !url.scheme().is_tls() && tls.client_cert_auth {
            ignored(
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
            );
        }
    }
    let shared = |url: &&Url| addresses.listen_client_http.iter().any(|other| other.address() == url.address());
    if let Some(url) = addresses.listen_client.iter().find(shared) {
        return Err(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ));
    }
    if addresses.listen_metrics.iter().any(|url| url.scheme() == Scheme::Https) && !has_certificate {
        return Err("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned());
    }
    Ok(())
}
