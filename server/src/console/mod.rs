//! The console: a page for browsers below `/console/`, and what it asks beyond the JSON gateway.
//!
//! | path | what |
//! | --- | --- |
//! | `/console/` | the page ([`plinth_console`]): one file, with the headers that keep it to itself |
//! | `/console/api/about` | what this server is, and which of the paths below it has; nobody has to sign in for that |
//! | `/console/api/overview` | all members, as each says of itself |
//! | `/console/api/samples?since=T` | figures of each of the last 900 seconds: [`samples`] |
//! | `/console/api/hash?revision=R` | the hash of the data of all members, for whoever administers |
//!
//! The page has views of these too, and shows each as soon as it is in [`VIEWS`] and answered with such an object; keys are
//! base64, rates by the second, and a field that is not known may be left out:
//!
//! | path | object |
//! | --- | --- |
//! | `space?prefix=P` | `{rows: [{prefix, keys, versions, bytes, old_bytes, largest, growth}], verified}`: the level below `P` |
//! | `traffic` | `{prefixes: [{prefix, puts, deletes, ranges, txns, events, renewals}]}` |
//! | `clients` | `{clients: [{address, user, agent, puts, deletes, ranges, txns, events, renewals}]}` |
//! | `slow` | `{requests: [{time, took_us, what, client, stages: [[name, micros]]}]}`, `time` in seconds since 1970 |
//! | `watchers` | `{watchers: [{client, user, key, range_end, lag, queued}]}` |
//!
//! Answers are JSON with 64-bit numbers as texts; refusals are the gateway's. Who may ask is decided before, by
//! `http::Pages`. While the console is off nothing here runs.

mod samples;

use crate::caller::{Caller, User};
use crate::cluster::{Link, corruption, overview};
use crate::config::{Config, version};
use crate::gateway;
use crate::home::Home;
use crate::http::{self, Connection};
use crate::metrics::{PeerFigures, ProcessStats};
use bytes::Bytes;
use plinth_net::grpc::{Code, Status};
use plinth_net::http1::{Http1Request, Method, Response};
use plinth_net::rt;
use plinth_net::transport::{Peer, PeerAddress};
use samples::Samples;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;

pub use samples::{INTERVAL as SAMPLE_INTERVAL, Rpcs};

/// Paths that the page may use here, beside `about`.
const VIEWS: &[&str] = &["overview", "samples", "hash"];

/// See the module.
pub struct Console {
    home: Rc<Home>,
    link: Rc<Link>,
    is_read_only: bool,
    samples: RefCell<Samples>,
}

impl Console {
    /// For the members of one store.
    pub fn new(home: Rc<Home>, link: Rc<Link>, config: &Config) -> Console {
        Console { home, link, is_read_only: config.http.console_read_only, samples: RefCell::default() }
    }

    /// Keeps what the figures are now.
    pub fn sample(&self, rpcs: Rpcs, peers: &[PeerFigures], process: &ProcessStats) {
        let round_trip =
            self.link.others().into_iter().filter_map(|id| self.link.peers().status(id.0)?.round_trip).max();
        self.samples.borrow_mut().push(&self.home.reactor.metrics, rpcs, peers, process, round_trip);
    }

    /// The answer to a request for `path`.
    pub async fn respond(&self, request: &Http1Request, connection: &Connection, path: &str) -> Response {
        if !matches!(request.method, Method::Get | Method::Head) {
            return guarded(Response::error(405, "Method Not Allowed").header("Allow", "GET"));
        }
        match path {
            "/console" => http::redirect("/console/", request.query()),
            "/console/" => page(request),
            _ => match path.strip_prefix("/console/api/") {
                Some(view) => self.view(view, request, connection).await,
                None => guarded(Response::error(404, "404 page not found")),
            },
        }
    }

    async fn view(&self, view: &str, request: &Http1Request, _connection: &Connection) -> Response {
        let answer = match view {
            "about" => Ok(self.about().to_string()),
            _ if !VIEWS.contains(&view) => Err(Status::new(Code::NotFound, "Not Found")),
            _ => match self.user(request).await {
                Ok(user) => self.answer(view, request, user.as_ref()).await,
                Err(status) => Err(status),
            },
        };
        let response = match answer {
            Ok(text) => Response::with_body(200, "application/json", text),
            Err(status) => gateway::refusal(&status),
        };
        guarded(response).header("Cache-Control", "no-store")
    }

    async fn answer(&self, view: &str, request: &Http1Request, user: Option<&User>) -> Result<String, Status> {
        let number = |name: &str| http::query_value(request, name).and_then(|text| text.parse::<i64>().ok());
        match view {
            "overview" => Ok(overview::of_all(&self.home, &self.link).await.to_string()),
            "samples" => {
                let rows = self.samples.borrow().since(number("since").unwrap_or(0));
                Ok(rt::unblock(move || samples::to_json(&rows)).await)
            }
            _ => {
                self.home.may(user, |auth, author| auth.may_administer(author))?;
                let revision = number("revision").unwrap_or(0);
                let hashes = corruption::hashes(&self.home, &self.link, revision).await?;
                let all: Vec<Value> = hashes.into_iter().map(hash).collect();
                Ok(json!({ "hashes": all }).to_string())
            }
        }
    }

    fn about(&self) -> Value {
        json!({
            "name": self.home.profile.name,
            "member": self.home.profile.member_id.to_string(),
            "cluster": self.home.profile.cluster_id.to_string(),
            "version": version::ETCD_VERSION,
            "build": env!("CARGO_PKG_VERSION"),
            "read_only": self.is_read_only,
            "users": self.home.has_users(),
            "views": VIEWS,
        })
    }

    /// Who asks, by the token alone, as for the gateway.
    async fn user(&self, request: &Http1Request) -> Result<Option<User>, Status> {
        let sent = request.headers.get("authorization");
        let token =
            sent.map(|value| Bytes::copy_from_slice(value.strip_prefix(b"Bearer ".as_slice()).unwrap_or(value)));
        let caller = Caller { user: None, peer: Peer::in_clear(PeerAddress::Unix), token };
        let user = self.home.identified(&caller).await?;
        self.home.must_be_somebody(user.as_ref())?;
        Ok(user)
    }
}

fn hash((member, hashed): (u64, Result<corruption::MemberHash, String>)) -> Value {
    match hashed {
        Ok(found) => json!({
            "member": member.to_string(),
            "hash": found.hash,
            "revision": found.revision.to_string(),
            "compact_revision": found.compact_revision.to_string(),
        }),
        Err(error) => json!({"member": member.to_string(), "error": error}),
    }
}

/// The page, or that it has not changed.
fn page(request: &Http1Request) -> Response {
    let tag = format!("\"{}\"", plinth_console::TAG);
    let is_known = request.headers.get_str("if-none-match").is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*")
    });
    let takes_gzip = request.headers.get_str("accept-encoding").is_some_and(accepts_gzip);
    let response = match (is_known, takes_gzip) {
        (true, _) => Response::new(304),
        (false, true) => Response::with_body(200, HTML, plinth_console::PAGE_GZIP).header("Content-Encoding", "gzip"),
        (false, false) => Response::with_body(200, HTML, plinth_console::PAGE),
    };
    guarded(response)
        .header("ETag", tag)
        .header("Cache-Control", "no-cache")
        .header("Vary", "Accept-Encoding")
        .header("Content-Security-Policy", plinth_console::POLICY)
        .header("X-Frame-Options", "DENY")
        .header("Cross-Origin-Opener-Policy", "same-origin")
}

const HTML: &str = "text/html; charset=utf-8";

/// Whether `gzip` is in the list, and not with a weight of nothing.
fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip") || coding == "*");
        is_gzip && !parts.any(|weight| matches!(weight.trim_start_matches("q="), "0" | "0.0" | "0.00" | "0.000"))
    })
}

/// Other pages may neither frame, nor embed, nor guess at what is served here.
fn guarded(response: Response) -> Response {
    let response = match response.get("X-Content-Type-Options") {
        Some(_) => response,
        None => response.header("X-Content-Type-Options", "nosniff"),
    };
    response.header("Referrer-Policy", "no-referrer").header("Cross-Origin-Resource-Policy", "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_where_it_is_taken() {
        for (list, takes) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("*", true),
            ("GZIP", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(list), takes, "{list}");
        }
    }
}
