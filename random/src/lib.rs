//! The generator of everything that is drawn in tests, simulations and measurements (splitmix64): the same seed gives the
//! same run, on every machine and for ever. Nothing that a server ships draws from it.

#![forbid(unsafe_code)]

/// See the crate.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Starts from the number in an environment variable, or from `otherwise`; prints it under that name, so that the run
    /// can be had again.
    pub fn from_variable(name: &str, otherwise: u64) -> Random {
        let seed = std::env::var(name).ok().and_then(|seed| seed.parse().ok()).unwrap_or(otherwise);
        println!("{name}={seed}");
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero. The bias is of no interest here.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing lies below zero");
        self.bits() % bound
    }

    /// An index below `bound`, which is not zero.
    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True once in `times` cases.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these, of which there is at least one.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    /// Another generator, whose numbers have nothing to do with what comes from this one.
    pub fn fork(&mut self) -> Random {
        Random(self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut random = Random::new(0);
        assert_eq!([random.bits(), random.bits()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..8).map(|_| random.below(10)).collect();
        let mut again = Random::new(7);
        assert_eq!(drawn, (0..8).map(|_| again.below(10)).collect::<Vec<_>>());
        assert!((0..100).all(|_| random.chance(100) && !random.chance(0) && random.once_in(1)));
        assert_eq!(random.pick(&["only"]), "only");
        assert_ne!(random.fork().bits(), random.bits());
    }
}
