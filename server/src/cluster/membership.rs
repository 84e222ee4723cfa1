//! Changes of the membership that not every member may decide: promotion of a learner, which only the leader can judge,
//! and etcd's strict checks before a change is proposed.

use crate::answer::refusal::membership_status;
use crate::answer::status;
use crate::home::Home;
use plinth_member::records;
use plinth_net::grpc::Status;
use plinth_raft::{Health, MemberChange, MemberId, Members, MembershipError, Role};
use std::rc::Rc;
use std::time::Duration;

/// How long a connection must have lasted to count in the strict checks, as in etcd.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// Promotes a learner that has caught up. Only the leader can tell.
pub async fn promote(home: &Rc<Home>, id: MemberId) -> Result<(), Status> {
    let progress = home.state().member.group().status();
    if progress.role != Role::Leader {
        return Err(status::NOT_LEADER);
    }
    strict(home, |members, _| records::check_promotion(members, &progress, id))?;
    home.change(MemberChange::Promote(id)).await
}

/// Runs a check against the member list and the connections. With the strict check switched off only the rest of it,
/// which is what every member checks when the change is applied.
pub fn strict(
    home: &Home,
    check: impl FnOnce(&Members, &Health<'_>) -> Result<(), MembershipError>,
) -> Result<(), Status> {
    let state = home.state();
    let members = records::all(state.member.store()).map_err(|error| status::broken(&error))?;
    let lasted = |id: MemberId| home.others.connected_since(id).map(|since| since.elapsed());
    let health = Health {
        own: MemberId(home.profile.member_id),
        connected: &|id| lasted(id).is_some_and(|lasted| lasted >= HEALTHY_AFTER),
        active: &|id| lasted(id).is_some(),
    };
    match check(&members, &health) {
        Err(MembershipError::NotEnoughStarted | MembershipError::Unhealthy) if !home.profile.strict_reconfig => Ok(()),
        result => result.map_err(membership_status),
    }
}
