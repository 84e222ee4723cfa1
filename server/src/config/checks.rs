//! What settings have to hold together, in etcd's order and words: the first violation ends the start.

use super::gates::Gate;
use super::notice::Notice;
use super::recorded::Recorded;
use super::settings::{self, Config, DEFAULT_NAME, ELECTION_TIMEOUT_MILLIS_MAX};
use super::tls;
use super::url::{Url, join};
use plinth_api::go::format_duration;

/// Checks the settings. Warnings go to `notices`.
pub(super) fn check(config: &Config, given: &Recorded, notices: &mut Vec<Notice>) -> Result<(), String> {
    if config.cluster.discovery.fallback == "proxy" {
        return Err("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"".to_owned());
    }
    check_addresses(config, notices)?;
    check_bootstrap(config, given)?;
    check_timing(config, given)?;
    if config.addresses.advertise_client.is_empty() && !config.addresses.listen_client.is_empty() {
        return Err("--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned());
    }
    match config.storage.auto_compaction_mode.as_str() {
        "periodic" | "revision" => {}
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode {other:?}")),
    }
    let per_million = config.monitoring.tracing_per_million;
    if config.monitoring.tracing && !(0..=1_000_000).contains(&per_million) {
        return Err(format!(
            "distributed tracing configurition is not valid: (distributed tracing sampling rate must be positive and \
             not exceed 1000000, got {per_million})"
        ));
    }
    check_gates(config, notices)?;
    let hash_check = given.nanoseconds("compact-hash-check-time");
    if hash_check <= 0 {
        let shown = format_duration(std::time::Duration::from_nanos(hash_check.unsigned_abs()));
        let sign = if hash_check < 0 { "-" } else { "" };
        return Err(format!("--compact-hash-check-time must be >0 (set to {sign}{shown})"));
    }
    if config.name == DEFAULT_NAME {
        let notice = Notice::warn(
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into \
             issue when multiple members have the same default name",
        );
        notices.push(notice.with("name", DEFAULT_NAME));
    }
    tls::check(config, notices)?;
    config.storage.auto_compaction()?;
    warn_about_values(config, given, notices);
    Ok(())
}

fn check_addresses(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let all = |urls: &[Url], check: fn(&Url) -> Result<(), String>| urls.iter().try_for_each(check);
    let addresses = &config.addresses;
    all(&addresses.listen_peer, Url::check_bindable)?;
    all(&addresses.listen_client, Url::check_bindable)?;
    all(&addresses.listen_client_http, Url::check_bindable)?;
    if addresses.listen_client_http.is_empty() {
        notices
            .push(Notice::warn("Running http and grpc server on single port. This is not recommended for production."));
    }
    all(&addresses.listen_metrics, Url::check_bindable)?;
    all(&addresses.listen_console, Url::check_bindable)?;
    all(&addresses.advertise_peer, Url::check_has_host).map_err(|reason| {
        format!("--initial-advertise-peer-urls {:?} must be \"host:port\" ({reason})", join(&addresses.advertise_peer))
    })?;
    all(&addresses.advertise_client, Url::check_has_host).map_err(|reason| {
        format!(
            "--advertise-client-urls {:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" ({reason})",
            join(&addresses.advertise_client)
        )
    })
}

fn check_bootstrap(config: &Config, given: &Recorded) -> Result<(), String> {
    // The configuration file takes any text here; flags do not get this far with another.
    let state = given.text("initial-cluster-state");
    if state != config.cluster.state.as_str() {
        return Err(format!("unexpected clusterState {state:?}"));
    }
    let discovery = &config.cluster.discovery;
    let ways = [!config.cluster.initial.is_empty(), !discovery.srv_domain.is_empty(), !discovery.endpoints.is_empty()];
    if ways.into_iter().filter(|&way| way).count() > 1 {
        return Err("multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\""
            .to_owned());
    }
    if discovery.token.is_empty() != discovery.endpoints.is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if discovery.endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
    Ok(())
}

fn check_timing(config: &Config, given: &Recorded) -> Result<(), String> {
    let heartbeat = given.uint("heartbeat-interval");
    let election = given.uint("election-timeout");
    if heartbeat == 0 {
        return Err(format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)"));
    }
    if election == 0 {
        return Err(format!("--election-timeout must be >0 (set to {election}ms)"));
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_TIMEOUT_MILLIS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_TIMEOUT_MILLIS_MAX}ms"
        ));
    }
    assert!(config.cluster.election_ticks() >= 5, "five heartbeats fit the election timeout");
    Ok(())
}

fn check_gates(config: &Config, notices: &mut Vec<Notice>) -> Result<(), String> {
    let checkpoint = config.gates.enabled(Gate::LeaseCheckpoint);
    let persist = config.gates.enabled(Gate::LeaseCheckpointPersist);
    if checkpoint && !persist {
        notices.push(Notice::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
             LeaseCheckpointPersist",
        ));
    }
    if persist && !checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".to_owned()
        );
    }
    Ok(())
}

/// Accepted, but worth a word.
fn warn_about_values(config: &Config, given: &Recorded, notices: &mut Vec<Notice>) {
    let mut warn = |message: String| notices.push(Notice::warn(message));
    if given.is_given("max-snapshots") {
        warn("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.".to_owned());
    }
    if given.is_given("v2-deprecation") {
        warn(
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, \
              ignoring user input."
                .to_owned(),
        );
        let _ = given.list("v2-deprecation");
    }
    if config.storage.quota_flag > settings::SUGGESTED_QUOTA_BYTES_MAX {
        warn(format!("quota-backend-bytes {} is more than the suggested maximum of 8 GiB", config.storage.quota_flag));
    }
    let request_bytes = given.uint("max-request-bytes");
    if request_bytes > settings::SUGGESTED_REQUEST_BYTES_MAX {
        warn(format!("max-request-bytes {request_bytes} is more than the suggested maximum of 10 MiB"));
    }
    if request_bytes > settings::REQUEST_BYTES_MAX {
        let served = settings::REQUEST_BYTES_MAX;
        warn(format!(
            "max-request-bytes {request_bytes} is more than the log holds; serving requests of up to {served}"
        ));
    }
    if super::build::bcrypt_cost(given).is_none() {
        warn(format!("bcrypt-cost {} is out of range 4 to 31; using 10", given.uint("bcrypt-cost")));
    }
    for name in ["raft-read-timeout", "raft-write-timeout"] {
        if given.duration(name) < config.cluster.read_timeout.min(config.cluster.write_timeout) {
            warn(format!("{name} increased to minimum value: 5s"));
        }
    }
}

impl Config {
    /// Checks that have a meaning only before there is data: the member is part of the cluster it bootstraps or
    /// joins, under the addresses it advertises. Resolves names if texts alone do not match.
    pub fn check_before_bootstrap(&self) -> Result<(), String> {
        let members =
            self.cluster.initial_members().map_err(|error| format!("error setting up initial cluster: {error}"))?;
        let Some(own) = members.get(&self.name) else {
            return Err(format!("couldn't find local name {:?} in the initial cluster configuration", self.name));
        };
        if self.cluster.state == settings::ClusterState::New {
            self.check_advertised(own)?;
        }
        let mut all: Vec<&Url> = members.values().flatten().collect();
        all.sort();
        if all.windows(2).any(|pair| pair[0] == pair[1]) {
            let mut pairs: Vec<String> =
                members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
            pairs.sort();
            return Err(format!("initial cluster {} has duplicate url", pairs.join(",")));
        }
        Ok(())
    }

    fn check_advertised(&self, own: &[Url]) -> Result<(), String> {
        let advertised = &self.addresses.advertise_peer;
        let Err(difference) = same_addresses(advertised, own) else { return Ok(()) };
        let pairs = |urls: &mut dyn Iterator<Item = &Url>| {
            urls.map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>().join(",")
        };
        let missing = pairs(&mut own.iter().filter(|url| !advertised.contains(url)));
        if !missing.is_empty() {
            return Err(format!(
                "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={} ({difference})",
                join(advertised)
            ));
        }
        let extra: Vec<Url> = advertised.iter().filter(|url| !own.contains(url)).cloned().collect();
        Err(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            join(&extra),
            pairs(&mut own.iter())
        ))
    }
}

/// Checks that two lists name the same addresses, by their text or after resolving names. The error says where they
/// differ.
fn same_addresses(left: &[Url], right: &[Url]) -> Result<(), String> {
    let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>();
    if left.len() != right.len() {
        return Err(format!("len({:?}) != len({:?})", texts(left), texts(right)));
    }
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    if sorted(texts(left)) == sorted(texts(right)) {
        return Ok(());
    }
    let resolved = |urls: &[Url]| urls.iter().map(resolve).collect::<Result<Vec<_>, _>>().map(sorted);
    let (left, right) = (resolved(left)?, resolved(right)?);
    match left.iter().zip(&right).find(|(left, right)| left != right) {
        Some((left, right)) => Err(format!("resolved urls: {left:?} != {right:?}")),
        None => Ok(()),
    }
}

/// The URL with its host name resolved; `localhost` stays, because it is no address of one machine among others.
fn resolve(url: &Url) -> Result<String, String> {
    use std::net::ToSocketAddrs;
    match url.host_and_port() {
        None | Some(("localhost", _)) => Ok(url.to_string()),
        Some(_) => {
            let failed = |reason: String| format!("failed to resolve {:?} ({reason})", url.as_str());
            let mut addresses = url.address().to_socket_addrs().map_err(|error| failed(error.to_string()))?;
            let first = addresses.next().ok_or_else(|| failed("no address".to_owned()))?;
            Ok(url.with_host(first.ip()).to_string())
        }
    }
}
