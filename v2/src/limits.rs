//! Every bound of the v2 store.

/// Events that can be waited from, if nothing else is configured.
pub const HISTORY_EVENTS: usize = 100_000;

/// Bytes of those events, keys and values included.
pub const HISTORY_BYTES: usize = 64 << 20;

/// Nodes that one sync may end at most; the leader sends another one if more are due. Each may be a directory with a
/// subtree.
pub const EXPIRED_PER_SYNC: usize = 256;

/// Listings that take several steps, at a time.
pub const LISTINGS_MAX: usize = 64;

/// Nodes below a listed directory that may change while it is read.
pub const LISTING_CHANGES_MAX: usize = 100_000;

/// Length of a path. A directory's whole path is kept with each node below it.
pub const PATH_BYTES_MAX: usize = 4 << 10;

/// Names in a path. What is nested is written by functions that call themselves.
pub const PATH_NAMES_MAX: usize = 128;

/// Events that a stream's watcher has been told of and not taken. One that has more reads on in the history.
pub const WATCHER_EVENTS_MAX: usize = 1024;

/// Watchers of a member.
pub const WATCHERS_MAX: usize = 100_000;

const _: () = {
    assert!(WATCHER_EVENTS_MAX < HISTORY_EVENTS, "who falls behind finds what it misses in the history");
    assert!(PATH_NAMES_MAX * 2 <= PATH_BYTES_MAX);
};
