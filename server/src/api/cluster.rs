//! Service `Cluster`: the list of members and changes of it, with etcd's strict checks before a change is proposed.

use super::kv::decode;
use super::status;
use crate::cluster::Link;
use crate::cluster::forward;
use crate::config::Url;
use crate::home::Home;
use crate::members;
use bytes::Bytes;
use plinth_member::records;
use plinth_net::grpc::{Status, UnaryReply};
use plinth_net::proto::etcdserverpb as pb;
use plinth_raft::{
    Health, Member, MemberChange, MemberId, Members, MembershipError, Role, check_add, check_learner_ready,
    check_promote, check_remove,
};
use prost::Message;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a connection must have lasted to count in the strict checks, as in etcd.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// `MemberList`.
pub fn member_list(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::MemberListRequest>(body, reply) else { return };
    let list = |home: &Home, reply| answer(home, reply, |members| pb::MemberListResponse { header: None, members });
    if !request.linearizable {
        return list(home, reply);
    }
    let home = home.clone();
    glommio::spawn_local(async move {
        match home.barrier().await {
            Ok(()) => list(&home, reply),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

/// `MemberAdd`.
pub fn member_add(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::MemberAddRequest>(body, reply) else { return };
    let Some(peer_urls) = parse_urls(&request.peer_ur_ls) else { return reply.fail(status::MEMBER_BAD_URLS) };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let id = plinth_raft::member_id(&peer_urls, "", Some(seconds));
    let is_learner = request.is_learner;
    let member = Member { id, peer_urls: peer_urls.clone(), is_learner, ..Member::default() };
    let checked = strict(home, |members, health| check_add(members, is_learner, health));
    change(home, checked, MemberChange::Add(member), reply, move |members| pb::MemberAddResponse {
        header: None,
        member: Some(pb::Member { id: id.0, peer_ur_ls: peer_urls, is_learner, ..Default::default() }),
        members,
    });
}

/// `MemberRemove`.
pub fn member_remove(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::MemberRemoveRequest>(body, reply) else { return };
    let id = MemberId(request.id);
    let checked = strict(home, |members, health| match members.get(id) {
        None => Err(MembershipError::MemberNotFound),
        Some(_) => check_remove(members, id, health),
    });
    change(home, checked, MemberChange::Remove(id), reply, |members| pb::MemberRemoveResponse {
        header: None,
        members,
    });
}

/// `MemberUpdate`. The URLs are not checked, as in etcd.
pub fn member_update(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::MemberUpdateRequest>(body, reply) else { return };
    let update = MemberChange::UpdatePeerUrls(MemberId(request.id), request.peer_ur_ls);
    change(home, Ok(()), update, reply, |members| pb::MemberUpdateResponse { header: None, members });
}

/// `MemberPromote`: by the leader, who knows how far the learner is; a follower passes the request on.
pub fn member_promote(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::MemberPromoteRequest>(body, reply) else { return };
    let home = home.clone();
    glommio::spawn_local(async move {
        let result = match home.state().member.is_leader() {
            true => None,
            false => Some(()),
        };
        let result = match result {
            None => promote(&home, MemberId(request.id)).await,
            Some(()) => forward::promote(&home, request.id).await,
        };
        match result {
            Ok(()) => {
                home.metrics.learner_promotions.inc();
                answer(&home, reply, |members| pb::MemberPromoteResponse { header: None, members });
            }
            Err(status) => {
                home.metrics.peers.count_promote_failure(&status.message);
                reply.fail(status);
            }
        }
    })
    .detach();
}

/// Promotes a learner that has caught up. Only the leader can tell.
pub async fn promote(home: &Rc<Home>, id: MemberId) -> Result<(), Status> {
    let progress = home.state().member.group().status();
    if progress.role != Role::Leader {
        return Err(status::NOT_LEADER);
    }
    strict(home, |members, _| {
        let member = members.get(id).ok_or(MembershipError::MemberNotFound)?;
        if !member.is_learner {
            return Err(MembershipError::MemberNotLearner);
        }
        let matched = progress.peers.iter().find(|peer| peer.member == id).map(|peer| peer.matched);
        check_learner_ready(matched, progress.last_index)?;
        check_promote(members)
    })?;
    home.change(MemberChange::Promote(id)).await
}

/// Runs a check against the member list and the connections. With the strict check switched off only the rest of it,
/// which is what every member checks when the change is applied.
fn strict(home: &Home, check: impl FnOnce(&Members, &Health<'_>) -> Result<(), MembershipError>) -> Result<(), Status> {
    let state = home.state();
    let members = records::all(state.member.store()).map_err(|error| status::broken(&error))?;
    let link = home.link();
    let lasted = |id: MemberId| link.and_then(|link: &Link| link.connected_for(id));
    let health = Health {
        own: MemberId(home.profile.member_id),
        connected: &|id| lasted(id).is_some_and(|lasted| lasted >= HEALTHY_AFTER),
        active: &|id| lasted(id).is_some(),
    };
    match check(&members, &health) {
        Err(MembershipError::NotEnoughStarted | MembershipError::Unhealthy) if !home.profile.strict_reconfig => Ok(()),
        result => result.map_err(membership_status),
    }
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
    glommio::spawn_local(async move {
        match home.change(change).await {
            Ok(()) => answer(&home, reply, message),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

fn answer<M: Message>(home: &Home, reply: UnaryReply, message: impl FnOnce(Vec<pb::Member>) -> M) {
    let state = home.state();
    let message = message(members::list(state.member.store()));
    reply.send(|out| {
        state.header.append(out, 0);
        message.encode(out).expect("a vector grows");
    });
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

/// The status of a refused change.
pub fn membership_status(error: MembershipError) -> Status {
    match error {
        MembershipError::MemberExist => status::MEMBER_EXIST,
        MembershipError::PeerUrlExist => status::PEER_URL_EXIST,
        MembershipError::MemberNotFound => status::MEMBER_NOT_FOUND,
        MembershipError::MemberNotLearner => status::MEMBER_NOT_LEARNER,
        MembershipError::LearnerNotReady => status::LEARNER_NOT_READY,
        MembershipError::TooManyLearners => status::TOO_MANY_LEARNERS,
        MembershipError::NotEnoughStarted => status::NOT_ENOUGH_STARTED,
        MembershipError::Unhealthy => status::UNHEALTHY,
    }
}
