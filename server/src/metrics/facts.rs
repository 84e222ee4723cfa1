//! Metrics that are not recorded but known when asked: versions, ids, gates, alarms, figures of the process.

use crate::config::{FeatureGates, Gate, version};

use super::peers::PeerFacts;
use super::process::ProcessStats;
use super::schema::{Kind, label};
use super::text::Extra;
use super::{Snapshot, schema};
use plinth_v2::stats::{Stats, Tried};

/// What the server knows about itself at the time of a scrape.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Id of this member.
    pub server_id: u64,
    /// Version of the cluster, `MAJOR.MINOR`, once it is decided.
    pub cluster_version: Option<String>,
    /// Active alarms: member id, and `NOSPACE` or `CORRUPT`.
    pub alarms: Vec<(u64, &'static str)>,
    /// Feature gates.
    pub gates: FeatureGates,
    /// Figures of the process.
    pub process: ProcessStats,
    /// The other members.
    pub peers: PeerFacts,
    /// Lines of the log that were dropped because it could not be written fast enough.
    pub log_lines_dropped: u64,
    /// What the v2 store counts, and those who wait for it and have asked to.
    pub v2: (Stats, u64, u64),
    /// Days that certificates are still valid, by who is shown them: `client`, `peer`.
    pub certificate_days: Vec<(&'static str, f64)>,
}

/// The series made of facts, and of the one recorded family whose labels are not known beforehand.
pub(super) fn extras(snapshot: &Snapshot, facts: &Facts) -> Vec<Extra> {
    let mut extras = server(facts);
    extras.extend(v2_store(facts));
    extras.extend(process(&facts.process));
    extras.extend(facts.peers.0.iter().cloned());
    let mut requests: Vec<(&'static str, String, f64)> = snapshot
        .client_requests()
        .iter()
        .map(|entry| {
            let kind = if entry.stream { "stream" } else { "unary" };
            let labels = [label("client_api_version", &entry.version), label("type", kind)].join(",");
            ("", labels, entry.count as f64)
        })
        .collect();
    requests.sort_by(|left, right| left.1.cmp(&right.1));
    extras.push(Extra {
        name: "etcd_server_client_requests_total",
        kind: Kind::Counter,
        help: "Requests by the API version of the client.",
        samples: requests,
    });
    extras
}

fn one(name: &'static str, kind: schema::Kind, help: &'static str, labels: String, value: f64) -> Extra {
    Extra { name, kind, help, samples: vec![("", labels, value)] }
}

fn server(facts: &Facts) -> Vec<Extra> {
    let info = |name, help, label_name: &str, value: &str| one(name, Kind::Gauge, help, label(label_name, value), 1.0);
    let id = format!("{:x}", facts.server_id);
    let mut extras = vec![
        info("etcd_server_version", "The server's version.", "server_version", version::ETCD_VERSION),
        info("etcd_server_go_version", "What the server runs on.", "server_go_version", &version::runtime()),
        info("etcd_server_id", "The member's id.", "server_id", &id),
        info("plinth_build_info", "Plinth's own version.", "version", version::PLINTH_VERSION),
    ];
    if let Some(cluster_version) = &facts.cluster_version {
        extras.push(info("etcd_cluster_version", "The cluster's version.", "cluster_version", cluster_version));
    }
    let gates = Gate::ALL.iter().map(|gate| {
        let labels = [label("name", gate.as_str()), label("stage", gate.stage().as_str())].join(",");
        ("", labels, f64::from(u8::from(facts.gates.enabled(*gate))))
    });
    extras.push(Extra {
        name: "etcd_server_feature_enabled",
        kind: Kind::Gauge,
        help: "1 for every feature gate that is on, 0 for those that are off.",
        samples: gates.collect(),
    });
    let mut alarms: Vec<(&'static str, String, f64)> = facts
        .alarms
        .iter()
        .map(|(member, alarm)| {
            ("", [label("alarm_type", alarm), label("server_id", &format!("{member:x}"))].join(","), 1.0)
        })
        .collect();
    alarms.sort_by(|left, right| left.1.cmp(&right.1));
    extras.push(Extra {
        name: "etcd_debugging_server_alarms",
        kind: Kind::Gauge,
        help: "1 for every active alarm.",
        samples: alarms,
    });
    if !facts.certificate_days.is_empty() {
        extras.push(Extra {
            name: "plinth_certificate_days_left",
            kind: Kind::Gauge,
            help: "Days that the certificate shown to clients or peers is still valid.",
            samples: facts.certificate_days.iter().map(|(side, days)| ("", label("side", side), *days)).collect(),
        });
    }
    extras.push(one(
        "plinth_log_lines_dropped_total",
        Kind::Counter,
        "Lines of the log dropped because it could not be written fast enough.",
        String::new(),
        facts.log_lines_dropped as f64,
    ));
    extras
}

/// The v2 store. As in etcd, an action that never was has no series.
fn v2_store(facts: &Facts) -> Vec<Extra> {
    let (stats, watchers, watched) = facts.v2;
    let single = |tried: Tried, of_all: Tried| Tried {
        success: tried.success.saturating_sub(of_all.success),
        fail: tried.fail.saturating_sub(of_all.fail),
    };
    let reads = [("get", single(stats.gets, stats.recursive_gets)), ("getRecursive", stats.recursive_gets)];
    let writes = [
        ("set", stats.sets),
        ("create", stats.creates),
        ("update", stats.updates),
        ("delete", stats.deletes),
        ("compareAndSwap", stats.swaps),
        ("compareAndDelete", stats.compared_deletes),
    ];
    let family = |name, help, of: &[(&'static str, Tried)], count: fn(&Tried) -> u64| {
        let counted = of.iter().filter(|(_, tried)| count(tried) > 0);
        let samples = counted.map(|(action, tried)| ("", label("action", action), count(tried) as f64)).collect();
        Extra { name, kind: Kind::Counter, help, samples }
    };
    let (done, refused) = (|tried: &Tried| tried.success, |tried: &Tried| tried.fail);
    let total = |name, kind, help, value: u64| one(name, kind, help, String::new(), value as f64);
    vec![
        family("etcd_debugging_store_reads_total", "Reads of the v2 store, by action.", &reads, done),
        family(
            "etcd_debugging_store_reads_failed_total",
            "Reads of the v2 store that failed, by action.",
            &reads,
            refused,
        ),
        family("etcd_debugging_store_writes_total", "Writes of the v2 store, by action.", &writes, done),
        family(
            "etcd_debugging_store_writes_failed_total",
            "Writes of the v2 store that failed, by action.",
            &writes,
            refused,
        ),
        total(
            "etcd_debugging_store_expires_total",
            Kind::Counter,
            "Keys and directories of the v2 store that have ended.",
            stats.expired,
        ),
        total(
            "etcd_debugging_store_watch_requests_total",
            Kind::Counter,
            "Requests to wait for the v2 store.",
            watched,
        ),
        total("etcd_debugging_store_watchers", Kind::Gauge, "Those who wait for the v2 store.", watchers),
    ]
}

fn process(stats: &ProcessStats) -> Vec<Extra> {
    use Kind::{Counter, Gauge};
    let rows: [(&'static str, Kind, &'static str, Option<f64>); 12] = [
        ("os_fd_limit", Gauge, "Limit of open file descriptors.", stats.max_fds),
        ("os_fd_used", Gauge, "Open file descriptors.", stats.open_fds),
        ("plinth_major_page_faults_total", Counter, "Page faults that waited for the disk.", stats.major_faults),
        ("process_cpu_seconds_total", Counter, "User and system time in seconds.", stats.cpu_seconds),
        ("process_max_fds", Gauge, "Limit of open file descriptors.", stats.max_fds),
        (
            "process_network_receive_bytes_total",
            Counter,
            "Bytes received over IP, by all of the machine or container.",
            stats.network_received_bytes,
        ),
        (
            "process_network_transmit_bytes_total",
            Counter,
            "Bytes sent over IP, by all of the machine or container.",
            stats.network_sent_bytes,
        ),
        ("process_open_fds", Gauge, "Open file descriptors.", stats.open_fds),
        ("process_resident_memory_bytes", Gauge, "Memory in RAM.", stats.resident_bytes),
        ("process_start_time_seconds", Gauge, "Start of the process in seconds since 1970.", stats.start_time_seconds),
        ("process_virtual_memory_bytes", Gauge, "Virtual memory.", stats.virtual_bytes),
        ("process_virtual_memory_max_bytes", Gauge, "Limit of virtual memory.", stats.virtual_bytes_max),
    ];
    rows.into_iter()
        .filter_map(|(name, kind, help, value)| Some(one(name, kind, help, String::new(), value?)))
        .collect()
}
