//! The text exposition format of Prometheus: families sorted by name, series by labels, numbers as Go writes them.

use std::fmt::Write as _;

use super::schema::{Family, Kind, Schema, Series, Shape};
use super::{Facts, Snapshot, facts};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series whose numbers are made for one scrape.
pub(super) struct Extra {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    /// Rendered labels and value.
    pub(super) samples: Vec<(String, f64)>,
}

enum Entry<'a> {
    Recorded(&'a Family),
    Made(&'a Extra),
}

/// Writes everything. Some hundred microseconds; may be done on any thread.
pub fn render(schema: &Schema, snapshot: &Snapshot, facts: &Facts) -> String {
    let extras = facts::extras(snapshot, facts);
    let mut entries: Vec<(&str, Entry<'_>)> = schema
        .families
        .iter()
        .map(|family| (family.name, Entry::Recorded(family)))
        .chain(extras.iter().map(|extra| (extra.name, Entry::Made(extra))))
        .collect();
    entries.sort_by_key(|(name, _)| *name);
    for pair in entries.windows(2) {
        assert!(pair[0].0 < pair[1].0, "metric {} exists twice", pair[0].0);
    }
    let mut out = String::with_capacity(128 * 1024);
    for (_, entry) in entries {
        match entry {
            Entry::Recorded(family) => write_family(&mut out, family, snapshot),
            Entry::Made(extra) if extra.samples.is_empty() => {}
            Entry::Made(extra) => {
                write_header(&mut out, extra.name, extra.kind, extra.help);
                for (labels, value) in &extra.samples {
                    write_sample(&mut out, extra.name, "", labels, *value);
                }
            }
        }
    }
    out
}

fn write_header(out: &mut String, name: &str, kind: Kind, help: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    put(out, format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
}

fn write_family(out: &mut String, family: &Family, snapshot: &Snapshot) {
    let mut announced = false;
    for series in &family.series {
        let values = snapshot.values(series.slot, series.shape.slots());
        let unused = values.iter().all(|&value| value == 0);
        if unused && series.hidden_until_used {
            continue;
        }
        if !std::mem::replace(&mut announced, true) {
            write_header(out, family.name, family.kind, family.help);
        }
        match series.shape {
            Shape::Count => write_sample(out, family.name, "", &series.labels, values[0] as f64),
            Shape::Level => write_sample(out, family.name, "", &series.labels, values[0] as i64 as f64),
            Shape::Verdict => {
                let good = if values[1] == 0 { 1.0 } else { 0.0 };
                write_sample(out, family.name, "", &series.labels, good);
            }
            Shape::Histogram(_) => write_histogram(out, family.name, series, values),
        }
    }
}

fn write_histogram(out: &mut String, name: &str, series: &Series, values: &[u64]) {
    let Shape::Histogram(bounds) = series.shape else { unreachable!("only histograms come here") };
    let (sum, buckets) = values.split_last().expect("a histogram has numbers");
    let separator = if series.labels.is_empty() { "" } else { "," };
    let mut cumulative: u64 = 0;
    for (index, count) in buckets.iter().enumerate() {
        cumulative = cumulative.wrapping_add(*count);
        let bound = if index < bounds.len() { go_float(bounds.bound(index)) } else { "+Inf".to_owned() };
        let labels = format!("{}{separator}le=\"{bound}\"", series.labels);
        write_sample(out, name, "_bucket", &labels, cumulative as f64);
    }
    write_sample(out, name, "_sum", &series.labels, bounds.in_units(*sum));
    write_sample(out, name, "_count", &series.labels, cumulative as f64);
}

fn write_sample(out: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    let value = go_float(value);
    if labels.is_empty() {
        put(out, format_args!("{name}{suffix} {value}\n"));
    } else {
        put(out, format_args!("{name}{suffix}{{{labels}}} {value}\n"));
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}

/// A number as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it: shortest digits, and an exponent from a
/// million on and below a ten-thousandth.
pub(super) fn go_float(value: f64) -> String {
    if value == f64::INFINITY {
        return "+Inf".to_owned();
    }
    if value == f64::NEG_INFINITY {
        return "-Inf".to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("this notation has an exponent");
    let exponent: i32 = exponent.parse().expect("an integer");
    if value == 0.0 || (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
