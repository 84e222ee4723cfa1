//! Latency records: one histogram per kind of request for the whole run and one per interval of it.
//!
//! A sample belongs to the moment its request was *due*, not to the moment it was answered: with an open loop
//! a stall of the server therefore shows in every request that should have been sent during the stall.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bounds of what a histogram tells apart: below a microsecond is noise, above two minutes is an error.
const LOWEST_NANOS: u64 = 1_000;
const HIGHEST_NANOS: u64 = 120_000_000_000;
/// Significant digits of the whole run's histogram.
const DIGITS_WHOLE: u8 = 3;
/// Significant digits of an interval's, of which there may be thousands.
const DIGITS_INTERVAL: u8 = 2;
/// Most different error texts kept per thread; further ones are counted together.
const ERROR_TEXTS_MAX: usize = 32;

/// The part of a run that counts.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Requests due from here on count.
    pub start: Instant,
    /// Requests due before here count.
    pub end: Instant,
}

impl Window {
    fn contains(&self, at: Instant) -> bool {
        self.start <= at && at < self.end
    }
}

/// The latencies of one kind of request.
pub struct Track {
    whole: Histogram<u64>,
    intervals: Vec<Histogram<u32>>,
    interval: Duration,
    /// Answers that arrived within the window, whenever they were due.
    completed: u64,
}

impl Track {
    /// An empty track whose series has steps of `interval`.
    pub fn new(interval: Duration) -> Track {
        let whole = Histogram::new_with_bounds(LOWEST_NANOS, HIGHEST_NANOS, DIGITS_WHOLE).expect("constant bounds");
        Track { whole, intervals: Vec::new(), interval, completed: 0 }
    }

    /// Records one answer.
    pub fn record(&mut self, window: &Window, due: Instant, answered: Instant) {
        if window.contains(answered) {
            self.completed += 1;
        }
        if window.contains(due) {
            self.record_latency(window, due, answered);
        }
    }

    /// Records a request that never was answered with the age it reached.
    pub fn record_unanswered(&mut self, window: &Window, due: Instant, given_up: Instant) {
        if window.contains(due) {
            self.record_latency(window, due, given_up);
        }
    }

    fn record_latency(&mut self, window: &Window, due: Instant, answered: Instant) {
        let nanos = u64::try_from(answered.saturating_duration_since(due).as_nanos()).unwrap_or(u64::MAX);
        self.whole.saturating_record(nanos);
        let index = (due - window.start).as_nanos() / self.interval.as_nanos();
        let index = usize::try_from(index).expect("a window has few intervals");
        while self.intervals.len() <= index {
            let empty = Histogram::new_with_bounds(LOWEST_NANOS, HIGHEST_NANOS, DIGITS_INTERVAL);
            self.intervals.push(empty.expect("constant bounds"));
        }
        self.intervals[index].saturating_record(nanos);
    }

    /// Adds the records of another thread, or of a repetition, whose intervals are of the same length.
    pub fn merge(&mut self, other: &Track) {
        assert_eq!(self.interval, other.interval);
        self.completed += other.completed;
        self.whole.add(&other.whole).expect("equal bounds");
        for (index, theirs) in other.intervals.iter().enumerate() {
            match self.intervals.get_mut(index) {
                Some(ours) => ours.add(theirs).expect("equal bounds"),
                None => self.intervals.push(theirs.clone()),
            }
        }
    }

    /// Answers within the window.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// The figures for reports.
    pub fn summary(&self) -> Latency {
        summary(&self.whole)
    }

    /// Latency at ever finer quantiles: ten points for each further nine.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let mut points = Vec::new();
        for step in 0..=60 {
            let beyond = 10f64.powf(-f64::from(step) / 10.0);
            if beyond * (self.whole.len() as f64) < 1.0 {
                break;
            }
            points.push(CurvePoint { beyond, micros: self.whole.value_at_quantile(1.0 - beyond) as f64 / 1e3 });
        }
        points
    }

    /// The figures of the requests that were due within this part of the window, to the length of an interval.
    pub fn between(&self, from: Duration, to: Duration) -> Latency {
        let number = |at: Duration| usize::try_from(at.as_nanos() / self.interval.as_nanos()).unwrap_or(usize::MAX);
        let (first, last) = (number(from), number(to));
        let sum = Histogram::<u32>::new_with_bounds(LOWEST_NANOS, HIGHEST_NANOS, DIGITS_INTERVAL);
        let mut sum = sum.expect("constant bounds");
        for interval in self.intervals.iter().take(last.saturating_add(1)).skip(first) {
            sum.add(interval).expect("equal bounds");
        }
        summary(&sum)
    }

    /// The figures of each interval that had a request.
    pub fn series(&self) -> Vec<SeriesPoint> {
        let point = |(index, histogram): (usize, &Histogram<u32>)| SeriesPoint {
            seconds: index as f64 * self.interval.as_secs_f64(),
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5) as f64 / 1e3,
            p99: histogram.value_at_quantile(0.99) as f64 / 1e3,
            max: histogram.max() as f64 / 1e3,
        };
        self.intervals.iter().enumerate().filter(|(_, histogram)| !histogram.is_empty()).map(point).collect()
    }
}

fn summary<T: hdrhistogram::Counter>(histogram: &Histogram<T>) -> Latency {
    let micros = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        count: histogram.len(),
        mean: histogram.mean() / 1e3,
        p50: micros(0.5),
        p90: micros(0.9),
        p99: micros(0.99),
        p999: micros(0.999),
        max: histogram.max() as f64 / 1e3,
    }
}

/// Latency of a whole run in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    pub max: f64,
}

/// One point of a percentile curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Share of requests slower than this: 0.01 is the 99th percentile.
    pub beyond: f64,
    /// Latency in microseconds.
    pub micros: f64,
}

/// Latency within one interval, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesPoint {
    /// Start of the interval, counted from the start of the window.
    pub seconds: f64,
    pub count: u64,
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    pub max: f64,
}

/// Error texts and how often each came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Errors(pub BTreeMap<String, u64>);

impl Errors {
    /// Counts one error.
    pub fn add(&mut self, text: String) {
        let known = self.0.contains_key(&text) || self.0.len() < ERROR_TEXTS_MAX;
        *self.0.entry(if known { text } else { "others".to_owned() }).or_insert(0) += 1;
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Errors) {
        for (text, count) in &other.0 {
            *self.0.entry(text.clone()).or_insert(0) += count;
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn window() -> Window {
        let start = Instant::now();
        Window { start, end: start + 2 * SECOND }
    }

    #[test]
    fn samples_count_where_they_were_due() {
        let window = window();
        let mut track = Track::new(SECOND);
        let due = window.start + SECOND - Duration::from_millis(1);
        track.record(&window, due, due + Duration::from_millis(500));
        track.record(&window, window.end, window.end + SECOND);
        track.record(&window, window.start - SECOND, window.start);
        assert_eq!(track.completed(), 2, "by arrival: the one due before the window came within it");
        assert_eq!(track.summary().count, 1);
        let series = track.series();
        assert_eq!((series.len(), series[0].seconds), (1, 0.0));
        assert!((series[0].p99 - 500_000.0).abs() < 5_000.0, "{series:?}");
        assert_eq!(track.between(Duration::ZERO, SECOND / 2).count, 1);
        assert_eq!(track.between(SECOND, 5 * SECOND).count, 0);
    }

    #[test]
    fn merging_equals_recording_in_one() {
        let window = window();
        let (mut one, mut left, mut right) = (Track::new(SECOND), Track::new(SECOND), Track::new(SECOND));
        for step in 0..1000u32 {
            let due = window.start + Duration::from_millis(u64::from(step) * 2);
            let answered = due + Duration::from_micros(u64::from(step) + 1);
            one.record(&window, due, answered);
            (if step % 3 == 0 { &mut left } else { &mut right }).record(&window, due, answered);
        }
        left.merge(&right);
        assert_eq!((left.summary(), left.series(), left.curve()), (one.summary(), one.series(), one.curve()));
        assert!((one.summary().p99 - 990.0).abs() < 5.0, "{:?}", one.summary());
    }
}
