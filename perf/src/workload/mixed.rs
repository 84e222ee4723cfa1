//! The traffic of a Kubernetes API server in rough proportions: mostly reads of single objects, guarded updates
//! (status and node leases), now and then a list, a creation or a deletion; all changes are transactions on the
//! mod revision, and every change is watched.

use super::cas::{self, Guards};
use super::{Job, Methods, STAMP_BYTES, Source, Spec, key, random_of_slot, stamp_now, value};
use crate::grpc::{self, Keep, Method};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, request_op};
use plinth_random::Random;
use std::rc::Rc;

/// Kinds of requests, in the order of [`SHARES`].
pub const CLASSES: [&str; 4] = ["get", "list", "update", "delete-or-create"];
/// Per mille of each kind.
const SHARES: [u64; 4] = [600, 20, 340, 40];
/// Most objects a list returns; API servers page.
const LIST_LIMIT: i64 = 100;

/// One client of the mix.
pub struct Mixed {
    range: Rc<Method>,
    txn: Rc<Method>,
    random: Random,
    guards: Guards,
    value: Vec<u8>,
    keys: u64,
    first: u64,
    step: u64,
    own_keys: u64,
    last: Last,
}

/// What the last request was, as far as its answer matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Read,
    Update,
    Delete,
}

impl Mixed {
    /// The share of one slot.
    pub fn new(spec: &Spec, methods: &Methods, slot: usize) -> Mixed {
        let (first, step) = cas::own_keys(spec, slot);
        Mixed {
            range: methods.range.clone(),
            txn: methods.txn.clone(),
            random: random_of_slot(spec, slot),
            guards: Guards::default(),
            value: value(spec.value_bytes),
            keys: spec.keys,
            first,
            step,
            own_keys: (spec.keys - first).div_ceil(step),
            last: Last::Read,
        }
    }

    fn class(&mut self) -> usize {
        let mut ticket = self.random.below(SHARES.iter().sum());
        for (class, share) in SHARES.iter().enumerate() {
            if ticket < *share {
                return class;
            }
            ticket -= share;
        }
        unreachable!("a ticket is below the sum of the shares")
    }

    fn stamped_value(&mut self) -> Bytes {
        if self.value.len() >= STAMP_BYTES {
            self.value[..STAMP_BYTES].copy_from_slice(&stamp_now().to_le_bytes());
        }
        Bytes::copy_from_slice(&self.value)
    }

    fn read(&mut self, list: bool) -> Job {
        let number = self.random.below(self.keys);
        let range_end = if list { key(number + 10 * LIST_LIMIT.cast_unsigned()) } else { Vec::new() };
        let limit = if list { LIST_LIMIT } else { 0 };
        let request =
            RangeRequest { key: key(number).into(), range_end: range_end.into(), limit, ..Default::default() };
        self.last = Last::Read;
        Job { method: self.range.clone(), framed: grpc::frame(&request), keep: Keep::Nothing, class: usize::from(list) }
    }

    fn change(&mut self, class: usize) -> Job {
        let number = self.first + self.step * self.random.below(self.own_keys);
        let delete = class == 3 && self.guards.of(number) != 0;
        let framed = if delete {
            self.last = Last::Delete;
            let request = DeleteRangeRequest { key: key(number).into(), ..Default::default() };
            self.guards.guarded(number, request_op::Request::RequestDeleteRange(request))
        } else {
            self.last = Last::Update;
            let value = self.stamped_value();
            let request = PutRequest { key: key(number).into(), value, ..Default::default() };
            self.guards.guarded(number, request_op::Request::RequestPut(request))
        };
        Job { method: self.txn.clone(), framed, keep: Keep::Body, class }
    }
}

impl Source for Mixed {
    fn next(&mut self) -> Option<Job> {
        let class = self.class();
        Some(if class < 2 { self.read(class == 1) } else { self.change(class) })
    }

    fn answered(&mut self, message: &[u8]) {
        match self.last {
            Last::Read => {}
            Last::Delete if cas::succeeded(message) => self.guards.gone(),
            Last::Update | Last::Delete => self.guards.answered(message),
        }
    }
}
