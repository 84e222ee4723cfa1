//! The experiments: each starts the servers it measures, and prints a table and leaves a JSON file.

mod budget;
mod catch_up;
mod compare;
mod disturb;
mod failover;
mod floor;
mod growth;
mod handshakes;
mod idle;
mod low;
mod restart;
mod storm;

pub use budget::budget;
pub use catch_up::catch_up;
pub use compare::{compare, run, single};
pub use disturb::disturb;
pub use failover::failover;
pub use floor::floor;
pub use growth::growth;
pub use handshakes::handshakes;
pub use idle::idle;
pub use low::low;
pub use restart::restart;
pub use storm::storm;

use serde::Serialize;
use std::fs;
use std::path::Path;

pub use crate::failure::Failure;

/// Writes a result as JSON and says where.
fn write_json(path: &Path, result: &impl Serialize) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_vec_pretty(result)?)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

/// What the figures were made on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_gb: f64,
}

impl Machine {
    fn here() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let found = text.lines().find(|line| line.starts_with(name));
            found.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let kib = line(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = kib.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        Machine {
            cpu: line(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_gb: kib * 1024.0 / 1e9,
        }
    }
}
