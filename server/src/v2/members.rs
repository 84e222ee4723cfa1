//! `/v2/members` and `/v2/machines`.

use crate::answer::status;
use crate::cluster::membership::strict;
use crate::config::Url;
use crate::home::Home;
use plinth_member::records;
use plinth_net::grpc::Status;
use plinth_net::http1::{Http1Request, Method, Response};
use plinth_raft::{Member, MemberChange, MemberId, MembershipError, check_add, check_remove};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A member, as the API shows it.
#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
}

#[derive(Serialize)]
struct List {
    members: Vec<Shown>,
}

/// What a new or changed member is to be.
#[derive(Deserialize)]
struct Wanted {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
}

impl From<Member> for Shown {
    fn from(member: Member) -> Shown {
        Shown {
            id: format!("{:x}", member.id.0),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
        }
    }
}

/// An answer that is no success.
pub fn message(status: u16, text: &str) -> Response {
    let body = serde_json::json!({ "message": text }).to_string();
    Response::with_body(status, "application/json", body)
}

/// What went wrong inside.
pub fn internal(status: &Status) -> Response {
    tracing::warn!(error = %status.message, "v2 response error");
    message(500, "Internal Server Error")
}

/// An answer with a line end, and what browsers might take for their own escaped, as Go does.
pub fn json(status: u16, value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("texts and lists can be written");
    let mut body = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    body.push('\n');
    Response::with_body(status, "application/json", body)
}

fn list(home: &Home) -> Vec<Member> {
    records::list(home.state().member.store()).unwrap_or_else(|error| {
        tracing::error!(%error, "the list of members cannot be read");
        Vec::new()
    })
}

/// The addresses of all members for clients.
pub fn machines(home: &Home) -> Response {
    let mut urls: Vec<String> = list(home).into_iter().flat_map(|member| member.client_urls).collect();
    urls.sort();
    Response::with_body(200, "text/plain; charset=utf-8", urls.join(", "))
}

/// Answers a request to a path behind `/v2/members`.
pub async fn answer(home: &Rc<Home>, request: &Http1Request, tail: &str) -> Response {
    let tail = tail.strip_prefix('/').unwrap_or(tail);
    match request.method {
        Method::Get => get(home, tail),
        Method::Post => add(home, request).await,
        Method::Delete => match id_of(tail) {
            Ok(id) => remove(home, id).await,
            Err(response) => response,
        },
        _ => match id_of(tail) {
            Ok(id) => update(home, request, id).await,
            Err(response) => response,
        },
    }
}

fn get(home: &Home, tail: &str) -> Response {
    match tail {
        "" => json(200, &List { members: list(home).into_iter().map(Shown::from).collect() }),
        "leader" => {
            let leader = home.state().member.group().leader();
            let found = list(home).into_iter().find(|member| Some(member.id.0) == leader.map(|leader| leader.0));
            match found {
                Some(member) => json(200, &Shown::from(member)),
                None => message(503, "During election"),
            }
        }
        _ => message(404, "Not found"),
    }
}

fn id_of(tail: &str) -> Result<MemberId, Response> {
    if tail.is_empty() {
        return Err(Response::error(405, "Method Not Allowed"));
    }
    let id = u64::from_str_radix(tail, 16).ok().filter(|_| !tail.starts_with('+'));
    id.map(MemberId).ok_or_else(|| no_such(tail))
}

fn no_such(id: &str) -> Response {
    message(404, &format!("No such member: {id}"))
}

/// The peer URLs of a body.
fn wanted(request: &Http1Request) -> Result<Vec<String>, Response> {
    let kind = request.headers.get_str("content-type").unwrap_or_default();
    let kind = match kind.split_once(';') {
        Some((kind, _)) => kind.to_ascii_lowercase().trim().to_string(),
        None => kind.to_string(),
    };
    if kind != "application/json" {
        return Err(message(415, &format!("Bad Content-Type {kind}, accept application/json")));
    }
    let wanted: Wanted = serde_json::from_slice(&request.body).map_err(|error| message(400, &error.to_string()))?;
    let texts = wanted.peer_urls.unwrap_or_default();
    if texts.is_empty() {
        return Err(message(400, "no valid URLs given"));
    }
    let urls: Result<Vec<Url>, _> = texts.iter().map(|text| Url::parse(text)).collect();
    let mut urls = urls.map_err(|error| message(400, &error.to_string()))?;
    urls.sort();
    Ok(urls.into_iter().map(|url| url.as_str().to_string()).collect())
}

async fn add(home: &Rc<Home>, request: &Http1Request) -> Response {
    let peer_urls = match wanted(request) {
        Ok(urls) => urls,
        Err(response) => return response,
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let id = plinth_raft::member_id(&peer_urls, "", Some(seconds));
    let member = Member { id, peer_urls, ..Member::default() };
    let checked = strict(home, |members, health| check_add(members, false, health));
    let result = match checked {
        Ok(()) => home.change(MemberChange::Add(member.clone())).await,
        Err(status) => Err(status),
    };
    match result {
        Ok(()) => json(201, &Shown::from(member)),
        Err(status) if status == status::MEMBER_EXIST => message(409, "membership: ID exists"),
        Err(status) if status == status::PEER_URL_EXIST => message(409, "membership: peerURL exists"),
        Err(status) => internal(&status),
    }
}

async fn remove(home: &Rc<Home>, id: MemberId) -> Response {
    let was_removed = records::is_removed(home.state().member.store(), id).unwrap_or(false);
    if was_removed {
        return message(410, &format!("Member permanently removed: {:x}", id.0));
    }
    let checked = strict(home, |members, health| match members.get(id) {
        None => Err(MembershipError::MemberNotFound),
        Some(_) => check_remove(members, id, health),
    });
    let result = match checked {
        Ok(()) => home.change(MemberChange::Remove(id)).await,
        Err(status) => Err(status),
    };
    changed(result, id)
}

async fn update(home: &Rc<Home>, request: &Http1Request, id: MemberId) -> Response {
    match wanted(request) {
        Ok(urls) => changed(home.change(MemberChange::UpdatePeerUrls(id, urls)).await, id),
        Err(response) => response,
    }
}

fn changed(result: Result<(), Status>, id: MemberId) -> Response {
    match result {
        Ok(()) => Response::new(204),
        Err(status) if status == status::MEMBER_NOT_FOUND => no_such(&format!("{:x}", id.0)),
        Err(status) if status == status::PEER_URL_EXIST => message(409, "membership: peerURL exists"),
        Err(status) => internal(&status),
    }
}
