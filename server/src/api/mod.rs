//! The gRPC API: which method is answered where.
//!
//! A unary handler gets a [`Request`] and answers at once, from the member's effects, or from a task. What its caller has
//! to be says the rule of the `guard`, in the table. [`convert`] turns requests into commands.

pub mod auth;
pub mod cluster;
pub mod convert;
pub mod downgrade;
pub mod election;
mod guard;
pub mod health;
pub mod ids;
pub mod internal_watch;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
mod migration;
mod nested;
pub mod session;
mod sign_in;
pub mod snapshot;
pub mod watch;

use crate::answer::refusal::RefusedStream;
use crate::answer::status;
use crate::caller::{CallFacts, Caller};
use crate::home::Home;
use bytes::Bytes;
use guard::{Rule, guard};
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
    ($($kind:ident $rule:ident $method:ident => $handler:expr;)*) => {
        static METHODS: &[Method] = &[$(entry(&methods::$method)),*];
        static HANDLERS: &[Handler] = &[$(Handler::$kind($handler)),*];
        static RULES: &[Rule] = &[$(Rule::$rule),*];
    };
}

handlers! {
    Unary Identity PUT => kv::put;
    Unary Own RANGE => kv::range;
    Unary Identity TXN => kv::txn;
    Unary Identity DELETE_RANGE => kv::delete_range;
    Unary Admin COMPACT => kv::compact;
    Stream Own RANGE_STREAM => kv::RangeStream::open;
    Stream Own WATCH => watch::WatchStream::open;
    Unary User LEASE_GRANT => lease::grant;
    Unary User LEASE_REVOKE => lease::revoke;
    Stream Own LEASE_KEEP_ALIVE => lease::KeepAlive::open;
    Unary User LEASE_TIME_TO_LIVE => lease::time_to_live;
    Unary User LEASES => lease::leases;
    Unary User MEMBER_LIST => cluster::member_list;
    Unary Admin MEMBER_ADD => cluster::member_add;
    Unary Admin MEMBER_REMOVE => cluster::member_remove;
    Unary Admin MEMBER_UPDATE => cluster::member_update;
    Unary Admin MEMBER_PROMOTE => cluster::member_promote;
    Unary Admin MOVE_LEADER => maintenance::move_leader;
    Unary User ALARM => maintenance::alarm;
    Unary User STATUS => maintenance::status;
    Unary Admin DEFRAGMENT => maintenance::defragment;
    Unary Admin HASH => maintenance::hash;
    Unary Admin HASH_KV => maintenance::hash_kv;
    Unary Admin DOWNGRADE => downgrade::downgrade;
    Unary Open AUTHENTICATE => sign_in::authenticate;
    Unary Identity AUTH_ENABLE => auth::enable;
    Unary Identity AUTH_DISABLE => auth::disable;
    Unary Identity AUTH_STATUS => auth::auth_status_of;
    Unary Identity USER_ADD => auth::user_add;
    Unary Identity USER_GET => auth::user_get;
    Unary Identity USER_LIST => auth::user_list;
    Unary Identity USER_DELETE => auth::user_delete;
    Unary Identity USER_CHANGE_PASSWORD => auth::user_change_password;
    Unary Identity USER_GRANT_ROLE => auth::user_grant_role;
    Unary Identity USER_REVOKE_ROLE => auth::user_revoke_role;
    Unary Identity ROLE_ADD => auth::role_add;
    Unary Identity ROLE_GET => auth::role_get;
    Unary Identity ROLE_LIST => auth::role_list;
    Unary Identity ROLE_DELETE => auth::role_delete;
    Unary Identity ROLE_GRANT_PERMISSION => auth::role_grant_permission;
    Unary Identity ROLE_REVOKE_PERMISSION => auth::role_revoke_permission;
    Stream Own SNAPSHOT => snapshot::Snapshot::open;
    Unary Own LOCK => lock::lock;
    Unary Own UNLOCK => lock::unlock;
    Unary Own CAMPAIGN => election::campaign;
    Unary Own PROCLAIM => election::proclaim;
    Unary Own LEADER => election::leader;
    Stream Own OBSERVE => election::Observe::open;
    Unary Own RESIGN => election::resign;
    Unary Open HEALTH_CHECK => health::check;
    Stream Open HEALTH_WATCH => health::HealthWatch::open;
    Unary User MIGRATION_STATUS => migration::status;
    Unary Admin CUT_OVER => migration::cut_over;
    Unary Admin ABORT => migration::abort;
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
        let reply = self.home.slow.watch(METHODS[method].path, &call, &body, reply);
        if let Some(refusal) = admit(&self.home, method, &call, Some(&body)) {
            return reply.fail(refusal);
        }
        match HANDLERS[method] {
            Handler::Unary(handler) => {
                let home = self.home.clone();
                guard(&self.home, RULES[method], call.caller, move |admitted| match admitted {
                    Ok(caller) => handler(Request { home, caller, body, reply }),
                    // What is wrong with a write is told before it is looked at whose it is.
                    Err(refusal) => {
                        reply.fail(kv::fault(METHODS[method].path, body, &home.profile.limits).unwrap_or(refusal))
                    }
                });
            }
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
        self.home.reactor.metrics.client_requests.inc(stream, version);
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

/// Methods that a standby of another cluster serves. Of ranges and transactions the handlers look at the request: they may be
/// serializable.
const SERVED_BY_STANDBYS: [&str; 23] = [
    methods::RANGE.path,
    methods::RANGE_STREAM.path,
    methods::TXN.path,
    methods::WATCH.path,
    methods::LEASES.path,
    methods::MEMBER_LIST.path,
    methods::ALARM.path,
    methods::STATUS.path,
    methods::DEFRAGMENT.path,
    methods::HASH.path,
    methods::HASH_KV.path,
    methods::SNAPSHOT.path,
    methods::AUTHENTICATE.path,
    methods::AUTH_STATUS.path,
    methods::USER_GET.path,
    methods::USER_LIST.path,
    methods::ROLE_GET.path,
    methods::ROLE_LIST.path,
    methods::HEALTH_CHECK.path,
    methods::HEALTH_WATCH.path,
    methods::MIGRATION_STATUS.path,
    methods::CUT_OVER.path,
    methods::ABORT.path,
];

/// Whether the call may be served here and its metadata is acceptable; if not, the status to fail it with.
fn admit(home: &Home, method: usize, call: &CallFacts, body: Option<&Bytes>) -> Option<Status> {
    if home.is_learner() && refused_by_learner(method, body) {
        return Some(status::NOT_SUPPORTED_FOR_LEARNER);
    }
    if home.follows() && !SERVED_BY_STANDBYS.contains(&METHODS[method].path) {
        return Some(status::FOLLOWING);
    }
    if call.client_api_version.as_deref().is_some_and(|version| std::str::from_utf8(version).is_err()) {
        return Some(status::INVALID_CLIENT_API_VERSION);
    }
    if call.requires_leader && home.state().member.group().leader().is_none() {
        return Some(status::NO_LEADER);
    }
    None
}
