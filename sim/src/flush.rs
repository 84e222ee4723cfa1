//! A flush of a data file, cut into its single writes and syncs, so that a crash may come between any two.

use plinth_engine::pagefile::testing::SimStore;
use plinth_engine::pagefile::{Flush, PageFile, PageWriter};
use plinth_wal::sim_disk::Rng;

enum Stage {
    Pages,
    FirstSync,
    Meta,
    SecondSync,
}

/// A flush under way.
pub struct FlushJob {
    flush: Flush,
    /// The last entry it holds.
    pub applied: u64,
    written: u64,
    stage: Stage,
}

impl FlushJob {
    /// Begins to carry out a plan.
    pub fn new(flush: Flush, applied: u64) -> FlushJob {
        FlushJob { flush, applied, written: 0, stage: Stage::Pages }
    }

    /// Does one step. The job comes back unless it is done.
    pub fn step(mut self, file: &mut PageFile<SimStore>, random: &mut Rng) -> std::io::Result<Option<FlushJob>> {
        let store = file.store_mut();
        match self.stage {
            Stage::Pages => {
                let mut writes = self.flush.writes(1);
                let mut position = 0;
                let until = self.written + 1 + random.below(4);
                while let Some((offset, bytes)) = writes.next() {
                    if position >= self.written && position < until {
                        store.write_at(offset, bytes)?;
                    }
                    position += 1;
                }
                self.written = until;
                if until >= position {
                    self.stage = Stage::FirstSync;
                }
            }
            Stage::FirstSync => {
                store.sync()?;
                self.stage = Stage::Meta;
            }
            Stage::Meta => {
                let (offset, bytes) = self.flush.meta();
                store.write_at(offset, bytes)?;
                self.stage = Stage::SecondSync;
            }
            Stage::SecondSync => {
                store.sync()?;
                file.finish_flush(self.flush);
                return Ok(None);
            }
        }
        Ok(Some(self))
    }
}
