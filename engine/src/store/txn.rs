//! Txns: conditions, the path that they choose, checks, operations; nothing is applied unless every check passed.
//!
//! All conditions, those of nested txns on the chosen path too, look at the state before the txn. Operations run in
//! order and see what earlier ones did. All changes share one main revision.
//!
//! A txn is worked off in steps (see `job`). Where it stands is a row of numbers, not of references: the command is read
//! anew in each step.

use plinth_api::wire::put_varint;
use std::ops::ControlFlow;

use crate::body::{Body, Mark};
use crate::budget::Budget;
use crate::command::{ArchivedCompare, ArchivedOp, ArchivedRange, ArchivedTxn, CompareResult, CompareTarget};
use crate::error::{Error, OpError, StoreError};
use crate::index::{At, KeyRange};
use crate::kv_codec::put_int_field;
use crate::pins::Pin;
use crate::record::{decode, pair};
use crate::revision::Revision;
use crate::store::delete::Deleting;
use crate::store::range::{Opened, RangeCursor, RangeQuery, RangeSummary, Step};
use crate::store::{Outcome, Store, Write};
use crate::trees::Trees;

/// Field `header` of every response.
const TAG_HEADER: u8 = 0x0a;
/// Field `revision` of a header.
const TAG_REVISION: u8 = 0x18;
/// Field `responses` of `TxnResponse`.
const TAG_RESPONSES: u8 = 0x1a;
/// Members of `ResponseOp`'s union.
const TAG_RANGE: u8 = 0x0a;
const TAG_PUT: u8 = 0x12;
const TAG_DELETE_RANGE: u8 = 0x1a;
const TAG_TXN: u8 = 0x22;

/// Room made for a response: enough for a few puts or deletes, or a pair.
const RESPONSE_BYTES: usize = 128;

/// A txn on the way down to where work is being done.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Which branch it takes, once that is known.
    succeeded: Option<bool>,
    /// The next condition, or the next operation of the branch.
    next: usize,
    /// Where its response begins.
    mark: Mark,
}

impl Frame {
    fn undecided() -> Self {
        Self { succeeded: None, next: 0, mark: Mark::default() }
    }

    fn ops<'t>(&self, txn: &'t ArchivedTxn) -> &'t [ArchivedOp] {
        match self.succeeded {
            Some(true) => &txn.success,
            Some(false) => &txn.failure,
            None => panic!("a txn has no operations before its branch is chosen"),
        }
    }
}

/// The txn that the last frame is about. Of those above it, the operation before the next one is on the way.
fn innermost<'t>(root: &'t ArchivedTxn, frames: &[Frame]) -> &'t ArchivedTxn {
    frames.iter().take(frames.len().saturating_sub(1)).fold(root, |txn, frame| match &frame.ops(txn)[frame.next - 1] {
        ArchivedOp::Txn(inner) => inner,
        _ => panic!("only txns have operations"),
    })
}

/// Buffers that a txn needs, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    branches: Vec<bool>,
    frames: Vec<Frame>,
}

/// Which branch each txn takes, in order of nesting, being found out.
#[derive(Debug)]
struct Choosing {
    branches: Vec<bool>,
    frames: Vec<Frame>,
    /// The key of the present condition's range to go on with, and whether there were any before.
    from: Option<Vec<u8>>,
    found: bool,
}

impl Choosing {
    fn new(spare: Spare) -> Self {
        let Spare { mut branches, mut frames } = spare;
        branches.clear();
        frames.clear();
        frames.push(Frame::undecided());
        Self { branches, frames, from: None, found: false }
    }
}

/// What is being done to a txn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Choosing,
    /// Looking whether all operations on the path can be done: nothing is applied unless they can.
    Checking,
    Running,
}

/// The operation under way, if it needs several steps, and where its response begins.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, in its place for as long as it runs")]
enum Op {
    Range(RangeCursor, Mark),
    Delete(Deleting),
}

/// A txn being applied.
#[derive(Debug)]
pub(crate) struct TxnRun {
    has_room: bool,
    reply: bool,
    phase: Phase,
    choosing: Choosing,
    /// Txns on the path that were entered in this phase.
    entered: usize,
    op: Option<Op>,
    write: Write,
    body: Body,
}

/// A txn that only reads, being answered in steps. What it reads stays as long as it is there.
#[derive(Debug)]
pub struct ReadTxn {
    pin: Pin,
    /// The revision that it sees as the newest one, and the oldest one that it may read.
    at: i64,
    oldest: i64,
    choosing: Choosing,
    is_checked: bool,
    next: usize,
    op: Option<(RangeCursor, Mark)>,
    body: Body,
}

impl<T: Trees> Store<T> {
    /// Begins to apply a txn.
    pub(crate) fn begin_txn(&mut self, txn: &ArchivedTxn, reply: bool) -> TxnRun {
        self.counters.txns += 1;
        let mut body = Body::default();
        if reply {
            body.tail().reserve(RESPONSE_BYTES);
        }
        TxnRun {
            has_room: self.has_room(txn.cost()),
            reply,
            phase: Phase::Choosing,
            choosing: Choosing::new(std::mem::take(&mut self.spare)),
            entered: 0,
            op: None,
            write: self.begin_write(),
            body,
        }
    }

    /// Goes on with a txn; its outcome once it is done.
    pub(crate) fn txn_some(
        &mut self,
        run: &mut TxnRun,
        txn: &ArchivedTxn,
        budget: &mut Budget,
    ) -> Result<Option<Outcome>, Error> {
        if run.phase == Phase::Choosing {
            if !self.choose_some(txn, self.revision, &mut run.choosing, budget)? {
                return Ok(None);
            }
            run.phase = Phase::Checking;
            run.enter();
        }
        if !self.walk_some(run, txn, budget)? {
            return Ok(None);
        }
        let revision = self.end_write(&run.write);
        let Choosing { branches, frames, .. } = &mut run.choosing;
        self.spare = Spare { branches: std::mem::take(branches), frames: std::mem::take(frames) };
        match run.has_room {
            true => Ok(Some(Outcome { revision, body: std::mem::take(&mut run.body) })),
            false => Err(OpError::NoSpace.into()),
        }
    }

    /// Chooses branches as they are at revision `at`; whether all are chosen.
    fn choose_some(
        &self,
        root: &ArchivedTxn,
        at: i64,
        choosing: &mut Choosing,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        loop {
            let txn = innermost(root, &choosing.frames);
            let Some(Frame { succeeded, next, .. }) = choosing.frames.last().copied() else { return Ok(true) };
            if budget.is_spent() {
                return Ok(false);
            }
            let decided = match (succeeded, txn.compare.get(next)) {
                (None, Some(compare)) => match self.holds(compare, at, choosing, budget)? {
                    None => return Ok(false),
                    Some(true) => None,
                    Some(false) => Some(false),
                },
                (None, None) => Some(true),
                (Some(_), _) => None,
            };
            budget.visit();
            let frame = choosing.frames.last_mut().expect("it was looked at above");
            frame.next += 1;
            if succeeded.is_none() {
                if let Some(succeeded) = decided {
                    (frame.succeeded, frame.next) = (Some(succeeded), 0);
                    choosing.branches.push(succeeded);
                }
                continue;
            }
            match frame.ops(txn).get(next) {
                Some(ArchivedOp::Txn(_)) => choosing.frames.push(Frame::undecided()),
                Some(_) => {}
                None => _ = choosing.frames.pop(),
            }
        }
    }

    /// Whether a condition holds for every key of its range at revision `at`; `None` if that is not known yet. No key at
    /// all is like one key with every number 0, but without a value.
    fn holds(
        &self,
        compare: &ArchivedCompare,
        at: i64,
        choosing: &mut Choosing,
        budget: &mut Budget,
    ) -> Result<Option<bool>, StoreError> {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        if let KeyRange::One(key) = range {
            return match self.index.get(key).and_then(|entry| entry.at(at)) {
                Some(at) => self.holds_for(compare, at, budget).map(Some),
                None => Ok(Some(holds_without_key(compare))),
            };
        }
        let from = choosing.from.take();
        let rest = from.as_deref().map_or(range, |from| range.from_key(from));
        let (found, paused) = (&mut choosing.found, &mut choosing.from);
        let mut result = Ok(true);
        let _ = self.index.visit(rest, |key, entry| {
            if budget.is_spent() {
                *paused = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            budget.visit();
            let Some(at) = entry.at(at) else { return ControlFlow::Continue(()) };
            *found = true;
            result = self.holds_for(compare, at, budget);
            if matches!(result, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if paused.is_some() {
            return Ok(None);
        }
        let found = std::mem::take(&mut choosing.found);
        if found { result.map(Some) } else { Ok(Some(holds_without_key(compare))) }
    }

    fn holds_for(&self, compare: &ArchivedCompare, at: At, budget: &mut Budget) -> Result<bool, StoreError> {
        let given = compare.number.to_native();
        let stored = |budget: &mut Budget, revision: Revision| {
            budget.read();
            decode(pair(&self.trees, revision)?, revision)
        };
        let order = match (CompareTarget::from(compare.target), at) {
            (CompareTarget::Version, At::Newest(head)) => head.version.cmp(&given),
            (CompareTarget::Create, At::Newest(head)) => head.create.cmp(&given),
            // Not the newest: a request that is half applied has changed the key already.
            (CompareTarget::Version, At::Older(revision)) => stored(budget, revision)?.version.cmp(&given),
            (CompareTarget::Create, At::Older(revision)) => stored(budget, revision)?.create_revision.cmp(&given),
            (CompareTarget::Mod, at) => at.revision().main.cmp(&given),
            (CompareTarget::Value, at) => stored(budget, at.revision())?.value.cmp(&compare.value[..]),
            (CompareTarget::Lease, at) => stored(budget, at.revision())?.lease.cmp(&given),
            (CompareTarget::Unknown, _) => std::cmp::Ordering::Equal,
        };
        Ok(satisfies(order, compare.result.into()))
    }

    /// Goes along the path, first to check, then to run; whether it has come to the end. One operation is checked after
    /// the other. (Before etcd 3.7 the order was another: all puts, then all ranges. It only shows if several checks
    /// fail.)
    fn walk_some(&mut self, run: &mut TxnRun, root: &ArchivedTxn, budget: &mut Budget) -> Result<bool, Error> {
        loop {
            let txn = innermost(root, &run.choosing.frames);
            let Some(frame) = run.choosing.frames.last_mut() else {
                if run.phase == Phase::Running {
                    return Ok(true);
                }
                (run.phase, run.entered) = (Phase::Running, 0);
                run.enter();
                continue;
            };
            if budget.is_spent() {
                return Ok(false);
            }
            let Some(op) = frame.ops(txn).get(frame.next) else {
                run.leave();
                continue;
            };
            match op {
                ArchivedOp::Txn(_) => {
                    frame.next += 1;
                    run.enter();
                }
                op if run.phase == Phase::Checking => {
                    frame.next += 1;
                    self.check_op(op)?;
                }
                op if self.run_op(run, op, budget)? => {
                    run.choosing.frames.last_mut().expect("the operation is of a txn").next += 1;
                }
                _ => return Ok(false),
            }
            // Only now: a step that begins with anything left gets on.
            budget.visit();
        }
    }

    /// What an operation needs of the state before the txn.
    fn check_op(&self, op: &ArchivedOp) -> Result<(), OpError> {
        match op {
            ArchivedOp::Range(range) => check_revision(range, self.revision, self.compact_revision),
            ArchivedOp::Put(put) => self.check_put(put),
            ArchivedOp::DeleteRange(_) | ArchivedOp::Unset | ArchivedOp::Txn(_) => Ok(()),
        }
    }

    /// Does an operation, or goes on with it; whether it is done.
    fn run_op(&mut self, run: &mut TxnRun, op: &ArchivedOp, budget: &mut Budget) -> Result<bool, Error> {
        let TxnRun { reply, op: under_way, write, body, .. } = run;
        match op {
            ArchivedOp::Unset => {}
            ArchivedOp::Txn(_) => panic!("txns are entered"),
            ArchivedOp::Range(_) if !*reply => {}
            ArchivedOp::Range(range) => {
                let (current, oldest) = (write.current(), self.compact_revision);
                let begun = match under_way.take() {
                    Some(Op::Range(cursor, mark)) => Some((cursor, mark)),
                    _ => self.begin_range(range, current, oldest, body)?,
                };
                let Some((mut cursor, mark)) = begun else { return Ok(true) };
                if !self.range_on(&mut cursor, mark, body, budget)? {
                    *under_way = Some(Op::Range(cursor, mark));
                    return Ok(false);
                }
            }
            ArchivedOp::Put(put) if *reply => {
                let mark = body.mark();
                // The first change makes the revision that the header tells.
                put_header(body.tail(), write.upcoming());
                self.write_put(write, put, Some(body.tail()))?;
                respond(body, mark, TAG_PUT);
                budget.write(put.value.len());
            }
            ArchivedOp::Put(put) => {
                self.write_put(write, put, None)?;
                budget.write(put.value.len());
            }
            ArchivedOp::DeleteRange(delete) => {
                let mut deleting = match under_way.take() {
                    Some(Op::Delete(deleting)) => deleting,
                    _ => Deleting::new(write, body),
                };
                let range = KeyRange::new(&delete.key, &delete.range_end);
                let pairs = (*reply && delete.prev_kv).then_some(&mut *body);
                if !self.delete_keys(write, range, &mut deleting, pairs, budget)? {
                    *under_way = Some(Op::Delete(deleting));
                    return Ok(false);
                }
                if *reply {
                    let mut head = Vec::with_capacity(RESPONSE_BYTES);
                    put_header(&mut head, write.current());
                    put_int_field(&mut head, 0x10, deleting.count(write));
                    body.put_before(deleting.mark, &head);
                    respond(body, deleting.mark, TAG_DELETE_RANGE);
                }
            }
        }
        run.body.spill();
        Ok(true)
    }

    /// Begins a range; `None` if it was done at once.
    fn begin_range(
        &self,
        range: &ArchivedRange,
        current: i64,
        oldest: i64,
        body: &mut Body,
    ) -> Result<Option<(RangeCursor, Mark)>, Error> {
        let mark = body.mark();
        put_header(body.tail(), current);
        Ok(match self.range_begin(&RangeQuery::from(range), current, oldest, body.tail())? {
            Opened::More(cursor) => Some((cursor, mark)),
            Opened::Done(summary) => {
                end_range(summary, mark, body);
                None
            }
        })
    }

    /// Goes on with a range; whether it is done.
    fn range_on(
        &self,
        cursor: &mut RangeCursor,
        mark: Mark,
        body: &mut Body,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        loop {
            body.spill();
            // A piece at a time, however large the budget.
            let mut piece = Budget { bytes: budget.bytes.min(crate::body::PIECE_BYTES), ..*budget };
            let given = piece.bytes;
            let step = self.range_some(cursor, &mut piece, body.tail())?;
            *budget = Budget { bytes: budget.bytes.saturating_sub(given - piece.bytes), ..piece };
            match step {
                Step::Done(summary) => {
                    end_range(summary, mark, body);
                    return Ok(true);
                }
                Step::More if budget.is_spent() => return Ok(false),
                Step::More => {}
            }
        }
    }

    /// Begins to answer a txn that only reads (see `is_read_only`), without replication: as of now, however long it takes.
    pub fn read_txn_start(&mut self) -> ReadTxn {
        ReadTxn {
            // Of what it may read nothing is removed.
            pin: self.pins.pin(self.compact_revision),
            at: self.revision,
            oldest: self.compact_revision,
            choosing: Choosing::new(Spare::default()),
            is_checked: false,
            next: 0,
            op: None,
            body: Body::default(),
        }
    }

    /// Goes on with a txn that only reads, the same one each time; its outcome once it is done.
    pub fn read_txn_step(
        &self,
        read: &mut ReadTxn,
        txn: &ArchivedTxn,
        mut budget: Budget,
    ) -> Result<Option<Outcome>, Error> {
        assert!(txn.is_read_only(), "other txns are replicated");
        if !self.pins.holds(&read.pin) {
            // A snapshot took the place of what was being read.
            return Err(OpError::Compacted.into());
        }
        let budget = &mut budget;
        if !self.choose_some(txn, read.at, &mut read.choosing, budget)? {
            return Ok(None);
        }
        let succeeded = read.choosing.branches[0];
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let ranges = ops.iter().filter_map(|op| if let ArchivedOp::Range(range) = op { Some(range) } else { None });
        if !read.is_checked {
            ranges.clone().try_for_each(|range| check_revision(range, read.at, read.oldest))?;
            put_int_field(read.body.tail(), 0x10, i64::from(succeeded));
            read.is_checked = true;
        }
        for range in ranges.skip(read.next) {
            let begun = match read.op.take() {
                Some(op) => Some(op),
                None if budget.is_spent() => return Ok(None),
                None => self.begin_range(range, read.at, read.oldest, &mut read.body)?,
            };
            if let Some((mut cursor, mark)) = begun
                && !self.range_on(&mut cursor, mark, &mut read.body, budget)?
            {
                read.op = Some((cursor, mark));
                return Ok(None);
            }
            budget.visit();
            read.next += 1;
        }
        Ok(Some(Outcome { revision: read.at, body: std::mem::take(&mut read.body) }))
    }

    /// As [`Store::read_txn_step`], at once.
    pub fn read_txn(&mut self, txn: &ArchivedTxn) -> Result<Outcome, Error> {
        let mut read = self.read_txn_start();
        let outcome = self.read_txn_step(&mut read, txn, Budget::UNBOUNDED)?;
        Ok(outcome.expect("an unbounded step is the last"))
    }
}

impl TxnRun {
    /// Enters the next txn on the path.
    fn enter(&mut self) {
        let succeeded = self.choosing.branches.get(self.entered).copied();
        let succeeded = succeeded.expect("a branch was chosen for every txn on the path");
        self.entered += 1;
        let mark = self.body.mark();
        if self.phase == Phase::Running && self.reply {
            if !self.choosing.frames.is_empty() {
                self.body.tail().extend_from_slice(&[TAG_HEADER, 0]);
            }
            put_int_field(self.body.tail(), 0x10, i64::from(succeeded));
        }
        self.choosing.frames.push(Frame { succeeded: Some(succeeded), next: 0, mark });
    }

    /// Leaves the innermost txn.
    fn leave(&mut self) {
        let frame = self.choosing.frames.pop().expect("a txn was entered");
        if self.phase == Phase::Running && self.reply && !self.choosing.frames.is_empty() {
            respond(&mut self.body, frame.mark, TAG_TXN);
        }
    }
}

/// Unlike in a plain range, a negative revision is not the newest one here.
fn check_revision(range: &ArchivedRange, current: i64, oldest: i64) -> Result<(), OpError> {
    match range.revision.to_native() {
        0 => Ok(()),
        revision if revision > current => Err(OpError::FutureRevision),
        revision if revision < oldest => Err(OpError::Compacted),
        _ => Ok(()),
    }
}

fn end_range(summary: RangeSummary, mark: Mark, body: &mut Body) {
    summary.append_fields(body.tail());
    respond(body, mark, TAG_RANGE);
}

/// Makes a `ResponseOp` of the message after `mark`.
fn respond(body: &mut Body, mark: Mark, tag: u8) {
    body.wrap(mark, tag);
    body.wrap(mark, TAG_RESPONSES);
}

fn satisfies(order: std::cmp::Ordering, result: CompareResult) -> bool {
    match result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::Unknown => true,
    }
}

fn holds_without_key(compare: &ArchivedCompare) -> bool {
    match CompareTarget::from(compare.target) {
        CompareTarget::Value => false,
        CompareTarget::Unknown => satisfies(std::cmp::Ordering::Equal, compare.result.into()),
        _ => satisfies(0.cmp(&compare.number.to_native()), compare.result.into()),
    }
}

/// The header of a result inside a txn tells nothing but the revision.
fn put_header(out: &mut Vec<u8>, revision: i64) {
    let start = out.len();
    out.extend_from_slice(&[TAG_HEADER, 0, TAG_REVISION]);
    put_varint(out, revision as u64);
    out[start + 1] = (out.len() - start - 2) as u8;
}
