//! The traffic of a Kubernetes API server, in two proportions: [`MIXED`] mostly reads single objects, [`APISERVER`] mostly
//! updates them (status and node leases), as a cluster at rest does. All changes are transactions on the mod revision,
//! and every change is watched.

use super::cas::{self, Guards};
use super::{Job, Methods, STAMP_BYTES, Source, Spec, key, random_of_slot, stamp_now, value};
use crate::grpc::{self, Keep, Method};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, request_op};
use plinth_random::Random;
use std::rc::Rc;

/// Proportions of requests. The first kind is the one that reports put in front.
pub struct Mix {
    /// What each kind is called in reports.
    pub classes: &'static [&'static str],
    /// What is sent for each of them, and how many of a thousand requests are of it.
    shares: &'static [(Step, u64)],
    /// Most objects that a list returns.
    list_limit: i64,
}

/// Mostly reads, with creations and deletions, and pages of lists.
pub const MIXED: Mix = Mix {
    classes: &["get", "list", "update", "delete-or-create"],
    shares: &[(Step::Get, 600), (Step::List, 20), (Step::Update, 340), (Step::Exist, 40)],
    list_limit: 100,
};

/// Mostly updates, with small lists and leases.
pub const APISERVER: Mix = Mix {
    classes: &["update", "get", "list", "lease"],
    shares: &[(Step::Update, 550), (Step::Get, 250), (Step::List, 150), (Step::Grant, 50)],
    list_limit: 10,
};

/// One kind of request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Get,
    List,
    Update,
    /// Deletes what is there, creates what is not.
    Exist,
    Grant,
}

/// Seconds that a granted lease lives: runs are over before.
const LEASE_SECONDS: i64 = 600;

/// One client of the mix.
pub struct Mixed {
    mix: &'static Mix,
    range: Rc<Method>,
    txn: Rc<Method>,
    grant: Rc<Method>,
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
    /// Its answer is not looked at.
    Unkept,
    Update,
    Delete,
}

impl Mixed {
    /// The share of one slot.
    pub fn new(mix: &'static Mix, spec: &Spec, methods: &Methods, slot: usize) -> Mixed {
        let (first, step) = cas::own_keys(spec, slot);
        Mixed {
            mix,
            grant: methods.lease_grant.clone(),
            range: methods.range.clone(),
            txn: methods.txn.clone(),
            random: random_of_slot(spec, slot),
            guards: Guards::default(),
            value: value(spec.value_bytes),
            keys: spec.keys,
            first,
            step,
            own_keys: (spec.keys - first).div_ceil(step),
            last: Last::Unkept,
        }
    }

    fn class(&mut self) -> usize {
        let mut ticket = self.random.below(self.mix.shares.iter().map(|(_, share)| share).sum());
        for (class, (_, share)) in self.mix.shares.iter().enumerate() {
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

    fn read(&mut self, list: bool) -> (Rc<Method>, Bytes, Keep) {
        let number = self.random.below(self.keys);
        let limit = if list { self.mix.list_limit } else { 0 };
        let range_end = if list { key(number + 10 * limit.cast_unsigned()) } else { Vec::new() };
        let request =
            RangeRequest { key: key(number).into(), range_end: range_end.into(), limit, ..Default::default() };
        self.last = Last::Unkept;
        (self.range.clone(), grpc::frame(&request), Keep::Nothing)
    }

    fn grant(&mut self) -> (Rc<Method>, Bytes, Keep) {
        self.last = Last::Unkept;
        (self.grant.clone(), grpc::frame(&LeaseGrantRequest { ttl: LEASE_SECONDS, id: 0 }), Keep::Nothing)
    }

    fn change(&mut self, may_delete: bool) -> (Rc<Method>, Bytes, Keep) {
        let number = self.first + self.step * self.random.below(self.own_keys);
        let framed = if may_delete && self.guards.of(number) != 0 {
            self.last = Last::Delete;
            let request = DeleteRangeRequest { key: key(number).into(), ..Default::default() };
            self.guards.guarded(number, request_op::Request::RequestDeleteRange(request))
        } else {
            self.last = Last::Update;
            let value = self.stamped_value();
            let request = PutRequest { key: key(number).into(), value, ..Default::default() };
            self.guards.guarded(number, request_op::Request::RequestPut(request))
        };
        (self.txn.clone(), framed, Keep::Body)
    }
}

impl Source for Mixed {
    fn next(&mut self) -> Option<Job> {
        let class = self.class();
        let (method, framed, keep) = match self.mix.shares[class].0 {
            Step::Get => self.read(false),
            Step::List => self.read(true),
            Step::Update => self.change(false),
            Step::Exist => self.change(true),
            Step::Grant => self.grant(),
        };
        Some(Job { method, framed, keep, class })
    }

    fn answered(&mut self, message: &[u8]) {
        match self.last {
            Last::Unkept => {}
            Last::Delete if cas::succeeded(message) => self.guards.gone(),
            Last::Update | Last::Delete => self.guards.answered(message),
        }
    }
}
