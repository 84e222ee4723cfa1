//! How the figures change as keys are added: latency and CPU of puts and reads, memory, disk.

use super::{Failure, Machine, write_json};
use crate::cli::GrowthArgs;
use crate::drive;
use crate::plot::{self, Line};
use crate::prepare;
use crate::process::{self, Memory};
use crate::report::{Report, Table, micros};
use crate::server::{Program, Server};
use crate::workload::{Kind, Spec};
use serde::Serialize;

#[derive(Serialize)]
struct Step {
    keys: u64,
    put: Report,
    range: Report,
    memory: Memory,
    disk_bytes: u64,
}

#[derive(Serialize)]
struct Growth {
    server: String,
    steps: Vec<Step>,
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
        growths.push(measure(arguments, &program)?);
    }
    show(&growths);
    std::fs::create_dir_all(&arguments.servers.out)?;
    let line = |growth: &Growth| Line {
        name: growth.server.clone(),
        points: growth.steps.iter().map(|step| (step.keys as f64, step.put.classes[0].latency.p99)).collect(),
    };
    let lines: Vec<Line> = growths.iter().map(line).collect();
    let title = format!("p99 of puts at {} a second", arguments.rate);
    plot::over_keys(&arguments.servers.out.join("growth-put.svg"), &title, &lines)?;
    write_json(&arguments.servers.out.join("growth.json"), &Results { machine: Machine::here(), growths })
}

fn show(growths: &[Growth]) {
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
        "own MB",
        "disk MB",
    ]);
    for (growth, step) in growths.iter().flat_map(|growth| growth.steps.iter().map(move |step| (growth, step))) {
        let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
        let mut row = vec![step.keys.to_string(), growth.server.clone()];
        for report in [&step.put, &step.range] {
            let latency = &report.classes[0].latency;
            row.extend([micros(latency.p50), micros(latency.p99), format!("{:.1}", report.server_cpu_micros)]);
        }
        row.extend([megabytes(step.memory.resident), megabytes(step.memory.anonymous), megabytes(step.disk_bytes)]);
        table.row(row);
    }
    println!("{}", table.render());
}

fn measure(arguments: &GrowthArgs, program: &Program) -> Result<Growth, Failure> {
    let server = Server::start(program, &arguments.servers.data)?;
    let mut steps = Vec::new();
    let mut filled = 0;
    for &keys in &arguments.keys {
        eprintln!("{}: growing to {keys} keys", program.label);
        prepare::fill(server.address(), filled..keys, arguments.value_bytes)?;
        filled = keys;
        let mut reports = Vec::new();
        for kind in [Kind::Put, Kind::Range] {
            let spec = Spec {
                connections: 10,
                keys,
                value_bytes: arguments.value_bytes,
                rate: Some(arguments.rate),
                seconds: arguments.seconds,
                ..Spec::usual(kind)
            };
            let label = format!("{} {} at {keys} keys", program.label, kind.name());
            let outcome = drive::run(server.address(), Some(server.pid()), &spec, &label)?;
            reports.push(Report::new(&program.label, "", &spec, &[outcome]));
        }
        let memory = process::usage(server.pid())?.memory;
        let disk_bytes = server.disk_bytes();
        let (range, put) = (reports.pop().expect("two runs"), reports.pop().expect("two runs"));
        steps.push(Step { keys, put, range, memory, disk_bytes });
    }
    Ok(Growth { server: program.label.clone(), steps })
}
