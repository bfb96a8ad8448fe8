//! Random numbers that a seed repeats.

/// `SplitMix64`, Sebastiano Vigna's public-domain generator
/// (<https://prng.di.unimi.it/splitmix64.c>): small, fast, good enough for choosing what to do.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for one part of the work: what one part draws changes nothing for the
    /// others.
    #[must_use]
    pub fn of_part(seed: u64, part: &str, number: u64) -> Self {
        let named = part.bytes().fold(seed, |state, byte| Self(state ^ u64::from(byte)).number());
        Self(Self(named ^ number).number())
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// A place in something of this length, which is not zero.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("less than a length")
    }

    /// Whether something happens that happens so often in a hundred times.
    pub fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.index(end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    /// The first numbers that the published C program gives for the seed 1234567.
    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let numbers: Vec<_> = (0..3).map(|_| random.number()).collect();
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn parts_with_other_names_or_numbers_draw_other_numbers() {
        let first = |seed, part, number| Random::of_part(seed, part, number).number();
        assert_eq!(first(1, "cycle", 2), first(1, "cycle", 2));
        let drawn = [first(1, "cycle", 2), first(2, "cycle", 2), first(1, "client", 2), first(1, "cycle", 3)];
        assert!(drawn.iter().enumerate().all(|(at, number)| !drawn[..at].contains(number)), "{drawn:?}");
    }
}
