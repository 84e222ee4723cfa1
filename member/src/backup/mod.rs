//! A store in the form of an etcd database: what a snapshot for the outside holds, and the way back ([`import()`]).
//!
//! [`Export`] goes over a pinned state twice, in steps that the caller paces: once to plan the file, so that its size is
//! known, and once to write it. Nothing but the small buckets is kept in memory.
//!
//! Tree `Rev` is bucket `key` and tree `Lease` is bucket `lease`, byte for byte, so that `HashKV` is the same number on
//! both sides. The other buckets are small and are translated at the beginning. The v2 store has buckets of its own behind
//! them, which etcd leaves alone.

mod export;
mod import;
mod small;
mod standing;

pub use export::{Content, Export, ExportError, Progress};
pub use import::{Bump, ImportError, Imported, import, import_v2};
pub use small::etcd_member;
pub use standing::Standing;
