//! Checks a server with the Rust client: key-value, transactions, leases, watches, locks, elections, maintenance.
//! Usage: plinth-client-check ENDPOINT. Ends with a panic at the first difference. CHECK_TLS and CHECK_USER as in ../run.

use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, CompactionOptions, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions, Identity,
    LeaseTimeToLiveOptions, LockOptions, PutOptions, ResignOptions, SortOrder, SortTarget, TlsOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions,
};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// The message of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.expect_err("a refusal") {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => panic!("no status: {other}"),
    }
}

async fn keys(client: &mut Client) -> Result<(), Error> {
    client.delete("rust/", Some(DeleteOptions::new().with_prefix())).await?;
    let first = client.put("rust/a", "1", None).await?.header().expect("a header").revision();
    let again = client.put("rust/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(again.prev_key().expect("the previous pair").value(), b"1");
    let old = client.get("rust/a", Some(GetOptions::new().with_revision(first))).await?;
    assert_eq!((old.kvs()[0].value(), old.kvs()[0].mod_revision()), (&b"1"[..], first));
    let future = client.get("rust/a", Some(GetOptions::new().with_revision(first + 1000))).await;
    assert_eq!(refusal(future), "etcdserver: mvcc: required revision is a future revision");
    assert_eq!(refusal(client.get("", None).await), "etcdserver: key is not provided");
    let missing = client.put("rust/none", "", Some(PutOptions::new().with_ignore_value())).await;
    assert_eq!(refusal(missing), "etcdserver: key not found");
    for number in 0..20 {
        client.put(format!("rust/list/{number:02}"), "x", None).await?;
    }
    let page = GetOptions::new().with_prefix().with_limit(7).with_sort(SortTarget::Key, SortOrder::Descend);
    let page = client.get("rust/list/", Some(page)).await?;
    assert_eq!((page.kvs().len(), page.more(), page.count()), (7, true, 20));
    assert_eq!(page.kvs()[0].key(), b"rust/list/19");
    client.compact(first + 1, Some(CompactionOptions::new().with_physical())).await?;
    let compacted = client.get("rust/a", Some(GetOptions::new().with_revision(first))).await;
    assert_eq!(refusal(compacted), "etcdserver: mvcc: required revision has been compacted");
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<(), Error> {
    let txn = Txn::new()
        .when([Compare::create_revision("rust/txn", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("rust/txn", "made", None), TxnOp::get("rust/txn", None)])
        .or_else([TxnOp::get("rust/txn", None)]);
    let done = client.txn(txn.clone()).await?;
    assert!(done.succeeded());
    let TxnOpResponse::Get(got) = &done.op_responses()[1] else { panic!("a list") };
    assert_eq!(got.kvs()[0].value(), b"made");
    assert!(!client.txn(txn).await?.succeeded(), "it is there already");
    let twice = Txn::new().and_then([TxnOp::put("rust/txn", "a", None), TxnOp::put("rust/txn", "b", None)]);
    assert_eq!(refusal(client.txn(twice).await), "etcdserver: duplicate key given in txn request");
    Ok(())
}

async fn leases(client: &mut Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    client.put("rust/leased", "x", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    assert_eq!(answers.message().await?.expect("an answer").ttl(), 60);
    let info = client.lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!((info.granted_ttl(), info.keys()), (60, &[b"rust/leased".to_vec()][..]));
    client.lease_revoke(lease).await?;
    assert_eq!(refusal(client.lease_revoke(lease).await), "etcdserver: requested lease not found");
    assert!(client.get("rust/leased", None).await?.kvs().is_empty());

    let short = client.lease_grant(1, None).await?.id();
    client.put("rust/short", "x", Some(PutOptions::new().with_lease(short))).await?;
    let deadline = Instant::now() + PATIENCE;
    while !client.get("rust/short", None).await?.kvs().is_empty() {
        assert!(Instant::now() < deadline, "a lease of a second does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn watches(client: &mut Client) -> Result<(), Error> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("rust/watch/", Some(options)).await?;
    let created = stream.message().await?.expect("created");
    assert!(created.created());
    let first = client.put("rust/watch/a", "1", None).await?.header().expect("a header").revision();
    client.put("rust/watch/a", "2", None).await?;
    client.delete("rust/watch/a", None).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        for event in stream.message().await?.expect("an open stream").events() {
            let before = event.prev_kv().map(|pair| pair.value().to_vec());
            seen.push((event.event_type(), event.kv().expect("a pair").mod_revision(), before));
        }
    }
    let expected = [
        (EventType::Put, first, None),
        (EventType::Put, first + 1, Some(b"1".to_vec())),
        (EventType::Delete, first + 2, Some(b"2".to_vec())),
    ];
    assert_eq!(seen, expected);
    stream.cancel(created.watch_id()).await?;
    let end = stream.message().await?.expect("the cancellation");
    assert!(end.canceled());

    let mut history = client.watch("rust/watch/a", Some(WatchOptions::new().with_start_revision(first))).await?;
    assert!(history.message().await?.expect("created").created());
    let told = history.message().await?.expect("history");
    assert_eq!(told.events()[0].kv().expect("a pair").mod_revision(), first);
    Ok(())
}

async fn locks(client: &mut Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    let held = client.lock("rust/mutex", Some(LockOptions::new().with_lease(lease))).await?;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("rust/mutex", None).await.map(|lock| lock.key().to_vec()) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "the lock is held");
    client.unlock(held.key()).await?;
    let next = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("no panic")?;
    client.unlock(next).await?;

    let won = client.campaign("rust/office", "me", lease).await?;
    assert_eq!(client.leader("rust/office").await?.kv().expect("a pair").value(), b"me");
    let key = won.leader().expect("a key").clone();
    client.resign(Some(ResignOptions::new().with_leader(key))).await?;
    assert_eq!(refusal(client.leader("rust/office").await), "election: no leader");
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn maintenance(client: &mut Client) -> Result<(), Error> {
    let status = client.status().await?;
    assert_eq!(status.leader(), status.header().expect("a header").member_id());
    assert!(status.db_size() > 0);
    assert!(client.alarm(AlarmAction::Get, AlarmType::None, None).await?.alarms().is_empty());
    assert_eq!(client.member_list().await?.members().len(), 1);
    client.defragment().await?;
    let hash = client.hash_kv(0).await?.hash();
    assert_eq!(client.hash_kv(0).await?.hash(), hash);
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(piece) = snapshot.message().await? {
        bytes += piece.blob().len();
    }
    assert!(bytes > 4096, "a snapshot of {bytes} bytes");
    Ok(())
}

/// What the environment says of certificates and users.
fn options() -> Option<ConnectOptions> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut options = ConnectOptions::new();
    if let Some(folder) = variable("CHECK_TLS") {
        let read = |name: &str| std::fs::read(format!("{folder}/{name}")).expect("a file");
        let identity = Identity::from_pem(read("client.crt"), read("client.key"));
        options = options.with_tls(TlsOptions::new().ca_certificate(Certificate::from_pem(read("ca.crt"))).identity(identity));
    }
    if let Some(user) = variable("CHECK_USER") {
        let (name, password) = user.split_once(':').expect("NAME:PASSWORD");
        options = options.with_user(name, password);
    }
    Some(options)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).expect("usage: plinth-client-check ENDPOINT");
    let mut client = Client::connect([endpoint], options()).await?;
    keys(&mut client).await?;
    transactions(&mut client).await?;
    leases(&mut client).await?;
    watches(&mut client).await?;
    locks(&mut client).await?;
    maintenance(&mut client).await?;
    println!("rust etcd-client ok");
    Ok(())
}
