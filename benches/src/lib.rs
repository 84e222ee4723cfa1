//! Criterion micro-benchmarks of the hot paths, a function per stage: `benches/edge.rs` (HTTP/2, gRPC, messages),
//! `benches/group.rs` (batch, consensus, log, apply together), `benches/stages.rs` (log, page file, store and watchers
//! each alone). What needs a real disk, or minutes, is an example: `append_cost` and `flush_latency` (the log),
//! `pagefile_measure`, `store_measure`, `consensus_cost`; each says how it is run. Nothing else is here.

#![forbid(unsafe_code)]
