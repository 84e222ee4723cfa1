//! Metrics: what reactors record, and what `/metrics` shows.
//!
//! ```text
//! reactor 0: ReactorMetrics ──snapshot()──┐
//! reactor 1: ReactorMetrics ──snapshot()──┼─ merge ─▶ render(schema, snapshot, facts) ─▶ text
//! reactor n: ReactorMetrics ──snapshot()──┘
//! ```
//!
//! Recording is a few nanoseconds: plain cells, no atomics, no labels looked up by text. A snapshot is a flat list of
//! numbers and is `Send`; names and labels exist once, in the [`Schema`]. Everything of one process is added up, also
//! gauges: a value only one reactor knows is 0 on all others. What gRPC servers count comes from elsewhere ([`tally`]).
//!
//! Not here: reading clocks, serving HTTP, deciding what is recorded when.

mod calls;
mod catalog;
mod cell;
mod facts;
mod family;
mod peers;
mod process;
mod schema;
#[cfg(test)]
mod tests;
mod text;

pub use calls::{take_over, tally};
pub use catalog::{
    Applied, Check, CheckResult, Checked, Op, Probe, ReactorMetrics, Request, ScrapeCode, Stage, StreamFailure, Success,
};
pub use cell::{Bounds, Counter, Gauge, Histogram};
pub use facts::Facts;
pub use family::{ClientRequests, Label, Labeled, PerMethod, PerMethodAndCode, Verdict};
pub use peers::{PeerFacts, PeerFigures, PeerMetrics};
pub use process::ProcessStats;
pub use schema::{Metric, Schema};
pub use text::{CONTENT_TYPE, render};

use family::ClientRequestCount;

/// The numbers of one reactor, or of several added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    values: Vec<u64>,
    client_requests: Vec<ClientRequestCount>,
}

impl Snapshot {
    fn new(values: Vec<u64>, client_requests: Vec<ClientRequestCount>) -> Self {
        Snapshot { values, client_requests }
    }

    /// Adds the numbers of another reactor of the same process.
    pub fn merge(&mut self, other: &Snapshot) {
        assert_eq!(self.values.len(), other.values.len(), "reactors of one process record the same metrics");
        for (value, more) in self.values.iter_mut().zip(&other.values) {
            *value = value.wrapping_add(*more);
        }
        for more in &other.client_requests {
            let same = |entry: &&mut ClientRequestCount| entry.stream == more.stream && entry.version == more.version;
            match self.client_requests.iter_mut().find(same) {
                Some(entry) => entry.count = entry.count.wrapping_add(more.count),
                None => self.client_requests.push(more.clone()),
            }
        }
    }

    fn values(&self, slot: usize, count: usize) -> &[u64] {
        &self.values[slot..slot + count]
    }

    fn client_requests(&self) -> &[ClientRequestCount] {
        &self.client_requests
    }
}
