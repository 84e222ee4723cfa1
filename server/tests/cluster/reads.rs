//! What followers serve, what is served without a quorum, and leases and watches across leaders.

use super::cluster::{Cluster, put, retry};
use super::common::PATIENCE;
use super::common::client::*;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_reads_what_any_member_wrote() {
    let cluster = Cluster::start(3, &[]);
    for round in 0..60_u32 {
        let (writer, reader) = (round as usize % 3, (round as usize / 3) % 3);
        put(&mut cluster.client(writer).await, "k", round.to_string()).await;
        let mut client = cluster.client(reader).await;
        let got = retry(async || client.get("k", None).await).await;
        assert_eq!(got.kvs()[0].value_str().expect("text"), round.to_string(), "{writer} wrote, {reader} read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_only_local_reads_are_served() {
    let mut cluster = Cluster::start(3, &["--heartbeat-interval=50", "--election-timeout=500"]);
    let mut client = cluster.client(0).await;
    put(&mut client, "k", "v").await;
    cluster.wait_until_equal(&[0, 1, 2]).await;
    let id = cluster.id(0).await;
    cluster.kill(1);
    cluster.kill(2);
    let local = client.get("k", Some(GetOptions::new().with_serializable())).await.expect("a local read");
    assert_eq!(local.kvs()[0].value(), b"v");
    let (mut reader, mut changer) = (client.clone(), client.clone());
    let (read, write, change) = tokio::join!(
        reader.get("k", None),
        client.put("k", "w", None),
        changer.member_update(id, [cluster.seats[0].peer_url()]),
    );
    let read = read.expect_err("nobody knows the newest value").to_string();
    assert!(["timed out", "leader changed", "no leader"].iter().any(|text| read.contains(text)), "{read}");
    let write = write.expect_err("nobody agrees").to_string();
    assert!(["timed out", "no leader"].iter().any(|text| write.contains(text)), "{write}");
    let change = change.expect_err("nobody agrees");
    assert_eq!((change.code(), change.message()), (tonic::Code::Unavailable, "etcdserver: request timed out"));
    cluster.restart(1);
    cluster.wait_until_ready(1);
    put(&mut client, "k", "x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_its_leader_and_ends_when_nobody_keeps_it() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let follower = (leader + 1) % 3;
    let mut client = cluster.client(follower).await;
    let start = Instant::now();
    let mut leases = Vec::new();
    for key in ["kept", "left"] {
        let lease = retry(async || client.lease_grant(5, None).await).await.id();
        retry(async || client.put(key, "", Some(PutOptions::new().with_lease(lease))).await).await;
        leases.push(lease);
    }
    let (kept, left) = (leases[0], leases[1]);
    let (mut keeper, mut answers) = client.lease_keep_alive(kept).await.expect("a stream");
    let mut killed = false;
    // Kept across leaders, until the other one has ended.
    while !killed || !is_gone(&mut client, "left").await {
        assert!(start.elapsed() < PATIENCE, "the lease that nobody keeps never ends");
        let asked = Instant::now();
        keeper.keep_alive().await.expect("sent");
        let answer = answers.message().await.expect("answered").expect("open");
        let waited = asked.elapsed();
        assert_eq!((answer.id(), answer.ttl()), (kept, 5), "after {:?}, {waited:?} for the answer", start.elapsed());
        tokio::time::sleep(Duration::from_millis(300)).await;
        if !killed && start.elapsed() > Duration::from_secs(1) {
            cluster.kill(leader);
            killed = true;
        }
    }
    assert!(start.elapsed() > Duration::from_secs(4), "a lease ended early");
    let remaining = retry(async || client.lease_time_to_live(left, None).await).await;
    assert_eq!(remaining.ttl(), -1);
    while !is_gone(&mut client, "kept").await {
        assert!(start.elapsed() < 2 * PATIENCE, "the lease never ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_gone(client: &mut Client, key: &str) -> bool {
    retry(async || client.get(key, None).await).await.kvs().is_empty()
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
        put(&mut writing, "k", round.to_string()).await;
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
