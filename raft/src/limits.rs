//! Every bound of this crate, with the reason for the number.
//!
//! A bound is either a constant (formats, tables) or a default of [`crate::GroupConfig`] (what an operator or a test may
//! want to change). Relations between bounds are asserted while compiling.

/// Bytes a batch may hold before [`crate::batch::BatchBuilder::is_full`] says so. One batch is one Raft entry, so this is
/// also how long one entry can keep the log device busy: 1 MiB is under 1 ms on any device worth using.
pub const BATCH_BYTES_SOFT: usize = 1 << 20;

/// Bytes of one command in a batch. etcd's own default for a request is 1.5 MiB; operators raise it to tens of MiB.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;

/// Commands in one batch. Far above what 1 MiB of real commands holds; it bounds what a hostile count can claim.
pub const BATCH_COMMANDS_MAX: usize = 1 << 20;

/// Bytes of one Raft entry: a full batch to which one command of the largest size was added.
pub const ENTRY_BYTES_MAX: usize = BATCH_BYTES_SOFT + COMMAND_BYTES_MAX + (1 << 10);

/// Bytes of entries in one append message (a single larger entry still travels alone). etcd's figure.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;

/// Append messages in flight to one follower. etcd's figure.
pub const IN_FLIGHT_MESSAGES_MAX: usize = 512;

/// Bytes of entries in flight to one follower: what a 10 Gbit/s link carries in about 25 ms.
pub const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;

/// Bytes of entries a leader accepts before they are committed. Beyond it proposals are refused, so a leader cut off from
/// its followers does not fill memory.
pub const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;

/// Bytes of committed entries one `Ready` hands out, so that a long catch-up is applied in steps.
pub const COMMITTED_BYTES_PER_READY: u64 = 8 << 20;

/// Applied entries kept in memory for followers that lag.
pub const WINDOW_ENTRIES: usize = 16 << 10;

/// Bytes of applied entries kept in memory for followers that lag.
pub const WINDOW_BYTES: usize = 64 << 20;

/// Bytes of applied entries kept in memory while there is no follower: a few batches, so that one that is added early
/// can begin with the log.
pub const WINDOW_ALONE_BYTES: usize = 4 << 20;

/// The window may grow by this factor for a follower that is there but behind, above all while a snapshot travels to it:
/// so that it can continue from it.
pub const WINDOW_SNAPSHOT_FACTOR: usize = 4;

/// Reads waiting for a read-index round; more are refused at once.
pub const PENDING_READS_MAX: usize = 64 << 10;

/// Voters and learners in one configuration, both halves of a joint one included.
pub const CONF_MEMBERS_MAX: usize = 64;

/// Bytes of the archived head of a peer message: a few words, and 24 bytes for each entry.
pub const PEER_HEAD_BYTES_MAX: usize = 1 << 20;

/// Entries in one peer message.
pub const PEER_ENTRIES_MAX: usize = 16 << 10;

/// Bytes of a whole peer frame.
pub const PEER_FRAME_BYTES_MAX: usize = PEER_HEAD_BYTES_MAX + APPEND_BYTES_MAX as usize + ENTRY_BYTES_MAX;

/// Messages in one parcel between machines, and groups that it says are asleep.
pub const PARCEL_MESSAGES_MAX: usize = 64 << 10;

/// Groups that one parcel says are asleep.
pub const PARCEL_ASLEEP_MAX: usize = 64 << 10;

/// Bytes of entries after which a parcel is full, so that signs of life do not wait behind more than this.
pub const PARCEL_BYTES_SOFT: usize = 4 << 20;

/// Bytes of a parcel before those of its entries.
pub const PARCEL_HEAD_BYTES_MAX: usize = 16 << 20;

/// Bytes of messages that wait for one machine. Beyond it they are dropped, as by a network: Raft sends again.
pub const OUTGOING_BYTES_MAX: usize = 64 << 20;

const _: () = {
    assert!(ENTRY_BYTES_MAX <= u32::MAX as usize); // lengths on disk and on the wire are 32 bits wide
    assert!(APPEND_BYTES_MAX as usize <= IN_FLIGHT_BYTES_MAX); // one message always fits the window
    assert!(APPEND_BYTES_MAX <= UNCOMMITTED_BYTES_MAX);
    assert!(PEER_ENTRIES_MAX * 32 < PEER_HEAD_BYTES_MAX);
    assert!(PEER_FRAME_BYTES_MAX <= u32::MAX as usize);
    assert!(PARCEL_BYTES_SOFT + ENTRY_BYTES_MAX + PARCEL_HEAD_BYTES_MAX <= u32::MAX as usize);
};
