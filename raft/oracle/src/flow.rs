//! Flow control by bytes: what a leader has sent to a follower and not heard back about.
//!
//! raft-rs limits appends in flight by number. Beyond the limit by bytes an append is parked here, in order, and leaves when
//! an acknowledgement makes room. To raft-rs a parked message is one that takes long; to park is always allowed, and to
//! forget is no worse than a lost message.
//!
//! Invariants: an append overtakes no earlier one to the same follower; a message larger than the limit leaves when nothing
//! else is in flight; parked messages are no more than raft-rs allows in flight. Everything is forgotten when leadership
//! moves, and for one follower when it refuses an append or is out of reach (raft-rs then probes anew).
//!
//! Not here: heartbeats and votes, which are never held back.

use std::collections::{BTreeMap, VecDeque};

use crate::message::{PeerBody, PeerMessage};
use crate::types::MemberId;

#[derive(Debug, Default)]
struct PeerFlow {
    /// Last index and bytes of each append under way, oldest first.
    in_flight: VecDeque<(u64, usize)>,
    bytes: usize,
    parked: VecDeque<PeerMessage>,
}

#[derive(Debug)]
pub(crate) struct Flow {
    limit: usize,
    peers: BTreeMap<MemberId, PeerFlow>,
}

impl Flow {
    pub(crate) fn new(limit: usize) -> Flow {
        Flow { limit, peers: BTreeMap::new() }
    }

    /// Passes a message on, or parks it.
    pub(crate) fn send(&mut self, message: PeerMessage) -> Option<PeerMessage> {
        if !matches!(message.body, PeerBody::Append { .. }) {
            return Some(message);
        }
        let peer = self.peers.entry(message.to).or_default();
        if !peer.parked.is_empty() || !peer.fits(&message, self.limit) {
            peer.parked.push_back(message);
            return None;
        }
        peer.note(&message);
        Some(message)
    }

    /// The follower has everything up to `index`: parked messages may leave, into `out`.
    pub(crate) fn acknowledged(&mut self, from: MemberId, index: u64, out: &mut Vec<PeerMessage>) {
        let limit = self.limit;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        while peer.in_flight.front().is_some_and(|(last, _)| *last <= index) {
            peer.forget_first();
        }
        peer.release(limit, out);
    }

    /// The follower lives, but says nothing of what was sent. If that blocks the way, the oldest append counts as lost.
    pub(crate) fn alive(&mut self, from: MemberId, out: &mut Vec<PeerMessage>) {
        let limit = self.limit;
        if let Some(peer) = self.peers.get_mut(&from).filter(|peer| !peer.parked.is_empty()) {
            peer.forget_first();
            peer.release(limit, out);
        }
    }

    /// Forgets one follower.
    pub(crate) fn reset(&mut self, member: MemberId) {
        self.peers.remove(&member);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.peers.clear();
    }

    /// Bytes in flight and messages parked.
    pub(crate) fn figures(&self, member: MemberId) -> (usize, usize) {
        self.peers.get(&member).map_or((0, 0), |peer| (peer.bytes, peer.parked.len()))
    }
}

impl PeerFlow {
    fn fits(&self, message: &PeerMessage, limit: usize) -> bool {
        let bytes = message.entry_bytes();
        bytes == 0 || self.bytes == 0 || self.bytes + bytes <= limit
    }

    fn note(&mut self, message: &PeerMessage) {
        if let Some(last) = message.entries.last() {
            let bytes = message.entry_bytes();
            self.in_flight.push_back((last.index, bytes));
            self.bytes += bytes;
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, bytes)) = self.in_flight.pop_front() {
            self.bytes -= bytes;
        }
    }

    fn release(&mut self, limit: usize, out: &mut Vec<PeerMessage>) {
        while let Some(message) = self.parked.front()
            && self.fits(message, limit)
        {
            let message = self.parked.pop_front().expect("there is a front");
            self.note(&message);
            out.push(message);
        }
    }
}
