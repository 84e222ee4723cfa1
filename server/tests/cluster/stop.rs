//! A leader that is told to stop: it hands leadership over first, and neither streams nor the others wait for it.

use super::cluster::{Cluster, put};
use super::common::client::*;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_watches_stops_at_once_and_writes_go_on() {
    let mut cluster = Cluster::start(3, &[]);
    let seats = [0, 1, 2];
    let leader = cluster.leader(&seats).await;
    let other = (leader + 1) % 3;
    put(&mut cluster.client(leader).await, "before", "x").await;
    let mut watches = Vec::new();
    for seat in [leader, leader, other] {
        let mut watch = cluster.client(seat).await.watch("w", None).await.expect("a watch");
        watch.message().await.expect("created");
        watches.push(watch);
    }
    let mut client = cluster.client(other).await;
    let begun = Instant::now();
    tokio::task::block_in_place(|| cluster.terminate(leader));
    let took = begun.elapsed();
    put(&mut client, "after", "x").await;
    let gap = begun.elapsed();
    println!("the end took {took:?}, the next put was done after {gap:?}");
    assert!(took < Duration::from_secs(1), "the end took {took:?}");
    assert!(cluster.log(leader).contains("leadership transfer finished"), "the others do not wait for an election");
    for watch in &mut watches[..2] {
        watch.message().await.expect_err("the server stopped");
    }
    put(&mut client, "w", "x").await;
    let seen = watches[2].message().await.expect("it goes on").expect("an event");
    assert_eq!(seen.events().len(), 1);
}
