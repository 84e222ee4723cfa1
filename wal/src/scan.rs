//! Reads one segment through a sliding window: records in order, or headers anywhere.
//!
//! Invariants: memory is one window (grown to the largest record); nothing read is trusted before its checksum holds
//! and its length stays inside the segment. Deliberately absent: what the end of the records means
//! (`recovery_table`), several segments (`recovery`).

use std::ops::Range;

use crate::disk::Segments;
use crate::error::DiskFault;
use crate::format::{Identity, RecordHeader, SegmentHeader};
use crate::limits::{BLOCK_BYTES, RECORD_ALIGN, RECORD_HEADER_BYTES, block_up, record_bytes};
use crate::types::Lsn;

/// Read in pieces of this size: large enough for sequential speed, small enough to stay in a cache.
const WINDOW_BYTES: usize = 1 << 20;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// How far to look behind the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// As far as the writer can have got: finds whatever a crash leaves, and the proof that a record was damaged.
    Reach,
    /// To the end: also finds records behind a hole wider than that.
    Whole,
}

/// What stands at a position.
pub(crate) enum Found {
    /// A record that validates; its payload is [`SegmentReader::payload`] until the next read.
    Record {
        header: RecordHeader,
        end: u64,
    },
    /// A header that validates before a payload that does not.
    Partial {
        header: RecordHeader,
    },
    Nothing,
}

/// What lies behind the last record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aftermath {
    /// Nothing but zeros, as far as was looked.
    pub blank: bool,
    /// Behind the last byte that is not zero.
    pub written_end: u64,
    /// Where the first header that validates begins.
    pub remains_from: Option<u64>,
    /// End of the last record whose header validates.
    pub remains_end: u64,
    /// Whether there is such a record.
    pub later: bool,
    /// The record that claims the highest durable end: the end, its own number, and where it lies.
    pub witness: Option<(Lsn, Lsn, u64)>,
}

pub(crate) struct SegmentReader<'d, S: Segments + ?Sized> {
    store: &'d mut S,
    pub header: SegmentHeader,
    pub identity: Identity,
    window: Vec<u8>,
    window_at: u64,
    payload: Range<usize>,
}

impl<'d, S: Segments + ?Sized> SegmentReader<'d, S> {
    /// A reader that takes over `window`'s memory.
    pub fn new(store: &'d mut S, header: SegmentHeader, mut window: Vec<u8>) -> Self {
        window.clear();
        Self { store, header, identity: header.identity(), window, window_at: 0, payload: 0..0 }
    }

    /// Gives the window's memory back for the next reader.
    pub fn into_window(self) -> Vec<u8> {
        self.window
    }

    /// Payload of the record found last.
    pub fn payload(&self) -> &[u8] {
        &self.window[self.payload.clone()]
    }

    /// Makes `offset..offset + length` available; returns where it begins in the window. The range is inside the file.
    fn load(&mut self, offset: u64, length: usize) -> Result<usize, DiskFault> {
        assert!(offset + length as u64 <= self.header.segment_bytes, "reads stay inside the segment");
        let have = self.window_at..self.window_at + self.window.len() as u64;
        if offset < have.start || offset + length as u64 > have.end {
            let from = offset - offset % BLOCK_BYTES as u64;
            let wanted = (offset - from) + length.max(WINDOW_BYTES) as u64;
            let to = (from + wanted).min(self.header.segment_bytes);
            self.window.resize((to - from) as usize, 0);
            self.window_at = from;
            if let Err(fault) = self.store.read(self.header.seq, from, &mut self.window) {
                self.window.clear();
                return Err(fault);
            }
        }
        Ok((offset - self.window_at) as usize)
    }

    /// Looks for a record at `offset`.
    pub fn record_at(&mut self, offset: u64) -> Result<Found, DiskFault> {
        let room = self.header.segment_bytes.saturating_sub(offset);
        if room < RECORD_HEADER_BYTES as u64 {
            return Ok(Found::Nothing);
        }
        let at = self.load(offset, RECORD_HEADER_BYTES)?;
        let raw: &[u8; RECORD_HEADER_BYTES] = self.window[at..].first_chunk().expect("loaded");
        let Some(header) = RecordHeader::decode(raw, self.identity) else { return Ok(Found::Nothing) };
        let size = record_bytes(header.length as usize) as u64;
        if size > room {
            // Never written like this: treated like a payload that does not validate.
            return Ok(Found::Partial { header });
        }
        let end = offset + size;
        let at = self.load(offset, size as usize)? + RECORD_HEADER_BYTES;
        let payload = at..at + header.length as usize;
        if self.identity.crc(&self.window[payload.clone()]) != header.payload_crc {
            return Ok(Found::Partial { header });
        }
        self.payload = payload;
        Ok(Found::Record { header, end })
    }

    /// Looks at everything from `offset` on, as deep as asked, for headers with numbers from `from` up to below `below`.
    ///
    /// Headers alone count: one that validates was written by this log, whatever became of its payload.
    pub fn aftermath(&mut self, offset: u64, depth: Depth, from: Lsn, below: Lsn) -> Result<Aftermath, DiskFault> {
        let to = match depth {
            Depth::Reach => self.header.segment_bytes.min(block_up(offset) + self.header.reach),
            Depth::Whole => self.header.segment_bytes,
        };
        let mut found = Aftermath {
            blank: true,
            written_end: offset,
            remains_from: None,
            remains_end: offset,
            later: false,
            witness: None,
        };
        let mut at = offset;
        while at < to {
            let block_end = block_up(at + 1).min(self.header.segment_bytes);
            // A header may reach into the next block.
            let reach = (block_end + RECORD_HEADER_BYTES as u64).min(self.header.segment_bytes);
            let start = self.load(at, (reach - at) as usize)?;
            let block = &self.window[start..start + (block_end - at) as usize];
            // Most blocks behind the end are zero, and comparing whole blocks is quick.
            if *block != ZEROS[..block.len()] {
                let last = block.iter().rposition(|byte| *byte != 0).expect("not all zero");
                found.blank = false;
                found.written_end = at + last as u64 + 1;
                let area = start..start + (reach - at) as usize;
                self.headers_in(area, at, (from, below), &mut found);
            }
            at = block_end;
        }
        Ok(found)
    }

    /// Tries every place in `area` of the window, which lies at `at` in the segment, where a record may begin.
    fn headers_in(&self, area: Range<usize>, at: u64, (from, below): (Lsn, Lsn), found: &mut Aftermath) {
        let bytes = &self.window[area];
        for step in (0..bytes.len()).step_by(RECORD_ALIGN) {
            let Some(raw) = bytes[step..].first_chunk::<RECORD_HEADER_BYTES>() else { return };
            let lsn = RecordHeader::peek_lsn(raw);
            if lsn < from || lsn >= below {
                continue;
            }
            let Some(header) = RecordHeader::decode(raw, self.identity) else { continue };
            let offset = at + step as u64;
            let end = offset + record_bytes(header.length as usize) as u64;
            found.later |= header.lsn > from;
            found.remains_from.get_or_insert(offset);
            found.remains_end = found.remains_end.max(end.min(self.header.segment_bytes));
            if found.witness.is_none_or(|(durable, ..)| header.durable() > durable) {
                found.witness = Some((header.durable(), header.lsn, offset));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REACH_MIN;
    use crate::sim_disk::{Schedule, SimDisk, SimMedium};
    use crate::types::{GroupId, RecordKind, SegmentSeq, WalId};

    const HEADER: SegmentHeader = SegmentHeader {
        wal: WalId(5),
        seq: SegmentSeq::FIRST,
        segment_bytes: 2 << 20,
        recycled: false,
        reach: REACH_MIN,
    };

    /// A segment with one record header at `offset`: number 9, written when 7 was durable.
    fn with_header_at(offset: u64) -> SimMedium {
        let header = RecordHeader {
            payload_crc: 0,
            lsn: Lsn::new(9),
            length: 0,
            behind: 2,
            group: GroupId(0),
            schema: 0,
            kind: RecordKind::Entry.code(),
        };
        let mut bytes = vec![0; HEADER.segment_bytes as usize];
        bytes[offset as usize..][..RECORD_HEADER_BYTES].copy_from_slice(&header.encode(HEADER.identity()));
        let medium = SimMedium::new();
        medium.put(&HEADER.seq.file_name(), bytes);
        medium
    }

    fn look(medium: &SimMedium, offset: u64, depth: Depth) -> Aftermath {
        let mut disk = SimDisk::new(medium, Schedule::InOrder);
        let mut reader = SegmentReader::new(&mut disk, HEADER, Vec::new());
        reader.aftermath(offset, depth, Lsn::new(8), Lsn::new(100)).expect("readable")
    }

    /// Across blocks, and across windows.
    #[test]
    fn a_header_is_found_wherever_a_record_may_begin() {
        let start = BLOCK_BYTES as u64;
        let window = start + WINDOW_BYTES as u64;
        let mut places: Vec<u64> = (0..=2 * BLOCK_BYTES as u64).step_by(RECORD_ALIGN).map(|at| start + at).collect();
        places.extend((0..8).map(|step| window - 32 + step * RECORD_ALIGN as u64));
        places.push(HEADER.segment_bytes - RECORD_HEADER_BYTES as u64);
        for at in places {
            let found = look(&with_header_at(at), start, Depth::Whole);
            assert!(found.later && !found.blank, "at {at}");
            assert_eq!(found.witness, Some((Lsn::new(7), Lsn::new(9), at)));
            assert_eq!(found.remains_end, at + RECORD_HEADER_BYTES as u64);
        }
    }

    #[test]
    fn a_shallow_look_ends_at_the_reach_behind_the_block_boundary() {
        let stop = BLOCK_BYTES as u64 + 40;
        let boundary = 2 * BLOCK_BYTES as u64;
        for (at, seen) in [(boundary + REACH_MIN - 8, true), (boundary + REACH_MIN, false)] {
            let medium = with_header_at(at);
            assert_eq!(look(&medium, stop, Depth::Reach).later, seen, "at {at}");
            assert!(look(&medium, stop, Depth::Whole).later, "at {at}");
        }
    }

    #[test]
    fn numbers_outside_the_range_asked_for_do_not_count() {
        let medium = with_header_at(8192);
        let mut disk = SimDisk::new(&medium, Schedule::InOrder);
        let mut reader = SegmentReader::new(&mut disk, HEADER, Vec::new());
        for (from, below, later) in [(1, 100, true), (9, 100, false), (10, 100, false), (1, 9, false)] {
            let found = reader.aftermath(4096, Depth::Whole, Lsn::new(from), Lsn::new(below)).expect("readable");
            assert_eq!(found.later, later, "{from}..{below}");
        }
    }
}
