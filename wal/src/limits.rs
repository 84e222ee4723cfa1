//! Every bound and fixed size of the log, with the reason for its value.
//!
//! Invariants between them are asserted while compiling. Deliberately absent: anything a caller may choose at run
//! time lives in [`WalOptions`](crate::WalOptions), whose defaults and limits are these.

/// Unit of writing. A flush starts on a new block and never rewrites one, so a torn write cannot touch durable bytes.
///
/// 4 KiB is the page cache's unit (whole pages need no read before the write) and satisfies `O_DIRECT` everywhere.
pub const BLOCK_BYTES: usize = 4096;

/// Smallest unit a device writes all or nothing; tests tear writes at this size.
pub const SECTOR_BYTES: usize = 512;

/// Size of the encoded segment header. It stands alone in the segment's first block.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// Size of the encoded record header.
pub const RECORD_HEADER_BYTES: usize = 32;

/// Records start at multiples of this.
pub const RECORD_ALIGN: usize = 8;

/// Smallest reach of a segment: one block in flight, and the one that bounds it.
pub const REACH_MIN: u64 = 2 * BLOCK_BYTES as u64;

/// Default size of a segment file.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Smallest segment: header block, one block of records, the block kept back for the seal, and one to spare.
pub const SEGMENT_BYTES_MIN: u64 = 4 * BLOCK_BYTES as u64;

/// Largest segment. Keeps every offset inside a segment within 32 bits, as io_uring's lengths are.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Default capacity of one buffer. Flushes of a busy member are 16 to 64 KiB; the rest is room for bulk appends.
pub const BUFFER_BYTES_DEFAULT: usize = 512 << 10;

/// Default bound of the bytes appended but not yet durable. [`Wal::room`](crate::Wal::room) reaches zero here.
pub const PENDING_BYTES_DEFAULT: usize = 8 << 20;

/// Default number of flushes in flight: one on the device, one queued behind it.
pub const FLUSHES_IN_FLIGHT_DEFAULT: usize = 2;

/// Most flushes in flight that may be asked for.
pub const FLUSHES_IN_FLIGHT_MAX: usize = 16;

/// Default bound of the bytes in flight, a single larger record aside. With [`PAYLOAD_BYTES_DEFAULT`] it sets how far
/// behind the last record recovery must look.
pub const IN_FLIGHT_BYTES_DEFAULT: usize = 4 << 20;

/// Default bound of one record's payload.
pub const PAYLOAD_BYTES_DEFAULT: usize = 8 << 20;

/// The very first segment of a log is at most this large, so that a new member need not wait for 64 MiB of zeros.
pub const FIRST_SEGMENT_BYTES_MAX: u64 = 8 << 20;

/// Retired segments kept for reuse; more are deleted.
pub const SPARES_MAX: usize = 4;

const _: () = {
    assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
    assert!(SECTOR_BYTES.is_multiple_of(RECORD_ALIGN));
    assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
    assert!(SEGMENT_HEADER_BYTES <= SECTOR_BYTES);
    assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT && SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
    assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
    assert!(SEGMENT_BYTES_MIN <= FIRST_SEGMENT_BYTES_MAX);
    assert!(BUFFER_BYTES_DEFAULT <= IN_FLIGHT_BYTES_DEFAULT && IN_FLIGHT_BYTES_DEFAULT <= PENDING_BYTES_DEFAULT);
    assert!(PAYLOAD_BYTES_DEFAULT <= payload_bytes_max(SEGMENT_BYTES_DEFAULT));
    assert!(FLUSHES_IN_FLIGHT_DEFAULT >= 2 && FLUSHES_IN_FLIGHT_DEFAULT <= FLUSHES_IN_FLIGHT_MAX);
};

/// Rounds up to the next block boundary.
pub(crate) const fn block_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

/// Bytes a record with this payload occupies.
pub(crate) const fn record_bytes(payload: usize) -> usize {
    (RECORD_HEADER_BYTES + payload).next_multiple_of(RECORD_ALIGN)
}

/// Largest payload a segment of this size can hold: all but the header block and the block kept back for the seal.
pub const fn payload_bytes_max(segment_bytes: u64) -> usize {
    segment_bytes as usize - 2 * BLOCK_BYTES - RECORD_HEADER_BYTES
}
