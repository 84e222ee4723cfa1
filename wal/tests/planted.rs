//! Mistakes planted in the disk below the log: each is caught by an assertion that names it, before a record that is not
//! durable counts as such.

use std::collections::VecDeque;

use plinth_wal::format::SegmentHeader;
use plinth_wal::sim_disk::NullDisk;
use plinth_wal::*;

/// What the disk does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// Says twice that a write is done, while an older one is not.
    CompletesTwice,
    /// Says that a write is done which nobody asked for.
    CompletesAnother,
    /// Makes a segment that nobody asked for.
    PreparesUnasked,
    /// Makes the segment after the one it was asked for.
    PreparesAnother,
}

struct Planted {
    disk: NullDisk,
    mistake: Mistake,
    held: VecDeque<Completion>,
    said: VecDeque<Completion>,
}

impl Segments for Planted {
    fn list(&mut self) -> Result<Vec<SegmentSeq>, DiskFault> {
        self.disk.list()
    }

    fn size(&mut self, seq: SegmentSeq) -> Result<u64, DiskFault> {
        self.disk.size(seq)
    }

    fn sync_and_uncache(&mut self, seq: SegmentSeq) -> Result<(), DiskFault> {
        self.disk.sync_and_uncache(seq)
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, out: &mut [u8]) -> Result<(), DiskFault> {
        self.disk.read(seq, offset, out)
    }

    fn zero(&mut self, seq: SegmentSeq, from: u64, to: u64) -> Result<(), DiskFault> {
        self.disk.zero(seq, from, to)
    }
}

impl Disk for Planted {
    fn prepare_now(&mut self, header: SegmentHeader) -> Result<(), DiskFault> {
        self.disk.prepare_now(header)
    }

    fn prepare(&mut self, header: SegmentHeader) {
        let mut say = |segment| self.said.push_back(Completion::Prepared { segment, result: Ok(()) });
        match self.mistake {
            Mistake::PreparesUnasked => {
                say(header.seq);
                say(header.seq.next());
            }
            Mistake::PreparesAnother => say(header.seq.next()),
            _ => say(header.seq),
        }
    }

    fn retire(&mut self, seq: SegmentSeq) {
        self.disk.retire(seq);
    }

    fn take_buffer(&mut self, bytes_min: usize) -> AlignedBuf {
        self.disk.take_buffer(bytes_min)
    }

    fn give_buffer(&mut self, buffer: AlignedBuf) {
        self.disk.give_buffer(buffer);
    }

    fn write(&mut self, write: Write) {
        let say = |ticket, buffer| Completion::Flushed { ticket, buffer, result: Ok(()) };
        match self.mistake {
            // The first is held back, so that the second is still known when it completes again.
            Mistake::CompletesTwice if write.ticket == 0 => self.held.push_back(say(0, write.buffer)),
            Mistake::CompletesTwice => {
                self.said.push_back(say(write.ticket, AlignedBuf::zeroed(4096)));
                self.said.push_back(say(write.ticket, write.buffer));
            }
            Mistake::CompletesAnother => self.said.push_back(say(write.ticket + 7, write.buffer)),
            _ => self.said.push_back(say(write.ticket, write.buffer)),
        }
    }

    fn submit(&mut self) -> Result<(), DiskFault> {
        self.disk.submit()
    }

    fn poll(&mut self) -> Option<Completion> {
        self.said.pop_front()
    }
}

fn run(mistake: Mistake) {
    let disk = Planted { disk: NullDisk::default(), mistake, held: VecDeque::new(), said: VecDeque::new() };
    let (mut wal, _) = Wal::open(disk, WalOptions::new(WalId(1))).expect("new");
    for _ in 0..2 {
        wal.append(GroupId(0), RecordKind::Entry, 0, &[&[1; 100]]);
        wal.flush().expect("flushed");
    }
    while !wal.disk().said.is_empty() {
        wal.poll().expect("nothing fails");
    }
}

#[test]
#[should_panic(expected = "a write completes once")]
fn a_write_that_completes_twice() {
    run(Mistake::CompletesTwice);
}

#[test]
#[should_panic(expected = "only submitted writes complete")]
fn a_write_that_nobody_asked_for() {
    run(Mistake::CompletesAnother);
}

#[test]
#[should_panic(expected = "only what was asked for is prepared")]
fn a_segment_that_nobody_asked_for() {
    run(Mistake::PreparesUnasked);
}

#[test]
#[should_panic(expected = "segments are prepared one by one")]
fn a_segment_out_of_order() {
    run(Mistake::PreparesAnother);
}
