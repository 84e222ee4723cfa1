//! The floor under every durable write: `write` and `fdatasync` of a file that already has its blocks, from one
//! thread, with nothing else going on.

use super::{Failure, Machine, write_json};
use crate::cli::FloorArgs;
use crate::measure::{Latency, Track, Window};
use crate::report::{Table, micros};
use serde::Serialize;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Size of the file written round and round; written once before, so that no write allocates blocks.
const FILE_BYTES: usize = 64 << 20;

#[derive(Serialize)]
struct Floor {
    machine: Machine,
    bytes: usize,
    /// In microseconds.
    latency: Latency,
}

/// `plinth-perf floor`.
pub fn floor(arguments: &FloorArgs) -> Result<(), Failure> {
    if arguments.bytes == 0 || arguments.bytes > FILE_BYTES {
        return Err(format!("bytes must be between 1 and {FILE_BYTES}").into());
    }
    fs::create_dir_all(&arguments.data)?;
    let path = arguments.data.join(format!("floor-{}", std::process::id()));
    let file = File::options().create_new(true).write(true).open(&path)?;
    let latency = measure(&file, arguments);
    fs::remove_file(&path)?;
    let floor = Floor { machine: Machine::here(), bytes: arguments.bytes, latency: latency? };
    let mut table = Table::new(&["write + fdatasync", "per second", "p50", "p90", "p99", "p99.9", "max"]);
    let latency = &floor.latency;
    table.row(vec![
        format!("{} B", floor.bytes),
        format!("{:.0}", latency.count as f64 / arguments.seconds),
        micros(latency.p50),
        micros(latency.p90),
        micros(latency.p99),
        micros(latency.p999),
        micros(latency.max),
    ]);
    println!("{}", table.render());
    write_json(&arguments.out.join("floor.json"), &floor)
}

fn measure(file: &File, arguments: &FloorArgs) -> Result<Latency, Failure> {
    let block = crate::workload::value(arguments.bytes);
    let blocks = FILE_BYTES / block.len();
    for index in 0..blocks {
        file.write_all_at(&block, (index * block.len()) as u64)?;
    }
    file.sync_all()?;
    let length = Duration::from_secs_f64(arguments.seconds);
    let start = Instant::now();
    let window = Window { start, end: start + length };
    let mut track = Track::new(Duration::from_secs(1));
    for index in 0.. {
        let began = Instant::now();
        if began >= window.end {
            break;
        }
        file.write_all_at(&block, (index % blocks * block.len()) as u64)?;
        file.sync_data()?;
        track.record(&window, began, Instant::now());
    }
    Ok(track.summary())
}
