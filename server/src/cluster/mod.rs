//! The other members: how a member finds its cluster, talks to it, and is changed by it.
//!
//! - [`bootstrap`]: what a member without data does first: found a cluster with others, or join one
//! - [`fetch`]: asks a running cluster for its members before there is any connection
//! - [`records`]: the list of members as the peer port shows it

pub mod bootstrap;
pub mod fetch;
pub mod records;
