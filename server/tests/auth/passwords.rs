//! Passwords: right and wrong, none, too long, and many at once.

use super::realm::*;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb as pb;
use std::time::{Duration, Instant};
use tonic::Code;

const FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_and_wrong_ones() {
    let (mut realm, _) = Realm::with_user(&[]).await;
    let mut client = realm.nobody().await;
    let wrong = client.authenticate("u", "wrong").await.expect_err("wrong");
    assert_eq!((wrong.code(), wrong.message()), (Code::InvalidArgument, FAILED));
    assert_eq!(refusal(client.authenticate("nobody", "u").await), FAILED);
    assert_eq!(refusal(client.authenticate("", "").await), FAILED);
    add_without_password(&mut realm.root, "bare").await;
    let bare = client.authenticate("bare", "").await.expect_err("it has none");
    assert_eq!(bare.code(), Code::Unknown);
    assert_eq!(bare.message(), "auth: authentication failed, password was given for no password user");
    let change = |name: &str, password: String| pb::AuthUserChangePasswordRequest {
        name: name.into(),
        password,
        ..Default::default()
    };
    let too_long = realm.root.call(&methods::USER_CHANGE_PASSWORD, change("u", "x".repeat(73))).await;
    assert_eq!(refusal(too_long), "bcrypt: password length exceeds 72 bytes");
    realm.root.call(&methods::USER_CHANGE_PASSWORD, change("u", "x".repeat(72))).await.expect("changed");
    assert_eq!(refusal(client.authenticate("u", "u").await), FAILED);
    client.authenticate("u", &"x".repeat(72)).await.expect("the new one");
    realm.root.call(&methods::USER_CHANGE_PASSWORD, change("u", String::new())).await.expect("changed");
    for password in ["", "u"] {
        assert_eq!(refusal(client.authenticate("u", password).await), FAILED, "changed to none, which nobody can give");
    }
    let empty = pb::AuthUserAddRequest { name: "empty".into(), ..Default::default() };
    realm.root.call(&methods::USER_ADD, empty).await.expect("added");
    client.authenticate("empty", "").await.expect("an empty one from the beginning is one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_roles_that_are_there_or_not() {
    let mut realm = Realm::start(&[]).await;
    let add = |name: &str| pb::AuthUserAddRequest { name: name.into(), password: "p".into(), ..Default::default() };
    assert_eq!(refusal(realm.root.call(&methods::USER_ADD, add("")).await), NOBODY);
    assert_eq!(refusal(realm.root.call(&methods::USER_ADD, add("root")).await), "etcdserver: user name already exists");
    let role = |name: &str| pb::AuthRoleAddRequest { name: name.into() };
    assert_eq!(refusal(realm.root.call(&methods::ROLE_ADD, role("")).await), "etcdserver: role name is empty");
    assert_eq!(
        refusal(realm.root.call(&methods::ROLE_ADD, role("root")).await),
        "etcdserver: role name already exists"
    );
    let unknown = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "x".into() };
    let refused = refusal(realm.root.call(&methods::USER_GRANT_ROLE, unknown).await);
    assert_eq!(refused, "etcdserver: role name not found");
    let not_granted = pb::AuthUserRevokeRoleRequest { name: "root".into(), role: "x".into() };
    let refused = refusal(realm.root.call(&methods::USER_REVOKE_ROLE, not_granted).await);
    assert_eq!(refused, "etcdserver: role is not granted to the user");
    let refused = refusal(revoke(&mut realm.root, "root", "k", "").await);
    assert_eq!(refused, "etcdserver: permission is not granted to the role");
    let nothing = pb::AuthRoleGrantPermissionRequest { name: "root".into(), perm: None };
    let refused = refusal(realm.root.call(&methods::ROLE_GRANT_PERMISSION, nothing).await);
    assert_eq!(refused, "etcdserver: permission not given");
}

/// bcrypt of a usual cost takes tens of milliseconds: hundreds of wrong passwords keep their thread busy for longer than
/// this test, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_passwords_stops_nobody() {
    let server = super::server::Server::start(&["--bcrypt-cost", "11"]);
    let mut root = server.client().await;
    enable(&mut root).await;
    let mut flood = Vec::new();
    for _ in 0..4 {
        let client = server.client().await;
        for _ in 0..100 {
            let mut client = client.clone();
            flood.push(tokio::spawn(async move { refusal(client.authenticate("root", "wrong").await) }));
        }
    }
    let start = Instant::now();
    for number in 0..200 {
        root.put("k", number.to_string(), None).await.expect("root may");
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "two hundred puts took {took:?}");
    let (mut failed, mut busy) = (0, 0);
    for task in flood {
        match task.await.expect("no panic").as_str() {
            FAILED => failed += 1,
            "etcdserver: too many requests" => busy += 1,
            other => panic!("{other}"),
        }
    }
    assert!(failed > 0 && busy > 0, "{failed} were compared, {busy} turned away");
}
