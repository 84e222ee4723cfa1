//! Reading ranges: every option of `RangeRequest`, in one go or in bounded steps.
//!
//! A range answers with the stored bytes of its pairs, each appended as a protobuf field; only `keys_only` encodes anew.
//! The default order is streamed from the index. Any other order has to collect what it sorts first: revisions and sort
//! keys, not pairs.
//!
//! A cursor is pinned at the revision of its first step. A compaction above that revision between two steps ends it with
//! `Compacted`, as etcd's RangeStream does.

use plinth_api::wire::put_varint;
use std::cmp::Ordering;
use std::ops::ControlFlow;

use crate::command::{ArchivedRange, Range, SortOrder, SortTarget};
use crate::error::{Error, OpError, StoreError};
use crate::index::{At, Entry, KeyRange};
use crate::kv_codec::{self, KeyValue};
use crate::revision::Revision;
use crate::store::{Store, decode, pair};
use crate::trees::Trees;

/// Tag of field `kvs` of `RangeResponse`.
const TAG_KVS: u8 = 0x12;

/// A range request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeQuery<'a> {
    /// First key.
    pub key: &'a [u8],
    /// End of the range, as in the API: empty for the one key, `\0` for everything from `key` on.
    pub range_end: &'a [u8],
    /// Most pairs to answer with; not positive for no limit.
    pub limit: i64,
    /// Revision to read at; not positive for the newest.
    pub revision: i64,
    /// Order of the result.
    pub sort_order: SortOrder,
    /// What to order by.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Inclusive lower bound of the mod revision; 0 for none.
    pub min_mod_revision: i64,
    /// Inclusive upper bound of the mod revision; 0 for none.
    pub max_mod_revision: i64,
    /// Inclusive lower bound of the create revision; 0 for none.
    pub min_create_revision: i64,
    /// Inclusive upper bound of the create revision; 0 for none.
    pub max_create_revision: i64,
}

macro_rules! query_from {
    ($($type:ty: $range:ident, $int:ident => $to_int:expr;)+) => {$(
        impl<'a> From<&'a $type> for RangeQuery<'a> {
            fn from($range: &'a $type) -> Self {
                let int = |$int| $to_int;
                Self {
                    key: &$range.key,
                    range_end: &$range.range_end,
                    limit: int($range.limit),
                    revision: int($range.revision),
                    sort_order: $range.sort_order.into(),
                    sort_target: $range.sort_target.into(),
                    keys_only: $range.keys_only,
                    count_only: $range.count_only,
                    min_mod_revision: int($range.min_mod_revision),
                    max_mod_revision: int($range.max_mod_revision),
                    min_create_revision: int($range.min_create_revision),
                    max_create_revision: int($range.max_create_revision),
                }
            }
        }
    )+};
}

query_from! {
    Range: range, int => int;
    ArchivedRange: range, int => rkyv::rend::unaligned::i64_ule::to_native(int);
}

/// What a range found, besides the pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeSummary {
    /// The store's revision when the range was read, for the header.
    pub revision: i64,
    /// Keys of the range at the revision read, limit and filters aside.
    pub count: i64,
    /// The limit cut the result.
    pub more: bool,
    /// Pairs appended.
    pub kvs: usize,
}

impl RangeSummary {
    /// Appends fields `more` and `count` of `RangeResponse`.
    pub fn append_fields(&self, out: &mut Vec<u8>) {
        kv_codec::put_int_field(out, 0x18, i64::from(self.more));
        kv_codec::put_int_field(out, 0x20, self.count);
    }
}

/// How much one step may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Pairs to append.
    pub pairs: usize,
    /// Bytes to append; the pair that reaches the bound is still appended.
    pub bytes: usize,
    /// Keys to look at, whether they are appended or not.
    pub visits: usize,
}

impl Budget {
    /// No bound.
    pub const UNBOUNDED: Budget = Budget { pairs: usize::MAX, bytes: usize::MAX, visits: usize::MAX };
    /// Less than 100 µs of work.
    pub const STEP: Budget = Budget { pairs: 200, bytes: 128 << 10, visits: 800 };
}

/// Progress of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// That was all.
    Done(RangeSummary),
}

/// A range being read in steps.
#[derive(Debug)]
pub struct RangeCursor {
    key: Vec<u8>,
    range_end: Vec<u8>,
    plan: Plan,
    progress: Progress,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Appending in key order; continues at the key.
    Stream(Vec<u8>),
    /// Collecting what has to be sorted; continues at the key.
    Collect(Vec<u8>, Vec<Item>),
    /// Appending what was sorted; continues at the index.
    Emit(Vec<Item>, usize),
    Done,
}

/// A pair to be sorted.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Number to sort by; for values, their first eight bytes.
    rank: u64,
    revision: Revision,
}

/// A query, resolved.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Revision to read at.
    at: i64,
    /// Revision for the header.
    header: i64,
    limit: usize,
    /// How many pairs are collected before sorting. With an explicit order or a filter, all; else the limit is applied
    /// in key order, and one more to tell whether it cut anything.
    collect_max: usize,
    order: SortOrder,
    target: SortTarget,
    keys_only: bool,
    count_only: bool,
    filter: Filter,
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

impl Filter {
    fn is_on(&self) -> bool {
        (self.min_mod | self.max_mod | self.min_create | self.max_create) != 0
    }

    fn passes(&self, mod_revision: i64, create_revision: i64) -> bool {
        let inside = |at, min, max| (min == 0 || at >= min) && (max == 0 || at <= max);
        inside(mod_revision, self.min_mod, self.max_mod) && inside(create_revision, self.min_create, self.max_create)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    kvs: usize,
    /// Live keys passed.
    seen: u64,
    more: bool,
}

impl Plan {
    fn new(query: &RangeQuery<'_>, at: i64, header: i64) -> Self {
        // A target other than the key means ascending order if none is given. (But then the limit comes first.)
        let order = match (query.sort_order, query.sort_target) {
            (SortOrder::None, SortTarget::Key) | (SortOrder::Ascend, SortTarget::Key) => SortOrder::None,
            (SortOrder::None, _) => SortOrder::Ascend,
            (order, _) => order,
        };
        let filter = Filter {
            min_mod: query.min_mod_revision,
            max_mod: query.max_mod_revision,
            min_create: query.min_create_revision,
            max_create: query.max_create_revision,
        };
        let limit = usize::try_from(query.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
        let collects_all = query.sort_order != SortOrder::None || filter.is_on();
        Self {
            at,
            header,
            limit,
            collect_max: if collects_all { usize::MAX } else { limit.saturating_add(1) },
            order,
            target: query.sort_target,
            keys_only: query.keys_only,
            count_only: query.count_only,
            filter,
        }
    }
}

impl<T: Trees> Store<T> {
    /// Reads a range at once, appending each pair to `out` as field `kvs` of `RangeResponse`.
    pub fn range(&self, query: &RangeQuery<'_>, out: &mut Vec<u8>) -> Result<RangeSummary, Error> {
        self.range_seen_from(query, self.revision, out)
    }

    /// As [`Store::range`], where `current` is the newest revision to be seen: a txn sees its own changes.
    pub(crate) fn range_seen_from(
        &self,
        query: &RangeQuery<'_>,
        current: i64,
        out: &mut Vec<u8>,
    ) -> Result<RangeSummary, Error> {
        let plan = self.plan(query, current)?;
        let range = KeyRange::new(query.key, query.range_end);
        if plan.count_only {
            return Ok(self.counted(range, &plan));
        }
        if let (KeyRange::One(key), false) = (range, plan.filter.is_on()) {
            return self.range_one(key, &plan, out);
        }
        let mut progress = Progress::default();
        if plan.order == SortOrder::None {
            let stopped = self.stream(range, &plan, &mut progress, Budget::UNBOUNDED, out)?;
            assert!(stopped.is_none(), "an unbounded step is the last");
            return Ok(self.summary(range, &plan, &progress));
        }
        let mut items = Vec::new();
        let stopped = self.collect(range, &plan, &mut items, Budget::UNBOUNDED)?;
        assert!(stopped.is_none(), "an unbounded step is the last");
        self.sort(&mut items, &plan)?;
        progress.more = items.len() > plan.limit;
        items.truncate(plan.limit);
        let emitted = self.emit(&items, &plan, &mut progress, Budget::UNBOUNDED, out)?;
        assert!(emitted == items.len(), "an unbounded step is the last");
        Ok(self.summary(range, &plan, &progress))
    }

    /// Starts reading a range in steps, pinned at the present revision if the query names none.
    pub fn range_start(&self, query: &RangeQuery<'_>) -> Result<RangeCursor, OpError> {
        let plan = self.plan(query, self.revision)?;
        let start = query.key.to_vec();
        let state = match plan.order {
            SortOrder::None => State::Stream(start),
            _ => State::Collect(start, Vec::new()),
        };
        let (key, range_end) = (query.key.to_vec(), query.range_end.to_vec());
        Ok(RangeCursor { key, range_end, plan, progress: Progress::default(), state })
    }

    /// Does one step, appending pairs as [`Store::range`] does. Must not be called again once done.
    pub fn range_step(&self, cursor: &mut RangeCursor, budget: Budget, out: &mut Vec<u8>) -> Result<Step, Error> {
        let RangeCursor { key, range_end, plan, progress, state } = cursor;
        if plan.at < self.compact_revision {
            return Err(OpError::Compacted.into());
        }
        let range = KeyRange::new(key, range_end);
        if plan.count_only {
            *state = State::Done;
            return Ok(Step::Done(self.counted(range, plan)));
        }
        match state {
            State::Stream(from) => {
                if let Some(next) = self.stream(range.from_key(from), plan, progress, budget, out)? {
                    *from = next;
                    return Ok(Step::More);
                }
            }
            State::Collect(from, items) => {
                if let Some(next) = self.collect(range.from_key(from), plan, items, budget)? {
                    *from = next;
                    return Ok(Step::More);
                }
                self.sort(items, plan)?;
                progress.more = items.len() > plan.limit;
                items.truncate(plan.limit);
                *state = State::Emit(std::mem::take(items), 0);
                return Ok(Step::More);
            }
            State::Emit(items, next) => {
                *next += self.emit(&items[*next..], plan, progress, budget, out)?;
                if *next < items.len() {
                    return Ok(Step::More);
                }
            }
            State::Done => panic!("the range has been read"),
        }
        *state = State::Done;
        Ok(Step::Done(self.summary(range, plan, progress)))
    }

    fn plan(&self, query: &RangeQuery<'_>, current: i64) -> Result<Plan, OpError> {
        if query.revision > current {
            return Err(OpError::FutureRevision);
        }
        let at = if query.revision <= 0 { current } else { query.revision };
        if at < self.compact_revision {
            return Err(OpError::Compacted);
        }
        Ok(Plan::new(query, at, current))
    }

    fn counted(&self, range: KeyRange<'_>, plan: &Plan) -> RangeSummary {
        let count = self.index.count(range, plan.at) as i64;
        RangeSummary { revision: plan.header, count, ..RangeSummary::default() }
    }

    fn summary(&self, range: KeyRange<'_>, plan: &Plan, progress: &Progress) -> RangeSummary {
        let streamed_all = plan.order == SortOrder::None && !progress.more;
        let count = if streamed_all { progress.seen } else { self.index.count(range, plan.at) } as i64;
        RangeSummary { revision: plan.header, count, more: progress.more, kvs: progress.kvs }
    }

    fn range_one(&self, key: &[u8], plan: &Plan, out: &mut Vec<u8>) -> Result<RangeSummary, Error> {
        let found = self.index.get(key).and_then(|entry| entry.at(plan.at));
        if let Some(at) = found {
            self.append_pair(at, key, plan, out)?;
        }
        let count = usize::from(found.is_some());
        Ok(RangeSummary { revision: plan.header, count: count as i64, more: false, kvs: count })
    }

    /// Appends one pair. Keys alone come from the index if it knows them, and their leases from the lessor.
    fn append_pair(&self, at: At, key: &[u8], plan: &Plan, out: &mut Vec<u8>) -> Result<(), StoreError> {
        match at {
            At::Newest(head) if plan.keys_only => {
                let pair = KeyValue {
                    key,
                    create_revision: head.create,
                    mod_revision: head.revision.main,
                    version: head.version,
                    lease: self.lessor.lease_of(key).unwrap_or_default(),
                    ..KeyValue::default()
                };
                append_encoded(&pair, out);
            }
            _ => {
                let revision = at.revision();
                let bytes = pair(&self.trees, revision)?;
                if plan.keys_only {
                    let stored = decode(bytes, revision)?;
                    append_encoded(&KeyValue { value: b"", ..stored }, out);
                } else {
                    kv_codec::put_message_field(out, TAG_KVS, bytes);
                }
            }
        }
        Ok(())
    }

    /// Whether a pair passes the filters.
    fn passes(&self, at: At, filter: &Filter) -> Result<bool, StoreError> {
        if !filter.is_on() {
            return Ok(true);
        }
        Ok(match at {
            At::Newest(head) => filter.passes(head.revision.main, head.create),
            At::Older(revision) => {
                let stored = decode(pair(&self.trees, revision)?, revision)?;
                filter.passes(stored.mod_revision, stored.create_revision)
            }
        })
    }

    /// Appends pairs in key order. Returns the key to go on with if the budget ended first.
    fn stream(
        &self,
        range: KeyRange<'_>,
        plan: &Plan,
        progress: &mut Progress,
        budget: Budget,
        out: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (pairs_max, bytes_max) =
            (progress.kvs.saturating_add(budget.pairs), out.len().saturating_add(budget.bytes));
        self.walk(range, plan.at, budget.visits, |key, at| {
            if !self.passes(at, &plan.filter)? {
                progress.seen += 1;
                return Ok(Walk::On);
            }
            if progress.kvs >= plan.limit {
                progress.more = true;
                return Ok(Walk::End);
            }
            if progress.kvs >= pairs_max || out.len() >= bytes_max {
                return Ok(Walk::Pause);
            }
            self.append_pair(at, key, plan, out)?;
            progress.seen += 1;
            progress.kvs += 1;
            Ok(Walk::On)
        })
    }

    /// Collects the pairs to be sorted.
    fn collect(
        &self,
        range: KeyRange<'_>,
        plan: &Plan,
        items: &mut Vec<Item>,
        budget: Budget,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.walk(range, plan.at, budget.visits, |_, at| {
            if items.len() >= plan.collect_max {
                return Ok(Walk::End);
            }
            if self.passes(at, &plan.filter)? {
                items.push(Item { rank: self.rank(at, plan.target)?, revision: at.revision() });
            }
            Ok(Walk::On)
        })
    }

    fn rank(&self, at: At, target: SortTarget) -> Result<u64, StoreError> {
        let (version, create) = match (at, target) {
            (_, SortTarget::Key | SortTarget::Unknown) => return Ok(0),
            (_, SortTarget::Mod) => return Ok(at.revision().main as u64),
            (At::Newest(head), SortTarget::Version | SortTarget::Create) => (head.version, head.create),
            _ => {
                let revision = at.revision();
                let stored = decode(pair(&self.trees, revision)?, revision)?;
                if target == SortTarget::Value {
                    return Ok(leading_number(stored.value));
                }
                (stored.version, stored.create_revision)
            }
        };
        Ok(if target == SortTarget::Version { version } else { create } as u64)
    }

    /// Sorts collected pairs, which are in key order; equal ones stay in it.
    fn sort(&self, items: &mut [Item], plan: &Plan) -> Result<(), StoreError> {
        let is_descending = plan.order == SortOrder::Descend;
        if plan.target == SortTarget::Key {
            if is_descending {
                items.reverse();
            }
            return Ok(());
        }
        let mut broken = None;
        items.sort_by(|a, b| {
            let mut order = a.rank.cmp(&b.rank);
            if order.is_eq() && plan.target == SortTarget::Value {
                order = self.compare_values(a.revision, b.revision).unwrap_or_else(|error| {
                    broken = Some(error);
                    Ordering::Equal
                });
            }
            if is_descending { order.reverse() } else { order }
        });
        broken.map_or(Ok(()), Err)
    }

    fn compare_values(&self, a: Revision, b: Revision) -> Result<Ordering, StoreError> {
        let a = decode(pair(&self.trees, a)?, a)?;
        let b = decode(pair(&self.trees, b)?, b)?;
        Ok(a.value.cmp(b.value))
    }

    /// Appends sorted pairs; returns how many.
    fn emit(
        &self,
        items: &[Item],
        plan: &Plan,
        progress: &mut Progress,
        budget: Budget,
        out: &mut Vec<u8>,
    ) -> Result<usize, StoreError> {
        let bytes_max = out.len().saturating_add(budget.bytes);
        for (emitted, item) in items.iter().enumerate() {
            if emitted >= budget.pairs || out.len() >= bytes_max {
                return Ok(emitted);
            }
            self.append_pair(At::Older(item.revision), b"", plan, out)?;
            progress.kvs += 1;
        }
        Ok(items.len())
    }

    /// Visits the keys that exist at a revision. Returns where it paused.
    fn walk(
        &self,
        range: KeyRange<'_>,
        at: i64,
        visits: usize,
        mut each: impl FnMut(&[u8], At) -> Result<Walk, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut visited, mut paused, mut broken) = (0, None, None);
        let _ = self.index.visit(range, |key: &[u8], entry: &Entry| {
            if visited >= visits {
                paused = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            visited += 1;
            let Some(at) = entry.at(at) else { return ControlFlow::Continue(()) };
            match each(key, at) {
                Ok(Walk::On) => return ControlFlow::Continue(()),
                Ok(Walk::Pause) => paused = Some(key.to_vec()),
                Ok(Walk::End) => {}
                Err(error) => broken = Some(error),
            }
            ControlFlow::Break(())
        });
        broken.map_or(Ok(paused), Err)
    }
}

/// What to do after a key.
enum Walk {
    On,
    /// Stop before this key, to go on with it later.
    Pause,
    End,
}

fn append_encoded(pair: &KeyValue<'_>, out: &mut Vec<u8>) {
    out.push(TAG_KVS);
    put_varint(out, pair.encoded_len() as u64);
    pair.encode_into(out);
}

/// The first eight bytes as a number that sorts as they do.
fn leading_number(value: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = value.len().min(8);
    bytes[..len].copy_from_slice(&value[..len]);
    u64::from_be_bytes(bytes)
}
