//! The fold of a verification, in two ways that come to the same.
//!
//! The exact one remembers everything, as a server without an archive does, and judges each event in
//! its place. The quick one holds the present alone: what closed is laid aside for the comparison, and
//! of the ids that were used it keeps hashes, in which repetitions are looked for at the end. So it
//! waits for memory far less. All that it refuses the exact one refuses too, and the other way round;
//! only where in the log, and with which words, is for the exact one to say.

use std::hash::BuildHasher;

use crate::application::verify::dealt::Dealt;
use crate::domain::event::Fact;
use crate::domain::hashing::{HashMap, Keyed};
use crate::domain::ids::{EventId, Sequence};
use crate::domain::record::PlacedEvent;
use crate::domain::rows::{ReservationStatus, Rows};
use crate::domain::world::{Counts, ReplayError, World};

/// The log, folded so far.
#[derive(Debug)]
pub struct Fold {
    world: World,
    keyed: Keyed,
    used: Used,
    /// Reservations that the world has given up.
    closed: Dealt<ReservationStatus>,
}

/// The ids that were used.
#[derive(Debug)]
enum Used {
    /// All events, with their places. The world holds all reservations.
    Known(HashMap<EventId, Sequence>),
    /// Their hashes.
    Hashed { events: Dealt<u64>, reservations: Dealt<u64> },
}

impl Fold {
    #[must_use]
    pub fn exact() -> Self {
        Self::with(Used::Known(HashMap::default()))
    }

    #[must_use]
    pub fn quick() -> Self {
        Self::with(Used::Hashed { events: Dealt::default(), reservations: Dealt::default() })
    }

    fn with(used: Used) -> Self {
        Self { world: World::default(), keyed: Keyed::default(), used, closed: Dealt::default() }
    }

    /// Takes in the next event. After an error the fold means nothing any more.
    pub fn take(&mut self, placed: &PlacedEvent) -> Result<(), ReplayError> {
        let PlacedEvent { sequence, event, .. } = placed;
        match &mut self.used {
            Used::Known(events) => {
                if let Some(first) = events.insert(event.id, *sequence) {
                    return Err(ReplayError::RepeatedEventId(event.id, first));
                }
            }
            Used::Hashed { events, reservations } => {
                events.put_hash(self.keyed.hash_one(event.id));
                if let Fact::ReservationCreated(fact) = &event.fact {
                    reservations.put_hash(self.keyed.hash_one(&fact.reservation_id));
                }
            }
        }
        let followed = self.world.follow(*sequence, event);
        let changed = followed.map_err(|violation| ReplayError::Refused(Box::new(violation)))?;
        if matches!(self.used, Used::Hashed { .. }) {
            self.world.forget_closed_by(event);
            if let Some((reservation_id, status)) = changed.filter(|(_, state)| !state.is_active()) {
                let hash = self.keyed.hash_one(&reservation_id);
                self.closed.put(hash, ReservationStatus { reservation_id, status });
            }
        }
        Ok(())
    }

    /// Whether some id may have been used twice. Never missed; a rare false alarm is possible.
    pub fn may_have_repeats(&mut self) -> bool {
        match &mut self.used {
            Used::Known(_) => false,
            Used::Hashed { events, reservations } => events.has_repeats() || reservations.has_repeats(),
        }
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.world.counts()
    }

    /// The rows of everything but the reservations that were laid aside.
    pub fn rows(&mut self) -> Rows {
        self.world.all_rows()
    }

    /// The rows of those.
    #[must_use]
    pub fn closed(&self) -> &Dealt<ReservationStatus> {
        &self.closed
    }

    /// Deals rows out as those are.
    pub fn deal<'r>(&self, rows: &'r [ReservationStatus]) -> Dealt<&'r ReservationStatus> {
        Dealt::of(rows.iter().map(|row| (self.keyed.hash_one(&row.reservation_id), row)))
    }
}
