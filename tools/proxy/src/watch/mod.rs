//! Watches of many clients over few of the proxy's own: which share one ([`groups`], pure), and the streams on both sides
//! ([`hub`], [`outbox`]).

pub mod groups;
pub mod hub;
pub mod outbox;
