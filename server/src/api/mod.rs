//! The gRPC API: which method is answered where.
//!
//! A unary handler gets a [`Request`] and answers at once, from the member's effects, or from a task. [`convert`] turns requests into commands.

pub mod auth;
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
mod nested;
pub mod session;
pub mod snapshot;
pub mod watch;

use crate::answer::refusal::RefusedStream;
use crate::answer::status;
use crate::caller::{CallFacts, Caller};
use crate::home::Home;
use bytes::Bytes;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb as pb;
use plinth_net::grpc::{Method, MethodKind, Status, StreamHandler, StreamReply, UnaryReply};
use prost::Message;
use std::rc::Rc;

/// A unary call, for its handler.
pub struct Request {
    /// Where the data is.
    pub home: Rc<Home>,
    /// Who asks.
    pub caller: Caller,
    /// The request, encoded.
    pub body: Bytes,
    /// Where the answer goes.
    pub reply: UnaryReply,
}

/// A stream that was opened, for its handler.
pub struct StreamRequest {
    /// Where the data is.
    pub home: Rc<Home>,
    /// Who asks.
    pub caller: Caller,
    /// Where answers go.
    pub reply: StreamReply,
}

type Unary = fn(Request);
type Stream = fn(StreamRequest) -> Box<dyn StreamHandler>;

/// What answers a method.
#[derive(Clone, Copy)]
enum Handler {
    Unary(Unary),
    Stream(Stream),
}

const fn entry<Q, A>(method: &methods::Method<Q, A>) -> Method {
    let kind = match method.kind {
        methods::Kind::Unary => MethodKind::Unary,
        methods::Kind::ServerStream => MethodKind::ServerStream,
        methods::Kind::BidiStream => MethodKind::BidiStream,
    };
    Method { path: method.path, kind }
}

macro_rules! handlers {
    ($($kind:ident $method:ident => $handler:expr;)*) => {
        static METHODS: &[Method] = &[$(entry(&methods::$method)),*];
        static HANDLERS: &[Handler] = &[$(Handler::$kind($handler)),*];
    };
}

handlers! {
    Unary PUT => kv::put;
    Unary RANGE => kv::range;
    Unary TXN => kv::txn;
    Unary DELETE_RANGE => kv::delete_range;
    Unary COMPACT => kv::compact;
    Stream RANGE_STREAM => kv::RangeStream::open;
    Stream WATCH => watch::WatchStream::open;
    Unary LEASE_GRANT => lease::grant;
    Unary LEASE_REVOKE => lease::revoke;
    Stream LEASE_KEEP_ALIVE => lease::KeepAlive::open;
    Unary LEASE_TIME_TO_LIVE => lease::time_to_live;
    Unary LEASES => lease::leases;
    Unary MEMBER_LIST => cluster::member_list;
    Unary MEMBER_ADD => cluster::member_add;
    Unary MEMBER_REMOVE => cluster::member_remove;
    Unary MEMBER_UPDATE => cluster::member_update;
    Unary MEMBER_PROMOTE => cluster::member_promote;
    Unary MOVE_LEADER => maintenance::move_leader;
    Unary ALARM => maintenance::alarm;
    Unary STATUS => maintenance::status;
    Unary DEFRAGMENT => maintenance::defragment;
    Unary HASH => maintenance::hash;
    Unary HASH_KV => maintenance::hash_kv;
    Unary AUTHENTICATE => auth::authenticate;
    Unary AUTH_ENABLE => auth::enable;
    Unary AUTH_DISABLE => auth::disable;
    Unary AUTH_STATUS => auth::auth_status;
    Unary USER_GET => auth::of_user::<pb::AuthUserGetRequest>;
    Unary USER_LIST => auth::list;
    Unary USER_DELETE => auth::of_user::<pb::AuthUserDeleteRequest>;
    Unary USER_CHANGE_PASSWORD => auth::of_user::<pb::AuthUserChangePasswordRequest>;
    Unary USER_GRANT_ROLE => auth::of_user::<pb::AuthUserGrantRoleRequest>;
    Unary USER_REVOKE_ROLE => auth::of_user::<pb::AuthUserRevokeRoleRequest>;
    Unary ROLE_GET => auth::of_role::<pb::AuthRoleGetRequest>;
    Unary ROLE_LIST => auth::list;
    Unary ROLE_DELETE => auth::of_role::<pb::AuthRoleDeleteRequest>;
    Unary ROLE_GRANT_PERMISSION => auth::grant_permission;
    Unary ROLE_REVOKE_PERMISSION => auth::of_role::<pb::AuthRoleRevokePermissionRequest>;
    Stream SNAPSHOT => snapshot::Snapshot::open;
    Unary LOCK => lock::lock;
    Unary UNLOCK => lock::unlock;
    Unary CAMPAIGN => election::campaign;
    Unary PROCLAIM => election::proclaim;
    Unary LEADER => election::leader;
    Stream OBSERVE => election::Observe::open;
    Unary RESIGN => election::resign;
    Unary HEALTH_CHECK => health::check;
    Stream HEALTH_WATCH => health::HealthWatch::open;
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
    pub fn unary(&self, method: usize, call: CallFacts, body: Bytes, reply: UnaryReply) {
        self.count(&call, false);
        if let Some(refusal) = admit(&self.home, method, &call, Some(&body)) {
            return reply.fail(refusal);
        }
        match HANDLERS[method] {
            Handler::Unary(handler) => handler(Request { home: self.home.clone(), caller: call.caller, body, reply }),
            Handler::Stream(_) => unreachable!("the transport goes by the method's kind"),
        }
    }

    /// Opens a stream of the method at this place in the table. One that is refused reaches no handler.
    pub fn stream(&self, method: usize, call: CallFacts, reply: StreamReply) -> Box<dyn StreamHandler> {
        self.count(&call, true);
        if let Some(refusal) = admit(&self.home, method, &call, None) {
            reply.finish(refusal);
            return Box::new(RefusedStream);
        }
        if call.requires_leader {
            self.home.end_without_leader(reply.clone());
        }
        match HANDLERS[method] {
            Handler::Stream(open) => open(StreamRequest { home: self.home.clone(), caller: call.caller, reply }),
            Handler::Unary(_) => unreachable!("the transport goes by the method's kind"),
        }
    }

    fn count(&self, call: &CallFacts, stream: bool) {
        let version = call.client_api_version.as_deref().and_then(|version| std::str::from_utf8(version).ok());
        self.home.metrics.client_requests.inc(stream, version);
    }
}

/// Methods that a learner serves: these, and serializable ranges.
const SERVED_BY_LEARNERS: [&str; 2] = [methods::STATUS.path, methods::SNAPSHOT.path];

/// Whether a learner refuses a call. Of a range, only the request tells.
fn refused_by_learner(method: usize, body: Option<&Bytes>) -> bool {
    let path = METHODS[method].path;
    let is_local_range = |body: &Bytes| {
        path == methods::RANGE.path && pb::RangeRequest::decode(&body[..]).is_ok_and(|range| range.serializable)
    };
    !SERVED_BY_LEARNERS.contains(&path) && !body.is_some_and(is_local_range)
}

/// Whether the call may be served here and its metadata is acceptable; if not, the status to fail it with.
fn admit(home: &Home, method: usize, call: &CallFacts, body: Option<&Bytes>) -> Option<Status> {
    if home.is_learner() && refused_by_learner(method, body) {
        return Some(status::NOT_SUPPORTED_FOR_LEARNER);
    }
    if call.client_api_version.as_deref().is_some_and(|version| std::str::from_utf8(version).is_err()) {
        return Some(status::INVALID_CLIENT_API_VERSION);
    }
    if call.requires_leader && home.state().member.group().leader().is_none() {
        return Some(status::NO_LEADER);
    }
    None
}
