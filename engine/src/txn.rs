//! Txns: conditions, the path that they choose, checks, operations; nothing is applied unless every check passed.
//!
//! All conditions, those of nested txns on the chosen path too, look at the state before the txn. Operations run in
//! order and see what earlier ones did. All changes share one main revision.

use plinth_api::wire::put_varint;
use std::ops::ControlFlow;

use crate::command::{ArchivedCompare, ArchivedOp, ArchivedRange, ArchivedTxn, CompareResult, CompareTarget};
use crate::error::{Error, OpError, StoreError};
use crate::index::{At, KeyRange};
use crate::kv_codec::put_int_field;
use crate::range::RangeQuery;
use crate::store::{Outcome, Store, Write, decode, pair};
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

/// The branch that a txn takes, and which ones the txns in it take.
struct Path<'a> {
    branches: std::slice::Iter<'a, bool>,
}

impl Path<'_> {
    fn next<'t>(&mut self, txn: &'t ArchivedTxn) -> (bool, &'t [ArchivedOp]) {
        let succeeded = *self.branches.next().expect("the path has an entry for every txn on it");
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }
}

impl<T: Trees> Store<T> {
    /// Applies a txn and returns the revision for the header.
    pub(crate) fn apply_txn(&mut self, txn: &ArchivedTxn, mut out: Option<&mut Vec<u8>>) -> Result<i64, Error> {
        let has_room = self.has_room(txn.cost());
        self.counters.txns += 1;
        if let Some(out) = &mut out {
            out.reserve(RESPONSE_BYTES);
        }
        let mut branches = std::mem::take(&mut self.path);
        branches.clear();
        let result = self.choose(txn, &mut branches).map_err(Error::from).and_then(|()| {
            self.check_ops(txn, &mut Path { branches: branches.iter() })?;
            let mut write = self.begin_write();
            self.run(txn, &mut Path { branches: branches.iter() }, &mut write, &mut out)?;
            Ok(self.end_write(write))
        });
        self.path = branches;
        let revision = result?;
        if has_room { Ok(revision) } else { Err(OpError::NoSpace.into()) }
    }

    /// Answers a txn that only reads (see `is_read_only`), without replication.
    pub fn read_txn(&self, txn: &ArchivedTxn) -> Result<Outcome, Error> {
        assert!(txn.is_read_only(), "other txns are replicated");
        let mut branches = Vec::new();
        self.choose(txn, &mut branches)?;
        self.check_ops(txn, &mut Path { branches: branches.iter() })?;
        let mut body = Vec::new();
        let (succeeded, ops) = Path { branches: branches.iter() }.next(txn);
        put_int_field(&mut body, 0x10, i64::from(succeeded));
        for op in ops {
            if let ArchivedOp::Range(range) = op {
                self.run_range(range, self.revision, &mut body)?;
            }
        }
        Ok(Outcome { revision: self.revision, body })
    }

    fn choose(&self, txn: &ArchivedTxn, branches: &mut Vec<bool>) -> Result<(), StoreError> {
        let mut succeeded = true;
        for compare in txn.compare.iter() {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        branches.push(succeeded);
        for op in if succeeded { &txn.success } else { &txn.failure }.iter() {
            if let ArchivedOp::Txn(txn) = op {
                self.choose(txn, branches)?;
            }
        }
        Ok(())
    }

    /// Whether a condition holds for every key of its range. No key at all is like one key with every number 0, but
    /// without a value.
    fn holds(&self, compare: &ArchivedCompare) -> Result<bool, StoreError> {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        if let KeyRange::One(key) = range {
            return match self.index.get(key).and_then(|entry| entry.at(self.revision)) {
                Some(at) => self.holds_for(compare, at),
                None => Ok(holds_without_key(compare)),
            };
        }
        let (mut found, mut result) = (false, Ok(true));
        let _ = self.index.visit(range, |_, entry| {
            let Some(at) = entry.at(self.revision) else { return ControlFlow::Continue(()) };
            found = true;
            result = self.holds_for(compare, at);
            if matches!(result, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if found { result } else { Ok(holds_without_key(compare)) }
    }

    fn holds_for(&self, compare: &ArchivedCompare, at: At) -> Result<bool, StoreError> {
        let At::Newest(head) = at else { panic!("the newest revision of a key is known in full") };
        let given = compare.number.to_native();
        let order = match CompareTarget::from(compare.target) {
            CompareTarget::Version => head.version.cmp(&given),
            CompareTarget::Create => head.create.cmp(&given),
            CompareTarget::Mod => head.revision.main.cmp(&given),
            CompareTarget::Value => {
                let stored = decode(pair(&self.trees, head.revision)?, head.revision)?;
                stored.value.cmp(&compare.value[..])
            }
            CompareTarget::Lease => decode(pair(&self.trees, head.revision)?, head.revision)?.lease.cmp(&given),
            CompareTarget::Unknown => std::cmp::Ordering::Equal,
        };
        Ok(satisfies(order, compare.result.into()))
    }

    /// What the operations on the path need of the state before the txn, one operation after the other. (Before etcd 3.7
    /// the order was another: all puts, then all ranges. It only shows if several checks fail.)
    fn check_ops(&self, txn: &ArchivedTxn, path: &mut Path<'_>) -> Result<(), OpError> {
        let (_, ops) = path.next(txn);
        ops.iter().try_for_each(|op| match op {
            ArchivedOp::Range(range) => self.check_range_revision(range.revision.to_native()),
            ArchivedOp::Put(put) => self.check_put(put),
            ArchivedOp::Txn(txn) => self.check_ops(txn, path),
            ArchivedOp::DeleteRange(_) | ArchivedOp::Unset => Ok(()),
        })
    }

    /// Unlike in a plain range, a negative revision is not the newest one here.
    fn check_range_revision(&self, revision: i64) -> Result<(), OpError> {
        match revision {
            0 => Ok(()),
            revision if revision > self.revision => Err(OpError::FutureRevision),
            revision if revision < self.compact_revision => Err(OpError::Compacted),
            _ => Ok(()),
        }
    }

    fn run(
        &mut self,
        txn: &ArchivedTxn,
        path: &mut Path<'_>,
        write: &mut Write,
        out: &mut Option<&mut Vec<u8>>,
    ) -> Result<(), Error> {
        let (succeeded, ops) = path.next(txn);
        if let Some(out) = out {
            put_int_field(out, 0x10, i64::from(succeeded));
        }
        for op in ops {
            match op {
                ArchivedOp::Unset => {}
                ArchivedOp::Range(range) => {
                    if let Some(out) = out {
                        self.run_range(range, write.current(), out)?;
                    }
                }
                ArchivedOp::Put(put) => {
                    let Some(out) = out else {
                        self.write_put(write, put, None)?;
                        continue;
                    };
                    respond(out, TAG_PUT, |out| {
                        // The first change makes the revision that the header tells.
                        put_header(out, write.upcoming());
                        self.write_put(write, put, Some(out)).map_err(Error::from)
                    })?;
                }
                ArchivedOp::DeleteRange(delete) => {
                    let range = KeyRange::new(&delete.key, &delete.range_end);
                    let Some(out) = out else {
                        self.write_delete(write, range, None)?;
                        continue;
                    };
                    let mut pairs = Vec::new();
                    let deleted = self.write_delete(write, range, delete.prev_kv.then_some(&mut pairs))?;
                    respond(out, TAG_DELETE_RANGE, |out| {
                        put_header(out, write.current());
                        put_int_field(out, 0x10, deleted);
                        out.extend_from_slice(&pairs);
                        Ok::<_, Error>(())
                    })?;
                }
                ArchivedOp::Txn(txn) => {
                    let Some(out) = out else {
                        self.run(txn, path, write, &mut None)?;
                        continue;
                    };
                    respond(out, TAG_TXN, |out| {
                        out.extend_from_slice(&[TAG_HEADER, 0]);
                        self.run(txn, path, write, &mut Some(out))
                    })?;
                }
            }
        }
        Ok(())
    }

    fn run_range(&self, range: &ArchivedRange, current: i64, out: &mut Vec<u8>) -> Result<(), Error> {
        respond(out, TAG_RANGE, |out| {
            put_header(out, current);
            let summary = self.range_seen_from(&RangeQuery::from(range), current, out)?;
            summary.append_fields(out);
            Ok(())
        })
    }
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

/// Appends a `ResponseOp` holding the message that `fill` appends.
fn respond<E>(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    fill(out)?;
    wrap(out, start, tag);
    wrap(out, start, TAG_RESPONSES);
    Ok(())
}

/// Makes a field of what was appended since `start`: moves it up to put tag and length in front.
fn wrap(out: &mut Vec<u8>, start: usize, tag: u8) {
    let body = out.len();
    out.push(tag);
    put_varint(out, (body - start) as u64);
    let head = out.len() - body;
    out[start..].rotate_right(head);
}
