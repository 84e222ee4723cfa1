//! Leases and their keys: who ends a lease, or keeps it alive, decides about its keys.

use super::common::client::*;
use super::realm::*;
use plinth_api::proto::authpb::permission::Type;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_for_those_who_may_write_its_keys() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let mine = user.lease_grant(600, None).await.expect("granted").id();
    let on = |lease| Some(PutOptions::new().with_lease(lease));
    user.put("mine/a", "1", on(mine)).await.expect("granted");
    user.lease_keep_alive(mine).await.expect("its keys are the user's");
    let theirs = realm.root.lease_grant(600, None).await.expect("granted").id();
    realm.root.put("theirs", "1", on(theirs)).await.expect("root may");
    assert_eq!(refusal(user.lease_keep_alive(theirs).await), DENIED);
    assert_eq!(refusal(user.lease_revoke(theirs).await), DENIED);
    assert_eq!(refusal(user.put("mine/b", "1", on(theirs)).await), DENIED, "it would live and end with theirs");
    let unknown = user.put("mine/b", "1", on(12345)).await;
    assert_eq!(refusal(unknown), "etcdserver: requested lease not found");
    assert_eq!(refusal(user.leases().await), DENIED, "one of them holds a key that may not be read");
    realm.root.put("mine/c", "1", on(theirs)).await.expect("root may");
    user.lease_revoke(mine).await.expect("its keys are the user's");
    realm.root.lease_revoke(theirs).await.expect("root may");
    assert_eq!(realm.root.get("mine/", Some(GetOptions::new().with_prefix())).await.expect("root may").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_time_is_over_ends_though_nobody_may() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let lease = user.lease_grant(2, None).await.expect("granted").id();
    user.put("mine/a", "1", Some(PutOptions::new().with_lease(lease))).await.expect("granted");
    revoke(&mut realm.root, "r", "mine/", "mine0").await.expect("it was granted");
    let start = Instant::now();
    while realm.root.get("mine/a", None).await.expect("root may").count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "the lease never ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    grant(&mut realm.root, "r", Type::Read, "mine/", "mine0").await.expect("granted");
    assert_eq!(user.get("mine/a", None).await.expect("granted").count(), 0);
}
