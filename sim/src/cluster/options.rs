//! What a seed decides about a cluster's run before it begins.

use plinth_wal::sim_disk::Rng;

/// Simulated time, in microseconds since the run began.
pub type Time = u64;

/// A millisecond.
pub const MS: Time = 1000;
/// A second.
pub const SECOND: Time = 1000 * MS;

/// What may befall a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A member's process is killed, or its power fails.
    Crash,
    /// A member goes down at some effect of its log's disk from now.
    CrashAtStep,
    /// All members go down at once.
    Blackout,
    /// A sync of a member's log fails.
    FailingSync,
    /// Some members cannot reach the others, nor be reached.
    Partition,
    /// The leader alone cannot reach the others, nor be reached.
    Isolation,
    /// A member's messages do not arrive, or none arrive at it.
    OneWay,
    /// Two halves see each other only through one member.
    Bridge,
    /// A member's process stands still for a while.
    Pause,
    /// A member's disk is slow for a while.
    SlowDisk,
    /// The disks of a member are full for a while.
    FullDisk,
    /// Somebody asks the leader to hand over.
    Transfer,
    /// Somebody adds, promotes, removes or replaces a member.
    Change,
}

/// Each kind with the share of runs that meet it, in percent.
const FAULTS: [(Fault, u64); 13] = [
    (Fault::Crash, 50),
    (Fault::CrashAtStep, 40),
    (Fault::Blackout, 20),
    (Fault::FailingSync, 15),
    (Fault::Partition, 40),
    (Fault::Isolation, 40),
    (Fault::OneWay, 25),
    (Fault::Bridge, 25),
    (Fault::Pause, 30),
    (Fault::SlowDisk, 25),
    (Fault::Transfer, 30),
    (Fault::Change, 40),
    (Fault::FullDisk, 25),
];

/// The faults a run may meet, and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Voters at the beginning.
    pub members: usize,
    pub clients: usize,
    /// Clients that hold leases.
    pub holders: usize,
    /// The longest time to live of a lease, in seconds.
    pub ttl: u64,
    /// The longest time for which a lease is kept alive.
    pub hold: Time,
    /// Leases that are granted together at the end of the last storm and left alone.
    pub crowd: u64,
    /// Whether the leader's disk is full in the end, for a while.
    pub full_leader: bool,
    /// Whether a disk of the leader does not answer in the end, for a while.
    pub stalled_leader: bool,
    pub watchers: usize,
    pub keys: u64,
    /// Longest value, in bytes.
    pub value_bytes: u64,
    /// Storms, each followed by a calm.
    pub storms: usize,
    /// How long a storm lasts.
    pub storm: Time,
    /// Time between two operations of a client, on average.
    pub think: Time,
    /// Time between two faults, on average.
    pub calm: Time,
    /// Longest time that a process stands still.
    pub pause: Time,
    /// Kinds of fault that occur.
    pub faults: Vec<Fault>,
    /// Percent of messages lost, and doubled.
    pub loss: u64,
    /// Percent of messages that arrive twice.
    pub duplicates: u64,
    /// Whether messages between two members overtake each other.
    pub reorder: bool,
    /// Usual time of a message on its way, at most.
    pub delay: Time,
    /// Usual time of an effect of a disk, at most.
    pub disk: Time,
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Applied entries that a member keeps in memory for others.
    pub window: usize,
    /// How often the remaining time of leases is replicated, in seconds, if at all.
    pub checkpoints: Option<i64>,
    /// Percent by which clocks run wrong, at most.
    pub drift: u64,
    /// Whether history is compacted.
    pub compaction: bool,
    /// Whether messages go through their encoding.
    pub frames: bool,
    /// Whether there are users whose rights come and go.
    pub users: bool,
    /// Whether somebody uses the v2 store.
    pub v2: bool,
    /// Whether members go down while they put a snapshot in place.
    pub crashes_at_install: bool,
}

impl Options {
    /// Drawn so that most runs meet few kinds of fault, and every combination occurs.
    pub fn draw(random: &mut Rng) -> Options {
        let mut pick = |of: &[u64]| of[random.below(of.len() as u64) as usize];
        let mut options = Options {
            members: pick(&[3, 3, 5]) as usize,
            clients: pick(&[2, 3, 5]) as usize,
            holders: pick(&[0, 1, 2]) as usize,
            ttl: pick(&[2, 4, 7]),
            hold: pick(&[3, 8]) * SECOND,
            crowd: pick(&[0, 0, 0, 40, 400]),
            full_leader: pick(&[0, 0, 0, 1]) == 1,
            stalled_leader: false,
            watchers: pick(&[1, 2]) as usize,
            keys: pick(&[1, 3, 8]),
            value_bytes: pick(&[16, 16, 200, 4000]),
            storms: pick(&[1, 1, 2]) as usize,
            storm: pick(&[4, 8, 12]) * SECOND,
            think: pick(&[10, 30, 60]) * MS,
            calm: pick(&[200, 500, 1500]) * MS,
            pause: pick(&[300, 2000, 6000]) * MS,
            faults: Vec::new(),
            loss: pick(&[0, 0, 1, 10]),
            duplicates: pick(&[0, 0, 5, 20]),
            reorder: pick(&[0, 1]) == 1,
            delay: pick(&[300, 2000, 20_000]),
            disk: pick(&[200, 1000, 5000]),
            segment_bytes: pick(&[64, 128]) << 10,
            window: pick(&[5, 30, 1000]) as usize,
            checkpoints: [None, Some(1)][pick(&[0, 1]) as usize],
            drift: pick(&[0, 1, 5]),
            compaction: pick(&[0, 1]) == 1,
            frames: pick(&[0, 0, 0, 1]) == 1,
            users: false,
            v2: false,
            crashes_at_install: pick(&[0, 0, 1]) == 1,
        };
        options.faults =
            FAULTS.iter().filter(|(_, percent)| random.chance(*percent)).map(|(fault, _)| *fault).collect();
        // Not drawn: seeds mean what they meant before there was this.
        options.stalled_leader = !options.full_leader && options.keys != 1;
        options
    }
}
