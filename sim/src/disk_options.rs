//! What a seed decides about a run before it begins.

use plinth_wal::sim_disk::Rng;

/// The faults a run may meet, and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Lives of the process.
    pub lives: u64,
    /// Steps of each life, at most.
    pub steps: u64,
    pub keys: u64,
    /// Longest value, in bytes.
    pub value_bytes: u64,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Whether syncs of the log may fail.
    pub failing_syncs: bool,
    /// Whether the log's disk may be full for a while.
    pub full_log_disk: bool,
    /// Whether the data file's disk may be full for a while.
    pub full_data_disk: bool,
    /// Whether bits flip while the process is down.
    pub rot: bool,
    /// Whether history is compacted.
    pub compaction: bool,
}

impl Options {
    /// Drawn so that most runs meet few kinds of fault, and every combination occurs.
    pub fn draw(random: &mut Rng) -> Options {
        let value_bytes = [16, 200, 5000, 40_000][random.below(4) as usize];
        // Small enough that segments are cut often, large enough for a whole batch.
        let segment_bytes = if value_bytes <= 200 { 512 << 10 } else { 2 << 20 };
        Options {
            lives: 2 + random.below(6),
            steps: 50 + random.below(600),
            keys: 1 + random.below(40),
            value_bytes,
            segment_bytes,
            failing_syncs: random.chance(25),
            full_log_disk: random.chance(15),
            full_data_disk: random.chance(15),
            rot: random.chance(20),
            compaction: random.chance(50),
        }
    }
}
