//! The gRPC API: which method is answered where.
//!
//! A unary handler gets the request's bytes and the reply, and answers at once, from the member's effects, or from a
//! task. [`convert`] turns requests into commands.

pub mod cluster;
pub mod convert;
pub mod election;
pub mod health;
pub mod ids;
pub mod internal_watch;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod session;
pub mod watch;

use crate::answer::status;
use crate::home::Home;
use bytes::Bytes;
use plinth_net::grpc::{Call, Method, MethodKind, Status, StreamHandler, StreamReply, UnaryReply};
use plinth_net::proto::etcdserverpb as pb;
use prost::Message;
use std::rc::Rc;

type Unary = fn(&Rc<Home>, Bytes, UnaryReply);
type Stream = fn(&Rc<Home>, &Call, StreamReply) -> Box<dyn StreamHandler>;

/// What answers a method.
#[derive(Clone, Copy)]
enum Handler {
    Unary(Unary),
    Stream(Stream),
}

macro_rules! methods {
    ($($kind:ident $path:literal => $handler:expr;)*) => {
        static METHODS: &[Method] = &[$(Method { path: $path, kind: MethodKind::$kind }),*];
        static HANDLERS: &[Handler] = &[$(methods!(@handler $kind $handler)),*];
    };
    (@handler Unary $handler:expr) => { Handler::Unary($handler) };
    (@handler $kind:ident $handler:expr) => { Handler::Stream($handler) };
}

methods! {
    Unary "/etcdserverpb.KV/Put" => kv::put;
    Unary "/etcdserverpb.KV/Range" => kv::range;
    Unary "/etcdserverpb.KV/Txn" => kv::txn;
    Unary "/etcdserverpb.KV/DeleteRange" => kv::delete_range;
    Unary "/etcdserverpb.KV/Compact" => kv::compact;
    ServerStream "/etcdserverpb.KV/RangeStream" => kv::RangeStream::open;
    BidiStream "/etcdserverpb.Watch/Watch" => watch::WatchStream::open;
    Unary "/etcdserverpb.Lease/LeaseGrant" => lease::grant;
    Unary "/etcdserverpb.Lease/LeaseRevoke" => lease::revoke;
    BidiStream "/etcdserverpb.Lease/LeaseKeepAlive" => lease::KeepAlive::open;
    Unary "/etcdserverpb.Lease/LeaseTimeToLive" => lease::time_to_live;
    Unary "/etcdserverpb.Lease/LeaseLeases" => lease::leases;
    Unary "/etcdserverpb.Cluster/MemberList" => cluster::member_list;
    Unary "/etcdserverpb.Cluster/MemberAdd" => cluster::member_add;
    Unary "/etcdserverpb.Cluster/MemberRemove" => cluster::member_remove;
    Unary "/etcdserverpb.Cluster/MemberUpdate" => cluster::member_update;
    Unary "/etcdserverpb.Cluster/MemberPromote" => cluster::member_promote;
    Unary "/etcdserverpb.Maintenance/MoveLeader" => maintenance::move_leader;
    Unary "/etcdserverpb.Maintenance/Alarm" => maintenance::alarm;
    Unary "/etcdserverpb.Maintenance/Status" => maintenance::status;
    Unary "/etcdserverpb.Maintenance/Defragment" => maintenance::defragment;
    Unary "/etcdserverpb.Maintenance/Hash" => maintenance::hash;
    Unary "/etcdserverpb.Maintenance/HashKV" => maintenance::hash_kv;
    Unary "/v3lockpb.Lock/Lock" => lock::lock;
    Unary "/v3lockpb.Lock/Unlock" => lock::unlock;
    Unary "/v3electionpb.Election/Campaign" => election::campaign;
    Unary "/v3electionpb.Election/Proclaim" => election::proclaim;
    Unary "/v3electionpb.Election/Leader" => election::leader;
    ServerStream "/v3electionpb.Election/Observe" => election::Observe::open;
    Unary "/v3electionpb.Election/Resign" => election::resign;
    Unary "/grpc.health.v1.Health/Check" => health::check;
    ServerStream "/grpc.health.v1.Health/Watch" => health::HealthWatch::open;
}

/// All methods, for edges and metrics.
pub fn method_table() -> &'static [Method] {
    METHODS
}

/// The API of one home.
pub struct Api {
    home: Rc<Home>,
}

impl Api {
    /// Answers from `home`.
    pub fn new(home: Rc<Home>) -> Api {
        Api { home }
    }

    /// Answers a unary call of the method at this place in the table.
    pub fn unary(&self, method: usize, call: &Call, body: Bytes, reply: UnaryReply) {
        self.count(call, false);
        if let Some(refusal) = admit(&self.home, method, call, Some(&body)) {
            return reply.fail(refusal);
        }
        match HANDLERS[method] {
            Handler::Unary(handler) => handler(&self.home, body, reply),
            Handler::Stream(_) => unreachable!("the transport goes by the method's kind"),
        }
    }

    /// Opens a stream of the method at this place in the table.
    pub fn stream(&self, method: usize, call: &Call, reply: StreamReply) -> Box<dyn StreamHandler> {
        self.count(call, true);
        if let Some(refusal) = admit(&self.home, method, call, None) {
            reply.finish(refusal);
        } else if call.requires_leader() {
            self.home.end_without_leader(reply.clone());
        }
        match HANDLERS[method] {
            Handler::Stream(open) => open(&self.home, call, reply),
            Handler::Unary(_) => unreachable!("the transport goes by the method's kind"),
        }
    }

    fn count(&self, call: &Call, stream: bool) {
        let version = call.client_api_version().and_then(|version| std::str::from_utf8(version).ok());
        self.home.metrics.client_requests.inc(stream, version);
    }
}

/// Methods that a learner serves: these, and serializable ranges.
const SERVED_BY_LEARNERS: [&str; 2] = ["/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot"];

/// Whether a learner refuses a call. Of a range, only the request tells.
fn refused_by_learner(method: usize, body: Option<&Bytes>) -> bool {
    let path = METHODS[method].path;
    let is_local_range = |body: &Bytes| {
        path == "/etcdserverpb.KV/Range" && pb::RangeRequest::decode(&body[..]).is_ok_and(|range| range.serializable)
    };
    !SERVED_BY_LEARNERS.contains(&path) && !body.is_some_and(is_local_range)
}

/// Whether the call may be served here and its metadata is acceptable; if not, the status to fail it with.
fn admit(home: &Home, method: usize, call: &Call, body: Option<&Bytes>) -> Option<Status> {
    if home.is_learner() && refused_by_learner(method, body) {
        return Some(status::NOT_SUPPORTED_FOR_LEARNER);
    }
    if call.client_api_version().is_some_and(|version| std::str::from_utf8(version).is_err()) {
        return Some(status::INVALID_CLIENT_API_VERSION);
    }
    if call.requires_leader() && home.state().member.group().leader().is_none() {
        return Some(status::NO_LEADER);
    }
    None
}
