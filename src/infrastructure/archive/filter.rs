//! A filter: says of a key that it was never put in, or that it may have been. Never wrong about the
//! first.
//!
//! A split-block Bloom filter (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007; the Parquet format has one with half as many words in a block): a key sets one bit in
//! each of the sixteen words of one block, which is a cache line.
//!
//! Hashing a key costs more than looking at its block. So what depends on the key and the seed alone is
//! made once, a [`Probe`], and shown to the filters of all runs.

use super::entry::Key;

/// How much room a key gets. Six strangers of a million pass then. Each costs reading and proving a block
/// of the run, and where the system has not kept that in memory, everybody waits for the disk: with 16
/// bits that was one new event in seventy, beside nine runs.
const BITS_PER_KEY: usize = 32;
const WORDS: usize = 16;
const BLOCK_BYTES: usize = WORDS * 4;

/// Odd numbers that spread a hash over the bits of a word, from the Parquet format.
const SALTS: [u32; WORDS / 2] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

type Words = [u32; WORDS];

/// Begins with a cache line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(align(64))]
struct Block(Words);

/// A key, as every filter of one seed is asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    seed: u64,
    /// Where the block is, of 2³² places that are spread over as many blocks as there are.
    place: u32,
    /// The bit in each word of the block.
    bits: Words,
}

impl Probe {
    #[must_use]
    pub fn new(key: &Key, seed: u64) -> Self {
        let first = hash(key, seed);
        let ([place, upper], [lower, _]) = (halves(first), halves(mix(first)));
        let (uppers, lowers) = (SALTS.map(|salt| bit(upper, salt)), SALTS.map(|salt| bit(lower, salt)));
        let mut bits = [0; WORDS];
        bits[..WORDS / 2].copy_from_slice(&uppers);
        bits[WORDS / 2..].copy_from_slice(&lowers);
        Self { seed, place, bits }
    }
}

/// The keys of one run.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    /// Who does not know the log's hashes cannot choose ids that pass. Who does gains reads of the disk, as
    /// by repeating what is archived.
    seed: u64,
    blocks: Vec<Block>,
}

impl Filter {
    #[must_use]
    pub fn new(keys: usize, seed: u64) -> Self {
        let blocks = Self::bytes_for(keys) / BLOCK_BYTES;
        Self { seed, blocks: vec![Block([0; WORDS]); blocks] }
    }

    /// How large it is for so many keys.
    #[must_use]
    pub const fn bytes_for(keys: usize) -> usize {
        let blocks = keys.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8);
        if blocks == 0 { BLOCK_BYTES } else { blocks.saturating_mul(BLOCK_BYTES) }
    }

    pub fn insert(&mut self, key: &Key) {
        let probe = Probe::new(key, self.seed);
        let at = self.block_of(&probe);
        for (word, bit) in self.blocks[at].0.iter_mut().zip(probe.bits) {
            *word |= bit;
        }
    }

    /// Asks for a key. The probe has the seed of this filter.
    #[must_use]
    pub fn may_hold(&self, probe: &Probe) -> bool {
        assert!(probe.seed == self.seed, "a probe of another seed says no to what is here");
        self.blocks[self.block_of(probe)].0.iter().zip(probe.bits).all(|(word, bit)| word & bit != 0)
    }

    /// The bytes of its blocks, in their order.
    pub fn bytes(&self) -> impl Iterator<Item = [u8; BLOCK_BYTES]> {
        self.blocks.iter().map(|block| {
            let mut bytes = [0; BLOCK_BYTES];
            let (words, _) = bytes.as_chunks_mut::<4>();
            words.iter_mut().zip(block.0).for_each(|(bytes, word)| *bytes = word.to_le_bytes());
            bytes
        })
    }

    /// `None` for bytes that are no whole blocks.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], seed: u64) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let (blocks, more) = words.as_chunks::<WORDS>();
        let whole = rest.is_empty() && more.is_empty() && !blocks.is_empty();
        whole.then(|| Self { seed, blocks: blocks.iter().map(|block| Block(block.map(u32::from_le_bytes))).collect() })
    }

    fn block_of(&self, probe: &Probe) -> usize {
        // Multiplied and shifted instead of divided: as even, and faster.
        let at = (u64::from(probe.place) * self.blocks.len() as u64) >> 32;
        usize::try_from(at).expect("it is less than the number of blocks")
    }
}

fn halves(hash: u64) -> [u32; 2] {
    let bytes = hash.to_be_bytes();
    let (halves, _) = bytes.as_chunks::<4>();
    [u32::from_be_bytes(halves[0]), u32::from_be_bytes(halves[1])]
}

const fn bit(hash: u32, salt: u32) -> u32 {
    1 << (hash.wrapping_mul(salt) >> 27)
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

    fn may_hold(filter: &Filter, number: u128) -> bool {
        filter.may_hold(&Probe::new(&key(number), 7))
    }

    #[test]
    fn what_was_put_in_is_always_found_and_strangers_seldom_pass() {
        let mut filter = Filter::new(20_000, 7);
        (0..20_000).for_each(|number| filter.insert(&key(number)));
        let filter = Filter::from_bytes(filter.bytes().collect::<Vec<_>>().as_flattened(), 7).expect("it reads back");
        assert!((0..20_000).all(|number| may_hold(&filter, number)));
        let passing = (20_000..1_020_000).filter(|number| may_hold(&filter, *number)).count();
        assert!(passing < 20, "{passing} of a million strangers pass");
    }

    #[test]
    #[should_panic(expected = "another seed")]
    fn a_probe_of_another_seed_gets_no_answer() {
        let _ = Filter::new(1, 7).may_hold(&Probe::new(&key(1), 8));
    }

    #[test]
    fn an_empty_filter_holds_nothing_and_half_a_block_is_none() {
        assert!((0..100).all(|number| !may_hold(&Filter::new(0, 7), number)));
        assert_eq!(Filter::from_bytes(&[], 7), None);
        assert_eq!(Filter::from_bytes(&[0; 40], 7), None);
    }
}
