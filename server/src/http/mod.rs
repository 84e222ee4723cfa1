//! The HTTP endpoints beside gRPC: which request wants what, and what the answers look like.
//!
//! ```text
//!            Access::admit            route                    the server finds out      health, probes, info
//! request ──▶ host, origin ──▶ Route::{Health, Probe, ...} ──▶ alarms, leader, reads ──▶ Response ──▶ Admission::finish
//! ```
//!
//! Everything here is a function of plain values: what has to be looked up (alarms, a linearizable read) is named by
//! the [`Route`] and handed back as a result. Texts, codes and headers are etcd's.
//!
//! Not here: sockets and framing (`plinth_net::http1`), running the checks, the JSON gateway (`crate::gateway`), which is
//! asked first, profiles.

mod access;
mod health;
mod info;
mod level;
mod pages;
mod probe;
mod query;
#[cfg(test)]
mod tests;

use plinth_net::http1::{Http1Request, Method, Response};

pub use access::{Access, Admission, Connection};
pub use health::{ActiveAlarm, HealthRequest};
pub use info::{DebugVars, PeerProgress, RaftStatus, debug_vars, metrics, version};
pub use level::level_changed;
pub use pages::{Pages, console_path};
pub use probe::{CheckOutcome, ProbeRequest};

use crate::config::{Config, LogLevel};
use crate::metrics::{Check, Probe};

/// Which endpoints a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// All of them: listeners for clients.
    Client,
    /// All of them, and the console.
    Console,
    /// `/metrics`, `/health`, `/livez`, `/readyz`: listeners for metrics.
    Metrics,
}

impl Endpoints {
    /// Those of listeners for clients.
    pub fn of_clients(config: &Config) -> Endpoints {
        if config.http.console { Endpoints::Console } else { Endpoints::Client }
    }
}

/// What a request needs before it can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nothing: this is the answer.
    Answer(Response),
    /// Alarms, leader, and a read; see [`HealthRequest`].
    Health(HealthRequest),
    /// The results of the checks it lists; see [`ProbeRequest`].
    Probe(ProbeRequest),
    /// Snapshots of all reactors; see [`metrics`].
    Metrics,
    /// The versions of cluster and storage; see [`version`].
    Version,
    /// The state of consensus and of the process; see [`debug_vars`].
    DebugVars,
    /// The log is to be of this level from here on; see [`level_changed`].
    LogLevel(LogLevel),
}

/// The path of a request as it is looked up: without escapes, and as version 3 has it.
fn path_of(request: &Http1Request) -> String {
    let path = query::decode_path(request.path());
    match path.strip_prefix("/v3beta/") {
        Some(rest) => format!("/v3/{rest}"),
        None => path,
    }
}

/// The path of a request for the JSON gateway, `/v3` or what is below it; nothing if it is for others.
pub fn gateway_path(request: &Http1Request) -> Option<String> {
    let path = path_of(request);
    let is_below = path.strip_prefix("/v3").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (is_below && query::cleaned(&path).is_none()).then_some(path)
}

/// The target that a request means, if its path is not as it should be: with its query, and with escapes.
pub fn meant(request: &Http1Request) -> Option<String> {
    let clean = query::cleaned(&query::decode_path(request.path()))?;
    let query = if request.query().is_empty() { String::new() } else { format!("?{}", request.query()) };
    Some(query::encode_path(&clean) + &query)
}

/// Finds out what a request needs.
pub fn route(request: &Http1Request, endpoints: Endpoints) -> Route {
    let path = path_of(request);
    if let Some(clean) = query::cleaned(&path) {
        return Route::Answer(redirect(&clean, request.query()));
    }
    let get = |route: fn(&Http1Request) -> Route| {
        if request.method == Method::Get { route(request) } else { Route::Answer(method_not_allowed()) }
    };
    match path.as_str() {
        "/metrics" => return Route::Metrics,
        "/health" => return get(|request| Route::Health(HealthRequest::new(request.query()))),
        "/livez" => return get(|request| Route::Probe(ProbeRequest::all(Probe::Livez, request.query()))),
        "/readyz" => return get(|request| Route::Probe(ProbeRequest::all(Probe::Readyz, request.query()))),
        _ => {}
    }
    if let Some((probe, check)) = sub_check(&path) {
        return match request.method {
            Method::Get => Route::Probe(ProbeRequest::one(probe, check, request.query())),
            _ => Route::Answer(method_not_allowed()),
        };
    }
    if endpoints == Endpoints::Metrics {
        return Route::Answer(not_found());
    }
    match path.as_str() {
        "/version" => get(|_| Route::Version),
        "/debug/vars" => get(|_| Route::DebugVars),
        "/config/local/log" => level::route(request),
        _ => Route::Answer(not_found()),
    }
}

/// `/livez/serializable_read` and its like.
fn sub_check(path: &str) -> Option<(Probe, Check)> {
    let (probe, name) = path.strip_prefix('/')?.split_once('/')?;
    let probe = *Probe::ALL.iter().find(|known| known.as_str() == probe)?;
    let check = *ProbeRequest::checks_of(probe).iter().find(|known| known.as_str() == name)?;
    Some((probe, check))
}

/// The last value of a name in the query of a request.
pub fn query_value(request: &Http1Request, name: &str) -> Option<String> {
    query::pairs(request.query()).into_iter().rev().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Sends a client to the path that it meant, with the method that it used.
pub fn redirect(path: &str, query: &str) -> Response {
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    Response::new(307).header("Location", query::encode_path(path) + &query)
}

fn not_found() -> Response {
    Response::error(404, "404 page not found")
}

fn method_not_allowed() -> Response {
    Response::error(405, "Method Not Allowed").header("Allow", "GET")
}
