//! Lines that supervisors, scripts and test frameworks wait for, in etcd's words and with its fields. They are
//! functions so that the words exist once.

use std::path::PathBuf;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::line::list;
use crate::config::{AutoCompaction, Config, Tls, Url, join_urls, version};
use plinth_api::go::format_duration;
use plinth_net::transport::Rejected;
use plinth_net::transport::tls::Failure;

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

/// A listener with TLS serves.
pub fn serving_securely(traffic: &str, address: &str) {
    info!(traffic, address, "serving client traffic securely");
}

/// Listeners of this side (`client`, `peer`) will speak TLS.
pub fn starting_with_tls(side: &str, tls: &Tls, cipher_suites: &[String]) {
    let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    let tls_info = format!(
        "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
        file(&tls.cert_file),
        file(&tls.key_file),
        file(&tls.client_cert_file),
        file(&tls.client_key_file),
        file(&tls.trusted_ca_file),
        tls.client_cert_auth,
        file(&tls.crl_file)
    );
    info!("tls-info" = tls_info, "cipher-suites[]" = %list(cipher_suites), "starting with {side} TLS");
}

/// A connection was not let in. `side`: `client` or `peer`. Somebody who only looked whether the port is open is not
/// worth a warning.
pub fn rejected(side: &str, rejected: &Rejected) {
    let address = rejected.address.to_string();
    let server_name = rejected.server_name.as_deref().unwrap_or("");
    let addresses: Vec<String> = rejected.ip_addresses.iter().map(ToString::to_string).collect();
    let (addresses, names) = (list(&addresses), list(&rejected.dns_names));
    let error = &rejected.failure;
    if matches!(error, Failure::Eof) {
        debug!("remote-addr" = address, "server-name" = server_name, %error, "rejected connection on {side} endpoint");
        return;
    }
    warn!(
        "remote-addr" = address,
        "server-name" = server_name,
        "ip-addresses[]" = %addresses,
        "dns-names[]" = %names,
        %error,
        "rejected connection on {side} endpoint"
    );
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
