//! What the log replicates for a request. The layout is part of the log's format: a changed one gets a kind of command of its
//! own.
//!
//! Paths are clean and begin with their namespace, see [`crate::path`]. Times are nanoseconds since 1970.

use bytes::Bytes;
use rkyv::{Archive, Serialize};

/// A request that changes the tree.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize)]
pub struct V2Command {
    /// The leader's time when this was asked for; 0 if nothing of it hangs on time.
    pub at: i64,
    /// The time of whoever proposed it. Only what is shown of times to live hangs on it.
    pub shown_at: i64,
    /// Whether the answer leaves the nodes out.
    pub brief: bool,
    /// What to do.
    pub change: Change,
}

/// What a write leaves behind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize)]
pub struct Content {
    pub value: Bytes,
    /// When it ends, by the time of [`V2Command::at`]; 0 for never.
    pub expires: i64,
    /// Keep the value, extend the time, and tell nobody.
    pub refresh: bool,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize)]
#[expect(missing_docs, reason = "the fields are the parameters of requests")]
pub enum Change {
    /// Makes a key or a directory, or replaces a key.
    Set { path: Bytes, dir: bool, content: Content },
    /// Makes what is not there; in a directory, under a name of its own.
    Create { path: Bytes, dir: bool, in_order: bool, content: Content },
    /// Changes what is there.
    Update { path: Bytes, content: Content },
    /// Changes a key that is as it was.
    CompareAndSwap { path: Bytes, prev_value: Bytes, prev_index: u64, content: Content },
    /// Removes.
    Delete { path: Bytes, dir: bool, recursive: bool },
    /// Removes a key that is as it was.
    CompareAndDelete { path: Bytes, prev_value: Bytes, prev_index: u64 },
    /// Ends what is to end by [`V2Command::at`].
    Sync,
}

impl Change {
    /// Bytes that a client has given for it.
    pub fn bytes(&self) -> usize {
        match self {
            Change::Set { path, content, .. }
            | Change::Create { path, content, .. }
            | Change::Update { path, content } => path.len() + content.value.len(),
            Change::CompareAndSwap { path, prev_value, content, .. } => {
                path.len() + prev_value.len() + content.value.len()
            }
            Change::CompareAndDelete { path, prev_value, .. } => path.len() + prev_value.len(),
            Change::Delete { path, .. } => path.len(),
            Change::Sync => 0,
        }
    }

    /// Whether there may be more in the tree behind it.
    pub fn adds(&self) -> bool {
        !matches!(self, Change::Delete { .. } | Change::CompareAndDelete { .. } | Change::Sync)
    }
}

impl V2Command {
    /// Ends what is to end by this time.
    pub fn sync(at: i64) -> V2Command {
        V2Command { at, shown_at: at, brief: false, change: Change::Sync }
    }
}
