//! Who may do what: keys, transactions, everything that asks for the role root, and changes of users themselves.

use super::common::client::*;
use super::realm::*;
use plinth_api::methods;
use plinth_api::proto::authpb::permission::Type;
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::plinthpb::SnapshotRequest;
use tonic::Code;

fn all() -> GetOptions {
    GetOptions::new().with_range([0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_for_those_who_may() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    realm.root.put("theirs", "1", None).await.expect("root may");
    user.put("mine/a", "1", None).await.expect("granted");
    user.put("mine/a", "2", Some(PutOptions::new().with_prev_key())).await.expect("granted");
    assert_eq!(user.get("mine/", Some(GetOptions::new().with_prefix())).await.expect("granted").kvs().len(), 1);
    assert_eq!(refusal(user.put("theirs", "2", None).await), DENIED);
    assert_eq!(refusal(user.get("theirs", None).await), DENIED);
    assert_eq!(refusal(user.get("theirs", Some(GetOptions::new().with_serializable())).await), DENIED);
    assert_eq!(refusal(user.get("mine/", Some(all())).await), DENIED, "one step beyond what is granted");
    assert_eq!(refusal(user.get("mine/", Some(GetOptions::new().with_range("mine1"))).await), DENIED);
    assert_eq!(refusal(user.get("mine/z", Some(GetOptions::new().with_keys_only().with_range("n"))).await), DENIED);
    assert_eq!(refusal(user.delete("mine/", Some(DeleteOptions::new().with_range("n"))).await), DENIED);
    assert_eq!(user.delete("mine/", Some(DeleteOptions::new().with_prefix())).await.expect("granted").deleted(), 1);
    let mut nobody = realm.nobody().await;
    assert_eq!(refusal(nobody.get("mine/a", None).await), NOBODY);
    assert_eq!(refusal(nobody.put("mine/a", "1", None).await), NOBODY);
    assert_eq!(realm.root.get("theirs", None).await.expect("root may").kvs()[0].value(), b"1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_and_writing_are_two_things() {
    let mut realm = Realm::start(&[]).await;
    add_user(&mut realm.root, "w", "writer").await;
    grant(&mut realm.root, "writer", Type::Write, "k", "").await.expect("granted");
    let mut writer = realm.sign_in("w").await;
    writer.put("k", "1", None).await.expect("granted");
    assert_eq!(refusal(writer.get("k", None).await), DENIED);
    assert_eq!(refusal(writer.put("k", "2", Some(PutOptions::new().with_prev_key())).await), DENIED);
    assert_eq!(refusal(writer.delete("k", Some(DeleteOptions::new().with_prev_key())).await), DENIED);
    let compare = Txn::new().when([Compare::version("k", CompareOp::Equal, 1)]).and_then([]);
    assert_eq!(refusal(writer.txn(compare).await), DENIED, "a condition reads");
    writer.put("k", "3", Some(PutOptions::new().with_ignore_lease())).await.expect("granted");
    assert_eq!(realm.root.get("k", None).await.expect("root may").kvs()[0].value(), b"3");
    writer.delete("k", None).await.expect("granted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_of_several_roles_cover_a_range_together() {
    let mut realm = Realm::start(&[]).await;
    add_user(&mut realm.root, "u", "a").await;
    realm.root.call(&methods::ROLE_ADD, pb::AuthRoleAddRequest { name: "b".into() }).await.expect("added");
    let both = pb::AuthUserGrantRoleRequest { user: "u".into(), role: "b".into() };
    realm.root.call(&methods::USER_GRANT_ROLE, both).await.expect("granted");
    grant(&mut realm.root, "a", Type::Read, "a", "b").await.expect("granted");
    let mut user = realm.sign_in("u").await;
    assert_eq!(refusal(user.get("a", Some(all())).await), DENIED);
    grant(&mut realm.root, "b", Type::Readwrite, "b", "\0").await.expect("granted");
    user.get("a", Some(all())).await.expect("[a, b) and [b, ...) touch");
    revoke(&mut realm.root, "b", "b", "\0").await.expect("it was granted");
    assert_eq!(refusal(user.get("a", Some(all())).await), DENIED, "the same token, the rights of now");
    user.get("a", None).await.expect("granted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_branch_not_taken_counts_too() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let mine = || TxnOp::put("mine/a", "1", None);
    let theirs = || TxnOp::put("theirs", "1", None);
    user.txn(Txn::new().and_then([mine()]).or_else([mine()])).await.expect("granted");
    assert_eq!(refusal(user.txn(Txn::new().and_then([mine()]).or_else([theirs()])).await), DENIED);
    assert_eq!(refusal(user.txn(Txn::new().and_then([TxnOp::get("theirs", None)])).await), DENIED, "it only reads");
    let before = realm.root.get("mine/a", None).await.expect("root may");
    assert_eq!(refusal(user.txn(Txn::new().and_then([mine(), theirs()])).await), DENIED);
    let after = realm.root.get("mine/a", None).await.expect("root may");
    assert_eq!(before.header().map(Header::revision), after.header().map(Header::revision), "nothing was done");
    realm.nobody().await.txn(Txn::new()).await.expect("there is nothing in it that anybody could be refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_the_role_root() {
    let (mut realm, user) = Realm::with_user(&[]).await;
    let nobody = realm.nobody().await;
    for (mut client, wanted) in [(user, DENIED), (nobody, NOBODY)] {
        let mut texts = Vec::new();
        let get = AlarmAction::Deactivate;
        texts.push(refusal(client.compact(1, None).await));
        texts.push(refusal(client.alarm(get, AlarmType::Nospace, None).await));
        texts.push(refusal(client.call(&methods::DEFRAGMENT, pb::DefragmentRequest {}).await));
        texts.push(refusal(client.call(&methods::HASH, pb::HashRequest {}).await));
        texts.push(refusal(client.hash_kv(0).await));
        texts.push(refusal(client.move_leader(1).await));
        texts.push(refusal(client.member_add(["http://a:1"], None).await));
        texts.push(refusal(client.member_remove(1).await));
        texts.push(refusal(client.member_update(1, ["http://a:1"]).await));
        texts.push(refusal(client.member_promote(1).await));
        let snapshot = match client.server_stream(&methods::SNAPSHOT, SnapshotRequest::default()).await {
            Ok(mut snapshot) => snapshot.message().await.map(|_| ()),
            Err(refusal) => Err(refusal),
        };
        texts.push(refusal(snapshot));
        texts.push(refusal(client.call(&methods::AUTH_DISABLE, pb::AuthDisableRequest {}).await));
        texts.push(refusal(client.call(&methods::USER_LIST, pb::AuthUserListRequest {}).await));
        texts.push(refusal(client.call(&methods::ROLE_LIST, pb::AuthRoleListRequest {}).await));
        texts.push(refusal(client.call(&methods::ROLE_ADD, pb::AuthRoleAddRequest { name: "x".into() }).await));
        let add = pb::AuthUserAddRequest { name: "x".into(), password: "x".into(), ..Default::default() };
        texts.push(refusal(client.call(&methods::USER_ADD, add).await));
        texts.push(refusal(grant(&mut client, "r", Type::Read, "a", "").await));
        assert_eq!(texts, vec![wanted; texts.len()]);
    }
    realm.root.hash_kv(0).await.expect("root may");
    realm.root.call(&methods::DEFRAGMENT, pb::DefragmentRequest {}).await.expect("root may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_somebody() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    user.status().await.expect("a user may");
    user.member_list().await.expect("a user may");
    user.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("a user may");
    user.lease_grant(60, None).await.expect("a user may");
    let mut nobody = realm.nobody().await;
    assert!(auth_status(&mut nobody).await.0, "open to all since 3.7");
    for text in [
        refusal(nobody.status().await),
        refusal(nobody.member_list().await),
        refusal(nobody.alarm(AlarmAction::Get, AlarmType::None, None).await),
        refusal(nobody.lease_grant(60, None).await),
        refusal(nobody.lease_revoke(1).await),
        refusal(nobody.leases().await),
        refusal(nobody.lease_time_to_live(1, None).await),
        refusal(nobody.lease_keep_alive(1).await),
        refusal(nobody.lock("l", None).await),
        refusal(nobody.campaign("e", "v", 1).await),
    ] {
        assert_eq!(text, NOBODY);
    }
    realm.root.status().await.expect("root may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_see_themselves_and_their_roles() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let get = |name: &str| pb::AuthUserGetRequest { name: name.into() };
    let role = |role: &str| pb::AuthRoleGetRequest { role: role.into() };
    assert_eq!(user.call(&methods::USER_GET, get("u")).await.expect("oneself").roles, ["r"]);
    assert_eq!(user.call(&methods::ROLE_GET, role("r")).await.expect("its own").perm.len(), 1);
    assert_eq!(refusal(user.call(&methods::USER_GET, get("root")).await), DENIED);
    assert_eq!(refusal(user.call(&methods::ROLE_GET, role("root")).await), DENIED);
    assert_eq!(refusal(realm.nobody().await.call(&methods::USER_GET, get("")).await), NOBODY);
    let root = realm.root.call(&methods::ROLE_GET, role("root")).await.expect("root may").perm;
    assert_eq!((root.len(), &root[0].key[..], &root[0].range_end[..]), (1, &b""[..], &b"\0"[..]));
    let missing = realm.root.call(&methods::USER_GET, get("x")).await.expect_err("there is none");
    assert_eq!((missing.code(), missing.message()), (Code::FailedPrecondition, "etcdserver: user name not found"));
    let names = realm.root.call(&methods::USER_LIST, pb::AuthUserListRequest {}).await.expect("root may").users;
    assert_eq!(names, ["root", "u"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_locked_out_by_oversight() {
    let mut realm = Realm::start(&[]).await;
    let root = || "root".to_owned();
    let managed = "etcdserver: invalid auth management";
    let revoke_root = pb::AuthUserRevokeRoleRequest { name: root(), role: root() };
    let root_client = &mut realm.root;
    let delete = pb::AuthUserDeleteRequest { name: root() };
    assert_eq!(refusal(root_client.call(&methods::USER_DELETE, delete).await), managed);
    assert_eq!(
        refusal(root_client.call(&methods::ROLE_DELETE, pb::AuthRoleDeleteRequest { role: root() }).await),
        managed
    );
    assert_eq!(refusal(root_client.call(&methods::USER_REVOKE_ROLE, revoke_root).await), managed);
    for (key, end) in [("", ""), ("", "\0"), ("b", "a"), ("b", "b")] {
        assert_eq!(refusal(grant(root_client, "root", Type::Read, key, end).await), managed, "{key:?} to {end:?}");
    }
    let before = auth_status(root_client).await;
    let again = pb::AuthUserGrantRoleRequest { user: root(), role: root() };
    root_client.call(&methods::USER_GRANT_ROLE, again).await.expect("it has it already");
    root_client.call(&methods::AUTH_ENABLE, pb::AuthEnableRequest {}).await.expect("it is on already");
    assert_eq!(auth_status(root_client).await, before, "nothing has changed");
    root_client.call(&methods::AUTH_DISABLE, pb::AuthDisableRequest {}).await.expect("root may");
    assert_eq!(auth_status(root_client).await, (false, before.1 + 1));
    let mut nobody = realm.nobody().await;
    nobody.put("k", "v", None).await.expect("users do not matter");
    let off = nobody.authenticate("root", "root").await;
    assert_eq!(refusal(off), "etcdserver: authentication is not enabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_root_users_cannot_matter() {
    let server = super::server::Server::start(&CHEAP);
    let mut client = server.client().await;
    let enable = pb::AuthEnableRequest {};
    assert_eq!(refusal(client.call(&methods::AUTH_ENABLE, enable).await), "etcdserver: root user does not exist");
    let add = pb::AuthUserAddRequest { name: "root".into(), password: "root".into(), ..Default::default() };
    client.call(&methods::USER_ADD, add).await.expect("added");
    let refused = refusal(client.call(&methods::AUTH_ENABLE, enable).await);
    assert_eq!(refused, "etcdserver: root user does not have root role");
    assert_eq!(auth_status(&mut client).await, (false, 2));
}
