//! Users in a server: one that may read and write all keys, by a role and not by being root, so that every request is
//! looked at.

use crate::certificates::Certificates;
use crate::endpoint::Endpoint;
use crate::grpc::{CallError, call, frame};
use plinth_api::methods;
use plinth_api::proto::authpb::{Permission, permission};
use plinth_api::proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, AuthenticateResponse,
};
use prost::Message;
use std::io;

const PASSWORD: &str = "known to anybody";

/// How users show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tokens {
    /// Letters that the member has in a table.
    Simple,
    /// Signed ones (ES256).
    Jwt,
}

impl Tokens {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Tokens::Simple => "users",
            Tokens::Jwt => "jwt",
        }
    }

    /// What a server has to be told.
    pub fn arguments(self, keys: &Certificates) -> Vec<String> {
        let (public, private) = (keys.token_public.display(), keys.token_key.display());
        let kind = match self {
            Tokens::Simple => "simple".to_owned(),
            Tokens::Jwt => format!("jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl=1h"),
        };
        vec!["--auth-token".to_owned(), kind, "--bcrypt-cost".to_owned(), "4".to_owned()]
    }
}

/// Makes the user, has rights looked at from now on, and returns the token. It lives as long as the process.
pub fn introduce(endpoint: Endpoint) -> io::Result<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(make(endpoint)).map_err(io::Error::other)?;
    log_in(endpoint, "perf", PASSWORD)
}

/// The token of a user. It lives as long as the process.
pub fn log_in(endpoint: Endpoint, name: &str, password: &str) -> io::Result<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let who = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
    let answer = runtime.block_on(call(endpoint, methods::AUTHENTICATE.path, frame(&who))).map_err(io::Error::other)?;
    let answer = AuthenticateResponse::decode(answer).map_err(io::Error::other)?;
    Ok(Box::leak(answer.token.into_boxed_str()))
}

async fn make(endpoint: Endpoint) -> Result<(), CallError> {
    let role = |role: &str| AuthRoleAddRequest { name: role.to_owned() };
    let user =
        |name: &str| AuthUserAddRequest { name: name.to_owned(), password: PASSWORD.to_owned(), ..Default::default() };
    let granted = |user: &str| AuthUserGrantRoleRequest { user: user.to_owned(), role: user.to_owned() };
    for name in ["root", "perf"] {
        call(endpoint, methods::ROLE_ADD.path, frame(&role(name))).await?;
        call(endpoint, methods::USER_ADD.path, frame(&user(name))).await?;
        call(endpoint, methods::USER_GRANT_ROLE.path, frame(&granted(name))).await?;
    }
    let everything =
        Permission { perm_type: permission::Type::Readwrite.into(), key: vec![0].into(), range_end: vec![0].into() };
    let grant = AuthRoleGrantPermissionRequest { name: "perf".to_owned(), perm: Some(everything) };
    call(endpoint, methods::ROLE_GRANT_PERMISSION.path, frame(&grant)).await?;
    call(endpoint, methods::AUTH_ENABLE.path, frame(&AuthEnableRequest {})).await.map(|_| ())
}
