//! Service `Lease`: grants and revocations are replicated; the leader answers keep-alives and remaining times itself.

use super::kv::decode;
use super::wire::{field_bytes, field_message, field_varint};
use super::{ids, status};
use crate::home::waiter::Waiter;
use crate::home::{Home, op_status};
use bytes::Bytes;
use plinth_engine::check::LEASE_COST;
use plinth_engine::command::Command;
use plinth_engine::error::OpError;
use plinth_engine::lease::{LeaseError, Renewal};
use plinth_net::grpc::{Call, Code, Status, StreamHandler, StreamReply, UnaryReply};
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
    home.submit(|out| Command::LeaseGrant { id, ttl: request.ttl }.encode_into(out), Waiter::Reply(reply));
}

/// `LeaseRevoke`.
pub fn revoke(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::LeaseRevokeRequest>(body, reply) else { return };
    home.submit(|out| Command::LeaseRevoke { id: request.id }.encode_into(out), Waiter::Reply(reply));
}

/// `LeaseTimeToLive`.
pub fn time_to_live(home: &Rc<Home>, body: Bytes, reply: UnaryReply) {
    let Some((request, reply)) = decode::<pb::LeaseTimeToLiveRequest>(body, reply) else { return };
    let state = home.state();
    let store = state.member.store();
    let known = store.leases().time_to_live(request.id, home.clock.now());
    let keys: Vec<&[u8]> = match (&known, request.keys) {
        (Ok(_), true) => store.leases().keys(request.id).collect(),
        _ => Vec::new(),
    };
    let (ttl, granted) = known.map_or((-1, 0), |known| (known.remaining_seconds, known.granted_seconds));
    reply.send(|out| {
        state.header.append(out, store.revision());
        field_varint(out, 2, request.id as u64);
        field_varint(out, 3, ttl as u64);
        field_varint(out, 4, granted as u64);
        for key in keys {
            field_bytes(out, 5, key);
        }
    });
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
        match renew(&self.home, request.id) {
            Renewed::Ttl(ttl) => answer(&self.home, &self.reply, revision, request.id, ttl),
            Renewed::NotPrimary => {
                self.reply.finish(Status::new(Code::Unknown, "not a primary lessor"));
            }
        }
    }

    fn half_close(&mut self) {
        self.reply.finish(Status::OK);
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

enum Renewed {
    Ttl(i64),
    NotPrimary,
}

/// Renews a lease; a time to live of 0 says that there is none.
fn renew(home: &Home, id: i64) -> Renewed {
    let now = home.clock.now();
    let renewal = home.state_mut().member.store_mut().leases_mut().renew(id, now);
    match renewal {
        Ok(Renewal::Renewed { ttl, clear_checkpoint }) => {
            home.metrics.leases_renewed.inc();
            if clear_checkpoint {
                let clear = plinth_engine::command::LeaseCheckpoint { id, remaining_ttl: 0 };
                home.submit(|out| Command::LeaseCheckpoint(vec![clear]).encode_into(out), Waiter::Nobody);
            }
            Renewed::Ttl(ttl)
        }
        // Its revocation is on its way: for the client it is gone.
        Ok(Renewal::Expired) | Err(LeaseError::NotFound) => Renewed::Ttl(0),
        Err(_) => Renewed::NotPrimary,
    }
}

fn answer(home: &Home, reply: &StreamReply, revision: i64, id: i64, ttl: i64) {
    let state = home.state();
    reply.send(|out| {
        state.header.append(out, revision);
        field_varint(out, 2, id as u64);
        field_varint(out, 3, ttl as u64);
    });
}
