//! Random steps. Few keys, values and leases, so that they meet often.

use bytes::Bytes;
use plinth_engine::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Step {
    /// Apply a command.
    Apply(Command),
    /// Compact at the current revision less this.
    Compact(i64),
    /// Read a range at the revision after the current one less this, or as it is if this is negative.
    Range(Range, i64),
    /// So many steps of compaction, of so many records each.
    Work(usize),
    /// Make everything durable.
    Flush,
    /// Lose what is not durable, reopen, replay.
    Restart,
    /// `HashKV` at the revision after the current one less this.
    Hash(i64),
    /// Read history from the revision after the current one less this.
    History(i64),
}

const KEYS: [&[u8]; 9] = [b"a", b"aa", b"ab", b"b", b"b\0", b"b\0c", b"c", b"\0", b"\xff\xff"];

fn key() -> impl Strategy<Value = Bytes> {
    (0..KEYS.len()).prop_map(|i| Bytes::from_static(KEYS[i]))
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Bytes::new()), 2 => Just(Bytes::from_static(b"\0")), 3 => key()]
}

fn value() -> impl Strategy<Value = Bytes> {
    let values = ["", "x", "y", "12345678", "123456789", "12345678\0", "a rather long value that goes on and on"];
    (0..values.len()).prop_map(move |i| Bytes::from_static(values[i].as_bytes()))
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 2 => 1..4i64, 1 => Just(-5)]
}

fn put() -> impl Strategy<Value = Put> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (key(), value(), lease(), flags).prop_map(|(key, value, lease, (prev_kv, ignore_value, ignore_lease))| Put {
        key,
        value: if ignore_value { Bytes::new() } else { value },
        lease: if ignore_lease { 0 } else { lease },
        prev_kv,
        ignore_value,
        ignore_lease,
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRange { key, range_end, prev_kv })
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0), 1 => 1..40i64]
}

fn range() -> impl Strategy<Value = Range> {
    let order = prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    let target = prop_oneof![
        Just(SortTarget::Key),
        Just(SortTarget::Version),
        Just(SortTarget::Create),
        Just(SortTarget::Mod),
        Just(SortTarget::Value)
    ];
    let what = (key(), range_end(), -1..5i64, prop_oneof![4 => Just(0), 1 => -3..40i64]);
    let how = (order, target, any::<bool>(), prop::bool::weighted(0.1));
    (what, how, [bound(), bound(), bound(), bound()]).prop_map(|(what, how, bounds)| Range {
        key: what.0,
        range_end: what.1,
        limit: what.2,
        revision: what.3,
        sort_order: how.0,
        sort_target: how.1,
        keys_only: how.2,
        count_only: how.3,
        min_mod_revision: bounds[0],
        max_mod_revision: bounds[1],
        min_create_revision: bounds[2],
        max_create_revision: bounds[3],
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop_oneof![
        Just(CompareResult::Equal),
        Just(CompareResult::Greater),
        Just(CompareResult::Less),
        Just(CompareResult::NotEqual),
        Just(CompareResult::Unknown)
    ];
    let target = prop_oneof![
        Just(CompareTarget::Version),
        Just(CompareTarget::Create),
        Just(CompareTarget::Mod),
        Just(CompareTarget::Value),
        Just(CompareTarget::Lease),
        Just(CompareTarget::Unknown)
    ];
    (result, target, key(), range_end(), 0..20i64, value()).prop_map(
        |(result, target, key, range_end, number, value)| Compare { result, target, key, range_end, number, value },
    )
}

fn txn() -> impl Strategy<Value = Txn> {
    let op = prop_oneof![range().prop_map(Op::Range), put().prop_map(Op::Put), delete().prop_map(Op::DeleteRange)];
    let op = op.prop_recursive(3, 24, 4, |op| {
        (vec(compare(), 0..2), vec(op.clone(), 0..4), vec(op, 0..4))
            .prop_map(|(compare, success, failure)| Op::Txn(Txn { compare, success, failure }))
    });
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4)).prop_map(|(compare, success, failure)| Txn {
        compare,
        success,
        failure,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => put().prop_map(Command::Put),
        3 => delete().prop_map(Command::DeleteRange),
        6 => txn().prop_map(Command::Txn),
        2 => (1..4i64, 5..60i64).prop_map(|(id, ttl)| Command::LeaseGrant { id, ttl }),
        1 => (1..4i64).prop_map(|id| Command::LeaseRevoke { id }),
    ]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => command().prop_map(Step::Apply),
        2 => (-1..30i64).prop_map(Step::Compact),
        6 => (range(), -1..20i64).prop_map(|(range, back)| Step::Range(range, back)),
        3 => (1..6usize).prop_map(Step::Work),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
        2 => (0..20i64).prop_map(Step::Hash),
        1 => (0..40i64).prop_map(Step::History),
    ];
    vec(step, 1..80)
}
