//! What the recorded numbers mean: names, help, labels and units, fixed when the process starts.
//!
//! A reactor's snapshot is a flat list of integers; the schema says which of them belong to which series. All
//! reactors describe and collect their metrics in the same order, hence snapshots are merged by adding them up number
//! by number, and the texts exist once in the process. Schema and snapshots are `Send`: rendering can happen anywhere.

use super::cell::Bounds;

/// The type a family is announced with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `histogram`
    Histogram,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Which numbers a series takes and how they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One unsigned number.
    Count,
    /// One signed number.
    Level,
    /// Good and bad last results: shown as 1 if none is bad, 0 if one is, not at all if there are none.
    Verdict,
    /// Buckets, the one above all bounds, and the sum.
    Histogram(&'static Bounds),
}

impl Shape {
    /// How many numbers it takes in a snapshot.
    pub fn slots(self) -> usize {
        match self {
            Shape::Count | Shape::Level => 1,
            Shape::Verdict => 2,
            Shape::Histogram(bounds) => bounds.len() + 2,
        }
    }
}

/// One thing that is recorded into, possibly with several series.
pub trait Metric {
    /// Announces its series.
    fn describe(&self, series: &mut SeriesBuilder<'_>);
    /// Appends the numbers of its series, in the order announced.
    fn collect(&self, out: &mut Vec<u64>);
}

/// A series: its labels and where its numbers are.
#[derive(Debug)]
pub(super) struct Series {
    /// `name="value",...`, sorted by name, values escaped.
    pub(super) labels: String,
    pub(super) slot: usize,
    pub(super) shape: Shape,
    /// Not shown before the first use, as a label that was never seen.
    pub(super) hidden_until_used: bool,
}

/// All series of one name.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) series: Vec<Series>,
}

/// The meaning of a snapshot's numbers.
#[derive(Debug, Default)]
pub struct Schema {
    pub(super) families: Vec<Family>,
    slots: usize,
}

impl Schema {
    /// Announces a metric. Must be called in the order in which metrics are collected.
    pub(super) fn add(&mut self, name: &'static str, kind: Kind, help: &'static str, metric: &dyn Metric) {
        let mut builder = SeriesBuilder { slots: &mut self.slots, series: Vec::new(), hidden: false };
        metric.describe(&mut builder);
        let series = builder.series;
        self.families.push(Family { name, kind, help, series });
    }

    /// Sorts families and series by name, as they are shown.
    pub(super) fn finish(mut self) -> Self {
        self.families.sort_by_key(|family| family.name);
        for pair in self.families.windows(2) {
            assert!(pair[0].name < pair[1].name, "metric {} exists twice", pair[0].name);
        }
        for family in &mut self.families {
            family.series.sort_by(|left, right| left.labels.cmp(&right.labels));
            let is_histogram = family.kind == Kind::Histogram;
            let fits = |series: &Series| matches!(series.shape, Shape::Histogram(_)) == is_histogram;
            assert!(family.series.iter().all(fits), "{} is announced as what it is", family.name);
        }
        self
    }

    /// Numbers in a snapshot.
    pub fn slots(&self) -> usize {
        self.slots
    }
}

/// Where a metric announces its series.
#[derive(Debug)]
pub struct SeriesBuilder<'a> {
    slots: &'a mut usize,
    series: Vec<Series>,
    hidden: bool,
}

impl SeriesBuilder<'_> {
    /// Announces one series. Labels are rendered (see [`label`]), the pairs in the order of their names.
    pub fn add(&mut self, labels: String, shape: Shape) {
        let slot = *self.slots;
        *self.slots += shape.slots();
        self.series.push(Series { labels, slot, shape, hidden_until_used: self.hidden });
    }

    /// Announces the series of `inner` with `labels` in front of theirs.
    pub(super) fn nested(&mut self, labels: &str, hidden_until_used: bool, inner: &dyn Metric) {
        let outer_hidden = std::mem::replace(&mut self.hidden, hidden_until_used);
        let from = self.series.len();
        inner.describe(self);
        self.hidden = outer_hidden;
        for series in &mut self.series[from..] {
            let inner = std::mem::take(&mut series.labels);
            series.labels = if inner.is_empty() { labels.to_owned() } else { format!("{labels},{inner}") };
        }
    }
}

/// Renders one label, its value escaped.
pub fn label(name: &str, value: &str) -> String {
    let mut text = String::with_capacity(name.len() + value.len() + 3);
    text.push_str(name);
    text.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}
