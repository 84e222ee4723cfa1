//! etcd's v2 API over HTTP, where `--enable-v2` asks for it: `/v2/keys`, `/v2/members`, `/v2/machines`, `/v2/stats`,
//! `/v2/auth`. Bodies, headers and codes are those of etcd 3.5; what differs is told in `docs/v2.md`.
//!
//! | file | what |
//! | --- | --- |
//! | `form`, `keys` | parameters, and what they ask for |
//! | `auth` | users and roles of this API |
//! | `members`, `stats` | of the cluster, and of this member |
//! | `waiting` | an answer that comes when something happens |
//!
//! A change is a command of the log as any other; reads are of this member, and with `quorum` behind a round of consensus.
//! The tree itself is `plinth_v2`; who waits for it is kept in `home::v2`.

mod auth;
mod form;
mod gate;
mod keys;
mod listing;
mod members;
mod stats;
mod waiting;

pub use waiting::{Pieces, Signals, Waiting};

use crate::answer::status;
use crate::cluster::{Link, forward};
use crate::home::Home;
use crate::home::v2::Watch;
use crate::http::{self, Connection};
use keys::{Asked, KeysRequest, Write};
use plinth_engine::command::Command;
use plinth_net::grpc::Status;
use plinth_net::http1::{Http1Request, Method, Response};
use plinth_v2::hub::{Interest, WatchError};
use plinth_v2::{Answer, Change, Code, V2Command, V2Error, path};
use std::rc::Rc;

/// What a request is answered.
pub enum Reply {
    /// All of it.
    Whole(Response),
    /// A head, and events when they happen.
    Waiting(Response, Waiting),
}

/// See the module.
pub struct V2 {
    home: Rc<Home>,
    link: Rc<Link>,
    request_bytes_max: u64,
}

/// The decoded path of a request, if it is one for this API.
pub fn path_of(request: &Http1Request) -> Option<Vec<u8>> {
    if !request.path().starts_with("/v2/") {
        return None;
    }
    form::unescape(request.path().as_bytes(), false).ok()
}

/// Go's mux has a handler for this path: the path without that is for the handler.
fn below<'a>(path: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    path.strip_prefix(prefix.as_bytes()).filter(|tail| tail.is_empty() || tail.first() == Some(&b'/'))
}

/// Sends a client to another path, as the Go of that time did.
fn moved(request: &Http1Request, target: &str) -> Response {
    let response = Response::new(301).header("Location", target.to_string());
    if !matches!(request.method, Method::Get | Method::Head) {
        return response;
    }
    let shown = target.replace('&', "&amp;");
    let text = format!("<a href=\"{shown}\">Moved Permanently</a>.\n\n");
    let response = response.header("Content-Type", "text/html; charset=utf-8");
    if request.method == Method::Head { response } else { response.body(text) }
}

fn method_not_allowed(allowed: &'static str) -> Response {
    Response::error(405, "Method Not Allowed").header("Allow", allowed)
}

impl V2 {
    /// The API over a store. Larger requests than `request_bytes_max` are refused.
    pub fn new(home: Rc<Home>, link: Rc<Link>, request_bytes_max: u64) -> V2 {
        V2 { home, link, request_bytes_max }
    }

    /// Answers a request to a path below `/v2/`, as it is or as it is meant.
    pub async fn answer(&self, request: &Http1Request, connection: &Connection, path: &[u8]) -> Reply {
        if let Some(meant) = http::meant(request) {
            return Reply::Whole(moved(request, &meant));
        }
        // What is no text was not looked at above.
        if !path::is_clean(path) {
            return Reply::Whole(Response::error(400, "Bad Request"));
        }
        if let Some(tail) = below(path, "/v2/keys") {
            return self.keys(request, connection, tail).await;
        }
        if let Some(tail) = below(path, "/v2/auth") {
            if let Err(status) = self.begin().await {
                return Reply::Whole(members::message(503, &status.message));
            }
            return Reply::Whole(self.auth(request, connection, &String::from_utf8_lossy(tail)).await);
        }
        let text = String::from_utf8_lossy(path);
        Reply::Whole(match &*text {
            "/v2/stats/store" => only(request, "GET", || stats::store(&self.home)),
            "/v2/stats/self" => only(request, "GET", || stats::own(&self.home, &self.link)),
            "/v2/stats/leader" => only(request, "GET", || stats::leader(&self.home, &self.link)),
            "/v2/machines" => only(request, "GET,HEAD", || members::machines(&self.home)),
            _ => match below(path, "/v2/members") {
                Some(tail) => self.members(request, connection, &String::from_utf8_lossy(tail)).await,
                None => Response::error(404, "404 page not found"),
            },
        })
    }

    async fn members(&self, request: &Http1Request, connection: &Connection, tail: &str) -> Response {
        if !matches!(request.method, Method::Get | Method::Post | Method::Delete | Method::Put) {
            return method_not_allowed("GET,POST,DELETE,PUT");
        }
        if request.method != Method::Get
            && let Err(refused) = self.may_administer(request, connection).await
        {
            return refused;
        }
        self.of_cluster(members::answer(&self.home, request, tail).await)
    }

    fn of_cluster(&self, response: Response) -> Response {
        response.header("X-Etcd-Cluster-Id", format!("{:x}", self.home.profile.cluster_id))
    }

    async fn keys(&self, request: &Http1Request, connection: &Connection, tail: &[u8]) -> Reply {
        if !matches!(request.method, Method::Get | Method::Head | Method::Put | Method::Post | Method::Delete) {
            return Reply::Whole(method_not_allowed("HEAD,GET,PUT,POST,DELETE"));
        }
        let admitted = match self.begin().await {
            Ok(()) => self.admitted(request, connection, tail).await,
            Err(status) => Err(failed(&status)),
        };
        let result = match admitted {
            Err(error) => Err(error),
            Ok(KeysRequest { path, asked: Asked::Wait { recursive, stream, since } }) => {
                listing::whole(&self.home).await;
                let interest = Interest { path: &path, recursive, stream, since };
                match Watch::begin(&self.home, interest) {
                    Ok(watch) => {
                        let index = self.home.state().member.store().v2().index();
                        let head = self.head(Response::new(200).header("Content-Type", "application/json"), index);
                        return Reply::Waiting(self.of_cluster(head), Waiting::new(watch));
                    }
                    Err(WatchError::Refused(error)) => Err(error),
                    Err(WatchError::TooMany) => Err(failed(&status::TOO_MANY_REQUESTS)),
                }
            }
            Ok(KeysRequest { path, asked: Asked::Get { recursive, quorum } }) => {
                self.get(&path, recursive, quorum).await
            }
            Ok(KeysRequest { asked: Asked::Change { write, brief }, .. }) => self.change(write, brief).await,
        };
        Reply::Whole(self.of_cluster(match result {
            Ok(answer) if answer.status < 400 => {
                let head = Response::with_body(answer.status, "application/json", answer.json);
                self.head(head, answer.index)
            }
            Ok(answer) => refused(answer),
            Err(error) => refused(Answer::refused(&error)),
        }))
    }

    /// Reads a request, and looks whether it may be made.
    async fn admitted(
        &self,
        request: &Http1Request,
        connection: &Connection,
        tail: &[u8],
    ) -> Result<KeysRequest, V2Error> {
        let asked = KeysRequest::read(request, tail)?;
        match self.may_touch(request, connection, &String::from_utf8_lossy(tail), asked.recursive()).await {
            Ok(true) => Ok(asked),
            Ok(false) => Err(V2Error::request(Code::Unauthorized, "Insufficient credentials")),
            Err(_) => Err(failed(&status::TOO_MANY_REQUESTS)),
        }
    }

    /// Adds what tells where the store and consensus are.
    fn head(&self, response: Response, index: u64) -> Response {
        let state = self.home.state();
        let group = state.member.group();
        response
            .header("X-Etcd-Index", index.to_string())
            .header("X-Raft-Index", group.commit().to_string())
            .header("X-Raft-Term", group.term().to_string())
    }

    async fn get(&self, path: &[u8], recursive: bool, quorum: bool) -> Result<Answer, V2Error> {
        if quorum {
            self.home.barrier().await.map_err(|status| failed(&status))?;
        }
        listing::read(&self.home, path, recursive).await
    }

    async fn change(&self, write: Write, brief: bool) -> Result<Answer, V2Error> {
        let at = match write.has_ttl() {
            true => forward::v2_time(&self.home, &self.link).await.map_err(|status| failed(&status))?,
            false => 0,
        };
        self.propose(write.change(at), at, brief).await
    }

    /// Replicates a change, whose times to live count from `at`. Users and roles come this way too, and are bounded as keys.
    async fn propose(&self, change: Change, at: i64, brief: bool) -> Result<Answer, V2Error> {
        let bytes = change.bytes() as u64;
        if bytes > self.request_bytes_max {
            return Err(failed(&status::REQUEST_TOO_LARGE));
        }
        if change.adds() && !self.has_room(bytes) {
            return Err(failed(&status::NO_SPACE));
        }
        let shown_at = if at == 0 { self.home.v2.now() } else { at };
        let command = Command::V2(V2Command { at, shown_at, brief, change });
        let outcome = self.home.propose(command).await.map_err(|status| failed(&status))?;
        let bytes = outcome.body.into_pieces().concat();
        Answer::decode(&bytes).ok_or_else(|| V2Error::request(Code::RaftInternal, "an outcome that is no answer"))
    }

    /// What the tree holds has a bound of its own: that of the quota, beside it.
    fn has_room(&self, more: u64) -> bool {
        let state = self.home.state();
        let store = state.member.store();
        store.quota().bytes().is_none_or(|bytes| store.v2().bytes() + more < bytes)
    }
}

fn only(request: &Http1Request, allowed: &'static str, answer: impl FnOnce() -> Response) -> Response {
    let is_allowed = request.method == Method::Get || (request.method == Method::Head && allowed.contains("HEAD"));
    if is_allowed { answer() } else { method_not_allowed(allowed) }
}

/// What consensus, or this member, does not do.
fn failed(status: &Status) -> V2Error {
    tracing::warn!(error = %status.message, "v2 response error");
    V2Error::request(Code::RaftInternal, status.message.as_bytes())
}

fn refused(answer: Answer) -> Response {
    Response::with_body(answer.status, "application/json", answer.json).header("X-Etcd-Index", answer.index.to_string())
}
