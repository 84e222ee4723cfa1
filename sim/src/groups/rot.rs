//! Bits rot in the log of a machine that is down. Tried on a copy of it: who was not hit has exactly what it had, who was is
//! refused, and where nobody can tell who that was, the whole log is.

use super::groups_bugs::Bug;
use super::machine::Machine;
use plinth_raft::groups::{GroupsRecovery, RecoveredGroups};
use plinth_wal::inspect::inspect;
use plinth_wal::sim_disk::{Rng, Schedule, SimDisk, SimMedium};
use plinth_wal::{Damaged, OpenError, Reader, Record, Wal, WalOptions};

/// A segment has one for its header; a flush begins at one.
const BLOCK_BYTES: u64 = 4096;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotten {
    /// Groups were refused, and the others not.
    Alone,
    /// The log was refused.
    Whole,
    /// Nothing that counts was hit, or what nobody was promised to be durable.
    Nothing,
}

struct Reading {
    groups: GroupsRecovery,
    passes_over: bool,
}

impl Reader for Reading {
    fn record(&mut self, record: Record<'_>) {
        self.groups.record(&record);
    }

    fn damaged(&mut self, damaged: Damaged) -> bool {
        if !self.passes_over {
            self.groups.damaged(damaged.group, damaged.lsn);
        }
        true
    }
}

impl Machine {
    /// # Errors
    /// What is not as it must be.
    pub(super) fn rot(&self, random: &mut Rng, options: &WalOptions, bug: Option<Bug>) -> Result<Rotten, String> {
        let rotten = self.medium.fork();
        let seen = inspect(&mut SimDisk::new(&rotten, Schedule::InOrder)).map_err(|error| error.to_string())?;
        let written: Vec<_> = seen.segments.iter().filter(|segment| segment.end > BLOCK_BYTES).collect();
        if seen.outcome.is_err() || written.is_empty() {
            return Ok(Rotten::Nothing);
        }
        let segment = written[random.below(written.len() as u64) as usize];
        let block = BLOCK_BYTES * (1 + random.below((segment.end - 1) / BLOCK_BYTES));
        // Most of a block is empty: what was flushed together lies at its beginning.
        let offset = block + random.below(200);
        rotten.flip(segment.header.seq, offset, 1 << random.below(8));
        let (sound, _) = self.read(&self.medium.fork(), options, bug).map_err(|error| error.to_string())?;
        let (groups, damaged) = match self.read(&rotten, options, bug) {
            Ok((_, damaged)) if damaged.is_empty() => return Ok(Rotten::Nothing),
            Ok(read) => read,
            Err(OpenError::Corrupt { .. } | OpenError::Head { .. }) => return Ok(Rotten::Whole),
            Err(other) => return Err(format!("a flipped bit of a record is taken for something else: {other}")),
        };
        for (id, before) in sound {
            let after = &groups[&id];
            let is_hit = damaged.iter().any(|damaged| damaged.group == id);
            match (before, after) {
                (_, Err(_)) if is_hit => {}
                (_, Ok(_)) if is_hit => {
                    return Err(format!("group {id} takes a damaged record for sound: {damaged:?}"));
                }
                (Ok(before), Ok(after)) if format!("{before:?}") == format!("{after:?}") => {}
                (before, after) => return Err(format!("{damaged:?} changes group {id}: {before:?}, now {after:?}")),
            }
        }
        Ok(Rotten::Alone)
    }

    fn read(
        &self,
        medium: &SimMedium,
        options: &WalOptions,
        bug: Option<Bug>,
    ) -> Result<(RecoveredGroups, Vec<Damaged>), OpenError> {
        let groups = GroupsRecovery::new(self.stored.iter().map(|(id, store)| (*id, store.applied)));
        let mut reading = Reading { groups, passes_over: bug == Some(Bug::DamagePassedOver) };
        let (_, report) = Wal::open_with(SimDisk::new(medium, Schedule::InOrder), options.clone(), &mut reading)?;
        Ok((reading.groups.finish(), report.damaged))
    }
}
