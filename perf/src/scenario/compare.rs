//! Workloads against several servers in turns (A B A B), each turn with fresh servers and fresh data, so that drift of
//! the machine meets all of them alike. The floor takes its turns like a server: a transport that does nothing, and the
//! disk alone.

use super::{Failure, Machine, floor, write_json};
use crate::certificates::{self, Certificates};
use crate::cli::{CompareArgs, RunArgs, Servers, Setting, SingleArgs};
use crate::drive;
use crate::endpoint::Endpoint;
use crate::measure::Latency;
use crate::plot;
use crate::prepare;
use crate::report::{self, Report, micros};
use crate::server::{Cluster, Form, Program, Security, Target, status};
use crate::users;
use crate::workload::{Kind, Spec};
use serde::Serialize;

/// Name of the server that does nothing, in tables and plots.
const FLOOR: &str = "no server";
/// Bytes written and flushed to measure the disk, and for how long per turn.
const FLUSH_BYTES: usize = 4_096;
const FLUSH_SECONDS: f64 = 1.0;

#[derive(Serialize)]
struct Result_<'a> {
    machine: Machine,
    members: usize,
    reports: &'a [Report],
    /// A write and a flush of the disk alone, measured in the turns of each workload, in the order of their reports.
    flushes: &'a [Latency],
}

/// `plinth-perf run`.
pub fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let spec = arguments.shape.spec(arguments.workload)?;
    let mut endpoint = Endpoint { tls: certificates::dialer(&arguments.connect)?, ..arguments.endpoint.into() };
    if let Some((name, password)) = &arguments.connect.user {
        endpoint.token = Some(users::log_in(endpoint, name, password)?);
    }
    let version = version(endpoint)?;
    prepare::fill(endpoint, 0..spec.keys_before(), spec.value_bytes)?;
    let target = Target { pids: arguments.pid.into_iter().collect(), ..Target::address(endpoint) };
    let outcome = drive::run(&target, &spec, &spec.kind.name())?;
    let reports = [Report::new("server", &version, &spec, &[outcome])];
    show(&reports);
    match &arguments.json {
        Some(path) => {
            write_json(path, &Result_ { machine: Machine::here(), members: 1, reports: &reports, flushes: &[] })
        }
        None => Ok(()),
    }
}

/// `plinth-perf compare`.
pub fn compare(arguments: &CompareArgs) -> Result<(), Failure> {
    let specs: Result<Vec<Spec>, String> = arguments.workloads.iter().map(|&kind| arguments.shape.spec(kind)).collect();
    let mut programs = arguments.servers.programs()?;
    if arguments.tls || !arguments.users.is_empty() {
        let certificates = Certificates::make(&arguments.servers.data.join("certificates"))?;
        programs = programs.into_iter().flat_map(|program| variants(arguments, program, certificates)).collect();
    }
    measure(&arguments.servers, &programs, &arguments.setting, &specs?, arguments.repetitions, "compare")
}

/// A server as it is, encrypted, and with users.
fn variants(arguments: &CompareArgs, program: Program, certificates: &'static Certificates) -> Vec<Program> {
    let mut variants = vec![program.clone()];
    let mut add = |name: &str, security| {
        variants.push(Program { label: format!("{} {name}", program.label), security, ..program.clone() });
    };
    let security = Security { certificates: Some(certificates), ..Security::default() };
    if arguments.tls {
        add("tls", Security { tls: true, ..security });
    }
    for &tokens in &arguments.users {
        add(tokens.name(), Security { users: Some(tokens), ..security });
    }
    variants
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
    let programs = arguments.servers.programs()?;
    measure(&arguments.servers, &programs, &arguments.setting, &[spec], arguments.repetitions, "single")
}

fn measure(
    servers: &Servers,
    programs: &[Program],
    setting: &Setting,
    specs: &[Spec],
    repetitions: usize,
    name: &str,
) -> Result<(), Failure> {
    let (mut reports, mut flushes) = (Vec::new(), Vec::new());
    for spec in specs {
        let (of_spec, flush) = in_turns(servers, programs, setting, spec, repetitions)?;
        show(&of_spec);
        tell_flush(&flush);
        reports.extend(of_spec);
        flushes.push(flush);
    }
    let result = Result_ { machine: Machine::here(), members: setting.members, reports: &reports, flushes: &flushes };
    write_json(&servers.out.join(format!("{name}.json")), &result)?;
    plot::reports(&servers.out, name, &reports, &flushes)
}

/// One workload against all servers in turns: a report of each, and what a write and a flush of the disk alone took.
pub(super) fn in_turns(
    servers: &Servers,
    programs: &[Program],
    setting: &Setting,
    spec: &Spec,
    repetitions: usize,
) -> Result<(Vec<Report>, Latency), Failure> {
    if repetitions == 0 || setting.members == 0 {
        return Err("at least one repetition of at least one member".into());
    }
    let mut programs = programs.to_vec();
    programs.extend(floor_of(setting, spec)?);
    let mut outcomes: Vec<Vec<drive::Outcome>> = programs.iter().map(|_| Vec::new()).collect();
    let mut versions = vec![String::new(); programs.len()];
    let mut flush = floor::Flushes::new(&servers.data, FLUSH_BYTES)?;
    for repetition in 1..=repetitions {
        if !setting.no_floor {
            flush.measure(FLUSH_SECONDS)?;
        }
        for (index, program) in programs.iter().enumerate() {
            let label = format!("{} {} {repetition}/{repetitions}", spec.kind.name(), program.label);
            let (version, outcome) = turn(servers, setting, program, spec, &label)?;
            versions[index] = version;
            outcomes[index].push(outcome);
        }
    }
    let of_program = programs.iter().zip(&versions).zip(&outcomes);
    let report = |((program, version), outcomes): ((&Program, &String), &Vec<_>)| {
        Report::new(&program.label, version, spec, outcomes)
    };
    Ok((of_program.map(report).collect(), flush.summary()))
}

/// Says what the disk alone took, if that was measured.
pub(super) fn tell_flush(flush: &Latency) {
    if flush.count > 0 {
        let figures = [flush.p50, flush.p99].map(micros);
        println!("a write and a flush of {FLUSH_BYTES} B alone: p50 {}, p99 {}\n", figures[0], figures[1]);
    }
}

/// The server that does nothing, for workloads it can answer.
fn floor_of(setting: &Setting, spec: &Spec) -> Result<Option<Program>, Failure> {
    let answers = matches!(spec.kind, Kind::Put | Kind::Range | Kind::RangeSerializable | Kind::TxnCas);
    if setting.no_floor || !answers {
        return Ok(None);
    }
    let arguments = vec!["--value-bytes".to_owned(), spec.value_bytes.to_string()];
    let path = std::env::current_exe()?.with_file_name("examples").join("floor");
    if !path.exists() {
        let path = path.display();
        return Err(format!("{path} is not there: build it (perf/README.md), or leave it out with --no-floor").into());
    }
    Ok(Some(Program { label: FLOOR.to_owned(), path, arguments, form: Form::Floor, security: Security::default() }))
}

/// One run on fresh servers.
fn turn(
    servers: &Servers,
    setting: &Setting,
    program: &Program,
    spec: &Spec,
    label: &str,
) -> Result<(String, drive::Outcome), Failure> {
    let members = if program.form == Form::Floor { 1 } else { setting.members };
    let cluster = Cluster::start(program, &servers.data, members)?;
    let mut target = cluster.target();
    if members > 1 && setting.leader_only {
        target.addresses = vec![target.addresses[cluster.leader()?]];
    }
    let version = version(target.addresses[0])?;
    if program.form != Form::Floor {
        prepare::fill(target.addresses[0], 0..spec.keys_before(), spec.value_bytes)?;
    }
    Ok((version, drive::run(&target, spec, label)?))
}

fn show(reports: &[Report]) {
    println!("{}", report::table(reports).render());
    for report in reports.iter().filter(|report| report.errors.total() > 0) {
        for (text, count) in &report.errors.0 {
            println!("{} {}: {count} × {text}", report.spec.kind.name(), report.server);
        }
    }
}

fn version(address: Endpoint) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(status(address))?.version)
}
