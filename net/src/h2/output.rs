//! Bytes on their way to the socket: one growing buffer, into which large bodies are spliced without copying them.
//!
//! ```text
//!   bytes:    [frames ........|.. more frames ...|.... frames]
//!   splices:                  ^ body A           ^ body B          written in the order of their places
//! ```
//!
//! Invariants: places never decrease; what has been written is dropped from the front; `len` counts everything that has
//! not been written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Capacity an emptied buffer may keep.
const KEEP_BYTES: usize = 32 << 10;

struct Splice {
    /// How much of `bytes` goes before it.
    at: usize,
    body: Bytes,
}

/// Output of one connection.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// How much of `bytes` has been written.
    written: usize,
    splices: VecDeque<Splice>,
    spliced_bytes: usize,
    /// Bytes that have been written in all.
    written_ever: u64,
}

impl Output {
    /// Bytes not written yet.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written + self.spliced_bytes
    }

    /// How many bytes there ever were, and with them the place behind the last one.
    pub fn end(&self) -> u64 {
        self.written_ever + self.len() as u64
    }

    /// Whether everything before this place has been written.
    pub fn is_written(&self, end: u64) -> bool {
        end <= self.written_ever
    }

    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a body as it is.
    pub fn splice(&mut self, body: Bytes) {
        if !body.is_empty() {
            self.spliced_bytes += body.len();
            self.splices.push_back(Splice { at: self.bytes.len(), body });
        }
    }

    /// Takes back what was appended to the buffer from `at` on. Nothing may have been spliced since.
    pub fn take_back(&mut self, at: usize) -> Bytes {
        assert!(at >= self.written);
        assert!(self.splices.back().is_none_or(|last| last.at <= at));
        if self.bytes.len() - at <= at {
            let tail = Bytes::copy_from_slice(&self.bytes[at..]);
            self.bytes.truncate(at);
            return tail;
        }
        // The tail is the larger part: it keeps the memory, and the rest moves.
        let all = Bytes::from(std::mem::take(&mut self.bytes));
        self.bytes.extend_from_slice(&all[..at]);
        all.slice(at..)
    }

    /// Fills `slices` with what is to be written next and returns how many were filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut from = self.written;
        let pieces = self.splices.iter().map(|splice| (splice.at, &splice.body[..]));
        for (at, body) in pieces.chain([(self.bytes.len(), [].as_slice())]) {
            for piece in [&self.bytes[from..at], body] {
                if filled == slices.len() {
                    return filled;
                }
                if !piece.is_empty() {
                    slices[filled] = IoSlice::new(piece);
                    filled += 1;
                }
            }
            from = at;
        }
        filled
    }

    /// `count` more bytes have been written.
    pub fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "more was written than there was");
        self.written_ever += count as u64;
        while count > 0 {
            let until = self.splices.front().map_or(self.bytes.len(), |splice| splice.at);
            let plain = count.min(until - self.written);
            self.written += plain;
            count -= plain;
            if count == 0 {
                break;
            }
            let front = self.splices.front_mut().expect("the count does not exceed what is there");
            let taken = count.min(front.body.len());
            self.spliced_bytes -= taken;
            count -= taken;
            if taken == front.body.len() {
                self.splices.pop_front();
            } else {
                front.body = front.body.slice(taken..);
            }
        }
        if self.is_empty() {
            self.written = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEEP_BYTES);
        } else if self.written > KEEP_BYTES.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.written);
            for splice in &mut self.splices {
                splice.at -= self.written;
            }
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &Output, slices_max: usize) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); slices_max];
        let filled = output.fill(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn order_is_kept_whatever_the_size_of_writes() {
        for step in 1..=12 {
            let mut output = Output::default();
            output.buffer().extend_from_slice(b"ab");
            output.splice(Bytes::from_static(b"CDE"));
            output.splice(Bytes::from_static(b"F"));
            output.buffer().extend_from_slice(b"gh");
            output.splice(Bytes::new());
            output.splice(Bytes::from_static(b"I"));
            let mut all = Vec::new();
            while !output.is_empty() {
                let next = written(&output, 2);
                let count = step.min(next.len());
                all.extend_from_slice(&next[..count]);
                output.advance(count);
            }
            assert_eq!(all, b"abCDEFghI", "step {step}");
            assert_eq!(output.len(), 0);
        }
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"keep");
        let at = output.buffer().len();
        output.buffer().extend_from_slice(b"back");
        assert_eq!(output.take_back(at), "back");
        assert_eq!(written(&output, 4), b"keep");
        output.buffer().extend_from_slice(b" the larger part");
        assert_eq!(output.take_back(at), " the larger part");
        assert_eq!(written(&output, 4), b"keep");
        assert_eq!(output.len(), 4);
    }

    #[test]
    fn a_reader_that_never_catches_up_does_not_make_it_grow() {
        let mut output = Output::default();
        let mut expected = 0u8;
        for round in 0..10_000u32 {
            output.buffer().extend_from_slice(&[(round % 251) as u8; 100]);
            output.splice(Bytes::from(vec![(round % 251) as u8; 10]));
            if round > 0 {
                let front = written(&output, 3);
                assert!(front[..110].iter().all(|byte| *byte == expected), "round {round}");
                output.advance(110);
                expected = (expected + 1) % 251;
            }
        }
        assert!(output.buffer().capacity() < 4 * KEEP_BYTES);
    }

    #[test]
    fn an_empty_buffer_does_not_stay_large() {
        let mut output = Output::default();
        output.buffer().resize(1 << 20, 0);
        output.advance(1 << 20);
        assert!(output.buffer().capacity() <= KEEP_BYTES);
    }
}
