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
//! Not here: sockets and framing (`plinth_net::http1`), running the checks, the JSON gateway, profiles.

mod access;
mod health;
mod info;
mod probe;
mod query;
#[cfg(test)]
mod tests;

use plinth_net::http1::{Http1Request, Method, Response};

pub use access::{Access, Admission, Connection};
pub use health::{ActiveAlarm, HealthRequest};
pub use info::{DebugVars, PeerProgress, RaftStatus, debug_vars, metrics, version};
pub use probe::{CheckOutcome, ProbeRequest};

use crate::metrics::{Check, Probe};

/// Which endpoints a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// All of them: listeners for clients. Whether the JSON gateway answers below `/v3/`.
    Client {
        /// The JSON gateway is served.
        gateway: bool,
    },
    /// `/metrics`, `/health`, `/livez`, `/readyz`: listeners for metrics.
    Metrics,
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
    /// The JSON gateway, with the path as version 3 has it.
    Gateway {
        /// Starts with `/v3/`, no query.
        path: String,
    },
}

/// Finds out what a request needs.
pub fn route(request: &Http1Request, endpoints: Endpoints) -> Route {
    let path = query::decode_path(request.path());
    let path = match path.strip_prefix("/v3beta/") {
        Some(rest) => format!("/v3/{rest}"),
        None => path,
    };
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
    let Endpoints::Client { gateway } = endpoints else { return Route::Answer(not_found()) };
    match path.as_str() {
        "/version" => get(|_| Route::Version),
        "/debug/vars" => get(|_| Route::DebugVars),
        _ if gateway && path.starts_with("/v3/") => Route::Gateway { path },
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

fn not_found() -> Response {
    Response::error(404, "404 page not found")
}

fn method_not_allowed() -> Response {
    Response::error(405, "Method Not Allowed").header("Allow", "GET")
}
