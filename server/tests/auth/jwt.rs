//! Signed tokens: they say themselves whose they are, and go by the revision of users and roles that they name.

use super::realm::*;
use plinth_api::methods;
use plinth_api::proto::authpb::permission::Type;
use plinth_api::proto::etcdserverpb as pb;

/// The flag for tokens signed with a secret, and the folder that has it.
fn signed(more: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "nobody knows it").expect("written");
    let flag = format!("--auth-token=jwt,priv-key={},sign-method=HS256{more}", secret.display());
    (folder, flag)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_token_is_as_old_as_the_revision_it_names() {
    let (_folder, flag) = signed("");
    let (mut realm, mut user) = Realm::with_user(&[&flag]).await;
    user.put("mine/a", "1", None).await.expect("granted");
    assert_eq!(refusal(user.put("theirs", "1", None).await), DENIED);
    assert_eq!(refusal(realm.root.put("k", "1", None).await), OLD, "users have changed since");
    assert_eq!(refusal(realm.root.get("k", None).await), OLD);
    grant(&mut realm.root, "r", Type::Read, "more", "").await.expect("who administers is looked up anew");
    for text in [refusal(user.put("mine/a", "2", None).await), refusal(user.get("mine/a", None).await)] {
        assert_eq!(text, OLD);
    }
    let mut user = realm.sign_in("u").await;
    user.get("more", None).await.expect("granted");
    let token = user.authenticate("u", "u").await.expect("the password is right");
    assert_eq!(token.split('.').count(), 3, "{token}");
    realm.server.terminate();
    realm.server.restart();
    let mut user = realm.nobody().await;
    user.set_token(Some(&token));
    user.put("mine/a", "3", None).await.expect("nothing was stored, nothing was lost");
    user.set_token(Some(&token.replace('.', "x")));
    assert_eq!(refusal(user.get("mine/a", None).await), BAD_TOKEN);
    let delete = pb::AuthUserDeleteRequest { name: "u".into() };
    realm.root = realm.sign_in("root").await;
    realm.root.call(&methods::USER_DELETE, delete).await.expect("deleted");
    user.set_token(Some(&token));
    assert_eq!(refusal(user.get("mine/a", None).await), OLD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_token_has_its_time() {
    let (_folder, flag) = signed(",ttl=3s");
    let (_realm, mut user) = Realm::with_user(&[&flag]).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(refusal(user.get("mine/a", None).await), BAD_TOKEN);
}

#[test]
fn what_cannot_sign_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, text) in [
        ("jwt,sign-method=none", "no sign-method"),
        ("jwt,sign-method=HS256", "need a key"),
        ("jwt,sign-method=HS256,priv-key=/nowhere", "/nowhere"),
        // What is no file would be read without an end, or waited for.
        ("jwt,sign-method=HS256,priv-key=/dev/zero", "/dev/zero: no regular file"),
        ("jwt,sign-method=RS256,pub-key=/proc", "/proc: no regular file"),
        ("other", "auth: invalid auth options"),
    ] {
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_plinth"))
            .arg("--data-dir")
            .arg(folder.path().join(kind.replace('/', "_")))
            .args(["--auth-token", kind, "--listen-client-urls", "http://127.0.0.1:0"])
            .args(["--advertise-client-urls", "http://127.0.0.1:0", "--listen-peer-urls", "http://127.0.0.1:0"])
            .output()
            .expect("it starts");
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!ended.status.success() && said.contains(text), "{kind}: {said}");
    }
}
