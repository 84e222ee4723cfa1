//! The process: reactors, their task queues, start and stop.
//!
//! Reactor 0 is the home of the group and serves connections itself; further reactors are edges (see [`crate::mesh`]).
//! Every reactor listens on the same addresses, and the kernel spreads connections over them.
//!
//! Task queues, by what must not wait: consensus and completions of the log, client requests, then watch catch-up,
//! compaction and flushing. Shares are relative: background work gets about a twentieth while others want to run.

mod edge;
mod listen;
mod part;
mod peers;
mod serve;

use crate::api;
use crate::config::{Config, Reactors};
use crate::datadir::DataDir;
use crate::home::queues::SOCKETS_INTERVAL;
use crate::logging::{self, events};
use crate::mesh::channel::{self, Receiver, Sender};
use crate::mesh::{CHANNEL_BATCHES, ToEdge, ToHome};
use crate::metrics;
use crate::resources::{self, Rings};
use crate::sys::Signals;
use crate::tls::Security;
use crate::wake;
use plinth_net::grpc::Tally;
use plinth_net::rt::{self, Reactor};
use plinth_wal_uring::{UringError, probe};
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// How the process ends.
pub enum Ended {
    /// By a signal, after an orderly stop.
    Signal(Arc<Signals>, i32),
    /// As asked.
    Well,
    /// For a reason that was logged.
    Failed,
}

impl Ended {
    /// By a signal that was taken. As the first process of a container there is nobody who could be told by one.
    pub fn by_signal(signals: impl Into<Arc<Signals>>, signal: i32) -> Ended {
        if std::process::id() == 1 { Ended::Well } else { Ended::Signal(signals.into(), signal) }
    }

    /// Ends the process, or tells how it should. Call when the log is flushed.
    pub fn end(self) -> ExitCode {
        match self {
            Ended::Signal(signals, signal) => signals.die_by(signal),
            Ended::Well => ExitCode::SUCCESS,
            Ended::Failed => ExitCode::FAILURE,
        }
    }
}

/// The home's channels to and from one edge.
struct EdgeChannels {
    to_home: Receiver<Vec<ToHome>>,
    to_edge: Sender<Vec<ToEdge>>,
    /// What the edge counts.
    tally: Arc<Tally>,
}

/// Serves until a signal stops the member or something fails for good.
pub fn run(config: Config, folder: &DataDir, signals: Signals) -> Ended {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = reactors(config.reactors, cores);
    events::starting(&config, !folder.is_fresh(), count, cores);
    if let Err(error) = probe() {
        return fail("the server cannot start", &error);
    }
    let security = match Security::new(&config) {
        Ok(security) => security,
        Err(error) => return fail("the server cannot start", &error),
    };
    let signals = Arc::new(signals);
    let taken = Arc::new(AtomicI32::new(0));
    let mut channels = Vec::new();
    let mut edges = Vec::new();
    for number in 1..count {
        let (to_home_sender, to_home) = channel::bounded(CHANNEL_BATCHES);
        let (to_edge, to_edge_receiver) = channel::bounded(CHANNEL_BATCHES);
        let tally = new_tally(&config);
        channels.push(EdgeChannels { to_home, to_edge, tally: tally.clone() });
        match edge::start(number, &config, &security, to_home_sender, to_edge_receiver, tally) {
            Ok(edge) => edges.push(edge),
            Err(error) => return fail(&reactor_trouble(number), &error),
        }
    }
    let result = run_home(&config, security, folder, channels, signals.clone(), taken.clone());
    for edge in edges {
        // An edge ends with its channel. What it has to say was logged by it, unless it never ran.
        if let Err(error) = edge.join() {
            tracing::error!(%error, "an edge reactor failed");
        }
    }
    let signal = taken.load(Ordering::Acquire);
    match result {
        Err(error) => fail("the server stopped", &error),
        Ok(()) if signal != 0 => Ended::by_signal(signals, signal),
        Ok(()) => Ended::Well,
    }
}

/// How many reactors: as many as were asked for, else one for each core, if there is locked memory for them.
fn reactors(wanted: Reactors, cores: usize) -> usize {
    let (count, fit) = (wanted.count_on(cores as u32) as usize, Rings::allowed().reactors_max);
    if wanted.count != 0 || count <= fit {
        return count;
    }
    tracing::warn!(
        reactors = fit,
        cores,
        limit = resources::locked_memory(),
        "fewer reactors than cores, since their rings count as locked memory; allow more of it (ulimit -l, LimitMEMLOCK=, \
         CAP_IPC_LOCK), or say how many with --reactors"
    );
    fit
}

/// What a reactor's servers count.
fn new_tally(config: &Config) -> Arc<Tally> {
    metrics::tally(api::method_table().len(), config.monitoring.extensive)
}

fn run_home(
    config: &Config,
    security: Security,
    folder: &DataDir,
    channels: Vec<EdgeChannels>,
    signals: Arc<Signals>,
    taken: Arc<AtomicI32>,
) -> Result<(), String> {
    let (config, member_dir, log_dir) =
        (config.clone(), folder.member_dir().to_path_buf(), folder.log_dir().to_path_buf());
    let reactor = start(0, config.reactors.pin, move || async move {
        serve::run(config, security, &member_dir, &log_dir, channels, signals, taken).await
    });
    let reactor = reactor.map_err(|error| format!("{}: {error}", reactor_trouble(0)))?;
    reactor.join().map_err(|error| UringError::ring(error.into()).to_string())?
}

fn reactor_trouble(number: usize) -> String {
    format!("reactor {number} cannot be started")
}

/// Starts a reactor whose work is in a queue of its own: the first one keeps a reactor from its sockets for up to 100 ms
/// where it alone has work.
fn start<F, T>(number: usize, pin: bool, main: impl FnOnce() -> F + Send + 'static) -> io::Result<Reactor<T>>
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    rt::reactor(&format!("reactor-{number}"), pin.then_some(number), Rings::allowed().entries, move || async move {
        rt::spawn_into(main(), rt::queue("clients", 1000, SOCKETS_INTERVAL)).await
    })
}

fn fail(what: &str, error: &dyn std::fmt::Display) -> Ended {
    tracing::error!(%error, "{what}");
    logging::flush();
    eprintln!("plinth: {what}: {error}");
    Ended::Failed
}

/// Ends when SIGTERM or SIGINT arrives.
async fn wait_for_signal(signals: Arc<Signals>, taken: Arc<AtomicI32>) -> io::Result<()> {
    let (waker, mut woken) = wake::pair()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            taken.store(signal, Ordering::Release);
        }
        waker.wake();
        // Kept open until the process ends: a closed pair would look like a failure.
        std::mem::forget(waker);
    })?;
    woken.wait().await
}
