//! Numbers of the contract that clients rely on.

/// Longest time to live of a lease, in seconds. A longer one is refused.
pub const TTL_MAX_SECONDS: i64 = 9_000_000_000;
