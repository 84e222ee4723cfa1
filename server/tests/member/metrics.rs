//! `/metrics` of the real binary: every series that etcd's dashboard and alerts ask for is there under its name, type,
//! labels and buckets, and tells what clients have done.

use super::common::client::*;
use super::common::{Port, Process};
use super::server::Server;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const MILLISECONDS: &str = "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 +Inf";
const TENTHS: &str = "0.0001 0.0002 0.0004 0.0008 0.0016 0.0032 0.0064 0.0128 0.0256 0.0512 0.1024 0.2048 0.4096 \
                      0.8192 1.6384 3.2768 +Inf";
const GRPC: &str = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf";
const METHOD: &str = "grpc_method grpc_service grpc_type";

/// What dashboard and alerts of etcd ask for: name, type, labels, bounds.
const ASKED_FOR: &[(&str, &str, &str, &str)] = &[
    ("etcd_server_has_leader", "gauge", "", ""),
    ("etcd_server_leader_changes_seen_total", "counter", "", ""),
    ("etcd_server_proposals_applied_total", "gauge", "", ""),
    ("etcd_server_proposals_committed_total", "gauge", "", ""),
    ("etcd_server_proposals_failed_total", "counter", "", ""),
    ("etcd_server_proposals_pending", "gauge", "", ""),
    ("etcd_server_quota_backend_bytes", "gauge", "", ""),
    ("etcd_network_client_grpc_received_bytes_total", "counter", "", ""),
    ("etcd_network_client_grpc_sent_bytes_total", "counter", "", ""),
    ("etcd_network_peer_received_bytes_total", "counter", "From", ""),
    ("etcd_network_peer_round_trip_time_seconds", "histogram", "To", TENTHS),
    ("etcd_network_peer_sent_bytes_total", "counter", "To", ""),
    ("etcd_network_peer_sent_failures_total", "counter", "To", ""),
    ("etcd_disk_backend_commit_duration_seconds", "histogram", "", MILLISECONDS),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram", "", MILLISECONDS),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge", "", ""),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "", ""),
    ("grpc_server_started_total", "counter", METHOD, ""),
    ("grpc_server_handled_total", "counter", "grpc_code grpc_method grpc_service grpc_type", ""),
    ("grpc_server_handling_seconds", "histogram", METHOD, GRPC),
    ("process_resident_memory_bytes", "gauge", "", ""),
];

/// A page read back.
pub struct Page {
    types: BTreeMap<String, String>,
    /// Name, labels as they are written, value.
    samples: Vec<(String, String, f64)>,
}

impl Page {
    pub fn scrape(endpoint: &str) -> Page {
        let mut stream = TcpStream::connect(endpoint).expect("the server listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer in UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut page = Page { types: BTreeMap::new(), samples: Vec::new() };
        for line in body.lines() {
            if let Some(announced) = line.strip_prefix("# TYPE ") {
                let (name, kind) = announced.split_once(' ').expect("name and type");
                page.types.insert(name.to_string(), kind.to_string());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').expect("series and value");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').expect("a closing brace");
                page.samples.push((name.to_string(), labels.to_string(), value.parse().expect(line)));
            }
        }
        page
    }

    /// The values of a series whose labels contain `with`, added up.
    pub fn sum(&self, name: &str, with: &str) -> f64 {
        let meant = self.samples.iter().filter(|(found, labels, _)| found == name && labels.contains(with));
        let values: Vec<f64> = meant.map(|(_, _, value)| *value).collect();
        assert!(!values.is_empty(), "{name}{{{with}}} is missing");
        values.iter().sum()
    }

    fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|(found, ..)| found == name)
    }
}

/// The names of labels, sorted; the values of `le` apart.
fn labels(text: &str) -> (String, Option<String>) {
    let pairs = text.split("\",").filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once("=\"").expect("name and value");
        (name, value.trim_end_matches('"'))
    });
    let (bounds, others): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| *name == "le");
    let names: Vec<&str> = others.into_iter().map(|(name, _)| name).collect();
    (names.join(" "), bounds.first().map(|(_, bound)| bound.to_string()))
}

fn check(page: &Page) {
    for (name, kind, expected, bounds) in ASKED_FOR {
        assert_eq!(page.types.get(*name).map(String::as_str), Some(*kind), "type of {name}");
        let series = if *kind == "histogram" { format!("{name}_bucket") } else { name.to_string() };
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, text, _) in page.samples.iter().filter(|(sample, ..)| *sample == series) {
            let (names, bound) = labels(text);
            assert_eq!(names, *expected, "labels of {name}");
            let others = text.split("le=\"").next().unwrap_or_default();
            found.entry(others.to_string()).or_default().extend(bound);
        }
        assert!(!found.is_empty(), "{name} has a series");
        for found in found.values() {
            assert_eq!(found.join(" "), *bounds, "bounds of {name}");
        }
        if *kind == "histogram" {
            assert!(page.has(&format!("{name}_sum")) && page.has(&format!("{name}_count")), "{name} is whole");
        }
    }
}

/// Two members of one cluster.
struct Pair {
    _members: Vec<Process>,
    ports: Vec<Port>,
    _peer_ports: Vec<Port>,
    _folder: tempfile::TempDir,
}

impl Pair {
    fn start() -> Pair {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let reserve = || -> Vec<Port> { (0..2).map(|_| Port::reserve()).collect() };
        let (ports, peer_ports) = (reserve(), reserve());
        let cluster = format!("m0={},m1={}", peer_ports[0].url(), peer_ports[1].url());
        let member = |number: usize| {
            let (name, client, peer) = (format!("m{number}"), ports[number].url(), peer_ports[number].url());
            let mut command = Command::new(env!("CARGO_BIN_EXE_plinth"));
            command
                .args(["--name", &name, "--initial-cluster", &cluster, "--metrics", "extensive"])
                .arg("--data-dir")
                .arg(folder.path().join(&name))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            Process::start(&mut command, &folder.path().join(format!("{name}.log"))).expect("the binary starts")
        };
        Pair { _members: (0..2).map(member).collect(), ports, _peer_ports: peer_ports, _folder: folder }
    }

    fn endpoint(&self) -> String {
        self.ports[0].address()
    }
}

#[tokio::test]
async fn dashboards_find_everything_they_ask_for() {
    let pair = Pair::start();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < deadline, "the cluster is not there");
        let Ok(mut client) = Client::connect(pair.endpoint(), None).await else { continue };
        if client.put("key", "value", None).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Times of probes are there after the first of them.
    let page = loop {
        let page = Page::scrape(&pair.endpoint());
        if page.has("etcd_network_peer_round_trip_time_seconds_count") {
            break page;
        }
        assert!(Instant::now() < deadline, "no probe was answered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    check(&page);
    assert_eq!(page.sum("etcd_server_has_leader", ""), 1.0);
    assert_eq!(page.sum("etcd_network_active_peers", "Remote="), 1.0);
    assert!(page.sum("etcd_network_peer_sent_bytes_total", "To=") > 0.0);
    assert!(page.sum("etcd_network_peer_received_bytes_total", "From=") > 0.0);
    let put = r#"grpc_method="Put""#;
    assert!(page.sum("grpc_server_handling_seconds_count", put) >= 1.0);
}

#[tokio::test]
async fn what_clients_do_is_counted_and_timed() {
    let server = Server::start(&[]);
    let mut client = server.client().await;
    let lease = client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(7))).await.expect("grant").id();
    let mut watch = client.watch("w", None).await.expect("watch");
    for _ in 0..20 {
        client.put("w", "value", Some(PutOptions::new().with_lease(lease))).await.expect("put");
    }
    watch.message().await.expect("a message");
    client.get("w", None).await.expect("linearizable get");
    client.get("w", Some(GetOptions::new().with_serializable())).await.expect("serializable get");
    client.put("", "value", None).await.expect_err("an empty key is refused");
    client.lease_revoke(lease).await.expect("revoke");
    client.compact(5, None).await.expect("compact");
    let deadline = Instant::now() + Duration::from_secs(60);
    let page = loop {
        let page = Page::scrape(&server.endpoint);
        let is_flushed = page.sum("etcd_disk_backend_commit_duration_seconds_count", "") > 0.0;
        if is_flushed && page.sum("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count", "") > 0.0 {
            break page;
        }
        assert!(Instant::now() < deadline, "the data file is not flushed, or not compacted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    let watching = r#"grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream""#;
    let exact = [
        ("grpc_server_started_total", put.to_string(), 21.0),
        ("grpc_server_handled_total", format!(r#"grpc_code="OK",{put}"#), 20.0),
        ("grpc_server_handled_total", format!(r#"grpc_code="InvalidArgument",{put}"#), 1.0),
        ("grpc_server_msg_received_total", put.to_string(), 21.0),
        ("grpc_server_msg_sent_total", put.to_string(), 20.0),
        ("grpc_server_started_total", watching.to_string(), 1.0),
        ("grpc_server_handled_total", watching.to_string(), 0.0),
        ("etcd_mvcc_put_total", String::new(), 20.0),
        ("etcd_debugging_lease_granted_total", String::new(), 1.0),
        ("etcd_debugging_lease_revoked_total", String::new(), 1.0),
        ("etcd_debugging_lease_ttl_total_sum", String::new(), 100.0),
        ("etcd_server_apply_duration_seconds_count", r#"op="Put",success="true""#.to_string(), 20.0),
        ("etcd_server_request_duration_seconds_count", r#"success="true",type="Put""#.to_string(), 20.0),
        ("etcd_server_request_duration_seconds_count", r#"success="true",type="Range""#.to_string(), 1.0),
        ("etcd_server_range_duration_seconds_count", r#"success="true""#.to_string(), 1.0),
        ("etcd_server_proposals_failed_total", String::new(), 0.0),
        ("etcd_server_is_learner", String::new(), 0.0),
        ("etcd_server_heartbeat_send_failures_total", String::new(), 0.0),
    ];
    for (name, labels, value) in exact {
        assert_eq!(page.sum(name, &labels), value, "{name}{{{labels}}}");
    }
    let positive = [
        ("etcd_disk_wal_fsync_duration_seconds_count", ""),
        ("etcd_disk_wal_write_duration_seconds_count", ""),
        ("etcd_disk_wal_write_bytes_total", ""),
        ("etcd_network_client_grpc_received_bytes_total", ""),
        ("etcd_network_client_grpc_sent_bytes_total", ""),
        ("etcd_debugging_mvcc_events_total", ""),
        ("etcd_debugging_mvcc_db_compaction_last", ""),
        ("plinth_batch_commands_count", ""),
        ("plinth_connections", ""),
        ("plinth_stage_duration_seconds_count", r#"stage="edge""#),
        ("plinth_stage_duration_seconds_count", r#"stage="batch_wait""#),
        ("plinth_stage_duration_seconds_count", r#"stage="wal_flush""#),
        ("plinth_stage_duration_seconds_count", r#"stage="apply""#),
        ("plinth_stage_duration_seconds_count", r#"stage="respond""#),
        ("plinth_stage_duration_seconds_sum", r#"stage="wal_flush""#),
    ];
    for (name, labels) in positive {
        assert!(page.sum(name, labels) > 0.0, "{name}{{{labels}}}");
    }
    // A member knows itself.
    let known = page.samples.iter().filter(|(name, ..)| name == "etcd_network_known_peers");
    let known: Vec<_> =
        known.map(|(_, labels, value)| (labels.replace("Local=", "").replace("Remote=", ""), *value)).collect();
    assert_eq!(known.len(), 1);
    let (local, remote) = known[0].0.split_once(',').expect("two labels");
    assert_eq!((local, known[0].1), (remote, 1.0));
    // etcd shows the times of calls only if asked to.
    assert!(!page.has("grpc_server_handling_seconds_count"));
}
