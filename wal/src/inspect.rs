//! Looking at a log without opening it: what is in it, and whether it is sound. Changes nothing.
//!
//! Looks deeper than opening does: also for records behind a hole that no crash and no single damage explains.
//!
//! For the offline tool; works on a [`Directory`](crate::Directory) or a simulated disk. The caller makes sure that
//! no server has the log open. Deliberately absent: printing.

use std::collections::BTreeMap;

use crate::disk::Segments;
use crate::error::{DiskFault, OpenError};
use crate::recovery::{self, RecoveryReport, SegmentScan};
use crate::scan::Depth;
use crate::types::{GroupId, Lsn, Record, RecordKind, SegmentSeq};

/// Records of one group and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindSummary {
    pub records: u64,
    /// Their payloads together.
    pub payload_bytes: u64,
    pub first: Lsn,
    pub last: Lsn,
}

/// A log as it lies there.
#[derive(Debug)]
pub struct Inspection {
    /// Segment files and their sizes.
    pub files: Vec<(SegmentSeq, u64)>,
    /// What was read of each segment, up to where reading had to stop.
    pub segments: Vec<SegmentScan>,
    /// What was read, by owner and kind.
    pub contents: BTreeMap<(GroupId, RecordKind), KindSummary>,
    /// How the log ends, or why it would be refused. "segment 1 missing" also stands for a folder without a log.
    pub outcome: Result<RecoveryReport, OpenError>,
}

/// Reads the whole log and sums it up.
pub fn inspect(store: &mut (impl Segments + ?Sized)) -> Result<Inspection, DiskFault> {
    let mut files = Vec::new();
    for seq in store.list()? {
        files.push((seq, store.size(seq)?));
    }
    let mut contents = BTreeMap::new();
    let mut segments = Vec::new();
    let scan =
        recovery::scan(store, Depth::Whole, &mut |record: Record<'_>| sum_up(&mut contents, record), &mut segments);
    Ok(Inspection { files, segments, contents, outcome: scan.map(|scan| scan.report()) })
}

fn sum_up(contents: &mut BTreeMap<(GroupId, RecordKind), KindSummary>, record: Record<'_>) {
    let lsn = record.lsn;
    let empty = KindSummary { records: 0, payload_bytes: 0, first: lsn, last: lsn };
    let summary = contents.entry((record.group, record.kind)).or_insert(empty);
    summary.records += 1;
    summary.payload_bytes += record.payload.len() as u64;
    summary.last = lsn;
}

/// Whether the log would open, and how it ends.
pub fn verify(store: &mut (impl Segments + ?Sized)) -> Result<RecoveryReport, OpenError> {
    dump(store, &mut |_| {})
}

/// Hands each record to `visit`, in order, up to the end or to where the log would be refused.
pub fn dump(
    store: &mut (impl Segments + ?Sized),
    visit: &mut dyn FnMut(Record<'_>),
) -> Result<RecoveryReport, OpenError> {
    recovery::scan(store, Depth::Whole, &mut |record: Record<'_>| visit(record), &mut Vec::new())
        .map(|scan| scan.report())
}
