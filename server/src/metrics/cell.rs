//! The things one records into: counters, gauges, histograms. Plain cells of one thread, a few nanoseconds each.
//!
//! Values are integers: a count, or a duration in nanoseconds. Units and labels are the schema's business, so that
//! recording never touches a float or a text.

use std::cell::Cell;
use std::time::Duration;

use super::schema::{Metric, SeriesBuilder, Shape};

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    /// Takes over a total that is counted elsewhere.
    #[inline]
    pub fn set_total(&self, total: u64) {
        self.0.set(total);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Metric for Counter {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        series.add(String::new(), Shape::Count);
    }

    fn collect(&self, out: &mut Vec<u64>) {
        out.push(self.0.get());
    }
}

/// Goes up and down. Reactors that do not know the value leave it at 0: values of reactors are added.
#[derive(Debug, Default)]
pub struct Gauge(Cell<i64>);

impl Gauge {
    /// Sets the value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }

    /// Sets a value that may be larger than gauges hold; what is beyond is shown as the largest.
    #[inline]
    pub fn set_unsigned(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Sets 1 or 0.
    #[inline]
    pub fn set_bool(&self, value: bool) {
        self.0.set(i64::from(value));
    }

    /// Adds a positive or negative amount.
    #[inline]
    pub fn add(&self, amount: i64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

impl Metric for Gauge {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        series.add(String::new(), Shape::Level);
    }

    fn collect(&self, out: &mut Vec<u64>) {
        out.push(self.0.get() as u64); // added modulo 2^64 and read back as signed
    }
}

/// The upper bounds of a histogram's buckets, in the integers that are recorded.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounds {
    steps: Steps,
    /// Recorded integers in one unit of the metric: 10^9 for nanoseconds shown as seconds.
    per_unit: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Steps {
    /// `base`, `2 base`, `4 base`, ...
    Doubling { base: u64, count: usize },
    /// Ascending.
    Listed(&'static [u64]),
}

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

/// The bounds of [`Bounds::GRPC`].
pub(super) static GRPC_NANOS: [u64; 11] = [
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2 * SECOND + 500 * MILLISECOND,
    5 * SECOND,
    10 * SECOND,
];

const fn doubling(base: u64, count: usize, per_unit: u64) -> Bounds {
    assert!(base > 0);
    assert!(base.leading_zeros() as usize >= count, "all bounds are within 64 bits");
    Bounds { steps: Steps::Doubling { base, count }, per_unit }
}

/// etcd's bucket boundaries by their usual name: first bound, doubled so many times. Durations recorded in
/// nanoseconds unless said otherwise.
impl Bounds {
    /// 1 µs × 2^0..20, in seconds. Ours: fine enough for the stages of a request.
    pub const MICROSECONDS_21: &'static Bounds = &doubling(1_000, 21, SECOND);
    /// 0.0001×2^0..15, in seconds.
    pub const TENTHS_MS_16: &'static Bounds = &doubling(100_000, 16, SECOND);
    /// 0.0001×2^0..19, in seconds.
    pub const TENTHS_MS_20: &'static Bounds = &doubling(100_000, 20, SECOND);
    /// 0.001×2^0..13, in seconds.
    pub const MILLISECONDS_14: &'static Bounds = &doubling(MILLISECOND, 14, SECOND);
    /// 0.01×2^0..14, in seconds.
    pub const TEN_MS_15: &'static Bounds = &doubling(10 * MILLISECOND, 15, SECOND);
    /// 0.01×2^0..16, in seconds.
    pub const TEN_MS_17: &'static Bounds = &doubling(10 * MILLISECOND, 17, SECOND);
    /// 0.1×2^0..9, in seconds.
    pub const HUNDRED_MS_10: &'static Bounds = &doubling(100 * MILLISECOND, 10, SECOND);
    /// 0.1×2^0..12, in seconds.
    pub const HUNDRED_MS_13: &'static Bounds = &doubling(100 * MILLISECOND, 13, SECOND);
    /// 0.5×2^0..13, in milliseconds.
    pub const HALF_IN_MS_14: &'static Bounds = &doubling(MILLISECOND / 2, 14, MILLISECOND);
    /// 1×2^0..12, in milliseconds.
    pub const ONE_IN_MS_13: &'static Bounds = &doubling(MILLISECOND, 13, MILLISECOND);
    /// 100×2^0..13, in milliseconds.
    pub const HUNDRED_IN_MS_14: &'static Bounds = &doubling(100 * MILLISECOND, 14, MILLISECOND);
    /// 1×2^0..23, for values recorded in the metric's own unit.
    pub const ONES_24: &'static Bounds = &doubling(1, 24, 1);
    /// 1×2^0..13, for values recorded in the metric's own unit.
    pub const ONES_14: &'static Bounds = &doubling(1, 14, 1);
    /// The default bounds of Prometheus libraries, in seconds; gRPC's handling times use them.
    pub const GRPC: &'static Bounds = &Bounds { steps: Steps::Listed(&GRPC_NANOS), per_unit: SECOND };

    /// Number of finite bounds.
    pub fn len(&self) -> usize {
        match self.steps {
            Steps::Doubling { count, .. } => count,
            Steps::Listed(bounds) => bounds.len(),
        }
    }

    /// Never: a histogram without bounds would be a counter.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bound `index` in the unit of the metric. Doubling is exact, so that the text is the one etcd shows.
    pub(super) fn bound(&self, index: usize) -> f64 {
        match self.steps {
            Steps::Doubling { base, .. } => base as f64 / self.per_unit as f64 * (1u64 << index) as f64,
            Steps::Listed(bounds) => bounds[index] as f64 / self.per_unit as f64,
        }
    }

    /// A sum of recorded integers in the unit of the metric.
    pub(super) fn in_units(&self, sum: u64) -> f64 {
        sum as f64 / self.per_unit as f64
    }

    /// The bucket of a value: the first bound that is not below it; [`Bounds::len`] if all are.
    #[inline]
    fn bucket(&self, value: u64) -> usize {
        match self.steps {
            Steps::Doubling { base, count } => {
                // Bound k holds value iff (value - 1) / base < 2^k.
                let quotient = value.saturating_sub(1) / base;
                count.min((u64::BITS - quotient.leading_zeros()) as usize)
            }
            Steps::Listed(bounds) => bounds.partition_point(|&bound| bound < value),
        }
    }
}

/// Counts values by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// Not cumulative; the last is for values above all bounds.
    buckets: Box<[Cell<u64>]>,
    sum: Cell<u64>,
}

impl Histogram {
    /// An empty histogram.
    pub fn new(bounds: &'static Bounds) -> Self {
        Histogram { bounds, buckets: vec![Cell::new(0); bounds.len() + 1].into(), sum: Cell::new(0) }
    }

    /// Records a value in the histogram's integers: nanoseconds for all durations.
    #[inline]
    pub fn record(&self, value: u64) {
        let bucket = &self.buckets[self.bounds.bucket(value)];
        bucket.set(bucket.get().wrapping_add(1));
        self.sum.set(self.sum.get().wrapping_add(value));
    }

    /// Records the same value many times: the latency of a batch, once for each of its requests.
    #[inline]
    pub fn record_many(&self, value: u64, times: u64) {
        let bucket = &self.buckets[self.bounds.bucket(value)];
        bucket.set(bucket.get().wrapping_add(times));
        self.sum.set(self.sum.get().wrapping_add(value.wrapping_mul(times)));
    }

    /// Records a duration; one of centuries counts as the longest that fits.
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes over what is recorded elsewhere, all of it added up: counts by the same bounds, and the sum.
    pub fn set_totals<C: Iterator<Item = u64>>(&self, recorded: impl Iterator<Item = (C, u64)>) {
        self.buckets.iter().for_each(|bucket| bucket.set(0));
        self.sum.set(0);
        for (counts, sum) in recorded {
            for (bucket, count) in self.buckets.iter().zip(counts) {
                bucket.set(bucket.get().wrapping_add(count));
            }
            self.sum.set(self.sum.get().wrapping_add(sum));
        }
    }

    /// Every bound in the unit of the metric, infinity last, with the number of values up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = (0..self.bounds.len()).map(|index| self.bounds.bound(index)).chain([f64::INFINITY]);
        let counts = self.buckets.iter().scan(0u64, |sum, bucket| {
            *sum = sum.wrapping_add(bucket.get());
            Some(*sum)
        });
        bounds.zip(counts)
    }

    /// The sum of the values in the unit of the metric.
    pub(super) fn sum(&self) -> f64 {
        self.bounds.in_units(self.sum.get())
    }

    /// Values recorded so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Cell::get).fold(0, u64::wrapping_add)
    }
}

impl Metric for Histogram {
    fn describe(&self, series: &mut SeriesBuilder<'_>) {
        series.add(String::new(), Shape::Histogram(self.bounds));
    }

    fn collect(&self, out: &mut Vec<u64>) {
        out.extend(self.buckets.iter().map(Cell::get));
        out.push(self.sum.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&Bounds] = &[
        Bounds::MICROSECONDS_21,
        Bounds::TENTHS_MS_16,
        Bounds::TENTHS_MS_20,
        Bounds::MILLISECONDS_14,
        Bounds::TEN_MS_15,
        Bounds::TEN_MS_17,
        Bounds::HUNDRED_MS_10,
        Bounds::HUNDRED_MS_13,
        Bounds::HALF_IN_MS_14,
        Bounds::ONE_IN_MS_13,
        Bounds::HUNDRED_IN_MS_14,
        Bounds::ONES_24,
        Bounds::ONES_14,
        Bounds::GRPC,
    ];

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        for bounds in ALL {
            let raw = |index: usize| (bounds.bound(index) * bounds.per_unit as f64).round() as u64;
            for index in 0..bounds.len() {
                assert_eq!(bounds.bucket(raw(index)), index, "a bound belongs to its own bucket: {bounds:?}");
                assert_eq!(bounds.bucket(raw(index) + 1), index + 1, "and one more to the next: {bounds:?}");
            }
            assert_eq!((bounds.bucket(0), bounds.bucket(u64::MAX)), (0, bounds.len()));
        }
    }

    #[test]
    fn recording_many_is_recording_often() {
        let (once, many) = (Histogram::new(Bounds::MILLISECONDS_14), Histogram::new(Bounds::MILLISECONDS_14));
        for _ in 0..5 {
            once.record_duration(Duration::from_micros(1500));
        }
        many.record_many(1_500_000, 5);
        let collected = |histogram: &Histogram| {
            let mut out = Vec::new();
            histogram.collect(&mut out);
            out
        };
        assert_eq!(collected(&once), collected(&many));
        assert_eq!((many.count(), collected(&many)[1], collected(&many)[15]), (5, 5, 7_500_000));
    }

    #[test]
    fn gauges_of_reactors_add_up_even_below_zero() {
        let (left, right) = (Gauge::default(), Gauge::default());
        left.set(-3);
        right.add(1);
        let mut out = Vec::new();
        left.collect(&mut out);
        right.collect(&mut out);
        assert_eq!(out[0].wrapping_add(out[1]) as i64, -2);
    }
}
