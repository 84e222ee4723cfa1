//! The page as a whole: that every series etcd's dashboards ask for is there, under its type and with its buckets,
//! that reactors add up, and that the text can be read back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use plinth_net::grpc::{Code, Method, MethodKind};

use super::text::go_float;
use super::*;
use crate::config::FeatureGates;
use plinth_v2::stats::{Stats, Tried};

const METHODS: &[Method] = &[
    Method { path: "/etcdserverpb.KV/Range", kind: MethodKind::Unary },
    Method { path: "/etcdserverpb.KV/Put", kind: MethodKind::Unary },
    Method { path: "/etcdserverpb.Watch/Watch", kind: MethodKind::BidiStream },
    Method { path: "/etcdserverpb.Maintenance/Snapshot", kind: MethodKind::ServerStream },
    Method { path: "/grpc.health.v1.Health/Check", kind: MethodKind::Unary },
    Method { path: "/v3lockpb.Lock/Lock", kind: MethodKind::Unary },
];
const PUT: usize = 1;
const LOCK: usize = 5;

fn facts() -> Facts {
    Facts {
        server_id: 0x8e9e_05c5_2164_694d,
        cluster_version: Some("3.7".to_owned()),
        alarms: Vec::new(),
        gates: FeatureGates::default(),
        process: ProcessStats::read(),
        peers: PeerFacts::default(),
        log_lines_dropped: 0,
        v2: (Stats { recursive_gets: tried(1, 0), gets: tried(3, 2), ..Stats::default() }, 4, 5),
        certificate_days: vec![("client", 12.5)],
    }
}

fn tried(success: u64, fail: u64) -> Tried {
    Tried { success, fail }
}

fn page(metrics: &ReactorMetrics, extensive: bool) -> String {
    render(&metrics.schema(extensive), &metrics.snapshot(), &facts())
}

/// A page read back: type of every family, and value of every series.
struct Page {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    fn read(text: &str) -> Page {
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let (mut family, mut last_family) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().expect("a name").to_owned();
                assert!(rest.len() > family.len() + 1, "{family} is explained");
                assert!(family > last_family, "families are sorted: {last_family}, {family}");
                last_family.clone_from(&family);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("name and type");
                assert_eq!(name, family, "TYPE follows HELP");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is announced once");
            } else {
                let (series, value) = line.rsplit_once(' ').expect("series and value");
                assert!(series.starts_with(&family), "{series} belongs to {family}");
                let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect(line) };
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} is there once");
            }
        }
        Page { types, samples }
    }

    fn value(&self, series: &str) -> f64 {
        *self.samples.get(series).unwrap_or_else(|| panic!("{series} is missing"))
    }
}

/// What etcd 3.7 shows from its start on a single member: name, type, and for histograms first and last finite bound
/// and their number.
const FROM_THE_START: &[(&str, &str, &str)] = &[
    ("etcd_cluster_version", "gauge", ""),
    ("etcd_debugging_auth_revision", "gauge", ""),
    ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_disk_backend_commit_spill_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_disk_backend_commit_write_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_lease_granted_total", "counter", ""),
    ("etcd_debugging_lease_renewed_total", "counter", ""),
    ("etcd_debugging_lease_revoked_total", "counter", ""),
    ("etcd_debugging_lease_ttl_total", "histogram", "1 8.388608e+06 24"),
    ("etcd_debugging_mvcc_compact_revision", "gauge", ""),
    ("etcd_debugging_mvcc_current_revision", "gauge", ""),
    ("etcd_debugging_mvcc_db_compaction_keys_total", "counter", ""),
    ("etcd_debugging_mvcc_db_compaction_last", "gauge", ""),
    ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "histogram", "1 4096 13"),
    ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "histogram", "100 819200 14"),
    ("etcd_debugging_mvcc_events_total", "counter", ""),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", "histogram", "0.5 4096 14"),
    ("etcd_debugging_mvcc_keys_total", "gauge", ""),
    ("etcd_debugging_mvcc_pending_events_total", "gauge", ""),
    ("etcd_debugging_mvcc_slow_watcher_total", "gauge", ""),
    ("etcd_debugging_mvcc_total_put_size_in_bytes", "gauge", ""),
    ("etcd_debugging_mvcc_watch_stream_total", "gauge", ""),
    ("etcd_debugging_mvcc_watcher_total", "gauge", ""),
    ("etcd_debugging_server_lease_expired_total", "counter", ""),
    ("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_server_watch_send_loop_progress_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_snap_save_marshalling_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_snap_save_total_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_debugging_store_expires_total", "counter", ""),
    ("etcd_debugging_store_reads_failed_total", "counter", ""),
    ("etcd_debugging_store_reads_total", "counter", ""),
    ("etcd_debugging_store_watch_requests_total", "counter", ""),
    ("etcd_debugging_store_watchers", "gauge", ""),
    ("etcd_disk_backend_commit_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_disk_backend_defrag_duration_seconds", "histogram", "0.1 409.6 13"),
    ("etcd_disk_backend_snapshot_duration_seconds", "histogram", "0.01 655.36 17"),
    ("etcd_disk_defrag_inflight", "gauge", ""),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_disk_wal_write_bytes_total", "gauge", ""),
    ("etcd_disk_wal_write_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_mvcc_db_open_read_transactions", "gauge", ""),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge", ""),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", ""),
    ("etcd_mvcc_delete_total", "counter", ""),
    ("etcd_mvcc_hash_duration_seconds", "histogram", "0.01 163.84 15"),
    ("etcd_mvcc_hash_rev_duration_seconds", "histogram", "0.01 163.84 15"),
    ("etcd_mvcc_put_total", "counter", ""),
    ("etcd_mvcc_range_total", "counter", ""),
    ("etcd_mvcc_txn_total", "counter", ""),
    ("etcd_network_client_grpc_received_bytes_total", "counter", ""),
    ("etcd_network_client_grpc_sent_bytes_total", "counter", ""),
    ("etcd_server_feature_enabled", "gauge", ""),
    ("etcd_server_go_version", "gauge", ""),
    ("etcd_server_has_leader", "gauge", ""),
    ("etcd_server_health_failures", "counter", ""),
    ("etcd_server_health_success", "counter", ""),
    ("etcd_server_heartbeat_send_failures_total", "counter", ""),
    ("etcd_server_id", "gauge", ""),
    ("etcd_server_is_leader", "gauge", ""),
    ("etcd_server_is_learner", "gauge", ""),
    ("etcd_server_leader_changes_seen_total", "counter", ""),
    ("etcd_server_learner_promote_successes", "counter", ""),
    ("etcd_server_proposals_applied_total", "gauge", ""),
    ("etcd_server_proposals_committed_total", "gauge", ""),
    ("etcd_server_proposals_failed_total", "counter", ""),
    ("etcd_server_proposals_pending", "gauge", ""),
    ("etcd_server_quota_backend_bytes", "gauge", ""),
    ("etcd_server_read_indexes_failed_total", "counter", ""),
    ("etcd_server_slow_apply_total", "counter", ""),
    ("etcd_server_slow_read_indexes_total", "counter", ""),
    ("etcd_server_snapshot_apply_in_progress_total", "gauge", ""),
    ("etcd_server_version", "gauge", ""),
    ("etcd_snap_db_fsync_duration_seconds", "histogram", "0.001 8.192 14"),
    ("etcd_snap_db_save_total_duration_seconds", "histogram", "0.1 51.2 10"),
    ("etcd_snap_fsync_duration_seconds", "histogram", "0.001 8.192 14"),
    ("grpc_server_handled_total", "counter", ""),
    ("grpc_server_msg_received_total", "counter", ""),
    ("grpc_server_msg_sent_total", "counter", ""),
    ("grpc_server_started_total", "counter", ""),
    ("os_fd_limit", "gauge", ""),
    ("os_fd_used", "gauge", ""),
    ("process_cpu_seconds_total", "counter", ""),
    ("process_max_fds", "gauge", ""),
    ("process_open_fds", "gauge", ""),
    ("process_resident_memory_bytes", "gauge", ""),
    ("process_start_time_seconds", "gauge", ""),
    ("process_virtual_memory_bytes", "gauge", ""),
    ("process_virtual_memory_max_bytes", "gauge", ""),
    ("promhttp_metric_handler_requests_in_flight", "gauge", ""),
    ("promhttp_metric_handler_requests_total", "counter", ""),
];

fn bounds(text: &str, family: &str) -> String {
    let start = format!("{family}_bucket{{le=\"");
    let bounds: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&start)?.split('"').next()).collect();
    match bounds.as_slice() {
        [] => String::new(),
        [first, .., last, "+Inf"] => format!("{first} {last} {}", bounds.len() - 1),
        other => panic!("{family}: {other:?}"),
    }
}

#[test]
fn a_fresh_server_shows_what_a_fresh_etcd_shows() {
    let text = page(&ReactorMetrics::new(METHODS), false);
    let page = Page::read(&text);
    for (name, kind, expected) in FROM_THE_START {
        assert_eq!(page.types.get(*name).map(String::as_str), Some(*kind), "{name}");
        assert_eq!(bounds(&text, name), *expected, "{name}");
    }
    let known: BTreeSet<&str> = FROM_THE_START.iter().map(|(name, ..)| *name).collect();
    for name in page.types.keys() {
        let optional = name.starts_with("plinth_") || name.starts_with("process_network_");
        assert!(optional || known.contains(name.as_str()), "{name} is not shown by a fresh etcd");
    }
}

#[test]
fn grpc_series_exist_before_the_first_call() {
    let metrics = ReactorMetrics::new(METHODS);
    let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    let watch = r#"grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream""#;
    let snapshot = r#"grpc_method="Snapshot",grpc_service="etcdserverpb.Maintenance",grpc_type="server_stream""#;
    let text = page(&metrics, false);
    let read = Page::read(&text);
    for labels in [put, watch, snapshot] {
        assert_eq!(read.value(&format!("grpc_server_started_total{{{labels}}}")), 0.0);
        for code in Code::ALL {
            let code = code.name();
            assert_eq!(read.value(&format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}")), 0.0);
        }
    }
    assert!(!text.contains("v3lockpb") && !text.contains("grpc_server_handling_seconds"));

    metrics.grpc_started.with(LOCK).inc();
    metrics.grpc_started.with(PUT).inc();
    metrics.grpc_handled.set_total(PUT, Code::ResourceExhausted, 1);
    metrics.grpc_handling.with(PUT).record_duration(Duration::from_millis(7));
    let read = Page::read(&page(&metrics, true));
    let lock = r#"grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary""#;
    assert_eq!(read.value(&format!("grpc_server_started_total{{{lock}}}")), 1.0);
    assert_eq!(read.value(&format!("grpc_server_handled_total{{grpc_code=\"ResourceExhausted\",{put}}}")), 1.0);
    for (bound, count) in [("0.005", 0.0), ("0.01", 1.0), ("2.5", 1.0), ("+Inf", 1.0)] {
        assert_eq!(read.value(&format!("grpc_server_handling_seconds_bucket{{{put},le=\"{bound}\"}}")), count);
    }
    assert_eq!(read.value(&format!("grpc_server_handling_seconds_sum{{{put}}}")), 0.007);
    assert_eq!(read.value(&format!("grpc_server_handling_seconds_count{{{watch}}}")), 0.0);
}

#[test]
fn labels_appear_with_their_first_use() {
    let metrics = ReactorMetrics::new(METHODS);
    let silent = page(&metrics, false);
    let families = [
        "etcd_server_apply_duration_seconds",
        "etcd_server_request_duration_seconds",
        "etcd_server_range_duration_seconds",
        "etcd_server_healthcheck",
        "etcd_server_client_requests_total",
        "etcd_network_server_stream_failures_total",
        "etcd_debugging_server_alarms",
    ];
    for family in families {
        assert!(!silent.contains(family), "{family}");
    }
    metrics.apply_duration.with(Applied { op: Op::Put, success: true }).record(50_000);
    metrics.request_duration.with(Request { op: Op::ReadonlyTxn, success: false }).record(2_000_000);
    metrics.range_duration.with(Success(true)).record(1);
    metrics.stream_failures.with(StreamFailure { lease: false, send: true }).inc();
    metrics.record_check(Probe::Readyz, Check::NonLearner, true);
    metrics.record_check(Probe::Livez, Check::SerializableRead, true);
    metrics.record_check(Probe::Livez, Check::SerializableRead, false);
    metrics.client_requests.inc(false, Some("3.5\"x"));
    let mut facts = facts();
    facts.alarms.push((0xab, "NOSPACE"));
    let read = Page::read(&render(&metrics.schema(false), &metrics.snapshot(), &facts));
    let expected = [
        (r#"etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}"#, 1.0),
        (r#"etcd_server_request_duration_seconds_bucket{success="false",type="ReadonlyTxn",le="0.002"}"#, 1.0),
        (r#"etcd_server_range_duration_seconds_sum{success="true"}"#, 1e-9),
        (r#"etcd_network_server_stream_failures_total{API="watch",Type="send"}"#, 1.0),
        (r#"etcd_server_healthcheck{name="non_learner",type="readyz"}"#, 1.0),
        (r#"etcd_server_healthcheck{name="serializable_read",type="livez"}"#, 0.0),
        (r#"etcd_server_healthchecks_total{name="serializable_read",status="success",type="livez"}"#, 1.0),
        (r#"etcd_server_client_requests_total{client_api_version="3.5\"x",type="unary"}"#, 1.0),
        (r#"etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="ab"}"#, 1.0),
        (r#"etcd_server_feature_enabled{name="FastLeaseKeepAlive",stage="BETA"}"#, 1.0),
        (r#"etcd_server_id{server_id="8e9e05c52164694d"}"#, 1.0),
        (r#"plinth_stage_duration_seconds_count{stage="wal_flush"}"#, 0.0),
    ];
    for (series, value) in expected {
        assert_eq!(read.value(series), value, "{series}");
    }
    let successes = read.samples.keys().filter(|series| series.starts_with("etcd_server_apply_duration_seconds_count"));
    assert_eq!(successes.count(), 1, "labels never used stay hidden");
}

#[test]
fn reactors_add_up() {
    let (left, right) = (ReactorMetrics::new(METHODS), ReactorMetrics::new(METHODS));
    left.puts.add(3);
    right.puts.inc();
    left.watchers.set(5);
    right.watchers.set(-1);
    left.compact_revision.set(-1);
    left.wal_fsync.record(3_000_000);
    right.wal_fsync.record(400_000);
    left.client_requests.inc(true, Some("3.5"));
    right.client_requests.inc(true, Some("3.5"));
    right.client_requests.inc(false, None);
    let mut snapshot = left.snapshot();
    snapshot.merge(&right.snapshot());
    let read = Page::read(&render(&right.schema(false), &snapshot, &facts()));
    let expected = [
        ("etcd_mvcc_put_total", 4.0),
        ("etcd_debugging_mvcc_watcher_total", 4.0),
        ("etcd_debugging_mvcc_compact_revision", -1.0),
        ("etcd_disk_wal_fsync_duration_seconds_count", 2.0),
        ("etcd_disk_wal_fsync_duration_seconds_sum", 0.0034),
        (r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"}"#, 1.0),
        (r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"}"#, 2.0),
        (r#"etcd_server_client_requests_total{client_api_version="3.5",type="stream"}"#, 2.0),
        (r#"etcd_server_client_requests_total{client_api_version="unknown",type="unary"}"#, 1.0),
    ];
    for (series, value) in expected {
        assert_eq!(read.value(series), value, "{series}");
    }
}

#[test]
fn numbers_read_as_gos() {
    const CASES: &[(f64, &str)] = &[
        (0.0, "0"),
        (1.0, "1"),
        (-1.0, "-1"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.1024, "0.1024"),
        (999_999.0, "999999"),
        (1_000_000.0, "1e+06"),
        (1_048_576.0, "1.048576e+06"),
        (18_446_744_073_709_551_615.0, "1.8446744073709552e+19"),
        (2_147_483_648.0, "2.147483648e+09"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in CASES {
        assert_eq!(go_float(*value), *text);
    }
}

/// Not a measurement to quote, only a fence: recording must stay in the nanoseconds and a page in the milliseconds,
/// also in this build with few optimizations on a busy machine.
#[test]
fn recording_is_cheap() {
    let metrics = ReactorMetrics::new(METHODS);
    let started = Instant::now();
    for value in 0..1_000_000 {
        metrics.puts.inc();
        metrics.grpc_started.with(PUT).inc();
        metrics.stages.with(Stage::Apply).record(value);
    }
    let per_round = started.elapsed() / 1_000_000;
    assert!(per_round < Duration::from_nanos(500), "{per_round:?} for two counters and a histogram");
    assert_eq!(metrics.puts.get(), 1_000_000);
    let started = Instant::now();
    let text = page(&metrics, true);
    assert!(started.elapsed() < Duration::from_millis(200), "{:?} for a page", started.elapsed());
    assert!(text.len() > 10_000);
}

#[test]
fn the_v2_store_is_counted_by_action() {
    let text = page(&ReactorMetrics::new(METHODS), false);
    for line in [
        "etcd_debugging_store_reads_total{action=\"get\"} 2",
        "etcd_debugging_store_reads_total{action=\"getRecursive\"} 1",
        "etcd_debugging_store_reads_failed_total{action=\"get\"} 2",
        "etcd_debugging_store_watchers 4",
        "etcd_debugging_store_watch_requests_total 5",
        "etcd_debugging_store_expires_total 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in {text}");
    }
    assert!(!text.contains("etcd_debugging_store_writes"), "nothing was written");
}
