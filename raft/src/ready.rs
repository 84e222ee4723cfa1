//! What a group wants done.

use crate::message::{PeerMessage, SnapshotMeta};
use crate::types::{Entry, HardState, MemberId, ReadState, RoleChange};

/// Work for the shell, in the order it matters. See [`crate::group`] for the duties.
#[derive(Debug, Default)]
#[must_use]
pub struct Ready {
    /// Names it in [`crate::Group::on_persisted`]; grows by one.
    pub number: u64,
    /// Install this snapshot (its bytes came with the message) before anything else of this `Ready`.
    pub snapshot: Option<SnapshotMeta>,
    /// To be made durable.
    pub hard_state: Option<HardState>,
    /// To be appended to the log and made durable; may replace entries of the same index.
    pub entries: Vec<Entry>,
    /// To be sent at once.
    pub messages: Vec<PeerMessage>,
    /// To be sent once this `Ready` and all before it are durable.
    pub persisted_messages: Vec<PeerMessage>,
    /// Committed: to be applied, in order. They are durable here already.
    pub committed: Vec<Entry>,
    /// Reads that may be served once their index is applied.
    pub read_states: Vec<ReadState>,
    /// Tokens of reads that will not be answered, because leadership moved or too many wait.
    pub failed_reads: Vec<u64>,
    /// Followers that need a snapshot: pin one and call [`crate::Group::provide_snapshot`].
    pub snapshot_requests: Vec<MemberId>,
    /// Leadership as seen from here, when it changed.
    pub role: Option<RoleChange>,
}

impl Ready {
    /// Whether something must become durable before [`crate::Group::on_persisted`] may be called for it.
    pub fn must_persist(&self) -> bool {
        self.snapshot.is_some() || self.hard_state.is_some() || !self.entries.is_empty()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        !self.must_persist()
            && self.messages.is_empty()
            && self.persisted_messages.is_empty()
            && self.committed.is_empty()
            && self.read_states.is_empty()
            && self.failed_reads.is_empty()
            && self.snapshot_requests.is_empty()
            && self.role.is_none()
    }

    /// Empties it; buffers stay, for [`crate::Group::ready_into`].
    pub fn clear(&mut self) {
        (self.number, self.snapshot, self.hard_state, self.role) = (0, None, None, None);
        self.entries.clear();
        self.messages.clear();
        self.persisted_messages.clear();
        self.committed.clear();
        self.read_states.clear();
        self.failed_reads.clear();
        self.snapshot_requests.clear();
    }
}
