//! Service `Cluster`: the list of members and changes of it, with etcd's strict checks before a change is proposed.

use super::Request;
use super::kv::decode;
use crate::answer::status;
use crate::cluster::membership::{promote, strict};
use crate::config::Url;
use crate::home::{Home, HomeStore};
use plinth_api::proto::etcdserverpb as pb;
use plinth_member::records;
use plinth_net::grpc::{Status, UnaryReply};
use plinth_net::rt;
use plinth_raft::{Member, MemberChange, MemberId, MembershipError, check_add, check_remove};
use prost::Message;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// `MemberList`.
pub fn member_list(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::MemberListRequest>(body, reply) else { return };
    let list = |home: &Home, reply| answer(home, reply, |members| pb::MemberListResponse { header: None, members });
    if !request.linearizable {
        return list(&home, reply);
    }
    rt::spawn(async move {
        match home.barrier().await {
            Ok(()) => list(&home, reply),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

/// `MemberAdd`.
pub fn member_add(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::MemberAddRequest>(body, reply) else { return };
    let Some(peer_urls) = parse_urls(&request.peer_ur_ls) else { return reply.fail(status::MEMBER_BAD_URLS) };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let id = plinth_raft::member_id(&peer_urls, "", Some(seconds));
    let is_learner = request.is_learner;
    let member = Member { id, peer_urls: peer_urls.clone(), is_learner, ..Member::default() };
    let checked = strict(&home, |members, health| check_add(members, is_learner, health));
    change(&home, checked, MemberChange::Add(member), reply, move |members| pb::MemberAddResponse {
        header: None,
        member: Some(pb::Member { id: id.0, peer_ur_ls: peer_urls, is_learner, ..Default::default() }),
        members,
    });
}

/// `MemberRemove`.
pub fn member_remove(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::MemberRemoveRequest>(body, reply) else { return };
    let id = MemberId(request.id);
    let checked = strict(&home, |members, health| match members.get(id) {
        None => Err(MembershipError::MemberNotFound),
        Some(_) => check_remove(members, id, health),
    });
    change(&home, checked, MemberChange::Remove(id), reply, |members| pb::MemberRemoveResponse {
        header: None,
        members,
    });
}

/// `MemberUpdate`. The URLs are not checked, as in etcd.
pub fn member_update(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::MemberUpdateRequest>(body, reply) else { return };
    let update = MemberChange::UpdatePeerUrls(MemberId(request.id), request.peer_ur_ls);
    change(&home, Ok(()), update, reply, |members| pb::MemberUpdateResponse { header: None, members });
}

/// `MemberPromote`: by the leader, who knows how far the learner is; a follower passes the request on.
pub fn member_promote(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::MemberPromoteRequest>(body, reply) else { return };
    rt::spawn(async move {
        let is_leader = home.state().member.is_leader();
        let result = match is_leader {
            true => promote(&home, MemberId(request.id)).await,
            false => home.others.clone().promote_at_leader(&home, MemberId(request.id)).await,
        };
        match result {
            Ok(()) => {
                home.reactor.metrics.learner_promotions.inc();
                answer(&home, reply, |members| pb::MemberPromoteResponse { header: None, members });
            }
            Err(status) => {
                home.reactor.metrics.peers.count_promote_failure(&status.message);
                reply.fail(status);
            }
        }
    })
    .detach();
}

/// Proposes a change that was checked and answers with the list of members after it.
fn change<M: Message>(
    home: &Rc<Home>,
    checked: Result<(), Status>,
    change: MemberChange,
    reply: UnaryReply,
    message: impl FnOnce(Vec<pb::Member>) -> M + 'static,
) {
    if let Err(status) = checked {
        return reply.fail(status);
    }
    let home = home.clone();
    rt::spawn(async move {
        match home.change(change).await {
            Ok(()) => answer(&home, reply, message),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

fn answer<M: Message>(home: &Home, reply: UnaryReply, message: impl FnOnce(Vec<pb::Member>) -> M) {
    let state = home.state();
    let message = message(list_of(state.member.store()));
    reply.send(|out| {
        state.header.append(out, 0);
        message.encode(out).expect("a vector grows");
    });
}

/// All members, by id, as clients see them.
fn list_of(store: &HomeStore) -> Vec<pb::Member> {
    let members = records::list(store).unwrap_or_else(|error| {
        tracing::error!(%error, "the list of members cannot be read");
        Vec::new()
    });
    let public = members.into_iter().map(|member| pb::Member {
        id: member.id.0,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    });
    public.collect()
}

/// The URLs in the order and form in which they count; `None` if one does not parse or there is none.
fn parse_urls(texts: &[String]) -> Option<Vec<String>> {
    if texts.is_empty() {
        return None;
    }
    let mut urls = texts.iter().map(|text| Url::parse(text)).collect::<Result<Vec<_>, _>>().ok()?;
    urls.sort();
    Some(urls.into_iter().map(|url| url.as_str().to_string()).collect())
}
