//! A member that was away for more than the log remembers is fed from a snapshot, beside the load.

use super::cluster::{Cluster, put};
use std::time::{Duration, Instant};

/// More than the leader keeps of its log for followers.
const MEGABYTES: usize = 160;

async fn fill(cluster: &Cluster, seat: usize, megabytes: usize) {
    let mut client = cluster.client(seat).await;
    for number in 0..megabytes {
        let value = vec![number as u8; 1 << 20];
        put(&mut client, &format!("fill/{}", number % 40), value).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_missed_a_lot_gets_a_snapshot() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    let mut other = cluster.client(leader).await;
    put(&mut other, "before", "1").await;
    cluster.kill(away);
    fill(&cluster, leader, MEGABYTES).await;
    cluster.restart(away);
    let mut rounds = 0;
    while !cluster.log(away).contains("installed snapshot") {
        put(&mut other, "during", rounds.to_string()).await;
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(rounds < 10_000, "no snapshot arrives");
    }
    cluster.wait_until_ready(away);
    cluster.wait_until_equal(&[0, 1, 2]).await;

    // What was installed is durable, and the log goes on behind it.
    put(&mut other, "after", "1").await;
    cluster.wait_until_equal(&[0, 1, 2]).await;
    cluster.kill(away);
    cluster.restart(away);
    cluster.wait_until_ready(away);
    cluster.wait_until_equal(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_interrupted_goes_on() {
    let mut cluster = Cluster::start(3, &[]);
    let ids = cluster.ids().await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    fill(&cluster, leader, MEGABYTES).await;
    cluster.restart(away);
    cluster.wait_for_log(away, "receiving snapshot");
    cluster.net.part(ids[away], ids[leader]);
    cluster.net.part(ids[away], ids[3 - leader - away]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.net.mend();
    cluster.wait_until_ready(away);
    cluster.wait_until_equal(&[0, 1, 2]).await;
}

/// A follower that goes down while it fetches is fed again as soon as it is back, not when the leader loses patience.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_cut_off_begins_again_at_once() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    fill(&cluster, leader, MEGABYTES).await;
    for _ in 0..2 {
        cluster.restart(away);
        cluster.wait_for_log(away, "receiving snapshot");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!cluster.log(away).contains("installed snapshot"), "it was too fast to be cut off");
        cluster.kill(away);
    }
    let start = Instant::now();
    cluster.restart(away);
    cluster.wait_for_log(away, "receiving snapshot");
    assert!(start.elapsed() < Duration::from_secs(6), "it waits for a snapshot: {:?}", start.elapsed());
    cluster.wait_until_ready(away);
    cluster.wait_until_equal(&[0, 1, 2]).await;
}
