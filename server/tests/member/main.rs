//! The real binary under a client: the API, start, stop, restart, refusals, and kill -9 under load.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PLINTH_KILL_ROUNDS` | rounds of the kill loop | 3 |
//! | `PLINTH_KILL_SEED` | seed of its pauses | from the clock, printed |
//! | `PLINTH_STARTS` | starts on a busy machine | 16 |

mod api;
mod backups;
#[path = "../common/mod.rs"]
mod common;
mod crash;
mod downgrade;
mod leases;
mod lifecycle;
mod metrics;
mod server;
mod slow;
mod starts;
mod stop;
mod unix;
