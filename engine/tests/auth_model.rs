//! Users and roles against a naive model: every change, every error, every right, also after the state was stored and read.
//!
//! Proptest prints the shrunk changes and the seed of a failure.

use std::collections::{BTreeMap, BTreeSet};

use plinth_engine::auth::{Auth, AuthChange, AuthError, AuthFailure, Permission, PermissionKind};
use plinth_engine::author::Author;
use plinth_engine::command::{Command, CommandRef, Compare, DeleteRange, Op, Put, Range, Txn};
use plinth_engine::trees::{MemTrees, TreeId, Trees};
use proptest::prelude::*;

/// What etcd's rules say, looked up the slow way each time.
#[derive(Clone, Debug, Default)]
struct Model {
    enabled: bool,
    changes: u64,
    /// Roles of each user, and whether it has no password.
    users: BTreeMap<String, (BTreeSet<String>, bool)>,
    roles: BTreeMap<String, Vec<Permission>>,
}

impl Model {
    fn revision(&self) -> u64 {
        1 + self.changes
    }

    fn apply(&mut self, change: &AuthChange) -> Result<(), AuthError> {
        let before = self.clone();
        let counts = self.change(change).inspect_err(|_| *self = before)?;
        self.changes += u64::from(counts);
        Ok(())
    }

    /// Whether it makes a new auth revision.
    fn change(&mut self, change: &AuthChange) -> Result<bool, AuthError> {
        let protects = |is_root: bool| if self.enabled && is_root { Err(AuthError::InvalidAuthMgmt) } else { Ok(()) };
        match change.clone() {
            AuthChange::Enable if self.enabled => return Ok(false),
            AuthChange::Enable => {
                let (roles, _) = self.users.get("root").ok_or(AuthError::RootUserNotExist)?;
                self.enabled = roles.contains("root");
                return if self.enabled { Ok(false) } else { Err(AuthError::RootRoleNotExist) };
            }
            AuthChange::Disable => return Ok(std::mem::take(&mut self.enabled)),
            AuthChange::UserAdd { name, .. } if name.is_empty() => return Err(AuthError::UserEmpty),
            AuthChange::UserAdd { name, no_password, .. } => {
                if self.users.insert(name, (BTreeSet::new(), no_password)).is_some() {
                    return Err(AuthError::UserAlreadyExist);
                }
            }
            AuthChange::UserDelete { name } => {
                protects(name == "root")?;
                self.users.remove(&name).ok_or(AuthError::UserNotFound)?;
            }
            AuthChange::UserChangePassword { name, .. } => {
                self.users.get(&name).ok_or(AuthError::UserNotFound)?;
            }
            AuthChange::UserGrantRole { name, role } => {
                let (roles, _) = self.users.get_mut(&name).ok_or(AuthError::UserNotFound)?;
                if role != "root" && !self.roles.contains_key(&role) {
                    return Err(AuthError::RoleNotFound);
                }
                return Ok(roles.insert(role));
            }
            AuthChange::UserRevokeRole { name, role } => {
                protects(name == "root" && role == "root")?;
                let (roles, _) = self.users.get_mut(&name).ok_or(AuthError::UserNotFound)?;
                if !roles.remove(&role) {
                    return Err(AuthError::RoleNotGranted);
                }
            }
            AuthChange::RoleAdd { name } if name.is_empty() => return Err(AuthError::RoleEmpty),
            AuthChange::RoleAdd { name } => {
                if self.roles.contains_key(&name) {
                    return Err(AuthError::RoleAlreadyExist);
                }
                self.roles.insert(name, Vec::new());
            }
            AuthChange::RoleDelete { name } => {
                protects(name == "root")?;
                self.roles.remove(&name).ok_or(AuthError::RoleNotFound)?;
                self.users.values_mut().for_each(|(roles, _)| _ = roles.remove(&name));
            }
            AuthChange::RoleGrantPermission { role, permission } => {
                let new = permission.ok_or(AuthError::PermissionNotGiven)?;
                let is_open = new.range_end.is_empty() || new.range_end == [0];
                if new.key.is_empty() || (!is_open && new.range_end <= new.key) {
                    return Err(AuthError::InvalidAuthMgmt);
                }
                let all = self.roles.get_mut(&role).ok_or(AuthError::RoleNotFound)?;
                match all.iter_mut().find(|old| old.key == new.key) {
                    Some(old) if old.range_end == new.range_end => old.kind = new.kind,
                    _ => {
                        all.push(new);
                        all.sort_by(|a, b| a.key.cmp(&b.key));
                    }
                }
            }
            AuthChange::RoleRevokePermission { role, key, range_end } => {
                let all = self.roles.get_mut(&role).ok_or(AuthError::RoleNotFound)?;
                let before = all.len();
                all.retain(|old| (&old.key, &old.range_end) != (&key, &range_end));
                if all.len() == before {
                    return Err(AuthError::PermissionNotGranted);
                }
            }
        }
        Ok(true)
    }

    fn may(&self, caller: Author<'_>, kind: PermissionKind, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        if !self.enabled {
            return Ok(());
        }
        if caller.auth_revision == 0 {
            return Err(AuthError::UserEmpty);
        }
        if caller.auth_revision < self.revision() {
            return Err(AuthError::AuthOldRevision);
        }
        let (roles, _) = self.users.get(caller.user).ok_or(AuthError::PermissionDenied)?;
        let granted: Vec<&Permission> = roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .filter(|permission| permission.kind == kind || permission.kind == PermissionKind::ReadWrite)
            .collect();
        match roles.contains("root") || is_covered(&granted, key, range_end) {
            true => Ok(()),
            false => Err(AuthError::PermissionDenied),
        }
    }
}

fn holds(key: &[u8], range_end: &[u8], point: &[u8]) -> bool {
    match range_end {
        [] => point == key,
        [0] => point >= key,
        end => point >= key && point < end,
    }
}

/// What is granted changes only where a grant begins or ends, or right behind a single key.
fn is_covered(granted: &[&Permission], key: &[u8], range_end: &[u8]) -> bool {
    let mut places = vec![key.to_vec(), vec![0xff; 9]];
    for permission in granted {
        let behind = [&permission.key[..], &[0]].concat();
        places.extend([permission.key.clone(), permission.range_end.clone(), behind]);
    }
    let inside = places
        .iter()
        .filter(|place| *place == key || (range_end > key || range_end == [0]) && holds(key, range_end, place));
    inside.into_iter().all(|place| granted.iter().any(|grant| holds(&grant.key, &grant.range_end, place)))
}

fn user() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "ann", "bob", ""]).prop_map(str::to_owned)
}

fn role() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "reader", "writer", ""]).prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![b'a', b'b', b'c']), 0..3)
}

fn end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![]), Just(vec![0]), key()]
}

fn kind() -> impl Strategy<Value = PermissionKind> {
    prop::sample::select(vec![PermissionKind::Read, PermissionKind::Write, PermissionKind::ReadWrite])
}

fn change() -> impl Strategy<Value = AuthChange> {
    let hash = || b"$2a$10$hash".to_vec();
    let permission = (kind(), key(), end()).prop_map(|(kind, key, range_end)| Permission { kind, key, range_end });
    prop_oneof![
        2 => Just(AuthChange::Enable),
        1 => Just(AuthChange::Disable),
        4 => (user(), any::<bool>()).prop_map(move |(name, no_password)| AuthChange::UserAdd {
            name, password_hash: hash(), no_password,
        }),
        1 => user().prop_map(|name| AuthChange::UserDelete { name }),
        1 => user().prop_map(move |name| AuthChange::UserChangePassword { name, password_hash: hash() }),
        8 => (user(), role()).prop_map(|(name, role)| AuthChange::UserGrantRole { name, role }),
        2 => (user(), role()).prop_map(|(name, role)| AuthChange::UserRevokeRole { name, role }),
        4 => role().prop_map(|name| AuthChange::RoleAdd { name }),
        1 => role().prop_map(|name| AuthChange::RoleDelete { name }),
        8 => (role(), prop::option::weighted(0.95, permission))
            .prop_map(|(role, permission)| AuthChange::RoleGrantPermission { role, permission }),
        2 => (role(), key(), end())
            .prop_map(|(role, key, range_end)| AuthChange::RoleRevokePermission { role, key, range_end }),
    ]
}

fn refusal(result: Result<(), AuthFailure>) -> Result<(), AuthError> {
    result.map_err(|failure| match failure {
        AuthFailure::Refused(refusal) => refusal,
        AuthFailure::Broken(error) => panic!("memory does not break: {error}"),
    })
}

/// Checks a txn of everything that a txn can hold, with a nested one and with a lease on which `attached` hangs.
fn check_txn(auth: &Auth, model: &Model, caller: Author<'_>, key: &[u8], end: &[u8], attached: &[u8]) {
    let bytes = |bytes: &[u8]| bytes::Bytes::copy_from_slice(bytes);
    let compare = Compare { key: bytes(key), range_end: bytes(end), ..Compare::default() };
    let inner = Txn {
        failure: vec![Op::DeleteRange(DeleteRange { key: bytes(key), range_end: bytes(end), prev_kv: true })],
        ..Txn::default()
    };
    let put = Put { key: bytes(key), lease: 7, prev_kv: true, ..Put::default() };
    let range = Range { key: bytes(key), range_end: bytes(end), ..Range::default() };
    let txn = Txn {
        compare: vec![compare],
        success: vec![Op::Range(range), Op::Put(put)],
        failure: vec![Op::Unset, Op::Txn(inner)],
    };
    let mut encoded = Vec::new();
    Command::Txn(txn).encode_into(&mut encoded);
    let Ok(CommandRef::Txn(txn)) = Command::access(&encoded) else { panic!("a txn is a txn") };
    let (read, write) = (PermissionKind::Read, PermissionKind::Write);
    let expected = model
        .may(caller, read, key, end)
        .and_then(|()| model.may(caller, write, key, b""))
        .and_then(|()| model.may(caller, write, attached, b""))
        .and_then(|()| model.may(caller, read, key, b""))
        .and_then(|()| model.may(caller, write, key, end));
    let keys = |lease| -> Box<dyn Iterator<Item = &[u8]>> {
        assert_eq!(lease, 7);
        Box::new(std::iter::once(attached))
    };
    assert_eq!(auth.may_txn(caller, txn, &keys), expected, "{caller:?} on {key:?}..{end:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn users_and_roles_agree_with_the_model(
        changes in prop::collection::vec(change(), 1..60),
        asked in prop::collection::vec((user(), 0..3u64, key(), end(), key()), 10),
    ) {
        let (mut auth, mut model, mut trees) = (Auth::default(), Model::default(), MemTrees::new());
        for change in &changes {
            prop_assert_eq!(refusal(auth.apply(&mut trees, change)), model.apply(change), "{:?}", change);
            prop_assert_eq!((auth.is_enabled(), auth.revision()), (model.enabled, model.revision()), "{:?}", change);
            let stored = Auth::load(&trees).expect("what was stored can be read");
            prop_assert_eq!(&stored, &auth, "after {:?}", change);
        }
        for (name, user) in auth.users() {
            prop_assert_eq!((&user.roles, user.no_password), (&model.users[name].0, Some(model.users[name].1)));
            prop_assert_eq!(user.password_hash.is_empty(), model.users[name].1);
        }
        prop_assert_eq!(auth.users().len(), model.users.len());
        for (name, role) in auth.roles() {
            prop_assert_eq!(&role.permissions, &model.roles[name]);
        }
        for (name, behind, key, end, attached) in &asked {
            // 0: nobody; else a caller of the newest auth revision, or of the one before.
            let revision = if *behind == 0 { 0 } else { auth.revision() + 1 - behind };
            let caller = Author { user: name, auth_revision: revision };
            let may = |kind| model.may(caller, kind, key, end);
            prop_assert_eq!(auth.may_range(caller, key, end), may(PermissionKind::Read));
            prop_assert_eq!(auth.may_delete(caller, key, end, false), may(PermissionKind::Write));
            let both = may(PermissionKind::Write).and_then(|()| may(PermissionKind::Read));
            prop_assert_eq!(auth.may_delete(caller, key, end, true), both);
            check_txn(&auth, &model, caller, key, end, attached);
            let roles = model.users.get(name).map(|(roles, _)| roles);
            let administers = match roles {
                _ if !model.enabled => Ok(()),
                _ if name.is_empty() => Err(AuthError::UserEmpty),
                None => Err(AuthError::UserNotFound),
                Some(roles) if roles.contains("root") => Ok(()),
                Some(_) => Err(AuthError::PermissionDenied),
            };
            prop_assert_eq!(auth.may_administer(caller), administers);
            let own = if name.is_empty() { administers } else { Ok(()) };
            prop_assert_eq!(auth.may_see_user(caller, name), own, "oneself");
        }
    }
}

#[test]
fn damaged_records_are_refused() {
    let mut trees = MemTrees::new();
    trees.insert(TreeId::AuthUsers, b"ann", b"\x0a\x03bob").expect("memory does not break");
    assert!(Auth::load(&trees).is_err(), "another name");
    let mut trees = MemTrees::new();
    trees.insert(TreeId::AuthRoles, b"r", b"\x0a\x01r\x12\x02\x08\x07").expect("memory does not break");
    assert!(Auth::load(&trees).is_err(), "a permission of no kind");
    let mut trees = MemTrees::new();
    trees.insert(TreeId::Auth, b"authRevision", b"\x01").expect("memory does not break");
    assert!(Auth::load(&trees).is_err(), "a short revision");
}
