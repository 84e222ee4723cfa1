//! `/v2/stats`: what the store, this member and the leader count.

use super::members::message;
use crate::cluster::{Counts, Link};
use crate::home::Home;
use plinth_net::http1::Response;
use plinth_raft::Role;
use plinth_v2::json;
use std::time::Duration;

fn answer(body: String) -> Response {
    Response::with_body(200, "application/json", body)
}

/// `/v2/stats/store`.
pub fn store(home: &Home) -> Response {
    answer(home.state().member.store().v2().stats().to_json(home.v2.waiting()))
}

/// `/v2/stats/self`. What etcd adds of rates is left out, as it does while there are none.
pub fn own(home: &Home, link: &Link) -> Response {
    let counts: Vec<Counts> = link.others().into_iter().map(|id| link.counts(id)).collect();
    let state = home.state();
    let group = state.member.group();
    let role = match group.role() {
        Role::Leader => "StateLeader",
        Role::Follower => "StateFollower",
        Role::Candidate => "StateCandidate",
        Role::PreCandidate => "StatePreCandidate",
    };
    let mut name = Vec::new();
    json::push_string(&mut name, home.profile.name.as_bytes());
    let now = home.v2.now();
    let led = home.elected_since().unwrap_or_default();
    let since = now.saturating_sub(i64::try_from(led.as_nanos()).unwrap_or(0));
    answer(format!(
        "{{\"name\":{},\"id\":\"{:x}\",\"state\":\"{role}\",\"startTime\":\"{}\",\"leaderInfo\":{{\"leader\":\"{}\",\"uptime\":\"{}\",\
         \"startTime\":\"{}\"}},\"recvAppendRequestCnt\":{},\"sendAppendRequestCnt\":{}}}",
        String::from_utf8_lossy(&name),
        home.profile.member_id,
        json::time(home.v2.started()),
        group.leader().map(|leader| format!("{:x}", leader.0)).unwrap_or_default(),
        uptime(led),
        json::time(since),
        counts.iter().map(|counts| counts.appends_received).sum::<u64>(),
        counts.iter().map(|counts| counts.appends_sent).sum::<u64>(),
    ))
}

/// A duration as Go writes it.
fn uptime(duration: Duration) -> String {
    plinth_api::go::format_duration(duration)
}

/// `/v2/stats/leader`: the leader's alone. Latencies are those of pings, where etcd's were those of its posts.
pub fn leader(home: &Home, link: &Link) -> Response {
    if home.state().member.group().role() != Role::Leader {
        return message(403, "not current leader");
    }
    let followers: Vec<String> = link
        .others()
        .into_iter()
        .map(|id| {
            let failures = link.peers().status(id.0).unwrap_or_default().sent_failures;
            let Counts { pings, appends_sent, .. } = link.counts(id);
            let count = pings.count.max(1) as f64;
            let average = pings.sum / count;
            let deviation = (pings.squares / count - average * average).max(0.0).sqrt();
            format!(
                "\"{:x}\":{{\"latency\":{{\"current\":{},\"average\":{average},\"standardDeviation\":{deviation},\
                 \"minimum\":{},\"maximum\":{}}},\"counts\":{{\"fail\":{failures},\"success\":{appends_sent}}}}}",
                id.0, pings.last, pings.least, pings.most,
            )
        })
        .collect();
    answer(format!("{{\"leader\":\"{:x}\",\"followers\":{{{}}}}}", home.profile.member_id, followers.join(",")))
}
