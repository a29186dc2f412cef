//! The only source of chance in a simulated world: splitmix64, so that everything follows from the seed.

use std::ops::Range;

/// A stream of pseudo-random numbers.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
    /// Reads and writes move all that there is.
    pub generous: bool,
}

impl Rng {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x5355_4943_4547_4154, generous: false }
    }

    /// A stream of its own for one part of the world, so that a change in one part leaves the others as they are.
    pub fn fork(&mut self) -> Self {
        Self { state: self.next(), generous: false }
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "a stream without an end is no iterator worth the name")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// `true` in `n` of 1000 cases.
    pub fn permille(&mut self, n: u64) -> bool {
        self.next() % 1000 < n
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// How many of `available` bytes a read or write moves: one, a few, many or all.
    pub fn portion(&mut self, available: usize) -> usize {
        let most = match self.below(6) {
            0 if !self.generous => 1,
            1 if !self.generous => 1 + self.below(8),
            2 if !self.generous => 1 + self.below(100),
            3 if !self.generous => 1 + self.below(2000),
            _ => available,
        };
        most.min(available)
    }

    /// Twenty random bytes: what an id is made of.
    pub fn entropy(&mut self) -> [u8; 20] {
        std::array::from_fn(|_| self.next() as u8)
    }
}
