//! What the leader knows of one follower, and what it sends next (Raft dissertation, 3.5 and 10.2.2).
//!
//! ```text
//!            acknowledged                       entries are gone, snapshot sent
//!   probe ----------------> replicate      probe, replicate ----------------------> snapshot
//!   probe <---------------- replicate      probe <---------- given up, or arrived -- snapshot
//!            refused, out of reach          replicate <------- acknowledged --------- snapshot
//! ```
//!
//! - *Probe*: it is not known where the logs match. One append at a time; the next when it was answered, or with the next
//!   answer to a heartbeat (the append may have been lost).
//! - *Replicate*: `next` runs ahead of what is acknowledged, within the in-flight bounds.
//! - *Snapshot*: a snapshot travels; nothing else is sent.
//!
//! Invariants: `matched < next`; what is `matched` is durable at the follower and never decreases within a term: a refusal
//! at or below it is older than the acknowledgement and is ignored.
//!
//! Lost appends: each answer to a heartbeat asks for an append, if the follower lacks anything, and be it an empty one
//! behind `next`. The follower refuses it when something before it was lost, also when the in-flight bounds are full of
//! appends that were all lost (etcd's raft stalled there once; it freed a slot instead, which sends blindly).

use super::inflight::Inflight;
use crate::config::GroupConfig;
use crate::core::log::Log;
use crate::message::SnapshotMeta;

/// How the leader replicates to a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerState {
    /// One message at a time, to find where the logs match.
    #[default]
    Probe,
    /// Optimistically, up to the in-flight limits.
    Replicate,
    /// Waiting until a snapshot is installed.
    Snapshot,
}

/// How far the shell is with a snapshot for this follower.
#[derive(Debug, Default)]
pub(crate) enum Wish {
    /// None is needed.
    #[default]
    None,
    /// The shell has been asked and has not answered.
    Asked,
    /// Pinned; announced when the follower is next sent something.
    Offered(SnapshotMeta),
}

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// Entries of at most so many bytes, but at least one.
    Entries(usize),
    /// An append without entries: a question, or the commit index.
    Empty,
    /// The snapshot that is offered.
    Snapshot,
    /// Nothing, but the shell must be asked for a snapshot.
    AskSnapshot,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) state: PeerState,
    /// Last entry known to be durable there.
    pub(crate) matched: u64,
    pub(crate) next: u64,
    /// Probing, and an append is under way.
    pub(crate) paused: bool,
    /// An append is wanted even if it is empty.
    pub(crate) ping: bool,
    /// The highest commit index an append has carried there.
    pub(crate) told_commit: u64,
    /// Last entry of the snapshot that travels.
    pub(crate) pending_snapshot: u64,
    pub(crate) wish: Wish,
    /// Heard from since the last check of the quorum.
    pub(crate) recent_active: bool,
    /// Since the last heartbeat was due: an append was sent, and one was acknowledged.
    pub(crate) spoken: bool,
    pub(crate) answered: bool,
    pub(crate) inflight: Inflight,
}

impl Progress {
    /// A member that joins the configuration. It counts as active for a first time, or adding one could depose the leader.
    pub(crate) fn added(last: u64) -> Progress {
        Progress { next: last.max(1), recent_active: true, ..Progress::default() }
    }

    /// What a new leader knows: nothing. It begins with what it appends next.
    pub(crate) fn reset(&mut self, last: u64) {
        (self.matched, self.told_commit, self.recent_active, self.wish) = (0, 0, false, Wish::None);
        self.enter(PeerState::Probe, last + 1);
    }

    fn enter(&mut self, state: PeerState, next: u64) {
        assert!(next > self.matched, "what is known to be there is not sent again");
        (self.state, self.next) = (state, next);
        (self.paused, self.ping, self.pending_snapshot) = (false, false, 0);
        self.inflight.clear();
    }

    /// Begins again behind what is known to match.
    pub(crate) fn probe(&mut self) {
        self.enter(PeerState::Probe, self.matched + 1);
        self.told_commit = 0;
    }

    pub(crate) fn replicate(&mut self) {
        self.enter(PeerState::Replicate, self.matched + 1);
    }

    /// The snapshot that ends with `index` was announced.
    pub(crate) fn snapshot_sent(&mut self, index: u64) {
        assert!(index > self.matched, "a snapshot brings a follower further");
        self.enter(PeerState::Snapshot, self.next);
        (self.pending_snapshot, self.wish) = (index, Wish::None);
    }

    /// The follower has what the log needs to go on: what it acknowledges, or the snapshot as the shell reports. Nothing is
    /// sent before it says so itself, or answers a heartbeat.
    pub(crate) fn snapshot_over(&mut self, arrived: bool) {
        let reached = if arrived { self.matched.max(self.pending_snapshot) } else { self.matched };
        self.enter(PeerState::Probe, reached + 1);
        (self.paused, self.told_commit) = (true, 0);
    }

    /// Everything up to `index` is durable there. Whether that is news.
    pub(crate) fn acknowledged(&mut self, index: u64, log: &Log) -> bool {
        self.answered = true;
        let is_news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched + 1);
        assert!(self.matched < self.next, "what is known to be there is not sent again");
        match self.state {
            PeerState::Probe if index == self.matched => self.replicate(),
            PeerState::Replicate => self.inflight.free_to(index),
            // Not only when the snapshot is installed: an acknowledgement from before it was sent may show that the log
            // reaches back far enough after all.
            PeerState::Snapshot if self.matched + 1 >= log.first() => self.replicate(),
            PeerState::Probe | PeerState::Snapshot => {}
        }
        is_news
    }

    /// An append behind `refused` did not fit; `hint` may. Answers to appends that are no longer the last word are ignored.
    pub(crate) fn refused(&mut self, refused: u64, hint: u64) {
        match self.state {
            PeerState::Replicate if refused > self.matched => {
                self.probe();
                self.ping = true;
            }
            PeerState::Probe if refused > self.matched && self.next - 1 == refused => {
                self.next = refused.min(hint.saturating_add(1)).max(self.matched + 1);
                (self.paused, self.ping) = (false, true);
                assert!(self.next > self.matched, "what is known to be there is not sent again");
            }
            _ => {}
        }
    }

    /// It answered a heartbeat: what was sent may have been lost.
    pub(crate) fn alive(&mut self, last: u64) {
        self.recent_active = true;
        self.paused = false;
        self.ping |= self.matched < last && self.state != PeerState::Snapshot;
    }

    /// What to send next.
    pub(crate) fn next(&self, log: &Log, config: &GroupConfig) -> Next {
        if self.state == PeerState::Snapshot || (self.state == PeerState::Probe && self.paused) {
            return Next::Nothing;
        }
        if self.next <= log.base().index {
            return match &self.wish {
                Wish::Offered(meta) if meta.id.index >= log.base().index => Next::Snapshot,
                // Not for one that may be gone: a pinned snapshot costs space.
                Wish::Offered(_) | Wish::None
                    if self.recent_active && (self.ping || self.state == PeerState::Probe) =>
                {
                    Next::AskSnapshot
                }
                _ => Next::Nothing,
            };
        }
        if self.next <= log.last() {
            let room = match self.state {
                PeerState::Replicate => self.inflight.room(config.in_flight_messages, config.in_flight_bytes),
                _ => Some(usize::MAX),
            };
            if let Some(room) = room
                && (room == usize::MAX || log.bytes_of(self.next) <= room)
            {
                return Next::Entries(room.min(usize::try_from(config.append_bytes).unwrap_or(usize::MAX)));
            }
        }
        if self.ping || self.told_commit < log.committed() { Next::Empty } else { Next::Nothing }
    }

    /// An append behind `next - 1` with `entries` entries of so many bytes leaves.
    pub(crate) fn sent(&mut self, entries: u64, bytes: usize, commit: u64) {
        assert!(self.state != PeerState::Snapshot, "nothing is sent while a snapshot travels");
        (self.ping, self.told_commit) = (false, commit);
        self.spoken = true;
        match self.state {
            PeerState::Replicate if entries > 0 => {
                self.next += entries;
                assert!(self.next > self.matched + 1, "what is known to be there is not sent again");
                self.inflight.push(self.next - 1, bytes);
            }
            PeerState::Replicate => {}
            _ => self.paused = true,
        }
    }
}
