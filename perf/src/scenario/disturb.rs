//! Small puts at a steady rate while heavy work goes on beside them: how much the tail moves. One disturbance after
//! the other, with quiet between; the figures of each are those of the puts that were due while it lasted.

use super::{Failure, Machine, write_json};
use crate::api::{
    CompactionRequest, DefragmentRequest, RangeRequest, SnapshotRequest, WatchCreateRequest, WatchRequest, path,
    prefix_end, watch_request,
};
use crate::cli::{DisturbArgs, Disturbance};
use crate::drive;
use crate::grpc::{self, CallError, Connection, Keep, Method, Stream};
use crate::measure::{Latency, SeriesPoint, Track, Window};
use crate::plot::{self, Band, Line};
use crate::prepare;
use crate::report::{Table, micros};
use crate::server::{Program, Server, status};
use crate::wire::{self, Value};
use crate::workload::{Kind, PREFIX, Spec};
use clap::ValueEnum;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Quiet time at the start, the measure for all that follows.
const QUIET: Duration = Duration::from_secs(10);
/// A disturbance's effect is counted until this long after its end.
const AFTERMATH: Duration = Duration::from_millis(500);
/// Whole-store reads per disturbance.
const RANGES: usize = 3;
/// Watchers per disturbance.
const WATCHERS: usize = 100;
/// Time for which slow watchers do not read.
const SLOW_TIME: Duration = Duration::from_secs(5);
/// Flow-control windows of slow watchers.
const SLOW_WINDOW_BYTES: u32 = 65_535;
/// Longest time for one disturbance.
const TIME_MAX: Duration = Duration::from_secs(120);

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
    /// Of the puts due from start to end.
    puts: Latency,
}

#[derive(Serialize)]
struct Disturbed {
    server: String,
    version: String,
    /// Of the puts due before the first disturbance.
    quiet: Latency,
    episodes: Vec<Episode>,
    unanswered: u64,
    unsent: u64,
    errors: u64,
    series: Vec<SeriesPoint>,
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
    let mut servers = Vec::new();
    for program in arguments.servers.programs()? {
        let result = measure(arguments, &program)?;
        show(&result);
        draw(arguments, &result)?;
        servers.push(result);
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
        ..Spec::usual(Kind::Put)
    };
    let version = block_on(status(address))??.version;
    let (plan, gap) = (arguments.disturbances.clone(), Duration::from_secs_f64(arguments.gap));
    let mut beside = None;
    let begin = |window| beside = Some(std::thread::spawn(move || episodes(address, window, &plan, gap)));
    let label = format!("disturb {}", program.label);
    let outcome = drive::run_and_tell(address, Some(server.pid()), &spec, &label, begin)?;
    let beside = beside.ok_or("the run never began")?;
    let mut episodes = beside.join().map_err(|_| "the disturbing thread panicked")??;
    let track = &outcome.tracks[0];
    for episode in &mut episodes {
        let end = Duration::from_secs_f64(episode.end) + AFTERMATH;
        episode.puts = track.between(Duration::from_secs_f64(episode.start), end);
    }
    Ok(Disturbed {
        server: program.label.clone(),
        version,
        quiet: track.between(Duration::ZERO, QUIET - Duration::from_secs(1)),
        episodes,
        unanswered: outcome.unanswered,
        unsent: outcome.unsent,
        errors: outcome.errors.total(),
        series: Track::series(track),
    })
}

fn show(result: &Disturbed) {
    let mut table = Table::new(&["beside the puts", "server", "lasted", "MB", "p50", "p99", "p99.9", "max", "trouble"]);
    let mut row = |name: &str, lasted: String, bytes: u64, puts: &Latency, trouble: String| {
        let mut row = vec![name.to_owned(), result.server.clone(), lasted, format!("{:.0}", bytes as f64 / 1e6)];
        row.extend([puts.p50, puts.p99, puts.p999, puts.max].map(micros));
        row.push(trouble);
        table.row(row);
    };
    let trouble = [(result.errors, "errors"), (result.unanswered, "unanswered"), (result.unsent, "unsent")];
    let trouble = trouble.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    row("nothing", String::new(), 0, &result.quiet, trouble.collect::<Vec<_>>().join(", "));
    for episode in &result.episodes {
        let failure = episode.failure.clone().unwrap_or_default();
        row(&episode.name, format!("{:.2} s", episode.end - episode.start), episode.bytes, &episode.puts, failure);
    }
    println!("{}", table.render());
}

fn draw(arguments: &DisturbArgs, result: &Disturbed) -> Result<(), Failure> {
    let points = result.series.iter().map(|point| (point.seconds, point.p99)).collect();
    let line = Line { name: format!("{} p99 of puts", result.server), points };
    let band = |episode: &Episode| Band { name: episode.name.clone(), span: (episode.start, episode.end) };
    let bands: Vec<Band> = result.episodes.iter().map(band).collect();
    std::fs::create_dir_all(&arguments.servers.out)?;
    let title = format!("{}: {} puts a second beside heavy work", result.server, arguments.rate);
    let file = arguments.servers.out.join(format!("disturb-{}.svg", result.server));
    plot::over_time(&file, &title, &[line], &bands)
}

/// Makes one disturbance after the other and notes when each began and ended.
fn episodes(address: SocketAddr, window: Window, plan: &[Disturbance], gap: Duration) -> io::Result<Vec<Episode>> {
    block_on(async {
        let mut episodes = Vec::new();
        for (index, disturbance) in plan.iter().enumerate() {
            let due = window.start + QUIET + gap * u32::try_from(index).expect("few disturbances");
            tokio::time::sleep_until(tokio::time::Instant::from_std(due)).await;
            let start = Instant::now();
            let result = tokio::time::timeout(TIME_MAX, disturbance.make(address)).await;
            let (bytes, failure) = match result {
                Ok(Ok(bytes)) => (bytes, None),
                Ok(Err(error)) => (0, Some(error.to_string())),
                Err(_) => (0, Some("did not end".to_owned())),
            };
            let name = disturbance.to_possible_value().expect("none is hidden").get_name().to_owned();
            let seconds = |at: Instant| at.saturating_duration_since(window.start).as_secs_f64();
            let (start, end) = (seconds(start), seconds(Instant::now()));
            episodes.push(Episode { name, start, end, failure, bytes, puts: Latency::default() });
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
    async fn make(self, address: SocketAddr) -> Result<u64, CallError> {
        match self {
            Disturbance::Compaction => {
                let revision = newest(address).await? / 2;
                unary(address, path::COMPACT, grpc::frame(&CompactionRequest { revision, physical: true })).await
            }
            Disturbance::Defragment => unary(address, path::DEFRAGMENT, grpc::frame(&DefragmentRequest {})).await,
            Disturbance::Range => {
                let (key, range_end) = (PREFIX.into(), prefix_end(PREFIX.as_bytes()).into());
                let request = grpc::frame(&RangeRequest { key, range_end, ..Default::default() });
                let mut bytes = 0;
                for _ in 0..RANGES {
                    bytes += unary(address, path::RANGE, request.clone()).await?;
                }
                Ok(bytes)
            }
            Disturbance::Snapshot => read_snapshot(address).await,
            Disturbance::SlowWatchers => {
                let connection = Connection::open_with_window(address, SLOW_WINDOW_BYTES, SLOW_WINDOW_BYTES).await?;
                let streams = watch_history(address, &connection).await?;
                tokio::time::sleep(SLOW_TIME).await;
                drop(streams);
                Ok(0)
            }
            Disturbance::RestartWatchers => {
                let connection = Connection::open(address).await?;
                let streams = watch_history(address, &connection).await?;
                let newest = newest(address).await?;
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
        }
    }
}

async fn newest(address: SocketAddr) -> Result<i64, CallError> {
    Ok(status(address).await?.header.map_or(0, |header| header.revision))
}

async fn unary(address: SocketAddr, path: &str, framed: bytes::Bytes) -> Result<u64, CallError> {
    let connection = Connection::open(address).await?;
    let message = grpc::unary(&mut connection.sender(), &Method::new(address, path), framed, Keep::Body).await?;
    Ok(message.len() as u64)
}

async fn read_snapshot(address: SocketAddr) -> Result<u64, CallError> {
    let connection = Connection::open(address).await?;
    let method = Method::new(address, path::SNAPSHOT);
    let mut stream = Stream::open(&mut connection.sender(), &method, grpc::frame(&SnapshotRequest {})).await?;
    let mut bytes = 0;
    while let Some(message) = stream.next().await? {
        bytes += message.len() as u64;
    }
    Ok(bytes)
}

/// Watchers of everything, each on a stream of its own, beginning with the newer half of all revisions (the older
/// one may have been compacted away).
async fn watch_history(address: SocketAddr, connection: &Connection) -> Result<Vec<Stream>, CallError> {
    let method = Method::new(address, path::WATCH);
    let create = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: prefix_end(PREFIX.as_bytes()).into(),
        start_revision: newest(address).await? / 2 + 1,
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        streams.push(Stream::open(&mut connection.sender(), &method, grpc::frame(&request)).await?);
    }
    Ok(streams)
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
