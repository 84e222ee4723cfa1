//! What a reactor's gRPC server counts: calls, messages and bytes by method, outcomes by code, and times.
//!
//! Invariant: one reactor writes, anybody may read. So a count is a plain load and store of an atomic, as cheap as a
//! cell, and a page of metrics needs no message to the reactor. Readers may see one count ahead of another.
//! Deliberately absent: names, labels and texts, which are the server's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::status::Code;

/// Counts up; only the reactor that owns the tally may.
#[inline]
fn add(count: &AtomicU64, amount: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Durations by size.
#[derive(Debug)]
pub struct Times {
    /// Upper bounds in nanoseconds, ascending.
    bounds: &'static [u64],
    /// Not cumulative; the last is for what is above all bounds.
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

impl Times {
    fn new(bounds: &'static [u64]) -> Times {
        Times { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), nanos: AtomicU64::new(0) }
    }

    fn record(&self, took: Duration, times: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.buckets[self.bounds.partition_point(|&bound| bound < nanos)], times);
        add(&self.nanos, nanos.wrapping_mul(times));
    }

    /// The counts of the buckets, each by itself, the one above all bounds last.
    pub fn buckets(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// All durations together, in nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }
}

/// The counts of one method.
#[derive(Debug)]
struct PerMethod {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    ended: [AtomicU64; Code::ALL.len()],
    handling: Option<Times>,
}

/// See the module.
#[derive(Debug)]
pub struct Tally {
    methods: Box<[PerMethod]>,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    connections: AtomicU64,
    in_flight: AtomicU64,
    refused: AtomicU64,
    passes: Option<Times>,
}

/// What a tally times besides counting. A time costs a reading of the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Bounds for the time from a call's arrival to its end, for each method: a reading for each call.
    pub calls: Option<&'static [u64]>,
    /// Bounds for the time from a unary call's arrival until its handler has taken it: a reading for each pass of a
    /// connection.
    pub passes: Option<&'static [u64]>,
}

impl Tally {
    /// Zeros, for a service with so many methods.
    pub fn new(methods: usize, timing: Timing) -> Tally {
        let method = |_| PerMethod {
            started: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; Code::ALL.len()],
            handling: timing.calls.map(Times::new),
        };
        Tally {
            methods: (0..methods).map(method).collect(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            passes: timing.passes.map(Times::new),
        }
    }

    /// A call begins. As what follows, only for the reactor that owns the tally.
    #[inline]
    pub fn start(&self, method: usize) {
        add(&self.methods[method].started, 1);
    }

    /// A request message came.
    #[inline]
    pub fn receive(&self, method: usize, bytes: usize) {
        add(&self.methods[method].received, 1);
        add(&self.received_bytes, bytes as u64);
    }

    /// An answer left.
    #[inline]
    pub fn send(&self, method: usize, bytes: usize) {
        add(&self.methods[method].sent, 1);
        add(&self.sent_bytes, bytes as u64);
    }

    /// A call ends; `took` is asked only if calls are timed.
    #[inline]
    pub fn end(&self, method: usize, code: Code, took: impl FnOnce() -> Duration) {
        let counts = &self.methods[method];
        add(&counts.ended[code as usize], 1);
        if let Some(times) = &counts.handling {
            times.record(took(), 1);
        }
    }

    pub(super) fn change_in_flight(&self, change: isize) {
        add(&self.in_flight, change as i64 as u64);
    }

    pub(super) fn refuse(&self) {
        add(&self.refused, 1);
    }

    /// A connection was taken on.
    pub(crate) fn connected(&self) {
        add(&self.connections, 1);
    }

    /// A connection is over.
    pub(crate) fn disconnected(&self) {
        add(&self.connections, u64::MAX);
    }

    /// A pass of a connection has handed so many unary calls to their handlers.
    pub(crate) fn pass(&self, calls: u64, took: impl FnOnce() -> Duration) {
        if let Some(times) = &self.passes
            && calls > 0
        {
            times.record(took(), calls);
        }
    }

    /// Calls of a method that have begun.
    pub fn started(&self, method: usize) -> u64 {
        self.methods[method].started.load(Ordering::Relaxed)
    }

    /// Messages received by a method.
    pub fn received(&self, method: usize) -> u64 {
        self.methods[method].received.load(Ordering::Relaxed)
    }

    /// Messages sent by a method.
    pub fn sent(&self, method: usize) -> u64 {
        self.methods[method].sent.load(Ordering::Relaxed)
    }

    /// Calls of a method that have ended so. Calls lost with their stream or connection count as cancelled.
    pub fn ended(&self, method: usize, code: Code) -> u64 {
        self.methods[method].ended[code as usize].load(Ordering::Relaxed)
    }

    /// How long the calls of a method took, if that is timed.
    pub fn handling(&self, method: usize) -> Option<&Times> {
        self.methods[method].handling.as_ref()
    }

    /// How long unary calls took to reach their handlers, if that is timed.
    pub fn passes(&self) -> Option<&Times> {
        self.passes.as_ref()
    }

    /// Bytes of all messages received.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all messages sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Open HTTP/2 connections.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Unary calls that wait for their answer.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Unary calls refused because too many were in flight.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_add_up() {
        const BOUNDS: &[u64] = &[1_000, 2_000];
        let tally = Tally::new(2, Timing { calls: Some(BOUNDS), passes: Some(BOUNDS) });
        tally.start(1);
        tally.receive(1, 10);
        tally.send(1, 7);
        tally.send(1, 3);
        tally.end(1, Code::Ok, || Duration::from_nanos(2_000));
        tally.connected();
        tally.connected();
        tally.disconnected();
        tally.pass(3, || Duration::from_micros(5));
        tally.pass(0, || panic!("nothing to time"));
        assert_eq!((tally.started(1), tally.received(1), tally.sent(1)), (1, 1, 2));
        assert_eq!((tally.received_bytes(), tally.sent_bytes(), tally.connections()), (10, 10, 1));
        assert_eq!((tally.ended(1, Code::Ok), tally.ended(0, Code::Ok), tally.ended(1, Code::Unknown)), (1, 0, 0));
        let handling = tally.handling(1).expect("timed");
        assert_eq!((handling.buckets().collect::<Vec<_>>(), handling.nanos()), (vec![0, 1, 0], 2_000));
        let passes = tally.passes().expect("timed");
        assert_eq!((passes.buckets().collect::<Vec<_>>(), passes.nanos()), (vec![0, 0, 3], 15_000));
        let quiet = Tally::new(1, Timing::default());
        quiet.end(0, Code::Ok, || panic!("not timed"));
    }
}
