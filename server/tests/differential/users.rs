//! Sequences with users: several callers, who come and go, gain and lose rights, forget to log in and try what they may
//! not, between the operations of `generate`. Even seeds use signed tokens, which go stale with every change of users.

use super::generate::Make;
use super::op::Op;
use plinth_api::proto::authpb::{Permission, UserAddOptions, permission};
use plinth_api::proto::etcdserverpb::*;
use plinth_random::Random;
use std::collections::VecDeque;
use std::path::Path;

/// Callers of a run.
pub const CALLERS: usize = 6;
/// Who they are; the first has no token, and the last a wrong one.
const USERS: [&str; CALLERS] = ["", "root", "alice", "bob", "carol", "mallory"];
const ROOT: usize = 1;
/// What the last one shows.
const FORGED: &str = "AbCdEfGhIjKlMnOp.1";
const PASSWORDS: [&str; 3] = ["p", "q", ""];
const ROLES: [&str; 4] = ["root", "one", "two", "three"];
/// The secret of signed tokens.
const SECRET: &str = "a secret that two servers share";

/// A call of the service `Auth`.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Enable,
    Disable,
    Status,
    UserAdd(AuthUserAddRequest),
    UserGet(AuthUserGetRequest),
    UserList,
    UserDelete(AuthUserDeleteRequest),
    UserChangePassword(AuthUserChangePasswordRequest),
    UserGrantRole(AuthUserGrantRoleRequest),
    UserRevokeRole(AuthUserRevokeRoleRequest),
    RoleAdd(AuthRoleAddRequest),
    RoleGet(AuthRoleGetRequest),
    RoleList,
    RoleDelete(AuthRoleDeleteRequest),
    RoleGrantPermission(AuthRoleGrantPermissionRequest),
    RoleRevokePermission(AuthRoleRevokePermissionRequest),
}

/// What callers have to show at the beginning.
pub fn tokens() -> [Option<String>; CALLERS] {
    let mut tokens: [Option<String>; CALLERS] = Default::default();
    tokens[CALLERS - 1] = Some(FORGED.to_owned());
    tokens
}

/// The name under which a caller logs in.
pub fn name(caller: usize) -> &'static str {
    USERS[caller]
}

/// What both servers are told for a sequence of this seed; a file that is needed is written into `folder`.
pub fn arguments(seed: u64, folder: &Path) -> Vec<String> {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).expect("written");
    let signed = format!("jwt,priv-key={},sign-method=HS256,ttl=1h", secret.display());
    let kind = if seed.is_multiple_of(2) { signed } else { "simple".to_owned() };
    ["--bcrypt-cost", "4", "--auth-token", &kind].map(str::to_owned).into()
}

/// A sequence of some `count` operations. Of an etcd before its repairs of 2026 (`is_old`) only what it checks is asked.
pub fn sequence(seed: u64, count: usize, is_old: bool) -> Vec<Op> {
    let mut users = Users { random: Random::new(seed ^ 0x0a07), caller: 0, due: VecDeque::new() };
    users.begin();
    let mut make = Make::new(seed);
    let mut ops = Vec::new();
    while ops.len() < count {
        let op = match users.due.pop_front() {
            Some(op) => op,
            None if users.random.below(100) < 35 => users.op(),
            // Waits until a lease has ended, which not everybody may look at.
            None => Some(make.op()).filter(|op| !matches!(op, Op::Expire(_))).unwrap_or(Op::Status),
        };
        if let Op::As(caller) = op {
            users.caller = caller;
        }
        ops.extend(if is_old { checked_by_all(op, users.caller) } else { Some(op) });
    }
    ops
}

/// What etcd before its repairs of 2026 looks at in the same way: it lets everybody do what is not about keys, does not
/// look into nested transactions and at what puts of transactions read and attach to, and takes an open end of a watch for
/// none (`SECURITY.md`); its refusals of maintenance read otherwise. Of the callers only root is asked for such things.
fn checked_by_all(op: Op, caller: usize) -> Option<Op> {
    match op {
        Op::Compact(_)
        | Op::Grant(_)
        | Op::GrantAndRevoke(_)
        | Op::Revoke(_)
        | Op::TimeToLive(_)
        | Op::Leases
        | Op::KeepAlive(_)
        | Op::HashKv(_)
        | Op::Defragment
        | Op::Alarm(_)
        | Op::MemberList(_)
        | Op::Status
        | Op::Auth(Call::Status)
            if caller != ROOT =>
        {
            None
        }
        // It shows what was granted to that role, not what it may.
        Op::Auth(Call::RoleGet(request)) if request.role == "root" => None,
        Op::Watch(_, create) if create.range_end == b"\0"[..] && caller != ROOT => None,
        Op::Txn(mut txn) if caller != ROOT => {
            use request_op::Request;
            for op in txn.success.iter_mut().chain(&mut txn.failure) {
                match &mut op.request {
                    Some(Request::RequestPut(put)) => (put.prev_kv, put.lease) = (false, 0),
                    Some(Request::RequestTxn(_)) => {
                        op.request =
                            Some(Request::RequestRange(RangeRequest { key: "a".into(), ..Default::default() }));
                    }
                    _ => {}
                }
            }
            Some(Op::Txn(txn))
        }
        other => Some(other),
    }
}

struct Users {
    random: Random,
    caller: usize,
    /// What is to follow before anything else.
    due: VecDeque<Op>,
}

impl Users {
    /// Users, roles and rights to begin with; rights matter from then on.
    fn begin(&mut self) {
        self.make_root();
        for (role, user) in [("one", "alice"), ("two", "bob"), ("three", "carol")] {
            let roles = role_add(role);
            self.due.extend([roles, user_add(user, "p", false), grant_role(user, role)]);
        }
        for (role, kind, key, end) in [
            ("one", permission::Type::Readwrite, "a", "c"),
            ("one", permission::Type::Read, "k/", "k0"),
            ("two", permission::Type::Read, "\0", "\0"),
            ("three", permission::Type::Write, "k/1", ""),
        ] {
            let perm = Permission { perm_type: kind.into(), key: key.into(), range_end: end.into() };
            let request = AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) };
            self.due.push_back(Op::Auth(Call::RoleGrantPermission(request)));
        }
        self.enable();
    }

    fn make_root(&mut self) {
        self.due.extend([role_add("root"), user_add("root", "p", false), grant_role("root", "root")]);
    }

    fn enable(&mut self) {
        self.due.push_back(Op::Auth(Call::Enable));
        (2..CALLERS - 1).chain([ROOT]).for_each(|caller| self.log_in(caller));
    }

    /// With each password that it could be.
    fn log_in(&mut self, caller: usize) {
        self.due.push_back(Op::As(caller));
        self.due.extend(PASSWORDS[..2].iter().map(|password| Op::LogIn((*password).to_owned())));
    }

    fn op(&mut self) -> Op {
        match self.random.below(100) {
            0..40 => Op::As(self.random.pick(&[ROOT, ROOT, ROOT, 2, 2, 2, 3, 3, 4, 0, 5])),
            40..50 => {
                let (caller, before) = (self.random.pick(&[ROOT, 2, 3, 4]), self.caller);
                self.log_in(caller);
                Op::As(before)
            }
            50..52 => Op::LogIn(self.random.pick(&PASSWORDS).to_owned()),
            52..54 => {
                // While rights do not matter anything may have become of root.
                let rest: Vec<Op> = (0..self.random.below(6)).map(|_| Op::Auth(self.call())).collect();
                self.due.extend(rest);
                self.make_root();
                self.enable();
                Op::Auth(Call::Disable)
            }
            54..55 => Op::Auth(Call::Enable),
            _ => {
                let call = self.call();
                if let Call::UserChangePassword(request) = &call
                    && request.name == "root"
                {
                    // Whose requests are sent to old servers as long as it is somebody.
                    self.log_in(ROOT);
                }
                Op::Auth(call)
            }
        }
    }

    fn user(&mut self) -> String {
        self.random.pick(&["root", "alice", "alice", "bob", "bob", "carol", "nobody", ""]).to_owned()
    }

    fn role(&mut self) -> String {
        if self.random.once_in(12) { String::new() } else { self.random.pick(&ROLES).to_owned() }
    }

    fn password(&mut self) -> String {
        self.random.pick(&PASSWORDS).to_owned()
    }

    /// A range of the keys there are; also nonsense.
    fn permission(&mut self) -> Permission {
        let keys = ["a", "a", "aa", "b", "c", "k/1", "k/2", "k/3", "k/", "\0", ""];
        let mut key = || self.random.pick(&keys).to_owned();
        let (key, other) = (key(), key());
        let end = match self.random.below(6) {
            0..2 => String::new(),
            2 => "\0".to_owned(),
            3 => format!("{key}~"),
            _ => other,
        };
        Permission { perm_type: self.random.pick(&[0, 1, 2]), key: key.into(), range_end: end.into() }
    }

    fn call(&mut self) -> Call {
        match self.random.below(20) {
            0 => Call::UserAdd(AuthUserAddRequest {
                name: self.user(),
                password: self.password(),
                options: Some(UserAddOptions { no_password: self.random.once_in(4) }),
                ..Default::default()
            }),
            1 if self.random.once_in(2) => Call::UserDelete(AuthUserDeleteRequest { name: self.user() }),
            1 => Call::RoleDelete(AuthRoleDeleteRequest { role: self.role() }),
            2 => Call::UserChangePassword(AuthUserChangePasswordRequest {
                name: self.user(),
                password: self.password(),
                ..Default::default()
            }),
            3..6 => Call::UserGrantRole(AuthUserGrantRoleRequest { user: self.user(), role: self.role() }),
            6 => Call::UserRevokeRole(AuthUserRevokeRoleRequest { name: self.user(), role: self.role() }),
            7 => Call::RoleAdd(AuthRoleAddRequest { name: self.role() }),
            8..13 => {
                let perm = Some(self.permission()).filter(|_| !self.random.once_in(20));
                Call::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: self.role(), perm })
            }
            13..15 => {
                let Permission { key, range_end, .. } = self.permission();
                Call::RoleRevokePermission(AuthRoleRevokePermissionRequest { role: self.role(), key, range_end })
            }
            15 => Call::UserGet(AuthUserGetRequest { name: self.user() }),
            16 => Call::RoleGet(AuthRoleGetRequest { role: self.role() }),
            17 => Call::UserList,
            18 => Call::RoleList,
            _ => Call::Status,
        }
    }
}

fn role_add(name: &str) -> Op {
    Op::Auth(Call::RoleAdd(AuthRoleAddRequest { name: name.to_owned() }))
}

fn user_add(name: &str, password: &str, no_password: bool) -> Op {
    Op::Auth(Call::UserAdd(AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        options: Some(UserAddOptions { no_password }),
        ..Default::default()
    }))
}

fn grant_role(user: &str, role: &str) -> Op {
    Op::Auth(Call::UserGrantRole(AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() }))
}
