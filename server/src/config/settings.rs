//! What the configuration means: typed settings, as the rest of the server uses them.
//!
//! Built once (see `build.rs`) and never changed afterwards, except that addresses are filled in from the machine
//! (`defaults.rs`). Zeros that stand for defaults are resolved, so that nobody else has to know them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::gates::FeatureGates;
use super::url::{Url, parse_urls};
use plinth_api::go::parse_duration;

/// The name of a member that was not given one.
pub const DEFAULT_NAME: &str = "default";
/// The quota when `--quota-backend-bytes` is 0.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// A quota above this is warned about.
pub const SUGGESTED_QUOTA_BYTES_MAX: i64 = 8 * 1024 * 1024 * 1024;
/// A request size above this is warned about.
pub const SUGGESTED_REQUEST_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Requests are served up to this size: half of what a command may have in an entry, because encoded for the log it may
/// be larger. More is accepted as a setting, as etcd accepts any number, and warned about.
pub const REQUEST_BYTES_MAX: u64 = plinth_raft::limits::COMMAND_BYTES_MAX as u64 / 2;
/// The longest election timeout that is accepted.
pub const ELECTION_TIMEOUT_MILLIS_MAX: u64 = 50_000;
/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--name`
    pub name: String,
    /// `--data-dir`
    pub data_dir: PathBuf,
    /// `--wal-dir`, if not inside the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where to listen and what to advertise.
    pub addresses: Addresses,
    /// Limits of requests and connections.
    pub limits: Limits,
    /// Consensus: timing, log, membership.
    pub cluster: Cluster,
    /// Storage: quota, flushing, compaction.
    pub storage: Storage,
    /// TLS towards clients.
    pub client_tls: Tls,
    /// TLS towards peers.
    pub peer_tls: Tls,
    /// What TLS listeners have in common.
    pub tls: TlsCommon,
    /// Access over plain HTTP.
    pub http: Http,
    /// Authentication.
    pub auth: Auth,
    pub log: Log,
    /// Metrics and traces.
    pub monitoring: Monitoring,
    /// `--feature-gates`
    pub gates: FeatureGates,
    /// `--watch-progress-notify-interval`; at least 100 ms.
    pub watch_progress_interval: Duration,
    /// Threads.
    pub reactors: Reactors,
    /// `--memory-mlock`
    pub memory_mlock: bool,
    /// The cluster to follow, if any.
    pub follow: Option<Follow>,
    /// Scheduled backups, if any.
    pub backup: Option<Backup>,
    /// `--metad-config`: a file, if any.
    pub metad: Option<String>,
}

/// Scheduled backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// `--backup-dir`
    pub folder: PathBuf,
    /// `--backup-interval`; at least a second.
    pub interval: Duration,
    /// `--backup-keep`; at least 1.
    pub keep: usize,
}

/// A running cluster to be a standby of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// `--follow`
    pub endpoints: Vec<String>,
    /// `--follow-trusted-ca-file`
    pub trusted_ca_file: Option<String>,
    /// `--follow-cert-file`
    pub cert_file: Option<String>,
    /// `--follow-key-file`
    pub key_file: Option<String>,
    /// `--follow-user` and its password, which may be in `--follow-password`.
    pub user: Option<(String, String)>,
    /// `--follow-check-time`; at least a second.
    pub check_interval: Duration,
}

/// Where to listen and what to advertise.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `--listen-peer-urls`
    pub listen_peer: Vec<Url>,
    /// `--listen-client-urls`
    pub listen_client: Vec<Url>,
    /// `--listen-client-http-urls`; if any, `listen_client` serves gRPC only.
    pub listen_client_http: Vec<Url>,
    /// `--listen-metrics-urls`
    pub listen_metrics: Vec<Url>,
    /// `--listen-console-urls`
    pub listen_console: Vec<Url>,
    /// `--initial-advertise-peer-urls`
    pub advertise_peer: Vec<Url>,
    /// `--advertise-client-urls`. Empty if clients' listeners were given without them, which is refused.
    pub advertise_client: Vec<Url>,
    /// `--socket-reuse-port`
    pub reuse_port: bool,
    /// `--socket-reuse-address`
    pub reuse_address: bool,
}

/// Limits of requests and connections.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `--max-txn-ops`
    pub txn_ops_max: u64,
    /// `--max-request-bytes`, at most `REQUEST_BYTES_MAX`.
    pub request_bytes_max: u64,
    /// `--max-concurrent-streams`
    pub concurrent_streams_max: u32,
    /// `--grpc-keepalive-min-time`
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`; `None` switches the server's pings off.
    pub keepalive_interval: Option<Duration>,
    /// `--grpc-keepalive-timeout`; `None` waits for ever.
    pub keepalive_timeout: Option<Duration>,
    /// `--warning-apply-duration`
    pub slow_apply: Duration,
    /// `--warning-unary-request-duration`
    pub slow_unary_request: Duration,
}

impl Limits {
    /// Largest request message that is received; what is above `request_bytes_max` of it is refused later, by its handler.
    pub fn message_bytes_max(&self) -> usize {
        self.request_bytes_max as usize + (512 << 10)
    }
}

/// Whether there is a cluster to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Bootstrap.
    New,
    /// Join.
    Existing,
}

impl ClusterState {
    /// The flag's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        }
    }
}

/// Consensus: timing, log, membership.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `--initial-cluster` as text; see [`Cluster::initial_members`].
    pub initial: String,
    /// Whether `--initial-cluster` was given.
    pub initial_is_given: bool,
    /// `--initial-cluster-state`
    pub state: ClusterState,
    /// `--initial-cluster-token`
    pub token: String,
    /// `--heartbeat-interval`: the length of a tick.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`
    pub election_timeout: Duration,
    /// `--initial-election-tick-advance`
    pub initial_tick_advance: bool,
    /// `--pre-vote`
    pub pre_vote: bool,
    /// `--strict-reconfig-check`
    pub strict_reconfig_check: bool,
    /// `--max-learners`
    pub learners_max: i64,
    /// `--snapshot-count`
    pub snapshot_entries: u64,
    /// `--snapshot-catchup-entries`, if it was given: entries here hold many commands, so that etcd's number means little.
    pub catch_up_entries: Option<u64>,
    /// The same as etcd shows it, with its default.
    pub catch_up_shown: u64,
    /// `--raft-read-timeout`, at least 5 s.
    pub read_timeout: Duration,
    /// `--raft-write-timeout`, at least 5 s.
    pub write_timeout: Duration,
    /// Bootstrap by discovery.
    pub discovery: Discovery,
    /// `--corrupt-check-time`; `None`: never.
    pub corrupt_check_interval: Option<Duration>,
    /// `--compact-hash-check-time`
    pub compact_hash_check_interval: Duration,
    /// `--downgrade-check-time`
    pub downgrade_check_interval: Duration,
    /// `--force-new-cluster`
    pub force_new: bool,
}

impl Cluster {
    /// Members at bootstrap, by name. A name without URL gets an error in etcd's words.
    pub fn initial_members(&self) -> Result<BTreeMap<String, Vec<Url>>, String> {
        let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for member in self.initial.split(',').filter(|member| !member.is_empty()) {
            let (name, url) = member.split_once('=').unwrap_or((member, ""));
            texts.entry(name).or_default().push(url);
        }
        texts.into_iter().map(|(name, urls)| Ok((name.to_owned(), parse_urls(urls.into_iter())?))).collect()
    }

    /// Ticks without heartbeat before an election.
    pub fn election_ticks(&self) -> u32 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        u32::try_from(ticks).expect("the election timeout is checked to be at most 50 s")
    }

    /// How long a request may take: 5 s, and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.heartbeat_interval * self.election_ticks()
    }
}

/// Bootstrap by discovery.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// `--discovery-token`
    pub token: String,
    /// `--discovery-endpoints`
    pub endpoints: Vec<String>,
    /// `--discovery-srv`
    pub srv_domain: String,
    /// `--discovery-srv-name`
    pub srv_name: String,
    /// `--discovery-dial-timeout`
    pub dial_timeout: Duration,
    /// `--discovery-request-timeout`
    pub request_timeout: Duration,
    /// `--discovery-keepalive-time`
    pub keepalive_time: Duration,
    /// `--discovery-keepalive-timeout`
    pub keepalive_timeout: Duration,
    /// `--discovery-insecure-transport`
    pub insecure_transport: bool,
    /// `--discovery-insecure-skip-tls-verify`
    pub insecure_skip_verify: bool,
    /// `--discovery-cert`, `--discovery-key`, `--discovery-cacert`
    pub certificate_files: [String; 3],
    /// `--discovery-user`
    pub user: String,
    /// `--discovery-password`
    pub password: String,
    /// `--discovery-fallback`
    pub fallback: String,
}

/// How much history compaction keeps by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    Off,
    /// What is younger than this.
    Periodic(Duration),
    /// The last so many revisions.
    Revision(i64),
}

/// Storage: quota, flushing, compaction.
#[derive(Clone, Debug)]
pub struct Storage {
    /// `--quota-backend-bytes` as given; see [`Storage::quota_bytes`].
    pub quota_flag: i64,
    /// `--backend-batch-interval`
    pub flush_interval: Duration,
    /// `--backend-batch-limit`
    pub flush_operations: u64,
    /// `--backend-bbolt-freelist-type`, which has no meaning here.
    pub freelist_type: String,
    /// `--auto-compaction-mode`
    pub auto_compaction_mode: String,
    /// `--auto-compaction-retention` as text; see [`Storage::auto_compaction`].
    pub auto_compaction_retention: String,
    /// `--compaction-batch-limit`
    pub compaction_batch: u64,
    /// `--compaction-sleep-interval`; none unless it was given, because steps are short and in the background anyway.
    pub compaction_pause: Duration,
    /// `--bootstrap-defrag-threshold-megabytes`; `None`: never.
    pub shrink_threshold_megabytes: Option<u64>,
    /// `--max-snapshots`
    pub snapshot_files_max: u64,
    /// `--max-wals`
    pub wal_files_max: u64,
    /// `--unsafe-no-fsync`
    pub no_fsync: bool,
}

impl Storage {
    /// The size that raises the NOSPACE alarm, or `None` if nothing does.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.quota_flag {
            0 => Some(DEFAULT_QUOTA_BYTES as u64),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// What metric `etcd_server_quota_backend_bytes` shows: a negative flag as it is.
    pub fn quota_metric(&self) -> i64 {
        if self.quota_flag == 0 { DEFAULT_QUOTA_BYTES } else { self.quota_flag }
    }

    /// What mode and retention together ask for. A bare number counts hours or revisions; otherwise a duration.
    pub fn auto_compaction(&self) -> Result<AutoCompaction, String> {
        let retention = if self.auto_compaction_retention.is_empty() { "0" } else { &self.auto_compaction_retention };
        let revisions = self.auto_compaction_mode == "revision";
        let bare = retention.strip_prefix('+').unwrap_or(retention);
        let bare = Some(bare).filter(|bare| bare.bytes().all(|byte| byte.is_ascii_digit()));
        let amount = match bare.and_then(|bare| bare.parse::<i64>().ok()) {
            Some(number) if revisions => number,
            Some(hours) => hours.checked_mul(3_600_000_000_000).ok_or("error parsing CompactionRetention: too long")?,
            // etcd takes a duration in revision mode as its number of nanoseconds; so be it.
            None => {
                parse_duration(retention).map_err(|reason| format!("error parsing CompactionRetention: {reason}"))?
            }
        };
        Ok(match (amount, revisions) {
            (..=0, _) => AutoCompaction::Off,
            (revisions, true) => AutoCompaction::Revision(revisions),
            (nanoseconds, false) => AutoCompaction::Periodic(Duration::from_nanos(nanoseconds as u64)),
        })
    }
}

/// TLS towards clients or peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate and key of the listener.
    pub cert_file: Option<PathBuf>,
    /// Key of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Certificate for dialing, if another.
    pub client_cert_file: Option<PathBuf>,
    /// Key of `client_cert_file`.
    pub client_key_file: Option<PathBuf>,
    /// Demand certificates.
    pub client_cert_auth: bool,
    /// CA bundle for these.
    pub trusted_ca_file: Option<PathBuf>,
    /// Revoked certificates.
    pub crl_file: Option<PathBuf>,
    /// Common names allowed (peers only).
    pub allowed_cns: Vec<String>,
    /// Names allowed.
    pub allowed_hostnames: Vec<String>,
    /// Make a certificate of our own.
    pub auto: bool,
    /// Do not match a peer's certificate with its address (peers only).
    pub skip_san_verification: bool,
}

/// What TLS listeners have in common.
#[derive(Clone, Debug)]
pub struct TlsCommon {
    /// `--self-signed-cert-validity`
    pub self_signed_years: u64,
    /// `--cipher-suites`
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`
    pub min_version: String,
    /// `--tls-max-version`
    pub max_version: String,
}

/// Access over plain HTTP.
#[derive(Clone, Debug)]
pub struct Http {
    /// `--cors`
    pub cors: Vec<String>,
    /// `--host-whitelist`
    pub host_whitelist: Vec<String>,
    /// `--enable-grpc-gateway`
    pub gateway: bool,
    /// `--enable-v2`
    pub v2: bool,
    /// `--v2-history`
    pub v2_history: usize,
    /// `--enable-console`: listeners for clients serve it
    pub console: bool,
    /// `--console-read-only`
    pub console_read_only: bool,
    /// `--enable-pprof`, or log level debug
    pub pprof: bool,
}

/// Authentication.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `--auth-token`
    pub token: String,
    /// `--bcrypt-cost`, within 4 to 31.
    pub bcrypt_cost: u32,
    /// `--auth-token-ttl`
    pub token_ttl: Duration,
}

/// The least severe level logged. etcd knows two more above `Error`, which only tell how its process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The course of things.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Only what ends the process (`panic`, `fatal`).
    Fatal,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Columns for people.
    Console,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogOutput {
    /// `default` and `stderr`
    Stderr,
    /// `stdout`
    Stdout,
    /// `systemd/journal`
    Journal,
    /// A file that is appended to.
    File(PathBuf),
}

/// When a log file is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    /// Size at which a file is set aside.
    pub max_bytes: u64,
    /// Days a file that was set aside is kept; 0: for ever.
    pub max_age_days: u64,
    /// Files kept; 0: all.
    pub max_backups: u64,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `--log-level`
    pub level: LogLevel,
    /// `--log-format`
    pub format: LogFormat,
    /// `--log-outputs`
    pub outputs: Vec<LogOutput>,
    /// `--enable-log-rotation` and its configuration.
    pub rotation: Option<LogRotation>,
}

/// Metrics and traces.
#[derive(Clone, Debug)]
pub struct Monitoring {
    /// `--metrics=extensive`
    pub extensive: bool,
    /// `--enable-distributed-tracing`
    pub tracing: bool,
    /// `--distributed-tracing-address`
    pub tracing_address: String,
    /// `--distributed-tracing-service-name`
    pub tracing_service: String,
    /// `--distributed-tracing-instance-id`
    pub tracing_instance: String,
    /// `--distributed-tracing-sampling-rate`
    pub tracing_per_million: i64,
}

/// Threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reactors {
    /// `--reactors`: how many. 0: one for every core; see [`Reactors::count_on`].
    pub count: u32,
    /// `--pin-reactors`
    pub pin: bool,
}

impl Reactors {
    /// How many on a machine with so many cores.
    pub fn count_on(self, cores: u32) -> u32 {
        if self.count == 0 { cores.max(1) } else { self.count }
    }
}

impl Config {
    /// `<data-dir>/member`
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }
}
