//! Reading ranges: every option of `RangeRequest`, in one go or in bounded steps.
//!
//! A range answers with the stored bytes of its pairs, each appended as a protobuf field; only `keys_only` encodes anew.
//! The default order is streamed from the index. Any other order has to collect what it sorts first: revisions and sort
//! keys, not pairs.
//!
//! A cursor is pinned at the revision of its first step. A compaction above that revision between two steps ends it with
//! `Compacted`, as etcd's RangeStream does, unless the cursor keeps what it reads (see `pins`).

use plinth_api::wire::put_varint;
use std::ops::ControlFlow;

use crate::budget::Budget;
use crate::command::{ArchivedRange, Range, SortOrder, SortTarget};
use crate::error::{Error, OpError, StoreError};
use crate::index::{At, Entry, KeyRange};
use crate::kv_codec::{self, KeyValue};
use crate::pins::Pin;
use crate::record::{decode, pair};
use crate::sort::{Ranked, Ranking};
use crate::store::Store;
use crate::trees::Trees;

/// Tag of field `kvs` of `RangeResponse`.
const TAG_KVS: u8 = 0x12;

/// A range request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeQuery<'a> {
    pub key: &'a [u8],
    /// End of the range, as in the API: empty for the one key, `\0` for everything from `key` on.
    pub range_end: &'a [u8],
    /// Most pairs to answer with; not positive for no limit.
    pub limit: i64,
    /// Revision to read at; not positive for the newest.
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub keys_only: bool,
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

/// Progress of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// That was all.
    Done(RangeSummary),
}

/// A range that was begun.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub enum Opened {
    /// That was all.
    Done(RangeSummary),
    /// There is more to do.
    More(RangeCursor),
}

/// A range being read in steps.
#[derive(Debug)]
pub struct RangeCursor {
    key: Vec<u8>,
    range_end: Vec<u8>,
    plan: Plan,
    progress: Progress,
    state: State,
    pin: Option<Pin>,
}

/// What is done next, from which key or which pair on.
#[derive(Debug)]
enum State {
    /// Counting what exists.
    Count(Vec<u8>),
    /// Appending in key order.
    Stream(Vec<u8>),
    /// Collecting what has to be sorted.
    Collect(Vec<u8>, Vec<Ranked>),
    Sort(Ranking),
    /// Appending what was sorted.
    Emit(Vec<Ranked>, usize),
    Done,
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
    /// Keys that exist, as far as they were counted or passed.
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
        let mut cursor = match self.range_begin(query, self.revision, self.compact_revision, out)? {
            Opened::Done(summary) => return Ok(summary),
            Opened::More(cursor) => cursor,
        };
        match self.range_some(&mut cursor, &mut { Budget::UNBOUNDED }, out)? {
            Step::Done(summary) => Ok(summary),
            Step::More => panic!("an unbounded step is the last"),
        }
    }

    /// Starts reading a range, of which `current` is the newest revision to be seen (a txn sees its own changes), and
    /// `oldest` the oldest one. One key is read at once.
    pub(crate) fn range_begin(
        &self,
        query: &RangeQuery<'_>,
        current: i64,
        oldest: i64,
        out: &mut Vec<u8>,
    ) -> Result<Opened, Error> {
        let plan = plan(query, current, oldest)?;
        if let (KeyRange::One(key), false, false) =
            (KeyRange::new(query.key, query.range_end), plan.count_only, plan.filter.is_on())
        {
            return self.range_one(key, &plan, out).map(Opened::Done);
        }
        Ok(Opened::More(RangeCursor::new(query, plan)))
    }

    /// Starts reading a range in steps, pinned at the present revision if the query names none. A compaction in between
    /// ends it.
    pub fn range_start(&self, query: &RangeQuery<'_>) -> Result<RangeCursor, OpError> {
        Ok(RangeCursor::new(query, plan(query, self.revision, self.compact_revision)?))
    }

    /// Reads a range as far as the budget goes. If there is more, what is read stays as long as the cursor is there.
    pub fn range_open(
        &mut self,
        query: &RangeQuery<'_>,
        mut budget: Budget,
        out: &mut Vec<u8>,
    ) -> Result<Opened, Error> {
        let mut cursor = match self.range_begin(query, self.revision, self.compact_revision, out)? {
            Opened::More(cursor) => cursor,
            Opened::Done(summary) => return Ok(Opened::Done(summary)),
        };
        if let Step::Done(summary) = self.range_some(&mut cursor, &mut budget, out)? {
            return Ok(Opened::Done(summary));
        }
        assert!(cursor.plan.at >= self.compact_revision, "history that is gone cannot be kept");
        cursor.pin = Some(self.pins.pin(cursor.plan.at));
        Ok(Opened::More(cursor))
    }

    /// Does one step, appending pairs as [`Store::range`] does. Must not be called again once done.
    pub fn range_step(&self, cursor: &mut RangeCursor, mut budget: Budget, out: &mut Vec<u8>) -> Result<Step, Error> {
        let is_kept = cursor.pin.as_ref().is_some_and(|pin| self.pins.holds(pin));
        if cursor.plan.at < self.compact_revision && !is_kept {
            return Err(OpError::Compacted.into());
        }
        Ok(self.range_some(cursor, &mut budget, out)?)
    }

    /// Goes on with a range until the budget is spent. What is read must still be there.
    pub(crate) fn range_some(
        &self,
        cursor: &mut RangeCursor,
        budget: &mut Budget,
        out: &mut Vec<u8>,
    ) -> Result<Step, StoreError> {
        let RangeCursor { key, range_end, plan, progress, state, pin: _ } = cursor;
        let range = KeyRange::new(key, range_end);
        while !budget.is_spent() {
            let next = match state {
                State::Count(from) => {
                    let (count, next) = self.index.count(range.from_key(from), plan.at, budget);
                    progress.seen += count;
                    match next {
                        Some(next) => State::Count(next.to_vec()),
                        None if plan.is_sorted() && !plan.count_only => {
                            let wanted = plan.collect_max.min(progress.seen as usize);
                            State::Collect(range.start().to_vec(), Vec::with_capacity(wanted))
                        }
                        None => State::Done,
                    }
                }
                State::Stream(from) => match self.stream(range.from_key(from), plan, progress, budget, out)? {
                    Some(next) => State::Stream(next),
                    None if progress.more => {
                        progress.seen = 0;
                        State::Count(range.start().to_vec())
                    }
                    None => State::Done,
                },
                State::Collect(from, pairs) => match self.collect(range.from_key(from), plan, pairs, budget)? {
                    Some(next) => State::Collect(next, std::mem::take(pairs)),
                    None => {
                        assert!(pairs.len() <= plan.collect_max, "no more is sorted than was asked for");
                        progress.more = pairs.len() > plan.limit;
                        State::Sort(plan.ranking(std::mem::take(pairs)))
                    }
                },
                State::Sort(ranking) => {
                    let value = |revision| Ok(decode(pair(&self.trees, revision)?, revision)?.value);
                    if !ranking.step(budget, value)? {
                        return Ok(Step::More);
                    }
                    let empty = Ranking::new(Vec::new(), false, false, 0);
                    State::Emit(std::mem::replace(ranking, empty).into_sorted(), 0)
                }
                State::Emit(pairs, next) => {
                    *next += self.emit(&pairs[*next..], plan, progress, budget, out)?;
                    if *next < pairs.len() {
                        return Ok(Step::More);
                    }
                    State::Done
                }
                State::Done => panic!("the range has been read"),
            };
            *state = next;
            if matches!(state, State::Done) {
                let Progress { kvs, seen, more, .. } = *progress;
                assert!(kvs as u64 <= seen && kvs <= plan.limit, "no more pairs than keys, and than were asked for");
                return Ok(Step::Done(RangeSummary { revision: plan.header, count: seen as i64, more, kvs }));
            }
        }
        Ok(Step::More)
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
    fn passes(&self, at: At, filter: &Filter, budget: &mut Budget) -> Result<bool, StoreError> {
        if !filter.is_on() {
            return Ok(true);
        }
        Ok(match at {
            At::Newest(head) => filter.passes(head.revision.main, head.create),
            At::Older(revision) => {
                budget.read();
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
        budget: &mut Budget,
        out: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.walk(range, plan.at, budget, |key, at, budget| {
            if !self.passes(at, &plan.filter, budget)? {
                progress.seen += 1;
                return Ok(Walk::On);
            }
            if progress.kvs >= plan.limit {
                progress.more = true;
                return Ok(Walk::End);
            }
            let before = out.len();
            self.append_pair(at, key, plan, out)?;
            budget.append(out.len() - before);
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
        pairs: &mut Vec<Ranked>,
        budget: &mut Budget,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.walk(range, plan.at, budget, |_, at, budget| {
            if pairs.len() >= plan.collect_max {
                return Ok(Walk::End);
            }
            if self.passes(at, &plan.filter, budget)? {
                let rank = match plan.target {
                    SortTarget::Key => pairs.len() as u64,
                    target => self.rank(at, target, budget)?,
                };
                pairs.push(Ranked::new(rank, at.revision()));
            }
            Ok(Walk::On)
        })
    }

    /// The number to sort by; values are looked at later.
    fn rank(&self, at: At, target: SortTarget, budget: &mut Budget) -> Result<u64, StoreError> {
        let (version, create) = match (at, target) {
            (_, SortTarget::Key | SortTarget::Unknown | SortTarget::Value) => return Ok(0),
            (_, SortTarget::Mod) => return Ok(at.revision().main as u64),
            (At::Newest(head), _) => (head.version, head.create),
            (At::Older(revision), _) => {
                budget.read();
                let stored = decode(pair(&self.trees, revision)?, revision)?;
                (stored.version, stored.create_revision)
            }
        };
        Ok(if target == SortTarget::Version { version } else { create } as u64)
    }

    /// Appends sorted pairs; returns how many.
    fn emit(
        &self,
        pairs: &[Ranked],
        plan: &Plan,
        progress: &mut Progress,
        budget: &mut Budget,
        out: &mut Vec<u8>,
    ) -> Result<usize, StoreError> {
        for (emitted, pair) in pairs.iter().enumerate() {
            if budget.is_spent() {
                return Ok(emitted);
            }
            let before = out.len();
            self.append_pair(At::Older(pair.revision), b"", plan, out)?;
            budget.append(out.len() - before);
            progress.kvs += 1;
        }
        Ok(pairs.len())
    }

    /// Visits the keys that exist at a revision. Returns where it paused.
    fn walk(
        &self,
        range: KeyRange<'_>,
        at: i64,
        budget: &mut Budget,
        mut each: impl FnMut(&[u8], At, &mut Budget) -> Result<Walk, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut paused, mut broken) = (None, None);
        let _ = self.index.visit(range, |key: &[u8], entry: &Entry| {
            if budget.is_spent() {
                paused = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            budget.visit();
            let Some(at) = entry.at(at) else { return ControlFlow::Continue(()) };
            match each(key, at, budget) {
                Ok(Walk::On) => return ControlFlow::Continue(()),
                Ok(Walk::End) => {}
                Err(error) => broken = Some(error),
            }
            ControlFlow::Break(())
        });
        broken.map_or(Ok(paused), Err)
    }
}

impl RangeCursor {
    fn new(query: &RangeQuery<'_>, plan: Plan) -> Self {
        let start = query.key.to_vec();
        // Sorting begins with counting, so that room for all is made once.
        let state = if plan.count_only || plan.is_sorted() { State::Count(start) } else { State::Stream(start) };
        let (key, range_end) = (query.key.to_vec(), query.range_end.to_vec());
        Self { key, range_end, plan, progress: Progress::default(), state, pin: None }
    }
}

impl Plan {
    fn is_sorted(&self) -> bool {
        self.order != SortOrder::None
    }

    fn ranking(&self, pairs: Vec<Ranked>) -> Ranking {
        Ranking::new(pairs, self.order == SortOrder::Descend, self.target == SortTarget::Value, self.limit)
    }
}

fn plan(query: &RangeQuery<'_>, current: i64, oldest: i64) -> Result<Plan, OpError> {
    if query.revision > current {
        return Err(OpError::FutureRevision);
    }
    let at = if query.revision <= 0 { current } else { query.revision };
    if at < oldest {
        return Err(OpError::Compacted);
    }
    Ok(Plan::new(query, at, current))
}

/// What to do after a key.
enum Walk {
    On,
    End,
}

fn append_encoded(pair: &KeyValue<'_>, out: &mut Vec<u8>) {
    out.push(TAG_KVS);
    put_varint(out, pair.encoded_len() as u64);
    pair.encode_into(out);
}
