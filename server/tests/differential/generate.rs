//! Makes operations from a seed. Keys and values come from small sets, so that operations meet; every option is
//! drawn now and then, and so is every kind of nonsense the API has an answer for.

use super::op::{COMPACTED, NOW, Op, PICKED};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb::*;
use plinth_api::range::prefix_end;
use plinth_random::Random;

/// Watch streams a run uses.
pub const STREAMS: usize = 3;
/// Leases with ids chosen by the client: `1..=LEASES`.
const LEASES: i64 = 4;
/// Leases with ids picked by the server that requests refer to.
const PICKED_LEASES: i64 = 3;
/// A TTL long enough not to expire within a run.
const LONG_TTL: i64 = 36_000;

/// A number from `low` to `high`, both included.
fn between(random: &mut Random, low: i64, high: i64) -> i64 {
    low + random.below((high - low + 1) as u64) as i64
}

/// A sequence of `count` operations. Even seeds use only leases whose ids the client chose, so that the bytes
/// stored, and therefore the hashes, can be compared; odd seeds also let the server pick.
pub fn sequence(seed: u64, count: usize) -> Vec<Op> {
    let mut make = Make::new(seed);
    (0..count).map(|_| make.op()).collect()
}

/// Makes one operation after the other.
pub struct Make {
    random: Random,
    server_picks: bool,
    /// Whether the alarm is on, by what has been generated; it is not left on for long.
    nospace: bool,
}

impl Make {
    pub fn new(seed: u64) -> Make {
        Make { random: Random::new(seed), server_picks: seed % 2 == 1, nospace: false }
    }

    pub fn op(&mut self) -> Op {
        if self.nospace && self.random.once_in(8) {
            self.nospace = false;
            return Op::Alarm(alarm(alarm_request::AlarmAction::Deactivate));
        }
        match self.random.below(1000) {
            0..250 => Op::Put(self.put()),
            250..330 => Op::Delete(self.delete()),
            330..530 => {
                let mut txn = self.txn(0);
                make_survivable(&mut txn);
                Op::Txn(txn)
            }
            530..740 => Op::Range(self.range()),
            740..760 => Op::Compact(self.compact()),
            760..790 => self.hash(),
            790..880 => self.lease(),
            880..980 => self.watch(),
            980..999 => self.maintenance(),
            999.. => Op::Expire((0..self.random.below(3)).map(|_| self.expiring_put()).collect()),
        }
    }

    fn key(&mut self) -> Bytes {
        const KEYS: [&[u8]; 12] =
            [b"a", b"a\0", b"aa", b"ab", b"b", b"ba", b"c", b"k/1", b"k/2", b"k/3", b"\0", b"\xff\xff"];
        if self.random.once_in(60) { Bytes::new() } else { Bytes::from_static(self.random.pick(&KEYS)) }
    }

    /// An end for a range: none, the prefix, everything behind, the whole space, or any key, also a smaller one.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.below(8) {
            0..2 => Bytes::new(),
            2..4 => Bytes::from_static(b"\0"),
            4..6 => Bytes::from(prefix_end(key)),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.random.below(400) {
            0 => Bytes::from(vec![b'v'; 1 << 20]),
            1 => Bytes::from(vec![b'v'; (3 << 19) + 1]),
            2 => Bytes::from(vec![b'v'; 5 << 19]),
            3..40 => Bytes::new(),
            _ => Bytes::from(format!("value-{}", self.random.below(8))),
        }
    }

    fn lease_id(&mut self) -> i64 {
        match self.random.below(10) {
            0 => 999,
            1..4 if self.server_picks => PICKED + between(&mut self.random, 0, PICKED_LEASES - 1),
            _ => between(&mut self.random, 1, LEASES),
        }
    }

    fn revision(&mut self) -> i64 {
        match self.random.below(12) {
            0 => NOW,
            1 => NOW + 1,
            2 => NOW + 1_000,
            3 => COMPACTED,
            4 => COMPACTED - 1,
            5 => COMPACTED + between(&mut self.random, 1, 10),
            6 => -between(&mut self.random, 1, 5),
            _ => NOW - between(&mut self.random, 1, 20),
        }
    }

    fn put(&mut self) -> PutRequest {
        let mut put = PutRequest { key: self.key(), value: self.value(), ..Default::default() };
        put.prev_kv = self.random.once_in(3);
        if self.random.once_in(5) {
            put.lease = self.lease_id();
        }
        if self.random.once_in(12) {
            put.ignore_value = true;
            if !self.random.once_in(4) {
                put.value = Bytes::new();
            }
        }
        if self.random.once_in(12) {
            put.ignore_lease = true;
            if !self.random.once_in(4) {
                put.lease = 0;
            }
        }
        put
    }

    fn expiring_put(&mut self) -> PutRequest {
        let key = self.random.pick(&[&b"a"[..], b"b", b"c", b"k/1"]);
        PutRequest { key: Bytes::from_static(key), value: Bytes::from_static(b"short-lived"), ..Default::default() }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        // Mostly single keys, so that there is something left for others.
        let range_end = if self.random.once_in(4) { self.range_end(&key) } else { Bytes::new() };
        DeleteRangeRequest { key, range_end, prev_kv: self.random.once_in(2) }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        let mut range = RangeRequest { range_end: self.range_end(&key), key, ..Default::default() };
        if self.random.once_in(3) {
            range.limit = between(&mut self.random, -1, 5);
        }
        if self.random.once_in(3) {
            range.revision = self.revision();
        }
        if self.random.once_in(3) {
            // Unknown numbers are missing here on purpose, see `main`.
            range.sort_order = self.random.pick(&[0, 1, 2]);
            range.sort_target = self.random.pick(&[0, 1, 2, 3, 4]);
        }
        range.serializable = self.random.once_in(4);
        range.keys_only = self.random.once_in(6);
        range.count_only = self.random.once_in(8);
        if self.random.once_in(6) {
            let bound = |make: &mut Make| if make.random.once_in(2) { make.revision() } else { 0 };
            range.min_mod_revision = bound(self);
            range.max_mod_revision = bound(self);
            range.min_create_revision = bound(self);
            range.max_create_revision = bound(self);
        }
        range
    }

    fn compare(&mut self) -> Compare {
        use compare::TargetUnion;
        let key = self.key();
        let range_end = if self.random.once_in(4) { self.range_end(&key) } else { Bytes::new() };
        let result = self.random.pick(&[0, 0, 0, 1, 2, 3, 3, 9]);
        let target = self.random.pick(&[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 8]);
        // Mostly the member of the union that belongs to the target, sometimes another, sometimes none.
        let member = if self.random.once_in(12) { between(&mut self.random, 0, 5) } else { i64::from(target) };
        let target_union = match member {
            0 => Some(TargetUnion::Version(between(&mut self.random, 0, 3))),
            1 => Some(TargetUnion::CreateRevision(self.compared_revision())),
            2 => Some(TargetUnion::ModRevision(self.compared_revision())),
            3 => Some(TargetUnion::Value(self.small_value())),
            4 => Some(TargetUnion::Lease(if self.random.once_in(2) { 0 } else { self.lease_id() })),
            _ => None,
        };
        Compare { result, target, key, range_end, target_union }
    }

    fn small_value(&mut self) -> Bytes {
        Bytes::from(format!("value-{}", self.random.below(8)))
    }

    fn compared_revision(&mut self) -> i64 {
        if self.random.once_in(3) { 0 } else { NOW - between(&mut self.random, 0, 6) }
    }

    fn txn(&mut self, depth: u32) -> TxnRequest {
        let mut txn = TxnRequest {
            compare: (0..self.random.below(3)).map(|_| self.compare()).collect(),
            success: (0..self.random.below(4)).map(|_| self.request_op(depth)).collect(),
            failure: (0..self.random.below(3)).map(|_| self.request_op(depth)).collect(),
        };
        if self.random.once_in(60) {
            let many = self.random.pick(&[127, 128, 129]);
            let read = request_op::Request::RequestRange(RangeRequest { key: "a".into(), ..Default::default() });
            txn.success.resize(many, RequestOp { request: Some(read) });
        }
        txn
    }

    fn request_op(&mut self, depth: u32) -> RequestOp {
        use request_op::Request;
        let request = match self.random.below(20) {
            // With the alarm on, 3.7 refuses transactions whose nested ones put, and 3.5 does not.
            0..8 if depth > 0 && self.nospace => Some(Request::RequestRange(self.range())),
            0..8 => Some(Request::RequestPut(self.put())),
            8..13 => Some(Request::RequestRange(self.range())),
            13..16 => Some(Request::RequestDeleteRange(self.delete())),
            16..19 if depth < 3 => Some(Request::RequestTxn(self.txn(depth + 1))),
            16..19 if !self.nospace => Some(Request::RequestPut(self.put())),
            _ if self.random.once_in(4) => None,
            _ => Some(Request::RequestRange(self.range())),
        };
        RequestOp { request }
    }

    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.random.below(6) {
            0..3 => NOW - between(&mut self.random, 1, 15),
            _ => self.revision(),
        };
        CompactionRequest { revision, physical: self.random.once_in(2) }
    }

    /// Hashes hold lease ids, so they are compared only if both servers have the same.
    fn hash(&mut self) -> Op {
        if self.server_picks {
            return Op::Range(self.range());
        }
        Op::HashKv(HashKvRequest { revision: if self.random.once_in(2) { 0 } else { self.revision() } })
    }

    fn lease(&mut self) -> Op {
        match self.random.below(10) {
            0..3 => {
                let id =
                    if self.server_picks && self.random.once_in(2) { 0 } else { between(&mut self.random, 1, LEASES) };
                Op::Grant(LeaseGrantRequest { ttl: LONG_TTL + between(&mut self.random, 0, 9), id })
            }
            3 => {
                let ttl = self.random.pick(&[0, -1, 1, 2, 3, 5, i64::MIN, 9_000_000_000, 9_000_000_001, i64::MAX]);
                Op::GrantAndRevoke(LeaseGrantRequest { ttl, id: 77 })
            }
            4..6 => Op::Revoke(LeaseRevokeRequest { id: self.lease_id() }),
            6 => Op::KeepAlive(LeaseKeepAliveRequest { id: self.lease_id() }),
            7 => Op::Leases,
            _ => Op::TimeToLive(LeaseTimeToLiveRequest { id: self.lease_id(), keys: self.random.once_in(2) }),
        }
    }

    fn watch(&mut self) -> Op {
        let stream = self.random.below(STREAMS as u64) as usize;
        match self.random.below(20) {
            0..11 => Op::Watch(stream, self.watch_create()),
            11..16 => Op::Cancel(stream, WatchCancelRequest { watch_id: between(&mut self.random, 0, 6) }),
            16..19 => Op::Progress(stream),
            _ => Op::CloseStream(stream),
        }
    }

    fn watch_create(&mut self) -> WatchCreateRequest {
        let key = self.key();
        let mut create = WatchCreateRequest { range_end: self.range_end(&key), key, ..Default::default() };
        if self.random.once_in(3) {
            create.start_revision = self.revision();
        }
        create.progress_notify = self.random.once_in(5);
        create.prev_kv = self.random.once_in(2);
        create.fragment = self.random.once_in(4);
        if self.random.once_in(5) {
            create.filters = self.random.pick(&[vec![0], vec![1], vec![0, 1], vec![1, 1]]);
        }
        if self.random.once_in(5) {
            create.watch_id = between(&mut self.random, 1, 6);
        }
        create
    }

    fn maintenance(&mut self) -> Op {
        match self.random.below(8) {
            0 => {
                self.nospace = true;
                Op::Alarm(alarm(alarm_request::AlarmAction::Activate))
            }
            1 => Op::Alarm(alarm(alarm_request::AlarmAction::Get)),
            2 => Op::Defragment,
            3..5 => Op::MemberList(MemberListRequest { linearizable: self.random.once_in(2) }),
            _ => Op::Status,
        }
    }
}

/// A delete with an open end is not checked against the puts of its transaction. etcd accepts both together and does
/// not survive what follows: a put with `ignore_value` whose key is gone by then stops it at once, and a compaction
/// at just this revision leaves a key that stops it when it is read. `contract` asks Plinth alone.
fn make_survivable(txn: &mut TxnRequest) {
    use request_op::Request;
    fn visit(txn: &mut TxnRequest, each: &mut dyn FnMut(&mut Request)) {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut op.request {
                Some(Request::RequestTxn(nested)) => visit(nested, each),
                Some(other) => each(other),
                None => {}
            }
        }
    }
    let mut puts = false;
    visit(txn, &mut |request| puts |= matches!(request, Request::RequestPut(_)));
    visit(txn, &mut |request| match request {
        Request::RequestDeleteRange(delete) if puts && &delete.range_end[..] == b"\0" => {
            delete.range_end = Bytes::new()
        }
        _ => {}
    });
}

fn alarm(action: alarm_request::AlarmAction) -> AlarmRequest {
    AlarmRequest { action: action.into(), member_id: 0, alarm: AlarmType::Nospace.into() }
}

#[test]
fn a_seed_means_the_same_sequence() {
    assert_eq!(sequence(5, 500), sequence(5, 500));
    assert_ne!(sequence(5, 500), sequence(6, 500));
}
