//! Users, roles and what they may do: replicated state, changed by commands and asked by checks.
//!
//! Pure like the rest of the store: password hashes come ready made, tokens and certificates are somebody else's. What
//! is here is a function of the applied log, so that a check at apply says the same on every member.
//!
//! Invariants: the rights of a user are those of its roles, always (they are rebuilt with every change that touches one);
//! the auth revision grows with every change that is one, and only then; what is in memory is what the trees hold.
//!
//! Not here: who the caller is (tokens, certificates), at which call which check is made.

mod access;
#[allow(missing_docs, reason = "what they are say their names, and etcd's requests of service `Auth`")]
mod change;
mod record;
mod spans;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

pub use change::{ArchivedAuthChange, AuthChange, Permission, PermissionKind};
use spans::Spans;

use crate::trees::{TreeError, TreeId, Trees};

/// The user and the role that are not like the others.
pub const ROOT: &str = "root";

/// Keys of tree `Auth`.
const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

/// The auth revision of a store that never had a user.
const REVISION_FIRST: u64 = 1;

/// A request is refused; etcd's names and texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "their texts say what they are")]
pub enum AuthError {
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    #[error("etcdserver: user name already exists")]
    UserAlreadyExist,
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExist,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: invalid auth management")]
    InvalidAuthMgmt,
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum AuthFailure {
    /// It is refused, and nothing has changed.
    #[error(transparent)]
    Refused(#[from] AuthError),
    /// The trees are broken. Fatal.
    #[error(transparent)]
    Broken(#[from] TreeError),
}

/// What is stored is not users and roles.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The trees are broken.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A record is not what its tree holds.
    #[error("tree {tree}, key {key:02x?}: not what is stored there")]
    Record { tree: &'static str, key: Vec<u8> },
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "see etcd's `authpb.User`")]
pub struct User {
    /// The text that bcrypt makes; empty for one without a password.
    pub password_hash: Vec<u8>,
    pub roles: BTreeSet<String>,
    /// Whether it has no password; `None` for users of old releases, which stored no options.
    pub no_password: Option<bool>,
}

/// A role: its permissions, by key; those of equal keys in the order in which they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "see the struct")]
pub struct Role {
    pub permissions: Vec<Permission>,
}

/// What a user may do, of all its roles together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Rights {
    is_root: bool,
    read: Spans,
    write: Spans,
}

/// Something about tokens has changed with a command. Tokens are each member's own; this is what they hang on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignIn {
    /// A user has proved who it is: from now on `<prefix>.<index>` names it.
    Begun {
        user: String,
        /// Letters that nobody can guess.
        prefix: String,
        index: u64,
    },
    /// The user is gone, or has another password: its tokens end.
    Ended { user: String },
    /// Users do not matter any more: all tokens end.
    AllEnded,
}

/// Users and roles. See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    rights: BTreeMap<String, Rights>,
}

impl Default for Auth {
    fn default() -> Self {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        Self { enabled: false, revision: REVISION_FIRST, users, roles, rights: BTreeMap::new() }
    }
}

impl Auth {
    /// Reads what is stored.
    pub fn load(trees: &impl Trees) -> Result<Self, LoadError> {
        let bad = |tree: TreeId, key: &[u8]| LoadError::Record { tree: tree.name(), key: key.to_vec() };
        let enabled = trees.get(TreeId::Auth, ENABLED)? == Some(&[1]);
        let mut auth = Self { enabled, ..Self::default() };
        if let Some(revision) = trees.get(TreeId::Auth, REVISION)? {
            let revision = revision.try_into().map_err(|_| bad(TreeId::Auth, REVISION))?;
            auth.revision = u64::from_be_bytes(revision);
        }
        auth.users = load_all(trees, TreeId::AuthUsers, User::decode)?;
        auth.roles = load_all(trees, TreeId::AuthRoles, Role::decode)?;
        for name in auth.users.keys().cloned().collect::<Vec<_>>() {
            auth.rebuild(&name);
        }
        Ok(auth)
    }

    /// Whether users matter.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All users, by name.
    pub fn users(&self) -> &BTreeMap<String, User> {
        &self.users
    }

    /// All roles, by name.
    pub fn roles(&self) -> &BTreeMap<String, Role> {
        &self.roles
    }

    /// Makes a change, in memory and in the trees. Whether the caller may is another question.
    pub fn apply(&mut self, trees: &mut impl Trees, change: &AuthChange) -> Result<(), AuthFailure> {
        let has_changed = match change {
            AuthChange::Enable => return self.enable(trees),
            AuthChange::Disable => self.disable(trees)?,
            AuthChange::UserAdd { name, password_hash, no_password } => {
                self.add_user(trees, name, password_hash, *no_password)?
            }
            AuthChange::UserDelete { name } => self.delete_user(trees, name)?,
            AuthChange::UserChangePassword { name, password_hash } => {
                self.change_password(trees, name, password_hash)?
            }
            AuthChange::UserGrantRole { name, role } => self.grant_role(trees, name, role)?,
            AuthChange::UserRevokeRole { name, role } => self.revoke_role(trees, name, role)?,
            AuthChange::RoleAdd { name } => self.add_role(trees, name)?,
            AuthChange::RoleDelete { name } => self.delete_role(trees, name)?,
            AuthChange::RoleGrantPermission { role, permission } => {
                self.grant_permission(trees, role, permission.as_ref())?
            }
            AuthChange::RoleRevokePermission { role, key, range_end } => {
                self.revoke_permission(trees, role, key, range_end)?
            }
        };
        if has_changed {
            self.revision += 1;
            trees.insert(TreeId::Auth, REVISION, &self.revision.to_be_bytes())?;
        }
        Ok(())
    }

    /// No new auth revision, as in etcd: nobody's rights have changed.
    fn enable(&mut self, trees: &mut impl Trees) -> Result<(), AuthFailure> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if !root.roles.contains(ROOT) {
            return Err(AuthError::RootRoleNotExist.into());
        }
        trees.insert(TreeId::Auth, ENABLED, &[1])?;
        self.enabled = true;
        Ok(())
    }

    fn disable(&mut self, trees: &mut impl Trees) -> Result<bool, AuthFailure> {
        if !std::mem::take(&mut self.enabled) {
            return Ok(false);
        }
        trees.insert(TreeId::Auth, ENABLED, &[0])?;
        Ok(true)
    }

    fn add_user(
        &mut self,
        trees: &mut impl Trees,
        name: &str,
        password_hash: &[u8],
        no_password: bool,
    ) -> Result<bool, AuthFailure> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty.into());
        }
        if self.users.contains_key(name) {
            return Err(AuthError::UserAlreadyExist.into());
        }
        let password_hash = if no_password { Vec::new() } else { password_hash.to_vec() };
        let user = User { password_hash, roles: BTreeSet::new(), no_password: Some(no_password) };
        self.users.insert(name.to_owned(), user);
        self.store_user(trees, name)?;
        Ok(true)
    }

    fn delete_user(&mut self, trees: &mut impl Trees, name: &str) -> Result<bool, AuthFailure> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidAuthMgmt.into());
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.rights.remove(name);
        assert!(trees.remove(TreeId::AuthUsers, name.as_bytes())?, "what is in memory is stored");
        Ok(true)
    }

    fn change_password(
        &mut self,
        trees: &mut impl Trees,
        name: &str,
        password_hash: &[u8],
    ) -> Result<bool, AuthFailure> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        user.password_hash = if user.no_password == Some(true) { Vec::new() } else { password_hash.to_vec() };
        self.store_user(trees, name)?;
        Ok(true)
    }

    fn grant_role(&mut self, trees: &mut impl Trees, name: &str, role: &str) -> Result<bool, AuthFailure> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound.into());
        }
        if !user.roles.insert(role.to_owned()) {
            return Ok(false);
        }
        self.store_user(trees, name)?;
        Ok(true)
    }

    fn revoke_role(&mut self, trees: &mut impl Trees, name: &str, role: &str) -> Result<bool, AuthFailure> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(AuthError::InvalidAuthMgmt.into());
        }
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if !user.roles.remove(role) {
            return Err(AuthError::RoleNotGranted.into());
        }
        self.store_user(trees, name)?;
        Ok(true)
    }

    fn add_role(&mut self, trees: &mut impl Trees, name: &str) -> Result<bool, AuthFailure> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty.into());
        }
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleAlreadyExist.into());
        }
        self.roles.insert(name.to_owned(), Role::default());
        self.store_role(trees, name)?;
        Ok(true)
    }

    fn delete_role(&mut self, trees: &mut impl Trees, name: &str) -> Result<bool, AuthFailure> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidAuthMgmt.into());
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        assert!(trees.remove(TreeId::AuthRoles, name.as_bytes())?, "what is in memory is stored");
        let holders = self.users.iter_mut().filter_map(|(user, held)| held.roles.remove(name).then(|| user.clone()));
        for user in holders.collect::<Vec<_>>() {
            self.store_user(trees, &user)?;
        }
        Ok(true)
    }

    /// Of the permissions with this key only the first is looked at, as in etcd: with the same end it is replaced.
    fn grant_permission(
        &mut self,
        trees: &mut impl Trees,
        role: &str,
        permission: Option<&Permission>,
    ) -> Result<bool, AuthFailure> {
        let permission = permission.ok_or(AuthError::PermissionNotGiven)?;
        if !permission.is_valid() {
            return Err(AuthError::InvalidAuthMgmt.into());
        }
        let permissions = &mut self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?.permissions;
        let first = permissions.partition_point(|other| other.key < permission.key);
        match permissions.get_mut(first) {
            Some(other) if other.key == permission.key && other.range_end == permission.range_end => {
                other.kind = permission.kind;
            }
            _ => {
                let after = permissions.partition_point(|other| other.key <= permission.key);
                permissions.insert(after, permission.clone());
            }
        }
        self.role_changed(trees, role)?;
        Ok(true)
    }

    fn revoke_permission(
        &mut self,
        trees: &mut impl Trees,
        role: &str,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<bool, AuthFailure> {
        let permissions = &mut self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?.permissions;
        let before = permissions.len();
        permissions.retain(|other| other.key != key || other.range_end != range_end);
        if permissions.len() == before {
            return Err(AuthError::PermissionNotGranted.into());
        }
        self.role_changed(trees, role)?;
        Ok(true)
    }

    fn role_changed(&mut self, trees: &mut impl Trees, role: &str) -> Result<(), TreeError> {
        self.store_role(trees, role)?;
        let holders = self.users.iter().filter(|(_, user)| user.roles.contains(role)).map(|(name, _)| name.clone());
        for name in holders.collect::<Vec<_>>() {
            self.rebuild(&name);
        }
        Ok(())
    }

    fn store_user(&mut self, trees: &mut impl Trees, name: &str) -> Result<(), TreeError> {
        self.rebuild(name);
        trees.insert(TreeId::AuthUsers, name.as_bytes(), &self.users[name].encode(name))
    }

    fn store_role(&mut self, trees: &mut impl Trees, name: &str) -> Result<(), TreeError> {
        trees.insert(TreeId::AuthRoles, name.as_bytes(), &self.roles[name].encode(name))
    }

    /// Merges the permissions of all roles of a user. A role that does not exist gives nothing.
    fn rebuild(&mut self, name: &str) {
        let user = &self.users[name];
        let permissions = user.roles.iter().filter_map(|role| self.roles.get(role)).flat_map(|role| &role.permissions);
        let spans = |kind: PermissionKind| {
            let of_kind = permissions.clone().filter(|permission| permission.kind.allows(kind));
            Spans::union(of_kind.map(|permission| (&permission.key[..], &permission.range_end[..])))
        };
        let rights = Rights {
            is_root: user.roles.contains(ROOT),
            read: spans(PermissionKind::Read),
            write: spans(PermissionKind::Write),
        };
        self.rights.insert(name.to_owned(), rights);
    }
}

fn load_all<V>(
    trees: &impl Trees,
    tree: TreeId,
    decode: fn(&[u8]) -> Option<(String, V)>,
) -> Result<BTreeMap<String, V>, LoadError> {
    let (mut all, mut bad) = (BTreeMap::new(), None);
    trees.scan(tree, b"", &mut |key, value| match decode(value) {
        Some((name, record)) if name.as_bytes() == key => {
            all.insert(name, record);
            ControlFlow::Continue(())
        }
        _ => {
            bad = Some(LoadError::Record { tree: tree.name(), key: key.to_vec() });
            ControlFlow::Break(())
        }
    })?;
    bad.map_or(Ok(all), Err)
}
