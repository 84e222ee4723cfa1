//! Followers that need more than the log has (Raft dissertation, chapter 5).
//!
//! Snapshots travel by reference: the leader asks its shell to pin one, the shell offers what it has pinned, and the message
//! names it; the bytes go beside it. When they have arrived, the follower takes the snapshot over and its log begins anew
//! behind it (5.1, InstallSnapshot). The entry it ends with is committed, so nothing that was acknowledged is lost with the old
//! log, and all that the old log had beyond it the leader sends again.
//!
//! - *A snapshot is asked for once* for each follower, and not for one that has not been heard from lately.
//! - *What follows an offered snapshot is kept* in the leader's log until the follower has it (`Log::trim`), within bounds that
//!   the shell can watch: a follower that installs one does not find that it needs the next.
//! - *It may be announced again* as long as it travels: whoever copies it already ignores that, and a follower that went down
//!   in the middle begins anew at once.
//! - *A snapshot the log already has the end of* only moves the commit index (log matching, 3.5).
//! - *An older one* is answered with what is committed: the leader goes on from there.
//! - *Who is not in its configuration* does not take it: a member counts on being among the members it knows (a configuration
//!   is used as soon as it is in the log, 4.1, and a snapshot stands for the log).

use super::{Core, PeerState, Wish};
use crate::message::{PeerBody, SnapshotMeta};
use crate::types::MemberId;

impl Core {
    /// A snapshot that the shell has pinned. Nothing happens if this member does not lead any more.
    pub(crate) fn offer_snapshot(&mut self, to: MemberId, meta: SnapshotMeta) {
        self.snapshots_wanted.retain(|wanted| *wanted != to);
        if self.is_leader()
            && let Some(peer) = self.tracker.get_mut(to)
        {
            peer.wish = Wish::Offered(meta);
        }
    }

    /// Whether a snapshot arrived, or could not be sent or even made.
    pub(crate) fn snapshot_reported(&mut self, to: MemberId, arrived: bool) {
        self.snapshots_wanted.retain(|wanted| *wanted != to);
        if let Some(peer) = self.tracker.get_mut(to) {
            peer.wish = Wish::None;
            if peer.state == PeerState::Snapshot {
                peer.snapshot_over(arrived);
            } else if !arrived && peer.next <= self.log.base().index {
                // There is none to be had now. The next answer to a heartbeat asks again.
                peer.probe();
                peer.paused = true;
            }
        }
    }

    pub(super) fn send_snapshot(&mut self, at: usize) {
        let peer = &mut self.tracker.peers_mut()[at];
        let to = peer.id;
        let Wish::Offered(meta) = std::mem::take(&mut peer.progress.wish) else {
            unreachable!("a snapshot is offered")
        };
        assert!(meta.id.index >= self.log.base().index, "behind a snapshot there is a log to go on with");
        peer.progress.snapshot_sent(meta.id.index);
        self.say(to, PeerBody::Snapshot(meta));
    }

    /// The announcement of a snapshot that travels may have been lost, or been forgotten by a follower that went down.
    pub(crate) fn announce_again(&mut self, to: MemberId, meta: SnapshotMeta) {
        let travels =
            |peer: &super::Progress| peer.state == PeerState::Snapshot && peer.pending_snapshot == meta.id.index;
        if self.is_leader() && self.tracker.get(to).is_some_and(travels) {
            self.say(to, PeerBody::Snapshot(meta));
        }
    }

    /// Followers to ask the shell a snapshot for.
    pub(crate) fn take_snapshots_wanted(&mut self) -> Vec<MemberId> {
        std::mem::take(&mut self.snapshots_wanted)
    }

    /// A snapshot whose bytes are here.
    pub(super) fn snapshot_asked(&mut self, from: MemberId, meta: SnapshotMeta) {
        let id = meta.id;
        if id.index > self.log.committed() && meta.conf.contains(self.own()) {
            if self.log.matches(id) {
                self.log.commit_to(id.index);
            } else {
                let conf = meta.conf.clone();
                self.log.restore(meta);
                self.set_conf(conf);
            }
            assert!(self.log.committed() >= id.index, "what a snapshot holds is committed");
        }
        let index = self.log.committed();
        self.promise(from, PeerBody::AppendResponse { index, commit: 0, reject: None, request_snapshot: 0 });
    }

    /// Drops what no follower will ask for any more, within bounds.
    ///
    /// What follows a travelling snapshot is kept, and also what a follower that is there has yet to get: it may just have
    /// installed one, and would need the next if the log went on faster than it came.
    pub(super) fn trim(&mut self) {
        let first = self.log.first();
        let has = |peer: &super::tracker::Peer| {
            let progress = &peer.progress;
            let has = match progress.state {
                PeerState::Snapshot => return Some(progress.pending_snapshot),
                PeerState::Probe => progress.next - 1,
                PeerState::Replicate => progress.matched,
            };
            (progress.recent_active && has + 1 >= first).then_some(has)
        };
        let peers = self.tracker.peers();
        let keep = if self.is_leader() { peers.iter().filter_map(has).min() } else { None };
        self.log.trim(!peers.is_empty(), keep);
    }
}
