//! Many things dealt out into parts by the hashes of their keys, so that all with one key are in one
//! part: a part is small enough to stay near the processor, and every processor can look through
//! parts of its own.

use std::sync::Mutex;
use std::thread;

/// With ten million things a part has some forty thousand.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 8;

/// Things, dealt out.
#[derive(Debug)]
pub struct Dealt<T> {
    parts: Vec<Vec<T>>,
}

impl<T> Default for Dealt<T> {
    fn default() -> Self {
        Self { parts: std::iter::repeat_with(Vec::new).take(PARTS).collect() }
    }
}

impl<T> Dealt<T> {
    /// Deals out what comes with its hash.
    pub fn of(things: impl IntoIterator<Item = (u64, T)>) -> Self {
        let mut dealt = Self::default();
        things.into_iter().for_each(|(hash, thing)| dealt.put(hash, thing));
        dealt
    }

    pub fn put(&mut self, hash: u64, thing: T) {
        self.parts[(hash >> (u64::BITS - PART_BITS)) as usize].push(thing);
    }

    /// The parts, in the same order for all that are dealt out.
    pub fn parts(&self) -> impl Iterator<Item = &[T]> {
        self.parts.iter().map(Vec::as_slice)
    }
}

impl Dealt<u64> {
    pub fn put_hash(&mut self, hash: u64) {
        self.put(hash, hash);
    }

    /// Whether one hash is there twice.
    pub fn has_repeats(&mut self) -> bool {
        let has_repeats = |part: &mut Vec<u64>| {
            part.sort_unstable();
            part.windows(2).any(|pair| pair[0] == pair[1])
        };
        look_through(self.parts.iter_mut(), has_repeats).contains(&true)
    }
}

/// Looks through parts with all processors; the answers come in no order.
pub fn look_through<P: Send, A: Send>(parts: impl Iterator<Item = P> + Send, look: impl Fn(P) -> A + Sync) -> Vec<A> {
    let parts = Mutex::new(parts);
    let next = || parts.lock().expect("no holder of this lock can panic").next();
    let work = || std::iter::from_fn(|| next().map(&look)).collect::<Vec<_>>();
    let more = thread::available_parallelism().map_or(1, usize::from) - 1;
    thread::scope(|scope| {
        // A system that gives no thread costs time and nothing else.
        let helpers: Vec<_> = (0..more).map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut answers = work();
        answers.extend(helpers.into_iter().flat_map(|helper| helper.join().expect("looking does not panic")));
        answers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_looked_through_once() {
        let mut answers = look_through(0..1_000, |number| number * 2);
        answers.sort_unstable();
        assert_eq!(answers, (0..1_000).map(|number| number * 2).collect::<Vec<_>>());
    }

    #[test]
    fn one_hash_falls_into_one_part_and_is_found_when_it_comes_again() {
        let spread = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut dealt = Dealt::default();
        (1..=100_000).for_each(|number| dealt.put_hash(spread(number)));
        assert!(dealt.parts().all(|part| part.len() < 1_000));
        assert!(!dealt.has_repeats());
        for again in [1, 77_777, 100_000] {
            let mut dealt = Dealt::of((1..=100_000).map(|number| (spread(number), spread(number))));
            dealt.put_hash(spread(again));
            assert!(dealt.has_repeats(), "{again}");
        }
    }
}
