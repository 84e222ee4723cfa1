//! What followers serve, what is served without a quorum, and leases and watches across leaders.

use super::cluster::{Cluster, PATIENCE};
use etcd_client::{EventType, GetOptions, PutOptions};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_reads_what_any_member_wrote() {
    let cluster = Cluster::start(3, &[]);
    for round in 0..60_u32 {
        let (writer, reader) = (round as usize % 3, (round as usize / 3) % 3);
        cluster.client(writer).await.put("k", round.to_string(), None).await.expect("put");
        let got = cluster.client(reader).await.get("k", None).await.expect("get");
        assert_eq!(got.kvs()[0].value_str().expect("text"), round.to_string(), "{writer} wrote, {reader} read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_only_local_reads_are_served() {
    let mut cluster = Cluster::start(3, &["--heartbeat-interval=50", "--election-timeout=500"]);
    let mut client = cluster.client(0).await;
    client.put("k", "v", None).await.expect("put");
    cluster.wait_until_equal(&[0, 1, 2]).await;
    cluster.kill(1);
    cluster.kill(2);
    let local = client.get("k", Some(GetOptions::new().with_serializable())).await.expect("a local read");
    assert_eq!(local.kvs()[0].value(), b"v");
    let read = client.get("k", None).await.expect_err("nobody knows the newest value").to_string();
    assert!(["timed out", "leader changed", "no leader"].iter().any(|text| read.contains(text)), "{read}");
    let write = client.put("k", "w", None).await.expect_err("nobody agrees").to_string();
    assert!(["timed out", "no leader"].iter().any(|text| write.contains(text)), "{write}");
    cluster.restart(1);
    cluster.wait_until_ready(1);
    client.put("k", "x", None).await.expect("a quorum again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_its_leader_and_ends_when_nobody_keeps_it() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let follower = (leader + 1) % 3;
    let mut client = cluster.client(follower).await;
    let kept = client.lease_grant(3, None).await.expect("granted").id();
    let left = client.lease_grant(3, None).await.expect("granted").id();
    for (key, lease) in [("kept", kept), ("left", left)] {
        client.put(key, "", Some(PutOptions::new().with_lease(lease))).await.expect("put");
    }
    let (mut keeper, mut answers) = client.lease_keep_alive(kept).await.expect("a stream");
    let start = Instant::now();
    let mut killed = false;
    while start.elapsed() < Duration::from_secs(8) {
        keeper.keep_alive().await.expect("sent");
        let answer = answers.message().await.expect("answered").expect("open");
        assert_eq!((answer.id(), answer.ttl()), (kept, 3), "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
        if !killed && start.elapsed() > Duration::from_secs(1) {
            cluster.kill(leader);
            killed = true;
        }
    }
    assert_eq!(client.get("kept", None).await.expect("get").kvs().len(), 1);
    assert_eq!(client.get("left", None).await.expect("get").kvs().len(), 0);
    assert_eq!(client.lease_time_to_live(left, None).await.expect("asked").ttl(), -1);
    let remaining = client.lease_time_to_live(kept, None).await.expect("asked");
    assert!((1..=3).contains(&remaining.ttl()), "{}", remaining.ttl());
    let deadline = Instant::now() + PATIENCE;
    while !client.get("kept", None).await.expect("get").kvs().is_empty() {
        assert!(Instant::now() < deadline, "the lease never ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_at_a_follower_misses_nothing_across_leaders() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (follower, writer) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut client = cluster.client(follower).await;
    let mut stream = client.watch("k", None).await.expect("a watch");
    let mut writing = cluster.client(writer).await;
    let mut last = 0;
    for round in 0..200_u32 {
        if round == 100 {
            cluster.kill(leader);
        }
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = writing.put("k", round.to_string(), None).await {
            assert!(Instant::now() < deadline, "{error}");
        }
    }
    let mut expected = 0;
    while expected < 200 {
        let response = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
        for event in response.expect("no error").expect("open").events() {
            assert_eq!(event.event_type(), EventType::Put);
            let pair = event.kv().expect("a pair");
            assert!(pair.mod_revision() > last, "events come in order");
            last = pair.mod_revision();
            let round: u32 = pair.value_str().expect("text").parse().expect("a number");
            // A put that was repeated after an error may have happened twice.
            assert!(round == expected || round + 1 == expected, "{round} after {expected}");
            expected = round + 1;
        }
    }
}
