//! Every bound of a member, and how it was chosen.

use plinth_engine::budget::Budget;

/// A batch closes at this many bytes of commands even if the log could not take it yet: one entry stays well
/// under the write-ahead log's segment and under a replication message.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// A batch closes at this many commands, so that one entry is applied in a few milliseconds at most.
pub const BATCH_COMMANDS_MAX: usize = 4096;

/// Commands submitted and not yet applied. Beyond it a submission is refused with "too many requests". etcd
/// bounds the distance of commit and apply to 5000 entries of one command each; ours counts commands that wait
/// anywhere on the path, so it is larger.
pub const COMMANDS_PENDING_MAX: usize = 64 * 1024;

/// Bytes of commands submitted and not yet applied; same behaviour at the bound.
pub const BYTES_PENDING_MAX: usize = 256 << 20;

/// Linearizable reads waiting for a read-index round; beyond it a read is refused.
pub const READS_PENDING_MAX: usize = 64 * 1024;

/// What is applied per pump before the reactor gets its turn back: some 150 puts at 2–3 µs each, as many deleted
/// keys, or a few thousand that are looked at; under 500 µs. Large commands are applied in several such steps.
pub const APPLY_PER_PUMP: Budget = Budget { pairs: 300, bytes: 512 << 10, visits: 4000 };

/// A leader whose disk is full tries to give leadership away, and if that was in vain, or it got it back, not again before.
pub const HANDOVER_PAUSE_MILLIS: u64 = 10_000;

const _: () = {
    assert!(BATCH_COMMANDS_MAX <= COMMANDS_PENDING_MAX);
    assert!(BATCH_BYTES_MAX <= BYTES_PENDING_MAX);
};
