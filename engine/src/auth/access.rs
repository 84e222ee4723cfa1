//! Whether a caller may: the checks of each request, in etcd's order, which decides about the error.

use super::{Auth, AuthError, PermissionKind, ROOT, Rights};
use crate::author::Author;
use crate::command::{ArchivedOp, ArchivedPut, ArchivedTxn};

/// Tells the keys that are attached to a lease.
pub type AttachedKeys<'a> = dyn Fn(i64) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> + 'a;

impl Auth {
    /// The caller's rights; `None` if everything is allowed.
    fn rights(&self, caller: Author<'_>) -> Result<Option<&Rights>, AuthError> {
        if !self.is_enabled() {
            return Ok(None);
        }
        if caller.auth_revision == 0 {
            return Err(AuthError::UserEmpty);
        }
        // A caller that knows more than this member passes: the member judges by what it has applied.
        if caller.auth_revision < self.revision() {
            return Err(AuthError::AuthOldRevision);
        }
        let rights = self.rights.get(caller.user).ok_or(AuthError::PermissionDenied)?;
        Ok(Some(rights).filter(|rights| !rights.is_root))
    }

    fn may(&self, caller: Author<'_>, kind: PermissionKind, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        let Some(rights) = self.rights(caller)? else { return Ok(()) };
        let spans = if kind == PermissionKind::Read { &rights.read } else { &rights.write };
        if spans.cover(key, range_end) { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Reading a range, or watching it: the range as it was asked for.
    pub fn may_range(&self, caller: Author<'_>, key: &[u8], range_end: &[u8]) -> Result<(), AuthError> {
        self.may(caller, PermissionKind::Read, key, range_end)
    }

    /// Deleting a range, and being told what was there.
    pub fn may_delete(&self, caller: Author<'_>, key: &[u8], range_end: &[u8], prev_kv: bool) -> Result<(), AuthError> {
        self.may(caller, PermissionKind::Write, key, range_end)?;
        if prev_kv { self.may_range(caller, key, range_end) } else { Ok(()) }
    }

    /// A put, alone or in a txn. `attached` tells the keys of its lease, if that exists: whoever puts a key on a lease
    /// decides about how long those live.
    pub fn may_put<'a>(
        &self,
        caller: Author<'_>,
        put: &ArchivedPut,
        attached: &AttachedKeys<'a>,
    ) -> Result<(), AuthError> {
        self.may(caller, PermissionKind::Write, &put.key, b"")?;
        let lease = put.lease.to_native();
        if lease != 0 {
            self.may_change_lease(caller, attached(lease))?;
        }
        if put.prev_kv { self.may_range(caller, &put.key, b"") } else { Ok(()) }
    }

    /// Ending a lease, or keeping it alive: its keys must be the caller's to write. Root may, however old its revision is.
    pub fn may_change_lease<'a>(
        &self,
        caller: Author<'_>,
        mut attached: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), AuthError> {
        if self.may_administer(caller).is_ok() {
            return Ok(());
        }
        attached.try_for_each(|key| self.may(caller, PermissionKind::Write, key, b""))
    }

    /// Being told the keys of a lease. Root may, however old its revision is.
    pub fn may_list_lease<'a>(
        &self,
        caller: Author<'_>,
        mut attached: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), AuthError> {
        if self.may_administer(caller).is_ok() {
            return Ok(());
        }
        attached.try_for_each(|key| self.may_range(caller, key, b""))
    }

    /// A txn: all conditions and both branches, nested ones too, whichever is taken. An empty one is anybody's, as in etcd.
    pub fn may_txn<'a>(
        &self,
        caller: Author<'_>,
        txn: &ArchivedTxn,
        attached: &AttachedKeys<'a>,
    ) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        txn.compare.iter().try_for_each(|compare| self.may_range(caller, &compare.key, &compare.range_end))?;
        txn.success.iter().chain(txn.failure.iter()).try_for_each(|op| match op {
            ArchivedOp::Range(range) => self.may_range(caller, &range.key, &range.range_end),
            ArchivedOp::Put(put) => self.may_put(caller, put, attached),
            ArchivedOp::DeleteRange(delete) => self.may_delete(caller, &delete.key, &delete.range_end, delete.prev_kv),
            ArchivedOp::Txn(txn) => self.may_txn(caller, txn, attached),
            ArchivedOp::Unset => Ok(()),
        })
    }

    /// What only root may. Its roles count as they are now; the caller's revision does not.
    pub fn may_administer(&self, caller: Author<'_>) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        let rights = self.rights.get(caller.user).ok_or(AuthError::UserNotFound)?;
        if rights.is_root { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Looking at a user: oneself, or whoever administers.
    pub fn may_see_user(&self, caller: Author<'_>, name: &str) -> Result<(), AuthError> {
        match self.may_administer(caller) {
            Err(_) if self.is_enabled() && !name.is_empty() && caller.user == name => Ok(()),
            other => other,
        }
    }

    /// Looking at a role: one that the caller has, or whoever administers.
    pub fn may_see_role(&self, caller: Author<'_>, role: &str) -> Result<(), AuthError> {
        let has = || self.users().get(caller.user).is_some_and(|user| user.roles.contains(role));
        match self.may_administer(caller) {
            Err(_) if role != ROOT && has() => Ok(()),
            other => other,
        }
    }
}
