//! Whole configurations: what goes in on the command line, in the environment or in a file, what comes out, and with
//! which words it is refused. And what must hold for all flags at once.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::legacy::{Meaning, OLD_FLAGS};
use super::registry::{FLAGS, Section, Yaml};
use super::value::Kind;
use super::*;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, ConfigError> {
    let arguments: Vec<String> = arguments.iter().map(|text| text.to_string()).collect();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    load_on(&arguments, &environment, "amd64", || Some(HOST))
}

fn serve(arguments: &[&str], environment: &[(&str, &str)]) -> Loaded {
    match run(arguments, environment) {
        Ok(Command::Serve(loaded)) => *loaded,
        other => panic!("{arguments:?} {environment:?}: {other:?}"),
    }
}

fn config(arguments: &[&str]) -> Config {
    serve(arguments, &[]).config
}

/// Exit code and message of a refused configuration.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> (u8, String) {
    match run(arguments, environment) {
        Err(error) => (error.exit_code(), error.to_string()),
        Ok(_) => panic!("{arguments:?} {environment:?} was accepted"),
    }
}

fn file(text: &str) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("conf.yml");
    std::fs::write(&path, text).expect("written");
    // Flags and environment beside a file are ignored, even nonsensical ones.
    match run(&["--name=ignored", "--config-file", path.to_str().expect("UTF-8")], &[("ETCD_MAX_TXN_OPS", "x")]) {
        Ok(Command::Serve(loaded)) => Ok(*loaded),
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 1);
            Err(error.to_string())
        }
    }
}

fn has_notice(loaded: &Loaded, part: &str) -> bool {
    loaded
        .notices
        .iter()
        .any(|notice| notice.message.contains(part) || notice.fields.iter().any(|(_, value)| value.contains(part)))
}

#[test]
fn defaults() {
    let config = config(&[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(config.member_dir().to_str(), Some("default.etcd/member"));
    assert_eq!(join_urls(&config.addresses.listen_client), "http://localhost:2379");
    assert_eq!(join_urls(&config.addresses.advertise_client), "http://localhost:2379");
    assert_eq!(config.limits.txn_ops_max, 128);
    assert_eq!(config.limits.request_bytes_max, 1_572_864);
    assert_eq!(config.limits.concurrent_streams_max, u32::MAX);
    assert_eq!(config.limits.keepalive_interval, Some(Duration::from_secs(7200)));
    assert_eq!(config.limits.slow_unary_request, Duration::from_millis(300));
    assert_eq!(config.cluster.election_ticks(), 10);
    assert_eq!(config.cluster.request_timeout(), Duration::from_secs(7));
    assert_eq!(config.cluster.initial, "default=http://localhost:2380");
    assert_eq!(config.cluster.state, ClusterState::New);
    assert_eq!(config.storage.quota_bytes(), Some(2 << 30));
    assert_eq!(config.storage.flush_interval, Duration::from_millis(100));
    assert_eq!(config.storage.compaction_batch, 1000);
    assert_eq!(config.storage.auto_compaction(), Ok(AutoCompaction::Off));
    assert_eq!(config.watch_progress_interval, Duration::from_secs(600));
    assert_eq!(config.reactors, Reactors { count: 1, pin: false });
    assert_eq!(config.reactors.count_on(8), 1);
    assert_eq!(config.log.outputs, [LogOutput::Stderr]);
    assert!(!config.monitoring.extensive);
    assert_eq!(config.check_before_bootstrap(), Ok(()));
}

#[test]
fn flags_in_all_spellings() {
    let config = config(&[
        "-name",
        "a",
        "--max-txn-ops=0x100",
        "-pre-vote=false",
        "--socket-reuse-port",
        "--data-dir",
        "/var/lib/x",
        "--grpc-keepalive-interval=0s",
        "--quota-backend-bytes=-1",
        "--auto-compaction-retention=5m",
        "--name=b",
        "--reactors=0",
        "--log-outputs=stdout,stderr,stdout",
        "--metrics=extensive",
    ]);
    assert_eq!(config.name, "b", "the last one wins");
    assert_eq!(config.limits.txn_ops_max, 256);
    assert!(!config.cluster.pre_vote);
    assert!(config.addresses.reuse_port);
    assert_eq!(config.data_dir.to_str(), Some("/var/lib/x"));
    assert_eq!(config.limits.keepalive_interval, None);
    assert_eq!((config.storage.quota_bytes(), config.storage.quota_metric()), (None, -1));
    assert_eq!(config.storage.auto_compaction(), Ok(AutoCompaction::Periodic(Duration::from_secs(300))));
    assert_eq!(config.reactors.count_on(6), 6);
    assert_eq!(config.log.outputs, [LogOutput::Stderr, LogOutput::Stdout]);
    assert!(config.monitoring.extensive);
    assert_eq!(config.cluster.initial, "b=http://localhost:2380", "a named member is its own cluster");
}

#[test]
fn wrong_command_lines_exit_with_2() {
    const CASES: &[(&[&str], &str)] = &[
        (&["--nope"], "flag provided but not defined: -nope"),
        (&["--nope=1"], "flag provided but not defined: -nope"),
        (&["--name"], "flag needs an argument: -name"),
        (&["---name=x"], "bad flag syntax: ---name=x"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["--max-txn-ops=x"], "invalid value \"x\" for flag -max-txn-ops: parse error"),
        (
            &["--max-concurrent-streams=4294967296"],
            "invalid value \"4294967296\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"4294967296\": value out of range",
        ),
        (&["--pre-vote=maybe"], "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        (&["--grpc-keepalive-timeout=20"], "invalid value \"20\" for flag -grpc-keepalive-timeout: parse error"),
        (&["--initial-cluster-state=old"], "invalid value \"old\" for flag -initial-cluster-state: invalid value"),
        (
            &["--v2-deprecation=not-yet"],
            "invalid value \"not-yet\" for flag -v2-deprecation: invalid value \"not-yet\"",
        ),
        (
            &["--listen-client-urls=localhost:2379"],
            "invalid value \"localhost:2379\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: localhost:2379",
        ),
        (
            &["--feature-gates=Nope=true"],
            "invalid value \"Nope=true\" for flag -feature-gates: unrecognized feature gate: Nope",
        ),
        (
            &["--experimental-initial-corrupt-check=x"],
            "invalid boolean value \"x\" for -experimental-initial-corrupt-check: parse error",
        ),
    ];
    for (arguments, message) in CASES {
        assert_eq!(refusal(arguments, &[]), (2, message.to_string()));
    }
    let text = run(&["--nope"], &[]).expect_err("unknown").usage_text();
    assert!(text.starts_with("flag provided but not defined: -nope\nUsage:\n"));
}

#[test]
fn unusable_configurations_exit_with_1() {
    const AC: &str = "--advertise-client-urls=http://localhost:2379";
    const CASES: &[(&[&str], &str)] = &[
        (&["serve"], "\"serve\" is not a valid flag"),
        (&["--", "--name"], "\"--name\" is not a valid flag"),
        (&["-"], "\"-\" is not a valid flag"),
        (
            &["--election-timeout=400"],
            "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (&["--election-timeout=50001"], "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            &["--heartbeat-interval=9223372036854775807"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[9223372036854775807ms]",
        ),
        (
            &["--listen-client-urls=http://0.0.0.0:2379"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--listen-client-urls=http://example.com:2379", AC],
            "expected IP in URL for binding (http://example.com:2379)",
        ),
        (&["--listen-metrics-urls=http://:1"], "expected IP in URL for binding (http://:1)"),
        (
            &["--initial-advertise-peer-urls=http://:2380"],
            "--initial-advertise-peer-urls \"http://:2380\" must be \"host:port\" (unexpected empty host (http://:2380))",
        ),
        (
            &["--advertise-client-urls=http://:2379"],
            "--advertise-client-urls \"http://:2379\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:2379))",
        ),
        (
            &["--initial-cluster=a=http://a:1", "--discovery-srv=example.com"],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (&["--discovery-token=t"], "both --discovery-token and --discovery-endpoints must be set"),
        (
            &["--discovery-token=t", "--discovery-endpoints=a,,b"],
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        (&["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (&["--auto-compaction-mode=daily"], "unknown auto-compaction-mode \"daily\""),
        (&["--auto-compaction-retention=week"], "error parsing CompactionRetention: time: invalid duration \"week\""),
        (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (&["--compact-hash-check-time=-1s"], "--compact-hash-check-time must be >0 (set to -1s)"),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (&["--tls-min-version=TLS1.1"], "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=X"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (&["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (&["--log-level=loud"], "unrecognized level: \"loud\""),
        (&["--log-format=xml"], "unknown log format: xml, supported values json, console"),
        (&["--log-outputs=default,stdout"], "multi logoutput for \"default\" is not supported yet"),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (&["--config-file=/nonexistent/x"], "open /nonexistent/x: no such file or directory"),
        (
            &["--discovery=http://x"],
            "--discovery=http://x: v2 discovery was removed; use --discovery-token and --discovery-endpoints",
        ),
        (
            &["--experimental-enable-v2v3=x"],
            "--experimental-enable-v2v3=x: the v2 API over v3 keys was removed in etcd 3.6",
        ),
        (&["--proxy=on"], "--proxy=on: the v2 proxy was removed in etcd 3.6"),
    ];
    for (arguments, message) in CASES {
        assert_eq!(refusal(arguments, &[]), (1, message.to_string()));
    }
}

#[test]
fn unusable_settings_of_tls_exit_with_1() {
    const CASES: &[(&[&str], &str)] = &[
        (&["--cipher-suites=X"], "unexpected TLS cipher suite \"X\""),
        (
            &["--tls-max-version=TLS1.2", "--cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256"],
            "none of the given cipher suites can be used with TLS1.2",
        ),
        (&["--key-file=k"], "KeyFile and CertFile must both be present[key: k, cert: ]"),
        (
            &["--peer-client-cert-file=c"],
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: c]",
        ),
        (
            &["--peer-cert-allowed-cn=a,b", "--peer-cert-allowed-hostname=c"],
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[a b], hostnames=[c])",
        ),
        (
            &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-peer-urls=https://127.0.0.1:1"],
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
        ),
        (
            &["--listen-metrics-urls=https://127.0.0.1:1"],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (
            &[
                "--listen-client-urls=http://127.0.0.1:1",
                "--advertise-client-urls=http://127.0.0.1:1",
                "--listen-client-http-urls=http://127.0.0.1:1",
            ],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://127.0.0.1:1",
        ),
    ];
    for (arguments, message) in CASES {
        assert_eq!(refusal(arguments, &[]), (1, message.to_string()));
    }
    const WARNED: &[(&[&str], &str)] = &[
        (&["--cert-file=c", "--key-file=k"], "scheme is http or unix while key and cert files are present"),
        (&["--client-cert-auth"], "scheme is http or unix while --client-cert-auth is enabled"),
        (&["--cert-file=c", "--key-file=k", "--auto-tls"], "ignoring client auto TLS since certs given"),
        (&["--peer-cert-file=c", "--peer-key-file=k", "--peer-auto-tls"], "ignoring peer auto TLS since certs given"),
        (&["--cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256"], "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    ];
    for (arguments, words) in WARNED {
        assert!(has_notice(&serve(arguments, &[]), words), "{arguments:?}");
    }
}

#[test]
fn what_is_not_built_yet_is_refused_by_name_or_warned_about() {
    const REFUSED: &[(&[&str], &str)] = &[
        (&["--listen-peer-urls=unix://x"], "Unix sockets between members"),
        (&["--enable-distributed-tracing"], "tracing"),
    ];
    for (arguments, what) in REFUSED {
        let (code, message) = refusal(arguments, &[]);
        assert!(
            code == 1 && message.starts_with("not supported yet") && message.contains(what),
            "{arguments:?}: {message}"
        );
    }
    for flag in ["--memory-mlock", "--enable-pprof"] {
        assert!(has_notice(&serve(&[flag], &[]), flag), "{flag} is warned about");
    }
    const IDLE: &[&str] = &[
        "--pre-vote=false",
        "--snapshot-count=1",
        "--max-snapshots=1",
        "--max-wals=1",
        "--backend-bbolt-freelist-type=array",
    ];
    for flag in IDLE {
        assert!(has_notice(&serve(&[flag], &[]), "has no effect"), "{flag} is warned about");
    }
    for harmless in [&[][..], &["--log-level=debug"], &["--snapshot-count=10000", "--max-wals=5"]] {
        let loaded = serve(harmless, &[]);
        assert!(!has_notice(&loaded, "not supported yet") && !has_notice(&loaded, "has no effect"), "{harmless:?}");
    }
}

#[test]
fn requests_of_any_size_start_and_are_served_up_to_what_the_log_holds() {
    let kept = serve(&["--max-request-bytes=8388608"], &[]);
    assert_eq!(kept.config.limits.request_bytes_max, 8 << 20);
    assert!(!has_notice(&kept, "max-request-bytes"));
    for given in ["33554432", "1073741824"] {
        let loaded = serve(&[&format!("--max-request-bytes={given}")], &[]);
        let served = loaded.config.limits.request_bytes_max;
        assert_eq!(served, given.parse::<u64>().expect("a number").min(settings::REQUEST_BYTES_MAX));
        assert!(has_notice(&loaded, "suggested maximum"), "{given} is warned about");
        assert_eq!(has_notice(&loaded, "more than the log holds"), served.to_string() != given);
    }
    const { assert!(settings::REQUEST_BYTES_MAX >= 32 << 20, "what people give to etcd is served") }
}

#[test]
fn the_environment_fills_in() {
    let loaded = serve(
        &["--name=a"],
        &[
            ("ETCD_MAX_TXN_OPS", "7"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_PRE_VOTE", "f"),
            ("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "5s"),
            ("ETCD_SERVICE_HOST", "10.0.0.1"),
            ("ETCD_VERSION", "3.5"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(loaded.config.limits.txn_ops_max, 7);
    assert_eq!(loaded.config.data_dir.to_str(), Some("a.etcd"), "empty is unset");
    assert!(!loaded.config.cluster.pre_vote);
    assert_eq!(loaded.config.watch_progress_interval, Duration::from_secs(5));
    assert!(has_notice(&loaded, "ETCD_SERVICE_HOST=10.0.0.1"), "unknown variables are warned about");
    assert!(has_notice(&loaded, "cannot set special environment variable"));
    assert!(!has_notice(&loaded, "PATH"));
}

#[test]
fn the_environment_conflicts_and_fails_in_etcds_words() {
    let error = run(&["--name=a"], &[("ETCD_NAME", "a")]).expect_err("given twice");
    let ConfigError::Shadowed { variable } = &error else { panic!("{error:?}") };
    assert_eq!((variable.as_str(), error.exit_code()), ("ETCD_NAME", 1));
    assert!(
        error
            .to_string()
            .starts_with("conflicting environment variable is shadowed by corresponding command-line flag")
    );
    const CASES: &[((&str, &str), &str)] = &[
        (("ETCD_MAX_TXN_OPS", "x"), "invalid value \"x\" for ETCD_MAX_TXN_OPS: parse error"),
        (("ETCD_PROXY", "on"), "ETCD_PROXY=on: the v2 proxy was removed in etcd 3.6"),
    ];
    for (variable, message) in CASES {
        assert_eq!(refusal(&[], &[*variable]), (1, message.to_string()));
    }
}

#[test]
fn secrets_of_the_environment_stay_out_of_the_log() {
    let error = run(&[], &[("ETCD_DISCOVERY_PASSWORD", "hunter2"), ("ETCD_ENABLE_DISTRIBUTED_TRACING", "true")]);
    let Err(ConfigError::Invalid { notices, message }) = error else { panic!("{error:?}") };
    assert!(notices.iter().any(|notice| notice.fields.iter().any(|(_, value)| value == "ETCD_DISCOVERY_PASSWORD")));
    assert!(!format!("{notices:?}{message}").contains("hunter2"));
}

#[test]
fn old_names_keep_working() {
    // The command line kubeadm writes for etcd 3.5, without its certificates.
    let loaded = serve(
        &[
            "--advertise-client-urls=http://10.0.0.5:2379",
            "--data-dir=/var/lib/etcd",
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
            "--initial-advertise-peer-urls=http://10.0.0.5:2380",
            "--initial-cluster=node=http://10.0.0.5:2380",
            "--listen-client-urls=http://127.0.0.1:2379,http://10.0.0.5:2379",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--listen-peer-urls=http://10.0.0.5:2380",
            "--name=node",
            "--snapshot-count=10000",
        ],
        &[],
    );
    assert!(loaded.config.gates.enabled(Gate::InitialCorruptCheck));
    assert_eq!(loaded.config.watch_progress_interval, Duration::from_secs(5));
    assert_eq!(loaded.config.check_before_bootstrap(), Ok(()));
    assert!(has_notice(&loaded, "--feature-gates=InitialCorruptCheck=true"));

    assert!(config(&["--enable-v2"]).http.v2);
    let config =
        config(&["--debug", "--enable-v2=false", "--proxy=off", "--proxy-read-timeout=0", "-v", "--log-output=stdout"]);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.log.outputs, [LogOutput::Stdout]);
    assert!(!config.http.v2, "off unless asked for");
}

#[test]
fn version_and_help() {
    let Ok(Command::Print(version)) = run(&["--version"], &[("ETCD_VERSION", "x")]) else { panic!("prints") };
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    for (line, start) in lines[1..].iter().zip(["Git SHA: ", "Go Version: ", "Go OS/Arch: linux/"]) {
        assert!(line.starts_with(start) && line.len() > start.len(), "{line}");
    }
    for argument in ["-h", "--help", "-help"] {
        let Ok(Command::Print(help)) = run(&["--name=x", argument], &[]) else { panic!("prints") };
        for flag in FLAGS {
            assert!(help.contains(&format!("\n  --{} '", flag.name)), "{} is in the help", flag.name);
        }
    }
    assert!(Section::ALL.iter().all(|section| FLAGS.iter().any(|flag| flag.section == *section)));
}

#[test]
fn the_file_replaces_everything_else() {
    let loaded = file(
        r#"
name: infra0
Max-Txn-Ops: 64
data-dir:
auto-compaction-mode: revision
auto-compaction-retention: 1000
grpc-keepalive-min-time: 10000000000
listen-metrics-urls: "http://127.0.0.1:2381,http://127.0.0.1:2381"
feature-gates: CompactHashCheck=true
socket-options: { reuse-port: true }
log-outputs: [stdout]
host-whitelist: b,a
cors: "*"
discovery:
unknown-key: { x: [1] }
experimental-compaction-sleep-interval: 20000000
proxy: 'readonly'
"#,
    )
    .expect("accepted");
    let config = &loaded.config;
    assert_eq!(config.name, "infra0");
    assert_eq!(config.limits.txn_ops_max, 64, "keys match without regard to case");
    assert_eq!(config.data_dir.to_str(), Some("infra0.etcd"));
    assert_eq!(config.storage.auto_compaction(), Ok(AutoCompaction::Revision(1000)), "a number serves as text");
    assert_eq!(config.limits.keepalive_min_time, Duration::from_secs(10));
    assert_eq!(config.addresses.listen_metrics.len(), 2, "files keep duplicates");
    assert!(config.gates.enabled(Gate::CompactHashCheck));
    assert!(config.addresses.reuse_port);
    assert_eq!(config.log.outputs, [LogOutput::Stdout]);
    assert_eq!(config.http.host_whitelist, ["a", "b"]);
    assert_eq!(config.storage.compaction_pause, Duration::from_millis(20), "old keys count nanoseconds too");
    assert!(has_notice(&loaded, "configuration key proxy is ignored"));
    assert!(has_notice(&loaded, "loaded server configuration"));
    assert_eq!(config.cluster.initial, "infra0=http://localhost:2380");
}

#[test]
fn json_is_a_configuration_file_too() {
    let loaded = file(r#"{"name": "j", "pre-vote": false, "client-transport-security": {"cert-file": null}}"#)
        .expect("accepted");
    assert_eq!((loaded.config.name.as_str(), loaded.config.cluster.pre_vote), ("j", false));
    assert_eq!(file("").expect("an empty file says nothing").config.name, "default");
}

#[test]
fn wrong_files_say_which_key() {
    const CASES: &[(&str, &str)] = &[
        ("max-txn-ops: many", "cannot unmarshal string into max-txn-ops of type uint"),
        ("max-txn-ops: -1", "cannot unmarshal number into max-txn-ops of type uint"),
        ("pre-vote: 1", "cannot unmarshal number into pre-vote of type bool"),
        (
            "watch-progress-notify-interval: 10m",
            "cannot unmarshal string into watch-progress-notify-interval of type time.Duration",
        ),
        ("name: [a]", "cannot unmarshal array into name of type string"),
        ("peer-transport-security: yes-please", "invalid peer-transport-security"),
        ("listen-peer-urls: nonsense", "unexpected error setting up listen-peer-urls: URL scheme must be"),
        ("feature-gates: X=true", "invalid value \"X=true\" for feature-gates: unrecognized feature gate: X"),
        ("initial-cluster-state: old", "unexpected clusterState \"old\""),
        ("- a", "not a map"),
        ("a: b: c", "error converting YAML to JSON"),
        ("election-timeout: 1", "should be at least as 5 times"),
        ("client-transport-security: {cert-file: a}", "KeyFile and CertFile must both be present[key: , cert: a]"),
        ("discovery-config: {token: t}", "both --discovery-token and --discovery-endpoints must be set"),
    ];
    for (text, message) in CASES {
        let found = file(text).expect_err(text);
        assert!(found.contains(message), "{text}: {found}");
    }
}

#[test]
fn a_member_that_listens_everywhere_advertises_its_host() {
    let config = config(&["--name=a", "--listen-peer-urls=http://0.0.0.0:3380"]);
    assert_eq!(join_urls(&config.addresses.advertise_peer), "http://10.1.2.3:3380");
    assert_eq!(config.cluster.initial, "a=http://10.1.2.3:3380");
    let loaded =
        serve(&["--listen-client-urls=http://0.0.0.0:1", "--advertise-client-urls=http://localhost:2379"], &[]);
    assert_eq!(join_urls(&loaded.config.addresses.advertise_client), "http://10.1.2.3:1");
    assert!(has_notice(&loaded, "10.1.2.3"));
}

#[test]
fn bootstrap_needs_a_consistent_cluster() {
    const PEER: &str = "--initial-advertise-peer-urls=http://127.0.0.1:2380";
    const CASES: &[(&[&str], &str)] = &[
        (
            &[PEER],
            "--initial-cluster has default=http://localhost:2380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:2380 (resolved urls: \"http://127.0.0.1:2380\" != \"http://localhost:2380\")",
        ),
        (
            &["--name=a", PEER, "--initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2"],
            "--initial-cluster has a=http://127.0.0.1:1,a=http://127.0.0.1:2 but missing from",
        ),
        (
            &[
                "--name=a",
                "--initial-advertise-peer-urls=http://127.0.0.1:1,http://127.0.0.1:2",
                "--initial-cluster=a=http://127.0.0.1:1",
            ],
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=a=http://127.0.0.1:1",
        ),
    ];
    for (arguments, message) in CASES {
        let found = config(arguments).check_before_bootstrap().expect_err("inconsistent");
        assert!(found.starts_with(message), "{found}");
    }
    let same = config(&["--name=a", PEER, "--initial-cluster=a=http://127.0.0.1:2380"]);
    assert_eq!(same.check_before_bootstrap(), Ok(()));
    let mut twice = config(&[
        "--name=a",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster=a=http://127.0.0.1:1",
    ]);
    twice.cluster.initial.push_str(",b=http://127.0.0.1:1");
    assert_eq!(
        twice.check_before_bootstrap(),
        Err("initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url".to_owned())
    );
    twice.name = "c".to_owned();
    assert_eq!(
        twice.check_before_bootstrap(),
        Err("couldn't find local name \"c\" in the initial cluster configuration".to_owned())
    );
}

#[test]
fn log_rotation() {
    let config = config(&[
        "--enable-log-rotation",
        "--log-outputs=/tmp/x.log",
        "--log-rotation-config-json={\"maxsize\": 3, \"maxbackups\": 2}",
    ]);
    assert_eq!(config.log.rotation, Some(LogRotation { max_bytes: 3 << 20, max_age_days: 0, max_backups: 2 }));
    for (json, start) in
        [("{", "improperly formatted log rotation config"), ("{\"maxsize\": \"x\"}", "invalid log rotation config")]
    {
        let (_, message) =
            refusal(&["--enable-log-rotation", "--log-outputs=x", &format!("--log-rotation-config-json={json}")], &[]);
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn other_architectures_have_to_be_asked_for() {
    let environment = |value: &str| BTreeMap::from([("ETCD_UNSUPPORTED_ARCH".to_owned(), value.to_owned())]);
    assert!(load_on(&[], &environment("riscv64"), "riscv64", || None).is_ok());
    assert!(load_on(&[], &environment("riscv"), "riscv64", || None).is_err());
    assert!(load_on(&[], &BTreeMap::new(), "riscv64", || None).is_err());
}

// What must hold for every flag.

#[test]
fn every_flag_is_well_formed() {
    let mut names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).chain(OLD_FLAGS.iter().map(|old| old.name)).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "names are unique over both tables");
    for flag in FLAGS {
        let name = flag.name;
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
        assert!(flag.kind.read_default(flag.default).is_ok(), "the default of {name} can be read");
        assert!(flag.help.ends_with('.') && flag.help.len() > 10, "{name} is explained");
        assert!(flag.env_name().starts_with("ETCD_") && !flag.env_name().contains('-'), "{name}");
        if let Yaml::At(path) = flag.yaml {
            assert!(path.len() >= 2, "{name} is nested");
        }
    }
    for old in OLD_FLAGS {
        let successor = match old.meaning {
            Meaning::Renamed(to) => registry::find(to),
            Meaning::Gate(_) => registry::find("feature-gates"),
            _ => continue,
        };
        let successor = successor.unwrap_or_else(|| panic!("{} has a successor", old.name));
        assert!(old.value_optional == (successor.kind == Kind::Bool) || successor.kind == Kind::Gates, "{}", old.name);
    }
}

#[test]
fn every_flag_has_a_meaning() {
    let recorded = Recorded::default();
    let mut notices = Vec::new();
    let _ = resolve(&recorded, || None, &mut notices).expect("defaults are fine");
    let looked_up = recorded.looked_up.borrow();
    // Those that act before there is a configuration, and one whose value has no meaning.
    let elsewhere = ["config-file", "version", "v2-deprecation"];
    for flag in FLAGS {
        let name = flag.name;
        assert!(looked_up.contains(name) || elsewhere.contains(&name), "--{name} is accepted but means nothing");
    }
}

/// A value of the flag's kind that is not its default, as text and as it stands in a file.
fn example(flag: &registry::Flag) -> (String, String) {
    let plain = |text: &str| (text.to_owned(), text.to_owned());
    match flag.kind {
        Kind::Bool if flag.default == "true" => plain("false"),
        Kind::Bool => plain("true"),
        Kind::Uint(_) | Kind::Int => plain("77"),
        Kind::Duration => ("77s".to_owned(), "77000000000".to_owned()),
        Kind::Text => plain("sample"),
        Kind::Choice(words) => plain(words[1]),
        Kind::Choices(words) => plain(words[0]),
        Kind::Urls | Kind::Origins => plain("http://127.0.0.7:77"),
        Kind::Set | Kind::List => ("x,y".to_owned(), "[x, y]".to_owned()),
        Kind::Gates => plain("CompactHashCheck=true"),
    }
}

#[test]
fn every_flag_means_the_same_from_every_source() {
    for flag in FLAGS {
        let name = flag.name;
        let (text, yaml) = example(flag);
        let mut by_flag = Recorded::default();
        let arguments = [format!("--{name}={text}")];
        let command_line = sources::read_arguments(&arguments, &mut by_flag).expect(name);
        assert!(command_line.names.contains(name));
        assert!(by_flag.is_given(name), "{name} by flag");

        if flag.env_name() == "ETCD_VERSION" {
            continue; // reserved, and in no file either
        }
        let mut by_env = Recorded::default();
        let environment = BTreeMap::from([(flag.env_name(), text.clone())]);
        let nothing = sources::read_arguments(&[], &mut by_env).expect("nothing");
        sources::read_environment(&environment, &nothing, &mut by_env).expect(name);
        assert_eq!(by_flag.given_value(name), by_env.given_value(name), "{name} by environment");

        let path: &[&str] = match flag.yaml {
            Yaml::None => continue,
            Yaml::Top => &[name],
            Yaml::At(path) => path,
        };
        let document: String =
            path.iter().enumerate().map(|(depth, key)| format!("\n{}{key}:", "  ".repeat(depth))).collect();
        let mut by_file = Recorded::default();
        file::read(&format!("{document} {yaml}"), &mut by_file).expect(name);
        assert_eq!(by_flag.given_value(name), by_file.given_value(name), "{name} by file");
    }
}

#[test]
fn no_value_of_any_flag_panics() {
    const TEXTS: &[&str] =
        &["", "0", "-1", "1", "true", "x", "18446744073709551615", "99h", "*", "a=b", ",", "http://a:1", "é"];
    let names = FLAGS.iter().map(|flag| flag.name).chain(OLD_FLAGS.iter().map(|old| old.name));
    for name in names {
        for text in TEXTS {
            // Whether it is accepted is the tables' business; here it only must not panic.
            let _ = run(&[&format!("--{name}={text}")], &[]);
            let _ = run(&[], &[(&registry::env_name(name), text)]);
        }
    }
}

/// A negative number made the server compact without pause.
#[test]
fn ghsa_pm3m_32r3_7mfh_a_negative_retention_compacts_nothing() {
    for mode in ["periodic", "revision"] {
        let mode = format!("--auto-compaction-mode={mode}");
        let (_, text) = refusal(&[&mode, "--auto-compaction-retention=-1"], &[]);
        assert!(text.contains("error parsing CompactionRetention"), "{text}");
        let config = config(&[&mode, "--auto-compaction-retention=-1h"]);
        assert_eq!(config.storage.auto_compaction(), Ok(AutoCompaction::Off), "{mode}");
    }
}
