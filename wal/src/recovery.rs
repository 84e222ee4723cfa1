//! Reads a whole log, segment by segment, and decides what its end means.
//!
//! ```text
//!   files complete and ours? -> sync and uncache -> records in order -> stop -> facts -> recovery_table -> go on, end, or refuse
//! ```
//!
//! A durable record that is damaged refuses the log. If its header is sound, it is known whose it was and where the next one
//! begins: then the [`Reader`] may have the rest read, and refuse that group alone. Where the header is damaged nobody knows, and
//! all are refused.
//!
//! Invariants: a scan changes nothing; a record is handed out only if it validates and its number follows the last
//! one, damaged ones that were told of included; whatever could validate behind the end is listed for erasing before the log is appended to. Deliberately
//! absent: erasing (the caller does it) and repairing (`repair`).

use crate::disk::Segments;
use crate::error::OpenError;
use crate::format::{RecordHeader, SCHEMA_SEAL, SegmentHeader};
use crate::limits::{
    BLOCK_BYTES, RECORD_HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, block_up, record_bytes,
};
use crate::recovery_table::{Decision, Facts, decide};
use crate::scan::{Aftermath, Depth, Found, SegmentReader};
use crate::types::{GroupId, Lsn, Record, RecordKind, SegmentSeq, WalId};

/// What a scan saw in one segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentScan {
    pub header: SegmentHeader,
    /// Numbers of its first and last record.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Records, the log's own included.
    pub records: u64,
    pub payload_bytes: u64,
    /// End of the last record.
    pub end: u64,
    /// Whether it ends with a seal.
    pub sealed: bool,
}

/// Bytes of a segment to be zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EraseRange {
    pub segment: SegmentSeq,
    /// First byte: at a block boundary, or right behind the last record, if something that validates begins in its block.
    pub from: u64,
    /// Behind the last byte, at a block boundary.
    pub to: u64,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub segment: SegmentSeq,
    pub offset: u64,
    pub next: Lsn,
    pub row: &'static str,
}

/// A whole log, read.
pub(crate) struct Scan {
    pub wal_id: WalId,
    pub segments: Vec<SegmentScan>,
    pub tail: Tail,
    pub erase: Vec<EraseRange>,
    pub damaged: Vec<Damaged>,
}

/// How the log was found, for the server's log and the offline tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segment the log ends in.
    pub segment: SegmentSeq,
    pub offset: u64,
    /// First record, if there is any.
    pub first: Option<Lsn>,
    pub last: Lsn,
    /// Name of the decision about the end: "clean end", "torn record" ...
    pub end: &'static str,
    /// What unfinished flushes had left behind the end; erased when the log was opened.
    pub erased: Vec<EraseRange>,
    /// Damaged records that the reader took upon itself.
    pub damaged: Vec<Damaged>,
}

impl Scan {
    pub fn report(&self) -> RecoveryReport {
        RecoveryReport {
            segment: self.tail.segment,
            offset: self.tail.offset,
            first: self.segments.iter().find_map(|segment| segment.lsns).map(|(first, _)| first),
            last: self.tail.next.previous(),
            end: self.tail.row,
            erased: self.erase.clone(),
            damaged: self.damaged.clone(),
        }
    }
}

/// A durable record whose payload is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub segment: SegmentSeq,
    /// Where its header lies.
    pub offset: u64,
    pub lsn: Lsn,
    pub group: GroupId,
}

/// Who reads the records of a log, in their order. A function that takes records refuses a damaged log.
pub trait Reader {
    /// The next one.
    fn record(&mut self, record: Record<'_>);

    /// The next one is damaged. Whether to read on; if not, the log is refused.
    fn damaged(&mut self, _: Damaged) -> bool {
        false
    }
}

impl<F: FnMut(Record<'_>)> Reader for F {
    fn record(&mut self, record: Record<'_>) {
        self(record);
    }
}

/// Records of a log, kept.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    metas: Vec<Meta>,
    pieces: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    lsn: Lsn,
    group: GroupId,
    kind: RecordKind,
    schema: u16,
    piece: usize,
    at: usize,
    length: usize,
}

/// Records are gathered in pieces of this size, so that growing never copies what is there.
const PIECE_BYTES: usize = 1 << 20;

impl Collector {
    pub fn push(&mut self, record: Record<'_>) {
        let length = record.payload.len();
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < length) {
            self.pieces.push(Vec::with_capacity(length.max(PIECE_BYTES)));
        }
        let piece = self.pieces.last_mut().expect("just made sure");
        let at = piece.len();
        piece.extend_from_slice(record.payload);
        let Record { lsn, group, kind, schema, .. } = record;
        self.metas.push(Meta { lsn, group, kind, schema, piece: self.pieces.len() - 1, at, length });
    }
}

/// What [`Wal::open`](crate::Wal::open) found.
#[derive(Debug)]
pub struct Recovered {
    records: Collector,
    pub report: RecoveryReport,
}

impl Recovered {
    pub(crate) fn new(records: Collector, report: RecoveryReport) -> Self {
        Self { records, report }
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.records.metas.iter().map(|meta| Record {
            lsn: meta.lsn,
            group: meta.group,
            kind: meta.kind,
            schema: meta.schema,
            payload: &self.records.pieces[meta.piece][meta.at..meta.at + meta.length],
        })
    }
}

/// Reads and checks the headers of all segments: complete, ours, and without a gap.
pub(crate) fn read_headers(store: &mut (impl Segments + ?Sized)) -> Result<Vec<SegmentHeader>, OpenError> {
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for segment in store.list()? {
        if let Some(last) = headers.last()
            && segment != last.seq.next()
        {
            return Err(OpenError::Missing { segment: last.seq.next() });
        }
        store.sync_and_uncache(segment)?;
        let header = read_header(store, segment)?;
        if let Some(first) = headers.first()
            && first.wal != header.wal
        {
            return Err(OpenError::Foreign { segment, expected: first.wal, found: header.wal });
        }
        headers.push(header);
    }
    Ok(headers)
}

fn read_header(store: &mut (impl Segments + ?Sized), segment: SegmentSeq) -> Result<SegmentHeader, OpenError> {
    let size = store.size(segment)?;
    if size < SEGMENT_HEADER_BYTES as u64 {
        return Err(OpenError::Size { segment, expected: SEGMENT_HEADER_BYTES as u64, found: size });
    }
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    store.read(segment, 0, &mut bytes)?;
    let header = SegmentHeader::decode(&bytes).map_err(|cause| OpenError::Header { segment, cause })?;
    if header.seq != segment {
        return Err(OpenError::Renamed { segment, found: header.seq });
    }
    if header.segment_bytes != size {
        return Err(OpenError::Size { segment, expected: header.segment_bytes, found: size });
    }
    Ok(header)
}

/// Reads the log. `progress` receives what was seen segment by segment, also when the log is refused.
pub(crate) fn scan(
    store: &mut (impl Segments + ?Sized),
    depth: Depth,
    reader: &mut dyn Reader,
    progress: &mut Vec<SegmentScan>,
) -> Result<Scan, OpenError> {
    let headers = read_headers(store)?;
    let first = *headers.first().ok_or(OpenError::Missing { segment: SegmentSeq::FIRST })?;
    // A log begins with record 1; when its first segments are gone, with whatever the oldest begins with.
    let mut expected = (first.seq == SegmentSeq::FIRST).then_some(Lsn::FIRST);
    let (mut window, mut damaged) = (Vec::new(), Vec::new());
    let (mut at, mut seen) = (0, SegmentScan::empty(first));
    let (row, erase) = loop {
        let mut segment = SegmentReader::new(&mut *store, headers[at], window);
        let walked = walk(&mut segment, &mut seen, &mut expected, reader);
        window = segment.into_window();
        let partial = walked?;
        if seen.sealed && at + 1 < headers.len() {
            progress.push(seen);
            at += 1;
            seen = SegmentScan::empty(headers[at]);
            continue;
        }
        let end = End { headers: &headers, at, seen, partial, expected, depth };
        let judged = end.judge(store, &mut window);
        if let (Err(OpenError::Corrupt { .. }), Some(partial)) = (&judged, partial)
            && partial.end <= headers[at].segment_bytes
            && reader.damaged(partial.damaged(headers[at].seq))
        {
            assert!(expected == Some(partial.header.lsn), "what is passed over is the record that was to come");
            damaged.push(partial.damaged(headers[at].seq));
            expected = Some(partial.header.lsn.next());
            seen.count(&partial.header, partial.end);
            continue;
        }
        progress.push(seen);
        break judged?;
    };
    progress.extend(headers[at + 1..].iter().map(|header| SegmentScan::empty(*header)));
    let next = expected.expect("a log without a head was refused");
    assert!(seen.end <= headers[at].segment_bytes, "a log ends within its segment");
    let is_behind = |range: &EraseRange| (range.segment, range.from) >= (headers[at].seq, seen.end);
    assert!(erase.iter().all(is_behind), "nothing is erased that the log holds");
    let tail = Tail { segment: headers[at].seq, offset: seen.end, next, row };
    Ok(Scan { wal_id: first.wal, segments: progress.clone(), tail, erase, damaged })
}

/// The expected record: its header validates, its payload does not.
#[derive(Clone, Copy)]
struct Partial {
    header: RecordHeader,
    offset: u64,
    /// Where it would end; beyond the segment if that was never written.
    end: u64,
}

impl Partial {
    fn damaged(&self, segment: SegmentSeq) -> Damaged {
        Damaged { segment, offset: self.offset, lsn: self.header.lsn, group: self.header.group }
    }
}

impl SegmentScan {
    fn empty(header: SegmentHeader) -> Self {
        Self { header, lsns: None, records: 0, payload_bytes: 0, end: BLOCK_BYTES as u64, sealed: false }
    }

    /// A record is behind.
    fn count(&mut self, header: &RecordHeader, end: u64) {
        assert!(end > self.end, "reading goes on");
        self.lsns = Some((self.lsns.map_or(header.lsn, |(first, _)| first), header.lsn));
        self.records += 1;
        self.payload_bytes += u64::from(header.length);
        self.end = end;
    }
}

/// Goes from record to record until one is not as it must be. A record follows right behind the last one, or, when a
/// new flush began, at the next block boundary: its number tells, so what is skipped is only padding. Returns what is left of
/// the one that was to come.
fn walk<S: Segments + ?Sized>(
    segment: &mut SegmentReader<'_, S>,
    seen: &mut SegmentScan,
    expected: &mut Option<Lsn>,
    reader: &mut dyn Reader,
) -> Result<Option<Partial>, OpenError> {
    let mut partial = None;
    'records: while !seen.sealed {
        partial = None;
        let (behind, boundary) = (seen.end, block_up(seen.end));
        for offset in std::iter::once(behind).chain((boundary != behind).then_some(boundary)) {
            let (header, end) = match segment.record_at(offset)? {
                Found::Record { header, end } if expected.is_none_or(|lsn| lsn == header.lsn) => (header, end),
                Found::Partial { header } if *expected == Some(header.lsn) => {
                    partial =
                        Some(Partial { header, offset, end: offset + record_bytes(header.length as usize) as u64 });
                    continue;
                }
                _ => continue,
            };
            let Some(kind) = RecordKind::from_code(header.kind) else {
                return Err(OpenError::UnknownKind { segment: segment.header.seq, offset, kind: header.kind });
            };
            let RecordHeader { lsn, group, schema, .. } = header;
            if kind != RecordKind::Segment {
                reader.record(Record { lsn, group, kind, schema, payload: segment.payload() });
            }
            seen.count(&header, end);
            seen.sealed = kind == RecordKind::Segment && schema == SCHEMA_SEAL;
            *expected = Some(lsn.next());
            continue 'records;
        }
        break;
    }
    Ok(partial)
}

/// The place where reading stopped.
struct End<'h> {
    headers: &'h [SegmentHeader],
    at: usize,
    seen: SegmentScan,
    partial: Option<Partial>,
    expected: Option<Lsn>,
    depth: Depth,
}

impl End<'_> {
    /// Looks behind the last record, decides, and lists what to erase; or refuses.
    fn judge(
        &self,
        store: &mut (impl Segments + ?Sized),
        window: &mut Vec<u8>,
    ) -> Result<(&'static str, Vec<EraseRange>), OpenError> {
        let header = self.headers[self.at];
        let mut facts = Facts {
            sealed: self.seen.sealed,
            successor: self.at + 1 < self.headers.len(),
            anchored: self.expected.is_some(),
            partial: false,
            blank: false,
            recycled: header.recycled,
            later: false,
            proven: false,
        };
        let mut behind: Vec<(SegmentHeader, u64, Aftermath)> = Vec::new();
        if let (false, Some(expected)) = (facts.sealed, self.expected) {
            // No number beyond this can have been given: every record takes at least a header.
            let most = (self.headers.len() as u64 + 1) * (SEGMENT_BYTES_MAX / RECORD_HEADER_BYTES as u64);
            let below = Lsn::new(expected.get().saturating_add(most));
            for header in &self.headers[self.at..] {
                let from = if behind.is_empty() { self.seen.end } else { BLOCK_BYTES as u64 };
                let mut reader = SegmentReader::new(&mut *store, *header, std::mem::take(window));
                let aftermath = reader.aftermath(from, self.depth, expected, below)?;
                *window = reader.into_window();
                behind.push((*header, from, aftermath));
            }
            facts.blank = behind[0].2.blank;
            facts.partial = self.partial.is_some();
            facts.later = behind.iter().any(|(.., aftermath)| aftermath.later);
            facts.proven = self.witness(&behind, expected).is_some();
        }
        let row = decide(&facts);
        let (segment, offset) = (header.seq, self.seen.end);
        match row.decision {
            Decision::End => Ok((row.name, Vec::new())),
            Decision::EraseTail => Ok((row.name, self.erase(&behind))),
            Decision::Missing => Err(OpenError::Missing { segment: segment.next() }),
            Decision::Head => Err(OpenError::Head { segment, offset }),
            Decision::Corrupt => {
                let lsn = self.expected.expect("anchored");
                let (witness, witness_segment, witness_offset) = self.witness(&behind, lsn).expect("proven");
                Err(OpenError::Corrupt { segment, offset, lsn, witness, witness_segment, witness_offset })
            }
            Decision::Continue => unreachable!("the scan goes on by itself where a successor exists"),
        }
    }

    /// A record written when `lsn` was durable.
    fn witness(&self, behind: &[(SegmentHeader, u64, Aftermath)], lsn: Lsn) -> Option<(Lsn, SegmentSeq, u64)> {
        behind.iter().find_map(|(header, _, aftermath)| match aftermath.witness {
            Some((durable, witness, offset)) if durable >= lsn => Some((witness, header.seq, offset)),
            _ => None,
        })
    }

    /// Whole blocks behind the end, up to the last thing that might be taken for a record one day. In a file that was
    /// zero before this is everything written; in a recycled one stale bytes are left alone.
    ///
    /// Of the last record's own block the rest, if a header is there: the next record takes its number and begins at the
    /// boundary, and if that one's header rots, this one must not be found in its place, with another group's name. What is
    /// rewritten with it, unchanged, is of the unfinished flush: nobody was told that it is durable.
    fn erase(&self, behind: &[(SegmentHeader, u64, Aftermath)]) -> Vec<EraseRange> {
        let ranges = behind.iter().map(|(header, from, aftermath)| {
            let written = if header.recycled { aftermath.remains_end } else { aftermath.written_end };
            let (to, boundary) = (written.max(aftermath.remains_end), block_up(*from));
            let stale = aftermath.remains_from.is_some_and(|remains| remains < boundary);
            EraseRange { segment: header.seq, from: if stale { *from } else { boundary }, to: block_up(to) }
        });
        ranges.filter(|range| range.from < range.to).collect()
    }
}
