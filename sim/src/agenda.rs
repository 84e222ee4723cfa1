//! What is to happen in a world, in the order of time, and for one moment in the order of planning: a run repeats exactly.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// An event with its moment.
pub(crate) struct Planned<E> {
    /// When it happens.
    pub(crate) time: u64,
    /// How many were planned before it.
    pub(crate) number: u64,
    /// What happens.
    pub(crate) event: E,
}

impl<E> Planned<E> {
    fn place(&self) -> (u64, u64) {
        (self.time, self.number)
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// All planned events.
pub(crate) struct Agenda<E> {
    queue: BinaryHeap<Reverse<Planned<E>>>,
    planned: u64,
}

impl<E> Agenda<E> {
    /// Nothing is planned.
    pub(crate) fn new() -> Agenda<E> {
        Agenda { queue: BinaryHeap::new(), planned: 0 }
    }

    /// Plans an event, behind all others of its moment.
    pub(crate) fn plan(&mut self, time: u64, event: E) {
        self.planned += 1;
        self.queue.push(Reverse(Planned { time, number: self.planned, event }));
    }

    /// Puts an event off, which keeps its number.
    pub(crate) fn put_off(&mut self, planned: Planned<E>) {
        self.queue.push(Reverse(planned));
    }

    /// Takes the next event, if there is one up to `end`.
    pub(crate) fn next(&mut self, end: u64) -> Option<Planned<E>> {
        if self.queue.peek().is_none_or(|Reverse(planned)| planned.time > end) {
            return None;
        }
        self.queue.pop().map(|Reverse(planned)| planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_planned() {
        let mut agenda = Agenda::new();
        for (time, event) in [(5, 'c'), (3, 'a'), (3, 'b'), (9, 'd')] {
            agenda.plan(time, event);
        }
        let first = agenda.next(5).expect("due");
        assert_eq!((first.time, first.event), (3, 'a'));
        // Put off to a moment of others, it comes before what was planned later.
        agenda.put_off(Planned { time: 3, ..first });
        let rest: Vec<_> = std::iter::from_fn(|| agenda.next(5)).map(|planned| planned.event).collect();
        assert_eq!(rest, ['a', 'b', 'c']);
        assert!(agenda.next(8).is_none());
    }
}
