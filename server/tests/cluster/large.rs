//! Requests that take long: whatever they look at or change, the leader goes on leading, and others are answered.

use super::cluster::{Cluster, put};
use super::common::client::*;
use std::time::{Duration, Instant};

const OPS_PER_TXN: usize = 100;

/// Keys to work on: enough that each of the requests below takes longer than an election, were it done in one go.
fn keys() -> usize {
    std::env::var("PLINTH_LARGE_KEYS").map_or(20_000, |keys| keys.parse().expect("a number of keys"))
}

/// Does something, and prints how long it took.
async fn timed<T>(what: &str, act: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let result = act.await;
    println!("{what}: {:?}", start.elapsed());
    result
}

async fn fill(client: &mut Client, lease: i64) {
    for first in (0..keys()).step_by(OPS_PER_TXN) {
        let options = PutOptions::new().with_lease(lease);
        let puts = (first..first + OPS_PER_TXN).map(|key| {
            // Values that begin alike, in another order than the keys.
            let value = format!("{:<80}{:08}", "the same in all", key * 7919 % keys());
            TxnOp::put(format!("large/{key:06}"), value, Some(options.clone()))
        });
        client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.expect("filled in");
    }
}

fn all() -> (&'static str, GetOptions) {
    ("large/", GetOptions::new().with_prefix())
}

/// Ten lists sorted by value, of which one pair each is wanted; five whole lists.
async fn read_much(client: &mut Client) {
    let mut kv = client.clone().max_decoding_message_size(1 << 30);
    let (key, options) = all();
    let one = options.clone().with_sort(SortTarget::Value, SortOrder::Descend).with_limit(1);
    let sorted = (0..10).map(|_| TxnOp::get(key, Some(one.clone()))).collect::<Vec<_>>();
    let answer = timed("ten sorted lists", kv.txn(Txn::new().and_then(sorted))).await.expect("answered");
    for response in answer.op_responses() {
        let TxnOpResponse::Get(list) = response else { panic!("a list") };
        assert_eq!((list.kvs().len(), list.count(), list.more()), (1, keys() as i64, true));
        let value = list.kvs()[0].value_str().expect("text").trim_end_matches(char::is_numeric).len();
        assert_eq!(value, 80);
        assert!(list.kvs()[0].value_str().expect("text").ends_with(&format!("{:08}", keys() - 1)), "the greatest");
    }
    let whole = (0..5).map(|_| TxnOp::get(key, Some(options.clone()))).collect::<Vec<_>>();
    let answer = timed("five whole lists", kv.txn(Txn::new().and_then(whole))).await.expect("answered");
    for response in answer.op_responses() {
        let TxnOpResponse::Get(list) = response else { panic!("a list") };
        assert_eq!(list.kvs().len(), keys());
        assert!(list.kvs().iter().enumerate().all(|(n, kv)| kv.key() == format!("large/{n:06}").as_bytes()));
    }
}

/// A txn that writes if ten conditions hold for all keys.
async fn compare_much(client: &mut Client) {
    let holds = Compare::value("large/", CompareOp::Greater, "a").with_prefix();
    let txn = Txn::new().when(vec![holds; 10]).and_then([TxnOp::put("compared", "yes", None)]);
    assert!(timed("ten conditions", client.txn(txn)).await.expect("answered").succeeded());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_do_not_cost_the_leader_its_place() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let mut client = cluster.client(leader).await;
    let lease = client.lease_grant(3600, None).await.expect("granted").id();
    fill(&mut client, lease).await;
    let term = client.status().await.expect("status").raft_term();

    read_much(&mut client).await;
    compare_much(&mut client).await;
    // What others ask for is answered meanwhile, also what is read at a linearizable moment.
    let (mut other, mut slowest) = (cluster.client((leader + 1) % 3).await, Duration::ZERO);
    let busy = tokio::spawn({
        let mut client = client.clone();
        async move { read_much(&mut client).await }
    });
    while !busy.is_finished() {
        let start = Instant::now();
        other.get("compared", None).await.expect("read");
        put(&mut other, "beside", "x").await;
        slowest = slowest.max(start.elapsed());
    }
    busy.await.expect("read");
    println!("slowest small request meanwhile: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "a small request took {slowest:?}");

    let middle = format!("large/{:06}", keys() / 2);
    let deletes = TxnOp::delete("large/", Some(DeleteOptions::new().with_range(middle)));
    let answer = timed("a half deleted", client.txn(Txn::new().and_then([deletes]))).await.expect("deleted");
    let TxnOpResponse::Delete(deleted) = &answer.op_responses()[0] else { panic!("a delete") };
    assert_eq!(deleted.deleted(), keys() as i64 / 2);
    timed("the other half revoked", client.lease_revoke(lease)).await.expect("revoked");
    let left = client.get("large/", Some(GetOptions::new().with_prefix().with_count_only())).await.expect("counted");
    assert_eq!(left.count(), 0);

    cluster.wait_until_equal(&[0, 1, 2]).await;
    assert_eq!(client.status().await.expect("status").raft_term(), term, "nobody else was elected");
    assert_eq!(cluster.leader(&[0, 1, 2]).await, leader);
}
