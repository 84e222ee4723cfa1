//! `grpc-proxy start`: what clients see through it, with a namespace and without, and what it costs the server.

use super::common::client::*;
use super::common::{PATIENCE, Port, Process};
use super::http::get;
use super::server::Server;
use plinth_api::methods::{LEASE_KEEP_ALIVE, WATCH};
use plinth_api::proto::etcdserverpb as pb;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::timeout;

/// A running proxy.
struct Proxy {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Proxy {
    fn start(endpoints: &str, arguments: &[&str]) -> Proxy {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a temporary folder"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
        command.args(["grpc-proxy", "start", "--listen-addr", &port.address(), "--endpoints", endpoints]);
        command.args(arguments);
        let mut process = Process::start(&mut command, &folder.path().join("log")).expect("the binary starts");
        process.wait_for_log("started gRPC proxy");
        Proxy { process, port, _folder: folder }
    }

    async fn client(&self) -> Client {
        Client::connect(self.port.address(), None).await.expect("it listens")
    }

    /// One of its own figures.
    fn figure(&self, name: &str) -> i64 {
        let page = get(&self.port.address(), "/proxy/metrics").body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.trim().parse().expect("a number")
    }
}

async fn direct(server: &Server) -> Client {
    Client::connect(&server.endpoint, None).await.expect("it serves")
}

/// The next answer of a watch, which has to come.
async fn next(watch: &mut WatchStream) -> pb::WatchResponse {
    timeout(PATIENCE, watch.message()).await.expect("in time").expect("no error").expect("it goes on")
}

fn keys(events: &[plinth_api::proto::mvccpb::Event]) -> Vec<String> {
    let key = |event: &plinth_api::proto::mvccpb::Event| event.kv.as_ref().map(|pair| pair.key.to_vec());
    events.iter().filter_map(key).map(|key| String::from_utf8(key).expect("text")).collect()
}

#[tokio::test]
async fn a_namespace_is_all_that_its_clients_see() {
    let server = Server::start();
    let proxy = Proxy::start(&server.endpoint, &["--namespace", "n/"]);
    let (mut inside, mut outside) = (proxy.client().await, direct(&server).await);
    outside.put("other", "x", None).await.expect("put");
    let mut watch = inside.watch("", Some(WatchOptions::new().with_prefix().with_prev_key())).await.expect("a watch");
    assert!(next(&mut watch).await.created);
    inside.put("a", "1", None).await.expect("put");
    let overwritten = inside.put("a", "2", Some(PutOptions::new().with_prev_key())).await.expect("put");
    assert_eq!(overwritten.prev_kv.expect("there was one").key, "a");
    assert_eq!(outside.get("n/a", None).await.expect("get").count, 1);
    let all = inside.get("\0", Some(GetOptions::new().with_range("\0"))).await.expect("get");
    assert_eq!((all.count, &all.kvs[0].key[..]), (1, &b"a"[..]));

    let lease = inside.lease_grant(60, None).await.expect("granted").id;
    outside.put("elsewhere", "x", Some(PutOptions::new().with_lease(lease))).await.expect("put");
    let txn = Txn::new()
        .when([Compare::value("a", CompareOp::Equal, "2")])
        .and_then([TxnOp::put("b", "3", Some(PutOptions::new().with_lease(lease))), TxnOp::get("a", None)]);
    let done = inside.txn(txn).await.expect("txn");
    assert!(done.succeeded);
    let Some(pb::response_op::Response::ResponseRange(range)) = &done.responses[1].response else { panic!("a range") };
    assert_eq!(range.kvs[0].key, "a");
    let life = inside.lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new().with_keys())).await.expect("lives");
    assert_eq!(life.keys, ["b"], "of the namespace alone");

    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(next(&mut watch).await.events);
    }
    assert_eq!(keys(&seen), ["a", "a", "b"]);
    assert_eq!(seen[1].prev_kv.as_ref().expect("there was one").key, "a");
    let locked = inside.lock("lock", Some(LockOptions::new().with_lease(lease))).await.expect("locked");
    inside.unlock(locked.key.to_vec()).await.expect("unlocked");
    let gone = inside.delete("\0", Some(DeleteOptions::new().with_range("\0"))).await.expect("delete");
    assert_eq!(gone.deleted, 2);
    assert_eq!(outside.get("other", None).await.expect("get").count, 1);
    let refused = inside.put("", "x", None).await.expect_err("no key");
    assert_eq!(refused.message(), "etcdserver: key is not provided");
}

#[tokio::test]
async fn two_hundred_watchers_cost_one() {
    let server = Server::start();
    let proxy = Proxy::start(&server.endpoint, &[]);
    let mut client = proxy.client().await;
    let create = || {
        let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
    };
    let mut watch = client.stream(&WATCH, create()).await.expect("a watch");
    (1..200).for_each(|_| watch.send(create()));
    for watch_id in 0..200 {
        let answer = next(&mut watch).await;
        assert!(answer.created && answer.watch_id == watch_id, "{answer:?}");
    }
    assert_eq!(proxy.figure("etcd_grpc_proxy_watchers_coalescing_total"), 199);
    let page = get(&server.endpoint, "/metrics").body;
    let watchers = page.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
    assert_eq!(watchers, Some("1"), "what the server sees");
    let put = client.put("k", "v", None).await.expect("put");
    for _ in 0..200 {
        let answer = next(&mut watch).await;
        assert_eq!(answer.header.expect("a header").revision, put.header.expect("a header").revision);
    }
    assert_eq!(proxy.figure("etcd_grpc_proxy_events_coalescing_total"), 199);
    drop(watch);
    let deadline = Instant::now() + PATIENCE;
    while proxy.figure("etcd_grpc_proxy_watchers_coalescing_total") != 0 {
        assert!(Instant::now() < deadline, "watchers of a client that has left stay");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_and_no_event_is_missed() {
    let mut server = Server::start();
    let nobody = Port::reserve();
    let mut proxy = Proxy::start(&format!("{},{}", nobody.address(), server.endpoint), &[]);
    let mut client = proxy.client().await;
    let lease = client.lease_grant(60, None).await.expect("granted").id;
    let mut alive = client.stream(&LEASE_KEEP_ALIVE, pb::LeaseKeepAliveRequest { id: lease }).await.expect("a stream");
    assert_eq!(alive.message().await.expect("no error").expect("an answer").ttl, 60);
    let mut watch = client.watch("k", Some(WatchOptions::new().with_prefix())).await.expect("a watch");
    assert!(next(&mut watch).await.created);
    for number in 0..3 {
        client.put(format!("k{number}"), "v", None).await.expect("put");
    }
    server.kill();
    server.restart();
    let put = client.put("k3", "v", None).await;
    put.expect("where nobody is connected yet, a write waits");
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.extend(next(&mut watch).await.events);
    }
    assert_eq!(keys(&seen), ["k0", "k1", "k2", "k3"]);
    alive.send(pb::LeaseKeepAliveRequest { id: lease });
    let answer = timeout(PATIENCE, alive.message()).await.expect("in time").expect("no error").expect("an answer");
    assert_eq!((answer.id, answer.ttl), (lease, 60));
    assert!(proxy.process.terminate().success());
}

#[tokio::test]
async fn serializable_reads_are_remembered_until_they_are_written() {
    let server = Server::start();
    let proxy = Proxy::start(&server.endpoint, &["--advertise-client-url", "proxy.example:1"]);
    let (mut client, mut beside) = (proxy.client().await, direct(&server).await);
    client.put("k", "1", None).await.expect("put");
    let read = async |client: &mut Client| {
        let options = GetOptions::new().with_serializable();
        client.get("k", Some(options)).await.expect("get").kvs[0].value.clone()
    };
    assert_eq!(read(&mut client).await, "1");
    beside.put("k", "2", None).await.expect("put");
    assert_eq!(read(&mut client).await, "1", "remembered");
    assert_eq!(client.get("k", None).await.expect("get").kvs[0].value, "2");
    client.put("k", "3", None).await.expect("put");
    assert_eq!(read(&mut client).await, "3");
    let figures = ["hits_total", "misses_total", "keys_total"].map(|name| {
        let name = format!("etcd_grpc_proxy_cache_{name}");
        proxy.figure(&name)
    });
    assert_eq!(figures, [1, 2, 1]);
    let members = client.member_list().await.expect("a list").members;
    assert_eq!(members[0].client_ur_ls, ["proxy.example:1"]);
    let address = proxy.port.address();
    for path in ["/health", "/proxy/health"] {
        assert_eq!(get(&address, path).body, "{\"health\":\"true\",\"reason\":\"\"}", "{path}");
    }
    assert!(get(&address, "/metrics").body.contains("etcd_server_has_leader 1"), "the server's");
    assert_eq!(get(&address, "/").status, 404);
}
