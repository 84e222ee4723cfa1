//! What the gRPC servers of all reactors count, as metrics.
//!
//! Every reactor has a [`Tally`] of its own that anybody may read; they are added up when somebody asks.

use std::sync::Arc;

use plinth_net::grpc::{Code, Tally, Times, Timing};

use super::catalog::{ReactorMetrics, Stage};
use super::cell::GRPC_NANOS;

/// The bounds of `Bounds::MICROSECONDS_21`, one by one.
static STAGE_NANOS: [u64; 21] = {
    let mut bounds = [1_000; 21];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = 2 * bounds[index - 1];
        index += 1;
    }
    bounds
};

/// A tally for a reactor that serves so many methods. Calls are timed only if metrics are `extensive`: that costs a
/// reading of the clock for each of them.
pub fn tally(methods: usize, extensive: bool) -> Arc<Tally> {
    let timing = Timing { calls: extensive.then_some(&GRPC_NANOS), passes: Some(&STAGE_NANOS) };
    Arc::new(Tally::new(methods, timing))
}

/// Sets the metrics that tallies count.
pub fn take_over(metrics: &ReactorMetrics, methods: usize, tallies: &[Arc<Tally>]) {
    let total = |count: &dyn Fn(&Tally) -> u64| tallies.iter().map(|tally| count(tally)).fold(0, u64::wrapping_add);
    for method in 0..methods {
        metrics.grpc_started.with(method).set_total(total(&|tally| tally.started(method)));
        metrics.grpc_msg_received.with(method).set_total(total(&|tally| tally.received(method)));
        metrics.grpc_msg_sent.with(method).set_total(total(&|tally| tally.sent(method)));
        for code in Code::ALL {
            metrics.grpc_handled.set_total(method, code, total(&|tally| tally.ended(method, code)));
        }
        let times = tallies.iter().filter_map(|tally| tally.handling(method)).map(parts);
        metrics.grpc_handling.with(method).set_totals(times);
    }
    metrics.grpc_received_bytes.set_total(total(&Tally::received_bytes));
    metrics.grpc_sent_bytes.set_total(total(&Tally::sent_bytes));
    metrics.connections.set(total(&Tally::connections) as i64);
    metrics.requests_in_flight.set(total(&Tally::in_flight) as i64);
    metrics.requests_refused.set_total(total(&Tally::refused));
    metrics.stages.with(Stage::Edge).set_totals(tallies.iter().filter_map(|tally| tally.passes()).map(parts));
}

fn parts(times: &Times) -> (impl Iterator<Item = u64> + '_, u64) {
    (times.buckets(), times.nanos())
}

#[cfg(test)]
mod tests {
    use super::super::cell::Bounds;
    use super::*;

    #[test]
    fn tallies_sort_times_as_the_metrics_do() {
        for (bounds, nanos) in [(Bounds::MICROSECONDS_21, &STAGE_NANOS[..]), (Bounds::GRPC, &GRPC_NANOS[..])] {
            let shown: Vec<u64> = (0..bounds.len()).map(|index| (bounds.bound(index) * 1e9).round() as u64).collect();
            assert_eq!(shown, nanos);
        }
    }
}
