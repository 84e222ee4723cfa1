//! Clusters in which each life of a member is of the one implementation or of the other, in any weather: what one of them
//! commits the other commits, and both keep Raft's promises together. It is also what a rolling upgrade looks like, forth
//! and back, with the frames and records of the wire and the disk between them.
//!
//! The schedules are those of `raft/tests/chaos.rs`, with its variables (`PLINTH_SEEDS=1000`).

mod either;

use either::Group;

#[path = "../../tests/chaos.rs"]
mod chaos;
