//! A member whose disk is full: what it still takes part in, until there is room again.
//!
//! - It learns of a full disk before it has to: the log makes its next segment ahead, the data file grows ahead of need. From
//!   then on it does not lead if somebody else can, and is not made the leader by others.
//! - It goes on as a follower as long as there is room, so that what frees space (deletes, compactions) gets through. Before
//!   the log is exhausted it takes no more entries: what is left is for votes and terms, which are small. A quorum of others
//!   goes on; a message that is not taken is one that was lost on the way, and is sent again.
//! - An entry that finds no room in the data file is applied to its end in memory, and none after it. The log has it, so that
//!   nothing is lost in a crash, and nothing is half done.
//!
//! No alarm is raised: a full disk is the matter of its member alone. [`Member`] declines what there is no room for; here is
//! what has to be looked at from time to time.

use crate::handover;
use crate::limits::HANDOVER_PAUSE_MILLIS;
use crate::log::Log;
use crate::member::{Fatal, Member};
use crate::planted::{Planted, is_planted};
use plinth_engine::error::StoreError;
use plinth_engine::lease::Millis;
use plinth_engine::trees::Trees;
use plinth_wal::Disk;

/// Looks at a member a few times a second.
#[derive(Debug, Default)]
pub struct Lookout {
    /// Leadership was last given away, or should have been.
    left: Option<Millis>,
}

impl Lookout {
    /// Looks whether there is room again, and gives leadership away if there is none. Whether there is room.
    pub fn look<D: Disk, T: Trees, W>(
        &mut self,
        member: &mut Member<T, W>,
        log: &Log<D>,
        now: Millis,
    ) -> Result<bool, Fatal> {
        member.store_mut().trees_mut().retry_space().map_err(StoreError::from)?;
        let has_space = member.has_space(log);
        if has_space {
            self.left = None;
        } else if member.is_leader() && member.group().transferring_to().is_none() {
            self.leave_leadership(member, now);
        }
        Ok(has_space)
    }

    /// Whoever takes over may have as little room, and gives it back: so not again at once.
    fn leave_leadership<T: Trees, W>(&mut self, member: &mut Member<T, W>, now: Millis) {
        let is_due = self.left.is_none_or(|left| now.0 >= left.0 + HANDOVER_PAUSE_MILLIS);
        if !is_due || is_planted(Planted::LeadsWithoutSpace) {
            return;
        }
        if let Some(to) = handover::successor(member, |_| true) {
            self.left = Some(now);
            // The successor votes, and this member leads: it is not refused.
            let _ = member.transfer_leader(to);
        }
    }
}
