//! Handing leadership over (3.10): on request, when the leader's disk stalls, and when it does not vote any more.
//!
//! - The leader takes no proposals, brings the target's log up to its own, and tells it to campaign at once. The others vote
//!   for it although they hear from a leader, since the leader asked for it.
//! - It is over after an election time: then the leader goes on.
//! - Who does not vote cannot lead, and is refused.
//! - *A leader whose disk does not answer* for an election time gives leadership to the live follower that has most of the log.
//!   Its heartbeats do not need the disk, so that nobody else would notice (the check of the quorum sees only the others).
//! - *A leader that was removed* tells the others what is committed, the best of them to campaign, and steps down (4.2.2).

use super::{Core, PeerState};
use crate::error::TransferError;
use crate::message::PeerBody;
use crate::types::MemberId;

impl Core {
    pub(crate) fn transfer_leader(&mut self, target: MemberId) -> Result<(), TransferError> {
        if !self.is_leader() {
            return Err(TransferError::NotLeader);
        }
        if !self.conf.voters.contains(&target.0) {
            return Err(TransferError::NotVoter { target });
        }
        if target == self.own() {
            self.transfer = None;
        } else if self.transfer != Some(target) {
            (self.transfer, self.election_elapsed) = (Some(target), 0);
            if let Some(peer) = self.tracker.get_mut(target) {
                peer.ping = peer.matched < self.log.last() && peer.state != PeerState::Snapshot;
            }
            self.hand_over_if_caught_up(target);
        }
        Ok(())
    }

    /// The target has something more of the log.
    pub(super) fn hand_over_if_caught_up(&mut self, from: MemberId) {
        let has_all = |core: &Core| core.tracker.get(from).is_some_and(|peer| peer.matched == core.log.last());
        if self.transfer == Some(from) && has_all(self) {
            assert!(self.is_leader() && from != self.own(), "a leader hands over, and to another");
            self.say(from, PeerBody::TimeoutNow);
        }
    }

    pub(super) fn leave_leadership_if_stalled(&mut self) {
        let oldest = self.log.flights().front().map_or(self.ticks, |flight| flight.since);
        if self.ticks - oldest >= self.config.election_ticks as u64 {
            self.leave_leadership(|_| false);
        }
    }

    /// This member should not lead, whatever its own disk says; who is known to be alive need not have been heard from in
    /// this group.
    pub(crate) fn leave_leadership(&mut self, is_alive: impl Fn(MemberId) -> bool) {
        if self.is_leader()
            && self.transfer.is_none()
            && let Some(target) = self.best_follower(is_alive)
        {
            // It votes and is not this member: it is not refused.
            let _ = self.transfer_leader(target);
        }
    }

    pub(super) fn abdicate_if_removed(&mut self) {
        if self.conf.is_voter(self.own()) {
            return;
        }
        assert!(self.is_leader(), "only a leader has leadership to give up");
        let target = self.best_follower(|_| false);
        self.send_appends();
        self.broadcast_heartbeat();
        if let Some(target) = target {
            self.say(target, PeerBody::TimeoutNow);
        }
        self.become_follower(self.term, None);
    }

    /// The live voter that has most of the log.
    fn best_follower(&self, is_alive: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        let votes = |id: MemberId| self.conf.voters.contains(&id.0) && id != self.own();
        let live = self.peers().filter(|(id, peer)| {
            votes(*id) && (peer.recent_active || is_alive(*id)) && peer.state == PeerState::Replicate
        });
        let best = live.max_by_key(|(id, peer)| (peer.matched, std::cmp::Reverse(*id))).map(|(id, _)| id);
        assert!(best.is_none_or(|best| self.conf.is_voter(best)), "who does not vote cannot lead");
        best
    }
}
