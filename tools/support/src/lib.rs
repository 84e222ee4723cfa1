//! What the companions of etcd's world have in common: programs that keep a part of a store in memory and make something
//! of it.
//!
//! - [`settings`]: flags as Go's programs take them, over the environment, a file and defaults
//! - [`log`]: lines on standard error, in one shape; [`etcd_log`]: the same, in the shape of etcd's
//! - [`follow`]: a range of an etcd v3 in memory: read once, then watched, read again only if history was compacted
//! - [`listen`]: a small HTTP server, with TLS and bounds; [`figures`]: counters and gauges as Prometheus reads them
//! - [`systemd`] hears whether they are ready, and go on
//!
//! Values of the store never reach the log here.

#![forbid(unsafe_code)]

pub mod etcd_log;
pub mod figures;
pub mod follow;
pub mod listen;
pub mod log;
pub mod settings;
pub mod systemd;
