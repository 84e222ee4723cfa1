//! The log's core: numbers records, fills buffers, cuts segments, keeps flushes in flight, says what is durable.
//!
//! ```text
//!   append ──> open chunk ──flush──> sealed chunks ──slot free, segment ready──> in flight ──completion──> durable
//! ```
//!
//! Invariants:
//! - Records are numbered without a gap, and `durable` is contiguous: it never passes a flush that is not complete.
//! - A block is written once in the life of a segment, so a torn write cannot touch what is durable. (Recovery erases what
//!   an unfinished flush left in the last record's block, before anybody has been told of that record.)
//! - No more is written at once, or in flight together, than the segment's reach allows; recovery relies on it.
//! - No chunk is written before its segment exists, and a segment is sealed only when its successor exists.
//! - The oldest segment always begins with a durable record: its predecessor is retired only then.
//! - The first fault latches: afterwards nothing is submitted, and `flush` and `poll` return it forever.
//!
//! Deliberately absent: I/O and clocks (the [`Disk`] and the caller), recovery (`recovery`), what a payload means.

use std::collections::VecDeque;

use crate::chunk::{Chunk, RecordMeta};
use crate::disk::{Completion, Disk, Write};
use crate::error::{DiskFault, OpenError, WalError};
use crate::format::{SCHEMA_SEAL, SCHEMA_WITNESS, SegmentHeader};
use crate::limits::*;
use crate::recovery::{self, Reader, Recovered, RecoveryReport, Scan};
use crate::scan::Depth;
use crate::types::{GroupId, Lsn, Record, RecordKind, SegmentSeq, WalId};

/// How a log behaves. `wal_id` counts only when the log is created.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Identity of a log created by this call; drawn at random by the caller.
    pub wal_id: WalId,
    /// Size of new segments; whole blocks.
    pub segment_bytes: u64,
    /// Capacity of a buffer. A record that is larger gets a buffer of its own.
    pub buffer_bytes: usize,
    /// Flushes that may be in flight at once.
    pub flushes_in_flight: usize,
    /// Bytes appended and not yet durable at which [`Wal::room`] reaches zero.
    pub pending_bytes: usize,
    /// Bytes in flight at once, a single larger record aside. At least `buffer_bytes`.
    pub in_flight_bytes: usize,
    /// Largest payload of one record, if a segment can hold it.
    pub payload_bytes: usize,
    /// Segments kept ready ahead of the one in use.
    pub segments_ahead: u64,
}

impl WalOptions {
    /// The defaults of [`limits`](crate::limits).
    pub fn new(wal_id: WalId) -> Self {
        Self {
            wal_id,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            buffer_bytes: BUFFER_BYTES_DEFAULT,
            flushes_in_flight: FLUSHES_IN_FLIGHT_DEFAULT,
            pending_bytes: PENDING_BYTES_DEFAULT,
            in_flight_bytes: IN_FLIGHT_BYTES_DEFAULT,
            payload_bytes: PAYLOAD_BYTES_DEFAULT,
            segments_ahead: 1,
        }
    }

    /// Largest payload of one record.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes.min(payload_bytes_max(self.segment_bytes))
    }

    /// Bound of what is written at once and of what is in flight together, and a block.
    fn reach(&self) -> u64 {
        let most = self.in_flight_bytes.max(self.buffer_bytes).max(record_bytes(self.payload_bytes_max()));
        block_up(most as u64) + BLOCK_BYTES as u64
    }

    fn check(&self) -> Result<(), OpenError> {
        let wrong = if !self.segment_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            "segment_bytes must be whole blocks of 4096"
        } else if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            "segment_bytes must be from 16 KiB to 1 GiB"
        } else if !(1..=FLUSHES_IN_FLIGHT_MAX).contains(&self.flushes_in_flight) {
            "flushes_in_flight must be from 1 to 16"
        } else if self.buffer_bytes == 0 || self.in_flight_bytes < self.buffer_bytes {
            "in_flight_bytes must be at least buffer_bytes, which is not 0"
        } else if self.reach() > SEGMENT_BYTES_MAX {
            "in_flight_bytes must be below 1 GiB"
        } else if self.segments_ahead == 0 {
            "segments_ahead must be at least 1"
        } else {
            return Ok(());
        };
        Err(OpenError::Options(wrong))
    }
}

/// Whether the log has the space it needs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceState {
    /// The next segment is there or on its way.
    Ok,
    /// The next segment could not be made: the disk is full. Refuse writes now, while the rest of the current segment
    /// still takes deletes and compactions.
    Short,
}

/// Counters for metrics; they only grow, but for the two sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Records appended since open.
    pub records: u64,
    /// Writes submitted since open, each with its sync.
    pub flushes: u64,
    /// Bytes submitted since open, padding included.
    pub bytes_written: u64,
    /// Segments begun since open.
    pub segments_cut: u64,
    /// Bytes appended and not yet durable.
    pub pending_bytes: usize,
    /// Segments holding records now.
    pub segments_live: usize,
    /// What the disk has done since open of what it was asked for: writes with their syncs, new segments.
    pub completions: u64,
}

/// A segment with records.
#[derive(Clone, Copy, Debug)]
struct Live {
    seq: SegmentSeq,
    first: Lsn,
    last: Lsn,
}

/// A write on its way.
#[derive(Debug)]
struct Flight {
    ticket: u64,
    last: Lsn,
    used: usize,
    bytes: usize,
    reach: u64,
    done: bool,
}

/// The write-ahead log of one reactor. See the module for its invariants and `lib.rs` for how to drive it.
pub struct Wal<D: Disk> {
    disk: D,
    options: WalOptions,
    wal_id: WalId,
    /// Segment the next record goes to, its reach, where its next chunk starts, and the end that keeps the seal's block
    /// free.
    active: SegmentSeq,
    reach: u64,
    offset: u64,
    end: u64,
    open: Option<Chunk>,
    sealed: VecDeque<Chunk>,
    in_flight: VecDeque<Flight>,
    next_ticket: u64,
    next: Lsn,
    durable: Lsn,
    witnessed: Lsn,
    /// Segments with records, oldest first; the last is `active` once it has any.
    live: VecDeque<Live>,
    release: Lsn,
    /// All segments up to here exist.
    prepared: SegmentSeq,
    preparing: bool,
    short: bool,
    /// Segments found at open ahead of the active one: made with the options of an earlier run.
    found_ahead: VecDeque<SegmentHeader>,
    stats: WalStats,
    fault: Option<WalError>,
}

impl<D: Disk> Wal<D> {
    /// Opens or creates the log and collects its records.
    pub fn open(disk: D, options: WalOptions) -> Result<(Self, Recovered), OpenError> {
        let mut records = recovery::Collector::default();
        let (wal, report) = Self::open_with(disk, options, &mut |record: Record<'_>| records.push(record))?;
        Ok((wal, Recovered::new(records, report)))
    }

    /// Opens or creates the log, handing each record to `reader` in order as it is read, without keeping it. If this
    /// fails, what was read means nothing.
    pub fn open_with(
        mut disk: D,
        options: WalOptions,
        reader: &mut dyn Reader,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        options.check()?;
        if disk.list()?.is_empty() {
            let header = Self::header(options.wal_id, SegmentSeq::FIRST, &options);
            let segment_bytes = header.segment_bytes.min(FIRST_SEGMENT_BYTES_MAX);
            disk.prepare_now(SegmentHeader { segment_bytes, ..header })?;
        }
        let scan = recovery::scan(&mut disk, Depth::Reach, reader, &mut Vec::new())?;
        for range in &scan.erase {
            disk.zero(range.segment, range.from, range.to)?;
        }
        let report = scan.report();
        let mut wal = Self::resume(disk, options, scan);
        wal.prepare_ahead();
        Ok((wal, report))
    }

    fn resume(disk: D, options: WalOptions, scan: Scan) -> Self {
        let tail = scan.tail;
        let headers = scan.segments.iter().map(|segment| segment.header);
        let active = headers.clone().find(|header| header.seq == tail.segment).expect("the tail lies in a segment");
        let live = scan
            .segments
            .iter()
            .filter_map(|segment| segment.lsns.map(|(first, last)| Live { seq: segment.header.seq, first, last }));
        assert!(tail.next > Lsn::ZERO, "records are numbered from 1");
        Self {
            live: live.collect(),
            found_ahead: headers.filter(|header| header.seq > tail.segment).collect(),
            wal_id: scan.wal_id,
            active: tail.segment,
            reach: active.reach,
            offset: block_up(tail.offset),
            end: active.segment_bytes - BLOCK_BYTES as u64,
            open: None,
            sealed: VecDeque::new(),
            in_flight: VecDeque::with_capacity(options.flushes_in_flight),
            next_ticket: 0,
            next: tail.next,
            durable: tail.next.previous(),
            witnessed: Lsn::ZERO,
            release: Lsn::ZERO,
            prepared: scan.segments.last().expect("at least one segment").header.seq,
            preparing: false,
            short: false,
            stats: WalStats::default(),
            fault: None,
            disk,
            options,
        }
    }

    /// Appends a record made of `payload`'s pieces and returns its number. It is not on its way before `flush`.
    ///
    /// # Panics
    /// If the payload exceeds [`WalOptions::payload_bytes_max`], or `kind` is the log's own.
    pub fn append(&mut self, group: GroupId, kind: RecordKind, schema: u16, payload: &[&[u8]]) -> Lsn {
        assert!(kind != RecordKind::Segment, "segment records are the log's own");
        self.push(group, kind, schema, payload)
    }

    /// Appends a record that says all records so far are durable, so that later damage to the last of them is told
    /// from a torn tail. Worth its block when the log falls idle and at shutdown. Nothing if nothing is new.
    pub fn witness(&mut self) {
        if self.durable.next() == self.next && self.durable > self.witnessed {
            self.witnessed = self.push(GroupId(0), RecordKind::Segment, SCHEMA_WITNESS, &[]);
        }
    }

    fn push(&mut self, group: GroupId, kind: RecordKind, schema: u16, payload: &[&[u8]]) -> Lsn {
        let length: usize = payload.iter().map(|piece| piece.len()).sum();
        assert!(length <= self.options.payload_bytes_max(), "a record of {length} bytes does not fit a segment");
        let size = record_bytes(length);
        // In this order: a new chunk begins at a block boundary, which may be past the end the old one was short of.
        if self.open.as_ref().is_some_and(|chunk| !chunk.fits(size)) {
            self.seal_chunk();
        }
        // A segment of an earlier run may be too small for the record, or its reach.
        while self.position() + size as u64 > self.end || block_up(size as u64) + BLOCK_BYTES as u64 > self.reach {
            self.cut();
        }
        self.push_fitting(group, kind, schema, payload, length)
    }

    /// Adds a record the active segment has room for, opening a chunk if there is none.
    fn push_fitting(&mut self, group: GroupId, kind: RecordKind, schema: u16, payload: &[&[u8]], length: usize) -> Lsn {
        assert!(self.durable < self.next, "a record is durable only after it was appended");
        let meta = RecordMeta { lsn: self.next, durable: self.durable, group, kind, schema };
        let chunk = match &mut self.open {
            Some(chunk) => chunk,
            none => {
                let buffer = self.disk.take_buffer(record_bytes(length).max(self.options.buffer_bytes));
                none.insert(Chunk::new(self.active, self.wal_id, self.reach, self.offset, buffer))
            }
        };
        assert!(chunk.segment == self.active, "a chunk is closed before its segment is");
        chunk.push(meta, payload, length);
        match self.live.back_mut() {
            Some(live) if live.seq == self.active => {
                assert!(live.last.next() == meta.lsn, "records of a segment are numbered without a gap");
                live.last = meta.lsn;
            }
            _ => self.live.push_back(Live { seq: self.active, first: meta.lsn, last: meta.lsn }),
        }
        self.next = meta.lsn.next();
        self.stats.records += 1;
        self.stats.pending_bytes += record_bytes(length);
        meta.lsn
    }

    /// Where the next record would go.
    fn position(&self) -> u64 {
        self.offset + self.open.as_ref().map_or(0, |chunk| chunk.used() as u64)
    }

    /// Closes the open chunk; the next one starts behind it at a block boundary.
    fn seal_chunk(&mut self) {
        let Some(chunk) = self.open.take() else { return };
        assert_eq!(chunk.offset, self.offset, "chunks follow each other");
        assert!(chunk.last.next() == self.next, "a chunk ends with the record appended last");
        assert!(self.sealed.back().is_none_or(|before| before.last < chunk.last), "chunks are sealed in order");
        self.offset += block_up(chunk.used() as u64);
        self.sealed.push_back(chunk);
    }

    /// Ends the active segment with a seal in a chunk of its own, written only once the successor exists, so that a
    /// seal without a successor means a missing file.
    fn cut(&mut self) {
        self.seal_chunk();
        assert!(self.offset <= self.end, "the seal's block is kept free");
        self.push_fitting(GroupId(0), RecordKind::Segment, SCHEMA_SEAL, &[], 0);
        let next = self.active.next();
        self.open.as_mut().expect("holds the seal").requires = next;
        self.seal_chunk();
        self.active = next;
        let header = self.found_ahead.pop_front().unwrap_or(Self::header(self.wal_id, next, &self.options));
        assert_eq!(header.seq, next, "segments follow each other");
        self.reach = header.reach;
        self.offset = BLOCK_BYTES as u64;
        self.end = header.segment_bytes - BLOCK_BYTES as u64;
        self.stats.segments_cut += 1;
    }

    /// Whether records wait for the disk, and the disk is to do something about it. As long as it does,
    /// [`WalStats::completions`] grow.
    pub fn awaits_disk(&self) -> bool {
        !self.in_flight.is_empty() || (self.preparing && !self.sealed.is_empty())
    }

    /// Whether a flush asked for now would be on its way at once.
    pub fn can_flush(&self) -> bool {
        self.fault.is_none() && self.sealed.is_empty() && self.in_flight.len() < self.options.flushes_in_flight
    }

    /// Sends everything appended so far on its way and returns its last number; nothing if there is nothing new. What
    /// finds no free slot, or no segment yet, follows from `poll` in order.
    pub fn flush(&mut self) -> Result<Option<Lsn>, WalError> {
        self.check()?;
        self.seal_chunk();
        let last = self.sealed.back().map(|chunk| chunk.last);
        self.submit_sealed()?;
        self.prepare_ahead();
        Ok(last)
    }

    /// Takes in completions and returns the durable end of the log. Never blocks. An error is fatal: stop the process.
    pub fn poll(&mut self) -> Result<Lsn, WalError> {
        self.check()?;
        while let Some(completion) = self.disk.poll() {
            self.stats.completions += 1;
            match completion {
                Completion::Flushed { ticket, buffer, result } => {
                    self.disk.give_buffer(buffer);
                    self.latch(result)?;
                    let flight = self.in_flight.iter_mut().find(|flight| flight.ticket == ticket);
                    let flight = flight.expect("only submitted writes complete");
                    assert!(!flight.done, "a write completes once");
                    flight.done = true;
                }
                Completion::Prepared { segment, result } => self.on_prepared(segment, result)?,
                Completion::Failed(fault) => self.latch(Err(fault))?,
            }
        }
        while self.in_flight.front().is_some_and(|flight| flight.done) {
            let flight = self.in_flight.pop_front().expect("checked");
            assert!(flight.last > self.durable, "the durable end only grows");
            assert!(flight.last < self.next, "only what was appended becomes durable");
            self.durable = flight.last;
            let pending = self.stats.pending_bytes.checked_sub(flight.used);
            self.stats.pending_bytes =
                pending.expect("bytes are counted when they are appended and when they are durable");
        }
        self.retire_released();
        self.submit_sealed()?;
        self.prepare_ahead();
        Ok(self.durable)
    }

    fn on_prepared(&mut self, segment: SegmentSeq, result: Result<(), DiskFault>) -> Result<(), WalError> {
        assert!(self.preparing, "only what was asked for is prepared");
        assert_eq!(segment, self.prepared.next(), "segments are prepared one by one");
        self.preparing = false;
        match result {
            Err(fault) if fault.is_out_of_space() => self.short = true,
            result => {
                self.latch(result)?;
                self.prepared = segment;
                self.short = false;
            }
        }
        Ok(())
    }

    /// Submits sealed chunks in order while there are slots and their segments exist.
    fn submit_sealed(&mut self) -> Result<(), WalError> {
        let before = self.next_ticket;
        while self.sealed.front().is_some_and(|chunk| self.may_submit(chunk)) {
            let chunk = self.sealed.pop_front().expect("checked");
            let Chunk { segment, offset, last, reach, .. } = chunk;
            let used = chunk.used();
            let (buffer, bytes) = chunk.finish(self.durable);
            assert!(segment <= self.prepared, "nothing is written to a segment that does not exist");
            assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "a write begins at a block, so that none tears another");
            assert!(self.in_flight.back().is_none_or(|before| before.last < last), "writes are submitted in order");
            let ticket = self.next_ticket;
            self.in_flight.push_back(Flight { ticket, last, used, bytes, reach, done: false });
            self.stats.flushes += 1;
            self.stats.bytes_written += bytes as u64;
            self.disk.write(Write { ticket, segment, offset, bytes, buffer });
            self.next_ticket += 1;
        }
        if self.next_ticket == before {
            return Ok(());
        }
        let result = self.disk.submit();
        self.latch(result)
    }

    /// Whether a slot is free, the segments are there, and the bytes in flight stay within reach: recovery looks no
    /// further than that.
    fn may_submit(&self, chunk: &Chunk) -> bool {
        if chunk.requires > self.prepared || self.in_flight.len() >= self.options.flushes_in_flight {
            return false;
        }
        let bytes = self.in_flight.iter().map(|flight| flight.bytes).sum::<usize>() + chunk.whole_bytes();
        let reach = self.in_flight.iter().map(|flight| flight.reach).fold(chunk.reach, u64::min);
        let bound = self.options.in_flight_bytes.min(reach as usize - BLOCK_BYTES);
        self.in_flight.is_empty() || bytes <= bound
    }

    /// Asks for the next segment unless enough are there, one is on its way, or the disk was full the last time.
    fn prepare_ahead(&mut self) {
        let wanted = self.active.get() + self.options.segments_ahead;
        if self.prepared.get() < wanted && !self.preparing && !self.short && self.fault.is_none() {
            self.preparing = true;
            self.disk.prepare(Self::header(self.wal_id, self.prepared.next(), &self.options));
        }
        if self.preparing && self.active > self.prepared {
            self.disk.hurry();
        }
    }

    fn header(wal: WalId, seq: SegmentSeq, options: &WalOptions) -> SegmentHeader {
        SegmentHeader { wal, seq, segment_bytes: options.segment_bytes, recycled: false, reach: options.reach() }
    }

    /// Whether writes may go on. See [`SpaceState::Short`].
    pub fn space(&self) -> SpaceState {
        if self.short { SpaceState::Short } else { SpaceState::Ok }
    }

    /// Whether the disk is full and only a quarter of a segment is left: for votes and terms, and for what frees space.
    pub fn is_nearly_exhausted(&self) -> bool {
        let left = if self.active > self.prepared { 0 } else { self.end.saturating_sub(self.position()) };
        self.short && left < self.end / 4
    }

    /// Tries again to make the next segment after the disk was full. Cheap; call it about once a second while short.
    pub fn retry_space(&mut self) {
        if std::mem::take(&mut self.short) {
            self.prepare_ahead();
            // Still short until the segment is there: the caller must not see a moment of `Ok`.
            self.short = true;
        }
    }

    /// No record below `lsn` is needed any more. Segments wholly below it are recycled as soon as that is safe.
    pub fn release_before(&mut self, lsn: Lsn) {
        self.release = self.release.max(lsn.min(self.next));
        assert!(self.release <= self.next, "what is still to come is not released");
        self.retire_released();
    }

    /// Whether a segment could go if no record below `lsn` were needed any more.
    pub fn would_release(&self, lsn: Lsn) -> bool {
        self.live.len() >= 2 && self.live[0].last < lsn
    }

    fn retire_released(&mut self) {
        while self.fault.is_none() && self.live.len() >= 2 {
            let (oldest, successor) = (self.live[0], self.live[1]);
            if oldest.last >= self.release || successor.first > self.durable {
                break;
            }
            assert!(oldest.last < successor.first, "segments are in order");
            assert!(oldest.seq < self.active, "the active segment stays");
            self.disk.retire(oldest.seq);
            self.live.pop_front();
            // A retired file is the cheapest way out of a full disk.
            self.retry_space();
        }
    }

    /// Bytes that may be appended before the caller should wait for `poll`. Advice: `append` beyond it works and costs
    /// memory. While short of space it does not count on the next segment.
    pub fn room(&self) -> usize {
        let memory = self.options.pending_bytes.saturating_sub(self.stats.pending_bytes);
        if !self.short {
            return memory;
        }
        let space = if self.active > self.prepared { 0 } else { self.end.saturating_sub(self.position()) };
        memory.min(space as usize)
    }

    /// Last record that is durable, with all before it.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Last record appended; `durable` reaches it after a flush.
    pub fn last(&self) -> Lsn {
        self.next.previous()
    }

    /// First record still in the log, if it has any.
    pub fn first(&self) -> Option<Lsn> {
        self.live.front().map(|live| live.first)
    }

    /// Identity of the log.
    pub fn wal_id(&self) -> WalId {
        self.wal_id
    }

    /// Counters.
    pub fn stats(&self) -> WalStats {
        WalStats { segments_live: self.live.len(), ..self.stats }
    }

    /// Largest payload `append` takes.
    pub fn payload_bytes_max(&self) -> usize {
        self.options.payload_bytes_max()
    }

    /// The disk, for what is particular to it (`wake_fd`).
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk, mutably.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    fn check(&self) -> Result<(), WalError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn latch(&mut self, result: Result<(), DiskFault>) -> Result<(), WalError> {
        result.map_err(|fault| self.fault.get_or_insert(WalError(fault)).clone())
    }
}
