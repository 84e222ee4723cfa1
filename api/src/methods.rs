//! Every method of the API: its path, which side streams, whether it only reads, and the types of its messages.
//!
//! A method is one constant; servers take path and kind from it, clients the types too.

use crate::proto::{etcdserverpb as pb, health, plinthpb as own, v3electionpb as election, v3lockpb as lock};
use std::marker::PhantomData;

/// Which side of a call sends more than one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    BidiStream,
}

/// A method with requests `Q` and answers `A`.
#[derive(Debug)]
pub struct Method<Q, A> {
    /// Path of the call, `/package.Service/Method`.
    pub path: &'static str,
    /// Which side streams.
    pub kind: Kind,
    /// Reading changes nothing: after a broken connection it may be asked elsewhere.
    pub read: bool,
    types: PhantomData<fn(Q) -> A>,
}

macro_rules! methods {
    ($($effect:ident $name:ident: $kind:ident $path:literal, $request:ty => $answer:ty;)*) => {
        $(
            #[doc = concat!("`", $path, "`")]
            pub const $name: Method<$request, $answer> = Method {
                path: $path,
                kind: Kind::$kind,
                read: methods!(@ $effect),
                types: PhantomData,
            };
        )*

        /// Path and kind of all of them.
        pub const ALL: &[(&str, Kind)] = &[$(($path, Kind::$kind)),*];
    };
    (@ read) => { true };
    (@ write) => { false };
}

methods! {
    read RANGE: Unary "/etcdserverpb.KV/Range", pb::RangeRequest => pb::RangeResponse;
    read RANGE_STREAM: ServerStream "/etcdserverpb.KV/RangeStream", pb::RangeRequest => pb::RangeStreamResponse;
    write PUT: Unary "/etcdserverpb.KV/Put", pb::PutRequest => pb::PutResponse;
    write DELETE_RANGE: Unary "/etcdserverpb.KV/DeleteRange", pb::DeleteRangeRequest => pb::DeleteRangeResponse;
    write TXN: Unary "/etcdserverpb.KV/Txn", pb::TxnRequest => pb::TxnResponse;
    write COMPACT: Unary "/etcdserverpb.KV/Compact", pb::CompactionRequest => pb::CompactionResponse;
    read WATCH: BidiStream "/etcdserverpb.Watch/Watch", pb::WatchRequest => pb::WatchResponse;
    write LEASE_GRANT: Unary "/etcdserverpb.Lease/LeaseGrant", pb::LeaseGrantRequest => pb::LeaseGrantResponse;
    write LEASE_REVOKE: Unary "/etcdserverpb.Lease/LeaseRevoke", pb::LeaseRevokeRequest => pb::LeaseRevokeResponse;
    read LEASE_KEEP_ALIVE: BidiStream "/etcdserverpb.Lease/LeaseKeepAlive",
        pb::LeaseKeepAliveRequest => pb::LeaseKeepAliveResponse;
    read LEASE_TIME_TO_LIVE: Unary "/etcdserverpb.Lease/LeaseTimeToLive",
        pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse;
    read LEASES: Unary "/etcdserverpb.Lease/LeaseLeases", pb::LeaseLeasesRequest => pb::LeaseLeasesResponse;
    write MEMBER_ADD: Unary "/etcdserverpb.Cluster/MemberAdd", pb::MemberAddRequest => pb::MemberAddResponse;
    write MEMBER_REMOVE: Unary "/etcdserverpb.Cluster/MemberRemove",
        pb::MemberRemoveRequest => pb::MemberRemoveResponse;
    write MEMBER_UPDATE: Unary "/etcdserverpb.Cluster/MemberUpdate",
        pb::MemberUpdateRequest => pb::MemberUpdateResponse;
    write MEMBER_PROMOTE: Unary "/etcdserverpb.Cluster/MemberPromote",
        pb::MemberPromoteRequest => pb::MemberPromoteResponse;
    read MEMBER_LIST: Unary "/etcdserverpb.Cluster/MemberList", pb::MemberListRequest => pb::MemberListResponse;
    write ALARM: Unary "/etcdserverpb.Maintenance/Alarm", pb::AlarmRequest => pb::AlarmResponse;
    read STATUS: Unary "/etcdserverpb.Maintenance/Status", pb::StatusRequest => pb::StatusResponse;
    write DEFRAGMENT: Unary "/etcdserverpb.Maintenance/Defragment", pb::DefragmentRequest => pb::DefragmentResponse;
    read HASH: Unary "/etcdserverpb.Maintenance/Hash", pb::HashRequest => pb::HashResponse;
    read HASH_KV: Unary "/etcdserverpb.Maintenance/HashKV", pb::HashKvRequest => pb::HashKvResponse;
    read SNAPSHOT: ServerStream "/etcdserverpb.Maintenance/Snapshot", own::SnapshotRequest => pb::SnapshotResponse;
    write MOVE_LEADER: Unary "/etcdserverpb.Maintenance/MoveLeader", pb::MoveLeaderRequest => pb::MoveLeaderResponse;
    write DOWNGRADE: Unary "/etcdserverpb.Maintenance/Downgrade", pb::DowngradeRequest => pb::DowngradeResponse;
    write AUTHENTICATE: Unary "/etcdserverpb.Auth/Authenticate", pb::AuthenticateRequest => pb::AuthenticateResponse;
    write AUTH_ENABLE: Unary "/etcdserverpb.Auth/AuthEnable", pb::AuthEnableRequest => pb::AuthEnableResponse;
    write AUTH_DISABLE: Unary "/etcdserverpb.Auth/AuthDisable", pb::AuthDisableRequest => pb::AuthDisableResponse;
    read AUTH_STATUS: Unary "/etcdserverpb.Auth/AuthStatus", pb::AuthStatusRequest => pb::AuthStatusResponse;
    write USER_ADD: Unary "/etcdserverpb.Auth/UserAdd", pb::AuthUserAddRequest => pb::AuthUserAddResponse;
    write USER_DELETE: Unary "/etcdserverpb.Auth/UserDelete", pb::AuthUserDeleteRequest => pb::AuthUserDeleteResponse;
    read USER_GET: Unary "/etcdserverpb.Auth/UserGet", pb::AuthUserGetRequest => pb::AuthUserGetResponse;
    read USER_LIST: Unary "/etcdserverpb.Auth/UserList", pb::AuthUserListRequest => pb::AuthUserListResponse;
    write USER_CHANGE_PASSWORD: Unary "/etcdserverpb.Auth/UserChangePassword",
        pb::AuthUserChangePasswordRequest => pb::AuthUserChangePasswordResponse;
    write USER_GRANT_ROLE: Unary "/etcdserverpb.Auth/UserGrantRole",
        pb::AuthUserGrantRoleRequest => pb::AuthUserGrantRoleResponse;
    write USER_REVOKE_ROLE: Unary "/etcdserverpb.Auth/UserRevokeRole",
        pb::AuthUserRevokeRoleRequest => pb::AuthUserRevokeRoleResponse;
    write ROLE_ADD: Unary "/etcdserverpb.Auth/RoleAdd", pb::AuthRoleAddRequest => pb::AuthRoleAddResponse;
    write ROLE_DELETE: Unary "/etcdserverpb.Auth/RoleDelete", pb::AuthRoleDeleteRequest => pb::AuthRoleDeleteResponse;
    read ROLE_GET: Unary "/etcdserverpb.Auth/RoleGet", pb::AuthRoleGetRequest => pb::AuthRoleGetResponse;
    read ROLE_LIST: Unary "/etcdserverpb.Auth/RoleList", pb::AuthRoleListRequest => pb::AuthRoleListResponse;
    write ROLE_GRANT_PERMISSION: Unary "/etcdserverpb.Auth/RoleGrantPermission",
        pb::AuthRoleGrantPermissionRequest => pb::AuthRoleGrantPermissionResponse;
    write ROLE_REVOKE_PERMISSION: Unary "/etcdserverpb.Auth/RoleRevokePermission",
        pb::AuthRoleRevokePermissionRequest => pb::AuthRoleRevokePermissionResponse;
    write LOCK: Unary "/v3lockpb.Lock/Lock", lock::LockRequest => lock::LockResponse;
    write UNLOCK: Unary "/v3lockpb.Lock/Unlock", lock::UnlockRequest => lock::UnlockResponse;
    write CAMPAIGN: Unary "/v3electionpb.Election/Campaign", election::CampaignRequest => election::CampaignResponse;
    write PROCLAIM: Unary "/v3electionpb.Election/Proclaim", election::ProclaimRequest => election::ProclaimResponse;
    read LEADER: Unary "/v3electionpb.Election/Leader", election::LeaderRequest => election::LeaderResponse;
    read OBSERVE: ServerStream "/v3electionpb.Election/Observe", election::LeaderRequest => election::LeaderResponse;
    write RESIGN: Unary "/v3electionpb.Election/Resign", election::ResignRequest => election::ResignResponse;
    read HEALTH_CHECK: Unary "/grpc.health.v1.Health/Check", health::HealthCheckRequest => health::HealthCheckResponse;
    read HEALTH_WATCH: ServerStream "/grpc.health.v1.Health/Watch",
        health::HealthCheckRequest => health::HealthCheckResponse;
    read MIGRATION_STATUS: Unary "/plinthpb.Migration/Status", own::MigrationRequest => own::MigrationStatus;
    write CUT_OVER: Unary "/plinthpb.Migration/CutOver", own::MigrationRequest => own::MigrationStatus;
    write ABORT: Unary "/plinthpb.Migration/Abort", own::MigrationRequest => own::MigrationStatus;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The services as the contract's own text has them: path, whether the request and the answer are streams.
    fn declared() -> Vec<(String, Kind)> {
        let files = [
            include_str!("../proto/rpc.proto"),
            include_str!("../proto/lock.proto"),
            include_str!("../proto/election.proto"),
            include_str!("../proto/health.proto"),
            include_str!("../proto/migration.proto"),
        ];
        let mut found = Vec::new();
        for text in files {
            let (mut package, mut service) = ("", "");
            for line in text.lines().map(str::trim) {
                if let Some(name) = line.strip_prefix("package ") {
                    package = name.trim_end_matches(';');
                } else if let Some(name) = line.strip_prefix("service ") {
                    service = name.split_whitespace().next().expect("a name");
                } else if let Some(call) = line.strip_prefix("rpc ") {
                    let (name, types) = call.split_once('(').expect("its request");
                    let (request, answer) = types.split_once("returns").expect("its answer");
                    let kind = match (request.contains("stream "), answer.contains("stream ")) {
                        (false, false) => Kind::Unary,
                        (false, true) => Kind::ServerStream,
                        (true, true) => Kind::BidiStream,
                        (true, false) => panic!("{name}: the API has no such calls"),
                    };
                    found.push((format!("/{package}.{service}/{}", name.trim()), kind));
                }
            }
        }
        found
    }

    #[test]
    fn the_table_is_what_the_contract_declares() {
        let mut table: Vec<_> = ALL.iter().map(|(path, kind)| (path.to_string(), *kind)).collect();
        let mut declared = declared();
        table.sort_by(|a, b| a.0.cmp(&b.0));
        declared.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(table, declared);
    }
}
