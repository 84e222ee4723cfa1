//! Members are killed, stopped, paused and cut off under load; the history of the clients is checked.

use super::cluster::Cluster;
use super::history::{Load, random};
use plinth_random::Random;
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

/// Clients work on a new cluster while something happens to it; what they saw must have one order in the end.
async fn under_load(seats: &[usize], trouble: impl AsyncFnOnce(&mut Cluster, &mut Random, &Load)) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut random = random();
    let mut cluster = Cluster::start(seats.len(), &[]);
    let load = Load::start(&cluster, seats, &mut random);
    trouble(&mut cluster, &mut random, &load).await;
    load.finish(&cluster, seats).await;
}

/// The same again and again, to three members.
async fn again_under_load(mut round: impl AsyncFnMut(&mut Cluster, &mut Random)) {
    under_load(&ALL, async |cluster, random, _| {
        let end = Instant::now() + duration();
        while Instant::now() < end {
            round(cluster, random).await;
        }
    })
    .await;
}

fn without(gone: &[usize], seats: &[usize]) -> Vec<usize> {
    seats.iter().copied().filter(|seat| !gone.contains(seat)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_again_and_again_loses_nothing() {
    again_under_load(async |cluster, random| {
        pause(300 + random.below(700)).await;
        let leader = cluster.leader(&ALL).await;
        cluster.kill(leader);
        cluster.leader(&without(&[leader], &ALL)).await;
        pause(random.below(500)).await;
        cluster.restart(leader);
        cluster.wait_until_ready(leader);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_killed_at_once_lose_nothing() {
    again_under_load(async |cluster, random| {
        pause(300 + random.below(700)).await;
        ALL.into_iter().for_each(|seat| cluster.kill(seat));
        ALL.into_iter().for_each(|seat| cluster.restart(seat));
        ALL.into_iter().for_each(|seat| cluster.wait_until_ready(seat));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_restart_one_by_one_while_clients_work() {
    again_under_load(async |cluster, random| {
        for seat in ALL {
            pause(random.below(300)).await;
            cluster.terminate(seat);
            cluster.restart(seat);
            cluster.wait_until_ready(seat);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_is_replaced_and_answers_nothing_stale() {
    again_under_load(async |cluster, random| {
        pause(300 + random.below(300)).await;
        let leader = cluster.leader(&ALL).await;
        cluster.signal(leader, "-STOP");
        let rest = without(&[leader], &ALL);
        while cluster.leader_is(&rest, leader).await {
            pause(50).await;
        }
        cluster.leader(&rest).await;
        pause(random.below(500)).await;
        cluster.signal(leader, "-CONT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_parts_in_all_ways_loses_nothing() {
    let mut ids = Vec::new();
    again_under_load(async |cluster, random| {
        if ids.is_empty() {
            ids = cluster.ids().await;
        }
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
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_go_on_without_two() {
    let seats = [0, 1, 2, 3, 4];
    under_load(&seats, async |cluster, random, load| {
        let leader = cluster.leader(&seats).await;
        let other = (leader + 1 + random.below(4) as usize) % 5;
        cluster.kill(leader);
        cluster.kill(other);
        cluster.leader(&without(&[leader, other], &seats)).await;
        let before = load.acknowledged();
        while load.acknowledged() < before + 100 {
            pause(10).await;
        }
        for seat in [leader, other] {
            cluster.restart(seat);
            cluster.wait_until_ready(seat);
        }
    })
    .await;
}
