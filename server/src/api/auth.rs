//! Service `Auth`: users, roles, and signing in.
//!
//! Changes are replicated, and refused at apply if their author may not administer by then. A password is hashed or compared
//! by threads of its own (`passwords`) before anything is replicated: the log holds hashes only.
//!
//! Clients that are configured with a user depend on `Authenticate` saying that authentication is not enabled: they go on
//! without a token then.

use super::kv::decode;
use super::{Request, convert};
use crate::answer::refusal::auth_status;
use crate::answer::status;
use crate::caller::Caller;
use crate::home::Home;
use crate::home::stages::op_of;
use crate::home::waiter::Waiter;
use crate::passwords::PasswordError;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::{field_bytes, field_message, field_varint};
use plinth_engine::auth::{Auth, AuthChange, AuthError, Permission, PermissionKind, ROOT};
use plinth_engine::command::Command;
use plinth_net::grpc::{Status, UnaryReply};
use plinth_net::rt;
use prost::Message;
use std::rc::Rc;

/// Replicates what a request asks for, and answers with a header.
fn change<M: Message + Default>(Request { home, caller, body, reply }: Request, make: fn(M) -> AuthChange) {
    let Some((request, reply)) = decode::<M>(body, reply) else { return };
    submit(&home, &caller, make(request), reply);
}

fn submit(home: &Home, caller: &Caller, change: AuthChange, reply: UnaryReply) {
    let command = Command::Auth(change);
    let mut encoded = Vec::new();
    command.encode_into(&mut encoded);
    if encoded.len() > home.profile.limits.request_bytes_max {
        return reply.fail(status::REQUEST_TOO_LARGE);
    }
    let waiter = Waiter::Reply(reply, home.asked(op_of(command.kind())));
    home.submit_for(caller.author(), |out| out.extend_from_slice(&encoded), waiter);
}

/// Answers with a header and more, once this member knows what the cluster has agreed on and the caller may know it.
fn show<M: Message + Default + 'static>(
    Request { home, caller, body, reply }: Request,
    fields: fn(&Auth, &Caller, &M, &mut Vec<u8>) -> Result<(), AuthError>,
) {
    let Some((request, reply)) = decode::<M>(body, reply) else { return };
    rt::spawn(async move {
        if let Err(status) = home.barrier().await {
            return reply.fail(status);
        }
        let state = home.state();
        let store = state.member.store();
        let mut found = Vec::new();
        match fields(store.auth(), &caller, &request, &mut found) {
            Err(refusal) => reply.fail(auth_status(refusal)),
            Ok(()) => reply.send(|out| {
                state.header.append(out, store.revision());
                out.extend_from_slice(&found);
            }),
        }
    })
    .detach();
}

/// `AuthEnable`.
pub fn enable(request: Request) {
    change::<pb::AuthEnableRequest>(request, |_| AuthChange::Enable);
}

/// `AuthDisable`.
pub fn disable(request: Request) {
    change::<pb::AuthDisableRequest>(request, |_| AuthChange::Disable);
}

/// `AuthStatus`.
pub fn auth_status_of(request: Request) {
    show::<pb::AuthStatusRequest>(request, |auth, _, _, out| {
        field_varint(out, 2, u64::from(auth.is_enabled()));
        field_varint(out, 3, auth.revision());
        Ok(())
    });
}

/// `UserDelete`.
pub fn user_delete(request: Request) {
    change(request, convert::user_delete);
}

/// `UserGrantRole`.
pub fn user_grant_role(request: Request) {
    change(request, convert::user_grant_role);
}

/// `UserRevokeRole`.
pub fn user_revoke_role(request: Request) {
    change(request, convert::user_revoke_role);
}

/// `UserGet`: oneself, or whoever administers.
pub fn user_get(request: Request) {
    show::<pb::AuthUserGetRequest>(request, |auth, caller, request, out| {
        auth.may_see_user(caller.author().unwrap_or_default(), &request.name)?;
        let user = auth.users().get(&request.name).ok_or(AuthError::UserNotFound)?;
        user.roles.iter().for_each(|role| field_bytes(out, 2, role.as_bytes()));
        Ok(())
    });
}

/// `UserList`.
pub fn user_list(request: Request) {
    show::<pb::AuthUserListRequest>(request, |auth, caller, _, out| {
        auth.may_administer(caller.author().unwrap_or_default())?;
        auth.users().keys().for_each(|name| field_bytes(out, 2, name.as_bytes()));
        Ok(())
    });
}

/// `RoleAdd`.
pub fn role_add(request: Request) {
    change(request, convert::role_add);
}

/// `RoleDelete`.
pub fn role_delete(request: Request) {
    change(request, convert::role_delete);
}

/// `RoleGet`: one that the caller has, or whoever administers. The role root may do everything, whatever it was granted.
pub fn role_get(request: Request) {
    show::<pb::AuthRoleGetRequest>(request, |auth, caller, request, out| {
        auth.may_see_role(caller.author().unwrap_or_default(), &request.role)?;
        let role = auth.roles().get(&request.role).ok_or(AuthError::RoleNotFound)?;
        let everything = [Permission { kind: PermissionKind::ReadWrite, key: Vec::new(), range_end: vec![0] }];
        let permissions = if request.role == ROOT { &everything[..] } else { &role.permissions };
        for permission in permissions {
            field_message(out, 2, |out| {
                field_varint(out, 1, permission.kind as u64);
                for (field, bytes) in [(2, &permission.key), (3, &permission.range_end)] {
                    if !bytes.is_empty() {
                        field_bytes(out, field, bytes);
                    }
                }
            });
        }
        Ok(())
    });
}

/// `RoleList`.
pub fn role_list(request: Request) {
    show::<pb::AuthRoleListRequest>(request, |auth, caller, _, out| {
        auth.may_administer(caller.author().unwrap_or_default())?;
        auth.roles().keys().for_each(|name| field_bytes(out, 2, name.as_bytes()));
        Ok(())
    });
}

/// `RoleGrantPermission`.
pub fn role_grant_permission(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::AuthRoleGrantPermissionRequest>(body, reply) else { return };
    match convert::role_grant_permission(request) {
        Some(change) => submit(&home, &caller, change, reply),
        None => reply.fail(status::INVALID_AUTH_MANAGEMENT),
    }
}

/// `RoleRevokePermission`.
pub fn role_revoke_permission(request: Request) {
    change(request, convert::role_revoke_permission);
}

/// `UserAdd`.
pub fn user_add(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::AuthUserAddRequest>(body, reply) else { return };
    let (name, no_password) = (request.name, request.options.is_some_and(|options| options.no_password));
    if no_password {
        let change = AuthChange::UserAdd { name, password_hash: Vec::new(), no_password };
        return submit(&home, &caller, change, reply);
    }
    with_hash(home, caller, request.password, reply, move |password_hash| AuthChange::UserAdd {
        name,
        password_hash,
        no_password,
    });
}

/// `UserChangePassword`.
pub fn user_change_password(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::AuthUserChangePasswordRequest>(body, reply) else { return };
    if request.password.is_empty() {
        // As in etcd nothing is hashed then: nobody signs in by this password, and not by none either.
        let change = AuthChange::UserChangePassword { name: request.name, password_hash: Vec::new() };
        return submit(&home, &caller, change, reply);
    }
    with_hash(home, caller, request.password, reply, move |password_hash| AuthChange::UserChangePassword {
        name: request.name,
        password_hash,
    });
}

/// Hashes a password and replicates a change that holds it. Who may not change users does not get that far: hashing is dear.
fn with_hash(
    home: Rc<Home>,
    caller: Caller,
    password: String,
    reply: UnaryReply,
    make: impl FnOnce(Vec<u8>) -> AuthChange + 'static,
) {
    if let Err(refusal) = home.may(caller.user.as_ref(), Auth::may_administer) {
        return reply.fail(refusal);
    }
    rt::spawn(async move {
        match home.identities.passwords.hash(password).await {
            Ok(hash) => submit(&home, &caller, make(hash), reply),
            Err(error) => reply.fail(password_status(error)),
        }
    })
    .detach();
}

fn password_status(error: PasswordError) -> Status {
    match error {
        PasswordError::Busy => status::TOO_MANY_REQUESTS,
        PasswordError::TooLong => status::PASSWORD_TOO_LONG,
        PasswordError::Broken => status::STOPPED,
    }
}
