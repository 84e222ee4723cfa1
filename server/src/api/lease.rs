//! Service `Lease`: grants and revocations are replicated; the leader answers keep-alives and remaining times itself.

use super::kv::decode;
use super::{Request, StreamRequest, ids};
use crate::answer::refusal::op_status;
use crate::answer::status;
use crate::caller::{Caller, User};
use crate::home::Home;
use crate::home::identity::{Stamp, Unidentified};
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

/// `LeaseTimeToLive`: the leader knows. Names of keys are for those who may read them.
pub fn time_to_live(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::LeaseTimeToLiveRequest>(body.clone(), reply) else { return };
    let checked = match request.keys {
        true => may_list(&home, caller.user.as_ref(), &[request.id]).map(Some),
        false => Ok(None),
    };
    let stamp = match checked {
        Ok(stamp) => stamp,
        Err(refusal) => return reply.fail(refusal),
    };
    if home.keeps_leases() {
        crate::fail_point!("beforeLookupWhenLeaseTimeToLive");
        return answer_time_to_live(&home, stamp, &remaining(&home, &request), reply);
    }
    rt::spawn(async move {
        match home.others.clone().time_to_live_at_leader(&home, body).await {
            Ok(Some(fields)) => answer_time_to_live(&home, stamp, &fields, reply),
            Ok(None) => answer_time_to_live(&home, stamp, &remaining(&home, &request), reply),
            Err(status) => reply.fail(status),
        }
    })
    .detach();
}

/// Whether the caller may read every key of these leases.
fn may_list(home: &Home, user: Option<&User>, ids: &[i64]) -> Result<Stamp, Status> {
    let state = home.state();
    let leases = state.member.store().leases();
    home.may(user, |auth, author| ids.iter().try_for_each(|id| auth.may_list_lease(author, leases.keys(*id))))?;
    Ok(home.stamp())
}

fn answer_time_to_live(home: &Home, stamp: Option<Stamp>, fields: &[u8], reply: UnaryReply) {
    if let Some(Err(refusal)) = stamp.map(|stamp| home.is_current(stamp)) {
        return reply.fail(refusal);
    }
    let state = home.state();
    reply.send(|out| {
        state.header.append(out, state.member.store().revision());
        out.extend_from_slice(fields);
    });
}

/// `LeaseLeases`: for those who may read every key of every lease.
pub fn leases(Request { home, caller, body, reply }: Request) {
    let Some((_, reply)) = decode::<pb::LeaseLeasesRequest>(body, reply) else { return };
    let state = home.state();
    let store = state.member.store();
    let ids = store.leases().leases();
    if let Err(refusal) = may_list(&home, caller.user.as_ref(), &ids) {
        return reply.fail(refusal);
    }
    reply.send(|out| {
        state.header.append(out, store.revision());
        for id in ids {
            field_message(out, 2, |out| field_varint(out, 1, id as u64));
        }
    });
}

/// `LeaseKeepAlive`, for those who may write every key of the lease: answers come in the order of the requests, every one of them before the end.
pub struct KeepAlive {
    home: Rc<Home>,
    caller: Caller,
    stream: Rc<PairedReply>,
}

impl KeepAlive {
    /// Opens the stream.
    pub fn open(StreamRequest { home, caller, reply }: StreamRequest) -> Box<dyn StreamHandler> {
        Box::new(KeepAlive { home, caller, stream: PairedReply::new(reply) })
    }
}

impl StreamHandler for KeepAlive {
    fn message(&mut self, body: Bytes) {
        let request = match pb::LeaseKeepAliveRequest::decode(body) {
            Ok(request) => request,
            Err(error) => return self.stream.fail(status::undecodable(&error)),
        };
        let answer_due = self.stream.request();
        match self.home.identify(&self.caller) {
            Ok(user) => keep_alive(&self.home, user, request.id, answer_due),
            Err(Unidentified::Refused(refusal)) => answer_due.fail(refusal),
            Err(Unidentified::After(_)) => {
                let (home, caller) = (self.home.clone(), self.caller.clone());
                rt::spawn(async move {
                    match home.identified(&caller).await {
                        Ok(user) => keep_alive(&home, user, request.id, answer_due),
                        Err(refusal) => answer_due.fail(refusal),
                    }
                })
                .detach();
            }
        }
    }

    fn half_close(&mut self) {
        self.stream.half_close();
    }

    fn writable(&mut self) {}

    fn closed(&mut self) {}
}

/// Whether the caller may write every key of a lease.
fn may_keep(home: &Home, user: Option<&User>, id: i64) -> Result<Stamp, Status> {
    home.must_be_somebody(user)?;
    let state = home.state();
    let keys = state.member.store().leases().keys(id);
    home.may(user, |auth, author| auth.may_change_lease(author, keys))?;
    Ok(home.stamp())
}

/// Renews a lease here, or at the leader.
fn keep_alive(home: &Rc<Home>, user: Option<User>, id: i64, answer_due: PairedAnswer) {
    let stamp = match may_keep(home, user.as_ref(), id) {
        Ok(stamp) => stamp,
        Err(refusal) => return answer_due.fail(refusal),
    };
    let revision = home.state().member.store().revision();
    // A leader among others has to make sure that it still leads: see `Others::renew_at_leader`.
    if home.state().member.group().is_alone()
        && !home.others.is_renewing()
        && let Some(renewing) = renew(home, &[id])
        && renewing.commands.is_empty()
    {
        return answer(home, answer_due, revision, id, renewing.ttls[0]);
    }
    let told = home.clone();
    let answered = move |result: Result<i64, Status>| match result {
        Ok(ttl) => match told.is_current(stamp) {
            Ok(()) => answer(&told, answer_due, revision, id, ttl),
            Err(refusal) => answer_due.fail(refusal),
        },
        Err(status) => answer_due.fail(status),
    };
    home.others.clone().renew_at_leader(home, (id, Box::new(answered)));
}

fn answer(home: &Home, due: PairedAnswer, revision: i64, id: i64, ttl: i64) {
    let state = home.state();
    due.send(|out| {
        state.header.append(out, revision);
        field_varint(out, 2, id as u64);
        field_varint(out, 3, ttl as u64);
    });
}
