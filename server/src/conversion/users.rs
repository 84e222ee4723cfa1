//! Requests in etcd's log that change users and roles, as changes of ours.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use plinth_api::proto::etcdserverpb as pb;
use plinth_engine::auth::{AuthChange, Permission, PermissionKind};
use prost::Message;

/// Fields of `InternalRaftRequest`.
mod field {
    pub const ENABLE: u64 = 1000;
    pub const DISABLE: u64 = 1011;
    pub const USER_ADD: u64 = 1100;
    pub const USER_DELETE: u64 = 1101;
    pub const USER_CHANGE_PASSWORD: u64 = 1103;
    pub const USER_GRANT_ROLE: u64 = 1104;
    pub const USER_REVOKE_ROLE: u64 = 1105;
    pub const ROLE_ADD: u64 = 1200;
    pub const ROLE_DELETE: u64 = 1201;
    pub const ROLE_GRANT_PERMISSION: u64 = 1203;
    pub const ROLE_REVOKE_PERMISSION: u64 = 1204;
}

/// The change that a request of this number asks for; nothing if it is about something else.
///
/// # Errors
/// If it does not decode, or carries a password in clear, as releases before 3.5 replicated it.
pub fn change(number: u64, body: &[u8]) -> Result<Option<AuthChange>, String> {
    Ok(Some(match number {
        field::ENABLE => AuthChange::Enable,
        field::DISABLE => AuthChange::Disable,
        field::USER_ADD => {
            let request: pb::AuthUserAddRequest = decode(body)?;
            let no_password = request.options.is_some_and(|options| options.no_password);
            let password_hash = if no_password { Vec::new() } else { hash(&request.hashed_password, &request.name)? };
            AuthChange::UserAdd { name: request.name, password_hash, no_password }
        }
        field::USER_DELETE => AuthChange::UserDelete { name: decode::<pb::AuthUserDeleteRequest>(body)?.name },
        field::USER_CHANGE_PASSWORD => {
            let request: pb::AuthUserChangePasswordRequest = decode(body)?;
            let password_hash = hash(&request.hashed_password, &request.name)?;
            AuthChange::UserChangePassword { name: request.name, password_hash }
        }
        field::USER_GRANT_ROLE => {
            let request: pb::AuthUserGrantRoleRequest = decode(body)?;
            AuthChange::UserGrantRole { name: request.user, role: request.role }
        }
        field::USER_REVOKE_ROLE => {
            let request: pb::AuthUserRevokeRoleRequest = decode(body)?;
            AuthChange::UserRevokeRole { name: request.name, role: request.role }
        }
        field::ROLE_ADD => AuthChange::RoleAdd { name: decode::<pb::AuthRoleAddRequest>(body)?.name },
        field::ROLE_DELETE => AuthChange::RoleDelete { name: decode::<pb::AuthRoleDeleteRequest>(body)?.role },
        field::ROLE_GRANT_PERMISSION => {
            let request: pb::AuthRoleGrantPermissionRequest = decode(body)?;
            let permission = request.perm.map(|given| {
                let kind = u64::try_from(given.perm_type).ok().and_then(PermissionKind::from_wire);
                let kind = kind.ok_or_else(|| format!("a permission of type {}", given.perm_type))?;
                Ok::<_, String>(Permission { kind, key: given.key.to_vec(), range_end: given.range_end.to_vec() })
            });
            AuthChange::RoleGrantPermission { role: request.name, permission: permission.transpose()? }
        }
        field::ROLE_REVOKE_PERMISSION => {
            let request: pb::AuthRoleRevokePermissionRequest = decode(body)?;
            AuthChange::RoleRevokePermission {
                role: request.role,
                key: request.key.to_vec(),
                range_end: request.range_end.to_vec(),
            }
        }
        _ => return Ok(None),
    }))
}

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, String> {
    M::decode(body).map_err(|error| error.to_string())
}

fn hash(text: &str, user: &str) -> Result<Vec<u8>, String> {
    match BASE64_STANDARD.decode(text) {
        Ok(hash) if !hash.is_empty() => Ok(hash),
        _ => Err(format!("no hash of user {user}'s password; let etcd stop orderly before the conversion")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_as_its_hash() {
        let request = pb::AuthUserAddRequest {
            name: "alice".into(),
            hashed_password: BASE64_STANDARD.encode("$2a$10$hash"),
            ..pb::AuthUserAddRequest::default()
        };
        let wanted =
            AuthChange::UserAdd { name: "alice".into(), password_hash: b"$2a$10$hash".to_vec(), no_password: false };
        assert_eq!(change(field::USER_ADD, &request.encode_to_vec()), Ok(Some(wanted)));
        let in_clear = pb::AuthUserAddRequest { name: "bob".into(), password: "x".into(), ..Default::default() };
        assert!(change(field::USER_ADD, &in_clear.encode_to_vec()).expect_err("refused").contains("bob"));
    }
}
