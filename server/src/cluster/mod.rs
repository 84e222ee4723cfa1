//! The other members: how a member finds its cluster, talks to it, and is changed by it.
//!
//! - [`bootstrap`]: what a member without data does first: found a cluster with others, or join one
//! - [`fetch`]: asks a running cluster for its members before there is any connection
//! - [`records`]: the list of members as the peer port shows it
//! - [`Link`]: the connections to all other members; [`inbox`]: what comes in through them
//! - [`forward`]: what only the leader can answer
//! - [`snapshot_source`], [`snapshot_fetch`]: how a member that lags behind gets the leader's data
//! - [`handover`]: giving leadership to another member
//! - [`corruption`]: whether all members hold the same

pub mod bootstrap;
pub mod corruption;
pub mod fetch;
pub mod forward;
pub mod handover;
pub mod inbox;
mod link;
pub mod records;
pub mod snapshot_fetch;
pub mod snapshot_source;

pub use link::{Counts, Link};
