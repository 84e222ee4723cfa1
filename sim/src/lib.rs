//! The simulator: the real cores of a member over a simulated disk and clock, in one thread, driven by a seed.
//!
//! [`run`] (`disk_world`, from `disk_options`) draws a world from a seed and lives through it: clients write and read, the disk completes its work in any
//! order, the process is killed and the power fails at any step, syncs fail, space runs out, bits rot. After every
//! start the [`model`] says whether what is there may be there. The same seed gives the same run, to the last step.
//! [`cluster`] does that with several members, a network between them, clocks that differ, and changes of the members;
//! [`groups`] does it with many groups on each machine, which share its log. [`linear`] judges what the clients saw.
//!
//! Both of these take their events from one `agenda`. [`data_file`] opens a member's data as the server does, [`flush`] cuts writing it into single steps.
//!
//! Deliberately absent: sockets and protobuf (the real binary is tested with real clients in `server/tests`).

#![forbid(unsafe_code)]

mod agenda;
pub mod cluster;
pub mod data_file;
pub mod disk_options;
pub mod disk_world;
pub mod flush;
pub mod groups;
pub mod linear;
pub mod model;

pub use disk_world::{Outcome, run};
