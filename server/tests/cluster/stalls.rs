//! A member whose disk does not answer gets out of the way: others lead, its clients go to them, it says why it is not ready,
//! and takes part again when the disk does.

use super::cluster::{Cluster, put};
use super::common::PATIENCE;
use super::common::client::*;
use super::freezer::Freezer;
use std::time::{Duration, Instant};

const ALL: [usize; 3] = [0, 1, 2];
/// Its disk can be frozen.
const FROZEN: usize = 2;

async fn make_leader(cluster: &Cluster, seat: usize) {
    let id = cluster.id(seat).await;
    let deadline = Instant::now() + PATIENCE;
    while cluster.leader(&ALL).await != seat {
        assert!(Instant::now() < deadline, "leadership does not move");
        let leader = cluster.leader(&ALL).await;
        let _ = cluster.client(leader).await.move_leader(id).await;
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_frozen_makes_way_and_comes_back() {
    let mut freezer = None;
    let cluster = Cluster::start_with(3, &[], |cluster| {
        freezer = Freezer::mount(&cluster.data_dir(FROZEN), 300);
    });
    let Some(freezer) = &freezer else { return println!("no disk is frozen: this user may not mount one") };
    make_leader(&cluster, FROZEN).await;
    let mut of_frozen = cluster.client(FROZEN).await;
    put(&mut of_frozen, "before", "written").await;
    assert!(freezer.freeze(), "it could be frozen before");
    let waits = tokio::spawn(async move { of_frozen.put("during", "passed on", None).await });
    let mut other = cluster.client(0).await;
    put(&mut other, "others", "go on").await;
    let seat = &cluster.seats[FROZEN];
    wait_until("it says why it is not ready", || {
        let ready = seat.http("/readyz?verbose");
        ready.starts_with("HTTP/1.1 503") && ready.contains("the disk of the write-ahead log has not answered for")
    });
    assert!(seat.http("/metrics").contains("\nplinth_disk_stalled 1\n"));
    let hello = ConnectOptions::new().with_connect_timeout(Duration::from_secs(1));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let met = async { Client::connect(seat.endpoint(), Some(hello.clone())).await?.status().await };
        if tokio::time::timeout(Duration::from_secs(5), met).await.is_ok_and(|met| met.is_err()) {
            break;
        }
        assert!(Instant::now() < deadline, "it goes on serving");
    }
    let deadline = Instant::now() + PATIENCE;
    while other.get("during", None).await.expect("others serve").kvs().is_empty() {
        assert!(Instant::now() < deadline, "what it was asked is not passed on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    freezer.thaw();
    wait_until("it is ready again", || seat.http("/readyz").starts_with("HTTP/1.1 200"));
    cluster.wait_until_equal(&ALL).await;
    // It was in time, or its patience had ended: the log was frozen for as long as this machine took.
    let _ = waits.await.expect("no panic");
    put(&mut cluster.client(FROZEN).await, "after", "written").await;
    let log = cluster.log(FROZEN);
    let count = |text| log.matches(text).count();
    // A slow machine may have more of them.
    let begun = count("the disk does not answer: ");
    assert!(
        begun > 0 && count("the disk answers again") == begun,
        "one line for the beginning, one for the end: {log}"
    );
}
