//! The generator that draws plans: small, its own, and the same on every machine.

/// A sequence of numbers that a seed decides (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One of many independent sequences of a seed.
    pub fn new(seed: u64, sequence: u64) -> Random {
        let mut random = Random(seed);
        let start = random.next();
        let mut random = Random(start ^ sequence.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from the first to before the second.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// Whether something happens that does so many times out of a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 100) < chance
    }

    /// One of several, each as often as its weight says.
    pub fn weighted<'a, T>(&mut self, choices: &'a [(T, u64)]) -> &'a T {
        let total = choices.iter().map(|(_, weight)| weight).sum();
        let mut left = self.between(0, total);
        for (choice, weight) in choices {
            if left < *weight {
                return choice;
            }
            left -= weight;
        }
        unreachable!("what is left is less than the sum of all weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_sequence_and_sequences_differ() {
        let drawn = |seed, sequence| {
            let mut random = Random::new(seed, sequence);
            (0..8).map(|_| random.between(0, 1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1, 0), drawn(1, 0));
        assert_ne!(drawn(1, 0), drawn(1, 1));
        assert_ne!(drawn(1, 0), drawn(2, 0));
    }

    #[test]
    fn weights_are_kept() {
        let mut random = Random::new(7, 0);
        let heads = (0..10_000).filter(|_| *random.weighted(&[(true, 3), (false, 1)])).count();
        assert!((7_200..7_800).contains(&heads), "{heads}");
    }
}
