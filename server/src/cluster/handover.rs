//! Leadership given to another member: by request, and before this one stops, so that nobody waits for an election.

use crate::answer::status;
use crate::home::Home;
use plinth_member::handover::{self, Handover, HandoverError};
use plinth_net::grpc::Status;
use plinth_net::rt::sleep;
use plinth_raft::MemberId;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often it is looked whether the transfer is done.
const LOOK: Duration = Duration::from_millis(2);

/// Hands leadership to `target`, which must be a voter, and waits until it leads, up to `patience`.
pub async fn transfer(home: &Rc<Home>, target: MemberId, patience: Duration) -> Result<(), Status> {
    let begun = handover::begin(&mut home.state_mut().member, target);
    match begun {
        Ok(Handover::Done) => return Ok(()),
        Ok(_) => {}
        Err(HandoverError::NotLeader) => return Err(status::NOT_LEADER),
        Err(HandoverError::BadTarget) => return Err(status::BAD_LEADER_TRANSFEREE),
    }
    tracing::info!(to = %target, "leadership transfer is starting");
    home.reactor.pump.notify();
    let (start, deadline) = (Instant::now(), Instant::now() + patience);
    loop {
        let found = handover::look(&home.state().member, target, |id| is_connected(home, id));
        match found {
            Handover::Done => break,
            Handover::UnderWay if Instant::now() < deadline => sleep(LOOK).await,
            _ => return Err(status::TIMEOUT_LEADER_TRANSFER),
        }
    }
    tracing::info!(to = %target, took = ?start.elapsed(), "leadership transfer finished");
    Ok(())
}

fn is_connected(home: &Home, id: MemberId) -> bool {
    home.others.connected_since(id).is_some()
}

/// Before this member stops: hands leadership to the voter that has most of the log, if that does not take longer than
/// `patience`.
pub async fn leave(home: &Rc<Home>, patience: Duration) {
    let target = handover::successor(&home.state().member, |id| is_connected(home, id));
    let Some(target) = target else { return };
    if let Err(error) = transfer(home, target, patience).await {
        tracing::warn!(to = %target, %error, "leadership transfer failed");
    }
}

/// As long as data of this member are damaged: leaves leadership to others, who can serve all of them.
pub async fn leave_when_damaged(home: Rc<Home>) {
    const INTERVAL: Duration = Duration::from_secs(1);
    while !home.is_stopping() {
        sleep(INTERVAL).await;
        if home.damage.is_known() && home.state().member.is_leader() {
            leave(&home, home.profile.request_timeout).await;
        }
    }
}
