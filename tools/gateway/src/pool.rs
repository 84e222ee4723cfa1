//! The endpoints, and which of them takes the next connection.
//!
//! Of those that are not left out, the ones of the lowest priority count. Among these, endpoints with a weight are drawn in
//! proportion to it, and the others take turns. Priorities and weights are those of DNS records (RFC 2782); endpoints from
//! the command line have neither. As RFC 2782 asks, one without a weight beside others with one is chosen rarely.

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    pub address: String,
    /// The lowest are used.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
}

impl Endpoint {
    /// One from the command line.
    pub fn plain(address: impl Into<String>) -> Endpoint {
        Endpoint { address: address.into(), priority: 0, weight: 0 }
    }
}

/// One connection in so many goes to an endpoint without a weight, beside others that have one.
const RARELY: u32 = 100;

struct Slot {
    endpoint: Endpoint,
    is_left_out: bool,
}

/// All endpoints.
pub struct Pool {
    slots: Vec<Slot>,
    turns: usize,
}

impl Pool {
    /// All of them in use.
    ///
    /// # Panics
    /// If there are none: who calls has refused that.
    pub fn new(endpoints: Vec<Endpoint>) -> Pool {
        assert!(!endpoints.is_empty(), "a pool has endpoints");
        Pool { slots: endpoints.into_iter().map(|endpoint| Slot { endpoint, is_left_out: false }).collect(), turns: 0 }
    }

    /// The addresses, in their order.
    pub fn addresses(&self) -> Vec<&str> {
        self.slots.iter().map(|slot| slot.endpoint.address.as_str()).collect()
    }

    /// The number of the endpoint that is next and its address, or `None` if all are left out. `random` is any number.
    pub fn pick(&mut self, random: u32) -> Option<(usize, String)> {
        let used = || self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_left_out);
        let best = used().map(|(_, slot)| slot.endpoint.priority).min()?;
        let (weighted, plain): (Vec<_>, Vec<_>) = used()
            .filter(|(_, slot)| slot.endpoint.priority == best)
            .map(|(number, slot)| (number, u32::from(slot.endpoint.weight)))
            .partition(|(_, weight)| *weight > 0);
        let number = if weighted.is_empty() || (!plain.is_empty() && random.is_multiple_of(RARELY)) {
            self.turns = self.turns.wrapping_add(1);
            plain[self.turns.wrapping_sub(1) % plain.len()].0
        } else {
            let mut ticket = (random / RARELY) % weighted.iter().map(|(_, weight)| weight).sum::<u32>();
            let drawn = weighted.iter().find(|(_, weight)| {
                let found = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                found
            });
            drawn.expect("a ticket is below the sum of the weights").0
        };
        Some((number, self.slots[number].endpoint.address.clone()))
    }

    /// Leaves an endpoint out, or takes it back. True if that is a change.
    pub fn leave_out(&mut self, number: usize, is_left_out: bool) -> bool {
        std::mem::replace(&mut self.slots[number].is_left_out, is_left_out) != is_left_out
    }

    /// The numbers and addresses of those that are left out.
    pub fn left_out(&self) -> Vec<(usize, String)> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_left_out);
        slots.map(|(number, slot)| (number, slot.endpoint.address.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_random::Random;
    use std::collections::BTreeMap;

    fn picks(pool: &mut Pool, count: u32) -> BTreeMap<usize, u32> {
        let (mut random, mut picked) = (Random::new(7), BTreeMap::new());
        for _ in 0..count {
            let (number, _) = pool.pick(random.bits() as u32).expect("one is in use");
            *picked.entry(number).or_insert(0) += 1;
        }
        picked
    }

    #[test]
    fn plain_endpoints_take_turns() {
        let mut pool = Pool::new(["a:1", "b:1", "c:1"].map(Endpoint::plain).to_vec());
        let order: Vec<usize> = (0..6).map(|random| pool.pick(random).expect("in use").0).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert!(pool.leave_out(1, true) && !pool.leave_out(1, true));
        assert_eq!(picks(&mut pool, 10), BTreeMap::from([(0, 5), (2, 5)]));
        pool.leave_out(0, true);
        pool.leave_out(2, true);
        assert_eq!(pool.pick(3), None);
        assert_eq!(pool.left_out().len(), 3);
    }

    #[test]
    fn weights_are_shares_and_priorities_go_first() {
        let endpoint = |address: &str, priority, weight| Endpoint { address: address.to_owned(), priority, weight };
        let mut pool = Pool::new(vec![
            endpoint("a:1", 1, 30),
            endpoint("b:1", 1, 10),
            endpoint("c:1", 2, 100),
            endpoint("d:1", 1, 0),
        ]);
        let picked = picks(&mut pool, 40_000);
        assert!((28_000..31_500).contains(&picked[&0]) && (9_000..11_000).contains(&picked[&1]), "{picked:?}");
        assert!((200..700).contains(&picked[&3]) && !picked.contains_key(&2), "{picked:?}");
        for number in [0, 1, 3] {
            pool.leave_out(number, true);
        }
        assert_eq!(picks(&mut pool, 10), BTreeMap::from([(2, 10)]));
    }
}
