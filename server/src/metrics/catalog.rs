//! The metrics of a reactor, one line each.
//!
//! Names, labels and buckets are etcd's, so that its dashboards and alerts work. Metrics of things Plinth does not
//! have (a v2 store, a backend with rebalancing) exist as constant zeros where etcd always shows them, because a
//! dashboard tells absence from zero. Metrics with labels appear once used, except where the label type says otherwise.

use plinth_net::grpc::Method;

use super::cell::{Bounds, Counter, Gauge, Histogram};
use super::family::{ClientRequests, Label, Labeled, PerMethod, PerMethodAndCode, Verdict, label_values};
use super::peers::PeerMetrics;
use super::schema::{Kind, Metric, Schema, label};

label_values! {
    /// What a request or an applied command is, as etcd names its Raft requests.
    pub enum Op {
        Range = "Range",
        ReadonlyTxn = "ReadonlyTxn",
        Put = "Put",
        DeleteRange = "DeleteRange",
        Txn = "Txn",
        Compaction = "Compaction",
        LeaseGrant = "LeaseGrant",
        LeaseRevoke = "LeaseRevoke",
        LeaseCheckpoint = "LeaseCheckpoint",
        Alarm = "Alarm",
        Authenticate = "Authenticate",
        AuthEnable = "AuthEnable",
        AuthDisable = "AuthDisable",
        AuthStatus = "AuthStatus",
        AuthUserAdd = "AuthUserAdd",
        AuthUserDelete = "AuthUserDelete",
        AuthUserGet = "AuthUserGet",
        AuthUserChangePassword = "AuthUserChangePassword",
        AuthUserGrantRole = "AuthUserGrantRole",
        AuthUserRevokeRole = "AuthUserRevokeRole",
        AuthUserList = "AuthUserList",
        AuthRoleList = "AuthRoleList",
        AuthRoleAdd = "AuthRoleAdd",
        AuthRoleDelete = "AuthRoleDelete",
        AuthRoleGet = "AuthRoleGet",
        AuthRoleGrantPermission = "AuthRoleGrantPermission",
        AuthRoleRevokePermission = "AuthRoleRevokePermission",
        ClusterVersionSet = "ClusterVersionSet",
        ClusterMemberAttrSet = "ClusterMemberAttrSet",
        DowngradeInfoSet = "DowngradeInfoSet",
        V2 = "V2",
    }
}

label_values! {
    /// A part of a request's way through the server.
    pub enum Stage {
        Edge = "edge",
        BatchWait = "batch_wait",
        WalFlush = "wal_flush",
        Apply = "apply",
        Respond = "respond",
    }
}

label_values! {
    /// A health check.
    pub enum Check {
        DataCorruption = "data_corruption",
        LinearizableRead = "linearizable_read",
        NonLearner = "non_learner",
        SerializableRead = "serializable_read",
    }
}

label_values! {
    /// An endpoint that runs health checks.
    pub enum Probe {
        Livez = "livez",
        Readyz = "readyz",
    }
}

label_values! {
    /// A status of the `/metrics` endpoint.
    pub enum ScrapeCode {
        Ok = "200",
        InternalError = "500",
        Unavailable = "503",
    }
}

/// Label `stage`; all stages are shown from the start.
impl Label for Stage {
    const COUNT: usize = Stage::ALL.len();
    const HIDDEN_UNTIL_USED: bool = false;
    fn index(self) -> usize {
        self as usize
    }
    fn at(index: usize) -> Self {
        Stage::ALL[index]
    }
    fn render(self) -> String {
        label("stage", self.as_str())
    }
}

/// Label `code`; all codes are shown from the start.
impl Label for ScrapeCode {
    const COUNT: usize = ScrapeCode::ALL.len();
    const HIDDEN_UNTIL_USED: bool = false;
    fn index(self) -> usize {
        self as usize
    }
    fn at(index: usize) -> Self {
        ScrapeCode::ALL[index]
    }
    fn render(self) -> String {
        label("code", self.as_str())
    }
}

/// Label `success` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Success(pub bool);

impl Label for Success {
    const COUNT: usize = 2;
    fn index(self) -> usize {
        usize::from(self.0)
    }
    fn at(index: usize) -> Self {
        Success(index == 1)
    }
    fn render(self) -> String {
        label("success", if self.0 { "true" } else { "false" })
    }
}

/// Labels `op`, `success` and `version` of applied commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What was applied.
    pub op: Op,
    /// Whether it succeeded.
    pub success: bool,
}

impl Label for Applied {
    const COUNT: usize = Op::ALL.len() * 2;
    fn index(self) -> usize {
        self.op as usize * 2 + usize::from(self.success)
    }
    fn at(index: usize) -> Self {
        Applied { op: Op::ALL[index / 2], success: index % 2 == 1 }
    }
    fn render(self) -> String {
        [label("op", self.op.as_str()), Success(self.success).render(), label("version", "v3")].join(",")
    }
}

/// Labels `success` and `type` of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What was asked for.
    pub op: Op,
    /// Whether it succeeded.
    pub success: bool,
}

impl Label for Request {
    const COUNT: usize = Applied::COUNT;
    fn index(self) -> usize {
        Applied { op: self.op, success: self.success }.index()
    }
    fn at(index: usize) -> Self {
        let Applied { op, success } = Applied::at(index);
        Request { op, success }
    }
    fn render(self) -> String {
        [Success(self.success).render(), label("type", self.op.as_str())].join(",")
    }
}

/// Labels `name` and `type` of health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The endpoint.
    pub probe: Probe,
    pub check: Check,
}

impl Label for Checked {
    const COUNT: usize = Probe::ALL.len() * Check::ALL.len();
    fn index(self) -> usize {
        self.probe as usize * Check::ALL.len() + self.check as usize
    }
    fn at(index: usize) -> Self {
        Checked { probe: Probe::ALL[index / Check::ALL.len()], check: Check::ALL[index % Check::ALL.len()] }
    }
    fn render(self) -> String {
        [label("name", self.check.as_str()), label("type", self.probe.as_str())].join(",")
    }
}

/// Labels `name`, `status` and `type` of health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// The check and its endpoint.
    pub checked: Checked,
    /// Whether it passed.
    pub good: bool,
}

impl Label for CheckResult {
    const COUNT: usize = Checked::COUNT * 2;
    fn index(self) -> usize {
        self.checked.index() * 2 + usize::from(self.good)
    }
    fn at(index: usize) -> Self {
        CheckResult { checked: Checked::at(index / 2), good: index % 2 == 1 }
    }
    fn render(self) -> String {
        let Checked { probe, check } = self.checked;
        let status = if self.good { "success" } else { "error" };
        [label("name", check.as_str()), label("status", status), label("type", probe.as_str())].join(",")
    }
}

/// Labels `API` and `Type` of streams that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFailure {
    /// A lease keep-alive stream rather than a watch.
    pub lease: bool,
    /// While sending rather than receiving.
    pub send: bool,
}

impl Label for StreamFailure {
    const COUNT: usize = 4;
    fn index(self) -> usize {
        usize::from(self.lease) * 2 + usize::from(self.send)
    }
    fn at(index: usize) -> Self {
        StreamFailure { lease: index / 2 == 1, send: index % 2 == 1 }
    }
    fn render(self) -> String {
        let api = if self.lease { "lease-keepalive" } else { "watch" };
        [label("API", api), label("Type", if self.send { "send" } else { "receive" })].join(",")
    }
}

macro_rules! catalog {
    ($methods:ident: $($field:ident: $type:ty = $init:expr, $kind:ident $name:literal $help:literal;)*) => {
        /// What one reactor records. Not `Send`: every reactor has its own; [`ReactorMetrics::snapshot`] is.
        #[derive(Debug)]
        pub struct ReactorMetrics {
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: $type,)*
            /// `etcd_server_client_requests_total`, whose label values come from clients.
            pub client_requests: ClientRequests,
            /// What is measured about other members.
            pub peers: PeerMetrics,
        }

        impl ReactorMetrics {
            /// All zero, for a service with these methods.
            pub fn new($methods: &'static [Method]) -> Self {
                ReactorMetrics { $($field: $init,)* client_requests: ClientRequests::default(), peers: PeerMetrics::default() }
            }

            fn collect(&self, out: &mut Vec<u64>) {
                $(Metric::collect(&self.$field, out);)*
            }

            fn describe(&self, schema: &mut Schema) {
                $(schema.add($name, Kind::$kind, $help, &self.$field);)*
            }
        }
    };
}

fn counter() -> Counter {
    Counter::default()
}

fn gauge() -> Gauge {
    Gauge::default()
}

fn histogram(bounds: &'static Bounds) -> Histogram {
    Histogram::new(bounds)
}

#[rustfmt::skip]
catalog! { methods:
    // Server and Raft
    apply_duration: Labeled<Applied, Histogram> = Labeled::new(|| histogram(Bounds::TENTHS_MS_20)),
        Histogram "etcd_server_apply_duration_seconds" "Time to apply a command: that of its batch, divided.";
    password_checks: Labeled<Success, Counter> = Labeled::new(counter),
        Counter "plinth_auth_password_checks_total" "Passwords compared to sign a user in.";
    has_leader: Gauge = gauge(), Gauge "etcd_server_has_leader" "1 if a leader is known, 0 if not.";
    health_failures: Counter = counter(), Counter "etcd_server_health_failures" "Health requests answered with false.";
    health_success: Counter = counter(), Counter "etcd_server_health_success" "Health requests answered with true.";
    healthcheck: Labeled<Checked, Verdict> = Labeled::new(Verdict::default),
        Gauge "etcd_server_healthcheck" "Last result of each health check, 1 for good.";
    healthchecks: Labeled<CheckResult, Counter> = Labeled::new(counter),
        Counter "etcd_server_healthchecks_total" "Health checks run.";
    heartbeat_send_failures: Counter = counter(),
        Counter "etcd_server_heartbeat_send_failures_total" "Heartbeats the leader sent late.";
    is_leader: Gauge = gauge(), Gauge "etcd_server_is_leader" "1 if this member leads, 0 if not.";
    is_learner: Gauge = gauge(), Gauge "etcd_server_is_learner" "1 if this member is a learner, 0 if not.";
    leader_changes: Counter = counter(), Counter "etcd_server_leader_changes_seen_total" "Changes of leader seen.";
    learner_promotions: Counter = counter(),
        Counter "etcd_server_learner_promote_successes" "Learners promoted while this member led.";
    proposals_applied: Gauge = gauge(), Gauge "etcd_server_proposals_applied_total" "Index of the last applied entry.";
    proposals_committed: Gauge = gauge(), Gauge "etcd_server_proposals_committed_total" "Index of the last committed entry.";
    proposals_failed: Counter = counter(), Counter "etcd_server_proposals_failed_total" "Proposals that failed.";
    proposals_pending: Gauge = gauge(), Gauge "etcd_server_proposals_pending" "Proposals waiting to be committed.";
    quota_bytes: Gauge = gauge(), Gauge "etcd_server_quota_backend_bytes" "Size of the database that raises an alarm.";
    range_duration: Labeled<Success, Histogram> = Labeled::new(|| histogram(Bounds::TENTHS_MS_20)),
        Histogram "etcd_server_range_duration_seconds" "Time to execute a linearizable range: that of all in one round, divided.";
    read_indexes_failed: Counter = counter(), Counter "etcd_server_read_indexes_failed_total" "Read index rounds that failed.";
    request_duration: Labeled<Request, Histogram> = Labeled::new(|| histogram(Bounds::MILLISECONDS_14)),
        Histogram "etcd_server_request_duration_seconds" "Time to answer a request, by its type.";
    slow_applies: Counter = counter(), Counter "etcd_server_slow_apply_total" "Commands that took longer than the warning time to apply.";
    slow_read_indexes: Counter = counter(), Counter "etcd_server_slow_read_indexes_total" "Read index rounds that were not done in time.";
    snapshot_apply_in_progress: Gauge = gauge(),
        Gauge "etcd_server_snapshot_apply_in_progress_total" "1 while a received snapshot is being installed.";
    // Network
    grpc_received_bytes: Counter = counter(), Counter "etcd_network_client_grpc_received_bytes_total" "Bytes of messages received from clients.";
    grpc_sent_bytes: Counter = counter(), Counter "etcd_network_client_grpc_sent_bytes_total" "Bytes of messages sent to clients.";
    stream_failures: Labeled<StreamFailure, Counter> = Labeled::new(counter),
        Counter "etcd_network_server_stream_failures_total" "Streams of clients that broke.";
    // Disk
    backend_commit: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_disk_backend_commit_duration_seconds" "Time to flush the page file.";
    backend_defrag: Histogram = histogram(Bounds::HUNDRED_MS_13),
        Histogram "etcd_disk_backend_defrag_duration_seconds" "Time to shrink the page file on request.";
    backend_snapshot: Histogram = histogram(Bounds::TEN_MS_17),
        Histogram "etcd_disk_backend_snapshot_duration_seconds" "Time to send a snapshot of the database.";
    defrag_inflight: Gauge = gauge(), Gauge "etcd_disk_defrag_inflight" "1 while the page file is being shrunk on request.";
    wal_fsync: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_disk_wal_fsync_duration_seconds" "Time until a write to the write-ahead log is durable.";
    wal_write_bytes: Gauge = gauge(), Gauge "etcd_disk_wal_write_bytes_total" "Bytes written to the write-ahead log.";
    wal_write: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_disk_wal_write_duration_seconds" "Time to hand a write to the write-ahead log.";
    // Snapshot files
    snap_db_fsync: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_snap_db_fsync_duration_seconds" "Time to flush a received database.";
    snap_db_save: Histogram = histogram(Bounds::HUNDRED_MS_10),
        Histogram "etcd_snap_db_save_total_duration_seconds" "Time to save a received database.";
    snap_fsync: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_snap_fsync_duration_seconds" "Time to flush a snapshot's description.";
    // MVCC
    open_read_transactions: Gauge = gauge(), Gauge "etcd_mvcc_db_open_read_transactions" "Pinned read transactions.";
    db_size: Gauge = gauge(), Gauge "etcd_mvcc_db_total_size_in_bytes" "Size of the database file.";
    db_size_in_use: Gauge = gauge(), Gauge "etcd_mvcc_db_total_size_in_use_in_bytes" "Size of the database file without its free pages.";
    deletes: Counter = counter(), Counter "etcd_mvcc_delete_total" "Delete operations.";
    hash_duration: Histogram = histogram(Bounds::TEN_MS_15),
        Histogram "etcd_mvcc_hash_duration_seconds" "Time to hash the whole database.";
    hash_kv_duration: Histogram = histogram(Bounds::TEN_MS_15),
        Histogram "etcd_mvcc_hash_rev_duration_seconds" "Time to hash the keys up to a revision.";
    puts: Counter = counter(), Counter "etcd_mvcc_put_total" "Put operations.";
    ranges: Counter = counter(), Counter "etcd_mvcc_range_total" "Range operations.";
    txns: Counter = counter(), Counter "etcd_mvcc_txn_total" "Transactions.";
    // Debugging
    auth_revision: Gauge = gauge(), Gauge "etcd_debugging_auth_revision" "Revision of the auth store.";
    commit_rebalance: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_disk_backend_commit_rebalance_duration_seconds" "Part of a commit of etcd's backend; none here.";
    commit_spill: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_disk_backend_commit_spill_duration_seconds" "Part of a commit of etcd's backend; none here.";
    commit_write: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_disk_backend_commit_write_duration_seconds" "Time to write the pages of a flush.";
    leases_granted: Counter = counter(), Counter "etcd_debugging_lease_granted_total" "Leases granted.";
    leases_renewed: Counter = counter(), Counter "etcd_debugging_lease_renewed_total" "Leases renewed while this member led.";
    leases_revoked: Counter = counter(), Counter "etcd_debugging_lease_revoked_total" "Leases revoked.";
    lease_ttl: Histogram = histogram(Bounds::ONES_24), Histogram "etcd_debugging_lease_ttl_total" "Seconds leases were granted for.";
    compact_revision: Gauge = gauge(), Gauge "etcd_debugging_mvcc_compact_revision" "Revision of the last compaction.";
    current_revision: Gauge = gauge(), Gauge "etcd_debugging_mvcc_current_revision" "Current revision.";
    compaction_keys: Counter = counter(), Counter "etcd_debugging_mvcc_db_compaction_keys_total" "Revisions dropped by compactions.";
    compaction_last: Gauge = gauge(), Gauge "etcd_debugging_mvcc_db_compaction_last" "Unix time of the last compaction.";
    compaction_pause: Histogram = histogram(Bounds::ONE_IN_MS_13),
        Histogram "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds" "Time of a step of a compaction.";
    compaction_total: Histogram = histogram(Bounds::HUNDRED_IN_MS_14),
        Histogram "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds" "Time of a whole compaction.";
    events: Counter = counter(), Counter "etcd_debugging_mvcc_events_total" "Events sent to watchers.";
    index_compaction_pause: Histogram = histogram(Bounds::HALF_IN_MS_14),
        Histogram "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds" "Time of a compaction of the key index.";
    keys: Gauge = gauge(), Gauge "etcd_debugging_mvcc_keys_total" "Keys.";
    pending_events: Gauge = gauge(), Gauge "etcd_debugging_mvcc_pending_events_total" "Deliveries waiting to be sent: the events of one entry for one watcher.";
    slow_watchers: Gauge = gauge(), Gauge "etcd_debugging_mvcc_slow_watcher_total" "Watchers that are behind.";
    put_bytes: Gauge = gauge(), Gauge "etcd_debugging_mvcc_total_put_size_in_bytes" "Bytes of keys and values put.";
    watch_streams: Gauge = gauge(), Gauge "etcd_debugging_mvcc_watch_stream_total" "Watch streams.";
    watchers: Gauge = gauge(), Gauge "etcd_debugging_mvcc_watcher_total" "Watchers.";
    leases_expired: Counter = counter(), Counter "etcd_debugging_server_lease_expired_total" "Leases expired while this member led.";
    watch_send_control: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds" "Time to send that a watch was created or cancelled.";
    watch_send_progress: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_server_watch_send_loop_progress_duration_seconds" "Time to send progress to watches.";
    watch_send_per_event: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds" "Time to send events, per event.";
    watch_send: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds" "Time to send a message with events.";
    snap_save_marshalling: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_snap_save_marshalling_duration_seconds" "Time to encode a snapshot's description.";
    snap_save: Histogram = histogram(Bounds::MILLISECONDS_14),
        Histogram "etcd_debugging_snap_save_total_duration_seconds" "Time to save a snapshot's description.";
    // gRPC
    grpc_started: PerMethod<Counter> = PerMethod::new(methods, counter),
        Counter "grpc_server_started_total" "RPCs started.";
    grpc_handled: PerMethodAndCode = PerMethodAndCode::new(methods),
        Counter "grpc_server_handled_total" "RPCs ended, by status.";
    grpc_msg_received: PerMethod<Counter> = PerMethod::new(methods, counter),
        Counter "grpc_server_msg_received_total" "Messages received.";
    grpc_msg_sent: PerMethod<Counter> = PerMethod::new(methods, counter),
        Counter "grpc_server_msg_sent_total" "Messages sent.";
    grpc_handling: PerMethod<Histogram> = PerMethod::new(methods, || histogram(Bounds::GRPC)),
        Histogram "grpc_server_handling_seconds" "Time to handle an RPC.";
    // The endpoint itself
    scrapes: Labeled<ScrapeCode, Counter> = Labeled::new(counter),
        Counter "promhttp_metric_handler_requests_total" "Scrapes, by status.";
    scrapes_in_flight: Gauge = gauge(), Gauge "promhttp_metric_handler_requests_in_flight" "Scrapes being served.";
    // Plinth only
    stages: Labeled<Stage, Histogram> = Labeled::new(|| histogram(Bounds::MICROSECONDS_21)),
        Histogram "plinth_stage_duration_seconds" "Time requests spend in each stage; each of a batch counts with the time of the batch.";
    batch_commands: Histogram = histogram(Bounds::ONES_14),
        Histogram "plinth_batch_commands" "Commands in one Raft entry.";
    connections: Gauge = gauge(), Gauge "plinth_connections" "Client connections.";
    requests_in_flight: Gauge = gauge(), Gauge "plinth_requests_in_flight" "Requests of clients not answered yet.";
    requests_refused: Counter = counter(), Counter "plinth_requests_refused_total" "Requests refused because too many were in flight.";
    disk_full: Gauge = gauge(), Gauge "plinth_disk_full" "Whether log or data file cannot grow, so that writes are refused.";
    disk_stalled: Gauge = gauge(), Gauge "plinth_disk_stalled" "Whether the disk of log or data file does not answer.";
    disk_stalls: Counter = counter(), Counter "plinth_disk_stalls_total" "Times that a disk has not answered for an election timeout.";
    disk_stalled_millis: Counter = counter(), Counter "plinth_disk_stalled_milliseconds_total" "How long disks have not answered, those times that are over.";
    damaged_pages: Gauge = gauge(), Gauge "plinth_data_damaged_pages" "Pages of the data file that are damaged, as far as is known.";
    damaged_pages_found: Counter = counter(), Counter "plinth_data_damaged_pages_found_total" "Damaged pages of the data file that were found.";
    follow_lag_revisions: Gauge = gauge(), Gauge "plinth_follow_lag_revisions" "Revisions behind the cluster that is followed.";
    follow_lag_milliseconds: Gauge = gauge(), Gauge "plinth_follow_lag_milliseconds" "For how long the cluster that is followed has been ahead.";
    follow_comparisons: Gauge = gauge(), Gauge "plinth_follow_compared_revision" "Last revision at which the hash of the cluster that is followed was equal.";
    backups: Counter = counter(), Counter "plinth_backups_total" "Scheduled backups that were made and read back.";
    backup_failures: Counter = counter(), Counter "plinth_backup_failures_total" "Scheduled backups that failed.";
    backup_stuck: Gauge = gauge(), Gauge "plinth_backup_stuck" "Whether the scheduled backup under way comes no further.";
    backup_time: Gauge = gauge(), Gauge "plinth_backup_last_success_timestamp_seconds" "When the last good backup was begun, in seconds since 1970; 0 if there is none.";
    backup_revision: Gauge = gauge(), Gauge "plinth_backup_last_success_revision" "Revision of the last good backup.";
    backup_bytes: Gauge = gauge(), Gauge "plinth_backup_last_success_bytes" "Size of the last good backup.";
    backup_milliseconds: Gauge = gauge(), Gauge "plinth_backup_last_success_milliseconds" "How long the last good backup took; 0 if another process made it.";
    scrubs: Counter = counter(), Counter "plinth_data_scrubs_total" "Passes over all pages of the data file that verify their checksums.";
}

impl ReactorMetrics {
    /// What the numbers of a snapshot mean. The same for all reactors of a process; one copy is enough. The handling
    /// times of RPCs are left out unless metrics are `extensive`.
    pub fn schema(&self, extensive: bool) -> Schema {
        let mut schema = Schema::default();
        self.describe(&mut schema);
        if !extensive {
            schema.families.retain(|family| family.name != "grpc_server_handling_seconds");
        }
        schema.finish()
    }

    /// The numbers as they are now: a few thousand integers copied.
    pub fn snapshot(&self) -> super::Snapshot {
        let mut values = Vec::with_capacity(VALUES_TYPICAL);
        self.collect(&mut values);
        super::Snapshot::new(values, self.client_requests.counts())
    }

    /// Records a health check of `/livez` or `/readyz`.
    pub fn record_check(&self, probe: Probe, check: Check, good: bool) {
        let checked = Checked { probe, check };
        self.healthcheck.with(checked).set(good);
        self.healthchecks.with(CheckResult { checked, good }).inc();
    }
}

/// Room for a snapshot, so that collecting seldom grows it.
const VALUES_TYPICAL: usize = 8192;
