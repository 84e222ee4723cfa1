//! Small puts and gets at a steady rate while heavy work goes on beside them: how much the tail moves. One disturbance
//! after the other, with quiet between; the figures of each are those of the requests that were due while it lasted.

use super::{Failure, Machine, write_json};
use crate::cli::{DisturbArgs, Disturbance};
use crate::drive;
use crate::endpoint::Endpoint;
use crate::grpc::{self, CallError, Connection, Keep, Method, Stream};
use crate::measure::{Latency, SeriesPoint, Window};
use crate::plot::{self, Band, Line};
use crate::prepare;
use crate::report::{Report, Table, micros};
use crate::server::{Program, Server, status};
use crate::throttle::Throttle;
use crate::workload::{Kind, PREFIX, Spec};
use clap::ValueEnum;
use plinth_api::methods;
use plinth_api::proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, RangeRequest, SnapshotRequest, WatchCreateRequest, WatchRequest,
    watch_request,
};
use plinth_api::range::prefix_end;
use plinth_api::wire::{self, Value};
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Quiet time at the start, the measure for all that follows.
const QUIET: Duration = Duration::from_secs(10);
/// A disturbance's effect is counted until this long after its end.
const AFTERMATH: Duration = Duration::from_millis(500);
/// The nice value of those who disturb.
const LOWEST_PRIORITY: i32 = 19;
/// Whole-store reads per disturbance.
const RANGES: usize = 3;
/// Watchers per disturbance, and the connections they share.
const WATCHERS: usize = 1_000;
const WATCH_CONNECTIONS: usize = 10;
/// Time for which slow watchers do not read.
const SLOW_TIME: Duration = Duration::from_secs(5);
/// Flow-control windows of slow watchers.
const SLOW_WINDOW_BYTES: u32 = 65_535;
/// And of those that read.
const READ_WINDOW_BYTES: u32 = 16 << 20;
/// Revisions of the past that watchers ask for: slow ones enough to fill their windows, others to read them all.
const SLOW_PAST: i64 = 20_000;
const READ_PAST: i64 = 2_000;
/// Time for which the disk is slow.
const THROTTLED_TIME: Duration = Duration::from_secs(5);
/// Longest time for one disturbance.
const TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Episode {
    name: String,
    /// Seconds after the start of the window.
    start: f64,
    end: f64,
    /// Why it was not what it should be.
    failure: Option<String>,
    /// Bytes it received.
    bytes: u64,
    /// Of the requests due from start to end.
    puts: Latency,
    gets: Latency,
}

#[derive(Serialize)]
struct Disturbed {
    server: String,
    version: String,
    /// Of the requests due before the first disturbance.
    quiet_puts: Latency,
    quiet_gets: Latency,
    episodes: Vec<Episode>,
    unanswered: u64,
    unsent: u64,
    errors: u64,
    other_cores: f64,
    stolen_cores: f64,
    puts: Vec<SeriesPoint>,
    gets: Vec<SeriesPoint>,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    keys: u64,
    value_bytes: usize,
    rate: f64,
    servers: Vec<Disturbed>,
}

/// `plinth-perf disturb`.
pub fn disturb(arguments: &DisturbArgs) -> Result<(), Failure> {
    let programs = arguments.servers.programs()?;
    let mut servers = Vec::new();
    for _ in 0..arguments.runs {
        for program in &programs {
            let result = measure(arguments, program)?;
            show(&result);
            servers.push(result);
        }
    }
    draw(arguments, &servers[..programs.len()])?;
    if arguments.runs > 1 {
        for program in &programs {
            let runs: Vec<&Disturbed> = servers.iter().filter(|result| result.server == program.label).collect();
            show_runs(&runs);
        }
    }
    let (keys, value_bytes, rate) = (arguments.keys, arguments.value_bytes, arguments.rate);
    let results = Results { machine: Machine::here(), keys, value_bytes, rate, servers };
    write_json(&arguments.servers.out.join("disturb.json"), &results)
}

fn measure(arguments: &DisturbArgs, program: &Program) -> Result<Disturbed, Failure> {
    let server = Server::start(program, &arguments.servers.data)?;
    let address = server.address();
    eprintln!("{}: filling {} keys twice", program.label, arguments.keys);
    for _ in 0..2 {
        prepare::fill(address, 0..arguments.keys, arguments.value_bytes)?;
    }
    let spec = Spec {
        connections: 10,
        rate: Some(arguments.rate),
        keys: arguments.keys.min(1_000),
        seconds: QUIET.as_secs_f64() + arguments.gap * arguments.disturbances.len() as f64,
        interval_seconds: 0.1,
        ..Spec::usual(Kind::PutAndRange)
    };
    let version = block_on(status(address))??.version;
    let victim =
        Victim { address, pid: server.pid(), data: arguments.servers.data.clone(), writes: arguments.slow_writes };
    let (plan, gap) = (arguments.disturbances.clone(), Duration::from_secs_f64(arguments.gap));
    let mut beside = None;
    let begin = |window| beside = Some(std::thread::spawn(move || episodes(&victim, window, &plan, gap)));
    let label = format!("disturb {}", program.label);
    let outcome = drive::run_and_tell(&server.target(), &spec, &label, begin)?;
    let beside = beside.ok_or("the run never began")?;
    let mut episodes = beside.join().map_err(|_| "the disturbing thread panicked")??;
    let [puts, gets] = &outcome.tracks[..] else { return Err("a put and a get".into()) };
    for episode in &mut episodes {
        let end = Duration::from_secs_f64(episode.end) + AFTERMATH;
        episode.puts = puts.between(Duration::from_secs_f64(episode.start), end);
        episode.gets = gets.between(Duration::from_secs_f64(episode.start), end);
    }
    let quiet = QUIET - Duration::from_secs(1);
    let report = Report::new(&program.label, &version, &spec, std::slice::from_ref(&outcome));
    Ok(Disturbed {
        server: program.label.clone(),
        version,
        quiet_puts: puts.between(Duration::ZERO, quiet),
        quiet_gets: gets.between(Duration::ZERO, quiet),
        episodes,
        unanswered: outcome.unanswered,
        unsent: outcome.unsent,
        errors: outcome.errors.total(),
        other_cores: report.other_cores,
        stolen_cores: report.stolen_cores,
        puts: puts.series(),
        gets: gets.series(),
    })
}

fn show(result: &Disturbed) {
    let mut table = Table::new(&[
        "beside", "server", "lasted", "MB", "put p50", "put p99", "put max", "p99 ×", "get p50", "get p99", "get max",
        "p99 ×", "trouble",
    ]);
    let mut row = |name: &str, lasted: String, bytes: u64, puts: &Latency, gets: &Latency, trouble: String| {
        let mut row = vec![name.to_owned(), result.server.clone(), lasted, format!("{:.0}", bytes as f64 / 1e6)];
        for (latency, quiet) in [(puts, &result.quiet_puts), (gets, &result.quiet_gets)] {
            row.extend([latency.p50, latency.p99, latency.max].map(micros));
            row.push(format!("{:.1}", latency.p99 / quiet.p99));
        }
        row.push(trouble);
        table.row(row);
    };
    let trouble = [(result.errors, "errors"), (result.unanswered, "unanswered"), (result.unsent, "unsent")];
    let trouble = trouble.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    let trouble = trouble.collect::<Vec<_>>().join(", ");
    row("nothing", String::new(), 0, &result.quiet_puts, &result.quiet_gets, trouble);
    for episode in &result.episodes {
        let failure = episode.failure.clone().unwrap_or_default();
        let lasted = format!("{:.2} s", episode.end - episode.start);
        row(&episode.name, lasted, episode.bytes, &episode.puts, &episode.gets, failure);
    }
    println!("{}", table.render());
    println!("others used {:.2} cores, {:.2} were stolen\n", result.other_cores, result.stolen_cores);
}

/// The p99 of all runs of a server: median, least and most, and by how much it moved.
fn show_runs(runs: &[&Disturbed]) {
    let Some(first) = runs.first() else { return };
    let spread = |mut values: Vec<f64>, form: fn(f64) -> String| {
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        format!("{} ({}–{})", form(values[(values.len() - 1) / 2]), form(least), form(most))
    };
    let factor = |value: f64| format!("{value:.1}");
    let quiet = |run: &Disturbed| [run.quiet_puts.p99, run.quiet_gets.p99];
    let mut table = Table::new(&["beside", "server", "runs", "put p99", "×", "get p99", "×"]);
    let mut row = |name: &str, p99: &dyn Fn(&Disturbed) -> [f64; 2]| {
        let mut row = vec![name.to_owned(), first.server.clone(), runs.len().to_string()];
        for track in 0..2 {
            row.push(spread(runs.iter().map(|run| p99(run)[track]).collect(), micros));
            row.push(spread(runs.iter().map(|run| p99(run)[track] / quiet(run)[track]).collect(), factor));
        }
        table.row(row);
    };
    row("nothing", &quiet);
    for (index, episode) in first.episodes.iter().enumerate() {
        row(&episode.name, &|run| [run.episodes[index].puts.p99, run.episodes[index].gets.p99]);
    }
    println!("{}", table.render());
}

/// All servers in one picture for puts and one for gets.
fn draw(arguments: &DisturbArgs, servers: &[Disturbed]) -> Result<(), Failure> {
    let Some(first) = servers.first() else { return Ok(()) };
    std::fs::create_dir_all(&arguments.servers.out)?;
    // Disturbances begin at the same moments everywhere; the bands are as long as the first server's.
    let band = |episode: &Episode| Band { name: episode.name.clone(), span: (episode.start, episode.end) };
    let bands: Vec<Band> = first.episodes.iter().map(band).collect();
    for (what, series) in
        [("put", (|server| &server.puts) as fn(&Disturbed) -> &Vec<SeriesPoint>), ("get", |server| &server.gets)]
    {
        let line = |server: &Disturbed| Line {
            name: server.server.clone(),
            points: series(server).iter().map(|point| (point.seconds, point.p99)).collect(),
        };
        let lines: Vec<Line> = servers.iter().map(line).collect();
        let title = format!("p99 of small {what}s beside heavy work, {} requests a second", arguments.rate);
        plot::over_time(&arguments.servers.out.join(format!("disturb-{what}.svg")), &title, &lines, &bands)?;
    }
    Ok(())
}

/// The server that is disturbed.
struct Victim {
    address: Endpoint,
    pid: u32,
    data: PathBuf,
    /// Writes per second a slow disk takes.
    writes: u32,
}

/// Makes one disturbance after the other and notes when each began and ended. Runs on a thread of its own, which takes
/// only the processor time that server and measurement leave: it stands for other machines.
fn episodes(victim: &Victim, window: Window, plan: &[Disturbance], gap: Duration) -> io::Result<Vec<Episode>> {
    rustix::process::nice(LOWEST_PRIORITY)?;
    block_on(async {
        let mut episodes = Vec::new();
        for (index, disturbance) in plan.iter().enumerate() {
            let due = window.start + QUIET + gap * u32::try_from(index).expect("few disturbances");
            tokio::time::sleep_until(tokio::time::Instant::from_std(due)).await;
            let start = Instant::now();
            let result = tokio::time::timeout(TIME_MAX, disturbance.make(victim)).await;
            let (bytes, failure) = match result {
                Ok(Ok(bytes)) => (bytes, None),
                Ok(Err(error)) => (0, Some(error.to_string())),
                Err(_) => (0, Some("did not end".to_owned())),
            };
            let name = disturbance.to_possible_value().expect("none is hidden").get_name().to_owned();
            let seconds = |at: Instant| at.saturating_duration_since(window.start).as_secs_f64();
            let (start, end) = (seconds(start), seconds(Instant::now()));
            episodes.push(Episode {
                name,
                start,
                end,
                failure,
                bytes,
                puts: Latency::default(),
                gets: Latency::default(),
            });
        }
        episodes
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

impl Disturbance {
    /// Does it; returns how many bytes came back.
    async fn make(self, victim: &Victim) -> Result<u64, CallError> {
        let address = victim.address;
        match self {
            Disturbance::Compaction => {
                let revision = newest(address).await? / 2;
                unary(address, methods::COMPACT.path, grpc::frame(&CompactionRequest { revision, physical: true }))
                    .await
            }
            Disturbance::Defragment => {
                unary(address, methods::DEFRAGMENT.path, grpc::frame(&DefragmentRequest {})).await
            }
            Disturbance::Range => {
                let (key, range_end) = (PREFIX.into(), prefix_end(PREFIX.as_bytes()).into());
                let request = grpc::frame(&RangeRequest { key, range_end, ..Default::default() });
                let mut bytes = 0;
                for _ in 0..RANGES {
                    bytes += unary(address, methods::RANGE.path, request.clone()).await?;
                }
                Ok(bytes)
            }
            Disturbance::Snapshot => read_snapshot(address).await,
            Disturbance::SlowWatchers => {
                let streams = watch_past(address, SLOW_PAST, SLOW_WINDOW_BYTES).await?;
                tokio::time::sleep(SLOW_TIME).await;
                drop(streams);
                Ok(0)
            }
            Disturbance::RestartWatchers => {
                let newest = newest(address).await?;
                let (_connections, streams) = watch_past(address, READ_PAST, READ_WINDOW_BYTES).await?;
                let mut readers = JoinSet::new();
                for stream in streams {
                    readers.spawn(read_history(stream, newest));
                }
                let mut bytes = 0;
                while let Some(read) = readers.join_next().await {
                    bytes += read.map_err(|_| CallError::Malformed("a reader panicked"))??;
                }
                Ok(bytes)
            }
            Disturbance::SlowDisk => {
                let throttle = Throttle::new(victim.pid, &victim.data, victim.writes)?;
                tokio::time::sleep(THROTTLED_TIME).await;
                drop(throttle);
                Ok(0)
            }
        }
    }
}

async fn newest(address: Endpoint) -> Result<i64, CallError> {
    Ok(status(address).await?.header.map_or(0, |header| header.revision))
}

async fn unary(address: Endpoint, path: &str, framed: bytes::Bytes) -> Result<u64, CallError> {
    let connection = Connection::open(address).await?;
    let message = grpc::unary(&mut connection.sender(), &Method::new(address, path), framed, Keep::Body).await?;
    Ok(message.len() as u64)
}

async fn read_snapshot(address: Endpoint) -> Result<u64, CallError> {
    let connection = Connection::open(address).await?;
    let method = Method::new(address, methods::SNAPSHOT.path);
    let mut stream = Stream::open(&mut connection.sender(), &method, grpc::frame(&SnapshotRequest {})).await?;
    let mut bytes = 0;
    while let Some(message) = stream.next().await? {
        bytes += message.len() as u64;
    }
    Ok(bytes)
}

/// Watchers of everything, each on a stream of its own, beginning some revisions ago.
async fn watch_past(address: Endpoint, past: i64, window: u32) -> Result<(Vec<Connection>, Vec<Stream>), CallError> {
    let method = Method::new(address, methods::WATCH.path);
    let create = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX.as_bytes()).into(),
        start_revision: (newest(address).await? - past).max(1),
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    let (mut connections, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..WATCH_CONNECTIONS {
        let connection = Connection::open_with_window(address, window, window).await?;
        for _ in 0..WATCHERS / WATCH_CONNECTIONS {
            streams.push(Stream::open(&mut connection.sender(), &method, grpc::frame(&request)).await?);
        }
        connections.push(connection);
    }
    Ok((connections, streams))
}

/// Reads a stream until it has come to revision `newest`; returns the bytes.
async fn read_history(mut stream: Stream, newest: i64) -> Result<u64, CallError> {
    let mut bytes = 0;
    while let Some(message) = stream.next().await? {
        bytes += message.len() as u64;
        if wire::integer_field(&message, 4) != 0 {
            return Err(CallError::Malformed("a watcher was canceled"));
        }
        let kv = |field| match field {
            (11, Value::Bytes(event)) => wire::bytes_field(event, 2),
            _ => None,
        };
        if wire::fields(&message).filter_map(kv).last().is_some_and(|kv| wire::integer_field(kv, 3) >= newest) {
            return Ok(bytes);
        }
    }
    Err(CallError::Malformed("a watch stream ended"))
}
