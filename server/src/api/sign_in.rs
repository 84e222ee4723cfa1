//! `Authenticate`: a name and a password become a token.
//!
//! The password is compared here, the token given out at apply: so that every member knows it, and what changed meanwhile
//! about the user counts.

use super::Request;
use super::kv::decode;
use crate::answer::status;
use crate::home::Home;
use crate::passwords::PasswordError;
use crate::tokens::simple;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::wire::field_bytes;
use plinth_engine::command::{Authenticate, Command};
use plinth_net::grpc::Status;
use plinth_net::rt;
use plinth_net::transport::PeerAddress;
use std::time::Instant;

/// `Authenticate`.
pub fn authenticate(Request { home, caller, body, reply }: Request) {
    let Some((request, reply)) = decode::<pb::AuthenticateRequest>(body, reply) else { return };
    rt::spawn(async move {
        match sign_in(&home, &request.name, request.password).await {
            Ok((revision, token)) => {
                let state = home.state();
                reply.send(|out| {
                    state.header.append(out, revision);
                    out.extend_from_slice(&token);
                });
            }
            Err(refusal) => {
                if home.has_users() {
                    refused(&request.name, &caller.peer.address, &refusal);
                }
                reply.fail(refusal);
            }
        }
    })
    .detach();
}

fn refused(user: &str, address: &PeerAddress, refusal: &Status) {
    tracing::warn!(user, remote = ?address, reason = %refusal.message, "failed to authenticate a user");
}

/// The user's hash, none if there is no such user, and the revision of users and roles.
fn user(home: &Home, name: &str) -> Result<(Option<Vec<u8>>, u64), Status> {
    let state = home.state();
    let auth = state.member.store().auth();
    if !auth.is_enabled() {
        return Err(status::AUTH_NOT_ENABLED);
    }
    match auth.users().get(name) {
        Some(user) if user.no_password == Some(true) => Err(status::NO_PASSWORD_USER),
        user => Ok((user.map(|user| user.password_hash.clone()), auth.revision())),
    }
}

/// The revision of the answer's header, and its token, encoded as a field.
async fn sign_in(home: &Home, name: &str, password: String) -> Result<(i64, Vec<u8>), Status> {
    let deadline = Instant::now() + home.profile.request_timeout;
    let busy = |error: PasswordError| match error {
        PasswordError::Busy => status::TOO_MANY_REQUESTS,
        PasswordError::TooLong | PasswordError::Broken => status::STOPPED,
    };
    loop {
        home.barrier().await?;
        let (hash, auth_revision) = user(home, name)?;
        let is_equal = home.identities.passwords.is_equal(password.clone(), hash).await.map_err(busy)?;
        home.reactor.metrics.password_checks.with(crate::metrics::Success(is_equal)).inc();
        if !is_equal {
            return Err(status::AUTH_FAILED);
        }
        let issuer = home.identities.tokens.borrow().issuer();
        let prefix = match &issuer {
            None => simple::prefix(&home.identities.passwords.random().await.map_err(busy)?),
            Some(issuer) if !issuer.can_sign() => return Err(status::VERIFY_ONLY),
            Some(_) => String::new(),
        };
        let command = Command::Authenticate(Authenticate { name: name.to_owned(), prefix });
        let outcome = home.propose(command).await?;
        // What has changed since the password was compared may have been the password.
        if home.state().member.store().auth().revision() == auth_revision {
            let Some(issuer) = issuer else { return Ok((outcome.revision, outcome.body.into_vec())) };
            let token = home.identities.passwords.token(issuer, name.to_owned(), auth_revision).await.map_err(busy)?;
            let mut field = Vec::new();
            field_bytes(&mut field, 2, token.as_bytes());
            return Ok((outcome.revision, field));
        }
        if Instant::now() >= deadline {
            return Err(status::TIMEOUT);
        }
    }
}
