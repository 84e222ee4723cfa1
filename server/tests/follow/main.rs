//! A standby of a running cluster, and the cut-over: nothing lost, nothing twice, revisions and hashes equal, whoever is
//! killed when.
//!
//! The cluster that is followed is an etcd if `PLINTH_ETCD_BIN` names one, else this program.

#[allow(dead_code, reason = "shared with the tests of TLS")]
#[path = "../tls/authority.rs"]
mod authority;
#[path = "../common/mod.rs"]
mod common;
mod sides;
mod watcher;

use common::client::{Client, DeleteOptions, Error, GetOptions, PutOptions, Txn, TxnOp};
use plinth_api::methods::{CUT_OVER, MIGRATION_STATUS};
use plinth_api::proto::etcdserverpb as pb;
use plinth_api::proto::plinthpb::{MigrationRequest, MigrationStatus};
use sides::{Side, ctl, wait_for};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watcher::Watcher;

/// A text that only the pause of a cut-over has in the log.
const STOPPED: &str = "the other cluster takes no writes any more";

async fn connect(side: &Side) -> Client {
    connect_to(side.endpoint()).await
}

async fn connect_to(endpoint: String) -> Client {
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        match Client::connect(endpoint.clone(), None).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "no connection: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn status(client: &mut Client) -> MigrationStatus {
    client.call(&MIGRATION_STATUS, MigrationRequest {}).await.expect("it answers")
}

/// History of every kind: versions, deletions, many keys in one revision, leases, a compaction.
async fn fill(client: &mut Client) {
    for number in 0..60 {
        client.put(format!("old/{}", number % 7), format!("value {number}"), None).await.expect("a put");
    }
    let lease = client.lease_grant(4000, None).await.expect("a lease").id;
    client.put("leased", "x", Some(PutOptions::new().with_lease(lease))).await.expect("a put");
    let ops: Vec<_> = (0..100).map(|key| TxnOp::put(format!("many/{key:03}"), "m", None)).collect();
    client.txn(Txn::new().and_then(ops)).await.expect("a txn");
    client.delete("old/3", None).await.expect("a deletion");
    let revision = client.put("last", "1", None).await.expect("a put").header.expect("a header").revision;
    client.compact(revision - 20, None).await.expect("a compaction");
}

/// Writes of all kinds, one after the other, until it is told to stop or refused for good; how many were acknowledged.
async fn write(mut client: Client, stop: Arc<AtomicBool>) -> u64 {
    let mut acknowledged = 0;
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("load/{}", number % 50);
        let result = match number % 11 {
            3 => client.delete(key, None).await.map(|_| ()),
            5 => {
                let ops = vec![TxnOp::put(key, "t", None), TxnOp::put(format!("load/t{}", number % 9), "t", None)];
                client.txn(Txn::new().and_then(ops)).await.map(|_| ())
            }
            // Ends during the test.
            7 => match client.lease_grant(2, None).await {
                Ok(lease) => client.put(key, "leased", Some(PutOptions::new().with_lease(lease.id))).await.map(|_| ()),
                Err(error) => Err(error),
            },
            9 => client.delete("load/t", Some(DeleteOptions::new().with_prefix())).await.map(|_| ()),
            _ => client.put(key, format!("{number}"), None).await.map(|_| ()),
        };
        match result {
            Ok(()) => acknowledged += 1,
            Err(error) if error.message().contains("lease not found") => {}
            Err(_) => break,
        }
    }
    acknowledged
}

/// Both sides hold the same, at the same revision.
async fn assert_equal(old: &Side, new: &Side) {
    let (mut old, mut new) = (connect(old).await, connect(new).await);
    let here = new.hash_kv(0).await.expect("a hash");
    let there = old.hash_kv(here.hash_revision).await.expect("a hash");
    assert_eq!((here.hash, here.compact_revision), (there.hash, there.compact_revision));
}

/// Both sides know the same leases; while none ends.
async fn assert_equal_leases(old: &Side, new: &Side) {
    let (mut old, mut new) = (connect(old).await, connect(new).await);
    let ids = |answer: pb::LeaseLeasesResponse| {
        let mut ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(new.leases().await.expect("leases")), ids(old.leases().await.expect("leases")));
}

/// Both sides hold the same at the revision at which the old one was stopped; the new one may be further.
async fn assert_equal_at_the_end(old: &Side, new: &Side) {
    let (mut old, mut new) = (connect(old).await, connect(new).await);
    // Releases before 3.6 do not tell the hash's revision.
    let there = old.hash_kv(0).await.expect("a hash");
    let here = new.hash_kv(there.header.expect("a header").revision).await.expect("a hash");
    assert_eq!((here.hash, here.compact_revision), (there.hash, there.compact_revision));
}

/// A member that joins has what came from the other cluster, though no log tells of it.
async fn joins_and_has_all(old: &Side, new: &Side) {
    let second = Side::joining(new);
    let revision = connect(old).await.hash_kv(0).await.expect("a hash").header.expect("a header").revision;
    let deadline = Instant::now() + common::PATIENCE;
    while connect(&second).await.hash_kv(revision).await.is_err() {
        assert!(Instant::now() < deadline, "it does not catch up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_equal_at_the_end(old, &second).await;
}

/// Waits until a standby is as far as the other side was.
async fn catch_up(old: &Side, new: &Side) {
    let mut old = connect(old).await;
    let revision = old.get("last", None).await.expect("an answer").header.expect("a header").revision;
    let mut new = connect(new).await;
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        let status = status(&mut new).await;
        if status.revision >= revision && status.phase == "following" {
            return;
        }
        assert!(Instant::now() < deadline, "it does not catch up with {revision}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Cuts over, as often as it takes under load.
async fn cut_over(new: &Side) -> MigrationStatus {
    let mut client = connect(new).await;
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        let status: MigrationStatus = client.call(&CUT_OVER, MigrationRequest {}).await.expect("it answers");
        if status.phase == "ended" {
            return status;
        }
        println!("not yet: {}", status.problem);
        assert!(Instant::now() < deadline, "no cut-over: {status:?}");
    }
}

/// Asks for the cut-over, whose answer comes when it has ended, one way or the other.
fn wish_for_cut_over(new: &Side) -> tokio::task::JoinHandle<Result<MigrationStatus, Error>> {
    let endpoint = new.endpoint();
    tokio::spawn(async move {
        let mut client = Client::connect(endpoint, None).await.expect("a connection");
        client.call(&CUT_OVER, MigrationRequest {}).await
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_serves_reads_and_watches_and_nothing_else() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    let new = Side::standby(&old, &[]);
    catch_up(&old, &new).await;
    let mut client = connect(&new).await;
    for refused in [
        client.put("k", "v", None).await.map(|_| ()),
        client.get("last", None).await.map(|_| ()),
        client.delete("k", None).await.map(|_| ()),
        client.lease_grant(10, None).await.map(|_| ()),
        client.compact(1, None).await.map(|_| ()),
        client.txn(Txn::new().and_then(vec![TxnOp::put("k", "v", None)])).await.map(|_| ()),
        client.member_add(vec!["http://127.0.0.1:1".to_owned()], None).await.map(|_| ()),
    ] {
        let error = refused.expect_err("a standby refuses");
        assert!(error.message().contains("standby of another cluster"), "{error}");
        assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    }
    let text = ctl(&new, &["get", "last", "--consistency", "s", "--print-value-only"]).expect("serializable");
    assert_eq!(text, "1\n");
    let mut watcher = Watcher::start(&new, 1).await;
    connect(&old).await.put("later", "v", None).await.expect("a put");
    watcher.wait_for("later").await;
    assert_equal(&old, &new).await;
    assert_equal_leases(&old, &new).await;
    let text = ctl(&new, &["endpoint", "status"]).expect("a status");
    assert!(text.contains("standby of cluster"), "{text}");
    assert!(ctl(&new, &["endpoint", "health"]).is_none(), "clients that write should not come here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_watches_across_the_cut_over_sees_every_event_once() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    let new = Side::standby(&old, &[]);
    let mut watcher = Watcher::start(&old, 0).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3).map(|_| stop.clone()).collect();
    let mut writing = Vec::new();
    for stop in writers {
        writing.push(tokio::spawn(write(connect(&old).await, stop)));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = cut_over(&new).await;
    println!("paused for {} ms at revision {}", status.paused_millis, status.revision);
    let mut acknowledged = 0;
    for writer in writing {
        acknowledged += writer.await.expect("it ends by itself: its writes are refused");
    }
    assert!(acknowledged > 50, "there was a load: {acknowledged}");
    assert_equal_at_the_end(&old, &new).await;
    let error = connect(&old).await.put("k", "v", None).await.expect_err("it is stopped");
    assert!(error.message().contains("corrupt"), "{error}");

    watcher.go_on_with(&new).await;
    let put = connect(&new).await.put("last", "behind the cut-over", None).await.expect("it takes writes");
    assert!(put.header.expect("a header").revision > status.revision, "revisions go on");
    // Leases go on with their full time, and end.
    wait_for("short leases end", || ctl(&new, &["lease", "list"]).is_some_and(|text| text.starts_with("found 1 ")));
    let prefix = GetOptions::new().with_prefix();
    let left = connect(&new).await.get("load/", Some(prefix)).await.expect("a range").kvs;
    assert!(left.iter().all(|kv| kv.lease == 0), "no lease was lost: their keys have ended with them");
    connect(&new).await.put("the end", "", None).await.expect("a put");
    watcher.wait_for("the end").await;
    let mut witness = Watcher::start(&new, watcher.first_revision()).await;
    witness.wait_for("the end").await;
    assert_eq!(watcher.seen(), witness.seen(), "each event once, and in order");
    // The flag may stay, and does nothing any more.
    let new = new.restart();
    assert!(new.log().contains("--follow is ignored"), "{}", new.log());
    ctl(&new, &["put", "after", "a restart"]).expect("it takes writes");
    joins_and_has_all(&old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_the_standby_goes_on_where_it_was() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(connect(&old).await, stop.clone()));
    let mut new = Side::standby_that_starts(&old, &[]);
    for millis in [30, 80, 150, 250, 400, 700, 1100] {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        new = new.kill_and_start();
    }
    new.wait_until_ready();
    catch_up(&old, &new).await;
    // Amid the cut-over, when the other side is stopped already.
    let wish = wish_for_cut_over(&new);
    wait_for("the other side is stopped", || new.log().contains(STOPPED));
    let new = new.kill_and_start();
    new.wait_until_ready();
    assert!(wish.await.expect("it ends").is_err(), "nobody is told of a cut-over that was cut off");
    let mut client = connect(&new).await;
    let deadline = Instant::now() + common::PATIENCE;
    while status(&mut client).await.phase != "ended" {
        assert!(Instant::now() < deadline, "it does not go on with the cut-over: {:?}", status(&mut client).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(writing.await.expect("it ends: its writes are refused") > 10);
    assert_equal_at_the_end(&old, &new).await;
    client.put("last", "2", None).await.expect("it takes writes");
    joins_and_has_all(&old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_outlives_restarts_and_compactions_of_the_other_side() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    let new = Side::standby(&old, &[]);
    catch_up(&old, &new).await;
    let old = old.kill_and_start();
    old.wait_until_ready();
    wait_for("it takes writes again", || ctl(&old, &["put", "last", "2"]).is_some());
    catch_up(&old, &new).await;
    // While it is away, the history that it needs is given up.
    let new = new.killed();
    let mut client = connect(&old).await;
    for number in 0..50 {
        client.put(format!("missed/{}", number % 3), "v", None).await.expect("a put");
    }
    client.delete("old/1", None).await.expect("a deletion");
    let revision = client.put("last", "3", None).await.expect("a put").header.expect("a header").revision;
    client.compact(revision - 1, None).await.expect("a compaction");
    client.put("last", "4", None).await.expect("a put");
    let new = new.started();
    new.wait_until_ready();
    catch_up(&old, &new).await;
    assert!(new.log().contains("a new snapshot takes its place"), "{}", new.log());
    wait_for("hashes are compared", || new.log().contains("the hashes of both sides are equal"));
    assert_equal(&old, &new).await;
    let other = ctl(&new, &["get", "old/1", "--consistency", "s"]).expect("it answers");
    assert_eq!(other, "", "what was deleted meanwhile is gone");
    cut_over(&new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_lets_the_other_side_go_on() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    let new = Side::standby(&old, &[]);
    catch_up(&old, &new).await;
    assert!(ctl(&new, &["migrate", "abort"]).expect("it answers").contains("no cut-over is under way"));
    let wish = wish_for_cut_over(&new);
    wait_for("the other side is stopped", || new.log().contains(STOPPED));
    ctl(&new, &["migrate", "abort"]).expect("it answers");
    let status = wish.await.expect("it ends").expect("it answers");
    assert!(status.phase != "ended" && status.problem.contains("aborted"), "{status:?}");
    wait_for("the other side takes writes", || ctl(&old, &["put", "last", "2"]).is_some());
    catch_up(&old, &new).await;
    let text = ctl(&new, &["migrate", "cut-over"]).expect("the second time it goes through");
    assert!(text.starts_with("took over at revision"), "{text}");
    assert!(ctl(&new, &["migrate", "status"]).expect("it answers").starts_with("took over"), "it says so");
    assert_equal(&old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_come_along() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    for words in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "ann:secret"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "old/", "--prefix"],
        &["user", "grant-role", "ann", "reader"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        ctl(&old, words).unwrap_or_else(|| panic!("{words:?}"));
    }
    let mut refused = Side::standby_that_starts(&old, &["--follow-user=ann:secret"]);
    assert!(!refused.wait_for_end().success());
    assert!(refused.log().contains("Without the role root"), "{}", refused.log());

    let new = Side::standby(&old, &["--follow-user=root:secret"]);
    let root = ["--user", "root:secret"];
    ctl(&old, &[&["user", "add", "bob:secret"][..], &root].concat()).expect("a user");
    ctl(&old, &[&["user", "grant-role", "bob", "reader"][..], &root].concat()).expect("a role");
    let asked = ["--consistency", "s", "--print-value-only", "--user", "bob:secret"];
    wait_for("bob may read", || ctl(&new, &[&["get", "old/1"][..], &asked].concat()).is_some());
    assert!(ctl(&new, &[&["get", "last"][..], &asked].concat()).is_none(), "and not everything");
    // The last state counts, also of what changed right before.
    ctl(&old, &[&["user", "delete", "ann"][..], &root].concat()).expect("a user is deleted");
    let text = ctl(&new, &[&["migrate", "cut-over"][..], &root].concat()).expect("a cut-over");
    assert!(text.starts_with("took over"), "{text}");
    let users = ctl(&new, &[&["user", "list"][..], &root].concat()).expect("users");
    assert_eq!(users, "bob\nroot\n");
    // By root: not every release tells anybody.
    let status = |side: &Side| ctl(side, &[&["auth", "status"][..], &root].concat()).expect("a status");
    assert_eq!(status(&new), status(&old), "the revision of users and roles, too");
}

/// Without a password: root is whose certificate says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_may_come_with_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = authority::Authority::new(folder.path());
    let sign = |name: &str, hosts: &[&str]| authority.sign(name, authority::params(name, hosts)).texts();
    let ([cert, key], root, ann) = (sign("server", &["127.0.0.1"]), sign("root", &[]), sign("ann", &[]));
    let ca = authority.file.display().to_string();
    let arguments = ["--cert-file", &cert, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca];
    let old = Side::old_with(arguments.map(str::to_owned).into(), true);
    let as_root = ["--cacert", &ca, "--cert", &root[0], "--key", &root[1]];
    for words in [
        &["put", "k", "v"][..],
        &["user", "add", "root", "--no-password"],
        &["user", "add", "ann", "--no-password"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        ctl(&old, &[words, &as_root].concat()).unwrap_or_else(|| panic!("{words:?}"));
    }
    let flags = |[cert, key]: &[String; 2]| {
        [("trusted-ca", &ca), ("cert", cert), ("key", key)].map(|(name, file)| format!("--follow-{name}-file={file}"))
    };
    let mut refused = Side::standby_that_starts(&old, &flags(&ann).each_ref().map(String::as_str));
    assert!(!refused.wait_for_end().success());
    assert!(refused.log().contains("Without the role root"), "{}", refused.log());
    let new = Side::standby(&old, &flags(&root).each_ref().map(String::as_str));
    ctl(&old, &[&["put", "k", "w"][..], &as_root].concat()).expect("a put");
    wait_for("it follows", || new.log().contains("the hashes of both sides are equal"));
    let refusal = connect(&new).await.get("k", None).await.expect_err("users came along, and nobody is one here");
    assert!(!refusal.message().is_empty());
}

/// As after a restore of another backup under the same names: ids and revisions go together, and the data do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_ends_the_standby() {
    let put = |side: &Side, prefix: &'static str, count: usize| {
        let client = connect_to(side.endpoint());
        async move {
            let mut client = client.await;
            for number in 0..count {
                client.put(format!("{prefix}/{number}"), "v", None).await.expect("a put");
            }
        }
    };
    let old = Side::old();
    put(&old, "first", 9).await;
    connect(&old).await.put("last", "1", None).await.expect("a put");
    let mut new = Side::standby(&old, &[]);
    catch_up(&old, &new).await;
    let old = old.emptied().started();
    old.wait_until_ready();
    put(&old, "second", 30).await;
    assert!(!new.wait_for_end().success());
    let log = new.log();
    assert!(log.contains("the data differ from those of") && log.contains("to follow anew"), "{log}");
    let mut new = new.started();
    assert!(!new.wait_for_end().success(), "it stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_does_not_fit_is_refused() {
    let old = Side::old();
    fill(&mut connect(&old).await).await;
    // A standby without the flag; a standby of another cluster; a member with data of its own.
    let new = Side::standby(&old, &[]);
    let mut alone = new.killed().started_without_follow();
    assert!(!alone.wait_for_end().success());
    assert!(alone.log().contains("start it with --follow"), "{}", alone.log());
    let other = Side::old();
    let mut astray = alone.killed().started_to_follow(&other);
    assert!(!astray.wait_for_end().success());
    assert!(astray.log().contains("the data here are those of cluster"), "{}", astray.log());
    let own = Side::plinth();
    connect(&own).await.put("k", "v", None).await.expect("a put");
    let mut own = own.killed().started_to_follow(&old);
    assert!(!own.wait_for_end().success());
    assert!(own.log().contains("--follow needs an empty data directory"), "{}", own.log());
}
