//! Leadership given to another member: by request, and before this one stops, so that nobody waits for an election.

use crate::answer::status;
use crate::home::Home;
use plinth_net::grpc::Status;
use plinth_net::rt::sleep;
use plinth_raft::{MemberId, PeerState};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often it is looked whether the transfer is done.
const LOOK: Duration = Duration::from_millis(2);

/// Hands leadership to `target`, which must be a voter, and waits until it leads.
pub async fn transfer(home: &Rc<Home>, target: MemberId) -> Result<(), Status> {
    {
        let mut state = home.state_mut();
        if !state.member.is_leader() {
            return Err(status::NOT_LEADER);
        }
        let group = state.member.group();
        if !group.conf().voters.contains(&target.0) {
            return Err(status::BAD_LEADER_TRANSFEREE);
        }
        if target.0 == home.profile.member_id {
            return Ok(());
        }
        tracing::info!(to = %target, "leadership transfer is starting");
        state.member.transfer_leader(target).map_err(|_| status::BAD_LEADER_TRANSFEREE)?;
    }
    home.pump.notify();
    let (start, deadline) = (Instant::now(), Instant::now() + home.profile.request_timeout);
    while home.state().member.group().leader() != Some(target) {
        if Instant::now() >= deadline || was_abandoned(home, target) {
            return Err(status::TIMEOUT_LEADER_TRANSFER);
        }
        sleep(LOOK).await;
    }
    tracing::info!(to = %target, took = ?start.elapsed(), "leadership transfer finished");
    Ok(())
}

/// Whether there is nothing to wait for: consensus has given it up, or the target cannot be reached.
fn was_abandoned(home: &Home, target: MemberId) -> bool {
    let state = home.state();
    let given_up = state.member.is_leader() && state.member.group().transferring_to() != Some(target);
    given_up || home.others.connected_since(target).is_none()
}

/// Before this member stops: hands leadership to the voter that has most of the log.
pub async fn leave(home: &Rc<Home>) {
    let Some(target) = successor(home) else { return };
    if let Err(error) = transfer(home, target).await {
        tracing::warn!(to = %target, %error, "leadership transfer failed");
    }
}

fn successor(home: &Home) -> Option<MemberId> {
    let state = home.state();
    if !state.member.is_leader() {
        return None;
    }
    let status = state.member.group().status();
    let fit = |peer: &&plinth_raft::PeerStatus| {
        peer.member.0 != home.profile.member_id
            && status.conf.voters.contains(&peer.member.0)
            && peer.state == PeerState::Replicate
            && home.others.connected_since(peer.member).is_some()
    };
    status.peers.iter().filter(fit).max_by_key(|peer| peer.matched).map(|peer| peer.member)
}
