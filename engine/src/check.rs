//! Checks of requests that need no store: done before a command is replicated, in etcd's order.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{ArchivedOp, ArchivedPut, ArchivedTxn, DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn};
use crate::error::OpError;

/// What storing a pair costs besides its key and value, in bytes of quota.
const PUT_OVERHEAD: u64 = 256;
/// What a lease costs, in bytes of quota.
pub const LEASE_COST: u64 = 64;

impl Range {
    /// Checks a range request.
    pub fn check(&self) -> Result<(), OpError> {
        check_range(&self.key, self.sort_order, self.sort_target)
    }
}

/// Checks what a range request gives as key and order.
pub fn check_range(key: &[u8], order: SortOrder, target: SortTarget) -> Result<(), OpError> {
    if key.is_empty() {
        return Err(OpError::EmptyKey);
    }
    if order == SortOrder::Unknown || target == SortTarget::Unknown {
        return Err(OpError::InvalidSortOption);
    }
    Ok(())
}

impl Put {
    /// Checks a put request.
    pub fn check(&self) -> Result<(), OpError> {
        if self.key.is_empty() {
            return Err(OpError::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(OpError::ValueProvided);
        }
        if self.ignore_lease && self.lease != 0 {
            return Err(OpError::LeaseProvided);
        }
        Ok(())
    }
}

impl DeleteRange {
    /// Checks a delete request.
    pub fn check(&self) -> Result<(), OpError> {
        if self.key.is_empty() { Err(OpError::EmptyKey) } else { Ok(()) }
    }
}

impl Txn {
    /// Checks a txn request: sizes and fields of everything in it first, then keys that a branch changes twice.
    pub fn check(&self, ops_max: usize) -> Result<(), OpError> {
        self.check_fields(ops_max)?;
        check_changes(&self.success)?;
        check_changes(&self.failure)?;
        Ok(())
    }

    fn check_fields(&self, ops_max: usize) -> Result<(), OpError> {
        let ops = self.compare.len().max(self.success.len()).max(self.failure.len());
        if ops > ops_max {
            return Err(OpError::TooManyOps);
        }
        if self.compare.iter().any(|compare| compare.key.is_empty()) {
            return Err(OpError::EmptyKey);
        }
        self.success.iter().chain(&self.failure).try_for_each(|op| match op {
            Op::Unset => Err(OpError::KeyNotFound),
            Op::Range(range) => range.check(),
            Op::Put(put) => put.check(),
            Op::DeleteRange(delete) => delete.check(),
            Op::Txn(txn) => txn.check_fields(ops_max - ops),
        })
    }
}

/// What a list of operations puts and deletes, nested txns included.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

/// Deleted keys: single ones, and disjoint spans by their start.
#[derive(Default)]
struct Deletes<'a> {
    keys: BTreeSet<&'a [u8]>,
    spans: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    /// An end of `\0` makes a span that nothing lies in. etcd has it so: deletes without an end escape the check.
    fn add(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.keys.insert(key);
        } else if key < range_end {
            self.add_span(key, range_end);
        }
    }

    fn add_span(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        if let Some((&before, &before_end)) = self.spans.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.spans.range(start..=end).next() {
            end = end.max(next_end);
            self.spans.remove(next);
        }
        self.spans.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.keys.contains(key) || self.spans.range(..=key).next_back().is_some_and(|(_, end)| key < *end)
    }

    fn append(&mut self, other: Self) {
        self.keys.extend(other.keys);
        other.spans.into_iter().for_each(|(start, end)| self.add_span(start, end));
    }
}

/// No key may be put twice, and none may be put and deleted. Deletes of this level count for nested txns; what a nested
/// txn deletes counts for those after it and for the puts of this level. The two branches of a nested txn may put the
/// same key, since only one of them runs.
fn check_changes(ops: &[Op]) -> Result<Changes<'_>, OpError> {
    let mut changes = Changes::default();
    for op in ops {
        if let Op::DeleteRange(delete) = op {
            changes.deletes.add(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        let Op::Txn(txn) = op else { continue };
        let success = check_changes(&txn.success)?;
        let failure = check_changes(&txn.failure)?;
        let collides = |key: &[u8]| changes.puts.contains(key) || changes.deletes.contains(key);
        if success.puts.iter().chain(&failure.puts).any(|key| collides(key)) {
            return Err(OpError::DuplicateKey);
        }
        changes.puts.extend(success.puts);
        changes.puts.extend(failure.puts);
        changes.deletes.append(success.deletes);
        changes.deletes.append(failure.deletes);
    }
    for op in ops {
        let Op::Put(put) = op else { continue };
        if changes.deletes.contains(&put.key) || !changes.puts.insert(&put.key) {
            return Err(OpError::DuplicateKey);
        }
    }
    Ok(changes)
}

macro_rules! quota_cost {
    ($($put:ident, $txn:ident, $op:ident;)+) => {$(
        impl $put {
            /// What the request costs, in bytes of quota.
            pub fn cost(&self) -> u64 {
                PUT_OVERHEAD + (self.key.len() + self.value.len()) as u64
            }
        }

        impl $txn {
            /// What the request costs, in bytes of quota: the puts of the dearer branch, those of nested txns too.
            /// (etcd counts them since 3.7.)
            pub fn cost(&self) -> u64 {
                let cost = |ops: &[$op]| ops.iter().map($op::cost).sum::<u64>();
                cost(&self.success).max(cost(&self.failure))
            }

            /// Whether both branches only read, at this level: such a txn needs no replication.
            pub fn is_read_only(&self) -> bool {
                self.success.iter().chain(self.failure.iter()).all(|op| matches!(op, $op::Range(_)))
            }
        }

        impl $op {
            fn cost(&self) -> u64 {
                match self {
                    $op::Put(put) => put.cost(),
                    $op::Txn(txn) => txn.cost(),
                    $op::Unset | $op::Range(_) | $op::DeleteRange(_) => 0,
                }
            }
        }
    )+};
}

quota_cost! {
    Put, Txn, Op;
    ArchivedPut, ArchivedTxn, ArchivedOp;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Compare;

    fn put(key: &'static str) -> Op {
        Op::Put(Put { key: key.into(), ..Put::default() })
    }

    fn delete(key: &'static str, end: &'static str) -> Op {
        Op::DeleteRange(DeleteRange { key: key.into(), range_end: end.into(), prev_kv: false })
    }

    fn range(key: &'static str) -> Op {
        Op::Range(Range { key: key.into(), ..Range::default() })
    }

    fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn { compare: vec![], success, failure })
    }

    #[test]
    fn changes_of_a_branch() {
        let duplicate = Err(OpError::DuplicateKey);
        let cases: Vec<(&str, Vec<Op>, Result<(), OpError>)> = vec![
            ("two keys", vec![put("a"), put("b")], Ok(())),
            ("one key twice", vec![put("a"), put("a")], duplicate),
            ("put and delete", vec![put("a"), delete("a", "")], duplicate),
            ("delete and put", vec![delete("a", ""), put("a")], duplicate),
            ("put inside a deleted range", vec![put("b"), delete("a", "c")], duplicate),
            ("put at the end of a deleted range", vec![put("c"), delete("a", "c")], Ok(())),
            ("put before a deleted range", vec![put("A"), delete("a", "c")], Ok(())),
            ("overlapping deletes", vec![delete("a", "c"), delete("b", "d"), delete("b", "")], Ok(())),
            ("put in joined deletes", vec![delete("a", "c"), delete("e", "g"), delete("b", "f"), put("f")], duplicate),
            ("put behind joined deletes", vec![delete("a", "c"), delete("b", "f"), put("f")], Ok(())),
            ("delete of an empty range", vec![delete("b", "a"), put("b"), put("a")], Ok(())),
            ("hole: delete without end", vec![delete("a", "\0"), put("b"), put("a")], Ok(())),
            ("nested put, same key", vec![nested(vec![put("a")], vec![]), put("a")], duplicate),
            ("both nested branches", vec![nested(vec![put("a")], vec![put("a")])], Ok(())),
            ("both nested branches and this level", vec![nested(vec![put("a")], vec![put("a")]), put("a")], duplicate),
            ("nested failure only", vec![put("a"), nested(vec![], vec![put("a")])], duplicate),
            ("sibling nested puts", vec![nested(vec![put("a")], vec![]), nested(vec![put("a")], vec![])], duplicate),
            ("nested put, delete here", vec![nested(vec![put("b")], vec![]), delete("a", "c")], duplicate),
            ("nested delete, put here", vec![nested(vec![delete("a", "c")], vec![]), put("b")], duplicate),
            (
                "nested delete, then nested put",
                vec![nested(vec![delete("a", "c")], vec![]), nested(vec![put("b")], vec![])],
                duplicate,
            ),
            (
                "hole: nested put, then nested delete",
                vec![nested(vec![put("b")], vec![]), nested(vec![delete("a", "c")], vec![])],
                Ok(()),
            ),
            ("delete in one branch, put in the other", vec![nested(vec![delete("a", "")], vec![put("a")])], Ok(())),
        ];
        for (name, ops, expected) in cases {
            let success = Txn { success: ops.clone(), ..Txn::default() };
            let failure = Txn { failure: ops, ..Txn::default() };
            assert_eq!(success.check(128), expected, "{name}");
            assert_eq!(failure.check(128), expected, "{name}, as failure branch");
        }
        let both = Txn { success: vec![put("a")], failure: vec![put("a")], ..Txn::default() };
        assert_eq!(both.check(128), Ok(()), "the branches are checked on their own");
    }

    #[test]
    fn operations_are_counted_and_checked_in_order() {
        let compare = |key: &'static str| Compare { key: key.into(), ..Compare::default() };
        let wide = |n: usize| Txn { success: vec![put("a"); n], ..Txn::default() };
        assert_eq!(wide(5).check(4), Err(OpError::TooManyOps));
        // Four puts of one key: the duplicate is found, but only after all fields were checked.
        assert_eq!(wide(4).check(4), Err(OpError::DuplicateKey));
        let mut txn = wide(3);
        txn.success.push(Op::Unset);
        assert_eq!(txn.check(4), Err(OpError::KeyNotFound));
        txn.compare = vec![compare("x"), compare("")];
        assert_eq!(txn.check(4), Err(OpError::EmptyKey));
        // One level takes max(compare, success, failure); nested ones have to do with what is left.
        let deep = |left: usize| Txn {
            success: vec![range("a"), nested(vec![range("b"); left], vec![])],
            compare: vec![compare("a"); 3],
            failure: vec![],
        };
        assert_eq!(deep(7).check(10), Ok(()));
        assert_eq!(deep(8).check(10), Err(OpError::TooManyOps));
    }

    #[test]
    fn single_requests() {
        let put = |key: &'static str, value: &'static str, lease| Put {
            key: key.into(),
            value: value.into(),
            lease,
            ignore_value: true,
            ignore_lease: true,
            prev_kv: false,
        };
        assert_eq!(put("", "v", 1).check(), Err(OpError::EmptyKey));
        assert_eq!(put("k", "v", 1).check(), Err(OpError::ValueProvided));
        assert_eq!(put("k", "", 1).check(), Err(OpError::LeaseProvided));
        assert_eq!(put("k", "", 0).check(), Ok(()));
        let range = |order, target| check_range(b"k", order, target);
        assert_eq!(range(SortOrder::Unknown, SortTarget::Key), Err(OpError::InvalidSortOption));
        assert_eq!(range(SortOrder::None, SortTarget::Unknown), Err(OpError::InvalidSortOption));
        assert_eq!(check_range(b"", SortOrder::Unknown, SortTarget::Key), Err(OpError::EmptyKey));
        assert_eq!(DeleteRange::default().check(), Err(OpError::EmptyKey));
    }

    #[test]
    fn costs() {
        let txn = Txn {
            success: vec![put("a"), range("b"), nested(vec![put("cc")], vec![])],
            failure: vec![delete("a", ""), put("abc")],
            ..Txn::default()
        };
        assert_eq!(txn.cost(), 257 + 258, "the dearer branch, with the nested put");
        assert!(!txn.is_read_only());
        assert!(Txn { success: vec![range("a")], ..Txn::default() }.is_read_only());
        assert!(Txn::default().is_read_only());
        assert!(!Txn { failure: vec![nested(vec![range("a")], vec![])], ..Txn::default() }.is_read_only());
    }
}
