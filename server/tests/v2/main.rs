//! etcd's v2 API by the real program: requests and answers, restarts, three members, and the same requests to a real etcd
//! 3.5.
//!
//! | variable | meaning |
//! |---|---|
//! | `PLINTH_ETCD_BIN` | an etcd 3.5 that still has the v2 API: random requests go to both, and must be answered alike |
//! | `PLINTH_GATEWAY_ETCD` | another etcd, whose `etcdutl` restores what is saved here |
//! | `PLINTH_DIFF_SEED` | the seed of the requests; 1 |
//! | `PLINTH_DIFF_OPS` | how many of them; 1000 |
//! | `PLINTH_DIFF_REQUIRED` | fail where there is no such etcd |

mod backup;
mod cases;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod differential;
mod http;
mod side;
mod takeover;
mod tool;
mod users;
