//! Is a history of one key linearizable?
//!
//! The search of Wing and Gong, with Lowe's two savings: events are kept in a linked list out of which an operation is
//! lifted while the search assumes that it came next, and a pair of (operations done, state) is never tried twice.
//! Linearizability is local, so a history of many keys is checked key by key.
//!
//! An operation whose outcome is unknown has no end: it may take effect at any time after it began, or never.
//!
//! Deliberately absent: how a history is recorded, and operations over several keys (each key's part is checked alone).

use std::collections::HashSet;

/// Attempts after which the search gives up on a key.
pub const ATTEMPTS_MAX: u64 = 8_000_000;

/// What a key holds: the value, and the number of puts since it was created.
pub type State = Option<(u64, i64)>;

/// What an operation did to its key, as far as the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Put(u64),
    Get(State),
    /// Stored a value if the key held `expected` (or did not exist); whether it did, if that is known.
    Cas {
        /// Value that has to be there; nothing if the key must not exist.
        expected: Option<u64>,
        value: u64,
        /// Whether it was stored.
        swapped: Option<bool>,
    },
    /// Removed the key; whether it existed, if that is known.
    Delete(Option<bool>),
}

impl Action {
    /// The state afterwards; nothing if what the client saw cannot have come of this state.
    fn apply(self, state: State) -> Option<State> {
        let version = state.map_or(0, |(_, version)| version);
        match self {
            Action::Put(value) => Some(Some((value, version + 1))),
            Action::Get(found) => (found == state).then_some(state),
            Action::Cas { expected, value, swapped } => {
                let swaps = state.map(|(value, _)| value) == expected;
                if swapped.is_some_and(|swapped| swapped != swaps) {
                    return None;
                }
                Some(if swaps { Some((value, version + 1)) } else { state })
            }
            Action::Delete(deleted) => {
                let fits = deleted.is_none_or(|deleted| deleted == state.is_some());
                fits.then_some(None)
            }
        }
    }
}

/// An operation on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Names it in messages.
    pub number: u64,
    /// When the client began.
    pub began: u64,
    /// When it had the answer; nothing if it never had one.
    pub ended: Option<u64>,
    pub action: Action,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// There is none; these operations come next after the longest order found, and none of them fits.
    Violation {
        /// Operations put in order before the search got stuck.
        ordered: Vec<u64>,
        /// What the key then held.
        state: State,
        /// Those that would have to come next.
        stuck: Vec<Operation>,
    },
    /// The search took too long.
    GaveUp,
}

/// Checks the operations of one key, which did not exist before them.
pub fn check(operations: &[Operation]) -> Verdict {
    Search::new(operations).run()
}

/// No event.
const NONE: usize = usize::MAX;

/// A beginning or an end in the list of events. Place 0 is the head of the list.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    is_end: bool,
    before: usize,
    after: usize,
}

struct Search<'a> {
    operations: &'a [Operation],
    events: Vec<Event>,
    /// Place of each operation's end.
    ends: Vec<usize>,
    done: Vec<u64>,
    seen: HashSet<(Box<[u64]>, State)>,
    /// Operations in order, with their place and the state before.
    stack: Vec<(usize, State)>,
    state: State,
    /// Operations with an end that are not in order yet.
    open: usize,
    best: Vec<u64>,
    best_state: State,
    best_stuck: Vec<Operation>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * operations.len());
        for (at, operation) in operations.iter().enumerate() {
            order.push((operation.began, false, at));
            order.extend(operation.ended.map(|ended| (ended, true, at)));
        }
        // At the same moment beginnings come first: such operations count as concurrent.
        order.sort_unstable();
        let mut events = vec![Event { operation: NONE, is_end: true, before: NONE, after: NONE }];
        let mut ends = vec![NONE; operations.len()];
        for (_, is_end, operation) in order {
            let place = events.len();
            if is_end {
                ends[operation] = place;
            }
            events[place - 1].after = place;
            events.push(Event { operation, is_end, before: place - 1, after: NONE });
        }
        let open = operations.iter().filter(|operation| operation.ended.is_some()).count();
        Search {
            operations,
            events,
            ends,
            done: vec![0; operations.len().div_ceil(64)],
            seen: HashSet::new(),
            stack: Vec::new(),
            state: None,
            open,
            best: Vec::new(),
            best_state: None,
            best_stuck: Vec::new(),
        }
    }

    fn run(mut self) -> Verdict {
        let mut attempts = 0;
        let mut place = self.events[0].after;
        while self.open > 0 {
            attempts += 1;
            if attempts > ATTEMPTS_MAX {
                return Verdict::GaveUp;
            }
            if place == NONE || self.events[place].is_end {
                // Everything that may come next was tried.
                self.note_stuck();
                let Some((last, before)) = self.stack.pop() else {
                    return Verdict::Violation { ordered: self.best, state: self.best_state, stuck: self.best_stuck };
                };
                self.undo(last, before);
                place = self.events[last].after;
            } else if self.advance(place) {
                place = self.events[0].after;
            } else {
                place = self.events[place].after;
            }
        }
        Verdict::Linearizable
    }

    /// Assumes that the operation which begins at `place` came next, if that fits and is new.
    fn advance(&mut self, place: usize) -> bool {
        let operation = self.events[place].operation;
        let Some(state) = self.operations[operation].action.apply(self.state) else { return false };
        self.done[operation / 64] |= 1 << (operation % 64);
        if !self.seen.insert((self.done.clone().into_boxed_slice(), state)) {
            self.done[operation / 64] &= !(1 << (operation % 64));
            return false;
        }
        self.stack.push((place, self.state));
        self.state = state;
        self.lift(place);
        if self.ends[operation] != NONE {
            self.lift(self.ends[operation]);
            self.open -= 1;
        }
        true
    }

    fn undo(&mut self, place: usize, before: State) {
        let operation = self.events[place].operation;
        self.state = before;
        self.done[operation / 64] &= !(1 << (operation % 64));
        if self.ends[operation] != NONE {
            self.put_back(self.ends[operation]);
            self.open += 1;
        }
        self.put_back(place);
    }

    fn lift(&mut self, place: usize) {
        let Event { before, after, .. } = self.events[place];
        self.events[before].after = after;
        if after != NONE {
            self.events[after].before = before;
        }
    }

    fn put_back(&mut self, place: usize) {
        let Event { before, after, .. } = self.events[place];
        self.events[before].after = place;
        if after != NONE {
            self.events[after].before = place;
        }
    }

    /// Remembers the longest order, for the message.
    fn note_stuck(&mut self) {
        if self.stack.len() < self.best.len() || (self.best.is_empty() && !self.best_stuck.is_empty()) {
            return;
        }
        let number = |place: usize| self.operations[self.events[place].operation].number;
        self.best = self.stack.iter().map(|(place, _)| number(*place)).collect();
        self.best_state = self.state;
        self.best_stuck.clear();
        let mut place = self.events[0].after;
        while place != NONE && !self.events[place].is_end {
            self.best_stuck.push(self.operations[self.events[place].operation]);
            place = self.events[place].after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_wal::sim_disk::Rng;

    fn history(operations: &[(u64, Option<u64>, Action)]) -> Vec<Operation> {
        let numbered = operations.iter().zip(0..);
        numbered.map(|(&(began, ended, action), number)| Operation { number, began, ended, action }).collect()
    }

    fn is_linearizable(operations: &[(u64, Option<u64>, Action)]) -> bool {
        match check(&history(operations)) {
            Verdict::Linearizable => true,
            Verdict::Violation { .. } => false,
            Verdict::GaveUp => panic!("a small history takes no time"),
        }
    }

    const fn swap(expected: Option<u64>, value: u64, swapped: Option<bool>) -> Action {
        Action::Cas { expected, value, swapped }
    }

    #[test]
    fn good_histories_are_accepted() {
        assert!(is_linearizable(&[]));
        // One after the other.
        assert!(is_linearizable(&[
            (0, Some(1), Action::Get(None)),
            (2, Some(3), Action::Put(7)),
            (4, Some(5), Action::Get(Some((7, 1)))),
            (6, Some(7), swap(Some(7), 8, Some(true))),
            (8, Some(9), swap(Some(7), 9, Some(false))),
            (10, Some(11), Action::Delete(Some(true))),
            (12, Some(13), Action::Delete(Some(false))),
            (14, Some(15), swap(None, 3, Some(true))),
            (16, Some(17), Action::Get(Some((3, 1)))),
        ]));
        // A read that overlaps a put may see either side of it, and the next read too, but never go back.
        assert!(is_linearizable(&[(0, Some(9), Action::Put(1)), (1, Some(2), Action::Get(None))]));
        assert!(is_linearizable(&[(0, Some(9), Action::Put(1)), (1, Some(2), Action::Get(Some((1, 1))))]));
        // Two concurrent puts in the order that the reader saw.
        assert!(is_linearizable(&[
            (0, Some(9), Action::Put(1)),
            (0, Some(9), Action::Put(2)),
            (1, Some(2), Action::Get(Some((2, 1)))),
            (3, Some(4), Action::Get(Some((1, 2)))),
        ]));
        // A put that was never acknowledged takes effect much later, or never.
        assert!(is_linearizable(&[
            (0, None, Action::Put(1)),
            (10, Some(11), Action::Get(None)),
            (20, Some(21), Action::Get(Some((1, 1)))),
        ]));
        assert!(is_linearizable(&[(0, None, Action::Put(1)), (10, Some(11), Action::Get(None))]));
        assert!(is_linearizable(&[
            (0, None, Action::Delete(None)),
            (1, None, swap(None, 5, None)),
            (2, Some(3), Action::Put(1)),
            (4, Some(5), Action::Get(Some((1, 1)))),
            (6, Some(7), Action::Get(None)),
            (8, Some(9), Action::Get(Some((5, 1)))),
        ]));
    }

    #[test]
    fn a_stale_read_is_rejected() {
        assert!(!is_linearizable(&[(0, Some(1), Action::Put(1)), (2, Some(3), Action::Get(None))]));
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(9), Action::Put(2)),
            (3, Some(4), Action::Get(Some((2, 2)))),
            (5, Some(6), Action::Get(Some((1, 1)))),
        ]));
    }

    #[test]
    fn a_lost_write_is_rejected() {
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), Action::Put(2)),
            (4, Some(5), Action::Get(Some((1, 1)))),
        ]));
        // Lost between two others: only the version tells.
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), Action::Put(2)),
            (4, Some(5), Action::Put(3)),
            (6, Some(7), Action::Get(Some((3, 2)))),
        ]));
    }

    #[test]
    fn reordered_writes_are_rejected() {
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), Action::Put(2)),
            (4, Some(5), Action::Get(Some((1, 2)))),
        ]));
        // Two readers disagree about the order of two puts.
        assert!(!is_linearizable(&[
            (0, Some(20), Action::Put(1)),
            (0, Some(20), Action::Put(2)),
            (1, Some(2), Action::Get(Some((1, 1)))),
            (3, Some(4), Action::Get(Some((2, 2)))),
            (5, Some(6), Action::Get(Some((1, 2)))),
        ]));
    }

    #[test]
    fn a_swap_applied_twice_is_rejected() {
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), swap(Some(1), 2, Some(true))),
            (4, Some(5), Action::Get(Some((2, 3)))),
        ]));
        // Two swaps from one value cannot both succeed.
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(9), swap(Some(1), 2, Some(true))),
            (2, Some(9), swap(Some(1), 3, Some(true))),
        ]));
        // A put applied twice, around a delete.
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), Action::Delete(Some(true))),
            (4, Some(5), Action::Get(Some((1, 1)))),
        ]));
    }

    #[test]
    fn an_effect_before_the_beginning_is_rejected() {
        assert!(!is_linearizable(&[(0, Some(1), Action::Get(Some((1, 1)))), (2, None, Action::Put(1))]));
    }

    #[test]
    fn a_read_of_what_was_never_committed_is_rejected() {
        // Nobody wrote it.
        assert!(!is_linearizable(&[(0, Some(1), Action::Put(1)), (2, Some(3), Action::Get(Some((2, 2))))]));
        // The put without an answer was seen, and then it had not happened.
        assert!(!is_linearizable(&[
            (0, None, Action::Put(1)),
            (1, Some(2), Action::Get(Some((1, 1)))),
            (3, Some(4), Action::Get(None)),
        ]));
        // A swap that did not take place left its value.
        assert!(!is_linearizable(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), swap(Some(5), 2, Some(false))),
            (4, Some(5), Action::Get(Some((2, 2)))),
        ]));
    }

    #[test]
    fn a_violation_says_what_does_not_fit() {
        let operations = history(&[
            (0, Some(1), Action::Put(1)),
            (2, Some(3), Action::Put(2)),
            (4, Some(5), Action::Get(Some((1, 1)))),
        ]);
        let Verdict::Violation { ordered, state, stuck } = check(&operations) else { panic!("there is no order") };
        assert_eq!((ordered, state), (vec![0, 1], Some((2, 2))));
        assert_eq!(stuck, [operations[2]]);
    }

    /// Every order that respects time, tried one by one.
    fn try_all(operations: &[Operation], done: u64, state: State) -> bool {
        let is_open = |at: usize| done & (1 << at) == 0;
        let mut places = (0..operations.len()).filter(|at| is_open(*at) && operations[*at].ended.is_some()).peekable();
        if places.peek().is_none() {
            return true;
        }
        let earliest = places.map(|at| operations[at].ended.expect("filtered")).min().expect("there is one");
        (0..operations.len()).filter(|at| is_open(*at) && operations[*at].began <= earliest).any(|at| {
            let after = operations[at].action.apply(state);
            after.is_some_and(|after| try_all(operations, done | 1 << at, after))
        })
    }

    fn random_action(random: &mut Rng) -> Action {
        let value = random.below(3);
        let known = random.chance(80).then_some(random.chance(50));
        match random.below(5) {
            0 => Action::Put(value),
            1 | 2 => Action::Get(random.chance(75).then_some((value, 1 + random.below(3) as i64))),
            3 => swap(random.chance(70).then_some(random.below(3)), value, known),
            _ => Action::Delete(known),
        }
    }

    #[test]
    fn the_search_agrees_with_trying_everything() {
        let (mut good, mut bad) = (0, 0);
        for seed in 0..40_000 {
            let mut random = Rng::new(seed);
            let mut operations = Vec::new();
            for number in 0..1 + random.below(6) {
                let began = random.below(16);
                let ended = random.chance(80).then_some(began + 1 + random.below(6));
                operations.push(Operation { number, began, ended, action: random_action(&mut random) });
            }
            let expected = try_all(&operations, 0, None);
            assert_eq!(check(&operations) == Verdict::Linearizable, expected, "seed {seed}: {operations:?}");
            *(if expected { &mut good } else { &mut bad }) += 1;
        }
        assert!(good > 2000 && bad > 2000, "{good} good, {bad} bad");
    }

    #[test]
    fn long_histories_with_unknown_outcomes_are_fast() {
        let mut random = Rng::new(5);
        let (mut state, mut operations, mut now) = (None, Vec::new(), 0);
        for number in 0..400 {
            now += 2;
            let action = if random.chance(50) { Action::Put(number) } else { Action::Get(state) };
            state = action.apply(state).expect("true by construction");
            let began = now - random.below(8).min(now);
            let ended = (random.chance(90) || matches!(action, Action::Get(_))).then_some(now + random.below(8));
            operations.push(Operation { number, began, ended, action });
        }
        assert_eq!(check(&operations), Verdict::Linearizable);
    }
}
