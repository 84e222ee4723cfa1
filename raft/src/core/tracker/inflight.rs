//! What was sent to one follower and is not acknowledged: bounded by messages and by bytes (Raft dissertation, 10.2.2:
//! pipelining; the bound is what keeps a slow follower from filling memory and the wire).
//!
//! Invariants: last indexes grow; `bytes` is the sum; a message of any size fits when nothing else is in flight. The
//! buffer is kept when it empties, so the steady path does not allocate.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(crate) struct Inflight {
    /// Last index and bytes of each append under way, oldest first.
    sent: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Inflight {
    /// Bytes under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that may still be sent; `None` when not even a small message may.
    pub(crate) fn room(&self, messages_max: usize, bytes_max: usize) -> Option<usize> {
        if self.sent.is_empty() {
            return Some(usize::MAX);
        }
        (self.sent.len() < messages_max && self.bytes < bytes_max).then(|| bytes_max - self.bytes)
    }

    /// An append that ends with entry `last` leaves.
    pub(crate) fn push(&mut self, last: u64, bytes: usize) {
        assert!(self.sent.back().is_none_or(|(before, _)| *before < last), "appends are sent in order");
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// The follower has everything up to `index`.
    pub(crate) fn free_to(&mut self, index: u64) {
        while let Some((last, bytes)) = self.sent.front().copied()
            && last <= index
        {
            self.sent.pop_front();
            let left = self.bytes.checked_sub(bytes);
            self.bytes = left.expect("bytes are counted when they are sent and when they are acknowledged");
        }
        assert!(!self.sent.is_empty() || self.bytes == 0, "what is not under way takes no room");
    }

    /// Nothing is sent for a while: the buffer is given back.
    pub(crate) fn shrink(&mut self) {
        self.sent.shrink_to_fit();
    }

    /// Nothing counts as under way any more.
    pub(crate) fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_acknowledgements_make_room() {
        let mut inflight = Inflight::default();
        assert_eq!(inflight.room(2, 100), Some(usize::MAX), "a message larger than the limit travels alone");
        inflight.push(3, 60);
        assert_eq!(inflight.room(2, 100), Some(40));
        inflight.push(5, 40);
        assert_eq!(inflight.room(2, 1_000), None, "too many messages");
        assert_eq!(inflight.room(9, 100), None, "too many bytes");
        inflight.free_to(4);
        assert_eq!((inflight.bytes(), inflight.room(2, 100)), (40, Some(60)));
        inflight.push(6, 500);
        inflight.clear();
        assert_eq!((inflight.bytes(), inflight.room(1, 1)), (0, Some(usize::MAX)));
    }
}
