//! The `plinth` binary: one program under several names. `plinth` and `etcd` serve; `etcdctl` and `etcdutl` are the
//! tools, also to be had as `plinth ctl` and `plinth util`, besides `plinth wal`; `confd` and `metad` are companions,
//! also to be had as `plinth confd` and `plinth metad`; `gateway start` is etcd's TCP proxy, `grpc-proxy start` the one that
//! understands what it carries. A server takes no positional arguments, so these words mean nothing else.

#![forbid(unsafe_code)]

use plinth_ctl::etcdutl::ServerCommand;
use plinth_server::config::{self, Command, Config};
use plinth_server::datadir::{DataDir, DataDirError};
use plinth_server::sys::{self, Signals};
use plinth_server::{export, failpoints, logging, reactor, resources, restore, tls};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What is not UTF-8 matches no flag and is refused, or ignored, as any other unknown text.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args_os().skip(1).map(text).collect();
    if let Some((tool, arguments)) = tool(&std::env::args_os().next().map(text).unwrap_or_default(), &arguments) {
        return tool(arguments);
    }
    let environment: BTreeMap<String, String> =
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    match config::load(&arguments, &environment) {
        Ok(Command::Print(text)) => {
            // Whoever stops reading (`--help | head`) has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Serve(loaded)) => serve(*loaded),
        Err(error) => ExitCode::from(logging::report_config_error(&error)),
    }
}

/// A tool's entry.
type Tool = fn(Vec<String>) -> ExitCode;

/// The tool that is meant, by the name of the program or by its first argument, and the arguments left for it.
fn tool(program: &str, arguments: &[String]) -> Option<(Tool, Vec<String>)> {
    match program.rsplit('/').next() {
        Some("etcdctl") => return Some((plinth_ctl::etcdctl::main, arguments.to_vec())),
        Some("etcdutl") => return Some(etcdutl(arguments)),
        Some("confd") => return Some((plinth_confd::main, arguments.to_vec())),
        Some("metad") => return Some((plinth_metad::main, arguments.to_vec())),
        _ => {}
    }
    let (first, rest) = arguments.split_first()?;
    let tool: Tool = match first.as_str() {
        "ctl" => plinth_ctl::etcdctl::main,
        "util" => return Some(etcdutl(rest)),
        "wal" => plinth_ctl::wal::main,
        "gateway" => gateway,
        "grpc-proxy" => grpc_proxy,
        "confd" => plinth_confd::main,
        "metad" => plinth_metad::main,
        _ => return None,
    };
    Some((tool, rest.to_vec()))
}

/// Each connection that is carried is two files.
fn gateway(arguments: Vec<String>) -> ExitCode {
    resources::raise_limits();
    plinth_gateway::main(arguments)
}

/// The same, and a stream for each watch.
fn grpc_proxy(arguments: Vec<String>) -> ExitCode {
    resources::raise_limits();
    plinth_proxy::main(arguments, tls::self_made)
}

/// etcdutl: what makes a data directory of another kind is the server's own.
fn etcdutl(arguments: &[String]) -> (Tool, Vec<String>) {
    match plinth_ctl::etcdutl::server_command(arguments) {
        Some((ServerCommand::Restore, rest)) => (restore::main, rest),
        Some((ServerCommand::Export, rest)) => (export::main, rest),
        None => (plinth_ctl::etcdutl::main, arguments.to_vec()),
    }
}

fn serve(loaded: config::Loaded) -> ExitCode {
    // Before the first thread is started, so that all of them inherit the mask.
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("plinth: signals cannot be taken: {error}");
            return ExitCode::FAILURE;
        }
    };
    let guard = match logging::init(&loaded.config.log) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("plinth: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = sys::give_back_freed_memory() {
        eprintln!("plinth: a thread cannot be started: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = failpoints::start() {
        eprintln!("plinth: {error}");
        return ExitCode::FAILURE;
    }
    resources::raise_limits();
    logging::notices(&loaded.notices);
    let code = match open(&loaded.config, &signals) {
        Ok(Opened::Folder(folder)) => {
            logging::notices(folder.notices());
            reactor::run(loaded.config, &folder, signals)
        }
        Ok(Opened::Signal(signal)) => reactor::Ended::by_signal(signals, signal),
        Err(error) => {
            tracing::error!(%error, "the data directory cannot be used");
            eprintln!("plinth: {error}");
            reactor::Ended::Failed
        }
    };
    drop(guard);
    code.end()
}

/// How waiting for the data directory ended.
enum Opened {
    /// It is ours.
    Folder(DataDir),
    /// The process was told to stop meanwhile.
    Signal(i32),
}

/// Opens the data directory. One that another process holds is waited for without limit, as etcd does: the successor of
/// a server that is still stopping takes over as soon as it can.
fn open(config: &Config, signals: &Signals) -> Result<Opened, DataDirError> {
    const LOOK: Duration = Duration::from_millis(20);
    const TELL: Duration = Duration::from_secs(10);
    let (start, mut tell_at) = (Instant::now(), Instant::now());
    loop {
        let (path, holder) = match DataDir::open(config) {
            Err(DataDirError::Locked { path, holder }) => (path, holder),
            opened => return opened.map(Opened::Folder),
        };
        if Instant::now() >= tell_at {
            tell_at += TELL;
            let (path, took) = (path.display(), start.elapsed());
            tracing::warn!(%path, holder, ?took, "the data directory is in use by another process; waiting for it");
        }
        match signals.wait_for(LOOK) {
            Ok(Some(signal)) => return Ok(Opened::Signal(signal)),
            Ok(None) => {}
            Err(source) => return Err(DataDirError::Io { action: "wait for", path, source }),
        }
    }
}
