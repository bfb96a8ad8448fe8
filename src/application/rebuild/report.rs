//! What is said of a rebuild: how far it is, what it did, and why it replaced nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::application::ports::{HistoryFailure, StoreError};
use crate::domain::hash::StateHash;
use crate::domain::ids::{LockerId, Sequence};
use crate::domain::record::Head;
use crate::domain::world::{Counts, World};

/// How many lockers are named whose hashes differ; the rest are counted.
const MAX_NAMED_LOCKERS: usize = 20;

/// How far a rebuild is, in events.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RebuildProgress {
    pub read_events: u64,
    pub total_events: u64,
}

/// What a rebuild did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RebuildReport {
    /// The records that were folded.
    pub records: u64,
    pub lockers: u64,
    pub compartments: u64,
    pub reservations: u64,
    /// How many lockers' state hashes were compared with the old projection; null when that could
    /// not be read, or was of another log.
    pub compared_lockers: Option<u64>,
    /// How many of them differed. Only a forced rebuild ends with any.
    pub differing_lockers: u64,
    /// The events that were taken in while the old projection was held still, and for how long it
    /// was; zero where no server runs, and where one of before these were told did it.
    #[serde(default)]
    pub held_events: u64,
    #[serde(default)]
    pub held_ms: u64,
    pub elapsed_ms: u64,
}

impl RebuildReport {
    /// Of a rebuild that compared nothing yet.
    #[must_use]
    pub fn of(world: &World, head: Head) -> Self {
        let Counts { lockers, compartments, reservations } = world.counts();
        Self {
            records: head.sequence.get(),
            lockers,
            compartments,
            reservations,
            compared_lockers: None,
            differing_lockers: 0,
            held_events: 0,
            held_ms: 0,
            elapsed_ms: 0,
        }
    }

    /// The same of a rebuild that lets go of the old projection now.
    #[must_use]
    pub fn held_since(self, held: Instant) -> Self {
        Self { held_ms: ms_since(held), ..self }
    }

    /// The report of a rebuild that ends now.
    #[must_use]
    pub fn after(self, begin: Instant) -> Self {
        Self { elapsed_ms: ms_since(begin), ..self }
    }
}

impl fmt::Display for RebuildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, lockers, compartments, reservations, elapsed_ms, differing_lockers, .. } = self;
        writeln!(
            f,
            "rebuilt from {records} records in {elapsed_ms} ms: {lockers} lockers, {compartments} compartments, \
             {reservations} reservations"
        )?;
        match self.compared_lockers {
            Some(compared) => write!(f, "compared with the old one: {compared} lockers, {differing_lockers} differ")?,
            None => write!(f, "not compared with the old one, which is of another log or cannot be read")?,
        }
        let Self { held_events, held_ms, .. } = self;
        if (*held_events, *held_ms) == (0, 0) {
            return Ok(());
        }
        write!(f, "\nthe old one was held still for {held_ms} ms, in which {held_events} events were taken in")
    }
}

fn ms_since(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Why nothing was replaced.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("a rebuild is under way already")]
    UnderWay,
    #[error("the projection is not where it was left and is being written anew already")]
    BeingWrittenAnew,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    History(#[from] HistoryFailure),
    #[error("sequence {0}: {1}")]
    Impossible(Sequence, String),
    #[error("{0}")]
    Differs(Differences),
}

/// Lockers whose state hash in the projection is not the one that the log gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// In the order of their ids; not all of them when there are many.
    pub named: Vec<LockerId>,
    pub count: usize,
}

impl Differences {
    /// Compares what the log gives with what is stored. A locker that only one side has differs.
    #[must_use]
    pub fn between(folded: &BTreeMap<LockerId, StateHash>, stored: &BTreeMap<LockerId, StateHash>) -> Self {
        let changed = folded.iter().filter(|(id, hash)| stored.get(*id) != Some(*hash)).map(|(id, _)| id);
        let surplus = stored.keys().filter(|id| !folded.contains_key(*id));
        let mut all: Vec<_> = changed.chain(surplus).collect();
        all.sort_unstable();
        Self { named: all.iter().take(MAX_NAMED_LOCKERS).map(|id| (*id).clone()).collect(), count: all.len() }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.named.iter().map(|id| format!("{:?}", id.as_str())).collect();
        write!(f, "the log gives another state than the projection holds for {} lockers: ", self.count)?;
        write!(f, "{}", named.join(", "))?;
        if self.count > named.len() {
            write!(f, " and {} more", self.count - named.len())?;
        }
        write!(
            f,
            ". Nothing was replaced. `lockstream verify` tells each difference; when it finds the log sound, somebody \
             changed the database, and `lockstream rebuild --force` takes the log's word"
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_outcome_of_a_server_that_does_not_tell_how_long_it_held_is_understood() {
        let told = json!({
            "records": 5, "lockers": 1, "compartments": 2, "reservations": 2,
            "compared_lockers": 1, "differing_lockers": 0, "elapsed_ms": 7,
        });
        let report: RebuildReport = serde_json::from_value(told).unwrap();
        assert_eq!(
            report.to_string(),
            "rebuilt from 5 records in 7 ms: 1 lockers, 2 compartments, 2 reservations\n\
             compared with the old one: 1 lockers, 0 differ"
        );
    }

    #[test]
    fn how_long_the_old_one_was_held_still_is_told() {
        let report = RebuildReport::of(&World::default(), Head::default());
        let report = RebuildReport { held_events: 12, held_ms: 3, ..report };
        assert_eq!(
            report.to_string().lines().last(),
            Some("the old one was held still for 3 ms, in which 12 events were taken in")
        );
    }
}
