//! Requests of the API as commands of the engine. Only shapes change here; checks are the engine's.
//!
//! `Bytes` fields move over without a copy: they point into the receive buffer until the command is encoded.

use plinth_api::proto::{authpb, etcdserverpb as pb};
use plinth_engine::auth::{AuthChange, Permission, PermissionKind};
use plinth_engine::command::{
    Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn,
};

/// A put.
pub fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A delete.
pub fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { key: request.key, range_end: request.range_end, prev_kv: request.prev_kv }
}

/// A range.
pub fn range(request: pb::RangeRequest) -> Range {
    Range {
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        sort_order: SortOrder::from_wire(request.sort_order),
        sort_target: SortTarget::from_wire(request.sort_target),
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// A transaction, with everything nested in it.
pub fn txn(request: pb::TxnRequest) -> Txn {
    Txn {
        compare: request.compare.into_iter().map(compare).collect(),
        success: request.success.into_iter().map(op).collect(),
        failure: request.failure.into_iter().map(op).collect(),
    }
}

fn op(op: pb::RequestOp) -> Op {
    use pb::request_op::Request;
    match op.request {
        None => Op::Unset,
        Some(Request::RequestRange(request)) => Op::Range(range(request)),
        Some(Request::RequestPut(request)) => Op::Put(put(request)),
        Some(Request::RequestDeleteRange(request)) => Op::DeleteRange(delete_range(request)),
        Some(Request::RequestTxn(request)) => Op::Txn(txn(request)),
    }
}

/// A comparison. A member of the union that does not belong to the target counts as unset.
fn compare(compare: pb::Compare) -> Compare {
    use pb::compare::TargetUnion;
    let target = CompareTarget::from_wire(compare.target);
    let mut number = 0;
    let mut value = bytes::Bytes::new();
    match (target, compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(given)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(given)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(given)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(given))) => number = given,
        (CompareTarget::Value, Some(TargetUnion::Value(given))) => value = given,
        _ => {}
    }
    Compare {
        result: CompareResult::from_wire(compare.result),
        target,
        key: compare.key,
        range_end: compare.range_end,
        number,
        value,
    }
}

/// A user that goes.
pub fn user_delete(request: pb::AuthUserDeleteRequest) -> AuthChange {
    AuthChange::UserDelete { name: request.name }
}

/// A role for a user.
pub fn user_grant_role(request: pb::AuthUserGrantRoleRequest) -> AuthChange {
    AuthChange::UserGrantRole { name: request.user, role: request.role }
}

/// A role taken from a user.
pub fn user_revoke_role(request: pb::AuthUserRevokeRoleRequest) -> AuthChange {
    AuthChange::UserRevokeRole { name: request.name, role: request.role }
}

/// A new role.
pub fn role_add(request: pb::AuthRoleAddRequest) -> AuthChange {
    AuthChange::RoleAdd { name: request.name }
}

/// A role that goes.
pub fn role_delete(request: pb::AuthRoleDeleteRequest) -> AuthChange {
    AuthChange::RoleDelete { name: request.role }
}

/// A permission for a role; nothing if it is of a kind that there is not.
pub fn role_grant_permission(request: pb::AuthRoleGrantPermissionRequest) -> Option<AuthChange> {
    let permission = match request.perm {
        Some(given) => Some(permission(given)?),
        None => None,
    };
    Some(AuthChange::RoleGrantPermission { role: request.name, permission })
}

fn permission(given: authpb::Permission) -> Option<Permission> {
    let kind = PermissionKind::from_wire(u64::try_from(given.perm_type).ok()?)?;
    Some(Permission { kind, key: given.key.to_vec(), range_end: given.range_end.to_vec() })
}

/// A permission taken from a role.
pub fn role_revoke_permission(request: pb::AuthRoleRevokePermissionRequest) -> AuthChange {
    AuthChange::RoleRevokePermission {
        role: request.role,
        key: request.key.to_vec(),
        range_end: request.range_end.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_of_another_target_counts_as_unset() {
        let request = pb::Compare {
            target: pb::compare::CompareTarget::Version as i32,
            target_union: Some(pb::compare::TargetUnion::Value("x".into())),
            ..pb::Compare::default()
        };
        let converted = compare(request);
        assert_eq!((converted.number, converted.value.len()), (0, 0));
    }

    #[test]
    fn an_unset_operation_stays_visible() {
        let request = pb::TxnRequest { success: vec![pb::RequestOp::default()], ..pb::TxnRequest::default() };
        assert_eq!(txn(request).success, [Op::Unset]);
    }
}
