//! Tokens: whose they are, how long they live, and what ends them.

use super::common::client::{Txn, TxnOp};
use super::realm::*;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb as pb;
use std::time::{Duration, Instant};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_token_is_refused_even_where_none_is_needed() {
    let (realm, _) = Realm::with_user(&[]).await;
    let mut client = realm.nobody().await;
    for token in ["", "x", "x.1", "x.y", "abc.1.2", "aaaaaaaaaaaaaaaa.1"] {
        client.set_token(Some(token));
        let refused = client.get("mine/a", None).await.expect_err("no token");
        assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, BAD_TOKEN), "{token:?}");
        assert_eq!(refusal(client.put("mine/a", "1", None).await), BAD_TOKEN, "{token:?}");
        // What is wrong in itself is told first.
        for empty in [client.put("", "1", None).await.err(), client.delete("", None).await.err()] {
            assert_eq!(empty.expect("no key").message(), "etcdserver: key is not provided", "{token:?}");
        }
        let twice = [TxnOp::put("a", "1", None), TxnOp::put("a", "2", None)];
        let twice = client.txn(Txn::new().and_then(twice)).await.expect_err("twice");
        assert_eq!(twice.message(), "etcdserver: duplicate key given in txn request", "{token:?}");
        assert_eq!(refusal(client.call(&methods::AUTH_STATUS, pb::AuthStatusRequest {}).await), BAD_TOKEN, "{token:?}");
    }
    client.authenticate("u", "u").await.expect("a token sent along does no harm");
    client.get("mine/a", None).await.expect("granted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_an_entry_to_come_waits_for_a_bounded_time() {
    // A request may take five seconds and two election timeouts.
    let (realm, _) = Realm::with_user(&["--election-timeout", "500", "--heartbeat-interval", "50"]).await;
    let mut client = realm.nobody().await;
    client.set_token(Some("aaaaaaaaaaaaaaaa.18446744073709551615"));
    let start = Instant::now();
    assert_eq!(refusal(client.get("mine/a", None).await), BAD_TOKEN);
    assert!(start.elapsed() > Duration::from_secs(3), "the entry may still come");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lives_on_by_use() {
    let (realm, _) = Realm::with_user(&["--auth-token-ttl", "4"]).await;
    let (mut used, mut idle) = (realm.sign_in("u").await, realm.sign_in("u").await);
    let start = Instant::now();
    let mut gaps = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(8) {
        let before = Instant::now();
        used.get("mine/a", None).await.expect("it is used all the while");
        tokio::time::sleep(Duration::from_millis(500)).await;
        gaps = gaps.max(before.elapsed());
        assert!(gaps < Duration::from_secs(4), "this machine is too busy to tell: {gaps:?}");
    }
    assert_eq!(refusal(idle.get("mine/a", None).await), BAD_TOKEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_end_with_the_password_the_user_and_all_at_once() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let change = pb::AuthUserChangePasswordRequest { name: "u".into(), password: "u".into(), ..Default::default() };
    realm.root.call(&methods::USER_CHANGE_PASSWORD, change).await.expect("changed");
    assert_eq!(refusal(user.get("mine/a", None).await), BAD_TOKEN, "another password, though the same");
    let mut user = realm.sign_in("u").await;
    user.get("mine/a", None).await.expect("granted");
    let delete = pb::AuthUserDeleteRequest { name: "u".into() };
    realm.root.call(&methods::USER_DELETE, delete).await.expect("deleted");
    assert_eq!(refusal(user.get("mine/a", None).await), BAD_TOKEN, "there is no such user");
    realm.root.call(&methods::AUTH_DISABLE, pb::AuthDisableRequest {}).await.expect("root may");
    realm.root.get("k", None).await.expect("tokens are not looked at");
    realm.root.call(&methods::AUTH_ENABLE, pb::AuthEnableRequest {}).await.expect("enabled");
    assert_eq!(refusal(realm.root.get("k", None).await), BAD_TOKEN, "of the time before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_tokens_and_keeps_users() {
    let (mut realm, _) = Realm::with_user(&[]).await;
    let (_, revision) = auth_status(&mut realm.root).await;
    // A flush of the data file, so that the entry in which the token was given out is not applied again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    realm.server.terminate();
    realm.server.restart();
    let mut nobody = realm.nobody().await;
    assert_eq!(refusal(nobody.put("mine/a", "1", None).await), NOBODY, "users matter from the first request on");
    assert_eq!(auth_status(&mut nobody).await, (true, revision));
    let mut user = realm.sign_in("u").await;
    user.put("mine/a", "1", None).await.expect("granted");
    assert_eq!(refusal(user.put("theirs", "1", None).await), DENIED);
}
