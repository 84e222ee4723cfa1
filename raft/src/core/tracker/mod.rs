//! The leader's picture of the others: one [`Progress`] for each member of the configuration but itself.
//!
//! Invariant: exactly the other members of the configuration are in it, in the order of their ids.

mod inflight;
mod progress;

pub use progress::PeerState;
pub(crate) use progress::{Next, Progress, Wish};

use crate::conf::ConfState;
use crate::types::MemberId;

/// Another member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: MemberId,
    pub(crate) progress: Progress,
}

#[derive(Debug, Default)]
pub(crate) struct Tracker {
    peers: Vec<Peer>,
}

impl Tracker {
    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(crate) fn peers_mut(&mut self) -> &mut [Peer] {
        &mut self.peers
    }

    fn place(&self, id: MemberId) -> Result<usize, usize> {
        self.peers.binary_search_by_key(&id, |peer| peer.id)
    }

    pub(crate) fn get(&self, id: MemberId) -> Option<&Progress> {
        self.place(id).ok().map(|at| &self.peers[at].progress)
    }

    pub(crate) fn get_mut(&mut self, id: MemberId) -> Option<&mut Progress> {
        self.place(id).ok().map(|at| &mut self.peers[at].progress)
    }

    /// Follows the configuration: newcomers begin at the end of the log, `last`; who left is forgotten.
    pub(crate) fn follow(&mut self, conf: &ConfState, own: MemberId, last: u64) {
        self.peers.retain(|peer| conf.contains(peer.id));
        for id in conf.members() {
            if id != own
                && let Err(at) = self.place(id)
            {
                self.peers.insert(at, Peer { id, progress: Progress::added(last) });
            }
        }
        assert!(self.peers.is_sorted_by(|a, b| a.id < b.id), "each of the others is there once, in order");
        assert!(self.get(own).is_none(), "a member does not replicate to itself");
    }

    /// A new leader knows nothing of anybody.
    pub(crate) fn reset(&mut self, last: u64) {
        self.peers.iter_mut().for_each(|peer| peer.progress.reset(last));
    }

    /// Forgets what the shell was asked for and what it offered: whoever leads next, and be it this member again, must not
    /// announce a snapshot that may be gone by then.
    pub(crate) fn withdraw_all(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.progress.wish = Wish::None);
    }
}
