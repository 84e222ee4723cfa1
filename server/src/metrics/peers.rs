//! What is measured about other members, who come and go: series whose labels are not known beforehand.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::cell::{Bounds, Histogram};
use super::schema::{Kind, label};
use super::text::{Extra, go_float};

/// Reasons of refused promotions that are told apart; they are error texts, of which there are few.
const REASONS_MAX: usize = 32;

/// Recorded where the connections to the other members are.
#[derive(Debug, Default)]
pub struct PeerMetrics {
    round_trips: RefCell<BTreeMap<u64, Histogram>>,
    promote_failures: RefCell<BTreeMap<Box<str>, u64>>,
}

impl PeerMetrics {
    /// A probe of this member was answered.
    pub fn record_round_trip(&self, id: u64, took: Duration) {
        let mut all = self.round_trips.borrow_mut();
        all.entry(id).or_insert_with(|| Histogram::new(Bounds::TENTHS_MS_16)).record_duration(took);
    }

    /// A learner was not promoted.
    pub fn count_promote_failure(&self, reason: &str) {
        let mut reasons = self.promote_failures.borrow_mut();
        if let Some(count) = reasons.get_mut(reason) {
            *count += 1;
        } else if reasons.len() < REASONS_MAX {
            reasons.insert(reason.into(), 1);
        }
    }

    /// The series about these members, as member `own` sees them. Others are forgotten.
    pub fn facts(&self, own: u64, peers: &[PeerFigures]) -> PeerFacts {
        self.round_trips.borrow_mut().retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        PeerFacts(extras(own, peers, self))
    }
}

/// Series made for one scrape.
#[derive(Clone, Debug, Default)]
pub struct PeerFacts(pub(super) Vec<Extra>);

/// What the transport knows of one other member.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerFigures {
    /// Who.
    pub id: u64,
    /// There is a connection.
    pub is_active: bool,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Messages that could not be sent.
    pub sent_failures: u64,
    /// Connections that ended because of what came over them.
    pub received_failures: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Snapshots that it has fetched.
    pub snapshots_sent: u64,
    /// Snapshots that it has not fetched to the end.
    pub snapshots_failed: u64,
}

type Sample = (&'static str, String, f64);

fn extras(own: u64, peers: &[PeerFigures], metrics: &PeerMetrics) -> Vec<Extra> {
    let hex = |name: &str, id: u64| label(name, &format!("{id:x}"));
    let all = |labels: &dyn Fn(u64) -> String, figure: fn(&PeerFigures) -> u64| -> Vec<Sample> {
        peers.iter().map(|peer| ("", labels(peer.id), figure(peer) as f64)).collect()
    };
    let from = |id| hex("From", id);
    let to = |id| hex("To", id);
    let pair = |id| [hex("Local", own), hex("Remote", id)].join(",");
    let family = |name, kind, help, samples| Extra { name, kind, help, samples };
    let seen = |mut samples: Vec<Sample>| {
        samples.retain(|(_, _, value)| *value != 0.0);
        samples
    };
    let mut known = all(&pair, |_| 1);
    known.push(("", pair(own), 1.0));
    use Kind::{Counter, Gauge};
    vec![
        family(
            "etcd_network_active_peers",
            Gauge,
            "1 while there is a connection to the member, 0 if not.",
            all(&pair, |peer| u64::from(peer.is_active)),
        ),
        family("etcd_network_known_peers", Gauge, "1 for every member, also this one.", known),
        family(
            "etcd_network_disconnected_peers_total",
            Counter,
            "Connections to the member that were lost.",
            all(&pair, |peer| peer.disconnects),
        ),
        family(
            "etcd_network_peer_received_bytes_total",
            Counter,
            "Bytes received from the member.",
            all(&from, |peer| peer.received_bytes),
        ),
        family(
            "etcd_network_peer_received_failures_total",
            Counter,
            "Connections of the member that ended because of what came over them.",
            seen(all(&from, |peer| peer.received_failures)),
        ),
        family(
            "etcd_network_peer_sent_bytes_total",
            Counter,
            "Bytes sent to the member.",
            all(&to, |peer| peer.sent_bytes),
        ),
        family(
            "etcd_network_peer_sent_failures_total",
            Counter,
            "Messages to the member that could not be sent.",
            all(&to, |peer| peer.sent_failures),
        ),
        family(
            "etcd_network_snapshot_send_success",
            Counter,
            "Snapshots that the member has fetched.",
            seen(all(&to, |peer| peer.snapshots_sent)),
        ),
        family(
            "etcd_network_snapshot_send_failures",
            Counter,
            "Snapshots that the member has not fetched to the end.",
            seen(all(&to, |peer| peer.snapshots_failed)),
        ),
        round_trips(metrics, &to),
        family(
            "etcd_server_learner_promote_failures",
            Counter,
            "Learners that were not promoted, by reason.",
            reasons(metrics),
        ),
    ]
}

fn reasons(metrics: &PeerMetrics) -> Vec<Sample> {
    let reasons = metrics.promote_failures.borrow();
    reasons.iter().map(|(reason, count)| ("", label("Reason", reason), *count as f64)).collect()
}

fn round_trips(metrics: &PeerMetrics, to: &dyn Fn(u64) -> String) -> Extra {
    let mut samples = Vec::new();
    for (id, times) in metrics.round_trips.borrow().iter() {
        let labels = to(*id);
        let mut cumulative = 0;
        for (bound, count) in times.cumulative() {
            cumulative = count;
            samples.push(("_bucket", format!("{labels},le=\"{}\"", go_float(bound)), count as f64));
        }
        samples.push(("_sum", labels.clone(), times.sum()));
        samples.push(("_count", labels, cumulative as f64));
    }
    Extra {
        name: "etcd_network_peer_round_trip_time_seconds",
        kind: Kind::Histogram,
        help: "Time from a probe of the member to its answer.",
        samples,
    }
}
