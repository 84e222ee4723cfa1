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

/// What stands at a position.
pub(crate) enum Found {
    /// A record that validates; its payload is [`SegmentReader::payload`] until the next read.
    Record { header: RecordHeader, end: u64 },
    /// A header that validates before a payload that does not.
    Partial { header: RecordHeader },
    /// Neither.
    Nothing,
}

/// What lies behind the last record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aftermath {
    /// Nothing but zeros.
    pub blank: bool,
    /// Behind the last byte that is not zero.
    pub written_end: u64,
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

    /// Looks at everything from `offset` on, for headers with numbers from `from` up to below `below`.
    ///
    /// Headers alone count: one that validates was written by this log, whatever became of its payload.
    pub fn aftermath(&mut self, offset: u64, from: Lsn, below: Lsn) -> Result<Aftermath, DiskFault> {
        let mut found =
            Aftermath { blank: true, written_end: offset, remains_end: offset, later: false, witness: None };
        let mut at = offset;
        while at < self.header.segment_bytes {
            let block_end = block_up(at + 1).min(self.header.segment_bytes);
            // A header may reach into the next block.
            let reach = (block_end + RECORD_HEADER_BYTES as u64).min(self.header.segment_bytes);
            let start = self.load(at, (reach - at) as usize)?;
            let block = &self.window[start..start + (block_end - at) as usize];
            if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
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
            found.remains_end = found.remains_end.max(end.min(self.header.segment_bytes));
            if found.witness.is_none_or(|(durable, ..)| header.durable() > durable) {
                found.witness = Some((header.durable(), header.lsn, offset));
            }
        }
    }
}
