//! Clusters of real processes on loopback, under real clients: what is acknowledged stays, and what clients saw has one
//! order, whatever happens to the members meanwhile.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PLINTH_CLUSTER_SECONDS` | how long each kind of trouble lasts | 6 |
//! | `PLINTH_ROBUSTNESS_SECONDS` | how long faults of all kinds follow each other (`tools/robustness`) | 15 |
//! | `PLINTH_LARGE_KEYS` | keys that large requests look at or change | 20000 |
//! | `PLINTH_CLUSTER_SEED` | seed of what happens when | from the clock, printed |

mod alone;
mod broken;
mod catch_up;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod followers;
mod freezer;
mod history;
mod large;
mod membership;
mod net;
mod reads;
mod robustness;
mod stalls;
mod stop;
mod streams;
mod trouble;
