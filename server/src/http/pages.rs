//! What is asked of requests that come from pages in browsers, on a listener that serves a page of its own.
//!
//! etcd lets pages of any origin in unless `--cors` and `--host-whitelist` say otherwise. Where somebody works with the
//! console that is not enough: a page elsewhere could use his browser, or a name that it points here (DNS rebinding), to
//! ask in his place. So a request with an `Origin`, and all below `/console/`, must come from this server's own page or
//! from an origin listed by name, to a host that is this server's; `*` lists nobody.

use super::access::{host_without_port, misdirected};
use super::{Connection, path_of, query};
use crate::config::Config;
use plinth_net::http1::{Http1Request, Method, Response};
use std::net::IpAddr;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Hosts by which this server is called.
    hosts: Vec<String>,
    /// Origins of other pages that may ask.
    origins: Vec<String>,
    is_read_only: bool,
}

/// What all members work on for a while, so that nobody may ask for it by the way.
const HASH: &str = "/console/api/hash";

/// Calls below `/v3` that change nothing.
const READS: &[&str] = &[
    "/kv/range",
    "/watch",
    "/lease/timetolive",
    "/kv/lease/timetolive",
    "/lease/leases",
    "/kv/lease/leases",
    "/cluster/member/list",
    "/maintenance/status",
    "/maintenance/hash",
    "/maintenance/hashkv",
    "/maintenance/snapshot",
    "/auth/authenticate",
    "/auth/status",
    "/auth/user/get",
    "/auth/user/list",
    "/auth/role/get",
    "/auth/role/list",
    "/election/leader",
    "/election/observe",
];

/// The path of a request for the console, `/console` or what is below it.
pub fn console_path(request: &Http1Request) -> Option<String> {
    let path = query::decode_path(request.path());
    let is_below = path.strip_prefix("/console").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (is_below && query::cleaned(&path).is_none()).then_some(path)
}

impl Pages {
    /// By the URLs, lists and flags of a configuration.
    pub fn new(config: &Config) -> Pages {
        let addresses = &config.addresses;
        let own = [&addresses.listen_client, &addresses.listen_client_http, &addresses.listen_console];
        let urls = own.into_iter().chain([&addresses.advertise_client]).flatten();
        let mut hosts: Vec<String> = urls.map(|url| host_without_port(url.address()).to_ascii_lowercase()).collect();
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        hosts.extend([machine.trim().to_ascii_lowercase(), "localhost".to_owned()]);
        hosts.extend(config.http.host_whitelist.iter().map(|host| host.to_ascii_lowercase()));
        hosts.retain(|host| !host.is_empty() && host != "*");
        let origins = config.http.cors.iter().filter(|origin| *origin != "*").cloned().collect();
        Pages { hosts, origins, is_read_only: config.http.console_read_only }
    }

    /// Whether a request may come in.
    ///
    /// # Errors
    /// The answer that refuses it.
    pub fn check(&self, request: &Http1Request, connection: &Connection) -> Result<(), Response> {
        let origin = request.headers.get_str("origin");
        let path = path_of(request);
        let of_console = path == "/console" || path.starts_with("/console/");
        if origin.is_none() && !of_console {
            return Ok(());
        }
        let host = host_without_port(request.host());
        if !connection.tls && !self.is_own(host) {
            return Err(Response::error(421, &misdirected(host)));
        }
        let is_listed = origin.is_some_and(|origin| self.origins.iter().any(|listed| listed == origin));
        if !is_listed && !is_of_this_server(request, connection, origin, of_console && path != "/console/") {
            let text = "this page may not ask here: name its origin in --cors to let it in";
            return Err(Response::error(403, text));
        }
        if request.method == Method::Options {
            return Ok(());
        }
        let is_json = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
        // What a form or an image can send without being asked for leave says nothing of JSON. Sockets have no body here.
        let is_call = request.method == Method::Post && path.starts_with("/v3") || path == HASH;
        if is_call && !request.headers.get_str("content-type").is_some_and(is_json) {
            return Err(Response::error(415, "a page sends application/json"));
        }
        let Some(call) = path.strip_prefix("/v3") else { return Ok(()) };
        if self.is_read_only && !READS.contains(&call) {
            let body = r#"{"code":7,"message":"the console is read-only (--console-read-only)"}"#;
            return Err(Response::with_body(403, "application/json", body));
        }
        Ok(())
    }

    /// Whether `host` is a name of this server. Nobody can make an address point elsewhere.
    fn is_own(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok() || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

/// Whether a page of this server asks. Browsers leave `Origin` out of what reads from the page's own server, and of what
/// is fetched for a picture elsewhere: `Sec-Fetch-Site` tells these apart.
fn is_of_this_server(
    request: &Http1Request,
    connection: &Connection,
    origin: Option<&str>,
    looks_at_site: bool,
) -> bool {
    if let Some(origin) = origin {
        let scheme = if connection.tls { "https://" } else { "http://" };
        return origin.strip_prefix(scheme).is_some_and(|authority| authority.eq_ignore_ascii_case(request.host()));
    }
    !looks_at_site || !matches!(request.headers.get_str("sec-fetch-site"), Some("cross-site" | "same-site"))
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Admission};
    use super::*;
    use plinth_net::http1::{Limits, parse};

    fn pages(origins: &[&str]) -> Pages {
        let hosts = vec!["db.example".to_owned(), "localhost".to_owned()];
        Pages { hosts, origins: origins.iter().map(|origin| (*origin).to_owned()).collect(), is_read_only: false }
    }

    fn request(method: &str, target: &str, fields: &str) -> Http1Request {
        let text = format!("{method} {target} HTTP/1.1\r\n{fields}\r\n");
        parse(text.as_bytes(), Limits::default()).expect("well-formed").expect("complete").0
    }

    fn status(pages: &Pages, connection: &Connection, method: &str, target: &str, fields: &str) -> u16 {
        pages.check(&request(method, target, fields), connection).err().map_or(200, |refusal| refusal.status)
    }

    #[test]
    fn only_pages_of_this_server_and_listed_ones() {
        let (plain, tls) = (Connection::default(), Connection { tls: true, ..Connection::default() });
        const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
        const CASES: &[(bool, &str, &str, u16)] = &[
            (false, "db.example:2379", "http://db.example:2379", 200),
            (false, "DB.example:2379", "http://db.example:2379", 200),
            (false, "db.example:2379", "http://db.example:2380", 403),
            (false, "db.example:2379", "https://db.example:2379", 403),
            (false, "evil.com:2379", "http://evil.com:2379", 421),
            (true, "evil.com:2379", "https://evil.com:2379", 200),
            (true, "db.example:2379", "http://db.example:2379", 403),
            (false, "127.0.0.1:2379", "http://listed.com", 200),
            (false, "[::1]:2379", "http://[::1]:2379", 200),
            (false, "", "http://", 421),
        ];
        for (encrypted, host, origin, expected) in CASES {
            let fields = format!("Host: {host}\r\nOrigin: {origin}\r\n{JSON}");
            let connection = if *encrypted { &tls } else { &plain };
            let found = status(&pages(&["http://listed.com"]), connection, "POST", "/v3/kv/put", &fields);
            assert_eq!(found, *expected, "{host} {origin}");
        }
        assert_eq!(status(&pages(&[]), &plain, "GET", "/console/", "Host: evil.com\r\n"), 421);
        assert_eq!(status(&pages(&[]), &plain, "GET", "/metrics", "Host: evil.com\r\n"), 200, "no page asks");
        for (kind, expected) in [("", 415), (JSON, 200)] {
            let fields = format!("Host: localhost\r\n{kind}");
            assert_eq!(status(&pages(&[]), &plain, "GET", HASH, &fields), expected, "an image is not of JSON");
        }
        assert_eq!(status(&pages(&[]), &plain, "GET", "/consoles", "Host: evil.com\r\n"), 200);
    }

    /// The user of a certificate does not act through the gateway; one who has signed in does, certificate or not.
    #[test]
    fn a_token_counts_beside_a_certificate() {
        let access = Access::new(&[], &[]).with_pages(pages(&[]));
        let connection = Connection { tls: true, common_name_would_be_ignored: true, ..Connection::default() };
        let admits = |target: &str, fields: &str| {
            let fields = format!("Host: db.example\r\n{fields}");
            matches!(access.admit(&request("POST", target, &fields), &connection), Admission::Admitted { .. })
        };
        assert!(!admits("/v3/kv/put", ""));
        assert!(admits("/v3/auth/authenticate", ""));
        assert!(admits("/v3/kv/put", "Authorization: token\r\n"));
    }

    #[test]
    fn paths_of_the_console() {
        let path = |target: &str| console_path(&request("GET", target, "Host: h\r\n"));
        assert_eq!(path("/console?a=b").as_deref(), Some("/console"));
        assert_eq!(path("/console/api/about").as_deref(), Some("/console/api/about"));
        for other in ["/consoles", "/console/../metrics", "/console//x", "/v3/kv/range"] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
