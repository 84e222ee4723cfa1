//! Memory the kernel can take directly: aligned to a block, initialized, owned by one place at a time.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

use crate::limits::BLOCK_BYTES;

/// A block-aligned, initialized buffer of fixed capacity.
pub struct AlignedBuf {
    start: NonNull<u8>,
    capacity: usize,
    /// Index in the ring's table of registered buffers.
    registered: Option<u16>,
}

// SAFETY: the buffer owns its memory exclusively, as a `Box<[u8]>` would.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads; writing needs `&mut`.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Allocates at least `bytes_min` zeroed bytes.
    pub fn zeroed(bytes_min: usize) -> Self {
        let capacity = bytes_min.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero, as `capacity` is at least one block.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, capacity, registered: None }
    }

    /// Bytes it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Index in a ring's table of registered buffers, if it has one.
    pub fn registered(&self) -> Option<u16> {
        self.registered
    }

    /// Notes that a ring knows this buffer by `index`, from now until it is dropped.
    pub fn set_registered(&mut self, index: u16) {
        self.registered = Some(index);
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` points to `capacity` initialized bytes that live as long as `self`; no `&mut` exists.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.capacity) }
    }

    /// All of it, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK_BYTES).expect("a capacity below isize::MAX, aligned to a power of two")
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout; freed once, here.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.capacity)) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("capacity", &self.capacity).field("registered", &self.registered).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_zeroed_and_rounded_up() {
        for bytes in [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 10 * BLOCK_BYTES] {
            let mut buffer = AlignedBuf::zeroed(bytes);
            assert!(buffer.capacity() >= bytes.max(1) && buffer.capacity().is_multiple_of(BLOCK_BYTES));
            assert!(buffer.bytes().as_ptr().addr().is_multiple_of(BLOCK_BYTES));
            assert!(buffer.bytes().iter().all(|byte| *byte == 0));
            buffer.bytes_mut().fill(7);
            assert!(buffer.bytes().iter().all(|byte| *byte == 7));
        }
    }
}
