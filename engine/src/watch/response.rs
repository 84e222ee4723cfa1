//! Encoding of `WatchResponse`, all but the event records, which the store has encoded already.

use plinth_api::wire::{put_varint, varint_len};

const TAG_HEADER: u8 = 0x0a;
const TAG_WATCH_ID: u8 = 0x10;
const TAG_CREATED: u8 = 0x18;
const TAG_CANCELED: u8 = 0x20;
const TAG_COMPACT_REVISION: u8 = 0x28;
const TAG_CANCEL_REASON: u8 = 0x32;
const TAG_FRAGMENT: u8 = 0x38;

/// Watch id of rejected creates and of progress that covers a whole stream.
pub const INVALID_WATCH_ID: i64 = -1;

/// The values of a `ResponseHeader` that do not depend on the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeaderIds {
    pub cluster_id: u64,
    pub member_id: u64,
    pub raft_term: u64,
}

/// An encoded header field, kept between messages: most messages in a row carry the same one.
#[derive(Debug, Default)]
pub(super) struct HeaderCache {
    ids: HeaderIds,
    revision: i64,
    field: Vec<u8>,
}

impl HeaderCache {
    pub(super) fn get(&mut self, ids: HeaderIds, revision: i64) -> &[u8] {
        if self.field.is_empty() || (self.ids, self.revision) != (ids, revision) {
            (self.ids, self.revision) = (ids, revision);
            self.field.clear();
            let mut body = Vec::with_capacity(48);
            for (tag, value) in
                [(0x08, ids.cluster_id), (0x10, ids.member_id), (0x18, revision as u64), (0x20, ids.raft_term)]
            {
                put_nonzero(&mut body, tag, value);
            }
            self.field.push(TAG_HEADER);
            put_varint(&mut self.field, body.len() as u64);
            self.field.extend_from_slice(&body);
        }
        &self.field
    }
}

/// A response without events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Control {
    Created {
        watch_id: i64,
        revision: i64,
    },
    /// The create was refused; there is no watcher.
    Rejected {
        reason: Box<str>,
        revision: i64,
    },
    /// Answer to a cancel request.
    Canceled {
        watch_id: i64,
        revision: i64,
    },
    /// The watcher's next events are gone.
    Compacted {
        watch_id: i64,
        compact_revision: i64,
    },
    Progress {
        watch_id: i64,
        revision: i64,
    },
}

impl Control {
    pub(super) fn encode(&self, header: &mut HeaderCache, ids: HeaderIds, out: &mut Vec<u8>) {
        let (revision, id) = match *self {
            Control::Created { watch_id, revision }
            | Control::Canceled { watch_id, revision }
            | Control::Progress { watch_id, revision } => (revision, watch_id),
            Control::Rejected { revision, .. } => (revision, INVALID_WATCH_ID),
            Control::Compacted { watch_id, .. } => (0, watch_id),
        };
        out.extend_from_slice(header.get(ids, revision));
        put_nonzero(out, TAG_WATCH_ID, id as u64);
        match self {
            Control::Created { .. } => out.extend_from_slice(&[TAG_CREATED, 1]),
            Control::Rejected { reason, .. } => {
                out.extend_from_slice(&[TAG_CREATED, 1, TAG_CANCELED, 1, TAG_CANCEL_REASON]);
                put_varint(out, reason.len() as u64);
                out.extend_from_slice(reason.as_bytes());
            }
            Control::Canceled { .. } => out.extend_from_slice(&[TAG_CANCELED, 1]),
            Control::Compacted { compact_revision, .. } => {
                out.extend_from_slice(&[TAG_CANCELED, 1]);
                put_nonzero(out, TAG_COMPACT_REVISION, *compact_revision as u64);
            }
            Control::Progress { .. } => {}
        }
    }

    /// Memory held beyond the queue's own slot.
    pub(super) fn heap_bytes(&self) -> usize {
        if let Control::Rejected { reason, .. } = self { reason.len() } else { 0 }
    }
}

/// Writes what stands in front of the events of a message.
pub(super) fn put_event_prefix(header: &[u8], watch_id: i64, fragment: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(header);
    put_nonzero(out, TAG_WATCH_ID, watch_id as u64);
    if fragment {
        out.extend_from_slice(&[TAG_FRAGMENT, 1]);
    }
}

/// Length of [`put_event_prefix`] for a fragment.
pub(super) fn fragment_prefix_len(header: &[u8], watch_id: i64) -> usize {
    header.len() + 2 + if watch_id == 0 { 0 } else { 1 + varint_len(watch_id as u64) }
}

fn put_nonzero(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value);
    }
}
