//! A network of lockers that behaves, made from a seed: the same seed, the same bytes.
//!
//! Each [`Locker`] lives by itself; a timetable says whose turn it is. The place of an event in the
//! whole stream follows from the timetable alone, so the stream can be dealt out to several
//! connections, each of which makes the events of its own lockers, and together they send exactly
//! what one of them would.

use crate::random::Random;
use crate::simulate::locker::{Expected, Locker, busyness};

/// What decides a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub seed: u64,
    pub lockers: u32,
    pub compartments: u16,
    /// Nothing is repeated, late, swapped or booked twice: every event is new and possible.
    pub orderly: bool,
}

/// An event that was just made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Its place in the whole stream, from 0.
    pub place: u64,
    /// Its locker, by its number among those of this part.
    pub locker: usize,
    pub expected: Expected,
}

/// The events of some of the lockers, in their order.
#[derive(Debug)]
pub struct Part {
    lockers: Vec<Locker>,
    /// Whose turn it is, and when: places in the timetable with a locker of this part.
    turns: Vec<(u64, usize)>,
    timetable_length: u64,
    /// How many turns there were.
    round: u64,
    turn: usize,
}

impl Network {
    /// All of the stream.
    #[must_use]
    pub fn whole(&self) -> Part {
        self.parts(1).remove(0)
    }

    /// The stream, dealt out locker by locker; there are no fewer lockers than parts.
    #[must_use]
    pub fn parts(&self, count: u32) -> Vec<Part> {
        let mut timetable: Vec<u32> = Vec::new();
        for number in 0..self.lockers {
            timetable.extend((0..busyness(self.seed, number)).map(|_| number));
        }
        Random::of_part(self.seed, "timetable", u64::from(self.lockers)).shuffle(&mut timetable);
        let timetable_length = timetable.len() as u64;
        let empty = || Part { lockers: Vec::new(), turns: Vec::new(), timetable_length, round: 0, turn: 0 };
        let mut parts: Vec<_> = (0..count).map(|_| empty()).collect();
        for number in 0..self.lockers {
            let locker = Locker::new(self.seed, number, self.compartments, self.orderly);
            parts[(number % count) as usize].lockers.push(locker);
        }
        for (place, number) in (0..).zip(timetable) {
            parts[(number % count) as usize].turns.push((place, (number / count) as usize));
        }
        parts
    }
}

impl Part {
    /// The place of the next event in the whole stream.
    #[must_use]
    pub fn next_place(&self) -> u64 {
        self.round * self.timetable_length + self.turns[self.turn].0
    }

    /// Appends the next event.
    pub fn next_event(&mut self, into: &mut Vec<u8>) -> Planned {
        let place = self.next_place();
        let (_, locker) = self.turns[self.turn];
        self.turn += 1;
        if self.turn == self.turns.len() {
            self.turn = 0;
            self.round += 1;
        }
        let expected = self.lockers[locker].next_event(into);
        Planned { place, locker, expected }
    }

    #[must_use]
    pub fn lockers(&self) -> &[Locker] {
        &self.lockers
    }
}

#[cfg(test)]
mod tests;
