//! A cluster on hostile disks and a hostile network.
//!
//! Each member is the real [`plinth_member::Member`] over a simulated disk and page file; around it this does what the
//! server does: it begins rounds, flushes the data file, serves and fetches snapshots. What happens in a round, to leases,
//! to watchers that lag and in comparisons is the code that ships (`plinth_member`).
//!
//! Tour: [`options`] (what a seed decides), [`world`] (the queue of events), [`faults`], [`network`], [`node`] (a machine
//! and its process), [`drive`] (what the server does around a member), [`checks`] (comparisons and handovers), [`snapshots`]; the load: [`clients`], [`holders`] (of
//! leases), [`watchers`]; what must hold: [`truth`] (the changes of every revision), `linear` (histories), and
//! [`calm`]. [`bugs`] are planted to see that they are found.
//!
//! Deliberately absent: bit rot (see `disk_world`).

pub mod bugs;
pub mod calm;
pub mod checks;
pub mod clients;
pub mod drive;
pub mod faults;
pub mod holders;
pub mod network;
pub mod node;
pub mod options;
pub mod protobuf;
mod rights;
pub mod snapshots;
pub mod truth;
mod v2;
pub mod watchers;
pub mod world;

pub use bugs::Bug;
pub use world::{Outcome, run, run_with, tell};
