//! An ordered map that is short nearly always.
//!
//! There is one for the doors of each locker and two for the open faults of a door. A tree has room for
//! eleven entries in each of its nodes, whatever is in them: in a large network most of the memory would
//! be room for doors that nobody built in. A sorted vector has what it needs, but inserting moves what
//! comes after, and a sensor that reports a fault each second fills it without an end. So it is the one
//! as long as it is short, and the other from then on.

use std::collections::BTreeMap;
use std::mem;

use either::Either;

/// The longest vector, in entries: inserting into it moves some kilobytes.
const MAX_FEW: usize = 256;

#[derive(Debug, Clone)]
pub enum SmallMap<K, V> {
    /// In the order of the keys.
    Few(Vec<(K, V)>),
    /// There were more, and since then it was never empty.
    Many(BTreeMap<K, V>),
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SmallMap<K, V> {
    #[must_use]
    pub const fn new() -> Self {
        Self::Few(Vec::new())
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        match self {
            Self::Few(few) => Either::Left(few.iter().map(|(key, value)| (key, value))),
            Self::Many(many) => Either::Right(many.iter()),
        }
    }

    /// In the order of the keys.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&K, &mut V)> {
        match self {
            Self::Few(few) => Either::Left(few.iter_mut().map(|(key, value)| (&*key, value))),
            Self::Many(many) => Either::Right(many.iter_mut()),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().len() == 0
    }
}

impl<K: Ord, V> SmallMap<K, V> {
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Few(few) => place(few, key).ok().map(|at| &few[at].1),
            Self::Many(many) => many.get(key),
        }
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::Few(few) => place(few, key).ok().map(|at| &mut few[at].1),
            Self::Many(many) => many.get_mut(key),
        }
    }

    /// Gives what the key stood for before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Many(many) => many.insert(key, value),
            Self::Few(few) => match place(few, &key) {
                Ok(at) => Some(mem::replace(&mut few[at].1, value)),
                Err(_) if few.len() == MAX_FEW => {
                    let mut many: BTreeMap<K, V> = mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    *self = Self::Many(many);
                    None
                }
                Err(at) => {
                    if few.len() == few.capacity() {
                        // A quarter more, where a vector by itself would double, and has room for four at least.
                        few.reserve_exact(1 + few.len() / 4);
                    }
                    few.insert(at, (key, value));
                    None
                }
            },
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let removed = match self {
            Self::Few(few) => place(few, key).ok().map(|at| few.remove(at).1),
            Self::Many(many) => many.remove(key),
        };
        if removed.is_some() && self.is_empty() {
            *self = Self::new();
        }
        removed
    }
}

/// Where a key is, or where it would have to be.
fn place<K: Ord, V>(few: &[(K, V)], key: &K) -> Result<usize, usize> {
    few.binary_search_by(|(other, _)| other.cmp(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_many<K, V>(map: &SmallMap<K, V>) -> bool {
        matches!(map, SmallMap::Many(_))
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_however_many_there_are(
            steps in prop::collection::vec((prop::bool::weighted(0.8), 0_u16..1_000), 0..1_500),
        ) {
            let (mut map, mut model) = (SmallMap::new(), BTreeMap::new());
            for (step, (inserts, key)) in steps.into_iter().enumerate() {
                prop_assert_eq!(map.get(&key), model.get(&key));
                if inserts {
                    prop_assert_eq!(map.insert(key, step), model.insert(key, step));
                    *map.get_mut(&key).unwrap() += 1;
                    *model.get_mut(&key).unwrap() += 1;
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                    prop_assert_eq!(map.get_mut(&key), None);
                }
                prop_assert_eq!(map.is_empty(), model.is_empty());
            }
            map.iter_mut().for_each(|(_, value)| *value += 1);
            for value in model.values_mut() {
                *value += 1;
            }
            prop_assert_eq!(map.iter().len(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
        }
    }

    #[test]
    fn it_is_a_vector_of_little_more_than_it_needs_up_to_the_limit_and_a_tree_from_then_on() {
        let mut map = SmallMap::new();
        for number in 0..MAX_FEW {
            map.insert(number, ());
            let SmallMap::Few(few) = &map else { panic!("a tree for {} entries", number + 1) };
            assert!(few.capacity() <= 1 + few.len() * 5 / 4, "{} for {}", few.capacity(), few.len());
        }
        assert_eq!(map.insert(0, ()), Some(()));
        assert!(!is_many(&map), "nothing was added");
        map.insert(MAX_FEW, ());
        assert!(is_many(&map) && map.iter().map(|(key, ())| *key).eq(0..=MAX_FEW));
    }

    #[test]
    fn it_stays_a_tree_until_it_is_empty() {
        let mut map: SmallMap<_, _> = SmallMap::new();
        (0..=MAX_FEW).for_each(|number| assert_eq!(map.insert(number, ()), None));
        (1..=MAX_FEW).for_each(|number| assert_eq!(map.remove(&number), Some(())));
        assert!(is_many(&map) && !map.is_empty());
        assert_eq!((map.remove(&0), map.remove(&0)), (Some(()), None));
        assert!(!is_many(&map) && map.is_empty());
    }
}
