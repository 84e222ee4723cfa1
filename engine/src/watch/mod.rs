//! Watching keys: events of applied changes, and the watchers that want them.
//!
//! Tour: `event` is what the store produces, once per applied Raft entry, shared by all reactors. `hub` holds the
//! streams and watchers of one reactor; `publish` matches events (against `index`, made of `prefix` and `interval`),
//! `catch_up` brings watchers to the present that start in the past or fell behind, `deliver` encodes what waits in
//! `queue` as messages of `response`.
//!
//! A shell drives it like this:
//!
//! ```text
//! on request       create / cancel / progress_request / reject     on close      close_stream
//! on applied batch publish, then while let Some(s) = pop_ready(): pull(s)
//! on writable(s)   postpone(s); pull(s) means: while the transport has room and next_message(s, ..) { send }
//! often            while let Some(request) = next_catch_up(): read history, catch_up(request.id, answer),
//!                  then while let Some(s) = pop_late(): pull(s)
//! on compaction    compacted(revision)                             on tick       tick(now), pull ready
//! ```
//!
//! The store is told the greatest `event_mode` of all hubs.

mod catch_up;
mod deliver;
pub mod event;
mod hub;
mod index;
mod interval;
mod prefix;
mod publish;
mod queue;
mod range;
mod response;

pub use catch_up::{CatchUp, History};
pub use event::{Event, EventBatch, EventBatchBuilder, EventKind, EventMode};
pub use hub::{Hub, HubConfig, HubStats, REASON_COMPACTED, REASON_DUPLICATE_ID, REASON_EMPTY_RANGE, WatchSpec};
pub use queue::StreamKey;
pub use response::{HeaderIds, INVALID_WATCH_ID};
