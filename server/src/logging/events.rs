//! Lines that supervisors, scripts and test frameworks wait for, in etcd's words and with its fields. They are
//! functions so that the words exist once.

use std::time::Duration;

use tracing::info;

use super::line::list;
use crate::config::{AutoCompaction, Config, Url, join_urls, version};
use plinth_api::go::format_duration;

/// What auto compaction keeps; etcd shows a number of revisions as nanoseconds.
fn retention(config: &Config) -> String {
    format_duration(match config.storage.auto_compaction() {
        Ok(AutoCompaction::Periodic(age)) => age,
        Ok(AutoCompaction::Revision(count)) => Duration::from_nanos(count.unsigned_abs()),
        Ok(AutoCompaction::Off) | Err(_) => Duration::ZERO,
    })
}

fn texts(urls: &[Url]) -> String {
    list(&urls.iter().map(Url::as_str).collect::<Vec<_>>())
}

/// The configuration is settled and the server begins to open its files. `initialized`: there is data already.
pub fn starting(config: &Config, initialized: bool, cores_used: usize, cores: usize) {
    let addresses = &config.addresses;
    let cluster = &config.cluster;
    info!(
        "etcd-version" = version::ETCD_VERSION,
        "git-sha" = version::GIT_SHA,
        "go-version" = version::runtime(),
        "go-os" = std::env::consts::OS,
        "go-arch" = version::arch(),
        "max-cpu-set" = cores_used,
        "max-cpu-available" = cores,
        "member-initialized" = initialized,
        name = config.name,
        "data-dir" = %config.data_dir.display(),
        "wal-dir" = "",
        "wal-dir-dedicated" = "",
        "member-dir" = %config.member_dir().display(),
        "force-new-cluster" = cluster.force_new,
        "heartbeat-interval" = format_duration(cluster.heartbeat_interval),
        "election-timeout" = format_duration(cluster.election_timeout),
        "initial-election-tick-advance" = cluster.initial_tick_advance,
        "snapshot-count" = cluster.snapshot_entries,
        "max-wals" = config.storage.wal_files_max,
        "max-snapshots" = config.storage.snapshot_files_max,
        "snapshot-catchup-entries" = cluster.catch_up_shown,
        "initial-advertise-peer-urls[]" = %texts(&addresses.advertise_peer),
        "listen-peer-urls[]" = %texts(&addresses.listen_peer),
        "advertise-client-urls[]" = %texts(&addresses.advertise_client),
        "listen-client-urls[]" = %texts(&addresses.listen_client),
        "listen-metrics-urls[]" = %texts(&addresses.listen_metrics),
        "initial-cluster" = cluster.initial,
        "initial-cluster-state" = cluster.state.as_str(),
        "initial-cluster-token" = cluster.token,
        "quota-backend-bytes" = config.storage.quota_metric(),
        "max-request-bytes" = config.limits.request_bytes_max,
        "max-concurrent-streams" = config.limits.concurrent_streams_max,
        "pre-vote" = cluster.pre_vote,
        "feature-gates" = config.gates.summary(),
        "corrupt-check-time-interval" = format_duration(cluster.corrupt_check_interval.unwrap_or_default()),
        "compact-check-time-interval" = format_duration(cluster.compact_hash_check_interval),
        "auto-compaction-mode" = config.storage.auto_compaction_mode,
        "auto-compaction-retention" = retention(config),
        "downgrade-check-interval" = format_duration(cluster.downgrade_check_interval),
        "max-learners" = cluster.learners_max,
        "plinth-version" = version::PLINTH_VERSION,
        "starting an etcd server"
    );
}

/// The listeners are open and the server is running.
pub fn now_serving(config: &Config, member: u64) {
    let addresses = &config.addresses;
    info!(
        "local-member-id" = format!("{member:x}"),
        "initial-advertise-peer-urls[]" = %texts(&addresses.advertise_peer),
        "listen-peer-urls[]" = %texts(&addresses.listen_peer),
        "advertise-client-urls[]" = %texts(&addresses.advertise_client),
        "listen-client-urls[]" = %texts(&addresses.listen_client),
        "listen-metrics-urls[]" = %texts(&addresses.listen_metrics),
        "now serving peer/client/metrics"
    );
}

/// The member's name and client URLs went through consensus: the cluster works.
pub fn published(config: &Config, member: u64, cluster: u64, timeout: Duration) {
    info!(
        "local-member-id" = format!("{member:x}"),
        "local-member-attributes" =
            format!("{{Name:{} ClientURLs:[{}]}}", config.name, join_urls(&config.addresses.advertise_client)),
        "cluster-id" = format!("{cluster:x}"),
        "publish-timeout" = format_duration(timeout),
        "published local member to cluster through raft"
    );
}

/// Requests of clients are answered from now on.
pub fn ready_to_serve() {
    info!("ready to serve client requests");
}

/// A listener without TLS serves. `traffic`: `grpc`, `http` or `grpc+http`.
pub fn serving_insecurely(traffic: &str, address: &str) {
    info!(traffic, address, "serving client traffic insecurely; this is strongly discouraged!");
}

/// A signal ends the server: `terminated` or `interrupt`.
pub fn received_signal(signal: &str) {
    info!(signal, "received signal; shutting down");
}

/// The end begins.
pub fn closing(config: &Config) {
    info!(
        name = config.name,
        "data-dir" = %config.data_dir.display(),
        "advertise-peer-urls[]" = %texts(&config.addresses.advertise_peer),
        "advertise-client-urls[]" = %texts(&config.addresses.advertise_client),
        "closing etcd server"
    );
}

/// Everything is closed.
pub fn closed(config: &Config) {
    info!(
        name = config.name,
        "data-dir" = %config.data_dir.display(),
        "advertise-peer-urls[]" = %texts(&config.addresses.advertise_peer),
        "advertise-client-urls[]" = %texts(&config.addresses.advertise_client),
        "closed etcd server"
    );
}
