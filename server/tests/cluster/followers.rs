//! What happens on every member, also on those that nobody asks: compaction, and the figures of what was applied.

use super::cluster::{Cluster, put};
use super::common::PATIENCE;
use super::common::client::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const KEYS: usize = 100;
const ROUNDS: usize = 80;
const VALUE_BYTES: usize = 4096;

/// What is left when all but the newest round is compacted is a tenth of this.
const IN_USE_MAX: i64 = 4 << 20;

/// Overwrites all keys in some rounds, through one member.
async fn fill(cluster: &Cluster, seat: usize) -> i64 {
    let mut client = cluster.client(seat).await;
    for round in 0..ROUNDS {
        for key in 0..KEYS {
            put(&mut client, &format!("key/{key}"), vec![round as u8; VALUE_BYTES]).await;
        }
    }
    client.get("key/0", None).await.expect("readable").header().expect("header").revision()
}

/// Bytes in use at each member.
async fn in_use(cluster: &Cluster) -> Vec<i64> {
    let mut bytes = Vec::new();
    for seat in 0..cluster.seats.len() {
        let status = cluster.client(seat).await.status().await.expect("status");
        bytes.push(status.raft_used_db_size());
    }
    bytes
}

async fn wait_until_compacted(cluster: &Cluster) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bytes = in_use(cluster).await;
        if bytes.iter().all(|bytes| *bytes < IN_USE_MAX) {
            return;
        }
        assert!(Instant::now() < deadline, "in use: {bytes:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The sum of a series' values at a member.
fn metric(endpoint: &str, series: &str) -> f64 {
    let mut stream = TcpStream::connect(endpoint).expect("the server listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer in UTF-8");
    let values = page.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_compacts_and_counts_what_one_was_asked_for() {
    let cluster = Cluster::start(3, &["--quota-backend-bytes=60000000"]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (asked, follower) = ((leader + 1) % 3, (leader + 2) % 3);
    let revision = fill(&cluster, asked).await;
    let mut client = cluster.client(asked).await;
    client.lease_grant(7, None).await.expect("granted");
    client.compact(revision, None).await.expect("compacted");
    wait_until_compacted(&cluster).await;

    // The same hash at the compacted revision, from the compaction itself.
    let mut hashes = Vec::new();
    for seat in 0..3 {
        let hash = cluster.client(seat).await.hash_kv(revision).await.expect("a hash");
        hashes.push((hash.hash(), hash.compact_version()));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");

    for seat in 0..3 {
        let endpoint = cluster.seats[seat].endpoint();
        let counted = |series| metric(&endpoint, series);
        let puts = (KEYS * ROUNDS) as f64;
        assert!(counted("etcd_server_apply_duration_seconds_count{op=\"Put\",success=\"true\"") >= puts, "{seat}");
        assert_eq!(counted("etcd_debugging_lease_ttl_total_count"), 1.0, "{seat}");
        assert!(counted("etcd_debugging_mvcc_db_compaction_keys_total") >= puts - KEYS as f64, "{seat}");
    }

    // A member that had kept everything would find the quota used up now, for all.
    fill(&cluster, follower).await;
    let mut client = cluster.client(follower).await;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms");
    assert!(alarms.alarms().is_empty(), "{alarms:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_compacts_what_the_leader_compacts_by_itself() {
    let cluster = Cluster::start(3, &["--auto-compaction-mode=periodic", "--auto-compaction-retention=2s"]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    fill(&cluster, (leader + 1) % 3).await;
    // Something has to change, or there is nothing newer to compact at.
    let mut client = cluster.client(leader).await;
    let deadline = Instant::now() + PATIENCE;
    while in_use(&cluster).await.iter().any(|bytes| *bytes >= IN_USE_MAX) {
        put(&mut client, "other", "value").await;
        assert!(Instant::now() < deadline, "in use: {:?}", in_use(&cluster).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Who writes through a follower when the leader dies is not told that it has: what has not left the follower is proposed to
/// the next leader, and of the rest nobody knows more than that it was not done in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_through_a_follower_outlives_the_leader() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader(&[0, 1, 2]).await;
    let follower = (leader + 1) % 3;
    let mut puts = Vec::new();
    let mut known = None;
    for number in 0..150 {
        if number == 30 {
            // Commands travel on this lane.
            let is_loss = |line: &&str| line.contains("lost connection to peer") && line.contains("Bulk");
            let lost = |cluster: &Cluster| cluster.log(follower).lines().filter(is_loss).count();
            let before = lost(&cluster);
            cluster.kill(leader);
            // Written a little later than it is known.
            while lost(&cluster) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            known = Some(Instant::now());
        }
        let mut client = cluster.client(follower).await;
        let put = async move {
            let answer = client.put(format!("put/{number}"), "v", None).await;
            answer.map(|_| ()).map_err(|error| error.to_string())
        };
        puts.push((known.is_some(), tokio::spawn(put)));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let (mut done, mut unknown) = (0, 0);
    for (is_later, put) in puts {
        match put.await.expect("no panic") {
            Ok(()) => done += usize::from(is_later),
            Err(error) => {
                let text = "etcdserver: request timed out, possibly due to previous leader failure";
                assert!(error.contains(text), "{error}");
                assert!(!is_later, "it was asked when there was no connection to the leader");
                unknown += 1;
            }
        }
    }
    println!("{done} puts done that were asked after the leader was lost, {unknown} before of unknown fate");
    assert_eq!(done, 120);
}
