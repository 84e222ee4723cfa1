//! One set of voters: more than half of them decide (Raft dissertation, 3.3: any two majorities share a member).
//!
//! An empty set agrees with everything. It is the outgoing half of a configuration that is not joint; a configuration
//! without any voter never has a leader, so that nothing is decided by it.

use super::Tally;
use crate::limits::CONF_MEMBERS_MAX;

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest index that a majority has reached; `u64::MAX` for nobody.
pub(crate) fn reached(voters: &[u64], index_of: impl Fn(u64) -> u64) -> u64 {
    if voters.is_empty() {
        return u64::MAX;
    }
    let mut indexes = [0; CONF_MEMBERS_MAX];
    let indexes = &mut indexes[..voters.len()];
    indexes.iter_mut().zip(voters).for_each(|(index, voter)| *index = index_of(*voter));
    indexes.sort_unstable();
    let reached = indexes[voters.len() - majority(voters.len())];
    let holders = indexes.iter().filter(|index| **index >= reached).count();
    assert!(2 * holders > voters.len(), "more than half hold what counts as held");
    reached
}

/// How an election stands when `vote_of` says who has voted how.
pub(crate) fn tally(voters: &[u64], vote_of: impl Fn(u64) -> Option<bool>) -> Tally {
    let (mut granted, mut refused) = (0, 0);
    for voter in voters {
        match vote_of(*voter) {
            Some(true) => granted += 1,
            Some(false) => refused += 1,
            None => {}
        }
    }
    assert!(granted + refused <= voters.len(), "a voter has one vote");
    if voters.is_empty() || granted >= majority(voters.len()) {
        Tally::Won
    } else if voters.len() - refused < majority(voters.len()) {
        Tally::Lost
    } else {
        Tally::Open
    }
}
