//! Workloads against several servers in turns (A B A B), each turn with a fresh server and fresh data, so that
//! drift of the machine meets all of them alike.

use super::{Failure, Machine, write_json};
use crate::cli::{CompareArgs, RunArgs, Servers, SingleArgs};
use crate::drive;
use crate::plot;
use crate::prepare;
use crate::report::{self, Report};
use crate::server::{Program, Server, status};
use crate::workload::{Kind, Spec};
use serde::Serialize;
use std::net::SocketAddr;

#[derive(Serialize)]
struct Result_<'a> {
    machine: Machine,
    reports: &'a [Report],
}

/// `plinth-perf run`.
pub fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let spec = arguments.shape.spec(arguments.workload)?;
    let version = version(arguments.endpoint)?;
    prepare::fill(arguments.endpoint, 0..spec.keys_before(), spec.value_bytes)?;
    let outcome = drive::run(arguments.endpoint, arguments.pid, &spec, &spec.kind.name())?;
    let reports = [Report::new("server", &version, &spec, &[outcome])];
    show(&reports);
    match &arguments.json {
        Some(path) => write_json(path, &Result_ { machine: Machine::here(), reports: &reports }),
        None => Ok(()),
    }
}

/// `plinth-perf compare`.
pub fn compare(arguments: &CompareArgs) -> Result<(), Failure> {
    let specs: Result<Vec<Spec>, String> = arguments.workloads.iter().map(|&kind| arguments.shape.spec(kind)).collect();
    measure(&arguments.servers, &specs?, arguments.repetitions, "compare")
}

/// `plinth-perf single`: the latency of a put when nothing else goes on.
pub fn single(arguments: &SingleArgs) -> Result<(), Failure> {
    let spec = Spec {
        connections: 1,
        streams: 1,
        value_bytes: arguments.value_bytes,
        seconds: arguments.seconds,
        ..Spec::usual(Kind::Put)
    };
    measure(&arguments.servers, &[spec], arguments.repetitions, "single")
}

fn measure(servers: &Servers, specs: &[Spec], repetitions: usize, name: &str) -> Result<(), Failure> {
    if repetitions == 0 {
        return Err("at least one repetition".into());
    }
    let programs = servers.programs()?;
    let mut reports = Vec::new();
    for spec in specs {
        let mut outcomes: Vec<Vec<drive::Outcome>> = programs.iter().map(|_| Vec::new()).collect();
        let mut versions = vec![String::new(); programs.len()];
        for repetition in 1..=repetitions {
            for (index, program) in programs.iter().enumerate() {
                let label = format!("{} {} {repetition}/{repetitions}", spec.kind.name(), program.label);
                let (version, outcome) = turn(servers, program, spec, &label)?;
                versions[index] = version;
                outcomes[index].push(outcome);
            }
        }
        let first = reports.len();
        for ((program, version), outcomes) in programs.iter().zip(&versions).zip(&outcomes) {
            reports.push(Report::new(&program.label, version, spec, outcomes));
        }
        show(&reports[first..]);
    }
    write_json(&servers.out.join(format!("{name}.json")), &Result_ { machine: Machine::here(), reports: &reports })?;
    plot::reports(&servers.out, name, &reports)?;
    Ok(())
}

/// One run on a fresh server.
fn turn(servers: &Servers, program: &Program, spec: &Spec, label: &str) -> Result<(String, drive::Outcome), Failure> {
    let server = Server::start(program, &servers.data)?;
    let version = version(server.address())?;
    prepare::fill(server.address(), 0..spec.keys_before(), spec.value_bytes)?;
    Ok((version, drive::run(server.address(), Some(server.pid()), spec, label)?))
}

fn show(reports: &[Report]) {
    println!("{}", report::table(reports).render());
    for report in reports.iter().filter(|report| report.errors.total() > 0) {
        for (text, count) in &report.errors.0 {
            println!("{} {}: {count} × {text}", report.spec.kind.name(), report.server);
        }
    }
}

fn version(address: SocketAddr) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(status(address))?.version)
}
