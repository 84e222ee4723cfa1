//! Service `Lease`: grants and revocations are replicated; the leader answers keep-alives and remaining times itself.

use super::kv::decode;
use super::wire::{field_bytes, field_message, field_varint};
use super::{ids, status};
use crate::cluster::forward;
use crate::home::waiter::Waiter;
use crate::home::{Home, op_status};
use crate::metrics::Op;
use bytes::Bytes;
use plinth_engine::check::LEASE_COST;
use plinth_engine::command::{Command, LeaseCheckpoint, LeaseCheckpoints};
use plinth_engine::error::OpError;
use plinth_engine::lease::{CHECKPOINTS_PER_ENTRY, LeaseError, Renewal};
use plinth_net::grpc::{Call, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::proto::etcdserverpb as pb;
use prost::Message;
use std::rc::Rc;

/// Longest time to live, in seconds.
const TTL_MAX: i64 = 9_000_000_000;

/// `LeaseGrant`.
pub fn grant(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::LeaseGrantRequest>(body, reply) else { return };
    if request.ttl > TTL_MAX {
        return reply.fail(op_status(OpError::LeaseTtlTooLarge));
    }
    if !home.has_room(LEASE_COST) {
        return reply.fail(status::NO_SPACE);
    }
    let id = if request.id == 0 { ids::next(home) } else { request.id };
    home.metrics.lease_ttl.record(request.ttl.max(0) as u64);
    let waiter = Waiter::Reply(reply, home.asked(Op::LeaseGrant));
    home.submit(|out| Command::LeaseGrant { id, ttl: request.ttl }.encode_into(out), waiter);
}

/// `LeaseRevoke`.
pub fn revoke(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::LeaseRevokeRequest>(body, reply) else { return };
    let waiter = Waiter::Reply(reply, home.asked(Op::LeaseRevoke));
    home.submit(|out| Command::LeaseRevoke { id: request.id }.encode_into(out), waiter);
}

/// `LeaseTimeToLive`: the leader knows.
pub fn time_to_live(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::LeaseTimeToLiveRequest>(body.clone(), reply) else { return };
    if home.keeps_leases() {
        return answer_time_to_live(home, &remaining(home, &request), reply);
    }
    let home = home.clone();
    glommio::spawn_local(async move {
        match forward::time_to_live(&home, body).await {
            Ok(Some(fields)) => answer_time_to_live(&home, &fields, reply),
            Ok(None) => answer_time_to_live(&home, &remaining(&home, &request), reply),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

fn answer_time_to_live(home: &Home, fields: &[u8], reply: UnaryReply) {
    let state = home.state();
    reply.send(|out| {
        state.header.append(out, state.member.store().revision());
        out.extend_from_slice(fields);
    });
}

/// What the leader answers another member to a client's request: the response without its header.
pub fn time_to_live_fields(home: &Home, request: Bytes) -> Result<Vec<u8>, Status> {
    if !home.keeps_leases() {
        return Err(status::NOT_PRIMARY_LESSOR);
    }
    let request = pb::LeaseTimeToLiveRequest::decode(request).map_err(|error| status::undecodable(&error))?;
    Ok(remaining(home, &request))
}

fn remaining(home: &Home, request: &pb::LeaseTimeToLiveRequest) -> Vec<u8> {
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

/// `LeaseLeases`.
pub fn leases(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((_, reply)) = decode::<pb::LeaseLeasesRequest>(body, reply) else { return };
    let state = home.state();
    let store = state.member.store();
    reply.send(|out| {
        state.header.append(out, store.revision());
        for id in store.leases().leases() {
            field_message(out, 2, |out| field_varint(out, 1, id as u64));
        }
    });
}

/// `LeaseKeepAlive`: answers come in the order of the requests.
pub struct KeepAlive {
    home: Rc<Home>,
    reply: StreamReply,
}

impl KeepAlive {
    /// Opens the stream.
    pub fn open(home: &Rc<Home>, _call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        Box::new(KeepAlive { home: home.clone(), reply })
    }
}

impl StreamHandler for KeepAlive {
    fn message(&mut self, body: Bytes) {
        let request = match pb::LeaseKeepAliveRequest::decode(body) {
            Ok(request) => request,
            Err(error) => return self.reply.finish(status::undecodable(&error)),
        };
        let revision = self.home.state().member.store().revision();
        // A leader among others has to make sure that it still leads: see `forward`.
        if self.home.state().member.group().is_alone()
            && !forward::is_renewing(&self.home)
            && self.home.keeps_leases()
            && let Renewed::Ttl(ttl) = renew(&self.home, request.id)
        {
            return answer(&self.home, &self.reply, revision, request.id, ttl);
        }
        let (home, reply, id) = (self.home.clone(), self.reply.clone(), request.id);
        let answered = move |result: Result<i64, Status>| match result {
            Ok(ttl) => answer(&home, &reply, revision, id, ttl),
            Err(status) => reply.finish(status),
        };
        forward::renew_at_leader(&self.home, (id, Box::new(answered)));
    }

    fn half_close(&mut self) {
        self.reply.finish(Status::OK);
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

/// What came of a keep-alive.
pub(crate) enum Renewed {
    /// The time to live; 0 says that there is no such lease.
    Ttl(i64),
    /// The same, once [`clear_checkpoints`] has said so for this lease.
    Checkpointed(i64),
    /// This member does not lead.
    NotPrimary,
}

/// Renews a lease, if this member leads.
pub(crate) fn renew(home: &Home, id: i64) -> Renewed {
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
pub(crate) async fn clear_checkpoints(home: &Home, ids: &[i64]) -> Option<()> {
    let term = home.state().member.group().term();
    for ids in ids.chunks(CHECKPOINTS_PER_ENTRY) {
        let checkpoints = ids.iter().map(|&id| LeaseCheckpoint { id, remaining_ttl: 0 }).collect();
        home.propose(Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints })).await.ok()?;
    }
    let has_led = home.keeps_leases() && home.state().member.group().term() == term;
    has_led.then(|| home.metrics.leases_renewed.add(ids.len() as u64))
}

fn answer(home: &Home, reply: &StreamReply, revision: i64, id: i64, ttl: i64) {
    let state = home.state();
    reply.send(|out| {
        state.header.append(out, revision);
        field_varint(out, 2, id as u64);
        field_varint(out, 3, ttl as u64);
    });
}
