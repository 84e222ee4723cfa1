//! How each member is: what this one says of itself, and what the others say when they are asked.

use super::Link;
use super::forward::{Question, read_answer};
use crate::config::version;
use crate::home::Home;
use crate::home::others::Others;
use bytes::Bytes;
use plinth_engine::command::AlarmKind;
use plinth_engine::trees::Trees;
use plinth_member::records;
use plinth_net::rt;
use plinth_raft::{Member, MemberId};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Whoever has not answered by then is shown without an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// This member. Numbers of 64 bits are texts, as in the JSON of the API.
pub fn of_this(home: &Home, link: &Link) -> Value {
    let state = home.state();
    let (member, store) = (&state.member, state.member.store());
    let group = member.group();
    let certificates: Vec<Value> =
        link.security.days_left().into_iter().map(|(side, days)| json!({"side": side, "days": days.floor()})).collect();
    let backup = home.backups.line();
    json!({
        "version": version::ETCD_VERSION,
        "build": env!("CARGO_PKG_VERSION"),
        "leader": group.leader().map_or(0, |leader| leader.0).to_string(),
        "term": group.term().to_string(),
        "committed": group.commit().to_string(),
        "applied": group.applied().to_string(),
        "revision": store.revision().to_string(),
        "compact_revision": store.compact_revision().to_string(),
        "keys": store.live_keys().to_string(),
        "db_size": store.trees().size_bytes().to_string(),
        "db_in_use": store.trees().in_use_bytes().to_string(),
        "quota": home.profile.quota_bytes.to_string(),
        "learner": home.is_learner(),
        "uptime_seconds": link.started.elapsed().as_secs(),
        "certificates": certificates,
        "backup": backup.as_deref().map(str::trim),
    })
}

/// All members of the list, those who do not answer with the reason. They are asked at once.
pub async fn of_all(home: &Rc<Home>, link: &Rc<Link>) -> Value {
    let members = records::list(home.state().member.store()).unwrap_or_default();
    let own = MemberId(home.profile.member_id);
    let asked: Vec<_> = members
        .into_iter()
        .map(|member| {
            let (id, link) = (member.id, link.clone());
            let status = (id != own).then(|| rt::spawn(async move { ask(&link, id).await }));
            (member, status)
        })
        .collect();
    let mut all = Vec::new();
    for (member, answer) in asked {
        let status = match answer {
            None => Ok(of_this(home, link)),
            Some(answer) => answer.await,
        };
        all.push(entry(link, &member, member.id == own, status));
    }
    let alarms: Vec<Value> = home.state().member.store().alarms().list(AlarmKind::None).map(alarm).collect();
    json!({"members": all, "alarms": alarms})
}

fn entry(link: &Link, member: &Member, is_own: bool, status: Result<Value, String>) -> Value {
    let peer = link.peers().status(member.id.0).unwrap_or_default();
    let (status, error) = match status {
        Ok(status) => (status, None),
        Err(error) => (Value::Null, Some(error)),
    };
    json!({
        "id": member.id.0.to_string(),
        "name": member.name,
        "peer_urls": member.peer_urls,
        "client_urls": member.client_urls,
        "learner": member.is_learner,
        "own": is_own,
        "connected_seconds": peer.active_since.map(|since| since.elapsed().as_secs()),
        "round_trip_micros": peer.round_trip.map(|took| took.as_micros() as u64),
        "status": status,
        "error": error,
    })
}

fn alarm((kind, member): (AlarmKind, u64)) -> Value {
    let name = match kind {
        AlarmKind::None => "NONE",
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    json!({"alarm": name, "member": member.to_string()})
}

async fn ask(link: &Link, member: MemberId) -> Result<Value, String> {
    if link.connected_since(member).is_none() {
        return Err("no connection".to_owned());
    }
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let answer = link.ask(member, Question::Overview, Bytes::new(), ANSWER_TIMEOUT).await;
    let answer = answer.map_err(|error| match Instant::now() >= deadline {
        true => "no answer".to_owned(),
        false => error.to_string(),
    })?;
    let answer = read_answer(answer).map_err(|refusal| refusal.message.into_owned())?;
    serde_json::from_slice(&answer).map_err(|_| "a malformed answer".to_owned())
}
