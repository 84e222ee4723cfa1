//! How the figures change as keys are added: CPU and latency of puts and reads, memory, disk, and the time to start
//! again.

use super::{Failure, Machine, write_json};
use crate::cli::GrowthArgs;
use crate::drive;
use crate::plot::{self, KeyChart, Line};
use crate::prepare;
use crate::process::{self, Memory};
use crate::report::{Report, Table, micros};
use crate::server::{Program, Server};
use crate::workload::{Kind, Spec, key};
use serde::Serialize;
use std::time::Duration;

/// Time for a server to settle between filling and looking at its memory.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Step {
    keys: u64,
    put: Report,
    range: Report,
    memory: Memory,
    disk_bytes: u64,
    /// From the start of the process, after a kill, to the first answered read.
    restart_seconds: f64,
}

#[derive(Serialize)]
struct Growth {
    server: String,
    /// Before the first key.
    memory_empty: Memory,
    steps: Vec<Step>,
}

impl Growth {
    /// Resident memory beyond that of the empty server, per key, and file size per key, in bytes.
    fn memory_per_key(&self, step: &Step) -> f64 {
        step.memory.resident.saturating_sub(self.memory_empty.resident) as f64 / step.keys as f64
    }
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    growths: Vec<Growth>,
}

/// `plinth-perf growth`.
pub fn growth(arguments: &GrowthArgs) -> Result<(), Failure> {
    if !arguments.keys.is_sorted() || arguments.keys.is_empty() {
        return Err("the numbers of keys must rise".into());
    }
    let mut growths = Vec::new();
    for program in arguments.servers.programs()? {
        let growth = measure(arguments, &program)?;
        show(&growth);
        growths.push(growth);
    }
    std::fs::create_dir_all(&arguments.servers.out)?;
    plot::over_keys(&arguments.servers.out.join("growth.svg"), &charts(&growths))?;
    write_json(&arguments.servers.out.join("growth.json"), &Results { machine: Machine::here(), growths })
}

fn charts(growths: &[Growth]) -> Vec<KeyChart> {
    type Figure = fn(&Growth, &Step) -> f64;
    let figures: [(&str, Figure); 6] = [
        ("server CPU per put, µs", |_, step| step.put.server_cpu_micros),
        ("server CPU per read, µs", |_, step| step.range.server_cpu_micros),
        ("p99 of puts, ms", |_, step| step.put.classes[0].latency.p99 / 1e3),
        ("resident memory per key, bytes", Growth::memory_per_key),
        ("time to start again, s", |_, step| step.restart_seconds),
        ("data on disk, MB", |_, step| step.disk_bytes as f64 / 1e6),
    ];
    let chart = |&(title, figure): &(&str, Figure)| {
        let points =
            |growth: &Growth| growth.steps.iter().map(|step| (step.keys as f64, figure(growth, step))).collect();
        let line = |growth: &Growth| Line { name: growth.server.clone(), points: points(growth) };
        KeyChart { title: title.to_owned(), lines: growths.iter().map(line).collect() }
    };
    figures.iter().map(chart).collect()
}

fn show(growth: &Growth) {
    let mut table = Table::new(&[
        "keys",
        "server",
        "put p50",
        "put p99",
        "put CPU µs",
        "get p50",
        "get p99",
        "get CPU µs",
        "RSS MB",
        "B per key",
        "own MB",
        "disk MB",
        "restart s",
        "others",
    ]);
    for step in &growth.steps {
        let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
        let mut row = vec![step.keys.to_string(), growth.server.clone()];
        for report in [&step.put, &step.range] {
            let latency = &report.classes[0].latency;
            row.extend([micros(latency.p50), micros(latency.p99), format!("{:.1}", report.server_cpu_micros)]);
        }
        row.extend([megabytes(step.memory.resident), format!("{:.0}", growth.memory_per_key(step))]);
        row.extend([
            megabytes(step.memory.anonymous),
            megabytes(step.disk_bytes),
            format!("{:.2}", step.restart_seconds),
        ]);
        row.push(format!("{:.2}", (step.put.other_cores + step.range.other_cores) / 2.0));
        table.row(row);
    }
    println!("{}", table.render());
}

fn measure(arguments: &GrowthArgs, program: &Program) -> Result<Growth, Failure> {
    let mut server = Server::start(program, &arguments.servers.data)?;
    let memory_empty = process::usage(server.pid())?.memory;
    let mut steps = Vec::new();
    let mut filled = 0;
    for &keys in &arguments.keys {
        eprintln!("{}: growing to {keys} keys", program.label);
        prepare::fill(server.address(), filled..keys, arguments.value_bytes)?;
        filled = keys;
        let mut reports = Vec::new();
        for kind in [Kind::Put, Kind::Range] {
            let spec = Spec {
                keys,
                value_bytes: arguments.value_bytes,
                rate: (arguments.rate > 0.0).then_some(arguments.rate),
                seconds: arguments.seconds,
                ..Spec::usual(kind)
            };
            let label = format!("{} {} at {keys} keys", program.label, kind.name());
            let outcome = drive::run(&server.target(), &spec, &label)?;
            reports.push(Report::new(&program.label, "", &spec, &[outcome]));
        }
        std::thread::sleep(SETTLE);
        let memory = process::usage(server.pid())?.memory;
        let disk_bytes = server.disk_bytes();
        let restart_seconds = server.kill_and_restart(&key(keys / 2))?.as_secs_f64();
        let (range, put) = (reports.pop().expect("two runs"), reports.pop().expect("two runs"));
        steps.push(Step { keys, put, range, memory, disk_bytes, restart_seconds });
    }
    Ok(Growth { server: program.label.clone(), memory_empty, steps })
}
