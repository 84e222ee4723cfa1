//! Requests in etcd's log that change users and roles, as changes of ours.

use crate::api::convert;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use plinth_api::proto::etcdserverpb as pb;
use plinth_engine::auth::AuthChange;
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
        field::USER_DELETE => convert::user_delete(decode(body)?),
        field::USER_CHANGE_PASSWORD => {
            let request: pb::AuthUserChangePasswordRequest = decode(body)?;
            let password_hash = hash(&request.hashed_password, &request.name)?;
            AuthChange::UserChangePassword { name: request.name, password_hash }
        }
        field::USER_GRANT_ROLE => convert::user_grant_role(decode(body)?),
        field::USER_REVOKE_ROLE => convert::user_revoke_role(decode(body)?),
        field::ROLE_ADD => convert::role_add(decode(body)?),
        field::ROLE_DELETE => convert::role_delete(decode(body)?),
        field::ROLE_GRANT_PERMISSION => {
            convert::role_grant_permission(decode(body)?).ok_or("a permission of a kind that there is not")?
        }
        field::ROLE_REVOKE_PERMISSION => convert::role_revoke_permission(decode(body)?),
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
