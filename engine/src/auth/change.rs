//! Changes of users and roles, as they are replicated.
//!
//! The layout of a change is part of the log's format: a changed one gets a kind of command of its own.

use rkyv::{Archive, Deserialize, Serialize};

/// What a permission allows; the numbers are those of the API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum PermissionKind {
    Read = 0,
    Write = 1,
    ReadWrite = 2,
}

impl PermissionKind {
    /// The kind with a number of the API.
    pub fn from_wire(number: u64) -> Option<Self> {
        [Self::Read, Self::Write, Self::ReadWrite].into_iter().find(|kind| *kind as u64 == number)
    }

    pub(super) fn allows(self, kind: PermissionKind) -> bool {
        self == kind || self == Self::ReadWrite
    }
}

/// A part of the key space, and what may be done there. `range_end` as in requests: empty for the one key, `\0` for no end.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Permission {
    pub kind: PermissionKind,
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
}

impl Permission {
    pub(super) fn is_valid(&self) -> bool {
        !self.key.is_empty() && (matches!(self.range_end[..], [] | [0]) || self.range_end > self.key)
    }
}

/// A change of users, roles, or of whether they matter.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum AuthChange {
    Enable,
    Disable,
    /// The hash of a user without password is dropped.
    UserAdd {
        name: String,
        password_hash: Vec<u8>,
        no_password: bool,
    },
    UserDelete {
        name: String,
    },
    UserChangePassword {
        name: String,
        password_hash: Vec<u8>,
    },
    UserGrantRole {
        name: String,
        role: String,
    },
    UserRevokeRole {
        name: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    /// `None` as a client may send it.
    RoleGrantPermission {
        role: String,
        permission: Option<Permission>,
    },
    RoleRevokePermission {
        role: String,
        key: Vec<u8>,
        range_end: Vec<u8>,
    },
}

impl ArchivedAuthChange {
    /// As it was before it was replicated.
    pub fn to_native(&self) -> AuthChange {
        let Ok(change) = rkyv::api::deserialize_using::<AuthChange, _, rkyv::rancor::Panic>(self, &mut ());
        change
    }
}
