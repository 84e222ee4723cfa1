//! Leadership given to another member, on purpose: to whom, and when it is done or there is nothing more to wait for.

use crate::member::Member;
use plinth_engine::trees::Trees;
use plinth_raft::error::TransferError;
use plinth_raft::{MemberId, PeerState};

/// Why leadership is not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandoverError {
    /// This member does not lead.
    NotLeader,
    /// The other one is no voter, or cannot take over now.
    BadTarget,
}

/// A handover that was begun, or what has become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handover {
    /// The other member leads.
    Done,
    /// Look again.
    UnderWay,
    /// Consensus has given it up, a third member leads, or the other one cannot be reached: nothing more will come of it.
    Abandoned,
}

/// The voter with most of the log among those that follow closely and can be reached. `None` on who does not lead.
pub fn successor<T: Trees, W>(member: &Member<T, W>, is_connected: impl Fn(MemberId) -> bool) -> Option<MemberId> {
    if !member.is_leader() {
        return None;
    }
    let (status, own) = (member.group().status(), member.identity().member);
    let is_fit = |id: MemberId, state: PeerState| {
        id != own && status.conf.voters.contains(&id.0) && state == PeerState::Replicate && is_connected(id)
    };
    let fit = status.peers.iter().filter(|peer| is_fit(peer.member, peer.state));
    fit.max_by_key(|peer| peer.matched).map(|peer| peer.member)
}

/// Begins to hand leadership to `target`.
pub fn begin<T: Trees, W>(member: &mut Member<T, W>, target: MemberId) -> Result<Handover, HandoverError> {
    if !member.is_leader() {
        return Err(HandoverError::NotLeader);
    }
    if !member.group().conf().voters.contains(&target.0) {
        return Err(HandoverError::BadTarget);
    }
    if target == member.identity().member {
        return Ok(Handover::Done);
    }
    member.transfer_leader(target).map_err(|_: TransferError| HandoverError::BadTarget)?;
    Ok(Handover::UnderWay)
}

/// What has become of a handover to `target`.
pub fn look<T: Trees, W>(member: &Member<T, W>, target: MemberId, is_connected: impl Fn(MemberId) -> bool) -> Handover {
    let (group, own) = (member.group(), member.identity().member);
    match group.leader() {
        Some(leader) if leader == target => Handover::Done,
        // Somebody else was faster.
        Some(leader) if leader != own => Handover::Abandoned,
        Some(_) if group.transferring_to() != Some(target) => Handover::Abandoned,
        _ if !is_connected(target) => Handover::Abandoned,
        _ => Handover::UnderWay,
    }
}
