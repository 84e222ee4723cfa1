//! What clients, server and tools agree on: etcd v3.7's contract, in one place.
//!
//! | file | what |
//! | --- | --- |
//! | [`proto`] | messages, generated from `proto/*.proto` |
//! | [`methods`] | every method: path, kind, types |
//! | `json` | messages as JSON, as the gateway reads and writes them (feature `json`) |
//! | [`metadata`] | names of what is sent beside a request |
//! | [`wire`] | protobuf by hand, for the hot answers and for readers that want a field or two |
//! | [`range`] | how ranges of keys are written |
//! | [`go`] | numbers, booleans and durations as Go writes them |
//! | [`logged`] | requests as etcd's log shows them |
//! | [`limits`] | numbers that clients rely on |
//!
//! Nothing here does I/O or keeps state. No crate below the ones that speak to clients needs the types: the engine and
//! the simulator leave the feature `types` out, and with it prost.

#![forbid(unsafe_code)]

pub mod go;
#[cfg(feature = "json")]
pub mod json;
pub mod limits;
#[cfg(feature = "types")]
pub mod logged;
pub mod metadata;
#[cfg(feature = "types")]
pub mod methods;
#[cfg(feature = "types")]
pub mod proto;
pub mod range;
pub mod wire;
