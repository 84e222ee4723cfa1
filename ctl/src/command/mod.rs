//! Commands of etcdctl, one file each: arguments, what they do, and how the answer looks.

pub mod compaction;
pub mod del;
pub mod get;
pub mod put;
