//! Members are killed, stopped, paused and cut off under load; the history of the clients is checked.

use super::cluster::Cluster;
use super::history::{Load, Random};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A machine with two cores runs one cluster at a time well.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn duration() -> Duration {
    let seconds = std::env::var("PLINTH_CLUSTER_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

const ALL: [usize; 3] = [0, 1, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_again_and_again_loses_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = Random::new();
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster, &ALL, &mut random);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        pause(300 + random.below(700)).await;
        let leader = cluster.leader(&ALL).await;
        cluster.kill(leader);
        let rest: Vec<usize> = ALL.into_iter().filter(|seat| *seat != leader).collect();
        let next = cluster.leader(&rest).await;
        assert_ne!(next, leader);
        pause(random.below(500)).await;
        cluster.restart(leader);
        cluster.wait_until_ready(leader);
    }
    load.finish(&cluster, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_killed_at_once_lose_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = Random::new();
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster, &ALL, &mut random);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        pause(300 + random.below(700)).await;
        ALL.into_iter().for_each(|seat| cluster.kill(seat));
        ALL.into_iter().for_each(|seat| cluster.restart(seat));
        ALL.into_iter().for_each(|seat| cluster.wait_until_ready(seat));
    }
    load.finish(&cluster, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_restart_one_by_one_while_clients_work() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = Random::new();
    let mut cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster, &ALL, &mut random);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        for seat in ALL {
            pause(random.below(300)).await;
            cluster.terminate(seat);
            cluster.restart(seat);
            cluster.wait_until_ready(seat);
        }
    }
    load.finish(&cluster, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_is_replaced_and_answers_nothing_stale() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = Random::new();
    let cluster = Cluster::start(3, &[]);
    let load = Load::start(&cluster, &ALL, &mut random);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        pause(300 + random.below(300)).await;
        let leader = cluster.leader(&ALL).await;
        cluster.signal(leader, "-STOP");
        let rest: Vec<usize> = ALL.into_iter().filter(|seat| *seat != leader).collect();
        while cluster.leader_is(&rest, leader).await {
            pause(50).await;
        }
        assert_ne!(cluster.leader(&rest).await, leader);
        pause(random.below(500)).await;
        cluster.signal(leader, "-CONT");
    }
    load.finish(&cluster, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_parts_in_all_ways_loses_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = Random::new();
    let cluster = Cluster::start(3, &[]);
    let ids = cluster.ids().await;
    let load = Load::start(&cluster, &ALL, &mut random);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        let odd = random.below(3) as usize;
        let (left, right) = (ids[(odd + 1) % 3], ids[(odd + 2) % 3]);
        match random.below(4) {
            // One is alone.
            0 => [left, right].into_iter().for_each(|other| cluster.net.part(ids[odd], other)),
            // One hears, but is not heard.
            1 => [left, right].into_iter().for_each(|other| cluster.net.cut(ids[odd], other)),
            // One is heard, but does not hear.
            2 => [left, right].into_iter().for_each(|other| cluster.net.cut(other, ids[odd])),
            // Two hear each other only through the third, who does not pass anything on.
            _ => cluster.net.part(left, right),
        }
        pause(500 + random.below(2500)).await;
        cluster.net.mend();
        pause(random.below(1000)).await;
    }
    cluster.net.mend();
    load.finish(&cluster, &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_go_on_without_two() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = Random::new();
    let mut cluster = Cluster::start(5, &[]);
    let seats = [0, 1, 2, 3, 4];
    let load = Load::start(&cluster, &seats, &mut random);
    let leader = cluster.leader(&seats).await;
    let other = (leader + 1 + random.below(4) as usize) % 5;
    cluster.kill(leader);
    cluster.kill(other);
    let rest: Vec<usize> = seats.into_iter().filter(|seat| ![leader, other].contains(seat)).collect();
    cluster.leader(&rest).await;
    let before = load.acknowledged();
    while load.acknowledged() < before + 100 {
        pause(10).await;
    }
    for seat in [leader, other] {
        cluster.restart(seat);
        cluster.wait_until_ready(seat);
    }
    load.finish(&cluster, &seats).await;
}
