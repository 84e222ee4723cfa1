//! Brings answers of two servers into a form in which they must be equal: ids that are each server's own become
//! tokens, orders that are nobody's promise become sorted. What is left is compared to the last field.
//!
//! Also here: every difference that is tolerated because the reference at hand is etcd 3.5 and the contract is
//! etcd 3.7 (see [`as_of_3_7`]).

use super::client::Failure;
use super::op::Meaning;
use plinth_api::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use plinth_api::proto::etcdserverpb::*;
use plinth_api::proto::mvccpb::{Event, KeyValue};
use tonic::Code;

/// What stands for a server's own cluster id, member id and term.
const TOKENS: [u64; 3] = [1, 2, 3];

/// The ids of one server, as its first answer gave them.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// `header.cluster_id`.
    pub cluster_id: u64,
    /// `header.member_id`.
    pub member_id: u64,
    /// `header.raft_term`; a single member that is not restarted keeps its term.
    pub raft_term: u64,
}

/// Normalizes the answers of one server.
pub struct Normal<'a> {
    /// Its ids.
    pub identity: Identity,
    /// The leases it picked.
    pub meaning: Meaning<'a>,
}

impl Normal<'_> {
    /// Ids become tokens; an id that is neither 0 nor the server's own stays, and will differ.
    pub fn header(&self, header: &mut Option<ResponseHeader>) {
        let Some(header) = header else { return };
        let own = [self.identity.cluster_id, self.identity.member_id, self.identity.raft_term];
        let fields = [&mut header.cluster_id, &mut header.member_id, &mut header.raft_term];
        for ((field, own), token) in fields.into_iter().zip(own).zip(TOKENS) {
            if *field == own {
                *field = token;
            }
        }
    }

    /// A member id on its own.
    pub fn member_id(&self, id: &mut u64) {
        if *id == self.identity.member_id {
            *id = TOKENS[1];
        }
    }

    /// A lease id on its own.
    pub fn lease(&self, id: &mut i64) {
        *id = self.meaning.lease_symbol(*id);
    }

    fn kv(&self, kv: &mut KeyValue) {
        self.lease(&mut kv.lease);
        shorten(kv);
    }

    /// `PutResponse`.
    pub fn put(&self, answer: &mut PutResponse) {
        self.header(&mut answer.header);
        answer.prev_kv.iter_mut().for_each(|kv| self.kv(kv));
    }

    /// `DeleteRangeResponse`.
    pub fn delete(&self, answer: &mut DeleteRangeResponse) {
        self.header(&mut answer.header);
        answer.prev_kvs.iter_mut().for_each(|kv| self.kv(kv));
    }

    /// `RangeResponse`, with equal elements of an unstable sort brought into the order of their keys.
    pub fn range(&self, request: &RangeRequest, answer: &mut RangeResponse) {
        self.header(&mut answer.header);
        settle_ties(request, answer);
        answer.kvs.iter_mut().for_each(|kv| self.kv(kv));
    }

    /// `TxnResponse`. `request` is the transaction it answers, for the ranges within.
    pub fn txn(&self, request: &TxnRequest, answer: &mut TxnResponse) {
        self.header(&mut answer.header);
        let ops = if answer.succeeded { &request.success } else { &request.failure };
        for (op, answer) in ops.iter().zip(&mut answer.responses) {
            use request_op::Request;
            use response_op::Response;
            match (&op.request, &mut answer.response) {
                (Some(Request::RequestRange(request)), Some(Response::ResponseRange(range))) => {
                    self.range(request, range)
                }
                (_, Some(Response::ResponsePut(put))) => self.put(put),
                (_, Some(Response::ResponseDeleteRange(delete))) => self.delete(delete),
                (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(txn))) => self.txn(request, txn),
                _ => {}
            }
        }
    }

    /// An event of a watch.
    pub fn event(&self, event: &mut Event) {
        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|kv| self.kv(kv));
    }
}

/// A megabyte of the same byte is its length and a sample.
fn shorten(kv: &mut KeyValue) {
    if kv.value.len() > 64 {
        kv.value = format!("{} bytes beginning with {:?}", kv.value.len(), kv.value.slice(..8)).into();
    }
}

/// Whether a range request asks for a sort that leaves the order of equal elements open.
fn sort_target(request: &RangeRequest) -> Option<SortTarget> {
    let target = SortTarget::try_from(request.sort_target).ok()?;
    SortOrder::try_from(request.sort_order).ok()?;
    (target != SortTarget::Key).then_some(target)
}

/// Puts each run of equal elements into key order. A cut by `limit` may fall into such a run, and then which of
/// its elements are there is open: of the last run only the sort key is compared.
fn settle_ties(request: &RangeRequest, answer: &mut RangeResponse) {
    let Some(target) = sort_target(request) else { return };
    if target == SortTarget::Value && request.keys_only {
        // The values sorted by are not in the answer; neither order nor cut can be judged.
        answer.kvs.sort_by(|left, right| left.key.cmp(&right.key));
        if answer.more {
            answer.kvs.iter_mut().for_each(|kv| *kv = KeyValue::default());
        }
        return;
    }
    let equal = |left: &KeyValue, right: &KeyValue| match target {
        SortTarget::Key => left.key == right.key,
        SortTarget::Version => left.version == right.version,
        SortTarget::Create => left.create_revision == right.create_revision,
        SortTarget::Mod => left.mod_revision == right.mod_revision,
        SortTarget::Value => left.value == right.value,
    };
    let mut last_run = 0;
    let mut start = 0;
    while start < answer.kvs.len() {
        let run = answer.kvs[start..].iter().take_while(|kv| equal(kv, &answer.kvs[start])).count();
        answer.kvs[start..start + run].sort_by(|left, right| left.key.cmp(&right.key));
        last_run = start;
        start += run;
    }
    // With order NONE the cut comes before the sort and is no matter of ties.
    if answer.more && request.sort_order != SortOrder::None as i32 {
        for kv in &mut answer.kvs[last_run..] {
            let kept = std::mem::take(kv);
            match target {
                SortTarget::Key => kv.key = kept.key,
                SortTarget::Version => kv.version = kept.version,
                SortTarget::Create => kv.create_revision = kept.create_revision,
                SortTarget::Mod => kv.mod_revision = kept.mod_revision,
                SortTarget::Value => kv.value = kept.value,
            }
        }
    }
}

/// The tolerated differences between etcd 3.5 (the reference that runs) and 3.7 (the contract): each function turns
/// what 3.5 answered into what 3.7 answers. Used only if the subject says it is 3.7. This is the whole list, but for
/// what is never sent to 3.5 because it does not survive it, see `main`.
pub mod as_of_3_7 {
    use super::*;

    /// Of several checks of a transaction that fail, 3.5 tells that of a put before that of a range, and that of a put's
    /// key before that of its lease; 3.7 goes by the order of the operations. So here they are all the same, and
    /// `contract` looks at the order.
    pub fn failed_check(failure: &mut Failure) {
        let checks = [
            "etcdserver: key not found",
            "etcdserver: requested lease not found",
            "etcdserver: mvcc: required revision is a future revision",
            "etcdserver: mvcc: required revision has been compacted",
        ];
        if checks.contains(&failure.message.as_str()) {
            *failure = Failure { code: Code::Unknown, message: "a check of the transaction".to_owned() };
        }
    }

    /// `hash_revision` came with 3.6: the revision asked for, or the current one for 0.
    pub fn hash_kv(request: &HashKvRequest, current: i64, answer: &mut HashKvResponse) {
        answer.hash_revision = if request.revision == 0 { current } else { request.revision };
    }
}
