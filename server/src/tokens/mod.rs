//! Tokens: what a client that has proved who it is shows with each call.
//!
//! Two kinds, by `--auth-token`: `simple` ones are random and known to each member that has applied the command in which
//! they were given out; signed ones ([`jwt`]) say themselves whose they are.
//!
//! Not here: passwords (`passwords`), and what a user may do (`plinth_engine::auth`). No token is ever logged.

pub mod jwt;
pub mod simple;

use jwt::{Issuer, Jwt, JwtOptions};
use simple::SimpleTokens;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time of the wall clock, which signed tokens go by.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

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
    /// `--auth-token=jwt,...`
    Signed(Box<Jwt>),
}

impl Tokens {
    /// Those that `--auth-token` asks for; simple ones live for so long after their last use. Blocks; for the start of the
    /// process.
    ///
    /// # Errors
    /// If there are none of that kind, or its keys cannot be used.
    pub fn open(kind: &str, ttl_millis: u64) -> Result<Tokens, String> {
        match kind.split_once(',').unwrap_or((kind, "")) {
            ("simple", _) => Ok(Tokens::Simple(SimpleTokens::new(ttl_millis))),
            ("jwt", options) => Ok(Tokens::Signed(Box::new(Jwt::open(&JwtOptions::parse(options)?)?))),
            _ => Err("auth: invalid auth options".to_owned()),
        }
    }

    /// Whose a token is. `now` is in milliseconds and never goes back, `applied` the last entry applied here.
    pub fn find(&mut self, token: &[u8], now: u64, applied: u64) -> Found {
        match self {
            Tokens::Simple(tokens) => tokens.find(token, now, applied),
            Tokens::Signed(tokens) => match tokens.find(token, unix_seconds()) {
                Some((user, revision)) => Found::User(user, Some(revision)),
                None => Found::Unknown,
            },
        }
    }

    /// What gives tokens out, if they are signed.
    pub fn issuer(&self) -> Option<Issuer> {
        match self {
            Tokens::Simple(_) => None,
            Tokens::Signed(tokens) => Some(tokens.issuer().clone()),
        }
    }

    /// The simple ones.
    pub fn simple(&mut self) -> Option<&mut SimpleTokens> {
        match self {
            Tokens::Simple(tokens) => Some(tokens),
            Tokens::Signed(_) => None,
        }
    }
}
