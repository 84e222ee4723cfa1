//! Criterion micro-benchmarks of the hot paths, one function per stage: see `benches/stages.rs`. Nothing else is here.
