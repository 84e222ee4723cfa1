//! Tokens: what a client that has proved who it is shows with each call.
//!
//! Two kinds, by `--auth-token`: `simple` ones are random and known to each member that has applied the command in which
//! they were given out; signed ones ([`jwt`]) say themselves whose they are.
//!
//! Not here: passwords (`passwords`), and what a user may do (`plinth_engine::auth`). No token is ever logged.

pub mod simple;

use simple::SimpleTokens;
use std::sync::Arc;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Whose it is, and the revision of users and roles it was given out at, if it says so.
    User(Arc<str>, Option<u64>),
    /// It may become known when this entry is applied here.
    After(u64),
    /// Nobody's.
    Unknown,
}

/// The tokens of a store's users, as this member knows them.
#[derive(Debug)]
pub enum Tokens {
    /// `--auth-token=simple`
    Simple(SimpleTokens),
}

impl Tokens {
    /// Whose a token is. `now` is in milliseconds and never goes back, `applied` the last entry applied here.
    pub fn find(&mut self, token: &[u8], now: u64, applied: u64) -> Found {
        match self {
            Tokens::Simple(tokens) => tokens.find(token, now, applied),
        }
    }
}
