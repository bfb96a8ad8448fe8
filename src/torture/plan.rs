//! The plan: what each cycle does, by the seed alone.

use std::time::Duration;

use serde::Serialize;

use crate::random::Random;

/// What a cycle is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL at a random moment under load.
    Kill,
    /// SIGTERM under load.
    Stop,
    /// Nine requests of ten are repetitions, and new events come from many connections at once.
    DuplicateStorm,
    /// Clients go away before the answer, in the middle of a request too.
    Disconnects,
    /// The server's clock jumps hours back and forth.
    ClockSteps,
    /// The start finds no database.
    DatabaseDeleted,
    /// The server's files may grow no more for a while.
    FullDisk,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::Stop,
        Self::DuplicateStorm,
        Self::Disconnects,
        Self::ClockSteps,
        Self::DatabaseDeleted,
        Self::FullDisk,
    ];
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Kill,
    Stop,
}

/// What clients do, each in so many of a hundred requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Send again what was acknowledged before.
    pub repeats: u64,
    /// Send a new event on several connections at once.
    pub volleys: u64,
    /// Go away without waiting for the answer.
    pub disconnects: u64,
}

/// One start of the server, and what happens until its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    pub kind: Kind,
    /// The server's `LOCKSTREAM_MAX_SEGMENT_BYTES`, so small that segments end all the time.
    pub segment_bytes: u64,
    /// How long clients send before something happens.
    pub load: Duration,
    pub mix: Mix,
    pub ending: Ending,
    /// The server's clock jumps by this seed.
    pub clock_seed: Option<u64>,
    /// With a full disk: by how much the log's segment may still grow. More than a batch, as on a real
    /// disk, where what was reserved for one stays reserved.
    pub spare_bytes: u64,
}

/// All cycles of a seed.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
}

impl Plan {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The cycle with this number, from 0. Each kind comes once in every seven cycles.
    #[must_use]
    pub fn cycle(&self, number: u64) -> Cycle {
        let mut random = Random::of_part(self.seed, "cycle", number);
        let kind = self.kind(number);
        let mix = match kind {
            Kind::DuplicateStorm => Mix { repeats: 90, volleys: 50, disconnects: 0 },
            Kind::Disconnects => Mix { repeats: 10, volleys: 5, disconnects: 40 },
            _ => Mix { repeats: 10, volleys: 5, disconnects: 3 },
        };
        let by_chance = if random.percent(60) { Ending::Kill } else { Ending::Stop };
        Cycle {
            kind,
            segment_bytes: match kind {
                // A new segment would have room again.
                Kind::FullDisk => 64 << 20,
                _ => *random.pick(&[4_096, 16_384, 65_536, 262_144]),
            },
            load: Duration::from_millis(random.between(100, 1_000)),
            mix,
            ending: match kind {
                Kind::Kill => Ending::Kill,
                Kind::Stop => Ending::Stop,
                _ => by_chance,
            },
            clock_seed: (kind == Kind::ClockSteps).then(|| random.number()),
            spare_bytes: random.between(8, 48) << 10,
        }
    }

    fn kind(&self, number: u64) -> Kind {
        let in_a_round = Kind::ALL.len() as u64;
        let mut kinds = Kind::ALL;
        Random::of_part(self.seed, "kinds", number / in_a_round).shuffle(&mut kinds);
        if kinds[0] == Kind::DatabaseDeleted {
            // The very first start has no database to delete.
            kinds.swap(0, 1);
        }
        kinds[usize::try_from(number % in_a_round).expect("less than the number of kinds")]
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Plan};

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        let cycles = |seed| (0..50).map(|number| Plan::new(seed).cycle(number)).collect::<Vec<_>>();
        assert_eq!(cycles(7), cycles(7));
        assert_ne!(cycles(7), cycles(8));
    }

    #[test]
    fn every_kind_comes_within_the_first_dozen_cycles() {
        for seed in 0..200 {
            let plan = Plan::new(seed);
            let mut kinds: Vec<_> = (0..12).map(|number| plan.cycle(number).kind).collect();
            kinds.sort();
            kinds.dedup();
            assert_eq!(kinds, Kind::ALL, "seed {seed}");
        }
    }
}
