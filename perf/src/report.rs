//! What a run has to say: figures of one server under one spec, as JSON and as rows of a table.

use crate::drive::Outcome;
use crate::measure::{CurvePoint, Errors, Latency, SeriesPoint, Track};
use crate::process::Memory;
use crate::workload::Spec;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The figures of one server under one spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub server: String,
    /// What its Status call gave as version.
    pub version: String,
    pub spec: Spec,
    /// Repetitions put together.
    pub repetitions: usize,
    pub requests_per_second: f64,
    /// Events per second, of workloads with watchers.
    pub events_per_second: f64,
    /// Server CPU per answer in microseconds; per event where each put has watchers.
    pub server_cpu_micros: f64,
    /// The generator's, likewise.
    pub generator_cpu_micros: f64,
    /// Share of one core the server used.
    pub server_cores: f64,
    /// Cores used by neither the server nor the generator: what disturbed the run from outside.
    pub other_cores: f64,
    /// Cores the hypervisor gave to other guests although this one wanted them.
    pub stolen_cores: f64,
    /// Context switches of the server's threads per answer (per event likewise).
    pub switches: f64,
    /// Bytes the server wrote to disk per answer (per event likewise).
    pub write_bytes: f64,
    /// The server's memory at the end of the window.
    pub memory: Memory,
    /// Latency and series per class.
    pub classes: Vec<ClassReport>,
    pub events: Option<ClassReport>,
    /// Events that never came.
    pub events_missing: u64,
    /// Failed requests by text.
    pub errors: Errors,
    /// Requests without an answer at the end.
    pub unanswered: u64,
    /// Requests that were due and never sent.
    pub unsent: u64,
    /// Server CPU per unit of each repetition, to see how far they agree.
    pub server_cpu_micros_each: Vec<f64>,
    /// Answers per second of each repetition.
    pub requests_per_second_each: Vec<f64>,
}

/// One class of requests, or the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    pub name: String,
    /// Latency in microseconds.
    pub latency: Latency,
    pub curve: Vec<CurvePoint>,
    pub series: Vec<SeriesPoint>,
}

impl ClassReport {
    fn new(name: &str, track: &Track) -> ClassReport {
        let name = name.to_owned();
        ClassReport { name, latency: track.summary(), curve: track.curve(), series: track.series() }
    }
}

impl Report {
    /// Puts the repetitions of one spec on one server together.
    pub fn new(server: &str, version: &str, spec: &Spec, outcomes: &[Outcome]) -> Report {
        assert!(!outcomes.is_empty());
        let sum = |value: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(value).sum::<f64>();
        let seconds = sum(&|run| run.window.as_secs_f64());
        let units = sum(&|run| run.units(spec) as f64).max(1.0);
        let cpu = |run: &Outcome| (run.server.1.cpu.saturating_sub(run.server.0.cpu)).as_secs_f64();
        let own_cpu = |run: &Outcome| (run.generator.1.cpu.saturating_sub(run.generator.0.cpu)).as_secs_f64();
        let busy = |run: &Outcome| (run.machine.1.busy.saturating_sub(run.machine.0.busy)).as_secs_f64();
        let stolen = |run: &Outcome| (run.machine.1.stolen.saturating_sub(run.machine.0.stolen)).as_secs_f64();
        let written = |run: &Outcome| (run.server.1.write_bytes.saturating_sub(run.server.0.write_bytes)) as f64;
        let switches = |run: &Outcome| (run.server.1.switches.saturating_sub(run.server.0.switches)) as f64;
        let per_unit = |run: &Outcome| cpu(run) * 1e6 / (run.units(spec) as f64).max(1.0);
        let rate = |run: &Outcome| run.completed() as f64 / run.window.as_secs_f64();
        let mut errors = Errors::default();
        outcomes.iter().for_each(|run| errors.merge(&run.errors));
        let last = outcomes.last().expect("not empty");
        Report {
            server: server.to_owned(),
            version: version.to_owned(),
            spec: spec.clone(),
            repetitions: outcomes.len(),
            requests_per_second: sum(&|run| run.completed() as f64) / seconds,
            events_per_second: sum(&|run| run.events.completed() as f64) / seconds,
            server_cpu_micros: sum(&cpu) * 1e6 / units,
            generator_cpu_micros: sum(&own_cpu) * 1e6 / units,
            server_cores: sum(&cpu) / seconds,
            other_cores: (sum(&busy) - sum(&cpu) - sum(&own_cpu)).max(0.0) / seconds,
            stolen_cores: sum(&stolen) / seconds,
            switches: sum(&switches) / units,
            write_bytes: sum(&written) / units,
            memory: last.server.1.memory,
            classes: class_reports(spec, outcomes),
            events: (spec.watchers > 0).then(|| ClassReport::new("event", &merged(spec, outcomes, |run| &run.events))),
            events_missing: outcomes.iter().map(|run| run.events_missing).sum(),
            errors,
            unanswered: outcomes.iter().map(|run| run.unanswered).sum(),
            unsent: outcomes.iter().map(|run| run.unsent).sum(),
            server_cpu_micros_each: outcomes.iter().map(per_unit).collect(),
            requests_per_second_each: outcomes.iter().map(rate).collect(),
        }
    }

    /// The class that stands for the workload: events where each put has watchers, else the first.
    pub fn main_class(&self) -> &ClassReport {
        match &self.events {
            Some(events) if self.spec.events_per_put() > 0 => events,
            _ => &self.classes[0],
        }
    }
}

fn class_reports(spec: &Spec, outcomes: &[Outcome]) -> Vec<ClassReport> {
    let report =
        |(index, name): (usize, &&str)| ClassReport::new(name, &merged(spec, outcomes, |run| &run.tracks[index]));
    spec.classes().iter().enumerate().map(report).collect()
}

fn merged(spec: &Spec, outcomes: &[Outcome], track: impl Fn(&Outcome) -> &Track) -> Track {
    let mut whole = Track::new(Duration::from_secs_f64(spec.interval_seconds));
    outcomes.iter().for_each(|run| whole.merge(track(run)));
    whole
}

/// A table for the terminal: first column left, others right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    /// The table as text.
    pub fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
            if number == 0 {
                out.push_str(&"-".repeat(widths.iter().sum::<usize>() + 2 * (columns - 1)));
                out.push('\n');
            }
        }
        out
    }
}

/// The table of runs.
pub fn table(reports: &[Report]) -> Table {
    let mut table = Table::new(&[
        "workload", "server", "units/s", "p50", "p90", "p99", "p99.9", "max", "CPU µs", "gen µs", "cores", "others",
        "stolen", "RSS MB", "disk B", "trouble",
    ]);
    for report in reports {
        let classes = report.classes.iter().chain(&report.events);
        for (number, class) in classes.enumerate() {
            let is_main = class.name == report.main_class().name;
            let figure = |value: String| if is_main { value } else { String::new() };
            let per_second = match class.name.as_str() {
                "event" => report.events_per_second,
                _ if report.classes.len() == 1 => report.requests_per_second,
                _ => class.latency.count as f64 / (report.spec.seconds * report.repetitions as f64),
            };
            table.row(vec![
                if number == 0 { report.spec.kind.name() } else { format!("  {}", class.name) },
                report.server.clone(),
                format!("{per_second:.0}"),
                micros(class.latency.p50),
                micros(class.latency.p90),
                micros(class.latency.p99),
                micros(class.latency.p999),
                micros(class.latency.max),
                figure(format!("{:.2}", report.server_cpu_micros)),
                figure(format!("{:.2}", report.generator_cpu_micros)),
                figure(format!("{:.2}", report.server_cores)),
                figure(format!("{:.2}", report.other_cores)),
                figure(format!("{:.2}", report.stolen_cores)),
                figure(format!("{:.0}", report.memory.resident as f64 / 1e6)),
                figure(format!("{:.0}", report.write_bytes)),
                figure(trouble(report)),
            ]);
        }
    }
    table
}

/// Everything that makes a run doubtful, in short; empty if nothing does.
pub fn trouble(report: &Report) -> String {
    let counts = [
        (report.errors.total(), "errors"),
        (report.events_missing, "events missing"),
        (report.unanswered, "unanswered"),
        (report.unsent, "unsent"),
    ];
    let texts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    texts.collect::<Vec<_>>().join(", ")
}

/// Microseconds in the unit that reads best.
pub fn micros(value: f64) -> String {
    match value {
        value if value < 1_000.0 => format!("{value:.0} µs"),
        value if value < 10_000.0 => format!("{:.2} ms", value / 1e3),
        value if value < 1_000_000.0 => format!("{:.0} ms", value / 1e3),
        value => format!("{:.2} s", value / 1e6),
    }
}
