//! How long a server is away after `kill -9`, and how much memory its data takes.

use super::{Failure, Machine, write_json};
use crate::cli::RestartArgs;
use crate::prepare;
use crate::process::{self, Memory};
use crate::report::Table;
use crate::server::{Program, Server};
use crate::workload::key;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Time for a server to settle between filling, killing and looking at its memory.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Restart {
    server: String,
    keys: u64,
    value_bytes: usize,
    fill_seconds: f64,
    memory_filled: Memory,
    disk_bytes: u64,
    /// From the start of the process to the first answered linearizable read.
    restart_seconds: Vec<f64>,
    /// Of each restarted process, some time after.
    memory_restarted: Vec<Memory>,
}

#[derive(Serialize)]
struct Results {
    machine: Machine,
    restarts: Vec<Restart>,
}

/// `plinth-perf restart`.
pub fn restart(arguments: &RestartArgs) -> Result<(), Failure> {
    let mut restarts = Vec::new();
    for program in arguments.servers.programs()? {
        restarts.push(measure(arguments, &program)?);
    }
    let mut table =
        Table::new(&["server", "keys", "fill", "RSS filled", "disk", "restart", "RSS restarted", "own", "peak"]);
    let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    for restart in &restarts {
        for (number, (seconds, memory)) in restart.restart_seconds.iter().zip(&restart.memory_restarted).enumerate() {
            let first = |text: String| if number == 0 { text } else { String::new() };
            table.row(vec![
                restart.server.clone(),
                first(restart.keys.to_string()),
                first(format!("{:.1} s", restart.fill_seconds)),
                first(megabytes(restart.memory_filled.resident)),
                first(megabytes(restart.disk_bytes)),
                format!("{seconds:.3} s"),
                megabytes(memory.resident),
                megabytes(memory.anonymous),
                megabytes(memory.peak),
            ]);
        }
    }
    println!("{}", table.render());
    write_json(&arguments.servers.out.join("restart.json"), &Results { machine: Machine::here(), restarts })
}

fn measure(arguments: &RestartArgs, program: &Program) -> Result<Restart, Failure> {
    let mut server = Server::start(program, &arguments.servers.data)?;
    eprintln!("{}: filling {} keys of {} bytes", program.label, arguments.keys, arguments.value_bytes);
    let started = Instant::now();
    prepare::fill(server.address(), 0..arguments.keys, arguments.value_bytes)?;
    let fill_seconds = started.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let memory_filled = process::usage(server.pid())?.memory;
    let disk_bytes = server.disk_bytes();
    let (mut restart_seconds, mut memory_restarted) = (Vec::new(), Vec::new());
    for number in 1..=arguments.repetitions {
        eprintln!("{}: kill and start {number}/{}", program.label, arguments.repetitions);
        restart_seconds.push(server.kill_and_restart(&key(arguments.keys / 2))?.as_secs_f64());
        std::thread::sleep(SETTLE);
        memory_restarted.push(process::usage(server.pid())?.memory);
    }
    Ok(Restart {
        server: program.label.clone(),
        keys: arguments.keys,
        value_bytes: arguments.value_bytes,
        fill_seconds,
        memory_filled,
        disk_bytes,
        restart_seconds,
        memory_restarted,
    })
}
