//! The command line tools through the real binary, against a real server: what they print, to the byte, and how they
//! end. Where etcd's own `etcdctl` is present, both do the same things to two equal servers and must say the same.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `PLINTH_ETCD_BIN` | an etcd with its etcdctl beside it | `target/etcds/3.5/usr/bin/etcd`, see `tools/install-etcd` |

#[path = "../common/mod.rs"]
mod common;
mod endpoints;
mod export;
mod golden;
mod holding;
mod offline;
mod same;
mod server;
mod snapshot;
mod tool;
mod wal;
mod watching;
