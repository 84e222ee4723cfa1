//! Leases of this home, while it leads: renewals, remaining times, the end of those whose time is over.

use super::Home;
use super::waiter::Waiter;
use crate::answer::status;
use crate::metrics::Op;
use bytes::Bytes;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::{field_bytes, field_varint};
use plinth_engine::command::{Command, LeaseCheckpoint, LeaseCheckpoints};
use plinth_engine::lease::{CHECKPOINTS_PER_ENTRY, LeaseError, Renewal};
use plinth_net::grpc::Status;
use plinth_net::rt::sleep;
use prost::Message;
use std::rc::Rc;
use std::time::Duration;

/// How often leases are looked at, as in etcd.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);

/// What came of a keep-alive.
pub enum Renewed {
    /// The time to live; 0 says that there is no such lease.
    Ttl(i64),
    /// The same, once [`clear_checkpoints`] has said so for this lease.
    Checkpointed(i64),
    /// This member does not lead.
    NotPrimary,
}

/// Renews a lease, if this member leads.
pub fn renew(home: &Home, id: i64) -> Renewed {
    let now = home.clock.now();
    let renewal = home.state_mut().member.store_mut().leases_mut().renew(id, now);
    match renewal {
        Ok(Renewal::Renewed { ttl, clear_checkpoint: true }) => Renewed::Checkpointed(ttl),
        Ok(Renewal::Renewed { ttl, .. }) => {
            home.metrics.leases_renewed.inc();
            Renewed::Ttl(ttl)
        }
        // Its revocation is on its way: for the client it is gone.
        Ok(Renewal::Expired) | Err(LeaseError::NotFound) => Renewed::Ttl(0),
        Err(_) => Renewed::NotPrimary,
    }
}

/// Replicates that leases were renewed of which a checkpoint says that less is left: the next leader goes by that. `None`
/// if this member has not led all the while.
pub async fn clear_checkpoints(home: &Home, ids: &[i64]) -> Option<()> {
    let term = home.state().member.group().term();
    for ids in ids.chunks(CHECKPOINTS_PER_ENTRY) {
        let checkpoints = ids.iter().map(|&id| LeaseCheckpoint { id, remaining_ttl: 0 }).collect();
        home.propose(Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints })).await.ok()?;
    }
    let has_led = home.keeps_leases() && home.state().member.group().term() == term;
    has_led.then(|| home.metrics.leases_renewed.add(ids.len() as u64))
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
    let known = store.leases().time_to_live(request.id, home.clock.now());
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
    let mut expired = Vec::new();
    while !home.is_stopping() {
        sleep(LEASE_INTERVAL).await;
        if !home.keeps_leases() {
            continue;
        }
        let now = home.clock.now();
        let (term, checkpoints) = {
            let mut state = home.state_mut();
            let term = state.member.group().term();
            let leases = state.member.store_mut().leases_mut();
            leases.expired(now, &mut expired);
            (term, leases.due_checkpoints(now))
        };
        for id in expired.drain(..) {
            home.metrics.leases_expired.inc();
            home.submit(|out| Command::LeaseExpire { id, term }.encode_into(out), Waiter::Nobody(Op::LeaseRevoke));
        }
        if !checkpoints.is_empty() {
            let checkpoints =
                checkpoints.iter().map(|due| LeaseCheckpoint { id: due.id, remaining_ttl: due.remaining_ttl });
            let command = Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints: checkpoints.collect() });
            home.submit(|out| command.encode_into(out), Waiter::Nobody(Op::LeaseCheckpoint));
        }
    }
}
