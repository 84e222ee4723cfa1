//! The bound for what the file holds, and what requests count against it.
//!
//! Pages in use count, not the size of the file: free pages are used again, and given back after compactions. Those of the v2
//! store do not count.

use crate::store::Store;
use crate::trees::Trees;

/// The bound if none is given.
pub const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;

/// The bound for the bytes of pages in use.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    bytes: Option<u64>,
}

impl Quota {
    /// 0 means the default, negative means none.
    pub fn new(quota_bytes: i64) -> Self {
        let bytes = match quota_bytes {
            0 => Some(QUOTA_DEFAULT_BYTES),
            bytes => u64::try_from(bytes).ok(),
        };
        Self { bytes }
    }

    /// The bound, if there is one.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

impl<T: Trees> Store<T> {
    /// Whether a request of this cost fits. Asked before a command is replicated (a refusal there raises the NOSPACE
    /// alarm), and again when it is applied. Costs are those of `Put::cost` and `Txn::cost`; nothing costs nothing.
    pub fn has_room(&self, cost: u64) -> bool {
        cost == 0 || self.quota.bytes.is_none_or(|bytes| self.trees.counted_bytes() + cost < bytes)
    }

    /// The bound for what the file holds.
    pub fn quota(&self) -> Quota {
        self.quota
    }
}
