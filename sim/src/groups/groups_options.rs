//! What a seed decides about a run before it begins.

use plinth_wal::sim_disk::Rng;

/// Simulated time, in microseconds since the run began.
pub(super) type Time = u64;
pub(super) const MS: Time = 1000;
pub(super) const SECOND: Time = 1000 * MS;

pub(super) const MACHINES: usize = 5;
pub(super) const GROUPS: u32 = 10;
/// Members of a group.
pub(super) const MEMBERS: usize = 3;
pub(super) const TICK: Time = 100 * MS;
pub(super) const ELECTION_TICKS: usize = 10;

/// What may befall the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A process is killed, or the power fails.
    Crash,
    /// The same, at some effect of its disk from now.
    CrashAtStep,
    /// All at once.
    Blackout,
    /// Some cannot reach the others, nor be reached.
    Partition,
    /// One is not heard, or hears nothing.
    OneWay,
    /// A process stands still for a while.
    Pause,
    /// A disk is slow for a while, up to a thousand times.
    SlowDisk,
    /// Somebody hands leadership of a group over.
    Transfer,
    /// A group's member is replaced by one on another machine.
    Move,
}

/// Each kind with the share of runs that meet it, in percent.
const FAULTS: [(Fault, u64); 9] = [
    (Fault::Crash, 60),
    (Fault::CrashAtStep, 50),
    (Fault::Blackout, 20),
    (Fault::Partition, 45),
    (Fault::OneWay, 30),
    (Fault::Pause, 30),
    (Fault::SlowDisk, 40),
    (Fault::Transfer, 30),
    (Fault::Move, 40),
];

/// The faults a run may meet, and its size.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) storms: usize,
    pub(super) storm: Time,
    /// Time between two faults, on average.
    pub(super) calm: Time,
    pub(super) clients: usize,
    /// Time between two operations of a client, on average.
    pub(super) think: Time,
    pub(super) faults: Vec<Fault>,
    /// Percent of parcels lost, and delivered twice.
    pub(super) loss: u64,
    pub(super) duplicates: u64,
    /// Usual time of a parcel on its way, and of an effect of a disk, at most.
    pub(super) delay: Time,
    pub(super) disk: Time,
    /// Applied entries that a group keeps in memory.
    pub(super) window: usize,
    /// Bytes of a segment of the log.
    pub(super) segment_bytes: u64,
    /// Time between two checkpoints of a machine, on average.
    pub(super) checkpoint: Time,
    /// Groups that clients speak to; the others sleep as much as they may.
    pub(super) busy: u64,
}

impl Options {
    /// Drawn so that most runs meet few kinds of fault, and every combination occurs.
    pub(super) fn draw(random: &mut Rng) -> Options {
        let drawn = |random: &mut Rng, from: &[u64]| from[random.below(from.len() as u64) as usize];
        Options {
            storms: 1 + random.below(3) as usize,
            storm: 3 * SECOND + random.below(8 * SECOND),
            calm: drawn(random, &[150 * MS, 500 * MS, 2 * SECOND]),
            clients: 3 + random.below(6) as usize,
            think: drawn(random, &[2 * MS, 20 * MS, 200 * MS]),
            faults: FAULTS.into_iter().filter(|(_, share)| random.chance(*share)).map(|(fault, _)| fault).collect(),
            loss: drawn(random, &[0, 0, 2, 10]),
            duplicates: drawn(random, &[0, 2]),
            delay: drawn(random, &[MS, 5 * MS, 50 * MS]),
            disk: drawn(random, &[50, MS, 10 * MS]),
            window: drawn(random, &[10, 100, 10_000]) as usize,
            segment_bytes: drawn(random, &[32 << 10, 64 << 10, 1 << 20]),
            checkpoint: drawn(random, &[200 * MS, SECOND, 20 * SECOND]),
            busy: drawn(random, &[1, 3, u64::from(GROUPS)]),
        }
    }
}
