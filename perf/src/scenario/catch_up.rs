//! A member comes back after it has missed much: how long it takes to have everything, and what the writes of the
//! others feel of it.

use super::{Failure, Machine, write_json};
use crate::cli::CatchUpArgs;
use crate::drive;
use crate::endpoint::Endpoint;
use crate::measure::{Latency, SeriesPoint, Window};
use crate::plot::{self, Band, Line};
use crate::prepare;
use crate::report::{Report, Table, micros};
use crate::server::{Cluster, Program, Server, Target, status};
use crate::workload::{Kind, Spec};
use serde::Serialize;
use std::time::{Duration, Instant};

const MEMBERS: usize = 3;
/// Time before the member comes back, the measure for what follows.
const QUIET: Duration = Duration::from_secs(10);
/// Time between two questions for the member's state.
const EVERY: Duration = Duration::from_millis(20);

#[derive(Serialize)]
struct CaughtUp {
    server: String,
    /// What was written while the member was away, and on its disk when it was back.
    missed_bytes: u64,
    disk_bytes: u64,
    /// From the start of its process until it had everything written before that; none if it did not come that far.
    seconds: Option<f64>,
    /// Of the puts due while all but one are there, while it catches up, and after.
    before: Latency,
    during: Latency,
    after: Latency,
    unanswered: u64,
    unsent: u64,
    errors: u64,
    other_cores: f64,
    series: Vec<SeriesPoint>,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    rate: f64,
    servers: Vec<CaughtUp>,
}

/// `plinth-perf catch-up`.
pub fn catch_up(arguments: &CatchUpArgs) -> Result<(), Failure> {
    if Duration::from_secs_f64(arguments.seconds) <= QUIET {
        return Err(format!("more than {} seconds", QUIET.as_secs()).into());
    }
    let mut servers = Vec::new();
    for program in arguments.servers.programs()? {
        let result = measure(arguments, &program)?;
        show(&result);
        servers.push(result);
    }
    draw(arguments, &servers)?;
    let results = Results { machine: Machine::here(), rate: arguments.rate, servers };
    write_json(&arguments.servers.out.join("catch-up.json"), &results)
}

fn show(result: &CaughtUp) {
    let mut table = Table::new(&["", "server", "p50", "p99", "p99.9", "max", "p99 ×", "trouble"]);
    for (name, latency) in [("before", &result.before), ("during", &result.during), ("after", &result.after)] {
        let mut row = vec![name.to_owned(), result.server.clone()];
        row.extend([latency.p50, latency.p99, latency.p999, latency.max].map(micros));
        row.push(format!("{:.1}", latency.p99 / result.before.p99));
        let trouble = [(result.errors, "errors"), (result.unanswered, "unanswered"), (result.unsent, "unsent")];
        let trouble = trouble.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        row.push(if name == "before" { trouble.collect::<Vec<_>>().join(", ") } else { String::new() });
        table.row(row);
    }
    println!("{}", table.render());
    let time = result.seconds.map_or("did not catch up".to_owned(), |seconds| format!("caught up in {seconds:.2} s"));
    let (missed, disk) = (result.missed_bytes as f64 / 1e6, result.disk_bytes as f64 / 1e6);
    println!(
        "{}: {time}; {missed:.0} MB missed, {disk:.0} MB on its disk; others used {:.2} cores\n",
        result.server, result.other_cores
    );
}

/// All servers in one picture.
fn draw(arguments: &CatchUpArgs, servers: &[CaughtUp]) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.servers.out)?;
    let quiet = QUIET.as_secs_f64();
    let line = |result: &CaughtUp| Line {
        name: format!("{}: p99 of puts", result.server),
        points: result.series.iter().map(|point| (point.seconds, point.p99)).collect(),
    };
    let band = |result: &CaughtUp| Band {
        name: format!("{} catches up", result.server),
        span: (quiet, result.seconds.map_or(arguments.seconds, |seconds| quiet + seconds)),
    };
    let lines: Vec<Line> = servers.iter().map(line).collect();
    let bands: Vec<Band> = servers.iter().map(band).collect();
    let title = format!("{} puts a second while a member catches up", arguments.rate);
    plot::over_time(&arguments.servers.out.join("catch-up.svg"), &title, &lines, &bands)
}

fn measure(arguments: &CatchUpArgs, program: &Program) -> Result<CaughtUp, Failure> {
    let mut cluster = Cluster::start(program, &arguments.servers.data, MEMBERS)?;
    let leader = cluster.leader()?;
    let absent = (leader + 1) % MEMBERS;
    let Target { addresses, pids } = cluster.target();
    let present = || (0..MEMBERS).filter(|number| *number != absent);
    let target = Target {
        addresses: present().map(|number| addresses[number]).collect(),
        pids: present().map(|number| pids[number]).collect(),
    };
    cluster.members()[absent].kill()?;
    eprintln!("{}: filling {} keys while a member is away", program.label, arguments.keys);
    prepare::fill(addresses[leader], 0..arguments.keys, arguments.value_bytes)?;
    let spec = Spec {
        connections: 10,
        rate: Some(arguments.rate),
        keys: 1_000,
        seconds: arguments.seconds,
        interval_seconds: 0.1,
        ..Spec::usual(Kind::Put)
    };
    let member = &mut cluster.members()[absent];
    let label = format!("catch-up {}", program.label);
    let (outcome, seconds) = std::thread::scope(|scope| {
        let mut beside = None;
        let begin = |window| beside = Some(scope.spawn(move || revive(member, addresses[leader], window)));
        let outcome = drive::run_and_tell(&target, &spec, &label, begin)?;
        let seconds = beside.ok_or("the run never began")?.join().map_err(|_| "the reviving thread panicked")??;
        Ok::<_, Failure>((outcome, seconds))
    })?;
    let disk_bytes = cluster.members()[absent].disk_bytes();
    let track = &outcome.tracks[0];
    let end = QUIET + Duration::from_secs_f64(seconds.unwrap_or(arguments.seconds));
    let report = Report::new(&program.label, "", &spec, std::slice::from_ref(&outcome));
    Ok(CaughtUp {
        server: program.label.clone(),
        missed_bytes: arguments.keys * arguments.value_bytes as u64,
        disk_bytes,
        seconds,
        before: track.between(Duration::ZERO, QUIET.saturating_sub(Duration::from_secs(1))),
        during: track.between(QUIET, end),
        after: track.between(end + Duration::from_secs(1), Duration::MAX),
        unanswered: outcome.unanswered,
        unsent: outcome.unsent,
        errors: outcome.errors.total(),
        other_cores: report.other_cores,
        series: track.series(),
    })
}

/// Starts the member when the quiet time is over and waits until it has what the leader had then.
fn revive(member: &mut Server, leader: Endpoint, window: Window) -> std::io::Result<Option<f64>> {
    std::thread::sleep((window.start + QUIET).saturating_duration_since(Instant::now()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let revision = |address| {
        let status = runtime.block_on(async { tokio::time::timeout(EVERY * 50, status(address)).await });
        status.ok().and_then(Result::ok).and_then(|status| status.header).map_or(0, |header| header.revision)
    };
    let due = revision(leader);
    let started = Instant::now();
    member.start_again()?;
    while Instant::now() < window.end {
        if revision(member.address()) >= due {
            return Ok(Some(started.elapsed().as_secs_f64()));
        }
        std::thread::sleep(EVERY);
    }
    Ok(None)
}
