//! Makes a refused log open again by dropping everything from the damage on. Loses acknowledged records: for an
//! operator who has no better copy, never done by itself.
//!
//! Invariants: nothing is destroyed: each file is copied or renamed to `*.damaged` first; each step is durable before
//! the next, highest segment first, so that a repair cut short is simply run again. Deliberately absent: asking, and
//! printing.

use crate::disk::RepairStore;
use crate::error::{DiskFault, OpenError};
use crate::format::SegmentHeader;
use crate::limits::SEGMENT_HEADER_BYTES;
use crate::recovery::{self, EraseRange, RecoveryReport};
use crate::scan::Depth;
use crate::types::{Record, SegmentSeq};

/// One step of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// Take the segment out of the log, keeping its file.
    SetAside(SegmentSeq),
    /// Copy the segment's file before it is changed.
    Copy(SegmentSeq),
    /// Overwrite with zeros.
    Erase(EraseRange),
    /// Put an empty segment where the log goes on.
    Make(SegmentHeader),
}

/// What is wrong, and what would be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairPlan {
    pub problem: OpenError,
    /// What to do, in order.
    pub steps: Vec<RepairStep>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// Each problem met, with the steps taken; a log may have several.
    pub plans: Vec<RepairPlan>,
    /// Names of the files that hold what was dropped.
    pub kept: Vec<String>,
    /// How the log ends now; nothing if no segment is left: the next open begins a new log.
    pub outcome: Option<RecoveryReport>,
}

/// Why a repair was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Not something to be repaired by dropping records.
    #[error("not repairable: {0}")]
    Refused(OpenError),
    /// Reading or writing failed.
    #[error("repair write-ahead log: {0}")]
    Disk(#[from] DiskFault),
}

/// What a repair would begin with; nothing if the log is sound or empty.
pub fn plan(store: &mut (impl RepairStore + ?Sized)) -> Result<Option<RepairPlan>, RepairError> {
    let listed = store.list()?;
    if listed.is_empty() {
        return Ok(None);
    }
    let Err(problem) = recovery::scan(store, Depth::Whole, &mut |_: Record<'_>| {}, &mut Vec::new()) else {
        return Ok(None);
    };
    // Where the log is cut: segments from here on go.
    let (from, erase) = match &problem {
        OpenError::Corrupt { segment, offset, .. } => {
            let range = EraseRange { segment: *segment, from: *offset, to: store.size(*segment)? };
            (segment.next(), Some(range))
        }
        OpenError::Head { .. } => (listed[0], None),
        OpenError::Missing { segment }
        | OpenError::Header { segment, .. }
        | OpenError::Renamed { segment, .. }
        | OpenError::Size { segment, .. }
        | OpenError::Foreign { segment, .. } => (*segment, None),
        OpenError::Disk(fault) => return Err(fault.clone().into()),
        OpenError::Options(_) | OpenError::UnknownKind { .. } => return Err(RepairError::Refused(problem)),
    };
    let mut steps: Vec<_> = listed.iter().rev().filter(|seq| **seq >= from).map(|s| RepairStep::SetAside(*s)).collect();
    match (erase, listed.iter().rev().find(|seq| **seq < from)) {
        (Some(range), _) => steps.extend([RepairStep::Copy(range.segment), RepairStep::Erase(range)]),
        // The segment before may be sealed: its successor must exist.
        (None, Some(last)) => steps.push(RepairStep::Make(successor(store, *last)?)),
        (None, None) => {}
    }
    Ok(Some(RepairPlan { problem, steps }))
}

/// Header of an empty segment behind `last`, whose own header is sound: problems are met from the lowest segment up.
fn successor(store: &mut (impl RepairStore + ?Sized), last: SegmentSeq) -> Result<SegmentHeader, RepairError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    store.read(last, 0, &mut bytes)?;
    let header = SegmentHeader::decode(&bytes)
        .map_err(|cause| RepairError::Refused(OpenError::Header { segment: last, cause }))?;
    Ok(SegmentHeader { seq: last.next(), recycled: false, ..header })
}

/// Repairs the log until it opens.
pub fn repair(store: &mut (impl RepairStore + ?Sized)) -> Result<RepairReport, RepairError> {
    let (mut plans, mut kept) = (Vec::new(), Vec::new());
    while let Some(plan) = plan(store)? {
        assert!(!plans.contains(&plan), "each repair moves the damage towards the start: {plan:?}");
        for step in &plan.steps {
            match *step {
                RepairStep::SetAside(seq) => kept.push(store.set_aside(seq)?),
                RepairStep::Copy(seq) => kept.push(store.copy_aside(seq)?),
                RepairStep::Erase(EraseRange { segment, from, to }) => store.zero(segment, from, to)?,
                RepairStep::Make(header) => store.make(header)?,
            }
        }
        plans.push(plan);
    }
    let outcome = if store.list()?.is_empty() {
        None
    } else {
        recovery::scan(store, Depth::Whole, &mut |_: Record<'_>| {}, &mut Vec::new()).ok()
    };
    Ok(RepairReport { plans, kept, outcome: outcome.map(|scan| scan.report()) })
}
