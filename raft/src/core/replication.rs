//! Replication (3.5): appends, acknowledgements, commit.
//!
//! - *Appends are made when a `Ready` is taken*, so that all that was proposed, committed and acknowledged since the last one
//!   goes in one message to each follower, up to the bounds (10.2.2: batching and pipelining).
//! - *A follower appends behind an entry it has* and so has all before it (log matching). One that has not says which
//!   entry of its own may match (`Log::last_not_above`), with its term; the leader looks for the same in its log.
//! - *Acknowledgements are promises*: they leave when the entries are durable at the follower (3.8).
//! - *The leader does not wait for its own disk* (10.2.1): appends leave at once, and the leader counts towards a quorum only
//!   what is durable at itself. What the others hold is enough, if they are a majority.
//! - *Commit counts replicas of the leader's own term only* (3.6.2, figure 3.7): an entry of an earlier term that is on a
//!   majority can still be replaced, as long as no entry of the leader's term is behind it on a majority.
//! - *A heartbeat's commit index* does not go beyond what the follower has acknowledged: the rest of its log may not match.
//!   A follower that ends before it has lost what it acknowledged, and must not go on (`StepError::LogLost`).
//! - *Proposals are bounded by bytes that are not committed*; one that is larger than the bound passes alone.

use bytes::Bytes;

use super::{Core, Next, PeerState, Wish, quorum};
use crate::error::{ProposeError, StepError};
use crate::message::{PeerBody, PeerMessage};
use crate::types::{Entry, EntryId, EntryKind, MemberId};

impl Core {
    /// Appends as the leader.
    pub(crate) fn propose(&mut self, kind: EntryKind, data: Bytes) -> Result<(), ProposeError> {
        if !self.conf.contains(self.own()) {
            return Err(ProposeError::Removed);
        }
        if self.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let bytes = self.uncommitted_bytes + data.len();
        if self.uncommitted_bytes > 0 && !data.is_empty() && bytes as u64 > self.config.uncommitted_bytes {
            return Err(ProposeError::Overloaded);
        }
        self.append_own(kind, data);
        Ok(())
    }

    pub(super) fn append_own(&mut self, kind: EntryKind, data: Bytes) {
        assert!(self.is_leader(), "only a leader has entries of its own");
        self.uncommitted_bytes += data.len();
        self.log.append(Entry { index: self.log.last() + 1, term: self.term, kind, data });
    }

    pub(super) fn broadcast_heartbeat(&mut self) {
        for at in 0..self.tracker.peers().len() {
            self.send_heartbeat(at);
        }
    }

    /// It is time for heartbeats. An append says that the leader is alive, and its answer that the follower is: where both went
    /// since the last time, a heartbeat can be spared (if that is wanted, and no read waits for it). What a heartbeat finds
    /// besides, an append that was lost, the next one finds: there is one as soon as a time passes without appends.
    pub(super) fn broadcast_due_heartbeats(&mut self) {
        let may_save = self.saves_heartbeats && self.round_to_confirm().is_none();
        for at in 0..self.tracker.peers().len() {
            let progress = &mut self.tracker.peers_mut()[at].progress;
            let is_spared = may_save && progress.spoken && progress.answered;
            (progress.spoken, progress.answered) = (false, false);
            if !is_spared {
                self.send_heartbeat(at);
            }
        }
    }

    fn send_heartbeat(&mut self, at: usize) {
        assert!(self.is_leader(), "only a leader is heard of");
        let peer = &self.tracker.peers()[at];
        let (to, commit) = (peer.id, peer.progress.matched.min(self.log.committed()));
        let round = self.round_to_confirm();
        self.say(to, PeerBody::Heartbeat { commit, round });
    }

    /// Whether there is something to send to a follower, or to ask the shell for.
    pub(crate) fn has_appends(&self) -> bool {
        let next = |peer: &super::tracker::Peer| peer.progress.next(&self.log, &self.config);
        self.is_leader() && self.tracker.peers().iter().any(|peer| next(peer) != Next::Nothing)
    }

    /// Sends each follower what it may be sent by now.
    pub(crate) fn send_appends(&mut self) {
        if self.is_leader() {
            for at in 0..self.tracker.peers().len() {
                while self.send_next(at) {}
            }
        }
    }

    fn send_next(&mut self, at: usize) -> bool {
        let peer = &mut self.tracker.peers_mut()[at];
        let (to, progress) = (peer.id, &mut peer.progress);
        let mut entries = Vec::new();
        let bytes = match progress.next(&self.log, &self.config) {
            Next::Nothing => return false,
            Next::Entries(bytes_max) => {
                entries = self.spare_entries.pop().unwrap_or_default();
                self.log.collect(progress.next, bytes_max, &mut entries)
            }
            Next::Empty => 0,
            Next::Snapshot => {
                self.send_snapshot(at);
                return true;
            }
            Next::AskSnapshot => {
                progress.wish = Wish::Asked;
                self.snapshots_wanted.push(to);
                return false;
            }
        };
        let index = progress.next - 1;
        let prev = EntryId { index, term: self.log.term(index).expect("the log reaches back to what is sent") };
        assert!(index + entries.len() as u64 <= self.log.last(), "only what is in the log is sent");
        let commit = self.log.committed();
        progress.sent(entries.len() as u64, bytes, commit);
        let message = self.message(to, PeerBody::Append { prev, commit });
        self.send(PeerMessage { entries, ..message }, false);
        true
    }

    pub(super) fn append_asked(
        &mut self,
        from: MemberId,
        prev: EntryId,
        commit: u64,
        entries: &mut Vec<Entry>,
    ) -> Result<(), StepError> {
        let own_commit = self.log.committed();
        let acknowledge = |index, commit| PeerBody::AppendResponse { index, commit, reject: None, request_snapshot: 0 };
        if prev.index < own_commit {
            // An old one, or the leader does not know how far this log matches its own.
            self.promise(from, acknowledge(own_commit, own_commit));
            return Ok(());
        }
        if !self.log.matches(prev) {
            let hint = self.log.last_not_above(prev.index, prev.term);
            let reject = Some(hint);
            self.say(
                from,
                PeerBody::AppendResponse { index: prev.index, commit: own_commit, reject, request_snapshot: 0 },
            );
            return Ok(());
        }
        let last = prev.index + entries.len() as u64;
        if !self.log.accept(entries) {
            return Err(StepError::Malformed { from, rule: "what is committed is not replaced" });
        }
        self.log.commit_to(commit.min(last));
        assert!(
            self.log.committed() >= own_commit && self.log.last() >= last,
            "a log loses nothing that it has accepted"
        );
        self.promise(from, acknowledge(last, self.log.committed()));
        Ok(())
    }

    pub(super) fn append_answered(&mut self, from: MemberId, index: u64, reject: Option<EntryId>) {
        let Some(peer) = self.tracker.get_mut(from) else { return };
        peer.recent_active = true;
        if let Some(hint) = reject {
            let hint = if hint.term > 0 { self.log.last_not_above(hint.index, hint.term).index } else { hint.index };
            peer.refused(index, hint);
        } else if peer.acknowledged(index, &self.log) {
            assert!(peer.matched <= self.log.last(), "a follower holds no more than its leader, or it is not its log");
            self.commit_what_a_quorum_has();
            self.hand_over_if_caught_up(from);
        }
    }

    pub(super) fn heartbeat_answered(&mut self, from: MemberId, round: Option<u64>) {
        let last = self.log.last();
        if let Some(peer) = self.tracker.get_mut(from) {
            peer.alive(last);
        }
        if let Some(round) = round {
            self.round_confirmed(from, round);
        }
    }

    /// What was sent may be lost.
    pub(crate) fn out_of_reach(&mut self, member: MemberId) {
        if let Some(peer) = self.tracker.get_mut(member)
            && peer.state == PeerState::Replicate
        {
            peer.probe();
        }
    }

    /// Something became durable here or elsewhere, or the voters changed.
    pub(crate) fn commit_what_a_quorum_has(&mut self) {
        if !self.is_leader() {
            return;
        }
        let (own, log, tracker) = (self.own().0, &self.log, &self.tracker);
        let has = |id| match id == own {
            true => log.persisted(),
            false => tracker.get(MemberId(id)).map_or(0, |peer| peer.matched),
        };
        let index = quorum::reached(&self.conf, has);
        let before = self.log.committed();
        assert!(index <= self.log.last() || self.conf.is_empty(), "a quorum holds no more than its leader");
        if self.log.term(index) == Some(self.term) && self.log.commit_to(index) {
            let own_part = before.max(self.elected_at) + 1..=self.log.committed();
            let bytes = own_part.map(|index| self.log.bytes_of(index)).sum::<usize>();
            let left = self.uncommitted_bytes.checked_sub(bytes);
            self.uncommitted_bytes = left.expect("what is committed was counted when it was appended");
        }
    }

    /// Everything up to `index` is applied; an earlier index (from before a snapshot) changes nothing.
    pub(crate) fn applied_to(&mut self, index: u64) {
        if index > self.log.applied() {
            self.log.applied_to(index);
            self.leave_joint_if_due();
            self.trim();
        }
    }
}
