//! Users at apply: whether the author of a command may do what it asks for, changes of users and roles, and who signs in.
//!
//! The same on every member: rights, leases and commands are replicated. What a member does beside that because somebody
//! signed in, or may not any more, is told as [`SignIn`]; it is not state.

use crate::auth::{ArchivedAuthChange, Auth, AuthChange, AuthError, AuthFailure, LoadError, SignIn};
use crate::author::Author;
use crate::command::{ArchivedAuthenticate, CommandRef};
use crate::error::{Error, OpError, StoreError};
use crate::kv_codec;
use crate::store::Store;
use crate::trees::Trees;

impl<T: Trees> Store<T> {
    /// Users and roles.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// What has happened to tokens since the last call.
    pub fn take_sign_ins(&mut self) -> Vec<SignIn> {
        std::mem::take(&mut self.sign_ins)
    }

    /// The keys of a lease, as checks look at them.
    pub(crate) fn keys_of_lease(&self, id: i64) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.lessor.keys(id))
    }

    /// Whether the author of a command may do that now. What nobody asked for, such as the end of a lease whose time is
    /// over, is not checked.
    #[inline]
    pub(crate) fn check_author(&self, author: Option<Author<'_>>, command: CommandRef<'_>) -> Result<(), AuthError> {
        if !self.auth.is_enabled() {
            return Ok(());
        }
        self.check_rights(author.unwrap_or(Author::NOBODY), command)
    }

    #[cold]
    fn check_rights(&self, author: Author<'_>, command: CommandRef<'_>) -> Result<(), AuthError> {
        let attached = |lease: i64| self.keys_of_lease(lease);
        match command {
            CommandRef::Put(put) => self.auth.may_put(author, put, &attached),
            CommandRef::DeleteRange(delete) => {
                self.auth.may_delete(author, &delete.key, &delete.range_end, delete.prev_kv)
            }
            CommandRef::Txn(txn) => self.auth.may_txn(author, txn, &attached),
            CommandRef::LeaseRevoke(revoke) => {
                self.auth.may_change_lease(author, self.keys_of_lease(revoke.id.to_native()))
            }
            CommandRef::Auth(_) => self.auth.may_administer(author),
            // Checked where they were asked for, or asked for by nobody.
            CommandRef::Noop
            | CommandRef::Compact(_)
            | CommandRef::LeaseGrant(_)
            | CommandRef::LeaseExpire(_)
            | CommandRef::LeaseCheckpoint(_)
            | CommandRef::Alarm(_)
            | CommandRef::SetMemberAttributes(_)
            | CommandRef::SetClusterVersion(_)
            | CommandRef::SetDowngrade(_)
            | CommandRef::Authenticate(_)
            | CommandRef::Follow(_)
            // The users of the v2 API are others, and asked for where its requests arrive.
            | CommandRef::V2(_) => Ok(()),
        }
    }

    pub(crate) fn apply_auth_change(&mut self, change: &ArchivedAuthChange) -> Result<(), Error> {
        let change = change.to_native();
        let was_enabled = self.auth.is_enabled();
        self.auth.apply(&mut self.trees, &change).map_err(|failure| match failure {
            AuthFailure::Refused(refusal) => Error::Refused(OpError::Auth(refusal)),
            AuthFailure::Broken(broken) => Error::Broken(broken.into()),
        })?;
        match change {
            AuthChange::Disable if was_enabled => self.sign_ins.push(SignIn::AllEnded),
            AuthChange::UserDelete { name: user } | AuthChange::UserChangePassword { name: user, .. } => {
                self.sign_ins.push(SignIn::Ended { user });
            }
            _ => {}
        }
        Ok(())
    }

    /// The password was checked where the user signs in; the user may be gone since. The reply is the token.
    pub(crate) fn apply_authenticate(
        &mut self,
        request: &ArchivedAuthenticate,
        out: Option<&mut Vec<u8>>,
    ) -> Result<(), OpError> {
        if !self.auth.is_enabled() {
            return Err(OpError::Auth(AuthError::AuthNotEnabled));
        }
        let user = self.auth.users().get(request.name.as_str());
        if user.is_none_or(|user| user.no_password == Some(true)) {
            return Err(OpError::Auth(AuthError::AuthFailed));
        }
        let (user, prefix, index) = (request.name.to_string(), request.prefix.to_string(), self.applied.index);
        if let Some(out) = out {
            kv_codec::put_bytes_field(out, 0x12, format!("{prefix}.{index}").as_bytes());
        }
        self.sign_ins.push(SignIn::Begun { user, prefix, index });
        Ok(())
    }

    /// Reads users and roles; before the first command is applied.
    pub(crate) fn restore_auth(&mut self) -> Result<(), StoreError> {
        self.auth = Auth::load(&self.trees).map_err(|error| match error {
            LoadError::Tree(error) => StoreError::Tree(error),
            LoadError::Record { tree, key } => StoreError::Record { tree, key, detail: "not users and roles" },
        })?;
        Ok(())
    }
}
