//! From what was said to what it means: one function for each group of settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gates::FeatureGates;
use super::recorded::Recorded;
use super::settings::*;

/// The shortest timeout of peer connections.
const RAFT_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The shortest interval of watch progress notifications.
const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

impl Config {
    pub(super) fn build(given: &Recorded) -> Result<Config, String> {
        let name = given.text("name");
        let data_dir = given.text_if_any("data-dir").unwrap_or_else(|| format!("{name}.etcd"));
        let log = log(given)?;
        Ok(Config {
            data_dir: PathBuf::from(data_dir),
            wal_dir: given.text_if_any("wal-dir").map(PathBuf::from),
            addresses: addresses(given),
            limits: limits(given),
            cluster: cluster(given),
            storage: storage(given),
            client_tls: client_tls(given),
            peer_tls: peer_tls(given),
            tls: TlsCommon {
                self_signed_years: given.uint("self-signed-cert-validity").max(1),
                cipher_suites: given.list("cipher-suites"),
                min_version: given.text("tls-min-version"),
                max_version: given.text("tls-max-version"),
            },
            http: Http {
                cors: given.list("cors"),
                host_whitelist: given.list("host-whitelist"),
                gateway: given.bool("enable-grpc-gateway"),
                v2: given.bool("enable-v2"),
                v2_history: usize::try_from(given.uint("v2-history")).unwrap_or(usize::MAX),
                console: given.bool("enable-console"),
                console_read_only: given.bool("console-read-only"),
                pprof: given.bool("enable-pprof") || log.level == LogLevel::Debug,
            },
            auth: Auth {
                token: given.text("auth-token"),
                bcrypt_cost: bcrypt_cost(given).unwrap_or(BCRYPT_COST_DEFAULT),
                token_ttl: Duration::from_secs(given.uint("auth-token-ttl")),
            },
            log,
            monitoring: Monitoring {
                extensive: given.text("metrics") == "extensive",
                tracing: given.bool("enable-distributed-tracing"),
                tracing_address: given.text("distributed-tracing-address"),
                tracing_service: given.text("distributed-tracing-service-name"),
                tracing_instance: given.text("distributed-tracing-instance-id"),
                tracing_per_million: given.int("distributed-tracing-sampling-rate"),
            },
            gates: FeatureGates::new(given.gates("feature-gates")),
            watch_progress_interval: given
                .duration_or("watch-progress-notify-interval", Duration::from_secs(600))
                .max(WATCH_PROGRESS_INTERVAL_MIN),
            reactors: Reactors {
                count: u32::try_from(given.uint("reactors")).expect("the registry says 32 bits"),
                pin: given.bool("pin-reactors"),
            },
            memory_mlock: given.bool("memory-mlock"),
            follow: follow(given),
            backup: backup(given),
            metad: given.text_if_any("metad-config"),
            name,
        })
    }
}

const BCRYPT_COST_DEFAULT: u32 = 10;

/// The cost if it is one bcrypt knows.
pub(super) fn bcrypt_cost(given: &Recorded) -> Option<u32> {
    u32::try_from(given.uint("bcrypt-cost")).ok().filter(|cost| (4..=31).contains(cost))
}

fn follow(given: &Recorded) -> Option<Follow> {
    let password = given.text("follow-password");
    let user = given.text_if_any("follow-user").map(|user| match user.split_once(':') {
        Some((name, password)) => (name.to_owned(), password.to_owned()),
        None => (user, password),
    });
    let follow = Follow {
        endpoints: given.list("follow").into_iter().filter(|endpoint| !endpoint.is_empty()).collect(),
        trusted_ca_file: given.text_if_any("follow-trusted-ca-file"),
        cert_file: given.text_if_any("follow-cert-file"),
        key_file: given.text_if_any("follow-key-file"),
        user,
        check_interval: given.duration("follow-check-time").max(Duration::from_secs(1)),
    };
    Some(follow).filter(|follow| !follow.endpoints.is_empty())
}

fn backup(given: &Recorded) -> Option<Backup> {
    let interval = given.duration("backup-interval").max(Duration::from_secs(1));
    let keep = usize::try_from(given.uint("backup-keep")).unwrap_or(usize::MAX).max(1);
    let folder = PathBuf::from(given.text_if_any("backup-dir")?);
    Some(Backup { folder, interval, keep })
}

fn addresses(given: &Recorded) -> Addresses {
    Addresses {
        listen_peer: given.urls("listen-peer-urls"),
        listen_client: given.urls("listen-client-urls"),
        listen_client_http: given.urls("listen-client-http-urls"),
        listen_metrics: given.urls("listen-metrics-urls"),
        listen_console: given.urls("listen-console-urls"),
        advertise_peer: given.urls("initial-advertise-peer-urls"),
        advertise_client: given.urls("advertise-client-urls"),
        reuse_port: given.bool("socket-reuse-port"),
        reuse_address: given.bool("socket-reuse-address"),
    }
}

fn limits(given: &Recorded) -> Limits {
    let unless_zero = |name| Some(given.duration(name)).filter(|duration| !duration.is_zero());
    Limits {
        txn_ops_max: given.uint("max-txn-ops"),
        request_bytes_max: given.uint("max-request-bytes").min(REQUEST_BYTES_MAX),
        concurrent_streams_max: u32::try_from(given.uint("max-concurrent-streams")).expect("the registry says 32 bits"),
        keepalive_min_time: given.duration("grpc-keepalive-min-time"),
        keepalive_interval: unless_zero("grpc-keepalive-interval"),
        keepalive_timeout: unless_zero("grpc-keepalive-timeout"),
        slow_apply: given.duration("warning-apply-duration"),
        slow_unary_request: given.duration_or("warning-unary-request-duration", Duration::from_millis(300)),
    }
}

const CATCH_UP: &str = "snapshot-catchup-entries";

fn cluster(given: &Recorded) -> Cluster {
    let state = given.text("initial-cluster-state");
    Cluster {
        initial: given.text("initial-cluster"),
        initial_is_given: given.is_given("initial-cluster"),
        state: if state == ClusterState::New.as_str() { ClusterState::New } else { ClusterState::Existing },
        token: given.text("initial-cluster-token"),
        heartbeat_interval: Duration::from_millis(given.uint("heartbeat-interval")),
        election_timeout: Duration::from_millis(given.uint("election-timeout")),
        initial_tick_advance: given.bool("initial-election-tick-advance"),
        pre_vote: given.bool("pre-vote"),
        strict_reconfig_check: given.bool("strict-reconfig-check"),
        learners_max: given.int("max-learners"),
        snapshot_entries: given.uint("snapshot-count"),
        catch_up_shown: given.uint(CATCH_UP),
        catch_up_entries: Some(given.uint(CATCH_UP)).filter(|_| given.is_given(CATCH_UP)),
        read_timeout: given.duration("raft-read-timeout").max(RAFT_TIMEOUT_MIN),
        write_timeout: given.duration("raft-write-timeout").max(RAFT_TIMEOUT_MIN),
        discovery: discovery(given),
        corrupt_check_interval: Some(given.duration("corrupt-check-time")).filter(|interval| !interval.is_zero()),
        compact_hash_check_interval: given.duration("compact-hash-check-time"),
        downgrade_check_interval: given.duration("downgrade-check-time"),
        force_new: given.bool("force-new-cluster"),
    }
}

fn discovery(given: &Recorded) -> Discovery {
    Discovery {
        token: given.text("discovery-token"),
        endpoints: given.list("discovery-endpoints"),
        srv_domain: given.text("discovery-srv"),
        srv_name: given.text("discovery-srv-name"),
        dial_timeout: given.duration("discovery-dial-timeout"),
        request_timeout: given.duration("discovery-request-timeout"),
        keepalive_time: given.duration("discovery-keepalive-time"),
        keepalive_timeout: given.duration("discovery-keepalive-timeout"),
        insecure_transport: given.bool("discovery-insecure-transport"),
        insecure_skip_verify: given.bool("discovery-insecure-skip-tls-verify"),
        certificate_files: ["discovery-cert", "discovery-key", "discovery-cacert"].map(|name| given.text(name)),
        user: given.text("discovery-user"),
        password: given.text("discovery-password"),
        fallback: given.text("discovery-fallback"),
    }
}

fn storage(given: &Recorded) -> Storage {
    let or = |value: i64, default: u64| u64::try_from(value).ok().filter(|&value| value > 0).unwrap_or(default);
    Storage {
        quota_flag: given.int("quota-backend-bytes"),
        flush_interval: given.duration_or("backend-batch-interval", Duration::from_millis(100)),
        flush_operations: or(given.int("backend-batch-limit"), 10_000),
        freelist_type: given.text("backend-bbolt-freelist-type"),
        auto_compaction_mode: given.text("auto-compaction-mode"),
        auto_compaction_retention: given.text("auto-compaction-retention"),
        compaction_batch: or(given.int("compaction-batch-limit"), 1000),
        compaction_pause: given.duration_or("compaction-sleep-interval", Duration::ZERO),
        shrink_threshold_megabytes: Some(given.uint("bootstrap-defrag-threshold-megabytes")).filter(|&mb| mb > 0),
        snapshot_files_max: given.uint("max-snapshots"),
        wal_files_max: given.uint("max-wals"),
        no_fsync: given.bool("unsafe-no-fsync"),
    }
}

fn client_tls(given: &Recorded) -> Tls {
    let file = |name| given.text_if_any(name).map(PathBuf::from);
    Tls {
        cert_file: file("cert-file"),
        key_file: file("key-file"),
        client_cert_file: file("client-cert-file"),
        client_key_file: file("client-key-file"),
        client_cert_auth: given.bool("client-cert-auth"),
        trusted_ca_file: file("trusted-ca-file"),
        crl_file: file("client-crl-file"),
        allowed_cns: Vec::new(),
        allowed_hostnames: given.list("client-cert-allowed-hostname"),
        auto: given.bool("auto-tls"),
        skip_san_verification: false,
    }
}

fn peer_tls(given: &Recorded) -> Tls {
    let file = |name| given.text_if_any(name).map(PathBuf::from);
    Tls {
        cert_file: file("peer-cert-file"),
        key_file: file("peer-key-file"),
        client_cert_file: file("peer-client-cert-file"),
        client_key_file: file("peer-client-key-file"),
        client_cert_auth: given.bool("peer-client-cert-auth"),
        trusted_ca_file: file("peer-trusted-ca-file"),
        crl_file: file("peer-crl-file"),
        allowed_cns: given.list("peer-cert-allowed-cn"),
        allowed_hostnames: given.list("peer-cert-allowed-hostname"),
        auto: given.bool("peer-auto-tls"),
        skip_san_verification: given.bool("peer-skip-client-san-verification"),
    }
}

fn log(given: &Recorded) -> Result<Log, String> {
    match given.text("logger").as_str() {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option {other:?}")),
    }
    let level = match given.text("log-level").to_ascii_lowercase().as_str() {
        "debug" => LogLevel::Debug,
        "" | "info" => LogLevel::Info,
        "warn" | "warning" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "dpanic" | "panic" | "fatal" => LogLevel::Fatal,
        other => return Err(format!("unrecognized level: {other:?}")),
    };
    let format = match given.text("log-format").as_str() {
        "" | "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => return Err(format!("unknown log format: {other}, supported values json, console")),
    };
    let names = given.list("log-outputs");
    if names.len() > 1 {
        if names.iter().any(|name| name == "default") {
            return Err("multi logoutput for \"default\" is not supported yet".to_owned());
        }
        if names.iter().any(|name| name == "systemd/journal") {
            return Err(format!(
                "running with systemd/journal but other '--log-outputs' values ({names:?}) are configured with 'default'; \
                 override 'default' value with something else"
            ));
        }
    }
    let mut outputs: Vec<LogOutput> = names.iter().map(|name| log_output(name)).collect();
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    // As with etcd's logger, the null device among the outputs silences all of them.
    if let Some(null) = outputs.iter().find(|output| **output == LogOutput::File("/dev/null".into())) {
        outputs = vec![null.clone()];
    }
    let rotation = given.text("log-rotation-config-json");
    let rotation = given.bool("enable-log-rotation").then(|| log_rotation(&rotation, &outputs)).transpose()?;
    Ok(Log { level, format, outputs, rotation })
}

fn log_output(name: &str) -> LogOutput {
    match name {
        "" | "default" | "stderr" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "systemd/journal" => LogOutput::Journal,
        path => LogOutput::File(Path::new(path).to_owned()),
    }
}

#[derive(serde::Deserialize)]
struct RotationJson {
    #[serde(default)]
    maxsize: u64,
    #[serde(default)]
    maxage: u64,
    #[serde(default)]
    maxbackups: u64,
}

fn log_rotation(json: &str, outputs: &[LogOutput]) -> Result<LogRotation, String> {
    let files = outputs.iter().filter(|output| matches!(output, LogOutput::File(_))).count();
    if files > 1 || (outputs.len() == 1 && files == 0) {
        return Err("--log-outputs requires a single file path when --log-rotate-config-json is defined".to_owned());
    }
    let json: RotationJson = serde_json::from_str(json).map_err(|error| {
        let what =
            if error.is_data() { "invalid log rotation config" } else { "improperly formatted log rotation config" };
        format!("{what}: {error}")
    })?;
    // 0 stands for the default of 100 MB.
    let megabytes = if json.maxsize == 0 { 100 } else { json.maxsize };
    Ok(LogRotation { max_bytes: megabytes << 20, max_age_days: json.maxage, max_backups: json.maxbackups })
}
