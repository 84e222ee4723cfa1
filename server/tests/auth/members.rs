//! Users in a cluster: a token is good at every member, what is taken away is gone everywhere at once, and all members
//! have the same users, also after one of them was fed a snapshot.

use super::cluster::Cluster;
use super::common::client::*;
use super::realm::*;
use plinth_api::methods;
use plinth_api::proto::authpb::permission::Type;
use plinth_api::proto::etcdserverpb as pb;
use std::time::{Duration, Instant};

/// Whether all data, users and roles included, is the same everywhere.
async fn wait_until_the_same(clients: &mut [Client]) {
    let deadline = Instant::now() + super::common::PATIENCE;
    loop {
        let mut hashes = Vec::new();
        for client in clients.iter_mut() {
            // Everything that was answered before is applied at this member.
            client.get("k", None).await.expect("root may");
            hashes.push(client.call(&methods::HASH, pb::HashRequest {}).await.expect("root may").hash);
        }
        if hashes.iter().all(|hash| *hash == hashes[0]) {
            return;
        }
        assert!(Instant::now() < deadline, "{hashes:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn signed_in(cluster: &Cluster, seat: usize, name: &str) -> Client {
    let mut client = cluster.client(seat).await;
    client.authenticate(name, name).await.expect("the password is right");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_at_every_member_at_once() {
    let cluster = Cluster::start(3, &CHEAP);
    let mut root = cluster.client(0).await;
    enable(&mut root).await;
    add_user(&mut root, "u", "r").await;
    grant(&mut root, "r", Type::Readwrite, "mine/", "mine0").await.expect("granted");
    let mut others = Vec::new();
    for seat in 0..3 {
        others.push(cluster.client(seat).await);
    }
    for round in 0..30 {
        let token = cluster.client(round % 3).await.authenticate("u", "u").await.expect("the password is right");
        for client in &mut others {
            client.set_token(Some(&token));
            client.put("mine/a", round.to_string(), None).await.expect("granted");
            client.get("mine/a", Some(GetOptions::new().with_serializable())).await.expect("granted");
            assert_eq!(refusal(client.put("theirs", "1", None).await), DENIED);
        }
    }
    revoke(&mut root, "r", "mine/", "mine0").await.expect("it was granted");
    for client in &mut others {
        assert_eq!(refusal(client.put("mine/a", "x", None).await), DENIED);
        assert_eq!(refusal(client.get("mine/a", None).await), DENIED);
    }
    let delete = pb::AuthUserDeleteRequest { name: "u".into() };
    root.call(&methods::USER_DELETE, delete).await.expect("deleted");
    for client in &mut others {
        // One that lags may not know it yet, and then lets it through to where it is known.
        let refused = refusal(client.put("mine/a", "x", None).await);
        assert!([BAD_TOKEN, DENIED, OLD].contains(&refused.as_str()), "{refused}");
    }
    let mut roots = Vec::new();
    for seat in 0..3 {
        roots.push(signed_in(&cluster, seat, "root").await);
    }
    wait_until_the_same(&mut roots).await;
}

/// Rights change while clients write: each write is done or refused as a whole, everywhere alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_rights_race_with_writes() {
    let cluster = Cluster::start(3, &CHEAP);
    let mut root = cluster.client(0).await;
    enable(&mut root).await;
    add_user(&mut root, "u", "r").await;
    let mut writers = Vec::new();
    for seat in 0..3 {
        let mut client = signed_in(&cluster, seat, "u").await;
        writers.push(tokio::spawn(async move {
            let (mut done, mut refused) = (0, 0);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(4) {
                match client.put(format!("mine/{seat}"), done.to_string(), None).await {
                    Ok(_) => done += 1,
                    Err(error) if [DENIED, OLD].contains(&error.message()) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (done, refused)
        }));
    }
    while writers.iter().any(|writer| !writer.is_finished()) {
        grant(&mut root, "r", Type::Readwrite, "mine/", "mine0").await.expect("granted");
        tokio::time::sleep(Duration::from_millis(20)).await;
        revoke(&mut root, "r", "mine/", "mine0").await.expect("it was granted");
    }
    let mut versions = Vec::new();
    for (seat, writer) in writers.into_iter().enumerate() {
        let (done, refused) = writer.await.expect("no panic");
        assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
        let version = root.get(format!("mine/{seat}"), None).await.expect("root may").kvs()[0].version();
        versions.push((version, done));
    }
    assert!(versions.iter().all(|(version, done)| version == done), "{versions:?}");
    let mut roots = Vec::new();
    for seat in 0..3 {
        roots.push(signed_in(&cluster, seat, "root").await);
    }
    wait_until_the_same(&mut roots).await;
}

/// A member that is fed a snapshot has its users, though no entry told it, and knows no tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_users_along() {
    let mut cluster = Cluster::start(3, &CHEAP);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    let mut root = cluster.client(leader).await;
    root.put("theirs", "1", None).await.expect("users do not matter yet");
    cluster.kill(away);
    enable(&mut root).await;
    add_user(&mut root, "u", "r").await;
    grant(&mut root, "r", Type::Readwrite, "mine/", "mine0").await.expect("granted");
    let token = signed_in(&cluster, leader, "u").await.authenticate("u", "u").await.expect("the password is right");
    for number in 0..160 {
        root.put(format!("fill/{}", number % 40), vec![number as u8; 1 << 20], None).await.expect("root may");
    }
    cluster.restart(away);
    cluster.wait_for_log(away, "installed snapshot");
    cluster.wait_until_ready(away);
    let mut nobody = cluster.client(away).await;
    assert_eq!(refusal(nobody.get("theirs", Some(GetOptions::new().with_serializable())).await), NOBODY);
    nobody.set_token(Some(&token));
    assert_eq!(refusal(nobody.put("mine/a", "1", None).await), BAD_TOKEN, "it was not there when it was given out");
    let mut user = signed_in(&cluster, away, "u").await;
    let lease = user.lease_grant(2, None).await.expect("granted").id();
    user.put("mine/a", "1", Some(PutOptions::new().with_lease(lease))).await.expect("granted");
    assert_eq!(refusal(user.put("theirs", "2", None).await), DENIED);
    let mut roots = Vec::new();
    for seat in 0..3 {
        roots.push(signed_in(&cluster, seat, "root").await);
    }
    wait_until_the_same(&mut roots).await;
    let start = Instant::now();
    while user.get("mine/a", None).await.expect("granted").count() > 0 {
        assert!(start.elapsed() < super::common::PATIENCE, "the lease never ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
