//! The naive model: a list of all changes ever made, and everything else computed from it by walking it.

use std::collections::{BTreeMap, BTreeSet};

use plinth_engine::command::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use plinth_engine::error::OpError;

/// A pair at some revision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kv {
    pub key: Vec<u8>,
    pub create: i64,
    pub modified: (i64, i64),
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: i64,
}

impl Kv {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        bytes_field(&mut out, 1, &self.key);
        int_field(&mut out, 2, self.create);
        int_field(&mut out, 3, self.modified.0);
        int_field(&mut out, 4, self.version);
        bytes_field(&mut out, 5, &self.value);
        int_field(&mut out, 6, self.lease);
        out
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

pub fn int_field(out: &mut Vec<u8>, field: u64, value: i64) {
    if value != 0 {
        varint(out, field << 3);
        varint(out, value as u64);
    }
}

pub fn message_field(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    if !value.is_empty() {
        message_field(out, field, value);
    }
}

/// One change: a put of value and lease, or a delete.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: (i64, i64),
    pub key: Vec<u8>,
    pub put: Option<(Vec<u8>, i64)>,
}

impl Change {
    /// Key and value as tree `Rev` stores them.
    pub fn record(&self, model: &Model) -> (Vec<u8>, Vec<u8>) {
        let mut key = self.revision.0.to_be_bytes().to_vec();
        key.push(b'_');
        key.extend(self.revision.1.to_be_bytes());
        if self.put.is_none() {
            key.push(b't');
            return (key, Kv { key: self.key.clone(), ..Kv::default() }.encode());
        }
        let kv = model.kv_after(&self.key, self.revision).expect("a put makes a pair");
        (key, kv.encode())
    }
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub changes: Vec<Change>,
    pub revision: i64,
    pub compact_revision: i64,
    pub leases: BTreeMap<i64, i64>,
    pub has_no_space: bool,
}

pub fn selects(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        b"" => candidate == key,
        b"\0" => candidate >= key,
        _ => candidate >= key && candidate < range_end,
    }
}

/// Response body (without header) and revision of the header.
pub type Answer = Result<(i64, Vec<u8>), OpError>;

impl Model {
    pub fn new() -> Self {
        Self { revision: 1, compact_revision: -1, ..Self::default() }
    }

    /// The pair of a key after the change at `revision`.
    pub fn kv_after(&self, key: &[u8], revision: (i64, i64)) -> Option<Kv> {
        let mut kv: Option<Kv> = None;
        for change in self.changes.iter().filter(|change| change.key == key && change.revision <= revision) {
            kv = change.put.as_ref().map(|(value, lease)| Kv {
                key: key.to_vec(),
                create: kv.as_ref().map_or(change.revision.0, |kv| kv.create),
                modified: change.revision,
                version: kv.as_ref().map_or(0, |kv| kv.version) + 1,
                value: value.clone(),
                lease: *lease,
            });
        }
        kv
    }

    pub fn kv_at(&self, key: &[u8], at: i64) -> Option<Kv> {
        self.kv_after(key, (at, i64::MAX))
    }

    pub fn keys(&self) -> BTreeSet<Vec<u8>> {
        self.changes.iter().map(|change| change.key.clone()).collect()
    }

    fn live(&self, key: &[u8], range_end: &[u8], at: i64) -> Vec<Kv> {
        let keys = self.keys().into_iter().filter(|candidate| selects(key, range_end, candidate));
        keys.filter_map(|key| self.kv_at(&key, at)).collect()
    }

    /// Pairs as answered, `more`, and `count`.
    pub fn range(&self, range: &Range, current: i64) -> Result<(Vec<Kv>, bool, i64), OpError> {
        if range.revision > current {
            return Err(OpError::FutureRevision);
        }
        let at = if range.revision <= 0 { current } else { range.revision };
        if at < self.compact_revision {
            return Err(OpError::Compacted);
        }
        let mut kvs = self.live(&range.key, &range.range_end, at);
        let count = kvs.len() as i64;
        if range.count_only {
            return Ok((vec![], false, count));
        }
        let bounds =
            [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision];
        let is_plain = range.sort_order == SortOrder::None
            || (range.sort_target == SortTarget::Key && range.sort_order == SortOrder::Ascend);
        if is_plain && bounds == [0; 4] && range.limit > 0 {
            kvs.truncate(range.limit as usize + 1);
        }
        kvs.retain(|kv| {
            (bounds[0] == 0 || kv.modified.0 >= bounds[0])
                && (bounds[1] == 0 || kv.modified.0 <= bounds[1])
                && (bounds[2] == 0 || kv.create >= bounds[2])
                && (bounds[3] == 0 || kv.create <= bounds[3])
        });
        sort(&mut kvs, range);
        let more = range.limit > 0 && kvs.len() > range.limit as usize;
        if range.limit > 0 {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        Ok((kvs, more, count))
    }

    fn next_revision(&self, base: i64) -> (i64, i64) {
        let sub = self.changes.iter().rev().take_while(|change| change.revision.0 == base + 1).count();
        (base + 1, sub as i64)
    }

    fn current(&self, base: i64) -> i64 {
        if self.next_revision(base).1 > 0 { base + 1 } else { base }
    }

    fn put(&mut self, put: &Put, base: i64) -> Vec<u8> {
        let before = self.kv_at(&put.key, base + 1);
        let known = before.clone().unwrap_or_default();
        let value = if put.ignore_value { known.value } else { put.value.to_vec() };
        let lease = if put.ignore_lease { known.lease } else { put.lease };
        let revision = self.next_revision(base);
        self.changes.push(Change { revision, key: put.key.to_vec(), put: Some((value, lease)) });
        let mut body = Vec::new();
        if let Some(before) = before.filter(|_| put.prev_kv) {
            message_field(&mut body, 2, &before.encode());
        }
        body
    }

    fn delete(&mut self, delete: &DeleteRange, base: i64) -> Vec<u8> {
        let doomed = self.live(&delete.key, &delete.range_end, base + 1);
        let mut body = Vec::new();
        int_field(&mut body, 2, doomed.len() as i64);
        for kv in doomed {
            if delete.prev_kv {
                message_field(&mut body, 3, &kv.encode());
            }
            self.changes.push(Change { revision: self.next_revision(base), key: kv.key, put: None });
        }
        body
    }

    fn check_put(&self, put: &Put) -> Result<(), OpError> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(OpError::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.kv_at(&put.key, self.revision).is_none() {
            return Err(OpError::KeyNotFound);
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kvs = self.live(&compare.key, &compare.range_end, self.revision);
        if kvs.is_empty() && compare.target == CompareTarget::Value {
            return false;
        }
        let kvs = if kvs.is_empty() { vec![Kv::default()] } else { kvs };
        kvs.iter().all(|kv| {
            let order = match compare.target {
                CompareTarget::Version => kv.version.cmp(&compare.number),
                CompareTarget::Create => kv.create.cmp(&compare.number),
                CompareTarget::Mod => kv.modified.0.cmp(&compare.number),
                CompareTarget::Value => kv.value[..].cmp(&compare.value[..]),
                CompareTarget::Lease => kv.lease.cmp(&compare.number),
                CompareTarget::Unknown => std::cmp::Ordering::Equal,
            };
            match compare.result {
                CompareResult::Equal => order.is_eq(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
                CompareResult::NotEqual => order.is_ne(),
                CompareResult::Unknown => true,
            }
        })
    }

    /// Every txn on the chosen path, replaced by its chosen branch.
    fn choose(&self, txn: &Txn) -> (bool, Vec<Chosen>) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let chosen = ops.iter().map(|op| match op {
            Op::Txn(txn) => Chosen::Txn(self.choose(txn)),
            op => Chosen::Op(op.clone()),
        });
        (succeeded, chosen.collect())
    }

    fn check_chosen(&self, ops: &[Chosen]) -> Result<(), OpError> {
        ops.iter().try_for_each(|op| match op {
            Chosen::Op(Op::Put(put)) => self.check_put(put),
            Chosen::Op(Op::Range(range)) if range.revision > self.revision => Err(OpError::FutureRevision),
            Chosen::Op(Op::Range(range)) if range.revision != 0 && range.revision < self.compact_revision => {
                Err(OpError::Compacted)
            }
            Chosen::Txn((_, ops)) => self.check_chosen(ops),
            Chosen::Op(_) => Ok(()),
        })
    }

    fn run_chosen(&mut self, (succeeded, ops): &(bool, Vec<Chosen>), base: i64) -> Vec<u8> {
        let mut body = Vec::new();
        int_field(&mut body, 2, i64::from(*succeeded));
        for op in ops {
            let (field, inner) = match op {
                Chosen::Op(Op::Range(range)) => {
                    let current = self.current(base);
                    let answer = self.range(range, current).expect("checked before");
                    (1, [header(current), range_body(&answer)].concat())
                }
                Chosen::Op(Op::Put(put)) => {
                    let body = self.put(put, base);
                    (2, [header(base + 1), body].concat())
                }
                Chosen::Op(Op::DeleteRange(delete)) => {
                    let body = self.delete(delete, base);
                    (3, [header(self.current(base)), body].concat())
                }
                Chosen::Txn(chosen) => (4, [vec![0x0a, 0], self.run_chosen(chosen, base)].concat()),
                Chosen::Op(_) => continue,
            };
            let mut response = Vec::new();
            message_field(&mut response, field, &inner);
            message_field(&mut body, 3, &response);
        }
        body
    }

    pub fn apply(&mut self, command: &Command) -> Answer {
        let base = self.revision;
        let costs = match command {
            Command::Put(_) | Command::LeaseGrant { .. } => true,
            Command::Txn(txn) => txn.cost() > 0,
            _ => false,
        };
        if self.has_no_space && costs {
            return Err(OpError::NoSpace);
        }
        let body = match command {
            Command::Put(put) => {
                self.check_put(put)?;
                self.put(put, base)
            }
            Command::DeleteRange(delete) => self.delete(delete, base),
            Command::Txn(txn) => {
                let chosen = self.choose(txn);
                self.check_chosen(&chosen.1)?;
                self.run_chosen(&chosen, base)
            }
            Command::Compact { revision } => {
                if *revision <= self.compact_revision {
                    return Err(OpError::Compacted);
                }
                if *revision > self.revision {
                    return Err(OpError::FutureRevision);
                }
                self.compact_revision = *revision;
                vec![]
            }
            Command::LeaseGrant { id, ttl } => {
                if self.leases.contains_key(id) {
                    return Err(OpError::LeaseExists);
                }
                self.leases.insert(*id, *ttl);
                let mut body = Vec::new();
                int_field(&mut body, 2, *id);
                int_field(&mut body, 3, *ttl);
                body
            }
            Command::LeaseRevoke { id } => {
                self.leases.remove(id).ok_or(OpError::LeaseNotFound)?;
                for key in self.attached(*id) {
                    self.changes.push(Change { revision: self.next_revision(base), key, put: None });
                }
                vec![]
            }
            _ => vec![],
        };
        self.revision = self.current(base);
        Ok((self.revision, body))
    }

    /// The keys whose newest pair has the lease, in order.
    pub fn attached(&self, lease: i64) -> Vec<Vec<u8>> {
        let live = self.live(b"\0", b"\0", self.revision);
        live.into_iter().filter(|kv| kv.lease == lease).map(|kv| kv.key).collect()
    }

    /// What is left in tree `Rev` once compaction is complete.
    pub fn kept_records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let compacted = self.compact_revision;
        let newest = |key: &[u8]| {
            let mut changes = self.changes.iter().filter(|change| change.key == key && change.revision.0 <= compacted);
            changes.next_back().map(|change| change.revision)
        };
        let kept = self.changes.iter().filter(|change| {
            change.revision.0 > compacted
                || (newest(&change.key) == Some(change.revision)
                    && (change.put.is_some() || change.revision.0 == compacted))
        });
        kept.map(|change| change.record(self)).collect()
    }

    /// `HashKV` by etcd's rules, over what a complete compaction at `compacted` leaves.
    pub fn hash_kv(&self, revision: i64, compacted: i64) -> u32 {
        let keep = self.live(b"\0", b"\0", revision).into_iter().map(|kv| kv.modified).collect();
        self.hash_keeping(revision, compacted, &keep)
    }

    /// The hash of a compaction at `revision`, after one at `previous`: tombstones at the revision are kept too.
    pub fn hash_of_compaction(&self, revision: i64, previous: i64) -> u32 {
        let live = self.live(b"\0", b"\0", revision).into_iter().map(|kv| kv.modified);
        let tombstones = self.changes.iter().filter(|change| change.revision.0 == revision && change.put.is_none());
        let keep = live.chain(tombstones.map(|change| change.revision)).collect();
        self.hash_keeping(revision, previous, &keep)
    }

    fn hash_keeping(&self, revision: i64, compacted: i64, keep: &BTreeSet<(i64, i64)>) -> u32 {
        let at_compaction = Model { compact_revision: compacted, ..self.clone() };
        let mut crc = crc32c::crc32c(b"key");
        for (key, value) in at_compaction.kept_records() {
            let main = i64::from_be_bytes(key[..8].try_into().expect("eight bytes"));
            let sub = i64::from_be_bytes(key[9..17].try_into().expect("eight bytes"));
            let is_skipped = main <= compacted && !keep.is_empty() && !keep.contains(&(main, sub));
            if main > revision || is_skipped || (main == compacted && key.len() == 18) {
                continue;
            }
            crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &key), &value);
        }
        crc
    }

    /// Encoded `WatchResponse.events` fields of all changes in `from..=to`, with previous pairs.
    pub fn events(&self, from: i64, to: i64) -> Vec<u8> {
        let mut out = Vec::new();
        for change in self.changes.iter().filter(|change| (from..=to).contains(&change.revision.0)) {
            let mut event = Vec::new();
            int_field(&mut event, 1, i64::from(change.put.is_none()));
            let kv = match change.put {
                Some(_) => self.kv_after(&change.key, change.revision).expect("a put makes a pair"),
                None => Kv { key: change.key.clone(), modified: change.revision, ..Kv::default() },
            };
            message_field(&mut event, 2, &kv.encode());
            let before = self.kv_at(&change.key, change.revision.0 - 1);
            if let Some(before) = before.filter(|_| kv.create != kv.modified.0) {
                message_field(&mut event, 3, &before.encode());
            }
            message_field(&mut out, 11, &event);
        }
        out
    }
}

enum Chosen {
    Op(Op),
    Txn((bool, Vec<Chosen>)),
}

fn sort(kvs: &mut [Kv], range: &Range) {
    let order = match (range.sort_order, range.sort_target) {
        (SortOrder::None, SortTarget::Key) => return,
        (SortOrder::None, _) => SortOrder::Ascend,
        (order, _) => order,
    };
    kvs.sort_by(|a, b| {
        let ascending = match range.sort_target {
            SortTarget::Key | SortTarget::Unknown => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create.cmp(&b.create),
            SortTarget::Mod => a.modified.0.cmp(&b.modified.0),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if order == SortOrder::Descend { ascending.reverse() } else { ascending }
    });
}

fn header(revision: i64) -> Vec<u8> {
    let (mut header, mut out) = (Vec::new(), Vec::new());
    int_field(&mut header, 3, revision);
    message_field(&mut out, 1, &header);
    out
}

pub fn range_body((kvs, more, count): &(Vec<Kv>, bool, i64)) -> Vec<u8> {
    let mut out = Vec::new();
    kvs.iter().for_each(|kv| message_field(&mut out, 2, &kv.encode()));
    int_field(&mut out, 3, i64::from(*more));
    int_field(&mut out, 4, *count);
    out
}
