//! Chance that can be repeated, for tests that try many orders of events.

/// SplitMix64: a few bits of a seed become an order of events.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to `bound`, without it.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Smaller than `bound`, so it fits.
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap_or_default()
    }

    /// True once in `count` times, more or less.
    ///
    /// # Panics
    /// When `count` is 0.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// Between `least` and `most`, both included.
    ///
    /// # Panics
    /// When `most` is the smaller one.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let bound = usize::try_from(most - least + 1).unwrap_or(usize::MAX);
        least + self.below(bound) as u64
    }
}
