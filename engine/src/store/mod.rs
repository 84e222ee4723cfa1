//! The multi-version store of one group: applies replicated commands, answers reads.
//!
//! What it owns: the trees (on disk), the key index (rebuilt at open), leases, alarms, and the events of the entry being
//! applied. A put encodes its pair once; these bytes are what tree `Rev` stores, what a range returns and what a watch
//! event carries.
//!
//! Invariants: applying is a function of the stored state and the command alone (time only feeds lease deadlines, which
//! are the leader's own business and not stored); a refused command changes nothing; an entry's index and term become
//! durable together with what it changed; every revision in `(compact_revision, revision]` is readable.
//!
//! How the interface is used by the server:
//!
//! - [`Store::apply`] takes a [`CommandRef`] by value. Its error tells refusal ([`OpError`], for the client) from
//!   breakage ([`StoreError`], fatal).
//! - [`Outcome::body`] holds the encoded response message without its header: header field first, then the body.
//! - Reads have the same error type, since reading can find the storage broken as well.
//! - `apply_silently` is `apply` for commands nobody waits for: it does not build a body.
//! - [`Store::apply_step`](crate::store::job) is `apply` in steps. Between the steps of a command nothing else may be applied, and
//!   the trees not be flushed; reading is fine: what a command has done so far is above the current revision.
//!
//! Tour: what is here is the state, and the writes that every command is made of. Beside it: commands that take steps in
//! [`job`], of which `delete` and [`txn`] are the long ones; reads in [`range`] and [`history`]; background work in
//! [`compact`] and [`hash`]; what holds writes back in [`alarm`], [`quota`] and `users`; what comes from another cluster in
//! `following`; the store of etcd's v2 API in `v2`; what is rebuilt at start in `open`. Each adds its part to [`Store`], and the state names what they keep in
//! it, so they are one room. Request checks that need no store are in [`check`](crate::check).

pub mod alarm;
pub mod compact;
mod delete;
mod following;
pub mod hash;
pub mod history;
pub mod job;
mod open;
pub mod quota;
pub mod range;
pub mod txn;
mod users;
mod v2;

use std::collections::VecDeque;

use crate::auth::{Auth, SignIn};
use crate::author::Author;
use crate::body::Body;
use crate::budget::Budget;
use crate::check::LEASE_COST;
use crate::command::{ArchivedDowngrade, ArchivedLeaseCheckpoint, ArchivedMemberAttributes, ArchivedPut, CommandRef};
use crate::error::{Error, OpError, StoreError};
use crate::follow::Following;
use crate::index::KeyIndex;
use crate::kv_codec::{self, KeyValue};
use crate::lease::{LeaseError, Lessor, LessorConfig, Millis};
use crate::pins::Pins;
use crate::record::{decode, pair};
use crate::revision::{RevKey, Revision};
use crate::store::alarm::Alarms;
use crate::store::compact::Compaction;
use crate::store::hash::HashKv;
use crate::store::job::Job;
use crate::store::quota::Quota;
use crate::store::txn::Spare;
use crate::trees::{TreeId, Trees};
use crate::watch::{EventBatch, EventBatchBuilder, EventMode};
use plinth_v2::Tree;

/// Keys of tree `Meta`.
pub mod meta {
    /// Index and term of the last applied entry, 8 bytes each, big-endian.
    pub const APPLIED: &[u8] = b"applied";
    /// Compact revision that was asked for last, as a key of tree `Rev`.
    pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
    /// Compact revision that was reached last, as a key of tree `Rev`.
    pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
    /// The version that all members understand, as text.
    pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
    /// Target version of the downgrade job, as text; missing if there is none.
    pub const DOWNGRADE: &[u8] = b"downgrade";
    /// Id of the cluster that the store follows, 8 bytes, big-endian; missing if it follows none.
    pub const FOLLOWING: &[u8] = b"following";
    /// The current revision, 8 bytes, big-endian, while there are records above it; missing otherwise.
    pub const FOLLOW_PARTIAL: &[u8] = b"followPartial";
    /// Id of the cluster that the store has followed until the cut-over.
    pub const FOLLOWED: &[u8] = b"followed";
}

/// Index and term of a Raft entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct EntryId {
    /// Position in the log.
    pub index: u64,
    /// Term in which it was proposed.
    pub term: u64,
}

impl EntryId {
    /// The value of [`meta::APPLIED`].
    pub fn encode(self) -> [u8; 16] {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&self.index.to_be_bytes());
        value[8..].copy_from_slice(&self.term.to_be_bytes());
        value
    }

    /// Reads what [`EntryId::encode`] wrote.
    pub fn decode(value: &[u8]) -> Option<EntryId> {
        let (index, term) = value.split_first_chunk::<8>()?;
        Some(EntryId { index: u64::from_be_bytes(*index), term: u64::from_be_bytes(term.try_into().ok()?) })
    }
}

/// Settings of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Bound for the bytes of pages in use: 0 for the default of 2 GiB, negative for none.
    pub quota_bytes: i64,
    pub lessor: LessorConfig,
    /// Whether every compaction hashes all it passes, as etcd does. It has to read everything up to the compacted
    /// revision for that, where removing alone only touches what changed since the last compaction.
    pub compaction_hashes: bool,
    /// Changes of the v2 store that can be waited from.
    pub v2_history: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            quota_bytes: 0,
            lessor: LessorConfig::for_election_timeout(1000),
            compaction_hashes: true,
            v2_history: plinth_v2::limits::HISTORY_EVENTS,
        }
    }
}

/// Result of an applied command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Revision for the response header.
    pub revision: i64,
    /// The response message in protobuf, without its header.
    pub body: Body,
}

/// Counts since the store was opened, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Pairs put, inside txns too.
    pub puts: u64,
    /// Bytes of keys and values put.
    pub put_bytes: u64,
    /// Delete requests, inside txns too.
    pub deletes: u64,
    pub txns: u64,
    /// Pairs and tombstones removed by compaction.
    pub compacted: u64,
    pub leases_granted: u64,
    /// Leases revoked, those that had expired too.
    pub leases_revoked: u64,
}

/// The multi-version store of one group.
#[derive(Debug)]
pub struct Store<T> {
    pub(crate) trees: T,
    pub(crate) index: KeyIndex,
    pub(crate) lessor: Lessor,
    pub(crate) alarms: Alarms,
    pub(crate) auth: Auth,
    pub(crate) v2: Tree,
    pub(crate) following: Option<Following>,
    /// What the member has not taken yet.
    pub(crate) sign_ins: Vec<SignIn>,
    pub(crate) quota: Quota,
    pub(crate) events: EventBatchBuilder,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) compactions: VecDeque<Compaction>,
    pub(crate) finished_compact_revision: i64,
    pub(crate) compaction_hashes: Vec<HashKv>,
    pub(crate) config: StoreConfig,
    pub(crate) applied: EntryId,
    pub(crate) counters: Counters,
    /// The pair being encoded.
    scratch: Vec<u8>,
    /// What the last txn needed, for the next one.
    pub(crate) spare: Spare,
    pub(crate) pins: Pins,
}

/// The changes of one request: they share a main revision.
#[derive(Debug)]
pub(crate) struct Write {
    main: i64,
    sub: i64,
}

impl Write {
    /// Changes so far.
    pub fn changes(&self) -> i64 {
        self.sub
    }

    fn next(&mut self) -> Revision {
        let revision = Revision::new(self.main, self.sub);
        self.sub += 1;
        revision
    }

    /// The main revision of the request's changes.
    pub fn upcoming(&self) -> i64 {
        self.main
    }

    /// The newest revision that can be seen: the request's own from its first change on.
    pub fn current(&self) -> i64 {
        if self.sub > 0 { self.main } else { self.main - 1 }
    }
}

impl<T: Trees> Store<T> {
    /// An open store, before its content is read: see `open`.
    pub(crate) fn empty(trees: T, config: StoreConfig) -> Self {
        Self {
            trees,
            index: KeyIndex::new(),
            lessor: Lessor::new(config.lessor),
            alarms: Alarms::default(),
            auth: Auth::default(),
            v2: Tree::default(),
            following: None,
            sign_ins: Vec::new(),
            quota: Quota::new(config.quota_bytes),
            events: EventBatchBuilder::new(EventMode::Off, 1),
            revision: 1,
            compact_revision: -1,
            compactions: VecDeque::new(),
            finished_compact_revision: -1,
            compaction_hashes: Vec::new(),
            config,
            applied: EntryId::default(),
            counters: Counters::default(),
            scratch: Vec::new(),
            spare: Spare::default(),
            pins: Pins::default(),
        }
    }

    /// The current revision. 1 if nothing was ever written.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision below which history is gone, -1 if nothing was ever compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The last entry that was begun, as stored with the data.
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// Starts a Raft entry: what is applied from now on becomes durable together with this id. Entries without commands
    /// are begun too. Panics unless the index grows: an entry applied twice would break the store silently.
    pub fn begin_entry(&mut self, id: EntryId) -> Result<(), StoreError> {
        assert!(id.index > self.applied.index, "entry {} after entry {}", id.index, self.applied.index);
        assert!(id.term >= self.applied.term, "terms only grow");
        self.trees.insert(TreeId::Meta, meta::APPLIED, &id.encode())?;
        self.applied = id;
        Ok(())
    }

    /// Applies a command that nobody asked for at once. `now` only feeds lease deadlines.
    pub fn apply(&mut self, command: CommandRef<'_>, now: Millis) -> Result<Outcome, Error> {
        self.apply_at_once(None, command, now, true)
    }

    /// As [`Store::apply`], on behalf of the command's author.
    pub fn apply_for(
        &mut self,
        author: Option<Author<'_>>,
        command: CommandRef<'_>,
        now: Millis,
    ) -> Result<Outcome, Error> {
        self.apply_at_once(author, command, now, true)
    }

    /// As [`Store::apply`] for a command nobody waits for: the outcome's body stays empty.
    pub fn apply_silently(&mut self, command: CommandRef<'_>, now: Millis) -> Result<Outcome, Error> {
        self.apply_at_once(None, command, now, false)
    }

    fn apply_at_once(
        &mut self,
        author: Option<Author<'_>>,
        command: CommandRef<'_>,
        now: Millis,
        reply: bool,
    ) -> Result<Outcome, Error> {
        let outcome =
            self.apply_step(&mut Job::default(), (author, command), now, reply, &mut { Budget::UNBOUNDED })?;
        Ok(outcome.expect("an unbounded step is the last"))
    }

    /// Applies what needs no steps.
    pub(crate) fn apply_short(&mut self, command: CommandRef<'_>, now: Millis, reply: bool) -> Result<Outcome, Error> {
        let mut body = Vec::new();
        let out = reply.then_some(&mut body);
        match command {
            CommandRef::Put(put) => {
                let revision = self.apply_put(put, out)?;
                return Ok(Outcome { revision, body: body.into() });
            }
            CommandRef::Compact(compact) => self.schedule_compaction(compact.revision.to_native())?,
            CommandRef::LeaseGrant(grant) => {
                self.apply_lease_grant(grant.id.to_native(), grant.ttl.to_native(), now, out)?;
            }
            CommandRef::LeaseCheckpoint(told) => {
                if told.term.to_native() == self.applied.term {
                    self.apply_lease_checkpoints(&told.checkpoints, now)?;
                }
            }
            CommandRef::Alarm(alarm) => self.apply_alarm(alarm, out)?,
            CommandRef::SetMemberAttributes(attributes) => self.apply_member_attributes(attributes)?,
            CommandRef::SetClusterVersion(version) => {
                self.trees.insert(TreeId::Meta, meta::CLUSTER_VERSION, version.as_bytes())?;
                self.note_cluster_change()?;
            }
            CommandRef::SetDowngrade(downgrade) => self.apply_downgrade(downgrade)?,
            CommandRef::Auth(change) => self.apply_auth_change(change)?,
            CommandRef::Authenticate(request) => self.apply_authenticate(request, out)?,
            CommandRef::Follow(change) => self.apply_follow(change)?,
            // Of an earlier term: its leader may have extended the lease since.
            CommandRef::Noop | CommandRef::LeaseExpire(_) => {}
            CommandRef::DeleteRange(_) | CommandRef::Txn(_) | CommandRef::LeaseRevoke(_) | CommandRef::V2(_) => {
                unreachable!("these are applied in steps")
            }
        }
        Ok(Outcome { revision: self.revision, body: body.into() })
    }

    pub(crate) fn begin_write(&self) -> Write {
        Write { main: self.revision + 1, sub: 0 }
    }

    pub(crate) fn end_write(&mut self, write: &Write) -> i64 {
        assert!(write.main == self.revision + 1, "nothing else is written while a request writes");
        self.revision = write.current();
        assert!(self.compact_revision <= self.revision, "history ends before the present");
        self.revision
    }

    fn apply_put(&mut self, put: &ArchivedPut, reply: Option<&mut Vec<u8>>) -> Result<i64, Error> {
        let has_room = self.has_room(put.cost());
        self.check_put(put)?;
        let mut write = self.begin_write();
        self.write_put(&mut write, put, reply)?;
        let revision = self.end_write(&write);
        if has_room { Ok(revision) } else { Err(OpError::NoSpace.into()) }
    }

    /// What a put needs of the state before the request: first its lease, then what it keeps.
    pub(crate) fn check_put(&self, put: &ArchivedPut) -> Result<(), OpError> {
        let lease = put.lease.to_native();
        if lease != 0 && !self.lessor.contains(lease) {
            return Err(OpError::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.index.get(&put.key).is_none_or(|entry| !entry.is_live()) {
            return Err(OpError::KeyNotFound);
        }
        Ok(())
    }

    /// Stores a pair; `reply` gets field `prev_kv` of the response if it was asked for.
    pub(crate) fn write_put(
        &mut self,
        write: &mut Write,
        put: &ArchivedPut,
        reply: Option<&mut Vec<u8>>,
    ) -> Result<(), StoreError> {
        assert!(write.upcoming() == self.revision + 1, "nothing else is written while a request writes");
        let revision = write.next();
        let reply = reply.filter(|_| put.prev_kv);
        let (before, after) = self.index.put(&put.key, revision);
        assert!(after.revision == revision && after.version > 0, "a put is the newest of its key, and live");
        assert!(before.is_none_or(|before| before.version + 1 == after.version), "versions count puts");
        let wants_before = put.ignore_value || put.ignore_lease || reply.is_some() || self.events.wants_prev();
        let before = match before {
            Some(head) if wants_before => Some(pair(&self.trees, head.revision)?),
            _ => None,
        };
        let (mut value, mut lease) = (&put.value[..], put.lease.to_native());
        if put.ignore_value || put.ignore_lease {
            // The key existed before the request, but a delete in the same txn may have taken it (through the hole in the
            // duplicate check; etcd crashes on that): then there is nothing to keep.
            let before = before.map(|before| decode(before, revision)).transpose()?.unwrap_or_default();
            value = if put.ignore_value { before.value } else { value };
            lease = if put.ignore_lease { before.lease } else { lease };
        }
        let stored = KeyValue {
            key: &put.key,
            create_revision: after.create,
            mod_revision: revision.main,
            version: after.version,
            value,
            lease,
        };
        self.scratch.clear();
        stored.encode_into(&mut self.scratch);
        self.counters.puts += 1;
        self.counters.put_bytes += (put.key.len() + value.len()) as u64;
        if let (Some(out), Some(before)) = (reply, before) {
            kv_codec::put_message_field(out, 0x12, before);
        }
        if self.events.is_on() {
            let is_create = after.create == revision.main;
            self.events.put(revision.main, revision.sub, is_create, &self.scratch, before.filter(|_| !is_create));
        }
        self.trees.insert(TreeId::Rev, &RevKey::put(revision), &self.scratch)?;
        // A lease kept by `ignore_lease` may be unknown if the data came from elsewhere; then the key just stays.
        let attached = self.lessor.attach(lease, &put.key);
        assert!(attached.is_ok() || put.ignore_lease, "leases are checked before the request");
        Ok(())
    }

    fn apply_lease_grant(&mut self, id: i64, ttl: i64, now: Millis, out: Option<&mut Vec<u8>>) -> Result<(), Error> {
        let has_room = self.has_room(LEASE_COST);
        let ttl = self.lessor.grant(id, ttl, now).map_err(refused)?;
        self.counters.leases_granted += 1;
        self.store_lease(id)?;
        if let Some(out) = out {
            kv_codec::put_int_field(out, 0x10, id);
            kv_codec::put_int_field(out, 0x18, ttl);
        }
        if has_room { Ok(()) } else { Err(OpError::NoSpace.into()) }
    }

    /// Leases that are gone by now are passed over, as in etcd.
    fn apply_lease_checkpoints(&mut self, told: &[ArchivedLeaseCheckpoint], now: Millis) -> Result<(), StoreError> {
        for checkpoint in told {
            let id = checkpoint.id.to_native();
            if self.lessor.checkpoint(id, checkpoint.remaining_ttl.to_native(), now) {
                self.store_lease(id)?;
            }
        }
        Ok(())
    }

    pub(crate) fn store_lease(&mut self, id: i64) -> Result<(), StoreError> {
        let (ttl, remaining_ttl) = self.lessor.stored_ttl(id).expect("the caller knows the lease");
        self.scratch.clear();
        kv_codec::put_int_field(&mut self.scratch, 0x08, id);
        kv_codec::put_int_field(&mut self.scratch, 0x10, ttl);
        kv_codec::put_int_field(&mut self.scratch, 0x18, remaining_ttl);
        Ok(self.trees.insert(TreeId::Lease, &id.to_be_bytes(), &self.scratch)?)
    }

    /// Stored as `membershippb.Attributes` under the member's id, 8 bytes big-endian, followed by `a`.
    fn apply_member_attributes(&mut self, attributes: &ArchivedMemberAttributes) -> Result<(), StoreError> {
        let mut key = attributes.member.to_native().to_be_bytes().to_vec();
        key.push(b'a');
        self.scratch.clear();
        kv_codec::put_bytes_field(&mut self.scratch, 0x0a, attributes.name.as_bytes());
        for url in attributes.client_urls.iter() {
            kv_codec::put_message_field(&mut self.scratch, 0x12, url.as_bytes());
        }
        self.trees.insert(TreeId::Members, &key, &self.scratch)?;
        self.note_cluster_change()
    }

    fn apply_downgrade(&mut self, downgrade: &ArchivedDowngrade) -> Result<(), StoreError> {
        if downgrade.enabled {
            self.trees.insert(TreeId::Meta, meta::DOWNGRADE, downgrade.target_version.as_bytes())?;
        } else {
            self.trees.remove(TreeId::Meta, meta::DOWNGRADE)?;
        }
        Ok(())
    }

    /// A value of tree `Meta`.
    pub fn meta(&self, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.trees.get(TreeId::Meta, key)?)
    }

    /// Sets a value of tree `Meta`. Durable with the entry being applied; what is not replicated must not depend on it.
    pub fn set_meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        Ok(self.trees.insert(TreeId::Meta, key, value)?)
    }

    /// Chooses what is collected for watchers. Between entries only.
    pub fn set_event_mode(&mut self, mode: EventMode) {
        self.events.set_mode(mode);
    }

    /// The events since the last call: of one entry, if called after each. Not to be called amid a revision.
    pub fn take_events(&mut self) -> EventBatch {
        assert!(!self.is_amid_revision(), "watchers are told of a revision at once");
        self.events.finish(self.revision)
    }

    /// The trees, for flushing and for what the server itself stores.
    pub fn trees(&self) -> &T {
        &self.trees
    }

    /// The trees, for flushing and for what the server itself stores.
    pub fn trees_mut(&mut self) -> &mut T {
        &mut self.trees
    }

    /// Leases.
    pub fn leases(&self) -> &Lessor {
        &self.lessor
    }

    /// Leases, for the leader's business with deadlines. Grants and revokes go through commands.
    pub fn leases_mut(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    /// Counts since the store was opened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Number of keys that exist at the current revision.
    pub fn live_keys(&self) -> u64 {
        self.index.live_keys()
    }

    /// Memory behind the key index.
    pub fn index_bytes(&self) -> usize {
        self.index.heap_bytes()
    }
}

pub(crate) fn refused(error: LeaseError) -> OpError {
    match error {
        LeaseError::Exists => OpError::LeaseExists,
        LeaseError::TtlTooLarge => OpError::LeaseTtlTooLarge,
        LeaseError::NotFound | LeaseError::NotPrimary => OpError::LeaseNotFound,
    }
}
