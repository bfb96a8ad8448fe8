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
            self.world.forget_closed_by(event, |_| {});
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::verify::compare::compare;
    use crate::domain::event::{
        CompartmentRegistered, Event, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp, ReservationCreated,
        ReservationExpired, Severity,
    };
    use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
    use crate::domain::record::RecordedAt;
    use crate::random::Random;

    /// Some event about few things, so that much of it is impossible.
    fn any_event(random: &mut Random, ids: u64) -> Event {
        let event_id = |number: u64| EventId::from(uuid::Uuid::from_u128(number.into()));
        let compartment_id = CompartmentId::parse(["A", "B"][random.index(2)]).unwrap();
        let reservation_id = ReservationId::parse(&format!("R{}", random.below(40))).unwrap();
        let fact = match random.below(12) {
            0 => Fact::CompartmentRegistered(CompartmentRegistered { compartment_id }),
            1..=3 => Fact::ReservationCreated(ReservationCreated { reservation_id, compartment_id }),
            4..=6 => Fact::ParcelDeposited(ParcelDeposited { reservation_id, compartment_id: None }),
            7 | 8 => Fact::ParcelPickedUp(ParcelPickedUp { reservation_id, compartment_id: None }),
            9 => Fact::ReservationExpired(ReservationExpired { reservation_id, compartment_id: None }),
            10 => {
                // One that degrades its compartment is hardly ever cleared, and little happens after it.
                let severity = Severity::new(if random.percent(2) { 3 } else { 2 });
                Fact::FaultReported(FaultReported { compartment_id, severity })
            }
            _ => {
                let fault_event_id = event_id(random.below(ids + 1));
                Fact::FaultCleared(FaultCleared { compartment_id, fault_event_id })
            }
        };
        let number = if random.percent(1) { random.below(ids + 1) } else { ids };
        let locker_id = LockerId::parse(["L", "M"][random.index(2)]).unwrap();
        Event { id: event_id(number), locker_id, fact }
    }

    /// A log, as a rule a sound one: the impossible is mostly left out.
    fn log(random: &mut Random) -> Vec<PlacedEvent> {
        let (mut world, mut log): (_, Vec<PlacedEvent>) = (World::default(), Vec::new());
        let (recorded_at, batch) = (RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap(), Sequence::new(1));
        for attempt in 0..3_000 {
            let sequence = Sequence::new(log.len() as u64 + 1);
            let event = any_event(random, attempt);
            let is_new = log.iter().all(|placed| placed.event.id != event.id);
            let is_possible = is_new && world.decide(&event).is_ok();
            if is_possible {
                world.follow(sequence, &event).unwrap();
            } else if random.below(5_000) > 0 {
                continue;
            }
            log.push(PlacedEvent { sequence, batch, recorded_at, event });
            if !is_possible && random.percent(50) {
                break;
            }
        }
        log
    }

    #[test]
    fn the_quick_fold_finds_possible_what_the_exact_one_does_and_comes_to_the_same() {
        let mut outcomes = [0; 2];
        for seed in 0..60 {
            let log = log(&mut Random::new(seed));
            let [mut exact, mut quick] = [Fold::exact(), Fold::quick()];
            let is_history = log.iter().try_for_each(|placed| exact.take(placed)).is_ok();
            let passes = log.iter().try_for_each(|placed| quick.take(placed)).is_ok() && !quick.may_have_repeats();
            assert_eq!(is_history, passes, "seed {seed}");
            outcomes[usize::from(is_history)] += 1;
            if !is_history {
                continue;
            }
            assert_eq!(exact.counts(), quick.counts(), "seed {seed}");
            let mut stored = exact.rows();
            assert_eq!(compare(&mut quick, &stored), [], "seed {seed}");
            stored.lockers.pop();
            stored.compartments.pop();
            stored.reservations.truncate(1);
            let findings = compare(&mut quick, &stored);
            assert!(findings.len() >= 2, "seed {seed}: {findings:?}");
            assert_eq!(findings, compare(&mut exact, &stored), "seed {seed}");
        }
        assert!(outcomes.iter().all(|count| *count > 5), "both outcomes are tried: {outcomes:?}");
    }
    /// A door whose only reservation came and went.
    fn come_and_gone() -> Vec<Fact> {
        let compartment_id = CompartmentId::parse("A").unwrap();
        let reservation_id = ReservationId::parse("R").unwrap();
        vec![
            Fact::CompartmentRegistered(CompartmentRegistered { compartment_id: compartment_id.clone() }),
            Fact::ReservationCreated(ReservationCreated { reservation_id: reservation_id.clone(), compartment_id }),
            Fact::ReservationExpired(ReservationExpired { reservation_id, compartment_id: None }),
        ]
    }

    /// Whether the quick fold doubts a log of these, the last under the id of the event `last_id`.
    fn is_doubted(facts: Vec<Fact>, last_id: u64) -> bool {
        let (mut quick, last) = (Fold::quick(), facts.len() as u64);
        let recorded_at = RecordedAt::parse("2026-11-21T08:00:00.000000Z").unwrap();
        for (fact, number) in facts.into_iter().zip(1..) {
            let id = if number == last { last_id } else { number };
            let event =
                Event { id: uuid::Uuid::from_u128(id.into()).into(), locker_id: LockerId::parse("L").unwrap(), fact };
            let sequence = Sequence::new(number);
            quick
                .take(&PlacedEvent { sequence, batch: sequence, recorded_at, event })
                .expect("nothing open forbids it");
        }
        quick.may_have_repeats()
    }

    #[test]
    fn an_id_that_comes_again_is_doubted_though_what_had_it_is_forgotten() {
        assert!(!is_doubted(come_and_gone(), 3));
        assert!(is_doubted(come_and_gone(), 2), "an event id");
        let again = come_and_gone().remove(1);
        assert!(is_doubted([come_and_gone(), vec![again]].concat(), 4), "a reservation id");
    }
}
