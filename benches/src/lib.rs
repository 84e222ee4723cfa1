//! Criterion micro-benchmarks of the hot paths, a function per stage: `benches/edge.rs` (HTTP/2, gRPC, messages),
//! `benches/group.rs` (batch, consensus, log, apply together), `benches/stages.rs` (log, page file, store and watchers
//! each alone). Nothing else is here.

#![forbid(unsafe_code)]
