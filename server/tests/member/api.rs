//! The API as a client sees it.

use super::common::client::*;
use super::metrics::Page;
use super::server::Server;
use std::time::Duration;

async fn start() -> (Server, Client) {
    let server = Server::start(&[]);
    let client = server.client().await;
    (server, client)
}

#[tokio::test]
async fn keys_have_versions_ranges_and_history() {
    let (_server, client) = start().await;
    let mut kv = client.clone();
    let first = kv.put("a/1", "one", None).await.expect("put").header().expect("header").revision();
    assert_eq!(first, 2, "the first write of a store");
    for n in 2..=9 {
        kv.put(format!("a/{n}"), "x", None).await.expect("put");
    }
    let second = kv.put("a/1", "uno", Some(PutOptions::new().with_prev_key())).await.expect("put");
    assert_eq!(second.prev_key().expect("previous pair").value(), b"one");
    let page = GetOptions::new().with_prefix().with_limit(3).with_sort(SortTarget::Key, SortOrder::Descend);
    let page = kv.get("a/", Some(page)).await.expect("range");
    assert_eq!((page.count(), page.more(), page.kvs().len()), (9, true, 3));
    assert_eq!(page.kvs()[0].key(), b"a/9");
    let old = kv.get("a/1", Some(GetOptions::new().with_revision(first))).await.expect("historical read");
    assert_eq!((old.kvs()[0].value(), old.kvs()[0].version()), (&b"one"[..], 1));
    let deleted = kv.delete("a/", Some(DeleteOptions::new().with_prefix())).await.expect("delete");
    assert_eq!(deleted.deleted(), 9);
}

#[tokio::test]
async fn a_value_of_a_megabyte_and_a_list_of_many_come_back_whole() {
    let (_server, client) = start().await;
    let mut kv = client.clone();
    let value: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    kv.put("big", value.clone(), None).await.expect("put");
    let got = kv.get("big", None).await.expect("get");
    assert_eq!(got.kvs()[0].value(), value);
    for n in 0..300 {
        kv.put(format!("list/{n:04}"), vec![b'x'; 40_000], None).await.expect("put");
    }
    let all = kv.get("list/", Some(GetOptions::new().with_prefix())).await;
    // 12 MB are more than the client's default limit, not the server's.
    let error = all.expect_err("beyond the client's limit").to_string();
    assert!(error.contains("decoded message length too large"), "{error}");
    let keys = kv.get("list/", Some(GetOptions::new().with_prefix().with_keys_only())).await.expect("keys");
    assert_eq!(keys.kvs().len(), 300);
    let error = kv.put("too big", vec![0; 2_000_000], None).await.expect_err("beyond max-request-bytes").to_string();
    assert!(error.contains("etcdserver: request is too large"), "{error}");
}

#[tokio::test]
async fn transactions_compare_and_see_their_own_writes() {
    let (_server, client) = start().await;
    let mut kv = client.clone();
    let txn = Txn::new()
        .when([Compare::create_revision("k", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("k", "made", None), TxnOp::get("k", None)])
        .or_else([TxnOp::get("k", None)]);
    let done = kv.txn(txn.clone()).await.expect("txn");
    assert!(done.succeeded());
    match &done.op_responses()[1] {
        TxnOpResponse::Get(get) => assert_eq!(get.kvs()[0].value(), b"made"),
        other => panic!("{other:?}"),
    }
    assert!(!kv.txn(txn).await.expect("txn").succeeded());
}

#[tokio::test]
async fn watches_see_history_and_present_in_order() {
    let (_server, client) = start().await;
    let mut kv = client.clone();
    for n in 0..50 {
        kv.put("w/key", n.to_string(), None).await.expect("put");
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut stream = client.clone().watch("w/", Some(options)).await.expect("watch");
    for n in 50..100 {
        kv.put("w/key", n.to_string(), None).await.expect("put");
    }
    let mut next = 0;
    while next < 100 {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.expect("in time");
        for event in message.expect("a message").expect("an open stream").events() {
            let pair = event.kv().expect("a pair");
            assert_eq!(pair.value(), next.to_string().as_bytes());
            assert_eq!(pair.mod_revision(), 2 + next);
            assert_eq!(event.prev_kv().is_some(), next > 0, "event {next}");
            next += 1;
        }
    }
}

#[tokio::test]
async fn a_watch_of_the_present_created_while_writes_run_misses_nothing_after_its_creation() {
    let (server, client) = start().await;
    let mut writer = server.client().await;
    let writing = tokio::spawn(async move {
        let mut last = 0;
        for n in 0..2000 {
            let put = writer.put("stream", n.to_string(), None).await.expect("put");
            last = put.header().expect("header").revision();
        }
        last
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut stream = client.clone().watch("stream", None).await.expect("watch");
    let created = stream.message().await.expect("a message").expect("an open stream");
    assert!(created.created());
    let mut next = created.header().expect("header").revision() + 1;
    let last = writing.await.expect("writer");
    while next <= last {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.expect("in time");
        for event in message.expect("a message").expect("an open stream").events() {
            assert_eq!(event.kv().expect("a pair").mod_revision(), next, "no gap, no duplicate");
            next += 1;
        }
    }
}

#[tokio::test]
async fn leases_hold_keys_and_let_them_go() {
    let (_server, client) = start().await;
    let mut leases = client.clone();
    let grant = leases.lease_grant(60, None).await.expect("grant");
    let mut kv = client.clone();
    kv.put("leased", "x", Some(PutOptions::new().with_lease(grant.id()))).await.expect("put");
    let (mut keeper, mut answers) = leases.lease_keep_alive(grant.id()).await.expect("keep-alive");
    keeper.keep_alive().await.expect("sent");
    assert_eq!(answers.message().await.expect("an answer").expect("open").ttl(), 60);
    leases.lease_revoke(grant.id()).await.expect("revoke");
    assert_eq!(kv.get("leased", None).await.expect("get").count(), 0);
    let short = leases.lease_grant(1, None).await.expect("grant");
    assert_eq!(short.ttl(), 2, "raised to the minimum");
    kv.put("short", "x", Some(PutOptions::new().with_lease(short.id()))).await.expect("put");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while kv.get("short", None).await.expect("get").count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the lease has not run out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn one_holds_the_lock_and_the_next_waits() {
    let (_server, client) = start().await;
    let mut lock = client.clone();
    let lease = client.clone().lease_grant(60, None).await.expect("grant").id();
    let held = lock.lock("mutex", Some(LockOptions::new().with_lease(lease))).await.expect("lock");
    let mut second = client.clone();
    let waiting = tokio::spawn(async move { second.lock("mutex", None).await.expect("lock").key().to_vec() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "the lock is held");
    lock.unlock(held.key()).await.expect("unlock");
    let key = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time").expect("joined");
    assert!(key.starts_with(b"mutex/"), "{key:?}");
}

#[tokio::test]
async fn an_election_has_one_leader_at_a_time() {
    let (_server, client) = start().await;
    let mut election = client.clone();
    let lease = client.clone().lease_grant(60, None).await.expect("grant").id();
    let won = election.campaign("office", "me", lease).await.expect("campaign");
    assert_eq!(election.leader("office").await.expect("leader").kv().expect("a pair").value(), b"me");
    let key = won.leader().expect("a key").clone();
    election.proclaim("still me", key.clone()).await.expect("proclaim");
    assert_eq!(election.leader("office").await.expect("leader").kv().expect("a pair").value(), b"still me");
    election.resign(key).await.expect("resign");
    let error = election.leader("office").await.expect_err("nobody leads").to_string();
    assert!(error.contains("election: no leader"), "{error}");
}

#[tokio::test]
async fn a_full_quota_refuses_writes_until_the_alarm_is_disarmed() {
    let server = Server::start(&["--quota-backend-bytes", "16777216"]);
    let client = server.client().await;
    let mut kv = client.clone();
    let mut refused = None;
    for n in 0..2000 {
        if let Err(error) = kv.put(format!("fill/{n}"), vec![n as u8; 64 << 10], None).await {
            refused = Some(error.to_string());
            break;
        }
    }
    let error = refused.expect("the quota is reached");
    assert!(error.contains("etcdserver: mvcc: database space exceeded"), "{error}");
    kv.get("fill/0", None).await.expect("reads go on");
    kv.delete("fill/", Some(DeleteOptions::new().with_prefix())).await.expect("deletes go on");
    let revision = kv.get("fill/0", None).await.expect("get").header().expect("header").revision();
    let physical = CompactionOptions::new().with_physical();
    kv.compact(revision, Some(physical)).await.expect("compaction goes on");
    let mut maintenance = client.clone();
    maintenance.defragment().await.expect("defragmentation goes on");
    let status = maintenance.status().await.expect("status");
    assert!(status.db_size() < 8 << 20, "{} bytes are left", status.db_size());
    let on_disk = std::fs::metadata(server.data_dir().join("member/data.plinth")).expect("the data file").len();
    assert!(on_disk < 8 << 20, "the file still has {on_disk} bytes");
    let alarms = maintenance.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms");
    assert_eq!(alarms.alarms().len(), 1);
    let member = status.header().expect("header").member_id();
    let of_member = AlarmOptions::new().with_member(member);
    maintenance.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await.expect("disarmed");
    kv.put("again", "x", None).await.expect("writes go on");
}

/// Bytes of the data file, and those of them in use.
fn sizes(server: &Server) -> (u64, u64) {
    let page = Page::scrape(server.endpoint.trim_start_matches("http://"));
    let of = |what: &str| page.sum(&format!("etcd_mvcc_db_total_size{what}_in_bytes"), "") as u64;
    (of(""), of("_in_use"))
}

/// A quota below the size of an empty file: what is in use counts. After a compaction the file follows it by itself.
#[tokio::test]
async fn a_small_quota_counts_what_is_in_use() {
    let server = Server::start(&["--quota-backend-bytes", "1000000"]);
    let client = server.client().await;
    let mut kv = client.clone();
    let mut refused = None;
    for n in 0..2000 {
        if let Err(error) = kv.put("one", vec![n as u8; 2 << 10], None).await {
            refused = Some((n, error.to_string()));
            break;
        }
    }
    let (written, error) = refused.expect("the quota is reached");
    assert!(error.contains("etcdserver: mvcc: database space exceeded"), "{error}");
    assert!((350..=488).contains(&written), "{written} values of 2 KiB are as much as the quota");
    let mut maintenance = client.clone();
    let status = maintenance.status().await.expect("status");
    let (_, in_use) = sizes(&server);
    assert!(in_use <= 1_000_000 + (64 << 10) && in_use > 900_000, "{in_use} bytes");

    let revision = kv.get("one", None).await.expect("get").header().expect("header").revision();
    kv.compact(revision, Some(CompactionOptions::new().with_physical())).await.expect("compacted");
    let member = status.header().expect("header").member_id();
    let of_member = AlarmOptions::new().with_member(member);
    maintenance.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await.expect("disarmed");
    kv.put("again", "x", None).await.expect("writes go on");
}

#[tokio::test]
async fn the_data_file_follows_what_a_compaction_leaves() {
    let server = Server::start(&[]);
    let client = server.client().await;
    let mut kv = client.clone();
    for round in 0..40 {
        for n in 0..20 {
            kv.put(format!("key/{n}"), vec![round as u8; 16 << 10], None).await.expect("put");
        }
    }
    let (before, _) = sizes(&server);
    assert!(before > 12 << 20, "history takes {before} bytes");
    let revision = kv.get("key/0", None).await.expect("get").header().expect("header").revision();
    kv.compact(revision, None).await.expect("compacted");
    let start = std::time::Instant::now();
    loop {
        let (size, in_use) = sizes(&server);
        if in_use < 2 << 20 && size - in_use <= (1 << 20).max(in_use / 10) {
            break;
        }
        assert!(start.elapsed().as_secs() < 10, "{size} bytes for {in_use} in use");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
