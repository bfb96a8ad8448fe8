//! A map in parts: for the largest maps, in which no single step may take long.
//!
//! A hash table that grows moves all that it holds, and whoever inserts the one entry too many waits
//! for that: tens of milliseconds with a million entries. Here each of the parts grows by itself, so
//! the wait is a small part of that, and what goes through the whole map can do so part by part.

use std::hash::{BuildHasher, Hash};

use crate::domain::hashing::{HashMap, Keyed};

/// How many parts a map has.
pub const PARTS: usize = 64;

/// A part that has room for more than this gives back what it does not need once most of it is unused.
/// A smaller one keeps its room: it is about to fill again.
const LARGE_PART: usize = (1 << 18) / PARTS;

/// A map of many entries.
#[derive(Debug)]
pub struct Parted<K, V> {
    key: Keyed,
    parts: Box<[HashMap<K, V>]>,
}

impl<K, V> Default for Parted<K, V> {
    fn default() -> Self {
        let key = Keyed::default();
        let part = || HashMap::with_hasher(key.clone());
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect(), key }
    }
}

impl<K: Eq + Hash, V> Parted<K, V> {
    /// Which part has a key. Not by the bits that find it within the part: those are the lowest and the
    /// highest.
    fn part(&self, key: &K) -> usize {
        (self.key.hash_one(key) >> 40) as usize % PARTS
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.parts[self.part(key)].get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.parts[self.part(key)].get_mut(key)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.parts[self.part(&key)].insert(key, value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.parts[self.part(key)].remove(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flatten()
    }

    pub fn entries(&self) -> usize {
        self.parts.iter().map(HashMap::len).sum()
    }

    /// Keeps of one part what `stays`, and gives memory back after very many entries went at once.
    pub fn retain_in(&mut self, part: usize, stays: impl FnMut(&K, &mut V) -> bool) {
        let part = &mut self.parts[part];
        // Before they go: afterwards a table counts neither them nor the places that it has yet to clean.
        let room = part.capacity();
        part.retain(stays);
        if room > LARGE_PART && part.len() < room / 4 {
            part.shrink_to((part.len() * 5 / 4).max(LARGE_PART / 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u32 = 100_000;

    fn of_many() -> Parted<u32, u32> {
        let mut map = Parted::default();
        for number in 0..MANY {
            assert_eq!(map.insert(number, number), None);
        }
        map
    }

    #[test]
    fn it_is_a_map() {
        let mut map = of_many();
        assert_eq!(map.insert(7, 8), Some(7));
        *map.get_mut(&8).unwrap() = 9;
        assert_eq!((map.get(&7), map.get(&8), map.get(&MANY)), (Some(&8), Some(&9), None));
        assert!(map.contains_key(&0) && !map.contains_key(&MANY));
        assert_eq!((map.remove(&8), map.remove(&8), map.insert(8, 8)), (Some(9), None, None));
        assert_eq!(map.entries(), MANY as usize);
        let mut keys: Vec<_> = map.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..MANY).collect::<Vec<_>>());
    }

    #[test]
    fn no_part_has_much_more_than_its_share() {
        let map = of_many();
        let share = MANY as usize / PARTS;
        let sizes: Vec<_> = map.parts.iter().map(HashMap::len).collect();
        // Twenty times the deviation that chance alone would give.
        assert!(sizes.iter().all(|size| size.abs_diff(share) < share / 2), "{sizes:?}");
    }

    #[test]
    fn what_goes_goes_part_by_part() {
        let mut map = of_many();
        let of_first = map.parts[0].len();
        map.retain_in(0, |_, _| false);
        assert_eq!(map.entries(), MANY as usize - of_first);
        for part in 0..PARTS {
            map.retain_in(part, |key, _| key % 2 == 0);
        }
        assert!(map.entries() > 0 && map.iter().all(|(key, _)| key % 2 == 0));
    }

    fn of_very_many(entries: u32) -> Parted<u32, u8> {
        let mut map = Parted::default();
        (0..entries).for_each(|number| _ = map.insert(number, 0));
        assert!(map.parts.iter().all(|part| part.capacity() > LARGE_PART));
        map
    }

    fn room(map: &Parted<u32, u8>) -> usize {
        map.parts.iter().map(HashMap::capacity).sum()
    }

    #[test]
    fn a_part_that_was_large_gives_its_room_back() {
        let mut map = of_very_many(2_000_000);
        // Half of it is in use, and it stays, as far as a table tells.
        let before = room(&map);
        (0..PARTS).for_each(|part| map.retain_in(part, |number, _| number % 2 == 0));
        assert!(room(&map) >= 2_000_000 && room(&map) > before * 3 / 5, "{} of {before}", room(&map));
        (0..PARTS).for_each(|part| map.retain_in(part, |number, _| number % 8 == 0));
        assert!(map.entries() == 250_000 && room(&map) < 3 * 250_000);
        (0..PARTS).for_each(|part| map.retain_in(part, |_, _| false));
        assert!(map.parts.iter().all(|part| part.capacity() <= LARGE_PART));
    }

    #[test]
    fn one_that_was_nearly_full_does_so_too() {
        let mut map = of_very_many(3_550_000);
        (0..PARTS).for_each(|part| map.retain_in(part, |number, _| number % 8 == 0));
        assert!(map.entries() == 443_750 && room(&map) < 3 * 443_750);
    }
}
