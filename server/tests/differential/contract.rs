//! What etcd 3.5 cannot tell about the contract, because it answers differently or does not survive the question.
//! Every case here names what the random sequences therefore leave out.

use super::client::{Client, Failure};
use super::process::Server;
use plinth_api::proto::etcdserverpb::*;
use std::path::Path;
use tonic::Code;

/// Asks a server that claims to be etcd 3.7.
pub async fn check(binary: &Path) {
    let server = Server::start(binary, &[]).await.unwrap_or_else(|what| panic!("{what}"));
    let client = &server.client;
    assert!(server.status.version.starts_with("3.7."), "reports version {:?}", server.status.version);
    status_has_its_new_fields(&server.status);
    unknown_sort_options_are_refused(client).await;
    a_put_that_misses_its_key_is_survived(client).await;
    a_key_deleted_and_put_in_one_revision_survives_compaction(client).await;
    negative_start_revisions_are_rejected(client).await;
    failed_checks_are_told_in_order(client).await;
    nested_puts_need_space(client).await;
}

fn txn(requests: Vec<request_op::Request>) -> TxnRequest {
    let success = requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
    TxnRequest { success, ..Default::default() }
}

/// 3.5 tells that of a put before that of a range, whatever the order of the operations, and that of a put's key before
/// that of its lease.
async fn failed_checks_are_told_in_order(client: &Client) {
    use request_op::Request::{RequestPut, RequestRange};
    let put = || PutRequest { key: "missing".into(), lease: 77, ignore_value: true, ..Default::default() };
    let range = || RangeRequest { key: "missing".into(), revision: 1 << 40, ..Default::default() };
    let no_lease = "etcdserver: requested lease not found";
    let future = "etcdserver: mvcc: required revision is a future revision";
    for (requests, message) in [
        (vec![RequestPut(put()), RequestRange(range())], no_lease),
        (vec![RequestRange(range()), RequestPut(put())], future),
    ] {
        let answer = client.unary::<TxnResponse>("/etcdserverpb.KV/Txn", &txn(requests)).await;
        assert_eq!(answer.expect_err("both checks fail").message, message);
    }
}

/// 3.5 leaves puts of nested transactions out when it asks whether a transaction needs space.
async fn nested_puts_need_space(client: &Client) {
    use request_op::Request::{RequestPut, RequestTxn};
    let alarm = |action: alarm_request::AlarmAction| AlarmRequest {
        action: action.into(),
        member_id: 0,
        alarm: AlarmType::Nospace.into(),
    };
    let path = "/etcdserverpb.Maintenance/Alarm";
    let raise = alarm(alarm_request::AlarmAction::Activate);
    client.unary::<AlarmResponse>(path, &raise).await.expect("alarms can be raised");
    let put = RequestPut(PutRequest { key: "nested".into(), ..Default::default() });
    let nested = txn(vec![RequestTxn(txn(vec![put]))]);
    let answer = client.unary::<TxnResponse>("/etcdserverpb.KV/Txn", &nested).await;
    assert_eq!(answer.expect_err("no space").message, "etcdserver: mvcc: database space exceeded");
    let clear = alarm(alarm_request::AlarmAction::Deactivate);
    client.unary::<AlarmResponse>(path, &clear).await.expect("alarms can be cleared");
}

/// Fields since 3.6.
fn status_has_its_new_fields(status: &StatusResponse) {
    assert!(status.storage_version.starts_with("3."), "storageVersion {:?}", status.storage_version);
    assert_eq!(status.db_size_quota, 2 << 30, "the default quota");
    assert!(status.downgrade_info.as_ref().is_some_and(|downgrade| !downgrade.enabled), "downgradeInfo");
}

/// 3.5 stops with a panic.
async fn unknown_sort_options_are_refused(client: &Client) {
    for (sort_order, sort_target) in [(7, 0), (0, 9), (1, -1)] {
        let request = RangeRequest { key: "a".into(), sort_order, sort_target, ..Default::default() };
        let refused: Failure =
            client.unary::<RangeResponse>("/etcdserverpb.KV/Range", &request).await.expect_err("an unknown option");
        let expected = "etcdserver: invalid sort option".to_owned();
        assert_eq!(refused, Failure { code: Code::InvalidArgument, message: expected }, "{sort_order} {sort_target}");
    }
}

/// The key is there when the transaction is checked, and gone when the put is reached: a delete with an open end is
/// not checked against puts. etcd stops with a panic, so no answer is right or wrong; but the server must go on, and
/// have applied all of the transaction or nothing.
async fn a_put_that_misses_its_key_is_survived(client: &Client) {
    let put = PutRequest { key: "doomed".into(), value: "v".into(), ..Default::default() };
    client.unary::<PutResponse>("/etcdserverpb.KV/Put", &put).await.expect("a plain put");
    let delete = DeleteRangeRequest { key: "doomed".into(), range_end: "\0".into(), prev_kv: false };
    let again = PutRequest { key: "doomed".into(), ignore_value: true, ..Default::default() };
    let requests = [request_op::Request::RequestDeleteRange(delete), request_op::Request::RequestPut(again)];
    let success = requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
    let txn = TxnRequest { success, ..Default::default() };
    let answer = client.unary::<TxnResponse>("/etcdserverpb.KV/Txn", &txn).await;
    let read = RangeRequest { key: "doomed".into(), ..Default::default() };
    let left: RangeResponse = client.unary("/etcdserverpb.KV/Range", &read).await.expect("the server goes on");
    let revision = left.header.expect("a header").revision;
    let pairs: Vec<_> = left.kvs.iter().map(|kv| (kv.create_revision, kv.version, &kv.value[..])).collect();
    match answer {
        Ok(_) => assert_eq!((revision, pairs), (3, vec![(3, 1, &b""[..])])),
        Err(_) => assert_eq!((revision, pairs), (2, vec![(2, 1, &b"v"[..])])),
    }
}

/// The same hole in the check, harmless in itself; but etcd loses the pair if it is compacted at just this revision.
async fn a_key_deleted_and_put_in_one_revision_survives_compaction(client: &Client) {
    let put = PutRequest { key: "reborn".into(), value: "1".into(), ..Default::default() };
    client.unary::<PutResponse>("/etcdserverpb.KV/Put", &put).await.expect("a plain put");
    let delete = DeleteRangeRequest { key: "reborn".into(), range_end: "\0".into(), prev_kv: false };
    let again = PutRequest { key: "reborn".into(), value: "2".into(), ..Default::default() };
    let requests = [request_op::Request::RequestDeleteRange(delete), request_op::Request::RequestPut(again)];
    let success = requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
    let txn = TxnRequest { success, ..Default::default() };
    let done: TxnResponse = client.unary("/etcdserverpb.KV/Txn", &txn).await.expect("the check has this hole");
    let revision = done.header.expect("a header").revision;
    let compact = CompactionRequest { revision, physical: true };
    client.unary::<CompactionResponse>("/etcdserverpb.KV/Compact", &compact).await.expect("a plain compaction");
    let read = RangeRequest { key: "reborn".into(), ..Default::default() };
    let left: RangeResponse = client.unary("/etcdserverpb.KV/Range", &read).await.expect("a plain read");
    let kv = left.kvs.first().expect("the pair put last");
    let expected = (&b"2"[..], revision, revision, 1);
    assert_eq!((&kv.value[..], kv.create_revision, kv.mod_revision, kv.version), expected);
}

/// 3.5 creates the watcher and cancels it later with compact revision -1.
async fn negative_start_revisions_are_rejected(client: &Client) {
    let (outgoing, mut incoming) = client.open::<WatchResponse>("/etcdserverpb.Watch/Watch");
    let create = WatchCreateRequest { key: "a".into(), start_revision: -1, ..Default::default() };
    let request_union = Some(watch_request::RequestUnion::CreateRequest(create));
    outgoing.send(&WatchRequest { request_union });
    let answer = incoming.recv().await.expect("an answer").expect("the stream stays open");
    assert!(answer.created && answer.canceled, "{answer:?}");
    assert_eq!((answer.watch_id, answer.compact_revision), (-1, 0), "{answer:?}");
    assert_eq!(answer.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
}
