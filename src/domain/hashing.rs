//! The maps of the world, with keyed hashing that costs little.
//!
//! Devices choose the identifiers, so nobody may be able to choose many that fall into one place of
//! a map: every map has a key of its own. Both the key of the process and that of the map come from
//! the system's random numbers. The standard library's hash function keeps that promise even against
//! somebody who can watch single hashes or time single look-ups; from outside nobody can, behind a
//! network and a sync of the disk, and it costs a fifth of the fold. So this one only has to be
//! unpredictable.

use std::collections;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

pub type HashMap<K, V> = collections::HashMap<K, V, Keyed>;
pub type HashSet<T> = collections::HashSet<T, Keyed>;

/// The key of one map.
#[derive(Debug, Clone)]
pub struct Keyed(SeedableRandomState);

impl Default for Keyed {
    /// A key that was not used before.
    fn default() -> Self {
        static OF_THE_PROCESS: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(random()));
        Self(SeedableRandomState::with_seed(random(), &OF_THE_PROCESS))
    }
}

/// What nobody can know beforehand: keyed by the system's random numbers.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_has_a_key_of_its_own() {
        let [first, second] = [Keyed::default(), Keyed::default()];
        assert_eq!(first.hash_one("L1"), first.clone().hash_one("L1"));
        assert_ne!(first.hash_one("L1"), second.hash_one("L1"));
        assert_ne!(first.hash_one("L1"), first.hash_one("L2"));
    }
}
