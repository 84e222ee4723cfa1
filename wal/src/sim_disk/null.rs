//! A disk that forgets: every flush succeeds at once and leaves nothing behind. What is measured on it is the log's own
//! cost: copying, checksums, book-keeping.

use std::collections::VecDeque;

use crate::disk::{Completion, Disk, Segments, Write};
use crate::error::DiskFault;
use crate::format::SegmentHeader;
use crate::sys::AlignedBuf;
use crate::types::SegmentSeq;

/// See the module. A log opened on it is always new.
#[derive(Default)]
pub struct NullDisk {
    first: Option<SegmentHeader>,
    completions: VecDeque<Completion>,
    buffers: Vec<AlignedBuf>,
}

impl Segments for NullDisk {
    fn list(&mut self) -> Result<Vec<SegmentSeq>, DiskFault> {
        Ok(self.first.iter().map(|header| header.seq).collect())
    }

    fn size(&mut self, _: SegmentSeq) -> Result<u64, DiskFault> {
        Ok(self.first.map_or(0, |header| header.segment_bytes))
    }

    fn sync_and_uncache(&mut self, _: SegmentSeq) -> Result<(), DiskFault> {
        Ok(())
    }

    fn read(&mut self, _: SegmentSeq, offset: u64, out: &mut [u8]) -> Result<(), DiskFault> {
        out.fill(0);
        if let (0, Some(header)) = (offset, self.first) {
            let encoded = header.encode();
            let known = encoded.len().min(out.len());
            out[..known].copy_from_slice(&encoded[..known]);
        }
        Ok(())
    }

    fn zero(&mut self, _: SegmentSeq, _: u64, _: u64) -> Result<(), DiskFault> {
        Ok(())
    }
}

impl Disk for NullDisk {
    fn prepare_now(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        self.first = Some(header);
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader) {
        self.completions.push_back(Completion::Prepared { segment: header.seq, result: Ok(()) });
    }

    fn retire(&mut self, _: SegmentSeq) {}

    fn take_buffer(&mut self, bytes_min: usize) -> AlignedBuf {
        match self.buffers.pop() {
            Some(buffer) if buffer.capacity() >= bytes_min => buffer,
            _ => AlignedBuf::zeroed(bytes_min),
        }
    }

    fn give_buffer(&mut self, buffer: AlignedBuf) {
        self.buffers.push(buffer);
    }

    fn write(&mut self, write: Write) {
        let Write { ticket, buffer, .. } = write;
        self.completions.push_back(Completion::Flushed { ticket, buffer, result: Ok(()) });
    }

    fn submit(&mut self) -> Result<(), DiskFault> {
        Ok(())
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupId, RecordKind, Wal, WalId, WalOptions};

    #[test]
    fn a_log_runs_on_it_across_segments() {
        let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::new(WalId(1)) };
        let (mut wal, recovered) = Wal::open(NullDisk::default(), options).expect("new");
        assert_eq!(recovered.iter().count(), 0);
        for _ in 0..100 {
            let last = wal.append(GroupId(0), RecordKind::Entry, 0, &[&[1; 5000]]);
            wal.flush().expect("flush");
            assert_eq!(wal.poll().expect("poll"), last);
            wal.release_before(last);
        }
        assert!(wal.stats().segments_cut > 5 && wal.stats().segments_live <= 2);
    }
}
