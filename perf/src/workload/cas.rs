//! Guarded updates: put if the key's mod revision is the one last seen, else read the key. A slot has keys of
//! its own, so after the first round every guard holds; the cost measured is that of the transaction.

use super::{Job, Methods, Source, Spec, key, random_of_slot, value};
use crate::grpc::{self, Keep, Method};
use bytes::Bytes;
use plinth_api::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op};
use plinth_api::wire;
use plinth_random::Random;
use std::collections::HashMap;
use std::rc::Rc;

/// Updates of the keys `slot`, `slot + slots`, ...
pub struct Cas {
    method: Rc<Method>,
    random: Random,
    guards: Guards,
    value: Bytes,
    first: u64,
    step: u64,
    own_keys: u64,
}

impl Cas {
    /// The share of one slot.
    pub fn new(spec: &Spec, methods: &Methods, slot: usize) -> Cas {
        let (first, step) = own_keys(spec, slot);
        Cas {
            method: methods.txn.clone(),
            random: random_of_slot(spec, slot),
            guards: Guards::default(),
            value: value(spec.value_bytes).into(),
            first,
            step,
            own_keys: (spec.keys - first).div_ceil(step),
        }
    }
}

/// First key and step of a slot's own keys. With fewer keys than slots, slots share keys and some guards fail.
pub fn own_keys(spec: &Spec, slot: usize) -> (u64, u64) {
    (slot as u64 % spec.keys, spec.slots() as u64)
}

impl Source for Cas {
    fn next(&mut self) -> Option<Job> {
        let number = self.first + self.step * self.random.below(self.own_keys);
        let framed = self.guards.update(number, &self.value);
        Some(Job { method: self.method.clone(), framed, keep: Keep::Body, class: 0 })
    }

    fn answered(&mut self, message: &[u8]) {
        self.guards.answered(message);
    }
}

/// What a slot knows of the mod revisions of its keys.
#[derive(Default)]
pub struct Guards {
    seen: HashMap<u64, i64>,
    asked: u64,
}

impl Guards {
    /// The last seen mod revision of a key; 0 if it is not known or not there.
    pub fn of(&self, number: u64) -> i64 {
        self.seen.get(&number).copied().unwrap_or(0)
    }

    /// An update of key `number` under its guard.
    pub fn update(&mut self, number: u64, value: &Bytes) -> Bytes {
        let put = PutRequest { key: key(number).into(), value: value.clone(), ..Default::default() };
        self.guarded(number, request_op::Request::RequestPut(put))
    }

    /// Any change of key `number` under its guard, with a read of the key if the guard fails.
    pub fn guarded(&mut self, number: u64, change: request_op::Request) -> Bytes {
        let key: Bytes = key(number).into();
        self.asked = number;
        let guard = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(compare::TargetUnion::ModRevision(self.of(number))),
            ..Default::default()
        };
        let read = request_op::Request::RequestRange(RangeRequest { key, ..Default::default() });
        grpc::frame(&TxnRequest {
            compare: vec![guard],
            success: vec![RequestOp { request: Some(change) }],
            failure: vec![RequestOp { request: Some(read) }],
        })
    }

    /// Learns from the answer to the last request.
    pub fn answered(&mut self, message: &[u8]) {
        let revision = if succeeded(message) { wire::header_revision(message) } else { read_revision(message) };
        self.seen.insert(self.asked, revision);
    }

    /// Notes that the key of the last request is gone.
    pub fn gone(&mut self) {
        self.seen.insert(self.asked, 0);
    }
}

/// `TxnResponse.succeeded`.
pub fn succeeded(message: &[u8]) -> bool {
    wire::integer_field(message, 2) != 0
}

/// `responses[0].response_range.kvs[0].mod_revision`, 0 where the key is absent.
fn read_revision(message: &[u8]) -> i64 {
    let kv = wire::bytes_field(message, 3)
        .and_then(|response| wire::bytes_field(response, 1))
        .and_then(|range| wire::bytes_field(range, 2));
    kv.map_or(0, |kv| wire::integer_field(kv, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_api::proto::etcdserverpb::{RangeResponse, ResponseHeader, ResponseOp, TxnResponse, response_op};
    use plinth_api::proto::mvccpb::KeyValue;
    use prost::Message;

    #[test]
    fn guards_learn_from_both_branches() {
        let mut guards = Guards::default();
        guards.update(5, &Bytes::new());
        let header = Some(ResponseHeader { revision: 70, ..Default::default() });
        let kvs = vec![KeyValue { mod_revision: 41, ..Default::default() }];
        let read = response_op::Response::ResponseRange(RangeResponse { kvs, count: 1, ..Default::default() });
        let responses = vec![ResponseOp { response: Some(read) }];
        guards.answered(&TxnResponse { header, succeeded: false, responses }.encode_to_vec());
        assert_eq!(guards.of(5), 41);
        guards.update(5, &Bytes::new());
        guards.answered(&TxnResponse { header, succeeded: true, responses: Vec::new() }.encode_to_vec());
        assert_eq!((guards.of(5), guards.of(6)), (70, 0));
    }
}
