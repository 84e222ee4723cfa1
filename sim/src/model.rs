//! What a member may hold: the operations in the order they were submitted, and the state after each prefix of them.
//!
//! A member is one log: what survives a crash is a prefix of what was submitted in that life, behind what survived
//! before, and it is at least as long as what was acknowledged.

use std::collections::BTreeMap;

/// An operation as the model understands it. Values are derived from its number, so that every one is unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Puts these keys in one revision.
    Put(Vec<u64>),
    /// Deletes a key if it is there.
    Delete(u64),
    /// Compacts at a revision.
    Compact(i64),
}

/// A pair as the store encodes it, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The operation that wrote it.
    pub written_by: u64,
    /// Revision of the creating put.
    pub create_revision: i64,
    /// Revision of the last put.
    pub mod_revision: i64,
    /// Puts since the creation.
    pub version: i64,
}

/// The newest state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The store's revision.
    pub revision: i64,
    pub compact_revision: i64,
    pub pairs: BTreeMap<u64, Pair>,
}

impl Default for State {
    fn default() -> Self {
        State { revision: 1, compact_revision: -1, pairs: BTreeMap::new() }
    }
}

impl State {
    /// Does an operation; false if the store refuses it.
    pub fn apply(&mut self, number: u64, operation: &Operation) -> bool {
        match operation {
            Operation::Put(keys) => {
                self.revision += 1;
                for key in keys {
                    let revision = self.revision;
                    let pair = self.pairs.entry(*key).or_insert(Pair {
                        written_by: number,
                        create_revision: revision,
                        mod_revision: revision,
                        version: 0,
                    });
                    (pair.written_by, pair.mod_revision) = (number, revision);
                    pair.version += 1;
                }
            }
            Operation::Delete(key) => {
                if self.pairs.remove(key).is_some() {
                    self.revision += 1;
                }
            }
            Operation::Compact(revision) => {
                if *revision <= self.compact_revision || *revision > self.revision {
                    return false;
                }
                self.compact_revision = *revision;
            }
        }
        true
    }
}

/// All operations so far, and how many of them are certain.
#[derive(Clone, Debug, Default)]
pub struct Model {
    operations: Vec<Operation>,
    /// Operations that were acknowledged, with everything before them.
    acknowledged: usize,
    /// State after the operations that have survived a start.
    base: State,
    base_len: usize,
}

impl Model {
    /// Records a submission; its number.
    pub fn submit(&mut self, operation: Operation) -> u64 {
        self.operations.push(operation);
        self.operations.len() as u64 - 1
    }

    /// Records an acknowledgement. Operations are acknowledged in order.
    pub fn acknowledge(&mut self, number: u64) {
        let next = number as usize + 1;
        assert!(next > self.acknowledged, "operation {number} acknowledged out of order or twice");
        self.acknowledged = next;
    }

    /// Operations acknowledged in this run.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// The state after everything acknowledged.
    pub fn acknowledged_state(&self) -> State {
        self.state_after(self.acknowledged)
    }

    fn state_after(&self, len: usize) -> State {
        let mut state = self.base.clone();
        for (number, operation) in self.operations.iter().enumerate().take(len).skip(self.base_len) {
            state.apply(number as u64, operation);
        }
        state
    }

    /// Whether a state is one from before the last acknowledgement: what is left when rot hits the end of the log, which
    /// looks like a write that was torn.
    pub fn is_cut_short(&self, found: &State) -> bool {
        (self.base_len..self.acknowledged).any(|len| self.state_after(len) == *found)
    }

    /// Takes over what survived a crash: the found state must be that after a prefix which holds all that was
    /// acknowledged. What was submitted and lost never happened.
    pub fn take_over(&mut self, found: &State) -> Result<(), String> {
        let mut state = self.state_after(self.acknowledged);
        let mut len = self.acknowledged;
        while state != *found {
            let Some(operation) = self.operations.get(len) else {
                return Err(format!(
                    "the state at revision {} (compacted at {}) is none that may be: {} operations acknowledged \
                     (revision {}), {} submitted (revision {})",
                    found.revision,
                    found.compact_revision,
                    self.acknowledged,
                    self.acknowledged_state().revision,
                    self.operations.len(),
                    state.revision
                ));
            };
            state.apply(len as u64, operation);
            len += 1;
        }
        self.operations.truncate(len);
        self.acknowledged = len;
        self.base = state;
        self.base_len = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let mut model = Model::default();
        for key in 0..4 {
            model.submit(Operation::Put(vec![key]));
        }
        model.acknowledge(0);
        model.acknowledge(1);
        model
    }

    #[test]
    fn every_prefix_from_the_acknowledged_one_on_may_survive() {
        for len in 2..=4 {
            let found = model().state_after(len);
            assert_eq!(model().take_over(&found), Ok(()), "{len}");
        }
    }

    #[test]
    fn a_lost_acknowledged_write_is_noticed() {
        let found = model().state_after(1);
        assert!(model().take_over(&found).is_err());
    }

    #[test]
    fn a_reordered_or_invented_write_is_noticed() {
        let mut found = model().state_after(3);
        found.pairs.get_mut(&2).expect("written").version = 2;
        assert!(model().take_over(&found).is_err());
        let mut found = model().state_after(2);
        found.apply(3, &Operation::Put(vec![3]));
        assert!(model().take_over(&found).is_err(), "a later write without the earlier one");
    }
}
