//! Two sets of voters at once: while a configuration is joint both halves decide, each by its own majority (Raft
//! dissertation, 4.3). No decision can then be made by the old members alone nor by the new ones alone, so no two leaders
//! of one term, whichever half a member goes by. A configuration that is not joint has an empty outgoing half.

use super::{Tally, majority};
use crate::conf::ConfState;

/// The highest index that both halves have reached.
pub(crate) fn reached(conf: &ConfState, index_of: impl Fn(u64) -> u64) -> u64 {
    majority::reached(&conf.voters, &index_of).min(majority::reached(&conf.voters_outgoing, &index_of))
}

/// How an election stands: won in both halves, or lost in one.
pub(crate) fn tally(conf: &ConfState, vote_of: impl Fn(u64) -> Option<bool>) -> Tally {
    match (majority::tally(&conf.voters, &vote_of), majority::tally(&conf.voters_outgoing, &vote_of)) {
        (Tally::Won, Tally::Won) => Tally::Won,
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        _ => Tally::Open,
    }
}

/// Whether those for whom `has` is true are enough in both halves.
pub(crate) fn agrees(conf: &ConfState, has: impl Fn(u64) -> bool) -> bool {
    tally(conf, |voter| has(voter).then_some(true)) == Tally::Won
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By definition: an index is reached when more than half of a set are at it or beyond.
    fn by_definition(voters: &[u64], indexes: &[u64]) -> u64 {
        let holds = |index: u64| 2 * voters.iter().filter(|voter| indexes[**voter as usize] >= index).count();
        (0..=9).rev().find(|index| voters.is_empty() || holds(*index) > voters.len()).expect("all have reached 0")
    }

    fn subset() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::btree_set(0..9u64, 0..8).prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn both_halves_reach_what_they_reach_by_definition(
            voters in subset(), outgoing in subset(), indexes in prop::collection::vec(0..9u64, 9),
        ) {
            let conf = ConfState { voters, voters_outgoing: outgoing, ..ConfState::default() };
            let expected = by_definition(&conf.voters, &indexes).min(by_definition(&conf.voters_outgoing, &indexes));
            let found = reached(&conf, |voter| indexes[voter as usize]);
            prop_assert_eq!(found.min(9), expected);
        }

        #[test]
        fn an_election_is_open_exactly_while_both_ends_are_possible(
            voters in subset(), outgoing in subset(), votes in prop::collection::vec(prop::option::of(any::<bool>()), 9),
        ) {
            let conf = ConfState { voters, voters_outgoing: outgoing, ..ConfState::default() };
            let with = |rest: bool| tally(&conf, |voter| Some(votes[voter as usize].unwrap_or(rest)));
            let expected = match (with(true), with(false)) {
                (Tally::Won, Tally::Won) => Tally::Won,
                (Tally::Lost, Tally::Lost) => Tally::Lost,
                _ => Tally::Open,
            };
            prop_assert_eq!(tally(&conf, |voter| votes[voter as usize]), expected);
        }

        #[test]
        fn any_two_quorums_share_a_voter_of_each_half(voters in subset(), a in subset(), b in subset()) {
            let conf = ConfState { voters, ..ConfState::default() };
            if !conf.voters.is_empty() && agrees(&conf, |id| a.contains(&id)) && agrees(&conf, |id| b.contains(&id)) {
                prop_assert!(conf.voters.iter().any(|id| a.contains(id) && b.contains(id)));
            }
        }
    }
}
