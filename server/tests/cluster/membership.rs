//! Members come, are promoted, move, lose their disks and go.

use super::cluster::{Cluster, put, retry};
use super::common::PATIENCE;
use super::common::client::*;
use std::time::{Duration, Instant};

/// Changes of the membership want every voter to have been connected for five seconds.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(5500)).await;
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (tonic::Code, String) {
    let status = result.expect_err("a refusal");
    (status.code(), status.message().to_string())
}

async fn names(client: &mut Client) -> Vec<String> {
    let list = client.member_list().await.expect("a list");
    let mut names: Vec<String> = list.members().iter().map(|member| member.name().to_string()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_disk_is_refused_until_it_is_replaced() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client(0).await;
    put(&mut client, "k", "v").await;
    let lost = cluster.id(2).await;
    cluster.kill(2);
    cluster.wipe(2);
    cluster.restart(2);
    assert!(!cluster.wait_for_end(2).success());
    assert!(cluster.log(2).contains("has already been bootstrapped"), "{}", cluster.log(2));
    settle().await;
    client.member_remove(lost).await.expect("removed");
    assert_eq!(names(&mut client).await, ["m1", "m2"]);
    let url = cluster.seats[2].peer_url();
    let added = client.member_add([url], None).await.expect("added");
    assert_ne!(added.member().expect("a member").id(), lost, "a new member has a new id");
    if cluster.data_dir(2).exists() {
        cluster.wipe(2);
    }
    cluster.join(2, &[0, 1]);
    cluster.wait_until_ready(2);
    cluster.wait_until_equal(&[0, 1, 2]).await;
    assert_eq!(names(&mut client).await, ["m1", "m2", "m3"]);
    let got = cluster.client(2).await.get("k", None).await.expect("get");
    assert_eq!(got.kvs()[0].value(), b"v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_learns_is_promoted_votes_and_is_removed() {
    let mut cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0).await;
    put(&mut client, "k", "v").await;
    let seat = cluster.reserve("late");
    let url = cluster.seats[seat].peer_url();
    let options = MemberAddOptions::new().with_is_learner();
    let added = client.member_add([url.clone()], Some(options.clone())).await.expect("added");
    let id = added.member().expect("a member").id();
    assert!(added.member().expect("a member").is_learner());

    // Ids come of the addresses and of the second: within one it would be "member ID already exist".
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (code, text) = refusal(client.member_add([url], None).await);
    assert_eq!((code, text.as_str()), (tonic::Code::FailedPrecondition, "etcdserver: Peer URLs already exists"));
    let (code, text) = refusal(client.member_add(["http://127.0.0.1:1"], Some(options)).await);
    assert_eq!(
        (code, text.as_str()),
        (tonic::Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
    );
    let (code, text) = refusal(client.member_promote(id).await);
    let lagging = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_eq!((code, text.as_str()), (tonic::Code::FailedPrecondition, lagging));
    let (code, text) = refusal(client.member_promote(77).await);
    assert_eq!((code, text.as_str()), (tonic::Code::NotFound, "etcdserver: member not found"));

    cluster.join(seat, &[0]);
    cluster.wait_until_ready(seat);
    let mut learner = cluster.client(seat).await;
    let (code, text) = refusal(learner.get("k", None).await);
    assert_eq!((code, text.as_str()), (tonic::Code::FailedPrecondition, "etcdserver: rpc not supported for learner"));
    assert!(learner.status().await.expect("status").is_learner());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let local = learner.get("k", Some(GetOptions::new().with_serializable())).await.expect("a local read");
        if local.kvs().first().is_some_and(|pair| pair.value() == b"v") {
            break;
        }
        assert!(Instant::now() < deadline, "the learner never learns");
    }
    // The leader hears of it a moment later.
    while let promoted @ Err(_) = client.member_promote(id).await {
        assert_eq!(refusal(promoted).1, lagging);
        assert!(Instant::now() < deadline, "the leader never hears what the learner knows");
    }
    let (code, text) = refusal(client.member_promote(id).await);
    assert_eq!(
        (code, text.as_str()),
        (tonic::Code::FailedPrecondition, "etcdserver: can only promote a learner member")
    );
    put(&mut learner, "k", "w").await;

    client.move_leader(id).await.expect("moved");
    assert_eq!(cluster.leader(&[0, seat]).await, seat);
    let (code, text) = refusal(client.move_leader(id).await);
    assert_eq!((code, text.as_str()), (tonic::Code::FailedPrecondition, "etcdserver: not leader"));
    let (code, text) = refusal(learner.move_leader(99).await);
    assert_eq!((code, text.as_str()), (tonic::Code::FailedPrecondition, "etcdserver: bad leader transferee"));

    // The leader itself is removed: it stops, and the other one goes on alone.
    settle().await;
    client.member_remove(id).await.expect("removed");
    cluster.wait_for_end(seat);
    assert!(cluster.log(seat).contains("permanently removed"), "{}", cluster.log(seat));
    put(&mut client, "k", "x").await;
    // With its data it does not come back.
    cluster.restart(seat);
    cluster.wait_for_end(seat);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_endanger_the_quorum_are_refused() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client(0).await;
    let ids = cluster.ids().await;
    settle().await;
    cluster.kill(2);
    cluster.wait_for_log(0, "lost connection to peer");
    tokio::time::sleep(Duration::from_millis(500)).await;
    // What is proposed to a leader that has died is lost, and known to be so only after the request timeout.
    cluster.leader(&[0, 1]).await;
    let (code, text) = refusal(client.member_remove(ids[1]).await);
    assert_eq!((code, text.as_str()), (tonic::Code::Unavailable, "etcdserver: unhealthy cluster"));
    let (code, text) = refusal(client.member_remove(5).await);
    assert_eq!((code, text.as_str()), (tonic::Code::NotFound, "etcdserver: member not found"));
    let (code, text) = refusal(client.member_add(["nonsense"], None).await);
    assert_eq!((code, text.as_str()), (tonic::Code::InvalidArgument, "etcdserver: given member URLs are invalid"));
    client.member_update(ids[2], ["http://127.0.0.1:2".to_string()]).await.expect("a move is always allowed");
    let list = client.member_list().await.expect("a list");
    let moved = list.members().iter().find(|member| member.id() == ids[2]).expect("listed");
    assert_eq!(moved.peer_urls(), ["http://127.0.0.1:2"]);
    client.member_remove(ids[2]).await.expect("the dead one may go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_another_token_is_refused() {
    let mut cluster = Cluster::start(3, &[]);
    if cluster.leader(&[0, 1, 2]).await == 2 {
        let to = cluster.id(0).await;
        cluster.client(2).await.move_leader(to).await.expect("moved");
    }
    cluster.kill(2);
    cluster.wipe(2);
    cluster.seats[2].flags.push("--initial-cluster-token=another".to_string());
    cluster.restart(2);
    cluster.wait_for_log(2, "peer refused the connection");
    let mut client = cluster.client(0).await;
    put(&mut client, "k", "v").await;
    assert_eq!(names(&mut client).await, ["m1", "m2", "m3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let mut cluster = Cluster::start(1, &[]);
    let seat = cluster.reserve("stranger");
    cluster.join(seat, &[0]);
    assert!(!cluster.wait_for_end(seat).success());
    assert!(cluster.log(seat).contains("member count is unequal"), "{}", cluster.log(seat));
}

/// What a member is given to find the leader and catch up; etcd takes two seconds.
const FOUND: Duration = Duration::from_secs(12);

/// A member comes back that was down while something happened to the membership; the member at `leader` leads by then.
async fn comes_back(cluster: &mut Cluster, away: usize, through: usize, leader: usize) {
    let id = cluster.id(leader).await;
    retry(async || cluster.client(through).await.move_leader(id).await).await;
    let rest: Vec<usize> = (0..cluster.seats.len()).filter(|seat| *seat != away).collect();
    assert_eq!(cluster.leader(&rest).await, leader);
    let start = Instant::now();
    cluster.restart(away);
    cluster.wait_until_ready(away);
    let all: Vec<usize> = (0..cluster.seats.len()).collect();
    cluster.wait_until_equal(&all).await;
    assert!(start.elapsed() < FOUND, "it took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_down_finds_a_leader_it_does_not_know() {
    let mut cluster = Cluster::start(3, &["--strict-reconfig-check=false"]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    cluster.kill(away);
    let seat = cluster.reserve("late");
    let url = cluster.seats[seat].peer_url();
    let mut client = cluster.client(leader).await;
    retry(async || client.member_add([url.clone()], None).await).await;
    cluster.join(seat, &[0, 1, 2]);
    cluster.wait_until_ready(seat);
    comes_back(&mut cluster, away, leader, seat).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_down_finds_a_leader_that_has_moved() {
    let mut cluster = Cluster::start(3, &["--strict-reconfig-check=false"]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (away, moved) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = cluster.id(moved).await;
    cluster.kill(away);
    cluster.relocate(moved);
    let url = cluster.seats[moved].peer_url();
    let mut client = cluster.client(leader).await;
    retry(async || client.member_update(id, [url.clone()]).await).await;
    cluster.kill(moved);
    cluster.restart(moved);
    cluster.wait_until_ready(moved);
    comes_back(&mut cluster, away, leader, moved).await;
}
