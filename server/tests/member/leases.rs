//! Many leases that end together: they go by thousands a second, and a lock does not wait behind them.

use super::common::PATIENCE;
use super::common::client::*;
use super::server::Server;
use std::time::{Duration, Instant};

/// Grants under way at a time.
const AT_ONCE: usize = 50;

/// Grants leases, each with a key.
async fn grant(client: &Client, count: usize, seconds: i64) {
    let mut tasks = Vec::new();
    for worker in 0..AT_ONCE {
        let mut client = client.clone();
        tasks.push(tokio::spawn(async move {
            for number in (worker..count).step_by(AT_ONCE) {
                let lease = client.lease_grant(seconds, None).await.expect("granted").id();
                let options = PutOptions::new().with_lease(lease);
                client.put(format!("crowd/{number}"), "v", Some(options)).await.expect("put");
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// Waits until there are no leases; how long that took.
async fn until_gone(client: &mut Client, start: Instant) -> Duration {
    loop {
        let left = client.leases().await.expect("leases").leases().len();
        if left == 0 {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "{left} leases are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_leases_end_within_eight_seconds() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let seconds = 10;
    grant(&client, 5_000, seconds).await;
    let granted = Instant::now();
    let took = until_gone(&mut client, granted).await;
    assert!(took < Duration::from_secs(seconds as u64 + 8), "{took:?} after the last was granted");
    let left = client.get("crowd/", Some(GetOptions::new().with_prefix().with_count_only())).await;
    assert_eq!(left.expect("a count").count(), 0);
    // Each had a revision of its own, one for its key and one for its end.
    let revision = client.get("k", None).await.expect("readable").header().expect("header").revision();
    assert_eq!(revision, 1 + 2 * 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_free_soon_after_its_holder_left_behind_two_thousand_leases() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let seconds = 6;
    grant(&client, 2_000, seconds).await;
    let lease = client.lease_grant(seconds, None).await.expect("granted").id();
    client.lock("lock", Some(LockOptions::new().with_lease(lease))).await.expect("locked");
    let start = Instant::now();
    let other = client.lease_grant(60, None).await.expect("granted").id();
    client.lock("lock", Some(LockOptions::new().with_lease(other))).await.expect("locked");
    let took = start.elapsed();
    assert!(took > Duration::from_secs(seconds as u64 - 2), "the lease is not over after {took:?}");
    assert!(took < Duration::from_secs(seconds as u64 + 6), "free only after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_lease_just_granted_a_second_less_is_left() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    for _ in 0..20 {
        let lease = client.lease_grant(90, None).await.expect("granted").id();
        let told = client.lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new())).await.expect("known");
        assert_eq!((told.ttl(), told.granted_ttl()), (89, 90));
    }
}
