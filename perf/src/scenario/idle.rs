//! What a server uses when nobody asks for anything: many connections, a watcher on each, no traffic.

use super::{Failure, Machine, write_json};
use crate::cli::IdleArgs;
use crate::drive::hold_watchers;
use crate::process::{self, Memory};
use crate::report::Table;
use crate::server::{Program, Server};
use crate::workload::{Kind, Spec};
use serde::Serialize;
use std::time::Duration;

/// Time between the last connection and the measurement.
const SETTLE: Duration = Duration::from_secs(2);

/// What one server used.
#[derive(Serialize)]
pub(super) struct Idle {
    server: String,
    connections: usize,
    seconds: f64,
    /// Share of one core, in percent.
    cpu_percent: f64,
    /// Context switches of all threads.
    switches_per_second: f64,
    write_bytes_per_second: f64,
    memory_before: Memory,
    memory: Memory,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    idle: Vec<Idle>,
}

/// `plinth-perf idle`.
pub fn idle(arguments: &IdleArgs) -> Result<(), Failure> {
    let mut idle = Vec::new();
    for program in arguments.servers.programs()? {
        idle.push(measure(arguments, &program)?);
    }
    println!("{}", table(&idle).render());
    write_json(&arguments.servers.out.join("idle.json"), &Results { machine: Machine::here(), idle })
}

/// The table of these.
pub(super) fn table(idle: &[Idle]) -> Table {
    let head = ["server", "connections", "CPU of a core", "switches/s", "disk B/s", "RSS", "RSS per connection"];
    let mut table = Table::new(&head);
    for one in idle {
        let grown = one.memory.resident.saturating_sub(one.memory_before.resident) as f64;
        table.row(vec![
            one.server.clone(),
            one.connections.to_string(),
            format!("{:.2} %", one.cpu_percent),
            format!("{:.0}", one.switches_per_second),
            format!("{:.0}", one.write_bytes_per_second),
            format!("{:.1} MB", one.memory.resident as f64 / 1e6),
            format!("{:.1} kB", grown / one.connections as f64 / 1e3),
        ]);
    }
    table
}

/// What `program` uses at rest.
pub(super) fn measure(arguments: &IdleArgs, program: &Program) -> Result<Idle, Failure> {
    let server = Server::start(program, &arguments.servers.data)?;
    let memory_before = process::usage(server.pid())?.memory;
    let connections = arguments.connections;
    let spec = Spec { watchers: connections, watch_connections: connections, ..Spec::usual(Kind::WatchKeys) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        eprintln!("{}: {connections} connections, {:.0} s", program.label, arguments.seconds);
        let watchers = hold_watchers(server.address(), &spec).await?;
        tokio::time::sleep(SETTLE).await;
        let before = process::usage(server.pid())?;
        tokio::time::sleep(Duration::from_secs_f64(arguments.seconds)).await;
        let after = process::usage(server.pid())?;
        drop(watchers);
        Ok(Idle {
            server: program.label.clone(),
            connections,
            seconds: arguments.seconds,
            cpu_percent: (after.cpu - before.cpu).as_secs_f64() * 100.0 / arguments.seconds,
            switches_per_second: (after.switches - before.switches) as f64 / arguments.seconds,
            write_bytes_per_second: (after.write_bytes - before.write_bytes) as f64 / arguments.seconds,
            memory_before,
            memory: after.memory,
        })
    })
}
