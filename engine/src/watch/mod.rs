//! Watching keys: events of applied changes, and the watchers that want them.
//!
//! Tour: [`event`] is what the store produces, once per applied Raft entry, shared by all reactors.

pub mod event;

pub use event::{Event, EventBatch, EventBatchBuilder, EventKind, EventMode};
