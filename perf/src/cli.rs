//! The command line. Parsing only records; `main` acts.

use crate::certificates::Connect;
use crate::server::{Form, Program, Security};
use crate::users::Tokens;
use crate::workload::{Kind, Spec};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Load generator and side-by-side measurements for servers of the etcd v3 API.
#[derive(Parser)]
#[command(name = "plinth-perf", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run one workload against a server that is already there.
    Run(RunArgs),
    /// Run workloads against servers started for the purpose, in turns, and compare.
    Compare(CompareArgs),
    /// Fill, kill, start again: time to the first answered read, and memory.
    Restart(RestartArgs),
    /// One client, one put at a time.
    Single(SingleArgs),
    /// Many connections with a watcher each and no traffic.
    Idle(IdleArgs),
    /// Few clients, low rates, and no traffic at all: what a request costs when hardly anything goes on.
    Low(LowArgs),
    /// What the disk takes for a write and a flush, without any server.
    Floor(FloorArgs),
    /// Kill and stop the leader of a cluster: time to the next acknowledged write.
    Failover(FailoverArgs),
    /// Bring a member back that has missed much, beside a load.
    CatchUp(CatchUpArgs),
    /// Where the time of requests goes, by the server's own histograms.
    Budget(BudgetArgs),
    /// Draw a flame graph of the output of `perf script`.
    Flame(FlameArgs),
    /// Latency of small puts while heavy work goes on beside them.
    Disturb(DisturbArgs),
    /// Latency, CPU and memory while the number of keys grows.
    Growth(GrowthArgs),
    /// What a new connection costs: in clear, with a full handshake, with a session taken up again.
    Handshakes(HandshakesArgs),
    /// Small puts and gets while thousands of clients come back at once.
    Storm(StormArgs),
}

/// Which servers to start, and where they keep their data.
#[derive(Args, Clone)]
pub struct Servers {
    /// Plinth's binary.
    #[arg(long, value_name = "PATH")]
    pub plinth: Option<PathBuf>,
    /// etcd's binary.
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// Another server, or another build of one.
    #[arg(long, value_name = "LABEL=PATH", value_parser = labelled)]
    pub server: Vec<(String, PathBuf)>,
    /// A further argument for Plinth; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub plinth_arg: Vec<String>,
    /// A further argument for etcd; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub etcd_arg: Vec<String>,
    /// Folder for data, on the disk to be measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/perf/data")]
    pub data: PathBuf,
    /// Folder for results.
    #[arg(long, value_name = "FOLDER", default_value = "target/perf")]
    pub out: PathBuf,
}

fn labelled(text: &str) -> Result<(String, PathBuf), String> {
    let (label, path) = text.split_once('=').ok_or("expected LABEL=PATH")?;
    Ok((label.to_owned(), path.into()))
}

impl Servers {
    /// The programs named, in the order of the tables.
    pub fn programs(&self) -> Result<Vec<Program>, String> {
        let program = |label: &str, path: &PathBuf, arguments: &[String]| Program {
            label: label.to_owned(),
            path: path.clone(),
            arguments: arguments.to_vec(),
            form: Form::Etcd,
            security: Security::default(),
        };
        let mut programs = Vec::new();
        programs.extend(self.plinth.iter().map(|path| program("plinth", path, &self.plinth_arg)));
        programs.extend(self.etcd.iter().map(|path| program("etcd", path, &self.etcd_arg)));
        programs.extend(self.server.iter().map(|(label, path)| program(label, path, &[])));
        if programs.is_empty() {
            return Err("name at least one server: --plinth, --etcd or --server".to_owned());
        }
        Ok(programs)
    }
}

/// Changes to the usual form of a workload.
#[derive(Args, Clone)]
pub struct Shape {
    /// Connections.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Requests in flight per connection.
    #[arg(long)]
    pub streams: Option<usize>,
    /// Size of the set of keys.
    #[arg(long)]
    pub keys: Option<u64>,
    /// Bytes per value.
    #[arg(long)]
    pub value_bytes: Option<usize>,
    /// Keys per prefix read.
    #[arg(long)]
    pub prefix_keys: Option<u64>,
    /// Watchers.
    #[arg(long)]
    pub watchers: Option<usize>,
    /// Connections for watchers.
    #[arg(long)]
    pub watch_connections: Option<usize>,
    /// Requests per second (open loop); 0 for a closed loop.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Measured seconds.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Seconds before that.
    #[arg(long)]
    pub warmup_seconds: Option<f64>,
    /// Most requests of a run.
    #[arg(long)]
    pub max_requests: Option<u64>,
    /// Threads of the generator.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Seed of the requests.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Shape {
    /// The usual form of `kind` with these changes.
    pub fn spec(&self, kind: Kind) -> Result<Spec, String> {
        let mut spec = Spec::usual(kind);
        fn set<T: Copy>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut spec.connections, self.connections);
        set(&mut spec.streams, self.streams);
        set(&mut spec.keys, self.keys);
        set(&mut spec.value_bytes, self.value_bytes);
        set(&mut spec.prefix_keys, self.prefix_keys);
        set(&mut spec.watchers, self.watchers);
        set(&mut spec.watch_connections, self.watch_connections);
        set(&mut spec.seconds, self.seconds);
        set(&mut spec.warmup_seconds, self.warmup_seconds);
        set(&mut spec.threads, self.threads);
        set(&mut spec.seed, self.seed);
        if let Some(rate) = self.rate {
            spec.rate = (rate > 0.0).then_some(rate);
        }
        spec.max_requests = self.max_requests.or(spec.max_requests);
        spec.check()?;
        Ok(spec)
    }
}

/// Arguments of `run`.
#[derive(Args)]
pub struct RunArgs {
    pub workload: Kind,
    /// Where the server listens.
    #[arg(long, default_value = "127.0.0.1:2379")]
    pub endpoint: SocketAddr,
    /// The server's process, for CPU, memory and disk figures.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Write the figures as JSON to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// How to connect.
    #[command(flatten)]
    pub connect: Connect,
    /// Changes to the workload.
    #[command(flatten)]
    pub shape: Shape,
}

/// Arguments of `compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// What to send, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "put,range,range-prefix,txn-cas,watch-fanout,watch-keys,lease-keepalive,mixed"
    )]
    pub workloads: Vec<Kind>,
    /// Turns of each server.
    #[arg(long, default_value_t = 3)]
    pub repetitions: usize,
    /// How the servers are set up.
    #[command(flatten)]
    pub setting: Setting,
    /// Each server also with TLS, as a row of its own.
    #[arg(long)]
    pub tls: bool,
    /// Each server also with users who show these tokens, as rows of their own; separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<Tokens>,
    /// Changes to the workloads.
    #[command(flatten)]
    pub shape: Shape,
}

/// Arguments of `restart`.
#[derive(Args)]
pub struct RestartArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Keys to fill in.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Kills and starts per server.
    #[arg(long, default_value_t = 3)]
    pub repetitions: usize,
}

/// Arguments of `single`.
#[derive(Args)]
pub struct SingleArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Measured seconds per turn.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Turns of each server.
    #[arg(long, default_value_t = 3)]
    pub repetitions: usize,
    /// How the servers are set up.
    #[command(flatten)]
    pub setting: Setting,
}

/// How servers are set up for a comparison.
#[derive(Args, Clone)]
pub struct Setting {
    /// Members of each cluster.
    #[arg(long, default_value_t = 1)]
    pub members: usize,
    /// Send to the leader only; else connections go to the members in turn.
    #[arg(long)]
    pub leader_only: bool,
    /// Leave out the floor: a server that does nothing, and the disk alone.
    #[arg(long)]
    pub no_floor: bool,
}

/// Arguments of `idle`.
#[derive(Args)]
pub struct IdleArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Connections, with one watcher each.
    #[arg(long, default_value_t = 1_000)]
    pub connections: usize,
    /// Measured seconds.
    #[arg(long, default_value_t = 20.0)]
    pub seconds: f64,
}

/// Arguments of `low`.
#[derive(Args)]
pub struct LowArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// What a number of clients sends, one request at a time each, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "put,range,txn-cas")]
    pub workloads: Vec<Kind>,
    /// Numbers of clients, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64")]
    pub clients: Vec<usize>,
    /// Requests per second of the workload `apiserver`, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "200,1000,5000")]
    pub rates: Vec<f64>,
    /// Leave out `watch-keys`: 5,000 puts a second, each seen by one watcher.
    #[arg(long)]
    pub no_watch_keys: bool,
    /// Watchers that hold a connection each while nothing happens; 0 leaves that out.
    #[arg(long, default_value_t = 30)]
    pub idle_watchers: usize,
    /// Seconds without traffic.
    #[arg(long, default_value_t = 10.0)]
    pub idle_seconds: f64,
    /// Measured seconds of each turn.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Turns of each server.
    #[arg(long, default_value_t = 2)]
    pub repetitions: usize,
    /// How the servers are set up.
    #[command(flatten)]
    pub setting: Setting,
}

/// Arguments of `floor`.
#[derive(Args)]
pub struct FloorArgs {
    /// Folder on the disk to be measured.
    #[arg(long, value_name = "FOLDER", default_value = "target/perf/data")]
    pub data: PathBuf,
    /// Folder for results.
    #[arg(long, value_name = "FOLDER", default_value = "target/perf")]
    pub out: PathBuf,
    /// Bytes per write.
    #[arg(long, default_value_t = 4_096)]
    pub bytes: usize,
    /// Measured seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// Arguments of `disturb`.
#[derive(Args)]
pub struct DisturbArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// What is done beside the puts, one after the other.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "compaction,defragment,range,snapshot,slow-watchers,restart-watchers,slow-disk"
    )]
    pub disturbances: Vec<Disturbance>,
    /// Keys to fill in before, all of them twice, so that a compaction has a million revisions to go through.
    #[arg(long, default_value_t = 500_000)]
    pub keys: u64,
    /// Bytes per value filled in.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Requests per second, half of them puts.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Writes per second of the slow disk.
    #[arg(long, default_value_t = 200)]
    pub slow_writes: u32,
    /// Seconds from the start of one disturbance to that of the next.
    #[arg(long, default_value_t = 15.0)]
    pub gap: f64,
    /// Runs of each server, in turns. A disturbance takes a second or two, and a disk has moods: one run says little.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
}

/// What can be done beside a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Disturbance {
    /// A compaction of half of all revisions, waited for.
    Compaction,
    Defragment,
    /// Three reads of all keys in one answer.
    Range,
    /// A snapshot of the whole store.
    Snapshot,
    /// A thousand watchers of everything that do not read what they get, for some seconds.
    SlowWatchers,
    /// A thousand watchers that come back and read the newest history.
    RestartWatchers,
    /// A disk that takes few writes a second, for some seconds (needs root, and the block I/O control group).
    SlowDisk,
}

/// Arguments of `growth`.
#[derive(Args)]
pub struct GrowthArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Numbers of keys at which to measure, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000,10000000")]
    pub keys: Vec<u64>,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Requests per second of each measurement, so that all servers come to have the same history; 0 for as many as
    /// there can be.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// Arguments of `failover`.
#[derive(Args)]
pub struct FailoverArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Members of each cluster.
    #[arg(long, default_value_t = 3)]
    pub members: usize,
    /// Times the leader is killed, and times it is asked to end.
    #[arg(long, default_value_t = 7)]
    pub repetitions: usize,
}

/// Arguments of `catch-up`.
#[derive(Args)]
pub struct CatchUpArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Keys filled in while the member is away.
    #[arg(long, default_value_t = 1_000_000)]
    pub keys: u64,
    /// Bytes per value.
    #[arg(long, default_value_t = 1_000)]
    pub value_bytes: usize,
    /// Puts per second beside it.
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// Seconds of the load, ten of them before the member comes back.
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
}

/// Arguments of `handshakes`.
#[derive(Args)]
pub struct HandshakesArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Clients that connect at a time.
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Measured seconds of each kind.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Turns of each server.
    #[arg(long, default_value_t = 2)]
    pub repetitions: usize,
}

/// Arguments of `storm`.
#[derive(Args)]
pub struct StormArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// Clients that come back.
    #[arg(long, default_value_t = 5_000)]
    pub clients: usize,
    /// Requests per second of the others, half of them puts.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Storms of each server, in turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
}

/// Arguments of `budget`.
#[derive(Args)]
pub struct BudgetArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Servers,
    /// What to send.
    #[arg(default_value = "put")]
    pub workload: Kind,
    /// Histograms whose names contain this.
    #[arg(long, default_value = "_duration_seconds")]
    pub histograms: String,
    /// Changes to the workload.
    #[command(flatten)]
    pub shape: Shape,
}

/// Arguments of `flame`.
#[derive(Args)]
pub struct FlameArgs {
    /// What `perf script` printed.
    pub script: PathBuf,
    /// Where the picture goes.
    #[arg(long, default_value = "target/perf/flame.svg")]
    pub svg: PathBuf,
    /// Functions listed by their own share.
    #[arg(long, default_value_t = 40)]
    pub top: usize,
}
