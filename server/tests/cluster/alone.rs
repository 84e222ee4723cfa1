//! A member goes on alone when the majority of its cluster is lost (`--force-new-cluster`).

use super::cluster::{Cluster, put};
use super::common::client::*;
use std::time::Duration;

const FORCE: &str = "--force-new-cluster";

async fn names(client: &mut Client) -> Vec<String> {
    let list = client.member_list().await.expect("a list");
    list.members().iter().map(|member| member.name().to_string()).collect()
}

/// All but `survivor` are gone with their disks, and it starts by itself.
async fn lose_the_others(cluster: &mut Cluster, survivor: usize) {
    for seat in 0..cluster.seats.len() {
        cluster.kill(seat);
        if seat != survivor {
            cluster.wipe(seat);
        }
    }
    cluster.seats[survivor].flags.push(FORCE.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_survivor_of_a_lost_majority_goes_on_and_grows_again() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let survivor = (leader + 1) % 3;
    let id = cluster.id(survivor).await;
    put(&mut cluster.client(leader).await, "before", "kept").await;
    cluster.wait_until_equal(&[0, 1, 2]).await;
    let revision = cluster.client(survivor).await.get("before", None).await.expect("get").kvs()[0].mod_revision();
    lose_the_others(&mut cluster, survivor).await;
    // Killed at any moment of the start, it is either as it was or alone, and can be made so again.
    for millis in [0, 5, 10, 20, 40, 80] {
        cluster.restart(survivor);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        cluster.kill(survivor);
    }
    cluster.restart(survivor);
    cluster.wait_until_ready(survivor);
    assert!(cluster.log(survivor).contains("forced a new cluster of this member alone"), "{}", cluster.log(survivor));
    let mut client = cluster.client(survivor).await;
    let got = client.get("before", None).await.expect("a linearizable read");
    assert_eq!((got.kvs()[0].value(), got.kvs()[0].mod_revision()), (&b"kept"[..], revision));
    put(&mut client, "after", "new").await;
    assert_eq!(names(&mut client).await, [cluster.seats[survivor].name.clone()]);
    assert_eq!(cluster.id(survivor).await, id, "it is who it was");

    // Without the flag it stays alone, and takes others in.
    cluster.seats[survivor].flags.clear();
    cluster.terminate(survivor);
    cluster.restart(survivor);
    cluster.wait_until_ready(survivor);
    let joiner = cluster.reserve("joiner");
    let url = cluster.seats[joiner].peer_url();
    cluster.client(survivor).await.member_add([url], None).await.expect("added");
    cluster.join(joiner, &[survivor]);
    cluster.wait_until_ready(joiner);
    cluster.wait_until_equal(&[survivor, joiner]).await;
    let got = cluster.client(joiner).await.get("after", None).await.expect("get");
    assert_eq!(got.kvs()[0].value(), b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_is_left_becomes_the_cluster() {
    let mut cluster = Cluster::start(1, &[]);
    put(&mut cluster.client(0).await, "k", "v").await;
    let learner = cluster.reserve("learner");
    let url = cluster.seats[learner].peer_url();
    let options = MemberAddOptions::new().with_is_learner();
    cluster.client(0).await.member_add([url], Some(options)).await.expect("added");
    cluster.join(learner, &[0]);
    cluster.wait_until_ready(learner);
    cluster.wait_for_log(learner, "published local member to cluster through raft");
    lose_the_others(&mut cluster, learner).await;
    cluster.restart(learner);
    cluster.wait_until_ready(learner);
    let mut client = cluster.client(learner).await;
    assert_eq!(client.get("k", None).await.expect("a linearizable read").kvs()[0].value(), b"v");
    put(&mut client, "k", "w").await;
    assert_eq!(names(&mut client).await, ["learner"]);
}
