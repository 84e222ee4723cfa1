//! What a group agrees on: indexes that enough voters have reached, elections that enough of them decided.
//!
//! `majority.rs` knows one set of voters, `joint.rs` the two sets of a joint configuration.

mod joint;
mod majority;

pub(crate) use joint::{agrees, reached, tally};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Too few have answered.
    Open,
    /// Enough are for it.
    Won,
    /// So many are against it that enough cannot be for it any more.
    Lost,
}
