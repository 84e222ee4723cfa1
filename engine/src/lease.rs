//! Leases: which exist, which keys hang on them, and (on the leader) when they end.
//!
//! Pure: the caller passes `now`, and takes away the work to do (leases to revoke, checkpoints to propose).
//!
//! Invariants: a key has at most one lease; while the lessor is promoted every lease is exactly once in either `deadlines`
//! or `revoking`, and otherwise in neither; what a member knows of ids, TTLs and attached keys depends on the applied log
//! alone, only the deadlines are the leader's own.
//! Not here: persistence (the store writes tree `Lease`, keys carry their lease), replication of grants and revokes,
//! and choosing ids.

use plinth_api::limits::TTL_MAX_SECONDS;
use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::budget::Budget;
use crate::sort::MergeSort;

/// A point in monotonic time, in milliseconds since an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Later than anything.
    pub const FOREVER: Millis = Millis(u64::MAX);

    /// This point plus a span; sticks at the far end.
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// What is left of a lease without deadline: the largest span that fits 63 bits of nanoseconds.
const FOREVER_SECONDS: i64 = i64::MAX / 1_000_000_000;
/// Leases are looked through for expiry in windows of this length.
pub const EXPIRY_PASS_MILLIS: u64 = 500;
/// At most so many leases are found expired per window, so that a crowd leaves most of the log to others.
pub const EXPIRIES_PER_PASS: usize = 2_000;
/// At most so many revokes are under way at a time. Those that are found together share an entry of the log.
pub const REVOKES_PENDING_MAX: usize = 1_000;
/// A revoke that has not been applied for this long is proposed again.
pub const REVOKE_RETRY_MILLIS: u64 = 3_000;
/// From this many leases on, promotion spreads the deadlines.
pub const SPREAD_LEASES_MIN: usize = 1_000;
/// When spread, at most so many deadlines fall into one second: three quarters of what expiry can do. More if there are
/// so many leases that some would live for longer than [`SPREAD_MAX_MILLIS`] beyond their time.
pub const SPREAD_PER_SECOND: usize = 3_000;
/// Spreading adds no more than this to a deadline.
pub const SPREAD_MAX_MILLIS: u64 = 10_000;
/// At most so many checkpoints are proposed in one Raft entry.
pub const CHECKPOINTS_PER_ENTRY: usize = 1_000;

const _: () = assert!(SPREAD_PER_SECOND < EXPIRIES_PER_PASS * 1_000 / EXPIRY_PASS_MILLIS as usize);

/// Settings of a lessor.
#[derive(Clone, Copy, Debug)]
pub struct LessorConfig {
    /// Smaller requested TTLs are raised to this.
    pub ttl_min_seconds: i64,
    /// How often the remaining TTL of long leases is checkpointed; `None` turns checkpoints off.
    pub checkpoint_interval_seconds: Option<i64>,
}

impl LessorConfig {
    /// The minimum TTL that goes with an election timeout: one and a half timeouts, rounded up to whole seconds.
    pub fn for_election_timeout(election_timeout_millis: u64) -> Self {
        let ttl_min_seconds = (3 * election_timeout_millis).div_ceil(2_000).max(1) as i64;
        Self { ttl_min_seconds, checkpoint_interval_seconds: None }
    }
}

/// Why a lease operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaseError {
    /// No lease has this id.
    #[error("requested lease not found")]
    NotFound,
    /// The id is taken.
    #[error("lease already exists")]
    Exists,
    /// The TTL is beyond [`TTL_MAX_SECONDS`].
    #[error("too large lease TTL")]
    TtlTooLarge,
    /// Only the leader knows deadlines.
    #[error("not the primary lessor")]
    NotPrimary,
}

/// Result of a keep-alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// The lease has its full TTL again.
    Renewed {
        /// The granted TTL in seconds.
        ttl: i64,
        /// A checkpoint of a shorter remaining TTL is recorded, or on its way: the lease is renewed for whoever leads next
        /// only when one with remaining TTL 0 is applied, in this leader's term. Nobody may be told before.
        clear_checkpoint: bool,
    },
    /// The lease ran out and its revoke is on the way: wait for it, then answer as if the lease were unknown.
    Expired,
}

/// What `LeaseTimeToLive` tells, keys aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeToLive {
    /// Whole seconds left, truncated toward zero; negative if the lease ran out more than a second ago.
    pub remaining_seconds: i64,
    /// The granted TTL in seconds.
    pub granted_seconds: i64,
}

/// The remaining TTL of a lease at some moment, to be replicated so that a new leader does not start over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    pub id: i64,
    /// Seconds left, rounded up; 0 clears an earlier checkpoint.
    pub remaining_ttl: i64,
}

#[derive(Debug)]
struct Lease {
    ttl: i64,
    /// Seconds left at the last checkpoint, 0 if there is none.
    remaining_ttl: i64,
    /// A checkpoint was proposed and none of 0 was applied since. Known to the leader who proposed it.
    is_checkpointed: bool,
    /// When the lease runs out; [`Millis::FOREVER`] unless promoted.
    deadline: Millis,
    /// When the next checkpoint is due; [`Millis::FOREVER`] if none is planned.
    checkpoint_at: Millis,
    /// The revoke was proposed, and counts as lost from then on: the lease is in `revoking`, no longer in `deadlines`.
    /// [`Millis::FOREVER`] if none was.
    retry_at: Millis,
    /// Attached keys, as indices into `Attachments::items`.
    items: Vec<u32>,
}

impl Lease {
    fn is_revoking(&self) -> bool {
        self.retry_at != Millis::FOREVER
    }

    fn seconds_after_promotion(&self) -> i64 {
        if self.remaining_ttl > 0 { self.remaining_ttl } else { self.ttl }
    }
}

/// The keys of a lease that was revoked, on their way out.
#[derive(Debug)]
pub(crate) struct Revoked {
    id: i64,
    items: Vec<u32>,
    sort: MergeSort<u32>,
    next: usize,
}

/// All leases of a store.
#[derive(Debug)]
pub struct Lessor {
    config: LessorConfig,
    promoted: bool,
    leases: FxHashMap<i64, Lease>,
    attachments: Attachments,
    deadlines: BTreeSet<(Millis, i64)>,
    checkpoints: BTreeSet<(Millis, i64)>,
    /// Leases whose revoke is under way, with the time at which it counts as lost. At most [`REVOKES_PENDING_MAX`].
    revoking: BTreeSet<(Millis, i64)>,
    pass_ends: Millis,
    pass_budget: usize,
}

impl Lessor {
    /// A lessor without leases, not promoted.
    pub fn new(config: LessorConfig) -> Self {
        assert!(config.ttl_min_seconds > 0, "a lease lives at least a second");
        assert!(config.checkpoint_interval_seconds.is_none_or(|s| s > 0), "checkpoints have a positive interval");
        Self {
            config,
            promoted: false,
            leases: FxHashMap::default(),
            attachments: Attachments::default(),
            deadlines: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            revoking: BTreeSet::new(),
            pass_ends: Millis(0),
            pass_budget: EXPIRIES_PER_PASS,
        }
    }

    /// Number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are no leases.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Whether the lease exists.
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Whether this member decides about expiry.
    pub fn is_promoted(&self) -> bool {
        self.promoted
    }

    /// Adds a lease and returns its TTL, which is at least the configured minimum.
    pub fn grant(&mut self, id: i64, ttl: i64, now: Millis) -> Result<i64, LeaseError> {
        if id == 0 {
            return Err(LeaseError::NotFound);
        }
        if ttl > TTL_MAX_SECONDS {
            return Err(LeaseError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(LeaseError::Exists);
        }
        let ttl = ttl.max(self.config.ttl_min_seconds);
        self.insert(id, ttl, 0);
        if self.promoted {
            let deadline = now.plus(span_millis(ttl));
            self.leases.get_mut(&id).expect("just inserted").deadline = deadline;
            assert!(
                self.deadlines.insert((deadline, id)),
                "the deadline of an earlier lease of this id was left behind"
            );
            self.plan_checkpoint(id, now);
        }
        Ok(ttl)
    }

    /// Adds a lease as it was stored, while opening. Keys are attached afterwards.
    pub fn restore(&mut self, id: i64, ttl: i64, remaining_ttl: i64) {
        assert!(!self.promoted, "leases are restored before serving");
        self.insert(id, ttl.max(self.config.ttl_min_seconds), remaining_ttl);
    }

    /// Takes over a lease of a cluster that is followed, or the TTL that it has there.
    pub(crate) fn adopt(&mut self, id: i64, ttl: i64) {
        assert!(!self.promoted, "nobody here decides about leases while another cluster does");
        let ttl = ttl.max(self.config.ttl_min_seconds);
        match self.leases.get_mut(&id) {
            Some(lease) => (lease.ttl, lease.remaining_ttl) = (ttl, 0),
            None => self.insert(id, ttl, 0),
        }
    }

    /// Forgets a lease that has no keys; whether it has.
    pub(crate) fn drop_unused(&mut self, id: i64) -> bool {
        assert!(!self.promoted, "nobody here decides about leases while another cluster does");
        let is_unused = self.leases.get(&id).is_some_and(|lease| lease.items.is_empty());
        if is_unused {
            self.leases.remove(&id);
        }
        is_unused
    }

    /// Every lease has its whole TTL; those of which that was not so.
    pub(crate) fn forget_remaining(&mut self) -> Vec<i64> {
        let shortened = self.leases.iter_mut().filter(|(_, lease)| lease.remaining_ttl != 0);
        let mut ids: Vec<i64> = shortened
            .map(|(&id, lease)| {
                lease.remaining_ttl = 0;
                id
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Removes a lease and returns its keys in order: the caller deletes them in one revision.
    pub fn revoke(&mut self, id: i64) -> Result<Vec<Box<[u8]>>, LeaseError> {
        let mut revoked = self.begin_revoke(id)?;
        assert!(self.sort_revoked(&mut revoked, &mut { Budget::UNBOUNDED }), "an unbounded step is the last");
        Ok(std::iter::from_fn(|| self.next_revoked(&mut revoked)).collect())
    }

    /// Removes a lease. Its keys, which may be many, are taken off it afterwards: nothing may be attached or detached
    /// before that is done.
    pub(crate) fn begin_revoke(&mut self, id: i64) -> Result<Revoked, LeaseError> {
        let lease = self.leases.remove(&id).ok_or(LeaseError::NotFound)?;
        if self.promoted {
            if lease.is_revoking() {
                assert!(self.revoking.remove(&(lease.retry_at, id)), "a lease whose revoke is under way is listed");
            } else {
                assert!(self.deadlines.remove(&(lease.deadline, id)), "a promoted lease is queued");
            }
            self.checkpoints.remove(&(lease.checkpoint_at, id));
        }
        Ok(Revoked { id, sort: MergeSort::new(lease.items.len()), items: lease.items, next: 0 })
    }

    /// Sorts the keys of a revoked lease; true once that is done.
    pub(crate) fn sort_revoked(&self, revoked: &mut Revoked, budget: &mut Budget) -> bool {
        let key = |item: &u32| self.attachments.key(*item);
        revoked.sort.step(&mut revoked.items, &mut budget.visits, |a, b| key(a).cmp(key(b)))
    }

    /// Takes the next key, in order, off a lease that was revoked and whose keys are sorted.
    pub(crate) fn next_revoked(&mut self, revoked: &mut Revoked) -> Option<Box<[u8]>> {
        let item = *revoked.items.get(revoked.next)?;
        revoked.next += 1;
        let (key, lease, _) = self.attachments.remove(item);
        assert!(lease == revoked.id, "a key changed its lease while that was revoked");
        Some(key)
    }

    /// Hangs a key on a lease; a key that hung on another one moves. `id` 0 only detaches.
    #[inline]
    pub fn attach(&mut self, id: i64, key: &[u8]) -> Result<(), LeaseError> {
        if id == 0 {
            self.detach(key);
            return Ok(());
        }
        self.attach_to_lease(id, key)
    }

    fn attach_to_lease(&mut self, id: i64, key: &[u8]) -> Result<(), LeaseError> {
        if !self.leases.contains_key(&id) {
            return Err(LeaseError::NotFound);
        }
        match self.attachments.find(key) {
            Some(item) if self.attachments.lease(item) == id => return Ok(()),
            Some(item) => self.unhook(item),
            None => {}
        }
        let lease = self.leases.get_mut(&id).expect("looked up above");
        let item = self.attachments.insert(key, id, lease.items.len());
        lease.items.push(item);
        assert!(lease.items.len() <= self.attachments.len(), "a key hangs on one lease, and is counted once");
        Ok(())
    }

    /// Takes a key off its lease, if it has one. Costs one branch if no key has a lease.
    #[inline]
    pub fn detach(&mut self, key: &[u8]) {
        if self.attachments.is_empty() {
            return;
        }
        if let Some(item) = self.attachments.find(key) {
            self.unhook(item);
        }
    }

    /// Forgets an attachment: the last key of the lease takes the place of the one that leaves.
    fn unhook(&mut self, item: u32) {
        let (_, id, position) = self.attachments.remove(item);
        assert!(id != 0, "no key hangs on no lease");
        let items = &mut self.leases.get_mut(&id).expect("an attached key's lease exists").items;
        assert!(items.swap_remove(position) == item, "an attachment knows its place");
        if let Some(&moved) = items.get(position) {
            self.attachments.set_position(moved, position);
        }
    }

    /// The lease of a key.
    pub fn lease_of(&self, key: &[u8]) -> Option<i64> {
        if self.attachments.is_empty() {
            return None;
        }
        self.attachments.find(key).map(|item| self.attachments.lease(item))
    }

    /// The keys of a lease, unordered; none if the lease is unknown.
    pub fn keys(&self, id: i64) -> impl Iterator<Item = &[u8]> {
        self.leases.get(&id).into_iter().flat_map(|lease| lease.items.iter().map(|&item| self.attachments.key(item)))
    }

    /// Number of keys attached to any lease.
    pub fn attached_keys(&self) -> usize {
        self.attachments.len()
    }

    /// Keep-alive.
    pub fn renew(&mut self, id: i64, now: Millis) -> Result<Renewal, LeaseError> {
        if !self.promoted {
            return Err(LeaseError::NotPrimary);
        }
        let lease = self.leases.get_mut(&id).ok_or(LeaseError::NotFound)?;
        if lease.is_revoking() || lease.deadline <= now {
            return Ok(Renewal::Expired);
        }
        let clear_checkpoint = lease.remaining_ttl > 0 || lease.is_checkpointed;
        // Not lazily, which would be cheaper here: leases granted together would be found still alive together, too.
        assert!(self.deadlines.remove(&(lease.deadline, id)), "a promoted lease is queued");
        lease.deadline = now.plus(span_millis(lease.ttl));
        assert!(lease.deadline > now, "a lease that was just renewed lives");
        assert!(self.deadlines.insert((lease.deadline, id)), "a lease waits for one deadline");
        let ttl = lease.ttl;
        Ok(Renewal::Renewed { ttl, clear_checkpoint })
    }

    /// Remaining and granted TTL.
    pub fn time_to_live(&self, id: i64, now: Millis) -> Result<TimeToLive, LeaseError> {
        let lease = self.leases.get(&id).ok_or(LeaseError::NotFound)?;
        let left = i128::from(lease.deadline.0) - i128::from(now.0);
        // The clock has passed `now` by a part of a millisecond, always: of 90 seconds just granted, 89 whole ones are left.
        let left = if left > 0 { left - 1 } else { left };
        let remaining_seconds = i64::try_from(left / 1_000).map_or(FOREVER_SECONDS, |s| s.min(FOREVER_SECONDS));
        Ok(TimeToLive { remaining_seconds, granted_seconds: lease.ttl })
    }

    /// Granted and checkpointed TTL, as persisted.
    pub fn stored_ttl(&self, id: i64) -> Option<(i64, i64)> {
        self.leases.get(&id).map(|lease| (lease.ttl, lease.remaining_ttl))
    }

    /// All leases, by deadline on the leader, by id elsewhere.
    pub fn leases(&self) -> Vec<i64> {
        let mut ids: Vec<(Millis, i64)> = self.leases.iter().map(|(&id, lease)| (lease.deadline, id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Becomes the one who decides about expiry: every lease gets its full (or checkpointed) TTL plus `extend_millis`,
    /// because nobody knows how long ago the last keep-alive was.
    pub fn promote(&mut self, now: Millis, extend_millis: u64) {
        self.demote();
        self.promoted = true;
        self.pass_ends = now;
        let mut deadlines: Vec<(Millis, i64)> = self
            .leases
            .iter()
            .map(|(&id, lease)| (now.plus(extend_millis).plus(span_millis(lease.seconds_after_promotion())), id))
            .collect();
        deadlines.sort_unstable();
        if deadlines.len() >= SPREAD_LEASES_MIN {
            spread(&mut deadlines);
        }
        for &(deadline, id) in &deadlines {
            self.leases.get_mut(&id).expect("listed above").deadline = deadline;
            self.plan_checkpoint(id, now);
        }
        self.deadlines = deadlines.into_iter().collect();
        assert!(self.deadlines.len() == self.leases.len(), "a lease without a deadline would live forever");
        assert!(self.revoking.is_empty(), "what an earlier leadership began to end is found expired again");
    }

    /// Stops deciding about expiry: leases live until somebody else ends them.
    pub fn demote(&mut self) {
        self.promoted = false;
        self.revoking.clear();
        self.deadlines.clear();
        self.checkpoints.clear();
        for lease in self.leases.values_mut() {
            lease.deadline = Millis::FOREVER;
            lease.checkpoint_at = Millis::FOREVER;
            lease.is_checkpointed = false;
            lease.retry_at = Millis::FOREVER;
        }
    }

    /// Appends the leases whose revoke has to be proposed now. May be called at any time; keeps to the limits per pass
    /// and of revokes under way by itself, and names a lease again if its revoke was not applied in time.
    pub fn expired(&mut self, now: Millis, out: &mut Vec<i64>) {
        if now >= self.pass_ends {
            self.pass_ends = now.plus(EXPIRY_PASS_MILLIS);
            self.pass_budget = EXPIRIES_PER_PASS;
        }
        let retry_at = now.plus(REVOKE_RETRY_MILLIS);
        while let Some(&(lost_at, id)) = self.revoking.first().filter(|(lost_at, _)| *lost_at <= now) {
            self.revoking.remove(&(lost_at, id));
            self.wait_for_revoke(id, retry_at);
            out.push(id);
        }
        while self.pass_budget > 0 && self.revoking.len() < REVOKES_PENDING_MAX {
            let Some(&(deadline, id)) = self.deadlines.first() else { return };
            if deadline > now {
                return;
            }
            self.deadlines.pop_first();
            self.wait_for_revoke(id, retry_at);
            self.pass_budget -= 1;
            out.push(id);
        }
        assert!(self.revoking.len() <= REVOKES_PENDING_MAX, "a crowd of leases would fill the log");
    }

    fn wait_for_revoke(&mut self, id: i64, retry_at: Millis) {
        assert!(self.promoted, "only who decides about expiry ends a lease");
        let lease = self.leases.get_mut(&id).expect("queued leases exist");
        assert!(lease.deadline < retry_at, "a lease that was renewed in the meantime is not ended");
        lease.retry_at = retry_at;
        assert!(self.revoking.insert((retry_at, id)), "a revoke is under way once");
    }

    /// When [`Self::expired`] may next have something to say, as far as deadlines go.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// Checkpoints that are due, at most [`CHECKPOINTS_PER_ENTRY`]; the caller proposes them.
    pub fn due_checkpoints(&mut self, now: Millis) -> Vec<Checkpoint> {
        let mut due = Vec::new();
        while due.len() < CHECKPOINTS_PER_ENTRY {
            let Some(&(at, id)) = self.checkpoints.first() else { break };
            if at > now {
                break;
            }
            self.checkpoints.pop_first();
            let lease = self.leases.get_mut(&id).expect("leases with checkpoints exist");
            assert!(lease.checkpoint_at == at, "a checkpoint that was planned anew is not due at its old time");
            let remaining_ttl =
                i64::try_from(lease.deadline.0.saturating_sub(now.0).div_ceil(1_000)).unwrap_or(i64::MAX);
            lease.checkpoint_at = Millis::FOREVER;
            if remaining_ttl > 0 && remaining_ttl < lease.ttl {
                // Paired with `Renewal::clear_checkpoint`: who is told that little is left has to be told when that changes.
                lease.is_checkpointed = true;
                due.push(Checkpoint { id, remaining_ttl });
            }
            self.plan_checkpoint(id, now);
        }
        due
    }

    /// Applies a replicated checkpoint. False if the lease is gone. One of 0 says that the lease was renewed: a leader
    /// who was promoted before it came so far has to take notice.
    pub fn checkpoint(&mut self, id: i64, remaining_ttl: i64, now: Millis) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        lease.remaining_ttl = remaining_ttl;
        if remaining_ttl == 0 {
            lease.is_checkpointed = false;
            let deadline = now.plus(span_millis(lease.ttl));
            if self.promoted && !lease.is_revoking() && lease.deadline < deadline {
                assert!(self.deadlines.remove(&(lease.deadline, id)), "a promoted lease is queued");
                lease.deadline = deadline;
                assert!(self.deadlines.insert((deadline, id)), "a lease waits for one deadline");
            }
        }
        true
    }

    fn insert(&mut self, id: i64, ttl: i64, remaining_ttl: i64) {
        let lease = Lease {
            ttl,
            remaining_ttl,
            is_checkpointed: false,
            deadline: Millis::FOREVER,
            checkpoint_at: Millis::FOREVER,
            retry_at: Millis::FOREVER,
            items: Vec::new(),
        };
        let old = self.leases.insert(id, lease);
        assert!(old.is_none(), "lease ids are unique");
    }

    fn plan_checkpoint(&mut self, id: i64, now: Millis) {
        let Some(interval) = self.config.checkpoint_interval_seconds else { return };
        let lease = self.leases.get_mut(&id).expect("the caller knows the lease");
        if lease.ttl <= interval {
            return;
        }
        assert!(lease.checkpoint_at == Millis::FOREVER, "a second plan would leave the first behind");
        lease.checkpoint_at = now.plus(span_millis(interval));
        self.checkpoints.insert((lease.checkpoint_at, id));
    }
}

/// Moves deadlines, which are in order, apart: so many as expiry can do fall into a second. They stay in order.
fn spread(deadlines: &mut [(Millis, i64)]) {
    let seconds = (SPREAD_MAX_MILLIS / 1_000) as usize;
    let per_second = SPREAD_PER_SECOND.max(deadlines.len().div_ceil(seconds));
    // A deadline is moved by a second at most for every `per_second` before it, so by no more than SPREAD_MAX_MILLIS.
    for i in per_second..deadlines.len() {
        deadlines[i].0 = deadlines[i].0.max(deadlines[i - per_second].0.plus(1_000));
    }
    assert!(deadlines.is_sorted_by_key(|&(at, _)| at), "who was to end first still does");
}

fn span_millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}

/// One attached key: held once, found by hash from the key and by index from its lease.
#[derive(Debug)]
struct Item {
    key: Box<[u8]>,
    lease: i64,
    /// Index in the lease's list.
    position: u32,
    /// Hash of the key, so that growing the table does not touch the keys.
    hash: u32,
}

/// Slots kept when the last key leaves; beyond, the memory is given back.
const ITEMS_KEPT: usize = 1024;

/// All attached keys. A slab, so that both directions need four bytes each.
#[derive(Debug, Default)]
struct Attachments {
    items: Vec<Item>,
    free: Vec<u32>,
    by_key: HashTable<u32>,
}

impl Attachments {
    fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn len(&self) -> usize {
        self.by_key.len()
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        self.by_key.find(widen(hash(key)), |&item| *self.items[item as usize].key == *key).copied()
    }

    fn key(&self, item: u32) -> &[u8] {
        &self.items[item as usize].key
    }

    fn lease(&self, item: u32) -> i64 {
        self.items[item as usize].lease
    }

    fn set_position(&mut self, item: u32, position: usize) {
        let item = &mut self.items[item as usize];
        assert!(position < item.position as usize, "the last key of a lease takes the place of one before it");
        item.position = index32(position);
    }

    fn insert(&mut self, key: &[u8], lease: i64, position: usize) -> u32 {
        let hash = hash(key);
        let item = Item { key: key.into(), lease, position: index32(position), hash };
        let index = match self.free.pop() {
            Some(index) => {
                self.items[index as usize] = item;
                index
            }
            None => {
                self.items.push(item);
                index32(self.items.len() - 1)
            }
        };
        let items = &self.items;
        self.by_key.insert_unique(widen(hash), index, |&other| widen(items[other as usize].hash));
        index
    }

    /// Returns key, lease and position.
    fn remove(&mut self, item: u32) -> (Box<[u8]>, i64, usize) {
        let slot = &mut self.items[item as usize];
        let (key, lease, position) = (std::mem::take(&mut slot.key), slot.lease, slot.position as usize);
        let entry =
            self.by_key.find_entry(widen(slot.hash), |&other| other == item).expect("attached keys are indexed");
        entry.remove();
        self.free.push(item);
        if self.by_key.is_empty() && self.items.len() > ITEMS_KEPT {
            *self = Self::default();
        }
        (key, lease, position)
    }
}

fn hash(key: &[u8]) -> u32 {
    (FxBuildHasher.hash_one(key) >> 32) as u32
}

/// 64 bits out of 32, for a table that uses both ends of a hash.
fn widen(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn index32(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 keys have leases")
}
