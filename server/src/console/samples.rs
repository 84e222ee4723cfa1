//! Figures of the last fifteen minutes, one row a second: what dashboards of etcd draw, kept in memory.
//!
//! Counters are kept as they are, so that the page forms rates; of times only the p99 of the second is kept. A row is taken
//! from cells that are there anyway and costs some microseconds. Bounded: [`ROWS`] × [`NAMES`] × 8 bytes, 300 KB.

use crate::metrics::{Histogram, PeerFigures, ProcessStats, ReactorMetrics};
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time between two rows.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Rows that are kept.
const ROWS: usize = 900;

/// Largest number that a page reads as it is. These are measurements; ids and revisions elsewhere are texts.
const SHOWN_MAX: u64 = (1 << 53) - 1;

/// The columns.
const NAMES: [&str; 40] = [
    "time",
    "has_leader",
    "is_leader",
    "leader_changes",
    "rpc_started",
    "rpc_failed",
    "watch_streams",
    "lease_streams",
    "db_size",
    "db_in_use",
    "quota",
    "fsync_p99_us",
    "commit_p99_us",
    "resident",
    "cpu_ms",
    "client_in",
    "client_out",
    "peer_in",
    "peer_out",
    "committed",
    "applied",
    "pending",
    "failed",
    "round_trip_us",
    "puts",
    "deletes",
    "ranges",
    "txns",
    "events",
    "renewals",
    "revision",
    "compact_revision",
    "keys",
    "watchers",
    "slow_watchers",
    "pending_events",
    "connections",
    "in_flight",
    "refused",
    "wal_bytes",
];

/// The figures of one second, by the columns.
pub type Row = [u64; NAMES.len()];

/// What all reactors have counted of gRPC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rpcs {
    pub started: u64,
    /// Ended with a code that says that the server could not.
    pub failed: u64,
    /// Open streams of watches.
    pub watch_streams: u64,
    /// Open streams of keep-alives.
    pub lease_streams: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Samples {
    rows: VecDeque<Row>,
    fsync: Since,
    commit: Since,
}

/// What a histogram was at the last row.
#[derive(Debug, Default)]
struct Since(Vec<u64>);

impl Since {
    /// The p99 of what was recorded since the last call: the bound of the bucket it is in, in microseconds; 0 of nothing.
    fn p99_micros(&mut self, histogram: &Histogram) -> u64 {
        let now: Vec<(f64, u64)> = histogram.cumulative().collect();
        let before = |index: usize| self.0.get(index).copied().unwrap_or(0);
        let more: Vec<u64> =
            now.iter().enumerate().map(|(index, (_, count))| count.wrapping_sub(before(index))).collect();
        let wanted = more.last().map_or(0, |all| all - all / 100);
        let found = more.iter().position(|count| *count >= wanted && wanted > 0);
        let largest = now.iter().rev().find(|(bound, _)| bound.is_finite()).map_or(0.0, |(bound, _)| *bound);
        let seconds = found.map_or(0.0, |index| now[index].0.min(largest));
        self.0 = now.into_iter().map(|(_, count)| count).collect();
        (seconds * 1e6) as u64
    }
}

impl Samples {
    /// Keeps a row, and forgets one if there are too many.
    pub fn push(
        &mut self,
        metrics: &ReactorMetrics,
        rpcs: Rpcs,
        peers: &[PeerFigures],
        process: &ProcessStats,
        round_trip: Option<Duration>,
    ) {
        let level = |gauge: &crate::metrics::Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        let whole = |value: Option<f64>, scale: f64| (value.unwrap_or(0.0) * scale) as u64;
        let sum = |of: fn(&PeerFigures) -> u64| peers.iter().map(of).fold(0, u64::wrapping_add);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Times only grow, so that whoever asks for later rows gets them when the clock was set back.
        let now = self.rows.back().map_or(now, |last| now.max(last[0] + 1));
        if self.rows.len() == ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back([
            now,
            level(&metrics.has_leader),
            level(&metrics.is_leader),
            metrics.leader_changes.get(),
            rpcs.started,
            rpcs.failed,
            rpcs.watch_streams,
            rpcs.lease_streams,
            level(&metrics.db_size),
            level(&metrics.db_size_in_use),
            level(&metrics.quota_bytes),
            self.fsync.p99_micros(&metrics.wal_fsync),
            self.commit.p99_micros(&metrics.backend_commit),
            whole(process.resident_bytes, 1.0),
            whole(process.cpu_seconds, 1e3),
            metrics.grpc_received_bytes.get(),
            metrics.grpc_sent_bytes.get(),
            sum(|peer| peer.received_bytes),
            sum(|peer| peer.sent_bytes),
            level(&metrics.proposals_committed),
            level(&metrics.proposals_applied),
            level(&metrics.proposals_pending),
            metrics.proposals_failed.get(),
            round_trip.map_or(0, |took| took.as_micros() as u64),
            metrics.puts.get(),
            metrics.deletes.get(),
            metrics.ranges.get(),
            metrics.txns.get(),
            metrics.events.get(),
            metrics.leases_renewed.get(),
            level(&metrics.current_revision),
            level(&metrics.compact_revision),
            level(&metrics.keys),
            level(&metrics.watchers),
            level(&metrics.slow_watchers),
            level(&metrics.pending_events),
            level(&metrics.connections),
            level(&metrics.requests_in_flight),
            metrics.requests_refused.get(),
            level(&metrics.wal_write_bytes),
        ]);
    }

    /// The rows after a time, in seconds since 1970.
    pub fn since(&self, time: i64) -> Vec<Row> {
        let time = u64::try_from(time).unwrap_or(0);
        self.rows.iter().filter(|row| row[0] > time).copied().collect()
    }
}

/// Rows as JSON: names, and numbers. All of them take some milliseconds: not on the reactor.
pub fn to_json(rows: &[Row]) -> String {
    let mut out = format!("{{\"names\":[\"{}\"],\"rows\":[", NAMES.join("\",\""));
    for (number, row) in rows.iter().enumerate() {
        let values: Vec<String> = row.iter().map(|value| (*value).min(SHOWN_MAX).to_string()).collect();
        out.push_str(if number == 0 { "[" } else { ",[" });
        out.push_str(&values.join(","));
        out.push(']');
    }
    out.push_str("]}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::metrics::Bounds;

    #[test]
    fn the_ring_is_bounded_and_tells_what_is_new() {
        let metrics = ReactorMetrics::new(api::method_table());
        let mut samples = Samples::default();
        for count in 0..ROWS as u64 + 5 {
            metrics.puts.set_total(count);
            samples.push(&metrics, Rpcs::default(), &[], &ProcessStats::default(), None);
        }
        assert_eq!(samples.rows.len(), ROWS);
        let all: serde_json::Value = serde_json::from_str(&to_json(&samples.since(0))).expect("JSON");
        let rows = all["rows"].as_array().expect("rows");
        assert_eq!((rows.len(), rows[0].as_array().map(Vec::len)), (ROWS, Some(NAMES.len())));
        let puts = NAMES.iter().position(|name| *name == "puts").expect("a column");
        assert_eq!(rows[ROWS - 1][puts], ROWS as u64 + 4);
        let last = rows[ROWS - 1][0].as_i64().expect("a time");
        assert!(to_json(&samples.since(last)).ends_with("\"rows\":[]}"));
    }

    #[test]
    fn percentiles_are_those_of_the_last_second() {
        let histogram = Histogram::new(Bounds::MILLISECONDS_14);
        let mut since = Since::default();
        histogram.record_many(900_000, 1000);
        assert_eq!(since.p99_micros(&histogram), 1000);
        assert_eq!(since.p99_micros(&histogram), 0);
        histogram.record_many(900_000, 10);
        histogram.record(3_000_000_000_000);
        assert_eq!(since.p99_micros(&histogram), 8_192_000, "the largest bound stands for what is above it");
    }
}
