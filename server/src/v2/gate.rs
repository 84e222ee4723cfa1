//! The tree begins with its first command, and that is not proposed before every member has said that it can read it: one of an
//! earlier release would have to stop. Once there is one in the log, whoever is to apply the log has to read it anyway.

use super::V2;
use plinth_engine::command::{Command, V2_KIND};
use plinth_member::records;
use plinth_net::grpc::{Code, Status};
use plinth_net::rt;
use plinth_raft::MemberId;
use plinth_v2::V2Command;
use std::time::{Duration, Instant};

/// How long members that have just started are waited for, and how often it is looked again.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// What is in the way of the first command.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    /// This member does not read it.
    Earlier(MemberId),
    /// This member has not said what it reads, since this process has started.
    Unseen(MemberId),
}

/// The first obstacle among members with what they have said; one that will not go away by waiting comes first.
fn obstacle(told: &[(MemberId, Option<u16>)]) -> Option<Obstacle> {
    let earlier = told.iter().find(|(_, reads)| reads.is_some_and(|reads| reads < V2_KIND));
    let unseen = || told.iter().find(|(_, reads)| reads.is_none());
    earlier.map(|(id, _)| Obstacle::Earlier(*id)).or_else(|| unseen().map(|(id, _)| Obstacle::Unseen(*id)))
}

impl V2 {
    /// Makes sure that the tree has begun.
    ///
    /// # Errors
    /// If a member cannot read its commands, or nobody knows whether it can.
    pub(super) async fn begin(&self) -> Result<(), Status> {
        let deadline = Instant::now() + PATIENCE;
        let has_begun = || self.home.state().member.store().v2().has_begun();
        while !has_begun() {
            match obstacle(&self.told()?) {
                None => return self.home.propose(Command::V2(V2Command::sync(0))).await.map(|_| ()),
                Some(Obstacle::Unseen(_)) if Instant::now() < deadline => rt::sleep(LOOK).await,
                Some(obstacle) => return Err(refusal(&obstacle)),
            }
        }
        Ok(())
    }

    /// The other members, and what each has said.
    fn told(&self) -> Result<Vec<(MemberId, Option<u16>)>, Status> {
        let listed = records::list(self.home.state().member.store());
        let listed = listed.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        let others = listed.iter().map(|member| member.id).filter(|id| id.0 != self.home.profile.member_id);
        Ok(others.map(|id| (id, self.link.counts(id).reads)).collect())
    }
}

fn refusal(obstacle: &Obstacle) -> Status {
    let why = match obstacle {
        Obstacle::Earlier(id) => format!("member {id} is of a release that does not know of it"),
        Obstacle::Unseen(id) => {
            format!("member {id} has not connected yet, and may be of a release that does not know of it")
        }
    };
    Status::new(Code::Unavailable, format!("the v2 API cannot be used for the first time: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_to_read_it() {
        let told = |reads: &[Option<u16>]| {
            let ids = (1..).map(MemberId);
            ids.zip(reads.iter().copied()).collect::<Vec<_>>()
        };
        assert_eq!(obstacle(&[]), None);
        assert_eq!(obstacle(&told(&[Some(V2_KIND), Some(V2_KIND + 1)])), None);
        assert_eq!(obstacle(&told(&[Some(V2_KIND), None])), Some(Obstacle::Unseen(MemberId(2))));
        assert_eq!(obstacle(&told(&[None, Some(0)])), Some(Obstacle::Earlier(MemberId(2))), "one that does not say");
        assert_eq!(obstacle(&told(&[Some(V2_KIND - 1)])), Some(Obstacle::Earlier(MemberId(1))));
    }
}
