//! Who may ask over HTTP: the `Host` header (against DNS rebinding), and the origins of browsers (CORS).
//!
//! Applies to listeners for clients, not to those for metrics.

use crate::caller;
use plinth_net::http1::{Http1Request, Method, Response};
use plinth_net::transport::Peer;

/// The lists of `--host-whitelist` and `--cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    hosts: Allowed,
    origins: Allowed,
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
        Access { hosts: Allowed::new(host_whitelist), origins: Allowed::new(cors) }
    }

    /// Decides about a request.
    pub fn admit(&self, request: &Http1Request, connection: &Connection) -> Admission {
        let host = host_without_port(request.host());
        if !connection.tls && !self.hosts.holds(host) {
            return Admission::Answered(Response::error(421, &misdirected(host)));
        }
        let path = request.path();
        if connection.common_name_would_be_ignored && (path.starts_with("/v3/") || path.starts_with("/v3beta/")) {
            let text =
                "CommonName of client sending a request against gateway will be ignored and not used as expected";
            return Admission::Answered(Response::error(400, text));
        }
        let sent = request.headers.get_str("origin").unwrap_or("");
        let origin = match &self.origins {
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
fn host_without_port(host: &str) -> &str {
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
fn misdirected(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         The name has to be allowed, so that a web site cannot make your browser talk to this server under a name of \
         its own (DNS rebinding, CVE-2018-5702). Either use TLS, or allow the name: --host-whitelist {host:?}\n"
    )
}
