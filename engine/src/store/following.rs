//! A store that follows another cluster: it takes over what was done there, revision for revision, and nothing else.
//!
//! The mark of it is in tree `Meta` and comes with the data that were taken over first. While it is there, commands of
//! clients are refused at apply, on every member alike; what the other cluster did comes as a [`FollowChange`](crate::follow::FollowChange). The last
//! one ends it, and the store goes on with the revisions it has.
//!
//! The changes of a main revision may come in several commands. They lie above the current revision until the last one
//! moves it, also after a restart in between ([`meta::FOLLOW_PARTIAL`]); whoever feeds the store begins again behind the current
//! revision, and what is already there is passed over.
//!
//! Invariants: a record is stored byte for byte as the other cluster has it; its version and its creation follow from what
//! is here, or the store is broken; no lease ends by its time while the store follows.

use crate::auth::SignIn;
use crate::budget::Budget;
use crate::command::CommandRef;
use crate::error::{Error, OpError, StoreError};
use crate::follow::{
    ArchivedFollowChange, ArchivedFollowLeases, ArchivedFollowRecord, ArchivedFollowRecords, ArchivedUserRecord,
    Following,
};
use crate::index::KeyRange;
use crate::kv_codec::KeyValue;
use crate::record::decode;
use crate::revision::{RevKey, Revision};
use crate::store::{Store, meta};
use crate::trees::{TreeId, Trees};
use std::ops::ControlFlow;

/// Trees whose content comes whole when users or roles have changed.
const USERS: [TreeId; 3] = [TreeId::Auth, TreeId::AuthUsers, TreeId::AuthRoles];

fn broken(tree: TreeId, key: &[u8], detail: &'static str) -> Error {
    Error::Broken(StoreError::Record { tree: tree.name(), key: key.to_vec(), detail })
}

impl<T: Trees> Store<T> {
    /// The cluster that this store follows.
    pub fn follows(&self) -> Option<u64> {
        self.following.map(|following| following.cluster)
    }

    /// Whether a main revision is here in part, above the current one.
    pub fn is_amid_revision(&self) -> bool {
        self.following.is_some_and(|following| following.is_partial)
    }

    /// The cluster that this store has followed to the end.
    ///
    /// # Errors
    /// If the trees are broken.
    pub fn has_followed(&self) -> Result<Option<u64>, StoreError> {
        read_number(&self.trees, meta::FOLLOWED)
    }

    /// Reads the marks while opening. `newest` is the newest record; what is returned, the current revision.
    pub(crate) fn restore_following(&mut self, newest: Revision) -> Result<i64, StoreError> {
        let Some(cluster) = read_number(&self.trees, meta::FOLLOWING)? else { return Ok(newest.main) };
        let partial = read_number(&self.trees, meta::FOLLOW_PARTIAL)?;
        self.following = Some(Following { cluster, newest, is_partial: partial.is_some() });
        Ok(partial.map_or(newest.main, u64::cast_signed))
    }

    /// Commands that wait until the store follows nobody.
    #[inline]
    pub(crate) fn refuse_while_following(&self, command: CommandRef<'_>) -> Result<(), OpError> {
        match (self.following, command) {
            (None, CommandRef::Follow(_)) => Err(OpError::FollowsNobody),
            (None, _) => Ok(()),
            (Some(_), CommandRef::Follow(_) | CommandRef::Noop | CommandRef::Alarm(_)) => Ok(()),
            (Some(_), CommandRef::SetMemberAttributes(_) | CommandRef::SetClusterVersion(_)) => Ok(()),
            (Some(_), CommandRef::Authenticate(_)) => Ok(()),
            (Some(_), _) => Err(OpError::Follows),
        }
    }

    pub(crate) fn apply_follow(&mut self, change: &ArchivedFollowChange) -> Result<(), Error> {
        match change {
            ArchivedFollowChange::Records(told) => self.follow_records(told),
            ArchivedFollowChange::Compact { revision } => self.schedule_compaction(revision.to_native()),
            ArchivedFollowChange::Leases(told) => Ok(self.follow_leases(told)?),
            ArchivedFollowChange::Users(records) => self.follow_users(records),
            ArchivedFollowChange::End => Ok(self.end_following()?),
        }
    }

    fn follow_records(&mut self, told: &ArchivedFollowRecords) -> Result<(), Error> {
        let (main, sub) = (told.main.to_native(), told.sub.to_native());
        if main <= self.revision {
            // Told again after a restart.
            return Ok(());
        }
        let following = self.following.expect("nobody else is told of records");
        let goes_on = following.is_partial && following.newest.main == main;
        let is_next = if goes_on { sub <= following.newest.sub + 1 } else { !following.is_partial && sub == 0 };
        if !is_next {
            return Err(broken(TreeId::Rev, &RevKey::put(Revision::new(main, sub)), "records before it are missing"));
        }
        for (record, sub) in told.records.iter().zip(sub..) {
            self.follow_record(Revision::new(main, sub), record)?;
        }
        let is_partial = !told.is_last;
        if is_partial && !following.is_partial {
            self.trees.insert(TreeId::Meta, meta::FOLLOW_PARTIAL, &self.revision.to_be_bytes())?;
        } else if !is_partial {
            if following.is_partial {
                self.trees.remove(TreeId::Meta, meta::FOLLOW_PARTIAL)?;
            }
            self.revision = main;
        }
        self.following.as_mut().expect("it was looked at above").is_partial = is_partial;
        Ok(())
    }

    /// Stores a record unless it is there, and tells watchers of it in either case.
    fn follow_record(&mut self, revision: Revision, record: &ArchivedFollowRecord) -> Result<(), Error> {
        let pair = decode(&record.pair, revision)?;
        let following = self.following.as_mut().expect("nobody else is told of records");
        if revision > following.newest {
            following.newest = revision;
            match record.is_tombstone {
                true => self.follow_delete(revision, pair.key)?,
                false => self.follow_put(revision, &pair)?,
            }
            self.trees.insert(TreeId::Rev, &RevKey::new(revision, record.is_tombstone), &record.pair)?;
        }
        if !self.events.is_on() {
            return Ok(());
        }
        let is_create = pair.create_revision == revision.main;
        let before = match self.events.wants_prev() && !is_create {
            true => self.kv_at(pair.key, revision)?.map(<[u8]>::to_vec),
            false => None,
        };
        match record.is_tombstone {
            true => self.events.delete(revision.main, revision.sub, pair.key, before.as_deref()),
            false => self.events.put(revision.main, revision.sub, is_create, &record.pair, before.as_deref()),
        }
        Ok(())
    }

    fn follow_put(&mut self, revision: Revision, pair: &KeyValue<'_>) -> Result<(), Error> {
        let (_, after) = self.index.put(pair.key, revision);
        if (after.create, after.version, revision.main) != (pair.create_revision, pair.version, pair.mod_revision) {
            return Err(broken(TreeId::Rev, &RevKey::put(revision), "a pair that does not follow from what is here"));
        }
        self.counters.puts += 1;
        self.counters.put_bytes += (pair.key.len() + pair.value.len()) as u64;
        // One that has ended since takes the key with it, in a revision to come.
        if self.lessor.attach(pair.lease, pair.key).is_err() {
            self.lessor.detach(pair.key);
        }
        Ok(())
    }

    fn follow_delete(&mut self, revision: Revision, key: &[u8]) -> Result<(), Error> {
        let mut deleted = false;
        self.index.delete(KeyRange::One(key), &mut { Budget::UNBOUNDED }, |_, _, _| {
            deleted = true;
            Ok::<_, StoreError>((revision, 0))
        })?;
        if !deleted {
            return Err(broken(TreeId::Rev, &RevKey::new(revision, true), "a tombstone of a key that is not here"));
        }
        self.counters.deletes += 1;
        self.lessor.detach(key);
        Ok(())
    }

    fn follow_leases(&mut self, told: &ArchivedFollowLeases) -> Result<(), StoreError> {
        for lease in told.there.iter() {
            self.lessor.adopt(lease.id.to_native(), lease.ttl.to_native());
            self.store_lease(lease.id.to_native())?;
        }
        for id in told.gone.iter() {
            if self.lessor.drop_unused(id.to_native()) {
                self.trees.remove(TreeId::Lease, &id.to_native().to_be_bytes())?;
            }
        }
        Ok(())
    }

    fn follow_users(&mut self, records: &[ArchivedUserRecord]) -> Result<(), Error> {
        for tree in USERS {
            let mut keys = Vec::new();
            self.trees.scan(tree, b"", &mut |key, _| {
                keys.push(key.to_vec());
                ControlFlow::Continue(())
            })?;
            for key in keys {
                self.trees.remove(tree, &key)?;
            }
        }
        for record in records {
            let Some(tree) = USERS.into_iter().find(|tree| *tree as u8 == record.tree) else {
                return Err(broken(TreeId::Auth, &record.key, "a record of another tree"));
            };
            self.trees.insert(tree, &record.key, &record.value)?;
        }
        let before = std::mem::take(&mut self.auth);
        self.restore_auth()?;
        if before.is_enabled() && !self.auth.is_enabled() {
            self.sign_ins.push(SignIn::AllEnded);
        }
        for (name, user) in before.users() {
            if self.auth.users().get(name).is_none_or(|now| now.password_hash != user.password_hash) {
                self.sign_ins.push(SignIn::Ended { user: name.clone() });
            }
        }
        Ok(())
    }

    fn end_following(&mut self) -> Result<(), StoreError> {
        let following = self.following.take().expect("it is refused otherwise");
        assert!(!following.is_partial, "a cut-over happens between two revisions");
        for id in self.lessor.forget_remaining() {
            self.store_lease(id)?;
        }
        self.trees.remove(TreeId::Meta, meta::FOLLOWING)?;
        Ok(self.trees.insert(TreeId::Meta, meta::FOLLOWED, &following.cluster.to_be_bytes())?)
    }
}

fn read_number<T: Trees>(trees: &T, key: &[u8]) -> Result<Option<u64>, StoreError> {
    let Some(value) = trees.get(TreeId::Meta, key)? else { return Ok(None) };
    match value.try_into() {
        Ok(bytes) => Ok(Some(u64::from_be_bytes(bytes))),
        Err(_) => Err(StoreError::Record { tree: TreeId::Meta.name(), key: key.to_vec(), detail: "not a number" }),
    }
}
