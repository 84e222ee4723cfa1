//! Small puts and gets at a steady rate while thousands of clients lose their connections and all come back at once, as
//! after a network's failure. The server has one core to itself, everybody else the other one.

use super::handshakes::visit;
use super::{Failure, Machine, write_json};
use crate::certificates::Certificates;
use crate::cli::StormArgs;
use crate::drive;
use crate::endpoint::Endpoint;
use crate::grpc::Connection;
use crate::measure::{Latency, SeriesPoint, Window};
use crate::report::{Report, Table, micros};
use crate::server::{Program, Security, Server, status};
use crate::workload::{Kind, Spec};
use rustix::thread::CpuSet;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Time for the clients to connect for the first time; then quiet time, the measure for what follows; time from the
/// storm on.
const ARRIVAL: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(5);
const STORM: Duration = Duration::from_secs(8);
/// What latencies are counted by.
const INTERVAL: Duration = Duration::from_millis(50);
/// The effect is counted until this long after the last client is back.
const AFTERMATH: Duration = Duration::from_millis(200);
/// A client that was turned away tries again after this.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Clients that connect at a time before the storm.
const ARRIVING: usize = 64;
/// The nice value of those who come back: they stand for other machines.
const LOWEST_PRIORITY: i32 = 19;

#[derive(Serialize)]
struct Run {
    server: String,
    tls: bool,
    /// Seconds until the last client was back and had an answer.
    lasted: f64,
    /// Attempts that failed.
    failures: u64,
    quiet_puts: Latency,
    quiet_gets: Latency,
    puts: Latency,
    gets: Latency,
    /// Of each interval from the storm on.
    series: Vec<SeriesPoint>,
    trouble: String,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    clients: usize,
    rate: f64,
    runs: Vec<Run>,
}

/// `plinth-perf storm`.
pub fn storm(arguments: &StormArgs) -> Result<(), Failure> {
    let certificates = Certificates::make(&arguments.servers.data.join("certificates"))?;
    let mut runs = Vec::new();
    for _ in 0..arguments.runs {
        for program in arguments.servers.programs()? {
            for tls in [true, false] {
                let security = Security { certificates: Some(certificates), tls, users: None };
                let run = measure(arguments, &Program { security, ..program.clone() })?;
                println!("{}", table(std::slice::from_ref(&run)).render());
                runs.push(run);
            }
        }
    }
    runs.sort_by(|one, other| (&one.server, !one.tls).cmp(&(&other.server, !other.tls)));
    println!("{}", table(&runs).render());
    let results = Results { machine: Machine::here(), clients: arguments.clients, rate: arguments.rate, runs };
    write_json(&arguments.servers.out.join("storm.json"), &results)
}

/// Keeps this thread, and the threads and processes that it starts from now on, to one core.
fn keep_to(core: usize) -> Result<(), Failure> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

fn measure(arguments: &StormArgs, program: &Program) -> Result<Run, Failure> {
    keep_to(0)?;
    let server = Server::start(program, &arguments.servers.data);
    keep_to(1)?;
    let server = server?;
    let spec = Spec {
        connections: 10,
        rate: Some(arguments.rate),
        keys: 1_000,
        seconds: (ARRIVAL + QUIET + STORM).as_secs_f64(),
        interval_seconds: INTERVAL.as_secs_f64(),
        ..Spec::usual(Kind::PutAndRange)
    };
    let mut endpoint = server.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let version = runtime.block_on(status(endpoint))?.version;
    crate::prepare::fill(endpoint, 0..spec.keys, spec.value_bytes)?;
    endpoint.tls = endpoint.tls.and(program.security.certificates).map(|certificates| certificates.careless);
    let (mut beside, clients) = (None, arguments.clients);
    let begin = |window| beside = Some(std::thread::spawn(move || come_back(endpoint, clients, window)));
    let outcome = drive::run_and_tell(&server.target(), &spec, &format!("storm {}", program.label), begin)?;
    let beside = beside.ok_or("the run never began")?;
    let (start, end, failures) = beside.join().map_err(|_| "the clients panicked")??;
    let [puts, gets] = &outcome.tracks[..] else { return Err("a put and a get".into()) };
    let report = Report::new(&program.label, &version, &spec, std::slice::from_ref(&outcome));
    Ok(Run {
        server: program.label.clone(),
        tls: program.security.tls,
        lasted: (end - start).as_secs_f64(),
        failures,
        quiet_puts: puts.between(ARRIVAL, start - 2 * INTERVAL),
        quiet_gets: gets.between(ARRIVAL, start - 2 * INTERVAL),
        puts: puts.between(start, end + AFTERMATH),
        gets: gets.between(start, end + AFTERMATH),
        series: gets.series().into_iter().filter(|point| point.seconds >= (start - INTERVAL).as_secs_f64()).collect(),
        trouble: crate::report::trouble(&report),
    })
}

/// Connects all clients, drops them at the moment of the storm, and waits until all are back. Returns the storm's start
/// and end within the window, and how many attempts failed.
fn come_back(endpoint: Endpoint, clients: usize, window: Window) -> Result<(Duration, Duration, u64), Failure> {
    rustix::process::nice(LOWEST_PRIORITY)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let due = window.start + ARRIVAL + QUIET;
        let (connected, _) = connect(endpoint, clients, ARRIVING).await?;
        if Instant::now() > window.start + ARRIVAL {
            return Err("the clients were not there in time".into());
        }
        tokio::time::sleep_until(tokio::time::Instant::from_std(due)).await;
        let start = Instant::now();
        drop(connected);
        let (_back, failures) = connect(endpoint, clients, clients).await?;
        let end = Instant::now();
        Ok((start - window.start, end - window.start, failures))
    })
}

/// Connects `clients`, so many at a time.
async fn connect(endpoint: Endpoint, clients: usize, at_a_time: usize) -> Result<(Vec<Connection>, u64), Failure> {
    let (mut tasks, mut connected, mut failures) = (JoinSet::new(), Vec::with_capacity(clients), 0);
    let mut started = 0;
    while connected.len() < clients {
        while started < clients && tasks.len() < at_a_time {
            tasks.spawn(until_connected(endpoint));
            started += 1;
        }
        let (connection, failed) = tasks.join_next().await.ok_or("fewer clients than expected")??;
        connected.push(connection);
        failures += failed;
    }
    Ok((connected, failures))
}

async fn until_connected(endpoint: Endpoint) -> (Connection, u64) {
    let mut failures = 0;
    loop {
        match visit(endpoint).await {
            Ok((connection, _)) => return (connection, failures),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

fn table(runs: &[Run]) -> Table {
    let mut table = Table::new(&[
        "storm",
        "server",
        "lasted",
        "failed",
        "put p99 before",
        "put p99",
        "×",
        "get p99 before",
        "get p99",
        "×",
        "get max",
        "trouble",
    ]);
    for run in runs {
        let mut row = vec![
            if run.tls { "TLS" } else { "in clear" }.to_owned(),
            run.server.clone(),
            format!("{:.2} s", run.lasted),
            run.failures.to_string(),
        ];
        for (quiet, latency) in [(&run.quiet_puts, &run.puts), (&run.quiet_gets, &run.gets)] {
            row.extend([quiet.p99, latency.p99].map(micros));
            row.push(format!("{:.1}", latency.p99 / quiet.p99));
        }
        row.push(micros(run.gets.max));
        row.push(run.trouble.clone());
        table.row(row);
    }
    table
}
