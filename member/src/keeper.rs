//! Who decides that a lease has ended: the leader, by its own clock, and what it tells the others about that.
//!
//! Invariants:
//! - a member keeps the times of leases from when it takes notice of its leadership until it takes notice of another's; it
//!   relies on them only once it has applied an entry of its own term, and so all that earlier leaders decided;
//! - what it decides names its term and does nothing if it is applied in another one, whose leader may have renewed the
//!   lease meanwhile;
//! - nobody is told that a lease was renewed before the next leader is sure to know.
//!
//! Not here: which leases there are and when they end (`plinth_engine::lease`); that a leader makes sure that it still
//! leads before it renews, which is a linearizable read, [`Member::read`].

use crate::member::{Member, SubmitError};
use crate::planted::{Planted, is_planted};
use plinth_engine::command::{Command, CommandKind, LeaseCheckpoint, LeaseCheckpoints};
use plinth_engine::lease::{CHECKPOINTS_PER_ENTRY, Checkpoint, LeaseError, Millis, Renewal};
use plinth_engine::trees::Trees;

/// How often leases are looked at, as in etcd.
pub const SCAN_MILLIS: u64 = 500;

/// How soon again while more have ended than one look may name: a crowd goes by in parts, between which others get on.
pub const SCAN_AGAIN_MILLIS: u64 = 50;

/// Leases that a planted mistake lets expire per look.
const TRICKLE: usize = 16;

/// What came of a look at the leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Leases whose end was proposed.
    pub expired: usize,
    /// Whether something was proposed: a round should follow.
    pub has_submitted: bool,
    /// Milliseconds until the next look.
    pub pause: u64,
}

/// Leases that were renewed here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewing {
    /// The term in which they were.
    term: u64,
    /// Times to live in seconds, in the order asked for; 0 says that there is no such lease.
    pub ttls: Vec<i64>,
    /// To be proposed and applied before anybody is told, then ask [`Member::has_kept`]. If there are none, tell at once.
    pub commands: Vec<Command>,
}

impl Renewing {
    /// How many there were to renew, of those asked for.
    pub fn renewed(&self) -> u64 {
        self.ttls.iter().filter(|ttl| **ttl > 0).count() as u64
    }
}

impl<T: Trees, W> Member<T, W> {
    /// The term in which this member keeps the times of leases, if it does: see the module.
    pub fn keeps_leases(&self) -> Option<u64> {
        let term = self.tenure.term()?;
        let store = self.store();
        (store.leases().is_promoted() && store.applied().term == term && self.group().term() == term).then_some(term)
    }

    /// Proposes the end of leases whose time is over and how much is left of long ones, if this member keeps the times.
    /// Those found together share an entry of the log; each still has its own command, and so its own revision.
    pub fn scan_leases(&mut self, now: Millis, nobody: impl Fn(CommandKind) -> W) -> Scan {
        let idle = Scan { expired: 0, has_submitted: false, pause: SCAN_MILLIS };
        let Some(term) = self.keeps_leases() else { return idle };
        let leases = self.store_mut().leases_mut();
        let (mut expired, checkpoints) = (Vec::new(), leases.due_checkpoints(now));
        leases.expired(now, &mut expired);
        let is_more_due = leases.next_deadline().is_some_and(|at| at <= now);
        if is_planted(Planted::LeasesKept) {
            expired.clear();
        }
        if is_planted(Planted::LeasesTrickle) {
            // The others are found again when their ends count as lost.
            expired.truncate(TRICKLE);
        }
        for &id in &expired {
            let command = match is_planted(Planted::FollowersExpire) || is_planted(Planted::DeposedExpire) {
                true => Command::LeaseRevoke { id },
                false => Command::LeaseExpire { id, term },
            };
            // One that is refused counts as lost after a while, and is found again.
            let _: Result<(), (SubmitError, W)> =
                self.submit(|out| command.encode_into(out), nobody(command.kind()), now);
        }
        let has_submitted = !expired.is_empty() || !checkpoints.is_empty();
        if !checkpoints.is_empty() {
            let told = |due: Checkpoint| LeaseCheckpoint { id: due.id, remaining_ttl: due.remaining_ttl };
            let checkpoints = checkpoints.into_iter().map(told).collect();
            let command = Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints });
            let _: Result<(), (SubmitError, W)> =
                self.submit(|out| command.encode_into(out), nobody(command.kind()), now);
        }
        let pause = if is_more_due { SCAN_AGAIN_MILLIS } else { SCAN_MILLIS };
        Scan { expired: expired.len(), has_submitted, pause }
    }

    /// Renews leases, if this member keeps their times. One among others makes sure first that it still leads: a leader
    /// that was deposed while it stood still would promise what its successor does not know of.
    pub fn renew_leases(&mut self, ids: &[i64], now: Millis) -> Option<Renewing> {
        let term = self.keeps_leases()?;
        let mut renewing = Renewing { term, ttls: Vec::with_capacity(ids.len()), commands: Vec::new() };
        let mut cleared = Vec::new();
        for &id in ids {
            let leases = self.store_mut().leases_mut();
            if is_planted(Planted::KeepAlivesIgnored) && leases.contains(id) {
                renewing.ttls.push(leases.stored_ttl(id).map_or(0, |(ttl, _)| ttl));
                continue;
            }
            renewing.ttls.push(match leases.renew(id, now) {
                Ok(Renewal::Renewed { ttl, clear_checkpoint }) => {
                    if clear_checkpoint && !is_planted(Planted::CheckpointsKept) {
                        cleared.push(LeaseCheckpoint { id, remaining_ttl: 0 });
                    }
                    ttl
                }
                // Its end is on its way: for the client it is gone.
                Ok(Renewal::Expired) | Err(LeaseError::NotFound) => 0,
                Err(_) => return None,
            });
        }
        let command =
            |part: &[LeaseCheckpoint]| Command::LeaseCheckpoint(LeaseCheckpoints { term, checkpoints: part.to_vec() });
        assert!(renewing.ttls.len() == ids.len(), "each lease that was asked for has its answer, in order");
        renewing.commands = cleared.chunks(CHECKPOINTS_PER_ENTRY).map(command).collect();
        Some(renewing)
    }

    /// Whether this member has kept the times of leases all the while: what it renewed holds.
    pub fn has_kept(&self, renewing: &Renewing) -> bool {
        self.keeps_leases() == Some(renewing.term)
    }
}
