//! Why a write was not done in time, as etcd tells the reasons apart.

use crate::answer::status;
use plinth_net::grpc::Status;
use std::time::{Duration, Instant};

/// What a member knows when it gives a request up.
pub struct View<'a> {
    /// Who it is.
    pub own: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// Who votes.
    pub voters: &'a [u64],
    /// When it last heard that a leader was elected.
    pub elected: Option<Instant>,
    /// An election timeout.
    pub election: Duration,
}

impl View<'_> {
    /// What a request is answered that was made at `start`; `connected` tells since when there has been a connection to
    /// another member.
    pub fn status(&self, start: Instant, connected: impl Fn(u64) -> Option<Instant>) -> Status {
        // The leader it was proposed to is gone.
        if self.elected.is_some_and(|elected| start < elected && elected < start + 2 * self.election) {
            return status::TIMEOUT_LEADER_FAIL;
        }
        let lasted = |id: u64| id == self.own || connected(id).is_some_and(|since| since < start);
        let has_lasted = match self.leader {
            Some(leader) if leader == self.own => {
                2 * self.voters.iter().filter(|id| lasted(**id)).count() > self.voters.len()
            }
            Some(leader) => lasted(leader),
            // No text says that there is no leader.
            None => true,
        };
        if has_lasted { status::TIMEOUT } else { status::TIMEOUT_CONNECTION_LOST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let view = |leader, elected: Option<u64>| View {
            own: 1,
            leader,
            voters: &[1, 2, 3],
            elected: elected.map(at),
            election: Duration::from_secs(1),
        };
        // The second member has been connected from the beginning, the third one since after the request.
        let connected = |id| match id {
            2 => Some(at(0)),
            3 => Some(at(11)),
            _ => None,
        };
        let start = at(10);
        for (leader, elected, expected) in [
            (Some(2), None, status::TIMEOUT),
            (Some(2), Some(10), status::TIMEOUT),
            (Some(2), Some(11), status::TIMEOUT_LEADER_FAIL),
            (Some(2), Some(12), status::TIMEOUT),
            (None, Some(11), status::TIMEOUT_LEADER_FAIL),
            (None, None, status::TIMEOUT),
            (Some(3), Some(9), status::TIMEOUT_CONNECTION_LOST),
            (Some(4), None, status::TIMEOUT_CONNECTION_LOST),
            (Some(1), None, status::TIMEOUT),
        ] {
            let found = view(leader, elected).status(start, connected);
            assert_eq!(found, expected, "leader {leader:?} elected at {elected:?}");
        }
        let alone = |id| (id == 3).then(|| at(11));
        assert_eq!(view(Some(1), None).status(start, alone), status::TIMEOUT_CONNECTION_LOST, "no quorum");
    }
}
