//! A filter: says of a key that it was never put in, or that it may have been. Never wrong about the
//! first.
//!
//! A split-block Bloom filter (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007; in the shape of the Parquet format): a key sets one bit in each of the eight words
//! of one block, so asking costs one cache line. With 16 bits a key fewer than one stranger in 500 passes.

use super::entry::Key;

/// How much room a key gets. Every stranger that passes costs reading and proving a block of the run:
/// with 12 bits some thirty blocks for a thousand new events, beside a handful of runs.
const BITS_PER_KEY: usize = 16;
const WORDS: usize = 8;
const BLOCK_BYTES: usize = WORDS * 4;

/// Odd numbers that spread a hash over the bits of a word, from the Parquet format.
const SALTS: [u32; WORDS] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

type Block = [u32; WORDS];

/// The keys of one run.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    /// Nobody who chooses event ids knows it, so nobody can choose ids that pass.
    seed: u64,
    blocks: Vec<Block>,
}

impl Filter {
    #[must_use]
    pub fn new(keys: usize, seed: u64) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8).max(1);
        Self { seed, blocks: vec![[0; WORDS]; blocks] }
    }

    pub fn insert(&mut self, key: &Key) {
        let (at, bits) = self.place(key);
        for (word, bit) in self.blocks[at].iter_mut().zip(bits) {
            *word |= bit;
        }
    }

    #[must_use]
    pub fn may_hold(&self, key: &Key) -> bool {
        let (at, bits) = self.place(key);
        self.blocks[at].iter().zip(bits).all(|(word, bit)| word & bit != 0)
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None` for bytes that are no whole blocks.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], seed: u64) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let (blocks, more) = words.as_chunks::<WORDS>();
        let whole = rest.is_empty() && more.is_empty() && !blocks.is_empty();
        whole.then(|| Self { seed, blocks: blocks.iter().map(|block| block.map(u32::from_le_bytes)).collect() })
    }

    /// The block of a key and its bit in each word.
    fn place(&self, key: &Key) -> (usize, Block) {
        let hash = hash(key, self.seed).to_le_bytes();
        let (upper, lower) = ([hash[4], hash[5], hash[6], hash[7]], [hash[0], hash[1], hash[2], hash[3]]);
        let (upper, lower) = (u32::from_le_bytes(upper), u32::from_le_bytes(lower));
        // Multiplied and shifted instead of divided: as even, and faster.
        let at = (u64::from(upper) * self.blocks.len() as u64) >> 32;
        (
            usize::try_from(at).expect("it is less than the number of blocks"),
            SALTS.map(|salt| 1 << (lower.wrapping_mul(salt) >> 27)),
        )
    }
}

/// Mixes the key's 128 bits and the seed into 64, by the steps of `SplitMix64`; each half in turn.
fn hash(key: &Key, seed: u64) -> u64 {
    let (halves, _) = key.as_chunks::<8>();
    halves.iter().fold(seed, |hash, half| mix(hash ^ u64::from_le_bytes(*half)))
}

const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u128) -> Key {
        number.to_be_bytes()
    }

    #[test]
    fn what_was_put_in_is_always_found_and_strangers_seldom_pass() {
        let mut filter = Filter::new(20_000, 7);
        (0..20_000).for_each(|number| filter.insert(&key(number)));
        let filter = Filter::from_bytes(&filter.to_bytes(), 7).expect("it reads back");
        assert!((0..20_000).all(|number| filter.may_hold(&key(number))));
        let passing = (20_000..120_000).filter(|number| filter.may_hold(&key(*number))).count();
        assert!(passing < 200, "{passing} of 100,000 strangers pass");
    }

    #[test]
    fn an_empty_filter_holds_nothing_and_half_a_block_is_none() {
        assert!((0..100).all(|number| !Filter::new(0, 7).may_hold(&key(number))));
        assert_eq!(Filter::from_bytes(&[], 7), None);
        assert_eq!(Filter::from_bytes(&[0; 40], 7), None);
    }
}
