//! The index against sorted vectors of revisions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Per key: revisions in order, with tombstone marks.
type Model = BTreeMap<Vec<u8>, Vec<(Revision, bool)>>;

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    Delete(Vec<u8>, Vec<u8>),
    Compact(u8),
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(0..4u8, 1..5),
        (0..400u32).prop_map(|n| format!("/registry/pods/{n:06}").into_bytes()),
        (0..8u8, 1..6000usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => keys().prop_map(Step::Put),
        1 => (keys(), prop_oneof![Just(Vec::new()), Just(vec![0]), keys()]).prop_map(|(a, b)| Step::Delete(a, b)),
        1 => (0..=100u8).prop_map(Step::Compact),
    ];
    proptest::collection::vec(step, 1..400)
}

fn live_at(revisions: &[(Revision, bool)], at: i64) -> Option<Revision> {
    let (revision, is_tombstone) = revisions.iter().rev().find(|(revision, _)| revision.main <= at)?;
    (!is_tombstone).then_some(*revision)
}

fn compact_model(model: &mut Model, at: i64) -> Vec<(Revision, bool)> {
    let mut removed = Vec::new();
    model.retain(|_, revisions| {
        let newest = revisions.iter().rposition(|(revision, _)| revision.main <= at);
        let mut position = 0;
        revisions.retain(|&(revision, is_tombstone)| {
            let stays = Some(position) == newest && (!is_tombstone || revision.main == at);
            let stays = stays || newest.is_none_or(|newest| position > newest);
            position += 1;
            if !stays {
                removed.push((revision, is_tombstone));
            }
            stays
        });
        !revisions.is_empty()
    });
    removed.sort_unstable();
    removed
}

fn check(index: &KeyIndex, model: &Model, main: i64) {
    let mut found = Model::new();
    let flow = index.visit(KeyRange::ALL, |key, entry| {
        assert!(found.last_key_value().is_none_or(|(last, _)| last.as_slice() < key), "keys come in order");
        found.insert(key.to_vec(), entry.revisions().collect());
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    assert_eq!(&found, model);
    assert_eq!(index.keys(), model.len() as u64);
    let live = model.values().filter(|revisions| live_at(revisions, main).is_some()).count() as u64;
    assert_eq!(index.live_keys(), live);
    check_nodes(index);
}

fn check_nodes(index: &KeyIndex) -> usize {
    let mut found = 0;
    let _ = index.order.visit(Default::default(), &index.slots, |slot| {
        found += 1;
        let by_key = index.by_key.find(KeyHash::of(&slot.key), &slot.key, &index.slots).expect("every key is found");
        assert!(std::ptr::eq(index.slots.get(by_key), slot));
        ControlFlow::Continue(())
    });
    assert_eq!(found, index.slots.len());
    index.order.check(&index.slots)
}

fn count(index: &KeyIndex, range: KeyRange<'_>, at: i64) -> u64 {
    let (count, next) = index.count(range, at, &mut { Budget::UNBOUNDED });
    assert_eq!(next, None, "an unbounded step is the last");
    count
}

fn count_in_steps(index: &KeyIndex, range: KeyRange<'_>, at: i64) -> u64 {
    let (mut total, mut from) = (0, range.start().to_vec());
    loop {
        let (count, next) = index.count(range.from_key(&from), at, &mut Budget { visits: 1, ..Budget::UNBOUNDED });
        total += count;
        match next {
            Some(key) => from = key.to_vec(),
            None => return total,
        }
    }
}

fn check_counts(index: &KeyIndex, model: &Model, main: i64, key: &[u8], end: &[u8]) {
    let range = KeyRange::new(key, end);
    for at in [main, main - 1, main / 2, 2] {
        let expected =
            model.iter().filter(|(key, revisions)| range.contains(key) && live_at(revisions, at).is_some()).count();
        assert_eq!(count(index, range, at), expected as u64, "{range:?} at {at}");
        assert_eq!(count_in_steps(index, range, at), expected as u64, "{range:?} at {at}, in steps");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn agrees_with_sorted_vectors(steps in steps(), probes in proptest::collection::vec((keys(), keys()), 8)) {
        let (mut index, mut model) = (KeyIndex::new(), Model::new());
        let (mut main, mut compacted) = (1, 0);
        for step in &steps {
            match step {
                Step::Put(key) => {
                    main += 1;
                    let revision = Revision::new(main, 0);
                    let revisions = model.entry(key.clone()).or_default();
                    let before = live_at(revisions, main);
                    revisions.push((revision, false));
                    let (replaced, now) = index.put(key, revision);
                    prop_assert_eq!(replaced.map(|head| head.revision), before);
                    prop_assert_eq!(now.version, replaced.map_or(0, |head| head.version) + 1);
                    prop_assert_eq!(now.create, replaced.map_or(main, |head| head.create));
                }
                Step::Delete(key, end) => {
                    let range = KeyRange::new(key, end);
                    let mut sub = 0;
                    let mut next = |_: &[u8], _: &Entry, _: Head| -> Result<(Revision, usize), ()> {
                        sub += 1;
                        Ok((Revision::new(main + 1, sub - 1), 1))
                    };
                    let mut from = range.start().to_vec();
                    loop {
                        // The smallest step there is.
                        let mut budget = Budget { pairs: 1, bytes: 1, visits: 1 };
                        let paused = index.delete(range.from_key(&from), &mut budget, &mut next);
                        match paused.expect("the closure does not fail") {
                            Some(key) => from = key.into(),
                            None => break,
                        }
                    }
                    let live = model.iter_mut().filter(|(key, rs)| range.contains(key) && live_at(rs, main).is_some());
                    let mut deleted = 0;
                    for (_, revisions) in live {
                        revisions.push((Revision::new(main + 1, deleted), true));
                        deleted += 1;
                    }
                    prop_assert_eq!(deleted, sub);
                    main += i64::from(deleted > 0);
                }
                Step::Compact(percent) => {
                    let at = compacted + (main - compacted) * i64::from(*percent) / 100;
                    compacted = at;
                    let mut removed = Vec::new();
                    for key in model.keys() {
                        index.compact(key, at, &mut removed);
                    }
                    removed.sort_unstable();
                    prop_assert_eq!(removed, compact_model(&mut model, at));
                }
            }
        }
        check(&index, &model, main);
        for (key, end) in &probes {
            check_counts(&index, &model, main, key, end);
            check_counts(&index, &model, main, key, b"\0");
            let expected = model.get(key).and_then(|revisions| live_at(revisions, main));
            prop_assert_eq!(index.get(key).and_then(Entry::head).map(|head| head.revision), expected);
        }
    }
}

/// Many keys, so that groups split, in and out of order; then all of them deleted and compacted.
#[test]
fn grows_over_several_groups_and_shrinks_to_nothing() {
    for scramble in [1u64, 7919] {
        let (mut index, keys) = (KeyIndex::new(), 60_000u64);
        let name = |i: u64| format!("/registry/leases/{:08}", i * scramble % keys).into_bytes();
        for i in 0..keys {
            index.put(&name(i), Revision::new(i as i64 + 2, 0));
        }
        assert!(check_nodes(&index) > 1);
        assert_eq!((index.keys(), index.live_keys()), (keys, keys));
        let (from, to) = (name(0).max(name(5)), b"/registry/leases/00059990".to_vec());
        let range = KeyRange::Span(&from, &to);
        let mut visited = 0;
        let flow = index.visit(range, |_, _| {
            visited += 1;
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        assert_eq!(count(&index, range, i64::MAX), visited);
        let overhead = index.heap_bytes() as u64 / keys - 25;
        assert!(overhead < 100, "{overhead} bytes per key beyond its own 25");
        let mut sub = 0;
        let deleted: Result<_, ()> = index.delete(KeyRange::ALL, &mut { Budget::UNBOUNDED }, |_, _, _| {
            sub += 1;
            Ok((Revision::new(keys as i64 + 10, sub), 1))
        });
        assert!(deleted.is_ok());
        assert_eq!((index.keys(), index.live_keys()), (keys, 0));
        let mut removed = Vec::new();
        for i in 0..keys {
            index.compact(&name(i * 31 % keys), keys as i64 + 11, &mut removed);
            if i % 10_000 == 0 {
                check_nodes(&index);
            }
        }
        assert_eq!((index.keys(), check_nodes(&index), removed.len() as u64), (0, 0, 2 * keys));
    }
}

/// Enough records for several runs and merges, with histories that reach over them.
#[test]
fn restoring_in_runs_is_like_restoring_one_by_one() {
    let (mut whole, mut single) = (KeyIndex::new(), KeyIndex::new());
    let mut restore = Restore::with_runs_of(100, &mut whole);
    let mut versions: BTreeMap<String, i64> = BTreeMap::new();
    for i in 0..20_000i64 {
        let key = format!("/registry/events/{:06}{}", i * 7_919 % 5_003, "x".repeat((i % 3) as usize));
        let version = versions.entry(key.clone()).or_default();
        *version = if i % 11 == 0 && *version > 0 { 0 } else { *version + 1 };
        restore.add(key.as_bytes(), Revision::new(i / 3 + 2, i % 3), 2, *version);
        single.restore(key.as_bytes(), Revision::new(i / 3 + 2, i % 3), 2, *version);
    }
    restore.finish();
    check_nodes(&whole);
    let content = |index: &KeyIndex| {
        let mut out = Vec::new();
        let _ = index.visit(KeyRange::ALL, |key, entry| {
            out.push((key.to_vec(), entry.head(), entry.revisions().collect::<Vec<_>>()));
            ControlFlow::Continue(())
        });
        out
    };
    assert!(content(&whole) == content(&single), "the same keys with the same revisions");
    assert_eq!((whole.keys(), whole.live_keys()), (single.keys(), single.live_keys()));
}
