//! Service `Auth` of a store that has no users: what etcd answers while authentication is off and nobody was added.
//!
//! Clients that are configured with a user depend on these answers: they go on without a token when `Authenticate` says
//! that authentication is not enabled. Adding users and roles is left out, so that it is refused by name.

use super::Request;
use super::kv::decode;
use crate::answer::status;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::field_varint;
use plinth_net::grpc::Status;
use plinth_net::rt;
use prost::Message;

/// The auth revision of a store in which nothing was changed.
const AUTH_REVISION: u64 = 1;

/// `Authenticate`.
pub fn authenticate(request: Request) {
    refuse::<pb::AuthenticateRequest>(request, status::AUTH_NOT_ENABLED);
}

/// `AuthEnable`: there is no user root.
pub fn enable(request: Request) {
    refuse::<pb::AuthEnableRequest>(request, status::ROOT_USER_NOT_EXIST);
}

/// `AuthDisable`: it is off.
pub fn disable(request: Request) {
    answer::<pb::AuthDisableRequest>(request, |_| {});
}

/// `AuthStatus`: off.
pub fn auth_status(request: Request) {
    answer::<pb::AuthStatusRequest>(request, |out| field_varint(out, 3, AUTH_REVISION));
}

/// `UserList` and `RoleList`, whose requests are empty.
pub fn list(request: Request) {
    answer::<pb::AuthUserListRequest>(request, |_| {});
}

/// Everything that names a user.
pub fn of_user<M: Message + Default>(request: Request) {
    refuse::<M>(request, status::USER_NOT_FOUND);
}

/// Everything that names a role.
pub fn of_role<M: Message + Default>(request: Request) {
    refuse::<M>(request, status::ROLE_NOT_FOUND);
}

/// `RoleGrantPermission`: the permission is looked at before the role.
pub fn grant_permission(Request { body, reply, .. }: Request) {
    let Some((request, reply)) = decode::<pb::AuthRoleGrantPermissionRequest>(body, reply) else { return };
    reply.fail(match request.perm {
        None => status::PERMISSION_NOT_GIVEN,
        Some(perm) if !is_range(&perm.key, &perm.range_end) => status::INVALID_AUTH_MANAGEMENT,
        Some(_) => status::ROLE_NOT_FOUND,
    });
}

/// A key, one and all behind it (an end of zero), or a range that is not empty.
fn is_range(key: &[u8], end: &[u8]) -> bool {
    !key.is_empty() && (end.is_empty() || end == [0] || key < end)
}

fn refuse<M: Message + Default>(Request { body, reply, .. }: Request, refusal: Status) {
    if let Some((_, reply)) = decode::<M>(body, reply) {
        reply.fail(refusal);
    }
}

/// Answers with a header and more once this member knows what the cluster has agreed on.
fn answer<M: Message + Default>(Request { home, body, reply, .. }: Request, rest: fn(&mut Vec<u8>)) {
    let Some((_, reply)) = decode::<M>(body, reply) else { return };
    rt::spawn(async move {
        if let Err(status) = home.barrier().await {
            return reply.fail(status);
        }
        let state = home.state();
        reply.send(|out| {
            state.header.append(out, state.member.store().revision());
            rest(out);
        });
    })
    .detach();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_permissions() {
        for (key, end, fine) in [
            ("a", "", true),
            ("a", "b", true),
            ("a", "\0", true),
            ("", "", false),
            ("", "b", false),
            ("b", "b", false),
            ("b", "a", false),
        ] {
            assert_eq!(is_range(key.as_bytes(), end.as_bytes()), fine, "{key:?} to {end:?}");
        }
    }
}
