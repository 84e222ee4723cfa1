//! Rights that come and go while clients write: whoever administers users turns them on and off, takes permissions from
//! them, and removes them.
//!
//! A write is judged by what is applied before it, on every member alike: one that is refused anywhere takes effect nowhere.
//! Clients of keys are a user who may now and then; everybody else may everything.

use super::clients::{Ask, Caller, key_name};
use super::options::{MS, Time};
use super::world::{Event, World};
use plinth_engine::auth::{Auth, AuthChange, Permission, PermissionKind};
use plinth_engine::author::Author;
use plinth_engine::store::Store;
use plinth_engine::trees::Trees;

/// Time between two changes, on average.
const EVERY: Time = 60 * MS;

/// The user that clients of keys are.
const USER: &str = "user";
const ROLE: &str = "role";

/// Who may everything, whatever has changed meanwhile.
const CHIEF: Author<'static> = Author { user: "root", auth_revision: u64::MAX };

/// Who a question is from, as its member sees it.
pub(super) fn author<T: Trees>(caller: Caller, store: &Store<T>) -> Option<Author<'static>> {
    let auth = store.auth();
    match caller {
        _ if !auth.is_enabled() => None,
        Caller::Client(_) => Some(Author { user: USER, auth_revision: auth.revision() }),
        _ => Some(CHIEF),
    }
}

/// Whether what a member holds in memory is what it has stored.
pub(super) fn check_auth<T: Trees>(store: &Store<T>) -> Result<(), String> {
    let stored = Auth::load(store.trees()).map_err(|error| error.to_string())?;
    if stored == *store.auth() { Ok(()) } else { Err("users and roles in memory are not those stored".into()) }
}

impl World {
    /// The chief's turn.
    pub(super) fn change_rights(&mut self) {
        if self.in_storm {
            let change = self.draw_change();
            let at = self.random.below(self.nodes.len() as u64) as usize;
            self.call(Caller::Chief, at, Ask::Rights(change));
        }
        let pause = 1 + self.random.below(2 * EVERY);
        self.plan(pause, Event::Rights);
    }

    fn draw_change(&mut self) -> AuthChange {
        let key = key_name(self.random.below(self.options.keys));
        let name = |name: &str| name.to_owned();
        let all = Permission { kind: PermissionKind::ReadWrite, key: b"key/".to_vec(), range_end: b"key0".to_vec() };
        let one = Permission { kind: PermissionKind::ReadWrite, key: key.clone(), range_end: Vec::new() };
        match self.random.below(20) {
            0 => AuthChange::UserAdd { name: name("root"), password_hash: Vec::new(), no_password: true },
            1 => AuthChange::UserGrantRole { name: name("root"), role: name("root") },
            2..4 => AuthChange::UserAdd { name: name(USER), password_hash: Vec::new(), no_password: true },
            4 => AuthChange::UserDelete { name: name(USER) },
            5 => AuthChange::RoleAdd { name: name(ROLE) },
            6 => AuthChange::RoleDelete { name: name(ROLE) },
            7..10 => AuthChange::UserGrantRole { name: name(USER), role: name(ROLE) },
            10 => AuthChange::UserRevokeRole { name: name(USER), role: name(ROLE) },
            11..14 => AuthChange::RoleGrantPermission { role: name(ROLE), permission: Some(all) },
            14 => AuthChange::RoleRevokePermission { role: name(ROLE), key: all.key, range_end: all.range_end },
            15 => AuthChange::RoleGrantPermission { role: name(ROLE), permission: Some(one) },
            16 => AuthChange::RoleRevokePermission { role: name(ROLE), key, range_end: Vec::new() },
            17 => AuthChange::UserChangePassword { name: name("root"), password_hash: Vec::new() },
            18 => AuthChange::Disable,
            _ => AuthChange::Enable,
        }
    }
}
