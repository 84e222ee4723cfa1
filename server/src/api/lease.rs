//! Service `Lease`: grants and revocations are replicated; the leader answers keep-alives and remaining times itself.

use super::kv::decode;
use super::{Request, StreamRequest, ids};
use crate::answer::refusal::op_status;
use crate::answer::status;
use crate::home::Home;
use crate::home::leases::{remaining, renew};
use crate::home::waiter::Waiter;
use crate::metrics::Op;
use bytes::Bytes;
use plinth_api::limits::TTL_MAX_SECONDS;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::{field_message, field_varint};
use plinth_engine::check::LEASE_COST;
use plinth_engine::command::Command;
use plinth_engine::error::OpError;
use plinth_net::grpc::{PairedAnswer, PairedReply, Status, StreamHandler, UnaryReply};
use plinth_net::rt;
use prost::Message;
use std::rc::Rc;

/// `LeaseGrant`.
pub fn grant(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::LeaseGrantRequest>(body, reply) else { return };
    if request.ttl > TTL_MAX_SECONDS {
        return reply.fail(op_status(OpError::LeaseTtlTooLarge));
    }
    if !home.has_room(LEASE_COST) {
        return reply.fail(status::NO_SPACE);
    }
    let id = if request.id == 0 { ids::next(&home) } else { request.id };
    let waiter = Waiter::Reply(reply, home.asked(Op::LeaseGrant));
    home.submit_for(caller.author(), |out| Command::LeaseGrant { id, ttl: request.ttl }.encode_into(out), waiter);
}

/// `LeaseRevoke`.
pub fn revoke(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::LeaseRevokeRequest>(body, reply) else { return };
    let waiter = Waiter::Reply(reply, home.asked(Op::LeaseRevoke));
    home.submit_for(caller.author(), |out| Command::LeaseRevoke { id: request.id }.encode_into(out), waiter);
}

/// `LeaseTimeToLive`: the leader knows.
pub fn time_to_live(Request { home, body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::LeaseTimeToLiveRequest>(body.clone(), reply) else { return };
    if home.keeps_leases() {
        return answer_time_to_live(&home, &remaining(&home, &request), reply);
    }
    rt::spawn(async move {
        match home.others.clone().time_to_live_at_leader(&home, body).await {
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

/// `LeaseLeases`.
pub fn leases(Request { home, body, reply, .. }: Request) {
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

/// `LeaseKeepAlive`: answers come in the order of the requests, every one of them before the end.
pub struct KeepAlive {
    home: Rc<Home>,
    stream: Rc<PairedReply>,
}

impl KeepAlive {
    /// Opens the stream.
    pub fn open(StreamRequest { home, reply, .. }: StreamRequest) -> Box<dyn StreamHandler> {
        Box::new(KeepAlive { home, stream: PairedReply::new(reply) })
    }
}

impl StreamHandler for KeepAlive {
    fn message(&mut self, body: Bytes) {
        let request = match pb::LeaseKeepAliveRequest::decode(body) {
            Ok(request) => request,
            Err(error) => return self.stream.fail(status::undecodable(&error)),
        };
        let answer_due = self.stream.request();
        let revision = self.home.state().member.store().revision();
        // A leader among others has to make sure that it still leads: see `Others::renew_at_leader`.
        if self.home.state().member.group().is_alone()
            && !self.home.others.is_renewing()
            && let Some(renewing) = renew(&self.home, &[request.id])
            && renewing.commands.is_empty()
        {
            return answer(&self.home, answer_due, revision, request.id, renewing.ttls[0]);
        }
        let (home, id) = (self.home.clone(), request.id);
        let answered = move |result: Result<i64, Status>| match result {
            Ok(ttl) => answer(&home, answer_due, revision, id, ttl),
            Err(status) => answer_due.fail(status),
        };
        self.home.others.clone().renew_at_leader(&self.home, (id, Box::new(answered)));
    }

    fn half_close(&mut self) {
        self.stream.half_close();
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

fn answer(home: &Home, due: PairedAnswer, revision: i64, id: i64, ttl: i64) {
    let state = home.state();
    due.send(|out| {
        state.header.append(out, revision);
        field_varint(out, 2, id as u64);
        field_varint(out, 3, ttl as u64);
    });
}
