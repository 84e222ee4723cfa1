//! The floor under every durable write: `write` and `fdatasync` of a file that already has its blocks, from one
//! thread, with nothing else going on.

use super::{Failure, Machine, write_json};
use crate::cli::FloorArgs;
use crate::measure::{Latency, Track, Window};
use crate::report::{Table, micros};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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
    let mut flushes = Flushes::new(&arguments.data, arguments.bytes)?;
    flushes.measure(arguments.seconds)?;
    let floor = Floor { machine: Machine::here(), bytes: arguments.bytes, latency: flushes.summary() };
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

/// Writes and flushes of one file, measured in several turns. Dropping it removes the file.
pub struct Flushes {
    path: PathBuf,
    file: File,
    block: Vec<u8>,
    next: usize,
    track: Track,
}

impl Flushes {
    /// A file in `folder`, to be written in steps of `bytes`.
    pub fn new(folder: &Path, bytes: usize) -> io::Result<Flushes> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("floor-{}", std::process::id()));
        let file = File::options().create_new(true).write(true).open(&path)?;
        let (block, track) = (crate::workload::value(bytes), Track::new(Duration::from_secs(1)));
        let flushes = Flushes { path, file, block, next: 0, track };
        for index in 0..flushes.blocks() {
            flushes.write(index)?;
        }
        flushes.file.sync_all()?;
        Ok(flushes)
    }

    fn blocks(&self) -> usize {
        FILE_BYTES / self.block.len()
    }

    fn write(&self, index: usize) -> io::Result<()> {
        self.file.write_all_at(&self.block, (index % self.blocks() * self.block.len()) as u64)
    }

    /// Writes and flushes for some time.
    pub fn measure(&mut self, seconds: f64) -> io::Result<()> {
        let start = Instant::now();
        let window = Window { start, end: start + Duration::from_secs_f64(seconds) };
        loop {
            let began = Instant::now();
            if began >= window.end {
                return Ok(());
            }
            self.write(self.next)?;
            self.file.sync_data()?;
            self.next += 1;
            self.track.record(&window, began, Instant::now());
        }
    }

    /// What all turns together took.
    pub fn summary(&self) -> Latency {
        self.track.summary()
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
