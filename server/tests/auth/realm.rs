//! A server with users: `root`, and whom a test adds.

use super::common::client::*;
use super::server::Server;
use plinth_api::methods;
use plinth_api::proto::authpb::{Permission, UserAddOptions, permission::Type};
use plinth_api::proto::etcdserverpb as pb;

/// Hash passwords as fast as may be.
pub const CHEAP: [&str; 2] = ["--bcrypt-cost", "4"];

/// Texts of refusals.
pub const DENIED: &str = "etcdserver: permission denied";
pub const NOBODY: &str = "etcdserver: user name is empty";
pub const BAD_TOKEN: &str = "etcdserver: invalid auth token";
pub const OLD: &str = "etcdserver: revision of auth store is old";

/// A server whose users matter, and a client that may do everything.
pub struct Realm {
    pub server: Server,
    pub root: Client,
}

impl Realm {
    /// With user `root` alone.
    pub async fn start(arguments: &[&str]) -> Realm {
        let arguments: Vec<&str> = CHEAP.iter().chain(arguments).copied().collect();
        let server = Server::start(&arguments);
        let mut root = server.client().await;
        enable(&mut root).await;
        Realm { server, root }
    }

    /// As [`Realm::start`], with a user `u` who may read and write what begins with `mine/`, and its client.
    pub async fn with_user(arguments: &[&str]) -> (Realm, Client) {
        let mut realm = Realm::start(arguments).await;
        add_user(&mut realm.root, "u", "r").await;
        grant(&mut realm.root, "r", Type::Readwrite, "mine/", "mine0").await.expect("granted");
        let client = realm.sign_in("u").await;
        (realm, client)
    }

    /// A client of a user whose password is its name.
    pub async fn sign_in(&self, name: &str) -> Client {
        let mut client = self.server.client().await;
        client.authenticate(name, name).await.expect("the password is right");
        client
    }

    /// A client of nobody.
    pub async fn nobody(&self) -> Client {
        self.server.client().await
    }
}

/// Adds `root` and makes users matter.
pub async fn enable(client: &mut Client) {
    add_user(client, "root", "root").await;
    client.call(&methods::AUTH_ENABLE, pb::AuthEnableRequest {}).await.expect("enabled");
    client.authenticate("root", "root").await.expect("the password is right");
}

/// Adds a user whose password is its name, with a role of its own.
pub async fn add_user(client: &mut Client, name: &str, role: &str) {
    let (user, role) = (name.to_owned(), role.to_owned());
    let request = pb::AuthUserAddRequest { name: user.clone(), password: user.clone(), ..Default::default() };
    client.call(&methods::USER_ADD, request).await.expect("added");
    let _ = client.call(&methods::ROLE_ADD, pb::AuthRoleAddRequest { name: role.clone() }).await;
    client.call(&methods::USER_GRANT_ROLE, pb::AuthUserGrantRoleRequest { user, role }).await.expect("granted");
}

/// Adds a user without a password.
pub async fn add_without_password(client: &mut Client, name: &str) {
    let options = Some(UserAddOptions { no_password: true });
    let request = pb::AuthUserAddRequest { name: name.to_owned(), options, ..Default::default() };
    client.call(&methods::USER_ADD, request).await.expect("added");
}

/// Lets a role do something with a range.
pub async fn grant(client: &mut Client, role: &str, kind: Type, key: &str, end: &str) -> Result<(), Error> {
    let (key, range_end) = (key.as_bytes().to_vec().into(), end.as_bytes().to_vec().into());
    let perm = Some(Permission { perm_type: kind.into(), key, range_end });
    let request = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm };
    client.call(&methods::ROLE_GRANT_PERMISSION, request).await.map(|_| ())
}

/// Takes a permission from a role.
pub async fn revoke(client: &mut Client, role: &str, key: &str, end: &str) -> Result<(), Error> {
    let (key, range_end) = (key.as_bytes().to_vec().into(), end.as_bytes().to_vec().into());
    let request = pb::AuthRoleRevokePermissionRequest { role: role.to_owned(), key, range_end };
    client.call(&methods::ROLE_REVOKE_PERMISSION, request).await.map(|_| ())
}

/// Whether users matter, and the auth revision.
pub async fn auth_status(client: &mut Client) -> (bool, u64) {
    let status = client.call(&methods::AUTH_STATUS, pb::AuthStatusRequest {}).await.expect("open to all");
    (status.enabled, status.auth_revision)
}

/// The text of a refusal.
#[track_caller]
pub fn refusal<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).expect_err("it should be refused").message().to_owned()
}
