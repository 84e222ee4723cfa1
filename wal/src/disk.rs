//! The seam between the log and the world.
//!
//! [`Segments`] is what reading and repairing need: synchronous, rare, also usable without io_uring. [`Disk`] adds the
//! steady state: nothing in it may block, effects go out as values and come back through [`Disk::poll`].
//! Real: `UringDisk` of `plinth-wal-uring`. Simulated, failing and hostile: `SimDisk` of [`crate::sim_disk`].
//!
//! Invariants an implementation keeps:
//! - A segment is listed only once its header and its whole length are durable, and its name as well.
//! - Where there is no segment there is no retired file either: a new log may bear the identity of an older one.
//! - Retired segments vanish in the order they were retired, also across a crash.
//! - Flushes may complete in any order; each covers at least its own bytes.
//! - A buffer handed to [`Disk::write`] belongs to the kernel until it comes back.

use crate::error::DiskFault;
use crate::format::SegmentHeader;
use crate::sys::AlignedBuf;
use crate::types::SegmentSeq;

/// Reading and repairing segments.
pub trait Segments {
    /// All segments, in rising order, after making the folder's names durable: after a kill a rename may be visible
    /// that a power failure would still undo, with a file in use under a name it is about to lose.
    fn list(&mut self) -> Result<Vec<SegmentSeq>, DiskFault>;
    /// Size of a segment's file.
    fn size(&mut self, seq: SegmentSeq) -> Result<u64, DiskFault>;
    /// Makes durable what the operating system still holds of a segment, then forgets its cached copy, so that reads
    /// tell what the medium holds: after a kill the cache is ahead of it, after a failed sync it may never follow.
    fn sync_and_uncache(&mut self, seq: SegmentSeq) -> Result<(), DiskFault>;
    /// Fills `out` from `offset`. The range lies within the file.
    fn read(&mut self, seq: SegmentSeq, offset: u64, out: &mut [u8]) -> Result<(), DiskFault>;
    /// Overwrites with zeros; durable on return. Up to the end of a block; what is before `from` in its block stays.
    fn zero(&mut self, seq: SegmentSeq, from: u64, to: u64) -> Result<(), DiskFault>;
}

/// One write followed by a sync.
#[derive(Debug)]
pub struct Write {
    /// Given back in the completion.
    pub ticket: u64,
    /// The segment; it was prepared or listed before.
    pub segment: SegmentSeq,
    /// Multiple of the block size.
    pub offset: u64,
    /// Whole blocks from the start of `buffer`.
    pub bytes: usize,
    /// The memory. Comes back in the completion.
    pub buffer: AlignedBuf,
}

/// Something that was asked for has happened.
#[derive(Debug)]
pub enum Completion {
    /// A write and its sync. The buffer is the caller's again.
    Flushed {
        /// As in [`Write`].
        ticket: u64,
        /// As in [`Write`].
        buffer: AlignedBuf,
        /// Durable, or fatally failed.
        result: Result<(), DiskFault>,
    },
    /// A segment is ready for use, or could not be made ready. Out of space is not fatal.
    Prepared {
        segment: SegmentSeq,
        /// Whether it exists now.
        result: Result<(), DiskFault>,
    },
    /// Something in the background failed for good.
    Failed(DiskFault),
}

/// The steady state of a log.
pub trait Disk: Segments {
    /// Creates a segment and waits for it: only while opening.
    fn prepare_now(&mut self, header: SegmentHeader) -> Result<(), DiskFault>;
    /// Begins to make a segment ready: recycles a retired one or writes zeros, then header, syncs, name. The disk
    /// decides the header's `recycled` flag.
    fn prepare(&mut self, header: SegmentHeader);
    /// Records wait for the segment being prepared: make it now, at the expense of whatever else is going on.
    fn hurry(&mut self) {}
    /// The segment is needed no more; its file may be recycled or deleted.
    fn retire(&mut self, seq: SegmentSeq);
    /// A buffer with at least this capacity, block-aligned. Its content is arbitrary.
    fn take_buffer(&mut self, bytes_min: usize) -> AlignedBuf;
    /// Takes a buffer back for reuse.
    fn give_buffer(&mut self, buffer: AlignedBuf);
    /// Queues a write with its sync. Takes effect with [`Disk::submit`].
    fn write(&mut self, write: Write);
    /// Sends what was queued on its way, without waiting for it.
    fn submit(&mut self) -> Result<(), DiskFault>;
    /// The next completion, if there is one.
    fn poll(&mut self) -> Option<Completion>;
}

/// What a repair needs beyond reading. Everything is durable on return.
pub trait RepairStore: Segments {
    /// Takes a segment out of the log, keeping its file under the name returned.
    fn set_aside(&mut self, seq: SegmentSeq) -> Result<String, DiskFault>;
    /// Copies a segment's file before it is changed; returns the copy's name.
    fn copy_aside(&mut self, seq: SegmentSeq) -> Result<String, DiskFault>;
    /// Creates an empty segment.
    fn make(&mut self, header: SegmentHeader) -> Result<(), DiskFault>;
}
