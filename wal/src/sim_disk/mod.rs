//! A simulated disk: seeded, single-threaded, and as hostile as a real one may be.
//!
//! [`SimMedium`] is what survives a crash, [`SimDisk`] the running system on it: its queues vanish with it. Effects
//! happen one at a time, when [`Disk::poll`](crate::Disk::poll) is called (in order, or shuffled by a seed), or when
//! the simulation says so ([`Schedule::Manual`]).
//!
//! [`NullDisk`] does nothing at all, for measuring the log's own cost.
//!
//! Invariants: the same seed and calls give the same run; effects of one write (write, then sync) and of the helper's
//! jobs stay in order, everything else interleaves. Deliberately absent: real files, clocks, threads.

mod disk;
mod fuzz;
mod medium;
mod null;

pub use disk::{Schedule, SimDisk};
pub use fuzz::{FuzzSummary, fuzz};
pub use medium::{Loss, SimMedium};
pub use null::NullDisk;
pub use plinth_random::Random as Rng;
