//! Few clients and little to do, which is where control planes live: a closed loop of some clients with one request at a
//! time each, open loops at low rates, and watchers while nothing happens. One run, all servers in turns.
//!
//! What costs here is not the work but the way to it: wake-ups, system calls, flushes of a single record. So the table
//! tells context switches and bytes written beside the processor time.

use super::{Failure, Machine, compare, idle, write_json};
use crate::cli::{IdleArgs, LowArgs};
use crate::measure::Latency;
use crate::report::{self, Report, Table, micros};
use crate::workload::{Kind, Spec};
use serde::Serialize;

/// Events of `watch-keys` a second, each seen by one watcher.
const WATCH_KEYS_RATE: f64 = 5_000.0;

#[derive(Serialize)]
struct Results {
    machine: Machine,
    members: usize,
    reports: Vec<Report>,
    /// A write and a flush of the disk alone, in the order of the loads.
    flushes: Vec<Latency>,
    idle: Vec<idle::Idle>,
}

/// `plinth-perf low`.
pub fn low(arguments: &LowArgs) -> Result<(), Failure> {
    let (mut reports, mut flushes) = (Vec::new(), Vec::new());
    let programs = arguments.servers.programs()?;
    for spec in specs(arguments)? {
        let (servers, setting) = (&arguments.servers, &arguments.setting);
        let (of_spec, flush) = compare::in_turns(servers, &programs, setting, &spec, arguments.repetitions)?;
        println!("{}", table(&of_spec).render());
        compare::tell_flush(&flush);
        reports.extend(of_spec);
        flushes.push(flush);
    }
    println!("{}", table(&reports).render());
    let idle = at_rest(arguments)?;
    if !idle.is_empty() {
        println!("{}", idle::table(&idle).render());
    }
    let members = arguments.setting.members;
    let results = Results { machine: Machine::here(), members, reports, flushes, idle };
    write_json(&arguments.servers.out.join("low.json"), &results)
}

/// The loads, lightest first within each family.
fn specs(arguments: &LowArgs) -> Result<Vec<Spec>, Failure> {
    let usual = |kind| Spec { seconds: arguments.seconds, warmup_seconds: 1.0, ..Spec::usual(kind) };
    let mut specs = Vec::new();
    for &kind in &arguments.workloads {
        for &connections in &arguments.clients {
            specs.push(Spec { connections, streams: 1, ..usual(kind) });
        }
    }
    specs.extend(arguments.rates.iter().map(|&rate| Spec { rate: Some(rate), ..usual(Kind::Apiserver) }));
    if !arguments.no_watch_keys {
        specs.push(Spec { rate: Some(WATCH_KEYS_RATE), ..usual(Kind::WatchKeys) });
    }
    specs.iter().try_for_each(Spec::check)?;
    Ok(specs)
}

fn at_rest(arguments: &LowArgs) -> Result<Vec<idle::Idle>, Failure> {
    if arguments.idle_watchers == 0 {
        return Ok(Vec::new());
    }
    let arguments = IdleArgs {
        servers: arguments.servers.clone(),
        connections: arguments.idle_watchers,
        seconds: arguments.idle_seconds,
    };
    arguments.servers.programs()?.iter().map(|program| idle::measure(&arguments, program)).collect()
}

/// One row for each load and server; `ratio` is the CPU per unit in terms of the first server's.
fn table(reports: &[Report]) -> Table {
    let head = ["workload", "load", "server", "units/s", "p50", "p99", "CPU µs", "ratio", "switches", "disk B"];
    let mut table = Table::new(&[head.as_slice(), &["others", "stolen", "trouble"]].concat());
    let mut first = 1.0;
    let mut previous = None;
    for report in reports {
        if previous != Some(&report.spec) {
            (first, previous) = (report.server_cpu_micros, Some(&report.spec));
        }
        let load = match report.spec.rate {
            Some(rate) => format!("{rate}/s"),
            None => format!("{} clients", report.spec.slots()),
        };
        let per_second =
            if report.spec.events_per_put() > 0 { report.events_per_second } else { report.requests_per_second };
        let latency = &report.main_class().latency;
        table.row(vec![
            report.spec.kind.name(),
            load,
            report.server.clone(),
            format!("{per_second:.0}"),
            micros(latency.p50),
            micros(latency.p99),
            format!("{:.1}", report.server_cpu_micros),
            format!("{:.2}", report.server_cpu_micros / first.max(f64::MIN_POSITIVE)),
            format!("{:.1}", report.switches),
            format!("{:.0}", report.write_bytes),
            format!("{:.2}", report.other_cores),
            format!("{:.2}", report.stolen_cores),
            report::trouble(report),
        ]);
    }
    table
}
