//! Users, roles and tokens: the real binary under clients that may, may not, and may no more.
//!
//! Passwords are hashed at the lowest cost there is, so that a busy machine has time for the rest.

mod advisories;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../cluster/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod hardening;
mod hostile;
mod jwt;
mod leases;
mod members;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../cluster/net.rs"]
mod net;
mod passwords;
mod realm;
mod rules;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../member/server.rs"]
mod server;
mod tokens;
mod watches;
