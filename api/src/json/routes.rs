//! The paths of the gateway, all of them for POST. Methods that are not here (health, range streams) have none in etcd.

use crate::methods;

/// A path and what it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// What follows `/v3`.
    pub path: &'static str,
    /// The path of the method, `/package.Service/Method`.
    pub method: &'static str,
}

const fn to<Q, A>(path: &'static str, method: &methods::Method<Q, A>) -> Route {
    Route { path, method: method.path }
}

/// All of them.
pub const ROUTES: &[Route] = &[
    to("/kv/range", &methods::RANGE),
    to("/kv/put", &methods::PUT),
    to("/kv/deleterange", &methods::DELETE_RANGE),
    to("/kv/txn", &methods::TXN),
    to("/kv/compaction", &methods::COMPACT),
    to("/watch", &methods::WATCH),
    to("/lease/grant", &methods::LEASE_GRANT),
    to("/lease/revoke", &methods::LEASE_REVOKE),
    to("/kv/lease/revoke", &methods::LEASE_REVOKE),
    to("/lease/keepalive", &methods::LEASE_KEEP_ALIVE),
    to("/lease/timetolive", &methods::LEASE_TIME_TO_LIVE),
    to("/kv/lease/timetolive", &methods::LEASE_TIME_TO_LIVE),
    to("/lease/leases", &methods::LEASES),
    to("/kv/lease/leases", &methods::LEASES),
    to("/cluster/member/add", &methods::MEMBER_ADD),
    to("/cluster/member/remove", &methods::MEMBER_REMOVE),
    to("/cluster/member/update", &methods::MEMBER_UPDATE),
    to("/cluster/member/list", &methods::MEMBER_LIST),
    to("/cluster/member/promote", &methods::MEMBER_PROMOTE),
    to("/maintenance/alarm", &methods::ALARM),
    to("/maintenance/status", &methods::STATUS),
    to("/maintenance/defragment", &methods::DEFRAGMENT),
    to("/maintenance/hash", &methods::HASH),
    to("/maintenance/hashkv", &methods::HASH_KV),
    to("/maintenance/snapshot", &methods::SNAPSHOT),
    to("/maintenance/transfer-leadership", &methods::MOVE_LEADER),
    to("/maintenance/downgrade", &methods::DOWNGRADE),
    to("/auth/enable", &methods::AUTH_ENABLE),
    to("/auth/disable", &methods::AUTH_DISABLE),
    to("/auth/status", &methods::AUTH_STATUS),
    to("/auth/authenticate", &methods::AUTHENTICATE),
    to("/auth/user/add", &methods::USER_ADD),
    to("/auth/user/get", &methods::USER_GET),
    to("/auth/user/list", &methods::USER_LIST),
    to("/auth/user/delete", &methods::USER_DELETE),
    to("/auth/user/changepw", &methods::USER_CHANGE_PASSWORD),
    to("/auth/user/grant", &methods::USER_GRANT_ROLE),
    to("/auth/user/revoke", &methods::USER_REVOKE_ROLE),
    to("/auth/role/add", &methods::ROLE_ADD),
    to("/auth/role/get", &methods::ROLE_GET),
    to("/auth/role/list", &methods::ROLE_LIST),
    to("/auth/role/delete", &methods::ROLE_DELETE),
    to("/auth/role/grant", &methods::ROLE_GRANT_PERMISSION),
    to("/auth/role/revoke", &methods::ROLE_REVOKE_PERMISSION),
    to("/lock/lock", &methods::LOCK),
    to("/lock/unlock", &methods::UNLOCK),
    to("/election/campaign", &methods::CAMPAIGN),
    to("/election/proclaim", &methods::PROCLAIM),
    to("/election/leader", &methods::LEADER),
    to("/election/observe", &methods::OBSERVE),
    to("/election/resign", &methods::RESIGN),
];
