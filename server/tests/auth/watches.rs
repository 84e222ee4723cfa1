//! Watches: looked at when they are created, with the range as it was sent.

use super::common::client::*;
use super::realm::*;
use plinth_api::proto::etcdserverpb as pb;

/// The answer to a create.
async fn created(client: &mut Client, key: &str, options: WatchOptions) -> pb::WatchResponse {
    let mut stream = client.watch(key, Some(options)).await.expect("opened");
    stream.message().await.expect("answered").expect("answered")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_needs_to_read_all_of_its_range() {
    let (realm, user) = Realm::with_user(&[]).await;
    let granted = created(&mut user.clone(), "mine/", WatchOptions::new().with_prefix()).await;
    assert!(granted.created && !granted.canceled, "{granted:?}");
    let nobody = realm.nobody().await;
    let mut stale = realm.nobody().await;
    stale.set_token(Some("aaaaaaaaaaaaaaaa.1"));
    let from_key = || WatchOptions::new().with_range([0]);
    for (client, key, options, reason) in [
        (&user, "theirs", WatchOptions::new(), "PermissionDenied desc = etcdserver: permission denied"),
        (&user, "mine/", from_key(), "PermissionDenied desc = etcdserver: permission denied"),
        (&user, "", from_key(), "PermissionDenied desc = etcdserver: permission denied"),
        (&nobody, "mine/", WatchOptions::new(), "InvalidArgument desc = etcdserver: user name is empty"),
        (&stale, "mine/", WatchOptions::new(), "Unauthenticated desc = etcdserver: invalid auth token"),
    ] {
        let answer = created(&mut client.clone(), key, options).await;
        assert!(answer.created && answer.canceled && answer.watch_id == -1, "{answer:?}");
        assert_eq!(answer.cancel_reason, format!("rpc error: code = {reason}"), "{key}");
    }
}

/// As in etcd: the watch was allowed when it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_there_goes_on_and_a_new_one_is_refused() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let mut stream = user.watch("mine/a", None).await.expect("opened");
    assert!(stream.message().await.expect("answered").expect("answered").created());
    revoke(&mut realm.root, "r", "mine/", "mine0").await.expect("it was granted");
    realm.root.put("mine/a", "1", None).await.expect("root may");
    assert_eq!(stream.message().await.expect("an event").expect("an event").events().len(), 1);
    let create = pb::WatchCreateRequest { key: "mine/a".into(), ..Default::default() };
    stream.send(pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) });
    assert!(stream.message().await.expect("answered").expect("answered").canceled(), "on the same stream");
}
