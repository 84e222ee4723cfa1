//! The other members: how a member finds its cluster, talks to it, and is changed by it.
//!
//! - [`bootstrap`]: what a member without data does first: found a cluster with others, or join one
//! - [`fetch`]: asks a running cluster for its members before there is any connection
//! - [`member_list`]: the list of members as the peer port shows it
//! - [`Link`]: the connections to all other members; [`inbox`]: what comes in through them
//! - [`forward`]: what only the leader can answer
//! - [`snapshots`]: how a member that lags behind gets the leader's data
//! - [`membership`]: promotion, and the strict checks of a change
//! - [`handover`]: giving leadership to another member
//! - [`overview`]: how each member is, for those who look at all of them
//! - [`corruption`]: whether all members hold the same

pub mod bootstrap;
pub mod corruption;
pub mod fetch;
pub mod forward;
pub mod handover;
pub mod inbox;
mod link;
pub mod member_list;
pub mod membership;
pub mod overview;
pub mod snapshots;

pub use link::{Counts, Link};
