//! Listen and advertise URLs.
//!
//! Accepts exactly what etcd accepts: `http` and `https` with `host:port` and no path, `unix` and `unixs` with a
//! path. A URL keeps its text, because texts are compared, hashed into member ids and shown to clients.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// How a URL is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A Unix domain socket.
    Unix,
    /// TLS over a Unix domain socket.
    Unixs,
}

impl Scheme {
    /// Whether connections are encrypted.
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    /// Whether connections go through the file system.
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

/// A checked URL. Ordered and compared by its text, as etcd does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    text: String,
}

impl PartialOrd for Url {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Url {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Url {
    /// Reads one URL; the error says what is wrong in etcd's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(bad) = text.chars().find(|c| c.is_ascii_control()) {
            return Err(format!("parse {text:?}: net/url: invalid control character in URL ({bad:?})"));
        }
        let (scheme, rest) = split_scheme(text)?;
        let text = format!("{scheme}:{rest}"); // the scheme in lower case
        match scheme.as_str() {
            "http" | "https" => {
                let Some(authority_and_path) = rest.strip_prefix("//") else {
                    return Err(format!("URL address does not have the form \"host:port\": {text}"));
                };
                let end = authority_and_path.find(['/', '?', '#']).unwrap_or(authority_and_path.len());
                let (authority, path) = authority_and_path.split_at(end);
                split_host_port(authority)
                    .map_err(|_| format!("URL address does not have the form \"host:port\": {text}"))?;
                if path.starts_with('/') {
                    return Err(format!("URL must not contain a path: {text}"));
                }
                if !path.is_empty() {
                    // etcd would carry query and fragment along in silence; nothing could ever use them.
                    return Err(format!("URL must not contain a query or fragment: {text}"));
                }
                Ok(Url { text })
            }
            "unix" | "unixs" => Ok(Url { text }),
            _ => Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        }
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        match self.text.split(':').next() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some("unix") => Scheme::Unix,
            Some("unixs") => Scheme::Unixs,
            _ => unreachable!("checked when it was parsed"),
        }
    }

    /// Behind the scheme: `host:port`, or the path of a socket.
    pub fn address(&self) -> &str {
        let (_, rest) = self.text.split_once(':').expect("checked when it was parsed");
        rest.strip_prefix("//").unwrap_or(rest)
    }

    /// Host and port of an `http` or `https` URL; brackets of an IPv6 address are removed.
    pub fn host_and_port(&self) -> Option<(&str, &str)> {
        if self.scheme().is_unix() {
            return None;
        }
        Some(split_host_port(self.address()).expect("checked when it was parsed"))
    }

    /// The same URL with another host.
    pub(super) fn with_host(&self, host: IpAddr) -> Url {
        let (_, port) = self.host_and_port().expect("only TCP addresses have a host");
        let (scheme, _) = self.text.split_once(':').expect("checked when it was parsed");
        let host = match host {
            IpAddr::V4(host) => host.to_string(),
            IpAddr::V6(host) => format!("[{host}]"),
        };
        Url { text: format!("{scheme}://{host}:{port}") }
    }

    /// Whether the server may bind here: names other than `localhost` are refused, because they may resolve to an
    /// address of another machine.
    pub(super) fn check_bindable(&self) -> Result<(), String> {
        let Some((host, _)) = self.host_and_port() else { return Ok(()) };
        if host == "localhost" || host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        Err(format!("expected IP in URL for binding ({self})"))
    }

    /// Whether others can be told this address.
    pub(super) fn check_has_host(&self) -> Result<(), String> {
        match self.host_and_port() {
            Some(("", _)) => Err(format!("unexpected empty host ({self})")),
            _ => Ok(()),
        }
    }
}

/// Reads several URLs and sorts them. Duplicates stay; the command line drops them, the configuration file does not.
pub fn parse_urls<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Url>, String> {
    let mut urls = texts.map(Url::parse).collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    Ok(urls)
}

/// Joins URLs with commas, for messages and `initial-cluster`.
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

/// The scheme in lower case, and what is behind its colon. Errors follow Go's `net/url`.
fn split_scheme(text: &str) -> Result<(String, &str), String> {
    let scheme_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    let starts_with_letter = text.starts_with(|c: char| c.is_ascii_alphabetic());
    match scheme_end {
        Some(0) if text.starts_with(':') => Err(format!("parse {text:?}: missing protocol scheme")),
        Some(end) if starts_with_letter && text[end..].starts_with(':') => {
            Ok((text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ if text.split('/').next().is_some_and(|segment| segment.contains(':')) => {
            Err(format!("parse {text:?}: first path segment in URL cannot contain colon"))
        }
        _ => Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
    }
}

/// Splits `host:port`, `[v6]:port`, `:port`.
fn split_host_port(address: &str) -> Result<(&str, &str), ()> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:").ok_or(())?;
            let without_zone = host.split('%').next().unwrap_or(host);
            without_zone.parse::<Ipv6Addr>().map_err(|_| ())?;
            (host, port)
        }
        None => address.rsplit_once(':').ok_or(())?,
    };
    let plain_host = !host.contains(['[', ']', '@', ' ']) && (address.starts_with('[') || !host.contains(':'));
    let numeric_port = port.bytes().all(|byte| byte.is_ascii_digit());
    if plain_host && numeric_port { Ok((host, port)) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        const CASES: &[(&str, &str, &str)] = &[
            ("http://localhost:2379", "http://localhost:2379", "localhost:2379"),
            (" https://127.0.0.1:0 ", "https://127.0.0.1:0", "127.0.0.1:0"),
            ("HTTP://a:1", "http://a:1", "a:1"),
            ("http://[::1]:2379", "http://[::1]:2379", "[::1]:2379"),
            ("http://:2379", "http://:2379", ":2379"),
            ("unix:///run/plinth.sock", "unix:///run/plinth.sock", "/run/plinth.sock"),
            ("unix://localhost:12345", "unix://localhost:12345", "localhost:12345"),
            ("unixs:/tmp/s", "unixs:/tmp/s", "/tmp/s"),
        ];
        for (text, whole, address) in CASES {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.as_str(), url.address()), (*whole, *address));
        }
    }

    #[test]
    fn refused_with_the_reason() {
        const CASES: &[(&str, &str)] = &[
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost", "URL scheme must be http, https, unix, or unixs: localhost"),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("127.0.0.1:2379", "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"),
            ("://a:1", "parse \"://a:1\": missing protocol scheme"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http:a:1", "URL address does not have the form \"host:port\": http:a:1"),
            ("http://::1:2379", "URL address does not have the form \"host:port\": http://::1:2379"),
            ("http://a:port", "URL address does not have the form \"host:port\": http://a:port"),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            ("http://a:1/v2", "URL must not contain a path: http://a:1/v2"),
            ("http://a:1?x", "URL must not contain a query or fragment: http://a:1?x"),
        ];
        for (text, reason) in CASES {
            assert_eq!(Url::parse(text), Err(reason.to_string()));
        }
    }

    #[test]
    fn binding_needs_an_address_and_advertising_a_host() {
        const CASES: &[(&str, bool, bool)] = &[
            ("http://localhost:1", true, true),
            ("http://0.0.0.0:1", true, true),
            ("http://[::]:1", true, true),
            ("http://example.com:1", false, true),
            ("http://:1", false, false),
            ("unix://x", true, true),
        ];
        for (text, bindable, has_host) in CASES {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.check_bindable().is_ok(), url.check_has_host().is_ok()), (*bindable, *has_host), "{text}");
        }
    }

    #[test]
    fn lists_are_sorted_by_text() {
        let urls = parse_urls("http://b:1,http://a:10, http://a:9".split(',')).expect("well-formed");
        assert_eq!(join(&urls), "http://a:10,http://a:9,http://b:1");
    }
}
