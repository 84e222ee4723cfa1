//! The lessor against a naive one, and its rates.

use std::collections::{BTreeMap, BTreeSet};

use plinth_api::limits::TTL_MAX_SECONDS;
use plinth_engine::lease::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Grant(i64, i64),
    Revoke(i64),
    Attach(i64, u8),
    Detach(u8),
    Renew(i64),
    Advance(u64),
    Expire { apply: usize },
    Promote(u64),
    Demote,
    Checkpoint(i64, i64),
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 1i64..8;
    prop_oneof![
        4 => (id(), -1i64..8).prop_map(|(id, ttl)| Op::Grant(id, ttl)),
        1 => id().prop_map(Op::Revoke),
        4 => (0i64..8, 0u8..6).prop_map(|(id, key)| Op::Attach(id, key)),
        1 => (0u8..6).prop_map(Op::Detach),
        3 => id().prop_map(Op::Renew),
        4 => (0u64..3000).prop_map(Op::Advance),
        4 => (0usize..4).prop_map(|apply| Op::Expire { apply }),
        1 => (0u64..2000).prop_map(Op::Promote),
        1 => Just(Op::Demote),
        1 => (id(), 0i64..4).prop_map(|(id, ttl)| Op::Checkpoint(id, ttl)),
    ]
}

const CONFIG: LessorConfig = LessorConfig { ttl_min_seconds: 2, checkpoint_interval_seconds: None };

#[derive(Clone, Copy, Debug)]
struct NaiveLease {
    ttl: i64,
    remaining: i64,
    deadline: Option<u64>,
}

#[derive(Default, Debug)]
struct Naive {
    now: u64,
    promoted: bool,
    leases: BTreeMap<i64, NaiveLease>,
    keys: BTreeMap<u8, i64>,
    /// Lease to the time until which its revoke is under way.
    pending: BTreeMap<i64, u64>,
}

impl Naive {
    fn due(&self) -> BTreeSet<i64> {
        let is_due = |lease: &NaiveLease| lease.deadline.is_some_and(|at| at <= self.now);
        self.leases.iter().filter(|(_, lease)| is_due(lease)).map(|(&id, _)| id).collect()
    }

    fn keys_of(&self, id: i64) -> Vec<Vec<u8>> {
        self.keys.iter().filter(|&(_, &lease)| lease == id).map(|(&key, _)| vec![key]).collect()
    }

    fn revoke(&mut self, id: i64) -> Option<Vec<Vec<u8>>> {
        self.leases.remove(&id)?;
        self.pending.remove(&id);
        let keys = self.keys_of(id);
        self.keys.retain(|_, lease| *lease != id);
        Some(keys)
    }
}

fn check(lessor: &Lessor, naive: &Naive) {
    assert_eq!(lessor.len(), naive.leases.len());
    assert_eq!(lessor.is_promoted(), naive.promoted);
    assert_eq!(lessor.attached_keys(), naive.keys.len());
    for key in 0..6 {
        assert_eq!(lessor.lease_of(&[key]), naive.keys.get(&key).copied());
    }
    for id in 1..8 {
        let mut keys: Vec<Vec<u8>> = lessor.keys(id).map(<[u8]>::to_vec).collect();
        keys.sort();
        assert_eq!(keys, naive.keys_of(id));
        let expected = naive.leases.get(&id).map(|lease| {
            let left = lease.deadline.map(|at| at as i64 - naive.now as i64);
            // Time has gone on since the millisecond began.
            let left = left.map(|left| if left > 0 { (left - 1) / 1000 } else { left / 1000 });
            TimeToLive { remaining_seconds: left.unwrap_or(9_223_372_036), granted_seconds: lease.ttl }
        });
        assert_eq!(lessor.time_to_live(id, Millis(naive.now)).ok(), expected);
        assert_eq!(lessor.stored_ttl(id), naive.leases.get(&id).map(|lease| (lease.ttl, lease.remaining)));
    }
    let mut order: Vec<(u64, i64)> =
        naive.leases.iter().map(|(&id, lease)| (lease.deadline.unwrap_or(u64::MAX), id)).collect();
    order.sort();
    assert_eq!(lessor.leases(), order.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

fn expire(lessor: &mut Lessor, naive: &mut Naive, apply: usize) {
    let mut out = Vec::new();
    lessor.expired(Millis(naive.now), &mut out);
    let named: BTreeSet<i64> = out.iter().copied().collect();
    assert_eq!(named.len(), out.len(), "a lease is named once");
    let due = naive.due();
    assert!(named.is_subset(&due), "only expired leases are named");
    for id in due {
        // With seven leases no limit is ever reached, so that every one that is not under way is named.
        let is_under_way = naive.pending.get(&id).is_some_and(|&until| naive.now < until);
        assert_eq!(named.contains(&id), !is_under_way, "lease {id}");
    }
    for &id in &named {
        naive.pending.insert(id, naive.now + REVOKE_RETRY_MILLIS);
    }
    for id in out.into_iter().take(apply) {
        let keys = lessor.revoke(id).unwrap().into_iter().map(Vec::from).collect();
        assert_eq!(naive.revoke(id), Some(keys));
    }
}

fn apply(lessor: &mut Lessor, naive: &mut Naive, op: Op) {
    let now = Millis(naive.now);
    match op {
        Op::Grant(id, ttl) => {
            let granted = lessor.grant(id, ttl, now);
            if naive.leases.contains_key(&id) {
                assert_eq!(granted, Err(LeaseError::Exists));
            } else {
                let ttl = ttl.max(2);
                assert_eq!(granted, Ok(ttl));
                let deadline = naive.promoted.then_some(naive.now + ttl as u64 * 1000);
                naive.leases.insert(id, NaiveLease { ttl, remaining: 0, deadline });
            }
        }
        Op::Revoke(id) => {
            let keys = lessor.revoke(id).ok().map(|keys| keys.into_iter().map(Vec::from).collect());
            assert_eq!(keys, naive.revoke(id));
        }
        Op::Attach(id, key) => {
            let attached = lessor.attach(id, &[key]);
            if id == 0 {
                naive.keys.remove(&key);
            } else if naive.leases.contains_key(&id) {
                assert_eq!(attached, Ok(()));
                naive.keys.insert(key, id);
            } else {
                assert_eq!(attached, Err(LeaseError::NotFound));
            }
        }
        Op::Detach(key) => {
            lessor.detach(&[key]);
            naive.keys.remove(&key);
        }
        Op::Renew(id) => {
            let renewed = lessor.renew(id, now);
            match naive.leases.get_mut(&id) {
                _ if !naive.promoted => assert_eq!(renewed, Err(LeaseError::NotPrimary)),
                None => assert_eq!(renewed, Err(LeaseError::NotFound)),
                Some(lease) if lease.deadline.unwrap() <= naive.now => assert_eq!(renewed, Ok(Renewal::Expired)),
                Some(lease) => {
                    let clear_checkpoint = lease.remaining > 0;
                    assert_eq!(renewed, Ok(Renewal::Renewed { ttl: lease.ttl, clear_checkpoint }));
                    lease.deadline = Some(naive.now + lease.ttl as u64 * 1000);
                }
            }
        }
        Op::Advance(millis) => naive.now += millis,
        Op::Expire { apply } => expire(lessor, naive, apply),
        Op::Promote(extend) => {
            lessor.promote(now, extend);
            naive.promoted = true;
            naive.pending.clear();
            for lease in naive.leases.values_mut() {
                let seconds = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
                lease.deadline = Some(naive.now + extend + seconds as u64 * 1000);
            }
        }
        Op::Demote => {
            lessor.demote();
            naive.promoted = false;
            naive.pending.clear();
            naive.leases.values_mut().for_each(|lease| lease.deadline = None);
        }
        Op::Checkpoint(id, remaining) => {
            assert_eq!(lessor.checkpoint(id, remaining, now), naive.leases.contains_key(&id));
            if let Some(lease) = naive.leases.get_mut(&id) {
                lease.remaining = remaining;
                if remaining == 0 && !naive.pending.contains_key(&id) {
                    let renewed = naive.now + lease.ttl as u64 * 1000;
                    lease.deadline = lease.deadline.map(|deadline| deadline.max(renewed));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn agrees_with_a_naive_lessor(ops in prop::collection::vec(op(), 1..120)) {
        let mut lessor = Lessor::new(CONFIG);
        let mut naive = Naive::default();
        for op in ops {
            apply(&mut lessor, &mut naive, op);
            check(&lessor, &naive);
        }
    }
}

#[test]
fn the_minimum_ttl_follows_the_election_timeout() {
    for (election, min) in [(1000, 2), (100, 1), (1001, 2), (1400, 3), (5000, 8), (50_000, 75)] {
        assert_eq!(LessorConfig::for_election_timeout(election).ttl_min_seconds, min, "{election} ms");
    }
}

#[test]
fn grants_are_checked() {
    let mut lessor = Lessor::new(CONFIG);
    assert_eq!(lessor.grant(1, TTL_MAX_SECONDS + 1, Millis(0)), Err(LeaseError::TtlTooLarge));
    assert_eq!(lessor.grant(1, TTL_MAX_SECONDS, Millis(0)), Ok(TTL_MAX_SECONDS));
    assert_eq!(lessor.grant(0, 5, Millis(0)), Err(LeaseError::NotFound));
    assert_eq!(lessor.grant(2, i64::MIN, Millis(0)), Ok(2));
    assert_eq!(lessor.grant(i64::MIN, 7, Millis(0)), Ok(7));
    lessor.promote(Millis(u64::MAX - 5), u64::MAX);
    assert_eq!(
        lessor.renew(1, Millis(u64::MAX - 5)),
        Ok(Renewal::Renewed { ttl: TTL_MAX_SECONDS, clear_checkpoint: false })
    );
}

#[test]
fn revoked_keys_come_in_order() {
    let mut lessor = Lessor::new(CONFIG);
    lessor.grant(1, 5, Millis(0)).unwrap();
    for key in ["b", "ab", "c", "a", "aa"] {
        lessor.attach(1, key.as_bytes()).unwrap();
    }
    let keys = lessor.revoke(1).unwrap();
    assert_eq!(keys.iter().map(|key| &key[..]).collect::<Vec<_>>(), [&b"a"[..], b"aa", b"ab", b"b", b"c"]);
    assert_eq!(lessor.revoke(1), Err(LeaseError::NotFound));
}

#[test]
fn revokes_under_way_are_bounded_and_lost_ones_are_named_again() {
    const MOST: i64 = REVOKES_PENDING_MAX as i64;
    let mut lessor = Lessor::new(CONFIG);
    lessor.promote(Millis(0), 0);
    (1..=2 * MOST).for_each(|id| assert_eq!(lessor.grant(id, 2, Millis(0)), Ok(2)));
    let expired = |lessor: &mut Lessor, now| {
        let mut out = Vec::new();
        lessor.expired(Millis(now), &mut out);
        out
    };
    assert!(expired(&mut lessor, 1999).is_empty());
    let first = expired(&mut lessor, 2000);
    assert_eq!(first, (1..=MOST).collect::<Vec<_>>());
    assert!(expired(&mut lessor, 2100).is_empty());
    lessor.revoke(first[3]).unwrap();
    assert_eq!(expired(&mut lessor, 2100), [MOST + 1], "an applied revoke makes room for another");
    let again = expired(&mut lessor, 5000);
    assert_eq!(again.len(), first.len() - 1, "lost revokes are named again, the last one is not lost yet");
    assert!(again.iter().all(|id| first.contains(id)));
    assert_eq!(expired(&mut lessor, 5100), [MOST + 1]);
}

#[test]
fn thousands_of_leases_expire_a_second_and_no_more() {
    let mut lessor = Lessor::new(CONFIG);
    lessor.promote(Millis(0), 0);
    (1..=4 * EXPIRIES_PER_PASS as i64 + 200).for_each(|id| assert_eq!(lessor.grant(id, 2, Millis(0)), Ok(2)));
    let (mut per_pass, mut order) = (Vec::new(), Vec::new());
    for now in (2000..).step_by(EXPIRY_PASS_MILLIS as usize) {
        let mut count = 0;
        for offset in [0, 100, EXPIRY_PASS_MILLIS - 1] {
            loop {
                let mut out = Vec::new();
                lessor.expired(Millis(now + offset), &mut out);
                assert!(out.len() <= REVOKES_PENDING_MAX);
                if out.is_empty() {
                    break;
                }
                count += out.len();
                order.extend_from_slice(&out);
                out.into_iter().for_each(|id| assert!(lessor.revoke(id).is_ok()));
            }
        }
        if count == 0 {
            break;
        }
        per_pass.push(count);
    }
    let most = EXPIRIES_PER_PASS;
    assert_eq!(per_pass, [most, most, most, most, 200]);
    assert!(per_pass[0] as u64 * 1000 / EXPIRY_PASS_MILLIS >= 4000);
    assert!(order.is_sorted(), "who was granted first ends first");
}

#[test]
fn of_a_lease_just_granted_one_second_less_is_left() {
    let mut lessor = Lessor::new(CONFIG);
    lessor.promote(Millis(0), 0);
    lessor.grant(1, 90, Millis(5)).unwrap();
    let left = |now| lessor.time_to_live(1, Millis(now)).unwrap().remaining_seconds;
    assert_eq!([left(5), left(1004), left(1005), left(90_004)], [89, 89, 88, 0]);
    assert_eq!([left(90_005), left(91_004), left(91_005)], [0, 0, -1]);
}

/// The deadlines in milliseconds, in order.
fn deadlines(lessor: &Lessor) -> Vec<u64> {
    let mut now = 0;
    let mut read = |id| {
        // The last moment at which a whole second is left lies a second before the deadline.
        while lessor.time_to_live(id, Millis(now)).unwrap().remaining_seconds > 0 {
            now += 1;
        }
        now + 1000
    };
    lessor.leases().into_iter().map(&mut read).collect()
}

#[test]
fn promotion_spreads_many_deadlines() {
    for count in [999, 1000, 10_000, 100_000] {
        let mut lessor = Lessor::new(CONFIG);
        (1..=count).for_each(|id| assert!(lessor.grant(id, 60 + id % 3, Millis(0)).is_ok()));
        lessor.promote(Millis(1000), 500);
        for id in 1..=count {
            let granted = lessor.time_to_live(id, Millis(1499)).unwrap();
            assert!(granted.remaining_seconds >= granted.granted_seconds, "never shorter than the TTL");
        }
        let ends = deadlines(&lessor);
        assert!(ends.last().unwrap() <= &(1500 + 62_000 + SPREAD_MAX_MILLIS), "{count}: {:?}", ends.last());
        let most = SPREAD_PER_SECOND.max((count as usize).div_ceil(10));
        let is_dense = ends.windows(most + 1).any(|ends| ends[most] - ends[0] < 1000);
        assert!(!is_dense, "{count}: more than {most} in a second");
    }
}

#[test]
fn long_leases_are_checkpointed_and_renewal_clears_that() {
    let config = LessorConfig { ttl_min_seconds: 2, checkpoint_interval_seconds: Some(300) };
    let mut lessor = Lessor::new(config);
    lessor.promote(Millis(0), 0);
    lessor.grant(1, 1000, Millis(0)).unwrap();
    lessor.grant(2, 300, Millis(0)).unwrap();
    lessor.grant(3, 301, Millis(0)).unwrap();
    assert!(lessor.due_checkpoints(Millis(299_999)).is_empty());
    lessor.renew(3, Millis(299_999)).unwrap();
    let due = lessor.due_checkpoints(Millis(300_500));
    assert_eq!(due, [Checkpoint { id: 1, remaining_ttl: 700 }], "rounded up; a lease just renewed is not worth it");
    assert!(lessor.due_checkpoints(Millis(300_500)).is_empty());
    let renewed = |lessor: &mut Lessor, now| match lessor.renew(1, Millis(now)) {
        Ok(Renewal::Renewed { ttl: 1000, clear_checkpoint }) => clear_checkpoint,
        other => panic!("{other:?}"),
    };
    assert!(renewed(&mut lessor, 300_600), "the checkpoint on its way is older than this renewal");
    assert!(lessor.checkpoint(1, 700, Millis(300_700)));
    assert_eq!(lessor.stored_ttl(1), Some((1000, 700)));
    assert!(renewed(&mut lessor, 400_000));
    assert!(lessor.checkpoint(1, 0, Millis(400_000)));
    assert!(!renewed(&mut lessor, 400_001));
    assert!(lessor.checkpoint(1, 7, Millis(400_002)));
    lessor.promote(Millis(500_000), 1000);
    assert_eq!(lessor.time_to_live(1, Millis(499_999)).unwrap().remaining_seconds, 8);
    assert!(!lessor.checkpoint(9, 7, Millis(500_000)));
}

/// A leader is promoted when it is elected, which may be before it has applied all that earlier ones have decided.
#[test]
fn a_renewal_that_is_applied_after_a_promotion_counts() {
    let mut lessor = Lessor::new(CONFIG);
    let left = |lessor: &Lessor| lessor.time_to_live(1, Millis(0)).unwrap().remaining_seconds + 1;
    lessor.grant(1, 100, Millis(0)).unwrap();
    lessor.checkpoint(1, 7, Millis(0));
    lessor.promote(Millis(0), 1000);
    assert_eq!(left(&lessor), 8);
    lessor.checkpoint(1, 6, Millis(0));
    assert_eq!(left(&lessor), 8, "who leads has its own times");
    lessor.checkpoint(1, 0, Millis(0));
    assert_eq!(left(&lessor), 100);
    let mut expired = Vec::new();
    lessor.expired(Millis(99_999), &mut expired);
    assert!(expired.is_empty());
    lessor.expired(Millis(100_000), &mut expired);
    assert_eq!(expired, [1]);
    lessor.checkpoint(1, 0, Millis(100_000));
    assert_eq!(lessor.next_deadline(), None, "its end is decided");
}

#[test]
fn at_most_a_thousand_checkpoints_share_an_entry() {
    let config = LessorConfig { ttl_min_seconds: 2, checkpoint_interval_seconds: Some(300) };
    let mut lessor = Lessor::new(config);
    lessor.promote(Millis(0), 0);
    (1..=1500).for_each(|id| assert!(lessor.grant(id, 1000, Millis(0)).is_ok()));
    assert_eq!(lessor.due_checkpoints(Millis(300_000)).len(), 1000);
    assert_eq!(lessor.due_checkpoints(Millis(300_000)).len(), 500);
    assert_eq!(lessor.due_checkpoints(Millis(300_000)).len(), 0);
}

#[test]
fn restored_leases_wait_for_promotion() {
    let mut lessor = Lessor::new(CONFIG);
    lessor.restore(7, 1, 0);
    lessor.restore(8, 60, 30);
    lessor.attach(7, b"k").unwrap();
    let mut out = Vec::new();
    lessor.expired(Millis(1 << 50), &mut out);
    assert!(out.is_empty());
    assert_eq!(lessor.next_deadline(), None);
    lessor.promote(Millis(0), 1000);
    assert_eq!(lessor.next_deadline(), Some(Millis(3000)), "raised to the minimum TTL");
    assert_eq!(lessor.time_to_live(8, Millis(0)).unwrap().remaining_seconds, 30);
}

/// Run with `cargo test --release -p plinth-engine --test lease_model cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_many_leases() {
    use std::time::Instant;
    const LEASES: i64 = 100_000;
    const KEYS: usize = 1_000_000;
    let report = |what: &str, start: Instant, count: usize| {
        println!("{what}: {:.0} ns each", start.elapsed().as_nanos() as f64 / count as f64);
    };
    let resident = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
    };
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|i| format!("/registry/events/{i:014}").into_bytes()).collect();
    let mut lessor = Lessor::new(CONFIG);
    let start = Instant::now();
    keys.iter().for_each(|key| lessor.detach(key));
    report("detach without any leases", start, KEYS);
    lessor.promote(Millis(0), 0);
    let before = resident();
    let start = Instant::now();
    (1..=LEASES).for_each(|id| assert!(lessor.grant(id, 3600, Millis(id as u64)).is_ok()));
    report("grant", start, LEASES as usize);
    println!("{} bytes a lease", (resident() - before) / LEASES as usize);
    let before = resident();
    let start = Instant::now();
    for (i, key) in keys.iter().enumerate() {
        lessor.attach(1 + i as i64 % LEASES, key).expect("the lease exists");
    }
    report("attach", start, KEYS);
    println!("{} bytes an attached key of {} bytes", (resident() - before) / KEYS, keys[0].len());
    let start = Instant::now();
    (1..=LEASES).for_each(|id| assert!(lessor.renew(id, Millis(1_000_000)).is_ok()));
    report("renew", start, LEASES as usize);
    let start = Instant::now();
    let mut out = Vec::new();
    lessor.expired(Millis(4_000_000), &mut out);
    report("look for expired ones when there are none", start, LEASES as usize);
    assert!(out.is_empty());
    let start = Instant::now();
    lessor.promote(Millis(4_000_000), 1000);
    report("promote", start, LEASES as usize);
    let start = Instant::now();
    (1..=LEASES).for_each(|id| assert_eq!(lessor.revoke(id).map(|keys| keys.len()), Ok(10)));
    report("revoke with ten keys", start, LEASES as usize);
}
