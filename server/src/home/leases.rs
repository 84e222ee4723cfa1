//! Leases of this home, while it leads: renewals, remaining times, the end of those whose time is over (and of what the v2
//! store has).

use super::stages::op_of;
use super::waiter::Waiter;
use super::{Home, State, v2};
use crate::answer::status;
use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::{field_bytes, field_varint};
use plinth_member::keeper::{self, Renewing};
use plinth_net::grpc::Status;
use plinth_net::rt::sleep;
use prost::Message;
use std::rc::Rc;
use std::time::Duration;

/// Renews leases, if this member keeps their times; nobody may be told before [`confirm`] or if there are commands.
pub fn renew(home: &Home, ids: &[i64]) -> Option<Renewing> {
    let now = home.reactor.clock.now();
    let renewing = home.state_mut().member.renew_leases(ids, now)?;
    if renewing.commands.is_empty() {
        home.reactor.metrics.leases_renewed.add(renewing.renewed());
    }
    Some(renewing)
}

/// Makes sure that the next leader knows of renewals, too. The times to live; `None` if this member has not led all the
/// while.
pub async fn confirm(home: &Home, mut renewing: Renewing) -> Option<Vec<i64>> {
    if renewing.commands.is_empty() {
        return Some(renewing.ttls);
    }
    for command in std::mem::take(&mut renewing.commands) {
        home.propose(command).await.ok()?;
    }
    if !home.state().member.has_kept(&renewing) {
        return None;
    }
    home.reactor.metrics.leases_renewed.add(renewing.renewed());
    Some(renewing.ttls)
}

/// What the leader answers another member to a client's request: the response without its header.
pub fn time_to_live_fields(home: &Home, request: Bytes) -> Result<Vec<u8>, Status> {
    if !home.keeps_leases() {
        return Err(status::NOT_PRIMARY_LESSOR);
    }
    let request = pb::LeaseTimeToLiveRequest::decode(request).map_err(|error| status::undecodable(&error))?;
    Ok(remaining(home, &request))
}

/// Time to live, granted time and keys of a lease as this member knows them: the response without its header.
pub fn remaining(home: &Home, request: &pb::LeaseTimeToLiveRequest) -> Vec<u8> {
    let state = home.state();
    let store = state.member.store();
    let known = store.leases().time_to_live(request.id, home.reactor.clock.now());
    let keys: Vec<&[u8]> = match (&known, request.keys) {
        (Ok(_), true) => store.leases().keys(request.id).collect(),
        _ => Vec::new(),
    };
    let (ttl, granted) = known.map_or((-1, 0), |known| (known.remaining_seconds, known.granted_seconds));
    let mut out = Vec::new();
    field_varint(&mut out, 2, request.id as u64);
    field_varint(&mut out, 3, ttl as u64);
    field_varint(&mut out, 4, granted as u64);
    for key in keys {
        field_bytes(&mut out, 5, key);
    }
    out
}

/// Ends leases whose time is over and replicates how much is left of long ones; only the leader does.
pub async fn expire_leases(home: Rc<Home>) {
    let mut pause = keeper::SCAN_MILLIS;
    while !home.is_stopping() {
        sleep(Duration::from_millis(pause)).await;
        let now = home.reactor.moment();
        let scan = {
            let State { member, stages, .. } = &mut *home.state_mut();
            let scan = member.scan_leases(now.millis(), |kind| Waiter::Nobody(op_of(kind)));
            if member.has_unproposed() {
                stages.open(now);
            }
            scan
        };
        pause = scan.pause.min(v2::expire(&home));
        home.reactor.metrics.leases_expired.add(scan.expired as u64);
        if scan.has_submitted {
            home.reactor.pump.notify();
        }
    }
}
