//! Who may ask over HTTP: the `Host` header (against DNS rebinding), and the origins of browsers (CORS).
//!
//! Applies to listeners for clients, not to those for metrics.

use super::Endpoints;
use super::pages::Pages;
use crate::caller;
use crate::config::Config;
use plinth_net::http1::{Http1Request, Method, Response};
use plinth_net::transport::Peer;

/// Where a page gets a token: what it asks then is asked for that user, whatever its certificate says.
const SIGN_IN: &str = "/v3/auth/authenticate";

/// The lists of `--host-whitelist` and `--cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    hosts: Allowed,
    origins: Allowed,
    /// There is a page of our own on this listener.
    pages: Option<Pages>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    These(Vec<String>),
}

impl Allowed {
    fn new(list: &[String]) -> Self {
        if list.is_empty() || list.iter().any(|entry| entry == "*") {
            Allowed::All
        } else {
            Allowed::These(list.to_vec())
        }
    }

    fn holds(&self, name: &str) -> bool {
        match self {
            Allowed::All => true,
            Allowed::These(list) => list.iter().any(|entry| entry == name),
        }
    }
}

/// What is known about the connection of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// It is encrypted; then the host is not checked, because certificates name it.
    pub tls: bool,
    /// Its certificate carries a common name that authentication would use over gRPC, but not through the gateway.
    pub common_name_would_be_ignored: bool,
    /// That common name, if certificates count.
    pub common_name: Option<String>,
}

impl Connection {
    /// That of a request's other end.
    pub fn of(peer: &Peer) -> Connection {
        let common_name_would_be_ignored = peer.common_name.is_some() && caller::users_matter();
        Connection { tls: peer.is_encrypted, common_name_would_be_ignored, common_name: peer.common_name.clone() }
    }
}

/// The answer to the question whether a request may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may; the answer to it goes through [`Admission::finish`].
    Admitted {
        /// The origin to allow in the answer, if any.
        origin: Option<String>,
    },
    /// It may not, or needs no more: this is the answer.
    Answered(Response),
}

impl Access {
    /// Reads the lists; an empty one, and `*` in one, allow all.
    pub fn new(host_whitelist: &[String], cors: &[String]) -> Self {
        Access { hosts: Allowed::new(host_whitelist), origins: Allowed::new(cors), pages: None }
    }

    /// The rules of a listener with these endpoints.
    pub fn of(config: &Config, endpoints: Endpoints) -> Self {
        let access = Access::new(&config.http.host_whitelist, &config.http.cors);
        if endpoints == Endpoints::Console { access.with_pages(Pages::new(config)) } else { access }
    }

    /// The same on a listener that serves the console: pages of others are kept out unless they are listed by name.
    #[must_use]
    pub fn with_pages(mut self, pages: Pages) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Decides about a request.
    pub fn admit(&self, request: &Http1Request, connection: &Connection) -> Admission {
        let host = host_without_port(request.host());
        if !connection.tls && !self.hosts.holds(host) {
            return Admission::Answered(Response::error(421, &misdirected(host)));
        }
        if let Some(pages) = &self.pages
            && let Err(refusal) = pages.check(request, connection)
        {
            return Admission::Answered(refusal);
        }
        let path = request.path();
        let signs_in = || self.pages.is_some() && (path == SIGN_IN || request.headers.get("authorization").is_some());
        if connection.common_name_would_be_ignored
            && !signs_in()
            && (path.starts_with("/v3/") || path.starts_with("/v3beta/"))
        {
            let text =
                "CommonName of client sending a request against gateway will be ignored and not used as expected";
            return Admission::Answered(Response::error(400, text));
        }
        let sent = request.headers.get_str("origin").unwrap_or("");
        let origin = match &self.origins {
            Allowed::All if self.pages.is_some() => None,
            Allowed::All => Some("*"),
            listed => Some(sent).filter(|origin| listed.holds(origin)),
        };
        let admission = Admission::Admitted { origin: origin.map(str::to_owned) };
        if request.method == Method::Options {
            return Admission::Answered(admission.finish(Response::new(200)));
        }
        admission
    }
}

impl Admission {
    /// Adds to an answer what browsers want to see.
    pub fn finish(&self, response: Response) -> Response {
        match self {
            Admission::Admitted { origin: Some(origin) } => response
                .header("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
                .header("Access-Control-Allow-Origin", origin.clone())
                .header("Access-Control-Allow-Headers", "accept, content-type, authorization"),
            _ => response,
        }
    }
}

/// `example.com:2379` and `[::1]:2379` without their ports; anything else as it is.
pub(super) fn host_without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((address, _)) => address,
            None => host,
        };
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// Says what to do about it; people see this in a browser.
pub(super) fn misdirected(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         The name has to be allowed, so that a web site cannot make your browser talk to this server under a name of \
         its own (DNS rebinding, CVE-2018-5702). Either use TLS, or allow the name: --host-whitelist {host:?}\n"
    )
}
