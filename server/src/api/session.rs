//! What locks and elections share: keys under a name, one per lease, whose order of creation is the order of turns.
//! The steps are those of etcd's `concurrency` package, done on the server.

use super::ids;
use super::internal_watch::{Cancelled, InternalWatch};
use crate::answer::status;
use crate::caller::{Caller, User};
use crate::home::{Home, scrub};
use bytes::Bytes;
use plinth_api::proto::{etcdserverpb as pb, mvccpb};
use plinth_api::range::prefix_end;
use plinth_engine::budget::Budget;
use plinth_engine::command::{
    Command, Compare, CompareTarget, DeleteRange, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use plinth_engine::store::Outcome;
use plinth_engine::store::range::{Opened, RangeQuery, RangeSummary, Step};
use plinth_net::grpc::Status;
use plinth_net::turn;
use prost::Message;
use std::rc::Rc;

/// Time to live of the lease made for a caller without one, in seconds.
const LEASE_TTL: i64 = 60;

/// A caller, and the home that does the steps for it.
pub struct Session {
    /// Where the keys are.
    pub home: Rc<Home>,
    /// On whose behalf.
    pub caller: Caller,
}

impl Session {
    /// Replicates a command; what came of it. Each step is a call of its own: its token has to be good by then.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Status> {
        let user = self.home.identified(&self.caller).await?;
        self.home.propose_for(user.as_ref().map(User::author), command).await
    }

    /// Watches a range, if the caller may.
    pub async fn watch(&self, key: &[u8], range_end: &[u8], start_revision: i64) -> Result<InternalWatch, Status> {
        let user = self.home.identified(&self.caller).await?;
        self.home.may(user.as_ref(), |auth, author| auth.may_range(author, key, range_end))?;
        Ok(InternalWatch::open(&self.home, key, range_end, start_revision))
    }

    /// The lease given, or a new one.
    pub async fn lease_or_new(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let id = ids::next(&self.home);
        let user = self.home.identified(&self.caller).await?;
        self.home.must_be_somebody(user.as_ref())?;
        self.propose(Command::LeaseGrant { id, ttl: LEASE_TTL }).await?;
        Ok(id)
    }

    /// Replicates a transaction; its answer, with the revision of its header.
    pub async fn commit(&self, txn: Txn) -> Result<(i64, pb::TxnResponse), Status> {
        let outcome = self.propose(Command::Txn(txn)).await?;
        let (revision, body) = (outcome.revision, outcome.body.into_vec());
        let response = pb::TxnResponse::decode(body.as_slice()).expect("encoded by this process");
        Ok((revision, response))
    }

    /// Reads a range at a linearizable moment.
    pub async fn read(&self, query: RangeQuery<'_>) -> Result<(RangeSummary, Vec<mvccpb::KeyValue>), Status> {
        self.home.barrier().await?;
        let home = &self.home;
        let user = home.identified(&self.caller).await?;
        let stamp = home.may(user.as_ref(), |auth, author| auth.may_range(author, query.key, query.range_end))?;
        let mut pairs = Vec::new();
        let opened = home.state_mut().member.store_mut().range_open(&query, Budget::STEP, &mut pairs);
        let summary = match opened.map_err(|error| scrub::read_failed(home, error))? {
            Opened::Done(summary) => summary,
            Opened::More(mut cursor) => loop {
                turn::pass().await;
                let step = home.state().member.store().range_step(&mut cursor, Budget::STEP, &mut pairs);
                if let Step::Done(summary) = step.map_err(|error| scrub::read_failed(home, error))? {
                    break summary;
                }
            },
        };
        home.is_current(stamp)?;
        let decoded = pb::RangeResponse::decode(pairs.as_slice()).expect("encoded by this process");
        Ok((summary, decoded.kvs))
    }

    /// Waits until no key of the folder is older than `create_revision`.
    pub async fn wait_for_turn(
        &self,
        folder: &[u8],
        create_revision: i64,
        cancelled: &Cancelled,
    ) -> Result<(), Status> {
        let end = Bytes::from(prefix_end(folder));
        loop {
            let query = RangeQuery {
                key: folder,
                range_end: &end,
                limit: 1,
                sort_order: SortOrder::Descend,
                sort_target: SortTarget::Create,
                max_create_revision: create_revision - 1,
                ..RangeQuery::default()
            };
            let (summary, older) = self.read(query).await?;
            let Some(before) = older.first() else { return Ok(()) };
            let watch = self.watch(&before.key, &[], summary.revision + 1).await?;
            loop {
                let Some(response) = watch.next(cancelled).await else {
                    if cancelled.is_set() || self.home.is_stopping() {
                        return Err(status::STOPPED);
                    }
                    break;
                };
                if response.events.iter().any(|event| event.r#type == mvccpb::event::EventType::Delete as i32) {
                    break;
                }
            }
        }
    }
}

/// The folder of a name, and the key of a lease in it.
pub fn place(name: &[u8], lease: i64) -> (Bytes, Bytes) {
    let folder = [name, b"/"].concat();
    let key = [folder.as_slice(), format!("{lease:x}").as_bytes()].concat();
    (folder.into(), key.into())
}

/// Whether a key was created at a revision (0: does not exist).
pub fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare { target: CompareTarget::Create, key: key.clone(), number: revision, ..Compare::default() }
}

/// Stores a pair with a lease.
pub fn put(key: &Bytes, value: Bytes, lease: i64) -> Op {
    Op::Put(Put { key: key.clone(), value, lease, ..Put::default() })
}

/// Reads a key.
pub fn get(key: &Bytes) -> Op {
    Op::Range(Range { key: key.clone(), ..Range::default() })
}

/// Deletes a key.
pub fn delete(key: &Bytes) -> DeleteRange {
    DeleteRange { key: key.clone(), ..DeleteRange::default() }
}

/// The pairs of one range in the answer of a transaction.
pub fn range_of(response: &pb::TxnResponse, at: usize) -> &[mvccpb::KeyValue] {
    match response.responses.get(at).and_then(|op| op.response.as_ref()) {
        Some(pb::response_op::Response::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

/// The oldest key of a folder.
pub fn oldest<'a>(folder: &'a [u8], end: &'a [u8]) -> RangeQuery<'a> {
    RangeQuery {
        key: folder,
        range_end: end,
        limit: 1,
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::Create,
        ..RangeQuery::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_name_slash_hex() {
        let (folder, key) = place(b"lock", 0x1f);
        assert_eq!((&folder[..], &key[..]), (&b"lock/"[..], &b"lock/1f"[..]));
    }
}
