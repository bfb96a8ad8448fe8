//! An ordered map that is short nearly always.
//!
//! There is one for the doors of each locker and two for the open faults of a door. A tree has room for
//! eleven entries in each of its nodes, whatever is in them: in a large network that is half of all
//! memory. A sorted vector has little more than it needs, but inserting moves what comes after, and a
//! sensor that reports a fault each second fills it without an end. So it is the one as long as it is
//! short, and the other from then on.

use std::collections::BTreeMap;
use std::mem;

use either::Either;

/// The longest vector, in entries: of doors, the largest of what lies in one, that is 28 KiB to move.
const MAX_FEW: usize = 256;

#[derive(Debug, Clone)]
pub struct SmallMap<K, V>(Form<K, V>);

#[derive(Debug, Clone)]
enum Form<K, V> {
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
        Self(Form::Few(Vec::new()))
    }

    /// In the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        match &self.0 {
            Form::Few(few) => Either::Left(few.iter().map(|(key, value)| (key, value))),
            Form::Many(many) => Either::Right(many.iter()),
        }
    }

    /// In the order of the keys.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&K, &mut V)> {
        match &mut self.0 {
            Form::Few(few) => Either::Left(few.iter_mut().map(|(key, value)| (&*key, value))),
            Form::Many(many) => Either::Right(many.iter_mut()),
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
        match &self.0 {
            Form::Few(few) => place(few, key).ok().map(|at| &few[at].1),
            Form::Many(many) => many.get(key),
        }
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match &mut self.0 {
            Form::Few(few) => place(few, key).ok().map(|at| &mut few[at].1),
            Form::Many(many) => many.get_mut(key),
        }
    }

    /// Gives what the key stood for before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match &mut self.0 {
            Form::Many(many) => many.insert(key, value),
            Form::Few(few) => match place(few, &key) {
                Ok(at) => Some(mem::replace(&mut few[at].1, value)),
                Err(_) if few.len() == MAX_FEW => {
                    let mut many: BTreeMap<K, V> = mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    self.0 = Form::Many(many);
                    None
                }
                Err(at) => {
                    if few.len() == few.capacity() {
                        // A quarter more, where a vector by itself would double, and has room for four at least.
                        few.reserve_exact((1 + few.len() / 4).min(MAX_FEW - few.len()));
                    }
                    few.insert(at, (key, value));
                    None
                }
            },
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let removed = match &mut self.0 {
            Form::Few(few) => place(few, key).ok().map(|at| {
                let (_, value) = few.remove(at);
                // As far as it will not have to grow again at once, and never to nothing: what comes and
                // goes one by one would ask for memory each time.
                if few.len() < few.capacity() / 4 {
                    few.shrink_to((2 * few.len()).max(1));
                }
                value
            }),
            Form::Many(many) => many.remove(key),
        };
        if matches!(&self.0, Form::Many(many) if many.is_empty()) {
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

    impl<K, V> SmallMap<K, V> {
        /// For how many entries the vector has room; `None` for a tree.
        fn room(&self) -> Option<usize> {
            match &self.0 {
                Form::Few(few) => Some(few.capacity()),
                Form::Many(_) => None,
            }
        }
    }

    /// In no order.
    fn of(entries: usize) -> SmallMap<usize, ()> {
        let mut map = SmallMap::new();
        (0..entries).for_each(|number| assert_eq!(map.insert(number * 7 % entries, ()), None));
        map
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
            prop_assert_eq!(map.iter().len(), model.len());
            prop_assert_eq!(map.iter_mut().len(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(map.iter_mut().eq(model.iter_mut()));
        }
    }

    #[test]
    fn it_has_room_for_little_more_than_it_holds_up_to_256_and_is_a_tree_from_then_on() {
        let mut map = SmallMap::new();
        let mut rooms = Vec::new();
        for number in 0..256 {
            map.insert(number, ());
            let room = map.room().expect("a vector");
            assert!(room <= 1 + (number + 1) * 5 / 4 && room <= 256, "{room} for {}", number + 1);
            rooms.push(room);
        }
        rooms.dedup();
        assert!(rooms.len() < 30, "it grew {} times", rooms.len());
        assert_eq!((map.insert(0, ()), map.room()), (Some(()), Some(256)), "nothing was added");
        map.insert(256, ());
        assert!(map.room().is_none() && map.iter().map(|(key, ())| *key).eq(0..=256));
    }

    #[test]
    fn what_most_went_from_gives_its_room_back() {
        let mut map = of(256);
        for left in (0..256).rev() {
            assert_eq!(map.remove(&left), Some(()));
            assert!(map.room().unwrap() <= 4 * left + 3, "{:?} for {left}", map.room());
        }
        // And what is left serves the next one.
        let left = map.room().unwrap();
        map.insert(0, ());
        assert!((1..=3).contains(&left) && map.room() == Some(left), "{left}");
    }

    #[test]
    fn it_stays_a_tree_until_it_is_empty() {
        let mut map = of(257);
        (1..257).for_each(|number| assert_eq!(map.remove(&number), Some(())));
        assert!(map.room().is_none() && !map.is_empty());
        assert_eq!((map.remove(&0), map.remove(&0)), (Some(()), None));
        assert!(map.room() == Some(0) && map.is_empty());
    }
}
