//! Every flag, once. Parser, environment, configuration file, help and the tests over all flags are fed from here.
//!
//! Names, defaults and kinds are etcd 3.7's; the last section is our own. Old names live in `legacy`, what
//! is understood but not built yet in `unsupported`.

use super::value::Kind;

/// One flag. Its environment variable is `ETCD_` and the name in upper case with `_` for `-`.
#[derive(Debug)]
pub struct Flag {
    /// The name without dashes in front.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: Kind,
    /// The value when it is not given, as one would write it.
    pub default: &'static str,
    /// Where the configuration file has it.
    pub yaml: Yaml,
    /// Where the help lists it.
    pub section: Section,
    /// One or two sentences of help.
    pub help: &'static str,
}

/// Where a configuration file has the value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yaml {
    /// At the top level, under the name of the flag.
    Top,
    /// Nested, under these keys.
    At(&'static [&'static str]),
    /// Nowhere: command line and environment only.
    None,
}

/// Headings of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Section {
    Member,
    Clustering,
    Security,
    Auth,
    Logging,
    Monitoring,
    Tracing,
    Maintenance,
    Unsafe,
    Start,
    Plinth,
}

impl Section {
    /// All sections in the order of the help.
    pub const ALL: &'static [Section] = &[
        Section::Member,
        Section::Clustering,
        Section::Security,
        Section::Auth,
        Section::Monitoring,
        Section::Logging,
        Section::Tracing,
        Section::Maintenance,
        Section::Unsafe,
        Section::Plinth,
        Section::Start,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Section::Member => "Member",
            Section::Clustering => "Clustering",
            Section::Security => "Security",
            Section::Auth => "Auth",
            Section::Logging => "Logging",
            Section::Monitoring => "Profiling and monitoring",
            Section::Tracing => "Distributed tracing",
            Section::Maintenance => "Checks, compaction and feature gates",
            Section::Unsafe => "Unsafe (may lose data)",
            Section::Plinth => "Plinth only",
            Section::Start => "Start-up",
        }
    }
}

use Kind::{Bool, Choice, Choices, Duration, Gates, Int, List, Origins, Set, Text, Uint, Urls};
use Section::{Auth, Clustering, Logging, Maintenance, Member, Monitoring, Plinth, Security, Start, Tracing, Unsafe};
use Yaml::{At, Top};

const V2_STAGES: &[&str] = &["gone", "write-only", "write-only-drop-data", "write-only-skip-check"];

const CLIENT: &str = "client-transport-security";
const PEER: &str = "peer-transport-security";
const DISCOVERY: &str = "discovery-config";

/// The table. Grouped as the help is.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    // Member
    flag(Member, "name", Text, "default", Top, "Name of this member, for people and for --initial-cluster."),
    flag(Member, "data-dir", Text, "", Top, "Data directory. Empty: the name of the member with .etcd behind it."),
    flag(Member, "wal-dir", Text, "", Top, "Directory of the write-ahead log, if it should not lie in the data directory."),
    flag(Member, "snapshot-count", Uint(64), "10000", Top, "Applied entries between two snapshots of the Raft log."),
    flag(Member, "snapshot-catchup-entries", Uint(64), "5000", Top, "Raft entries kept behind a snapshot for slow followers."),
    flag(Member, "heartbeat-interval", Uint(64), "100", Top, "Milliseconds between heartbeats."),
    flag(Member, "election-timeout", Uint(64), "1000", Top, "Milliseconds without heartbeat before an election."),
    flag(Member, "initial-election-tick-advance", Bool, "true", Top, "Skip most of the first election timeout after a start."),
    flag(Member, "listen-peer-urls", Urls, "http://localhost:2380", Top, "Where to listen for peers."),
    flag(Member, "listen-client-urls", Urls, "http://localhost:2379", Top, "Where to listen for clients: gRPC, and HTTP unless --listen-client-http-urls is given."),
    flag(Member, "listen-client-http-urls", Urls, "", Top, "Where to listen for HTTP, which --listen-client-urls then no longer serves."),
    flag(Member, "max-snapshots", Uint(64), "5", Top, "Snapshot files to keep (0: all). Deprecated."),
    flag(Member, "max-wals", Uint(64), "5", Top, "Log files to keep (0: all). Plinth recycles segments instead."),
    flag(Member, "memory-mlock", Bool, "false", Top, "Lock memory, so that it is never swapped out."),
    flag(Member, "quota-backend-bytes", Int, "0", Top, "Size of the database that raises the NOSPACE alarm (0: 2 GiB; negative: none)."),
    flag(Member, "backend-bbolt-freelist-type", Text, "", Top, "Free list of etcd's backend (array or map). Plinth has no such list."),
    flag(Member, "backend-batch-interval", Duration, "0s", Top, "Time between flushes of the page file (0: 100ms)."),
    flag(Member, "backend-batch-limit", Int, "0", Top, "Operations between flushes of the page file (0: 10000)."),
    flag(Member, "max-txn-ops", Uint(64), "128", Top, "Operations allowed in one transaction."),
    flag(Member, "max-request-bytes", Uint(64), "1572864", Top, "Size of a request that is still accepted."),
    flag(Member, "max-concurrent-streams", Uint(32), "4294967295", Top, "HTTP/2 streams one client connection may have open."),
    flag(Member, "grpc-keepalive-min-time", Duration, "5s", Top, "Shortest time between two pings of a client."),
    flag(Member, "grpc-keepalive-interval", Duration, "2h0m0s", Top, "Time after which an idle client is pinged (0: never)."),
    flag(Member, "grpc-keepalive-timeout", Duration, "20s", Top, "Time a client has to answer a ping (0: for ever)."),
    flag(Member, "socket-reuse-port", Bool, "false", At(&["socket-options", "reuse-port"]), "Set SO_REUSEPORT on listeners."),
    flag(Member, "socket-reuse-address", Bool, "false", At(&["socket-options", "reuse-address"]), "Set SO_REUSEADDR on listeners."),
    flag(Member, "enable-grpc-gateway", Bool, "true", Top, "Serve the JSON gateway below /v3/."),
    flag(Member, "enable-v2", Bool, "false", Top, "Serve etcd's v2 API below /v2/."),
    flag(Member, "raft-read-timeout", Duration, "5s", Yaml::None, "Read timeout of peer connections; at least 5s."),
    flag(Member, "raft-write-timeout", Duration, "5s", Yaml::None, "Write timeout of peer connections; at least 5s."),
    flag(Member, "watch-progress-notify-interval", Duration, "0s", Top, "Time between progress notifications of watches that asked for them (0: 10m)."),
    flag(Member, "warning-apply-duration", Duration, "100ms", Top, "Log requests that take longer than this to apply."),
    flag(Member, "warning-unary-request-duration", Duration, "300ms", Top, "Log unary requests that take longer than this."),
    flag(Member, "max-learners", Int, "1", Top, "Learners allowed in the cluster."),
    // Clustering
    flag(Clustering, "initial-advertise-peer-urls", Urls, "http://localhost:2380", Top, "This member's peer URLs, as told to others."),
    flag(Clustering, "initial-cluster", Text, "default=http://localhost:2380", Top, "Members at bootstrap: name=url,name=url."),
    flag(Clustering, "initial-cluster-state", Choice(&["new", "existing"]), "new", Top, "new to bootstrap a cluster, existing to join one. Ignored once there is data."),
    flag(Clustering, "initial-cluster-token", Text, "etcd-cluster", Top, "Token that tells clusters of the same members apart."),
    flag(Clustering, "advertise-client-urls", Urls, "http://localhost:2379", Top, "This member's client URLs, as told to clients."),
    flag(Clustering, "discovery-token", Text, "", At(&[DISCOVERY, "token"]), "Token at the discovery service."),
    flag(Clustering, "discovery-endpoints", Set, "", At(&[DISCOVERY, "client", "endpoints"]), "Endpoints of the discovery service."),
    flag(Clustering, "discovery-dial-timeout", Duration, "2s", At(&[DISCOVERY, "client", "dial-timeout"]), "Discovery: time to connect."),
    flag(Clustering, "discovery-request-timeout", Duration, "5s", At(&[DISCOVERY, "client", "request-timeout"]), "Discovery: time for a request."),
    flag(Clustering, "discovery-keepalive-time", Duration, "2s", At(&[DISCOVERY, "client", "keepalive-time"]), "Discovery: time between pings."),
    flag(Clustering, "discovery-keepalive-timeout", Duration, "6s", At(&[DISCOVERY, "client", "keepalive-timeout"]), "Discovery: time to answer a ping."),
    flag(Clustering, "discovery-insecure-transport", Bool, "true", At(&[DISCOVERY, "client", "secure", "insecure-transport"]), "Discovery: connect without TLS."),
    flag(Clustering, "discovery-insecure-skip-tls-verify", Bool, "false", At(&[DISCOVERY, "client", "secure", "insecure-skip-tls-verify"]), "Discovery: do not verify the certificate. For tests only."),
    flag(Clustering, "discovery-cert", Text, "", At(&[DISCOVERY, "client", "secure", "cert"]), "Discovery: client certificate."),
    flag(Clustering, "discovery-key", Text, "", At(&[DISCOVERY, "client", "secure", "key"]), "Discovery: key of the client certificate."),
    flag(Clustering, "discovery-cacert", Text, "", At(&[DISCOVERY, "client", "secure", "cacert"]), "Discovery: CA bundle."),
    flag(Clustering, "discovery-user", Text, "", At(&[DISCOVERY, "client", "auth", "username"]), "Discovery: user[:password]."),
    flag(Clustering, "discovery-password", Text, "", At(&[DISCOVERY, "client", "auth", "password"]), "Discovery: password."),
    flag(Clustering, "discovery-fallback", Choice(&["exit", "proxy"]), "exit", Yaml::None, "What to do when discovery fails; only exit is left."),
    flag(Clustering, "discovery-srv", Text, "", Top, "DNS domain whose SRV records list the initial cluster."),
    flag(Clustering, "discovery-srv-name", Text, "", Top, "Suffix of the SRV service names."),
    flag(Clustering, "strict-reconfig-check", Bool, "true", Top, "Refuse member changes that would endanger the quorum."),
    flag(Clustering, "pre-vote", Bool, "true", Top, "Ask before campaigning, so that a returning member does not disturb the leader."),
    flag(Clustering, "auto-compaction-mode", Text, "periodic", Top, "Unit of --auto-compaction-retention: periodic or revision."),
    flag(Clustering, "auto-compaction-retention", Text, "0", Top, "History to keep: a duration (a bare number: hours) or a number of revisions (0: all)."),
    flag(Clustering, "v2-deprecation", Choices(V2_STAGES), "", Yaml::None, "Phase of the removed v2 store. Accepted and ignored."),
    // Security
    flag(Security, "cert-file", Text, "", At(&[CLIENT, "cert-file"]), "Certificate shown to clients."),
    flag(Security, "key-file", Text, "", At(&[CLIENT, "key-file"]), "Key of --cert-file."),
    flag(Security, "client-cert-file", Text, "", At(&[CLIENT, "client-cert-file"]), "Certificate for calls of the server to itself, if another than --cert-file."),
    flag(Security, "client-key-file", Text, "", At(&[CLIENT, "client-key-file"]), "Key of --client-cert-file."),
    flag(Security, "client-cert-auth", Bool, "false", At(&[CLIENT, "client-cert-auth"]), "Demand certificates of clients."),
    flag(Security, "trusted-ca-file", Text, "", At(&[CLIENT, "trusted-ca-file"]), "CA bundle for certificates of clients."),
    flag(Security, "client-crl-file", Text, "", Yaml::None, "Revoked certificates of clients."),
    flag(Security, "client-cert-allowed-hostname", List, "", At(&[CLIENT, "allowed-hostname"]), "Names allowed in certificates of clients."),
    flag(Security, "auto-tls", Bool, "false", At(&[CLIENT, "auto-tls"]), "Serve clients with a self-signed certificate."),
    flag(Security, "peer-cert-file", Text, "", At(&[PEER, "cert-file"]), "Certificate shown to peers."),
    flag(Security, "peer-key-file", Text, "", At(&[PEER, "key-file"]), "Key of --peer-cert-file."),
    flag(Security, "peer-client-cert-file", Text, "", At(&[PEER, "client-cert-file"]), "Certificate for dialing peers, if another than --peer-cert-file."),
    flag(Security, "peer-client-key-file", Text, "", At(&[PEER, "client-key-file"]), "Key of --peer-client-cert-file."),
    flag(Security, "peer-client-cert-auth", Bool, "false", At(&[PEER, "client-cert-auth"]), "Demand certificates of peers."),
    flag(Security, "peer-trusted-ca-file", Text, "", At(&[PEER, "trusted-ca-file"]), "CA bundle for certificates of peers."),
    flag(Security, "peer-crl-file", Text, "", Yaml::None, "Revoked certificates of peers."),
    flag(Security, "peer-cert-allowed-cn", List, "", At(&[PEER, "allowed-cn"]), "Common names allowed in certificates of peers."),
    flag(Security, "peer-cert-allowed-hostname", List, "", At(&[PEER, "allowed-hostname"]), "Names allowed in certificates of peers."),
    flag(Security, "peer-auto-tls", Bool, "false", At(&[PEER, "auto-tls"]), "Serve peers with a self-signed certificate."),
    flag(Security, "peer-skip-client-san-verification", Bool, "false", At(&[PEER, "skip-client-san-verification"]), "Do not match a peer's certificate with its address."),
    flag(Security, "self-signed-cert-validity", Uint(64), "1", Top, "Years self-signed certificates are valid."),
    flag(Security, "cipher-suites", List, "", Top, "TLS cipher suites, by Go's names (empty: a good choice)."),
    flag(Security, "tls-min-version", Text, "TLS1.2", Top, "Lowest TLS version: TLS1.2 or TLS1.3."),
    flag(Security, "tls-max-version", Text, "", Top, "Highest TLS version (empty: the newest)."),
    flag(Security, "cors", Origins, "*", Top, "Origins allowed to call from browsers (*: all)."),
    flag(Security, "host-whitelist", Set, "*", Top, "Host headers accepted over plain HTTP (*: all)."),
    // Auth
    flag(Auth, "auth-token", Text, "simple", Top, "Kind of token and its options: simple, or jwt,pub-key=..,priv-key=..,sign-method=..,ttl=.."),
    flag(Auth, "bcrypt-cost", Uint(64), "10", Top, "Cost of hashing passwords, 4 to 31."),
    flag(Auth, "auth-token-ttl", Uint(64), "300", Top, "Seconds a simple token lives without being used."),
    // Logging
    flag(Logging, "logger", Text, "zap", Top, "Shape of the log; only zap."),
    flag(Logging, "log-outputs", Set, "default", Top, "Where to log: default, stderr, stdout, systemd/journal, or files."),
    flag(Logging, "log-level", Text, "info", Top, "Least severe level logged: debug, info, warn, error, panic, fatal."),
    flag(Logging, "log-format", Text, "json", Top, "json or console."),
    flag(Logging, "enable-log-rotation", Bool, "false", Top, "Rotate the log file; needs exactly one."),
    flag(Logging, "log-rotation-config-json", Text, DEFAULT_LOG_ROTATION, Top, "Rotation: megabytes, days and number of files."),
    // Monitoring
    flag(Monitoring, "enable-pprof", Bool, "false", Top, "Serve profiles below /debug/pprof/."),
    flag(Monitoring, "metrics", Text, "basic", Top, "basic, or extensive for latency histograms of every RPC."),
    flag(Monitoring, "listen-metrics-urls", Urls, "", Top, "Where else to serve /metrics, /health, /livez and /readyz."),
    // Tracing
    flag(Tracing, "enable-distributed-tracing", Bool, "false", Top, "Export traces (OpenTelemetry)."),
    flag(Tracing, "distributed-tracing-address", Text, "localhost:4317", Top, "Address of the collector."),
    flag(Tracing, "distributed-tracing-service-name", Text, "etcd", Top, "Service name in traces."),
    flag(Tracing, "distributed-tracing-instance-id", Text, "", Top, "Instance id in traces."),
    flag(Tracing, "distributed-tracing-sampling-rate", Int, "0", Top, "Traces started here, per million."),
    // Maintenance
    flag(Maintenance, "corrupt-check-time", Duration, "0s", Top, "Time between corruption checks of the cluster (0: none)."),
    flag(Maintenance, "compact-hash-check-time", Duration, "1m0s", Top, "Time between checks of compaction hashes."),
    flag(Maintenance, "compaction-batch-limit", Int, "0", Top, "Revisions a compaction drops at once (0: 1000)."),
    flag(Maintenance, "compaction-sleep-interval", Duration, "0s", Top, "Pause between batches of a compaction (0: 10ms)."),
    flag(Maintenance, "bootstrap-defrag-threshold-megabytes", Uint(64), "0", Top, "Shrink the database at start if that frees at least this much (0: never)."),
    flag(Maintenance, "downgrade-check-time", Duration, "5s", Top, "Time between checks of a downgrade's progress."),
    flag(Maintenance, "feature-gates", Gates, "", Top, "Feature gates: Name=true,Name=false."),
    // Unsafe
    flag(Unsafe, "force-new-cluster", Bool, "false", Top, "Make this member a new cluster of one."),
    flag(Unsafe, "unsafe-no-fsync", Bool, "false", Top, "Never flush to disk. Acknowledged writes may be lost."),
    // Plinth
    flag(Plinth, "reactors", Uint(32), "1", Top, "Threads that serve connections (0: one for every core)."),
    flag(Plinth, "v2-history", Uint(32), "100000", Top, "Changes of the v2 API that can be waited from, up to 64 MiB of them."),
    flag(Plinth, "follow", List, "", Top, "Endpoints of a running etcd cluster to be a standby of, until the cut-over."),
    flag(Plinth, "follow-trusted-ca-file", Text, "", Top, "CA bundle for the cluster that is followed."),
    flag(Plinth, "follow-cert-file", Text, "", Top, "Certificate shown to the cluster that is followed."),
    flag(Plinth, "follow-key-file", Text, "", Top, "Key of --follow-cert-file."),
    flag(Plinth, "follow-user", Text, "", Top, "User of the cluster that is followed, who has the role root: name[:password]."),
    flag(Plinth, "follow-password", Text, "", Top, "Password of --follow-user."),
    flag(Plinth, "follow-check-time", Duration, "10m0s", Top, "Time between comparisons with the cluster that is followed."),
    flag(Plinth, "backup-dir", Text, "", Top, "Folder for scheduled backups (empty: none are made)."),
    flag(Plinth, "backup-interval", Duration, "1h0m0s", Top, "Time between two backups; at least 1s."),
    flag(Plinth, "backup-keep", Uint(32), "24", Top, "Backups to keep; at least 1."),
    flag(Plinth, "enable-console", Bool, "false", Top, "Serve the console, a page for browsers, below /console/. Pages of other origins are then refused unless --cors names them."),
    flag(Plinth, "listen-console-urls", Urls, "", Top, "Where else to serve the console, with all that clients have."),
    flag(Plinth, "console-read-only", Bool, "false", Top, "Refuse what the console's page asks to be changed."),
    flag(Plinth, "metad-config", Text, "", Top, "Settings (YAML) of a metad that this process serves, too (empty: none)."),
    flag(Plinth, "pin-reactors", Bool, "false", Top, "Bind every reactor to a core of its own."),
    // Start-up
    flag(Start, "config-file", Text, "", Yaml::None, "YAML or JSON file with the configuration. All other flags and variables are then ignored."),
    flag(Start, "version", Bool, "false", Yaml::None, "Print the version and exit."),
];

/// etcd's default of `--log-rotation-config-json`.
pub(super) const DEFAULT_LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

const fn flag(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    yaml: Yaml,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, yaml, section, help }
}

impl Flag {
    /// The environment variable.
    pub fn env_name(&self) -> String {
        env_name(self.name)
    }
}

/// The environment variable of a flag's name.
pub fn env_name(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// The flag of this name.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}
