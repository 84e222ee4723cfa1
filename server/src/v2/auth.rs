//! `/v2/auth`: users and roles of the v2 API, which are others than those of v3. They are kept in the tree, where clients do
//! not see them: `/2/enabled`, `/2/users/NAME`, `/2/roles/NAME`, each as JSON.
//!
//! Passwords are hashed and compared by threads of their own (`passwords`), for each request, as in etcd.

use super::members::{internal, json, message};
use super::{V2, method_not_allowed};
use crate::http::Connection;
use crate::passwords::PasswordError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use plinth_net::grpc::{Code as GrpcCode, Status};
use plinth_net::http1::{Http1Request, Method, Response};
use plinth_v2::command::Content;
use plinth_v2::{Change, Code, path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The user who may do everything, and the role that says so.
const ROOT: &str = "root";
/// The role of those who do not say who they are.
const GUEST: &str = "guest";

/// A list as Go has it: one that was never made is `null`.
type List = Option<Vec<String>>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct User {
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    roles: List,
    #[serde(skip_serializing_if = "is_nothing")]
    grant: List,
    #[serde(skip_serializing_if = "is_nothing")]
    revoke: List,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Role {
    role: String,
    permissions: Permissions,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<Permissions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoke: Option<Permissions>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Permissions {
    kv: Patterns,
}

/// Keys, or beginnings of keys with a `*` behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Patterns {
    read: List,
    write: List,
}

#[derive(Serialize)]
struct UserWithRoles {
    user: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Role>,
}

/// All roles.
#[derive(Serialize)]
struct Roles {
    roles: Vec<Role>,
}

/// All users; `null` if there are none.
#[derive(Serialize)]
struct Users {
    users: Option<Vec<UserWithRoles>>,
}

fn is_nothing(list: &List) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn names(list: &List) -> &[String] {
    list.as_deref().unwrap_or_default()
}

/// What goes wrong: an answer.
type Refused = Response;

fn refuse<T>(status: u16, text: impl AsRef<str>) -> Result<T, Refused> {
    Err(message(status, &format!("auth: {}", text.as_ref())))
}

impl Permissions {
    fn is_empty(&self) -> bool {
        is_nothing(&self.kv.read) && is_nothing(&self.kv.write)
    }

    fn all() -> Permissions {
        let all = || Some(vec!["/*".to_string()]);
        Permissions { kv: Patterns { read: all(), write: all() } }
    }
}

impl Role {
    fn root() -> Role {
        Role { role: ROOT.to_string(), permissions: Permissions::all(), ..Role::default() }
    }

    fn allows(&self, key: &str, recursive: bool, write: bool) -> bool {
        let patterns = if write { &self.permissions.kv.write } else { &self.permissions.kv.read };
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => !recursive && key == pattern,
        };
        self.role == ROOT || names(patterns).iter().any(fits)
    }

    /// With what is granted, and without what is revoked.
    fn merged(self, change: &Role) -> Result<Role, Refused> {
        let Patterns { mut read, mut write } = self.permissions.kv;
        if let Some(grant) = &change.grant {
            for (kind, list, more) in [("read", &mut read, &grant.kv.read), ("write", &mut write, &grant.kv.write)] {
                let mut all: BTreeSet<String> = list.take().unwrap_or_default().into_iter().collect();
                for pattern in names(more) {
                    if !all.insert(pattern.clone()) {
                        return refuse(409, format!("Granting duplicate {kind} permission {pattern}"));
                    }
                }
                *list = Some(all.into_iter().collect());
            }
        }
        if let Some(revoke) = &change.revoke {
            for (list, less) in [(&mut read, &revoke.kv.read), (&mut write, &revoke.kv.write)] {
                let mut all: BTreeSet<String> = list.take().unwrap_or_default().into_iter().collect();
                all.retain(|pattern| !names(less).contains(pattern));
                *list = Some(all.into_iter().collect());
            }
        }
        Ok(Role { role: self.role, permissions: Permissions { kv: Patterns { read, write } }, ..Role::default() })
    }
}

fn with_root_role(mut user: User) -> User {
    if user.user == ROOT && !names(&user.roles).iter().any(|role| role == ROOT) {
        user.roles.get_or_insert_default().push(ROOT.to_string());
    }
    user
}

fn busy(error: PasswordError) -> Refused {
    internal(&Status::new(GrpcCode::Unavailable, error.to_string()))
}

impl V2 {
    /// Answers a request to a path behind `/v2/auth`.
    pub(super) async fn auth(&self, request: &Http1Request, connection: &Connection, tail: &str) -> Response {
        let cleaned = path::clean(tail.as_bytes());
        let cleaned = String::from_utf8_lossy(&cleaned).into_owned();
        let pieces: Vec<&str> = cleaned.split('/').skip(1).collect();
        let result = match (tail, &pieces[..]) {
            ("/enable", _) => self.auth_enable(request, connection).await,
            ("/roles" | "/roles/", _) => self.auth_all(request, connection, Self::auth_roles).await,
            ("/users" | "/users/", _) => self.auth_all(request, connection, Self::auth_users).await,
            (_, ["roles", name]) => self.auth_role(request, connection, name).await,
            (_, ["users", name]) => self.auth_user(request, connection, name).await,
            (_, ["roles" | "users"]) => Ok(Response::error(404, "404 page not found")),
            (_, ["roles" | "users", ..]) => Err(message(400, "Invalid path")),
            _ => Ok(Response::error(404, "404 page not found")),
        };
        result.unwrap_or_else(|refused| refused)
    }

    /// A record of users and roles, if it is there.
    async fn record(&self, name: &str, quorum: bool) -> Result<Option<Bytes>, Refused> {
        if quorum {
            self.home.barrier().await.map_err(|status| internal(&status))?;
        }
        let place = path::join(path::AUTH, name.as_bytes());
        let read = self.home.state_mut().member.store_mut().v2_mut().get(&place, false, 0);
        Ok(read.ok().and_then(|event| event.node.value))
    }

    /// The record of a user or a role. A name that leads elsewhere is nobody's: clients write keys of their own.
    async fn named(&self, folder: &str, name: &str, quorum: bool) -> Result<Option<Bytes>, Refused> {
        if matches!(name, "" | "." | "..") || name.contains('/') {
            return Ok(None);
        }
        self.record(&format!("{folder}/{name}"), quorum).await
    }

    fn record_names(&self, folder: &str) -> Vec<String> {
        let place = path::join(path::AUTH, folder.as_bytes());
        let read = self.home.state_mut().member.store_mut().v2_mut().get(&place, false, 0);
        let nodes = read.map_or_else(|_| Vec::new(), |event| event.node.nodes);
        nodes.iter().map(|node| String::from_utf8_lossy(path::split(&node.key).1).into_owned()).collect()
    }

    /// Changes the tree; what it refuses by itself.
    async fn auth_change(&self, change: Change) -> Result<Result<(), Code>, Refused> {
        let answer = self.propose(change, 0, true).await.map_err(|error| {
            let text = String::from_utf8_lossy(&error.cause).into_owned();
            internal(&Status::new(GrpcCode::Unavailable, text))
        })?;
        Ok(match answer.status {
            200 | 201 => Ok(()),
            404 => Err(Code::KeyNotFound),
            412 => Err(Code::NodeExist),
            _ => Err(Code::RaftInternal),
        })
    }

    /// Stores a record that is there, or is not.
    async fn auth_store<T: Serialize>(
        &self,
        name: &str,
        value: &T,
        is_there: bool,
    ) -> Result<Result<(), Code>, Refused> {
        self.auth_folders().await?;
        let value = Bytes::from(serde_json::to_vec(value).expect("texts and lists can be written"));
        let content = Content { value, ..Content::default() };
        let path = Bytes::from(path::join(path::AUTH, name.as_bytes()));
        self.auth_change(match is_there {
            true => Change::Update { path, content },
            false => Change::Create { path, dir: false, in_order: false, content },
        })
        .await
    }

    /// Makes the places of users and roles, once.
    async fn auth_folders(&self) -> Result<(), Refused> {
        let is_there = self.home.state().member.store().v2().contains(b"/2/enabled");
        if is_there {
            return Ok(());
        }
        for (name, dir, value) in
            [("/", true, ""), ("/users", true, ""), ("/roles", true, ""), ("/enabled", false, "false")]
        {
            let path = Bytes::from(path::join(path::AUTH, name.as_bytes()));
            let content = Content { value: Bytes::from_static(value.as_bytes()), ..Content::default() };
            let made = self.auth_change(Change::Create { path, dir, in_order: false, content }).await?;
            if made.is_err_and(|code| code != Code::NodeExist) {
                return Err(message(500, "Internal Server Error"));
            }
        }
        Ok(())
    }

    /// Whether users matter.
    async fn auth_matters(&self) -> Result<bool, Refused> {
        Ok(self.record("/enabled", false).await?.is_some_and(|value| &value[..] == b"true"))
    }

    async fn user(&self, name: &str, quorum: bool) -> Result<User, Refused> {
        match self.named("/users", name, quorum).await? {
            Some(value) => Ok(with_root_role(serde_json::from_slice(&value).unwrap_or_default())),
            None => refuse(404, format!("User {name} does not exist.")),
        }
    }

    async fn role(&self, name: &str, quorum: bool) -> Result<Role, Refused> {
        if name == ROOT {
            return Ok(Role::root());
        }
        match self.named("/roles", name, quorum).await? {
            Some(value) => Ok(serde_json::from_slice(&value).unwrap_or_default()),
            None => refuse(404, format!("Role {name} does not exist.")),
        }
    }

    /// The user that a request proves to be from.
    async fn auth_identity(&self, request: &Http1Request) -> Result<Option<User>, Refused> {
        let header = request.headers.get_str("authorization").unwrap_or_default();
        let is_basic = header.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("basic "));
        let decoded = is_basic.then(|| BASE64_STANDARD.decode(&header[6..]).ok()).flatten();
        let Some((name, password)) =
            decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()?.split_once(':'))
        else {
            return Ok(None);
        };
        let Ok(user) = self.user(name, false).await else { return Ok(None) };
        let hash = Some(user.password.clone().into_bytes());
        let is_equal = self.home.identities.passwords.is_equal(password.to_string(), hash).await.map_err(busy)?;
        Ok(is_equal.then_some(user))
    }

    async fn auth_of_certificate(&self, connection: &Connection) -> Option<User> {
        let name = connection.common_name.as_deref()?;
        self.user(name, false).await.ok()
    }

    /// Whether a request may be made that only root may make.
    pub(super) async fn may_administer(&self, request: &Http1Request, connection: &Connection) -> Result<(), Refused> {
        if !self.auth_matters().await? {
            return Ok(());
        }
        let is_anonymous = request.headers.get_str("authorization").unwrap_or_default().is_empty();
        let user = match is_anonymous && self.home.identities.by_certificate {
            true => self.auth_of_certificate(connection).await,
            false => self.auth_identity(request).await?,
        };
        match user.is_some_and(|user| names(&user.roles).iter().any(|role| role == ROOT)) {
            true => Ok(()),
            false => Err(message(401, "Insufficient credentials")),
        }
    }

    /// Whether a request to a key may be made.
    pub(super) async fn may_touch(
        &self,
        request: &Http1Request,
        connection: &Connection,
        key: &str,
        recursive: bool,
    ) -> Result<bool, Refused> {
        if !self.auth_matters().await? {
            return Ok(true);
        }
        let write = !matches!(request.method, Method::Get | Method::Head);
        let is_anonymous = request.headers.get_str("authorization").unwrap_or_default().is_empty();
        let user = match is_anonymous {
            true => self.auth_of_certificate(connection).await,
            false => match self.auth_identity(request).await? {
                None => return Ok(false),
                user => user,
            },
        };
        let Some(user) = user else {
            return Ok(self.role(GUEST, false).await.is_ok_and(|role| role.allows(key, false, write)));
        };
        for name in names(&user.roles) {
            if self.role(name, false).await.is_ok_and(|role| role.allows(key, recursive, write)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn auth_enable(&self, request: &Http1Request, connection: &Connection) -> Result<Response, Refused> {
        if !matches!(request.method, Method::Get | Method::Put | Method::Delete) {
            return Ok(method_not_allowed("GET,PUT,DELETE"));
        }
        if request.method != Method::Get {
            self.may_administer(request, connection).await?;
        }
        let is_enabled = self.auth_matters().await?;
        let done = || self.of_cluster(Response::new(200).header("Content-Type", "application/json"));
        match (&request.method, is_enabled) {
            (Method::Get, _) => {
                return Ok(self.of_cluster(json(200, &serde_json::json!({ "enabled": is_enabled }))));
            }
            (Method::Put, true) => return refuse(409, "already enabled"),
            (Method::Put, false) => {
                if self.user(ROOT, true).await.is_err() {
                    return refuse(409, "No root user available, please create one");
                }
                if self.role(GUEST, true).await.is_err() {
                    let guest = Role { role: GUEST.into(), permissions: Permissions::all(), ..Role::default() };
                    self.create_role(&guest).await?;
                }
            }
            (_, false) => return refuse(409, "already disabled"),
            (_, true) => {}
        }
        let enables = request.method == Method::Put;
        match self.auth_store("/enabled", &enables, true).await? {
            Ok(()) => Ok(done()),
            Err(_) => Err(message(500, "Internal Server Error")),
        }
    }

    async fn auth_all<'a, F: Future<Output = Result<Response, Refused>>>(
        &'a self,
        request: &Http1Request,
        connection: &Connection,
        list: impl FnOnce(&'a V2) -> F,
    ) -> Result<Response, Refused> {
        if request.method != Method::Get {
            return Ok(method_not_allowed("GET"));
        }
        self.may_administer(request, connection).await?;
        Ok(self.of_cluster(list(self).await?))
    }

    async fn auth_roles(&self) -> Result<Response, Refused> {
        let mut all = self.record_names("/roles");
        all.push(ROOT.to_string());
        all.sort();
        let mut roles = Vec::new();
        for name in all {
            roles.push(self.role(&name, false).await?);
        }
        Ok(json(200, &Roles { roles }))
    }

    async fn auth_users(&self) -> Result<Response, Refused> {
        let mut users = Vec::new();
        for name in self.record_names("/users") {
            let user = self.user(&name, false).await?;
            let mut roles = Vec::new();
            for role in names(&user.roles) {
                roles.extend(self.role(role, false).await.ok());
            }
            users.push(UserWithRoles { user: user.user, roles });
        }
        let users = if users.is_empty() { None } else { Some(users) };
        Ok(json(200, &Users { users }))
    }

    async fn auth_role(
        &self,
        request: &Http1Request,
        connection: &Connection,
        name: &str,
    ) -> Result<Response, Refused> {
        if !matches!(request.method, Method::Get | Method::Put | Method::Delete) {
            return Ok(method_not_allowed("GET,PUT,DELETE"));
        }
        self.may_administer(request, connection).await?;
        let result = match request.method {
            Method::Get => self.role(name, false).await.map(|role| json(200, &role)),
            Method::Put => self.put_role(request, name).await,
            _ => self.delete_role(name).await,
        };
        Ok(self.of_cluster(result.unwrap_or_else(|refused| refused)))
    }

    async fn put_role(&self, request: &Http1Request, name: &str) -> Result<Response, Refused> {
        let Ok(wanted) = serde_json::from_slice::<Role>(&request.body) else {
            return Err(message(400, "Invalid JSON in request body."));
        };
        if wanted.role != name {
            return Err(message(400, "Role JSON name does not match the name in the URL"));
        }
        let changes = |part: &Option<Permissions>| part.as_ref().is_some_and(|part| !part.is_empty());
        if !changes(&wanted.grant) && !changes(&wanted.revoke) {
            self.create_role(&wanted).await?;
            return Ok(json(201, &wanted));
        }
        if !wanted.permissions.is_empty() {
            return Err(message(400, "Role JSON contains both permissions and grant/revoke"));
        }
        is_not_root(name)?;
        let old = self.role(name, true).await?;
        let new = old.clone().merged(&wanted)?;
        if new == old {
            return refuse(400, "Role not updated. Use grant/revoke to update the role.");
        }
        match self.auth_store(&format!("/roles/{name}"), &new, true).await? {
            Ok(()) => Ok(json(200, &new)),
            Err(_) => Err(message(500, "Internal Server Error")),
        }
    }

    async fn create_role(&self, role: &Role) -> Result<(), Refused> {
        is_not_root(&role.role)?;
        match self.auth_store(&format!("/roles/{}", role.role), role, false).await? {
            Ok(()) => Ok(()),
            Err(Code::NodeExist) => refuse(409, format!("Role {} already exists.", role.role)),
            Err(_) => Err(message(500, "Internal Server Error")),
        }
    }

    async fn delete_role(&self, name: &str) -> Result<Response, Refused> {
        is_not_root(name)?;
        self.delete_record(&format!("/roles/{name}"), format!("Role {name} doesn't exist.")).await
    }

    async fn delete_record(&self, name: &str, missing: String) -> Result<Response, Refused> {
        self.auth_folders().await?;
        let path = Bytes::from(path::join(path::AUTH, name.as_bytes()));
        match self.auth_change(Change::Delete { path, dir: false, recursive: false }).await? {
            Ok(()) => Ok(Response::new(200).header("Content-Type", "application/json")),
            Err(Code::KeyNotFound) => refuse(404, missing),
            Err(_) => Err(message(500, "Internal Server Error")),
        }
    }

    async fn auth_user(
        &self,
        request: &Http1Request,
        connection: &Connection,
        name: &str,
    ) -> Result<Response, Refused> {
        if !matches!(request.method, Method::Get | Method::Put | Method::Delete) {
            return Ok(method_not_allowed("GET,PUT,DELETE"));
        }
        self.may_administer(request, connection).await?;
        let result = match request.method {
            Method::Get => self.show_user(name).await,
            Method::Put => self.put_user(request, name).await,
            _ => self.delete_user(name).await,
        };
        Ok(self.of_cluster(result.unwrap_or_else(|refused| refused)))
    }

    async fn show_user(&self, name: &str) -> Result<Response, Refused> {
        let user = self.user(name, false).await?;
        let mut roles = Vec::new();
        for role in names(&user.roles) {
            roles.push(self.role(role, false).await?);
        }
        Ok(json(200, &UserWithRoles { user: user.user, roles }))
    }

    async fn delete_user(&self, name: &str) -> Result<Response, Refused> {
        if self.auth_matters().await? && name == ROOT {
            return refuse(403, "Cannot delete root user while auth is enabled.");
        }
        self.delete_record(&format!("/users/{name}"), format!("User {name} does not exist")).await
    }

    async fn put_user(&self, request: &Http1Request, name: &str) -> Result<Response, Refused> {
        let Ok(wanted) = serde_json::from_slice::<User>(&request.body) else {
            return Err(message(400, "Invalid JSON in request body."));
        };
        if wanted.user != name {
            return Err(message(400, "User JSON name does not match the name in the URL"));
        }
        let changes_roles = !is_nothing(&wanted.grant) || !is_nothing(&wanted.revoke);
        let (status, user) = match is_nothing(&wanted.roles) {
            false if changes_roles => return Err(message(400, "User JSON contains both roles and grant/revoke")),
            false => (200, self.create_user(wanted).await?),
            true if changes_roles || self.user(name, true).await.is_ok() => (200, self.update_user(wanted).await?),
            true => (201, self.create_user(wanted).await?),
        };
        Ok(json(status, &User { password: String::new(), ..user }))
    }

    async fn hash(&self, password: String) -> Result<String, Refused> {
        let hash = self.home.identities.passwords.hash(password).await.map_err(busy)?;
        Ok(String::from_utf8_lossy(&hash).into_owned())
    }

    async fn create_user(&self, wanted: User) -> Result<User, Refused> {
        let mut user = with_root_role(wanted);
        if user.password.is_empty() {
            return refuse(400, format!("Cannot create user {} with an empty password", user.user));
        }
        user.password = self.hash(user.password).await?;
        match self.auth_store(&format!("/users/{}", user.user), &user, false).await? {
            Ok(()) => Ok(user),
            Err(Code::NodeExist) => refuse(409, format!("User {} already exists.", user.user)),
            Err(_) => Err(message(500, "Internal Server Error")),
        }
    }

    async fn update_user(&self, wanted: User) -> Result<User, Refused> {
        let name = wanted.user.clone();
        let old = self.user(&name, true).await?;
        let password = match wanted.password.is_empty() {
            true => old.password.clone(),
            false => self.hash(wanted.password).await?,
        };
        let mut roles: BTreeSet<String> = names(&old.roles).iter().cloned().collect();
        for role in names(&wanted.grant) {
            if !roles.insert(role.clone()) {
                return refuse(409, format!("Granting duplicate role {role} for user {name}"));
            }
        }
        for role in names(&wanted.revoke) {
            if !roles.remove(role) {
                return refuse(409, format!("Revoking ungranted role {role} for user {name}"));
            }
        }
        let roles = Some(roles.into_iter().collect());
        let new = User { user: name.clone(), password, roles, ..User::default() };
        if new == old {
            return refuse(400, "User not updated. Use grant/revoke/password to update the user.");
        }
        match self.auth_store(&format!("/users/{name}"), &new, true).await? {
            Ok(()) => Ok(new),
            Err(_) => Err(message(500, "Internal Server Error")),
        }
    }
}

fn is_not_root(role: &str) -> Result<(), Refused> {
    match role {
        ROOT => refuse(403, "Cannot modify role root: is root role."),
        _ => Ok(()),
    }
}
