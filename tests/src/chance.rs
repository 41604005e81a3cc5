//! Numbers that look random and are the same in each run: SplitMix64 (Steele, Lea, Flood 2014).

use std::ops::Range;

/// A generator; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of the range's numbers; the range is not empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        // The tiny bias of the remainder does not matter to a test.
        range.start + (self.next() % range.len() as u64) as usize
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_paper_and_keep_their_bounds() {
        // The reference implementation's first number from seed 0.
        assert_eq!(Chance::new(0).next(), 0xe220_a839_7b1d_cdaf);
        let mut chance = Chance::new(7);
        let numbers: Vec<_> = (0..1000).map(|_| chance.within(3..9)).collect();
        assert!(numbers.iter().all(|number| (3..9).contains(number)));
        assert!((3..9).all(|number| numbers.contains(&number)));
    }
}
