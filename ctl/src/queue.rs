//! Turns: who made its key under a prefix first is first; the others wait for those before them to go.
//!
//! Locks and elections are this, as every client of the API does it.

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::watching::{Seen, Watcher};
use plinth_api::methods::{RANGE, TXN};
use plinth_api::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use plinth_api::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use plinth_api::proto::etcdserverpb::request_op::Request;
use plinth_api::proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, WatchCreateRequest,
};
use plinth_api::proto::mvccpb::event::EventType;
use plinth_api::range::prefix_end;

/// A place in a queue.
#[derive(Clone, Debug)]
pub struct Place {
    /// The key that stands for it.
    pub key: String,
    /// The header of the answer that gave it.
    pub header: ResponseHeader,
    prefix: String,
    revision: i64,
}

/// Takes a place: a key with this value, which goes when the lease does.
pub async fn enter(cluster: &Cluster, name: &str, lease: i64, value: &str) -> Result<Place, Failure> {
    let (prefix, key) = (format!("{name}/"), format!("{name}/{lease:x}"));
    let absent = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone().into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Compare::default()
    };
    let put = PutRequest { key: key.clone().into(), value: value.to_owned().into(), lease, ..PutRequest::default() };
    let success = vec![RequestOp { request: Some(Request::RequestPut(put)) }];
    let answer = cluster.call(&TXN, TxnRequest { compare: vec![absent], success, failure: Vec::new() }).await?;
    let header = answer.header.unwrap_or_default();
    // The lease was granted a moment ago, so nobody else can have made this key.
    assert!(answer.succeeded, "a key of a fresh lease exists already");
    Ok(Place { key, revision: header.revision, header, prefix })
}

impl Place {
    /// Waits until nobody is before.
    pub async fn wait(&self, cluster: &Cluster) -> Result<(), Failure> {
        loop {
            let before = RangeRequest {
                limit: 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                max_create_revision: self.revision - 1,
                ..all_below(&self.prefix)
            };
            let answer = cluster.call(&RANGE, before).await?;
            let Some(last) = answer.kvs.into_iter().next() else { return Ok(()) };
            let start_revision = answer.header.map_or(0, |header| header.revision);
            let request = WatchCreateRequest { key: last.key, start_revision, ..WatchCreateRequest::default() };
            until_deleted(&mut Watcher::new(cluster.clone(), request)).await?;
        }
    }

    /// The pair that stands for the place.
    pub async fn read(&self, cluster: &Cluster) -> Result<RangeResponse, Failure> {
        cluster.call(&RANGE, RangeRequest { key: self.key.clone().into(), ..RangeRequest::default() }).await
    }
}

async fn until_deleted(watcher: &mut Watcher) -> Result<(), Failure> {
    loop {
        match watcher.next().await? {
            Seen::Answer(answer) if answer.events.iter().any(|event| event.r#type() == EventType::Delete) => {
                return Ok(());
            }
            Seen::Answer(_) => {}
            Seen::End(_, reason) => return Err(Failure::new(crate::failure::Exit::Error, reason)),
        }
    }
}

/// All keys that start with a prefix.
pub fn all_below(prefix: &str) -> RangeRequest {
    let range_end = prefix_end(prefix.as_bytes()).into();
    RangeRequest { key: prefix.to_owned().into(), range_end, ..RangeRequest::default() }
}

/// The pair that was made first under a prefix.
pub async fn first(cluster: &Cluster, prefix: &str) -> Result<RangeResponse, Failure> {
    let request = RangeRequest {
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..all_below(prefix)
    };
    cluster.call(&RANGE, request).await
}
