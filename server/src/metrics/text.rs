//! The text exposition format of Prometheus: families sorted by name, series by labels, numbers as Go writes them.

use super::cell::Bounds;
use super::schema::{Family, Kind, Schema, Series, Shape};
use super::{Facts, Snapshot, facts};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series whose numbers are made for one scrape.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    /// What is added to the name, rendered labels, and value.
    pub(super) samples: Vec<(&'static str, String, f64)>,
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
                for (suffix, labels, value) in &extra.samples {
                    write_sample(&mut out, extra.name, suffix, labels, *value);
                }
            }
        }
    }
    out
}

fn write_header(out: &mut String, name: &str, kind: Kind, help: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    push(out, &["# HELP ", name, " ", &help, "\n# TYPE ", name, " ", kind.as_str(), "\n"]);
}

fn write_family(out: &mut String, family: &Family, snapshot: &Snapshot) {
    let mut announced = false;
    let mut bounds_written = (None, Vec::new());
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
            Shape::Count => write_count(out, family.name, "", &series.labels, values[0]),
            Shape::Level => write_sample(out, family.name, "", &series.labels, values[0] as i64 as f64),
            Shape::Verdict => write_count(out, family.name, "", &series.labels, u64::from(values[1] == 0)),
            Shape::Histogram(bounds) => {
                // The series of a family have the same bounds, whose texts are the costly part.
                if bounds_written.0 != Some(bounds) {
                    bounds_written = (Some(bounds), le_labels(bounds));
                }
                write_histogram(out, family.name, series, values, bounds, &bounds_written.1);
            }
        }
    }
}

/// The label `le` of every bucket.
fn le_labels(bounds: &Bounds) -> Vec<String> {
    let finite = (0..bounds.len()).map(|index| go_float(bounds.bound(index)));
    finite.chain(["+Inf".to_owned()]).map(|bound| format!("le=\"{bound}\"}} ")).collect()
}

fn write_histogram(
    out: &mut String,
    name: &str,
    series: &Series,
    values: &[u64],
    bounds: &Bounds,
    le_labels: &[String],
) {
    let (sum, buckets) = values.split_last().expect("a histogram has numbers");
    assert_eq!(buckets.len(), le_labels.len(), "every bucket has its bound");
    let separator = if series.labels.is_empty() { "" } else { "," };
    let mut cumulative: u64 = 0;
    for (count, le) in buckets.iter().zip(le_labels) {
        cumulative = cumulative.wrapping_add(*count);
        push(out, &[name, "_bucket{", &series.labels, separator, le]);
        push_count(out, cumulative);
        out.push('\n');
    }
    write_sample(out, name, "_sum", &series.labels, bounds.in_units(*sum));
    write_count(out, name, "_count", &series.labels, cumulative);
}

fn write_count(out: &mut String, name: &str, suffix: &str, labels: &str, value: u64) {
    write_series(out, name, suffix, labels);
    push_count(out, value);
    out.push('\n');
}

fn write_sample(out: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    write_series(out, name, suffix, labels);
    push(out, &[&go_float(value), "\n"]);
}

fn write_series(out: &mut String, name: &str, suffix: &str, labels: &str) {
    if labels.is_empty() {
        push(out, &[name, suffix, " "]);
    } else {
        push(out, &[name, suffix, "{", labels, "} "]);
    }
}

/// Most numbers are zero, and most others small: no float is needed to write these.
fn push_count(out: &mut String, value: u64) {
    match value {
        0..10 => out.push(char::from(b'0' + value as u8)),
        10..1_000_000 => out.push_str(&value.to_string()),
        _ => out.push_str(&go_float(value as f64)),
    }
}

fn push(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
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
