//! What etcd was warned about, each as a test: by the numbers of its advisories. `SECURITY.md` has the whole list; those
//! that are not about users are tested where their matter is.

use super::common::client::*;
use super::realm::*;
use plinth_api::methods;
use plinth_api::proto::authpb::permission::Type;
use plinth_api::proto::etcdserverpb as pb;
use std::path::Path;

/// A watch of all keys from one on was checked as one of that key alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_xg4h_6gfc_h4m8_a_watch_without_end_needs_a_grant_without_end() {
    let mut realm = Realm::start(&[]).await;
    add_user(&mut realm.root, "u", "r").await;
    grant(&mut realm.root, "r", Type::Read, "k", "").await.expect("granted");
    let mut user = realm.sign_in("u").await;
    let mut stream = user.watch("k", Some(WatchOptions::new().with_range([0]))).await.expect("opened");
    let answer = stream.message().await.expect("answered").expect("answered");
    assert!(answer.canceled() && answer.cancel_reason().contains(DENIED), "{answer:?}");
    let mut stream = user.watch("k", None).await.expect("opened");
    assert!(!stream.message().await.expect("answered").expect("answered").canceled());
}

/// A put inside a transaction could show a previous value, and be put on a foreign lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_x35m_3gp4_4fh5_a_put_in_a_transaction_is_a_put() {
    let mut realm = Realm::start(&[]).await;
    add_user(&mut realm.root, "u", "r").await;
    grant(&mut realm.root, "r", Type::Write, "mine", "").await.expect("granted");
    let theirs = realm.root.lease_grant(600, None).await.expect("granted").id();
    realm.root.put("theirs", "1", Some(PutOptions::new().with_lease(theirs))).await.expect("root may");
    let mut user = realm.sign_in("u").await;
    let prev = TxnOp::put("mine", "1", Some(PutOptions::new().with_prev_key()));
    let leased = TxnOp::put("mine", "1", Some(PutOptions::new().with_lease(theirs)));
    for op in [prev, leased] {
        assert_eq!(refusal(user.txn(Txn::new().and_then([op.clone()])).await), DENIED);
        let nested = TxnOp::txn(Txn::new().or_else([op]));
        assert_eq!(refusal(user.txn(Txn::new().and_then([nested])).await), DENIED);
    }
    user.txn(Txn::new().and_then([TxnOp::put("mine", "1", None)])).await.expect("granted");
}

/// What was inside a transaction inside a transaction was not looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_rfx7_8w68_q57q_nested_transactions_are_looked_into() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    realm.root.put("theirs", "1", None).await.expect("root may");
    let deep = |inner: Txn| {
        let inside = TxnOp::txn(Txn::new().or_else([TxnOp::txn(inner)]));
        Txn::new().and_then([TxnOp::get("mine/a", None), inside])
    };
    for inner in [
        Txn::new().and_then([TxnOp::get("theirs", None)]),
        Txn::new().and_then([TxnOp::put("theirs", "2", None)]),
        Txn::new().and_then([TxnOp::delete("theirs", None)]),
        Txn::new().when([Compare::version("theirs", CompareOp::Equal, 1)]),
    ] {
        assert_eq!(refusal(user.txn(deep(inner)).await), DENIED);
    }
    user.txn(deep(Txn::new().and_then([TxnOp::put("mine/a", "1", None)]))).await.expect("granted");
    assert_eq!(realm.root.get("theirs", None).await.expect("root may").kvs()[0].value(), b"1");
}

/// Calls that nobody in particular could make. See also `rules::what_asks_for_somebody`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_q8m4_xhhv_38mg_calls_of_nobody_are_refused() {
    let realm = Realm::start(&[]).await;
    let mut nobody = realm.nobody().await;
    assert_eq!(refusal(nobody.member_list().await), NOBODY);
    assert_eq!(refusal(nobody.alarm(AlarmAction::Get, AlarmType::None, None).await), NOBODY);
    assert_eq!(refusal(nobody.lease_grant(1, None).await), NOBODY);
    assert_eq!(refusal(nobody.lease_revoke(1).await), NOBODY);
    assert_eq!(refusal(nobody.lease_time_to_live(1, None).await), NOBODY);
    assert_eq!(refusal(nobody.compact(1, None).await), NOBODY);
}

/// The names of a lease's keys were told to everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_3p4g_rcw5_8298_keys_of_a_lease_are_for_those_who_may_read_them() {
    let (mut realm, mut user) = Realm::with_user(&[]).await;
    let lease = realm.root.lease_grant(600, None).await.expect("granted").id();
    realm.root.put("theirs", "1", Some(PutOptions::new().with_lease(lease))).await.expect("root may");
    let keys = || Some(LeaseTimeToLiveOptions::new().with_keys());
    assert_eq!(refusal(user.lease_time_to_live(lease, keys()).await), DENIED);
    assert!(user.lease_time_to_live(lease, None).await.expect("a user may").ttl() > 0);
    assert_eq!(realm.root.lease_time_to_live(lease, keys()).await.expect("root may").keys.len(), 1);
}

/// All that is below a folder, as bytes.
fn contents(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => all.extend(std::fs::read(&path).expect("a file")),
        }
    }
    all
}

/// Passwords were in the log of writes (GHSA-528j-9r78-wffx) and on debugging pages (GHSA-gmph-wf7j-9gcm).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_528j_9r78_wffx_and_gmph_wf7j_9gcm_passwords_are_nowhere() {
    const SECRET: &str = "correct-horse-battery";
    let mut realm = Realm::start(&["--log-level", "debug"]).await;
    let add = pb::AuthUserAddRequest { name: "u".into(), password: SECRET.into(), ..Default::default() };
    realm.root.call(&methods::USER_ADD, add).await.expect("added");
    let mut client = realm.nobody().await;
    let token = client.authenticate("u", SECRET).await.expect("the password is right");
    let _ = client.authenticate("u", &format!("{SECRET}-not")).await;
    let page = |target: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&realm.server.endpoint).expect("it listens");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        answer
    };
    let pages = ["/debug/requests", "/debug/vars", "/metrics"].map(page).concat();
    let log = realm.server.log();
    realm.server.terminate();
    let data = contents(&realm.server.data_dir());
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&data, "$2a$04$"), "the hash is stored");
    for (place, bytes) in [("data", &data[..]), ("pages", &pages), ("log", log.as_bytes())] {
        assert!(!holds(bytes, SECRET), "the password is in the {place}");
    }
    assert!(!holds(log.as_bytes(), &token), "the token is in the log");
}

/// Refused logins were told wrongly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghsa_vjg6_93fv_qv64_a_refused_login_is_told_with_user_address_and_reason() {
    let mut realm = Realm::start(&[]).await;
    add_without_password(&mut realm.root, "bare").await;
    let mut client = realm.nobody().await;
    let _ = client.authenticate("bare", "x").await;
    let _ = client.authenticate("root", "x").await;
    let deadline = std::time::Instant::now() + super::common::PATIENCE;
    loop {
        let log = realm.server.log();
        let told: Vec<&str> = log.lines().filter(|line| line.contains("failed to authenticate a user")).collect();
        if let [bare, root] = told[..] {
            assert!(
                bare.contains("\"bare\"") && bare.contains("no password user") && bare.contains("127.0.0.1"),
                "{bare}"
            );
            assert!(root.contains("\"root\"") && root.contains("invalid user ID or password"), "{root}");
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
