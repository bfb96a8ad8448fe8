//! The world: the fold of the whole log, against which every event is decided.
//!
//! Deciding and applying are two steps. [`World::decide`] only looks and hands out a [`Change`];
//! [`World::apply`] only does what a `Change` says and cannot fail. A `Change` can be made by the
//! rules alone, so nothing illegal can be applied. Nothing here reads a clock: order is the order
//! of the log.
//!
//! What can never change again need not be held for ever: [`World::forget_in`] gives it up. Whoever
//! calls that has it elsewhere, asks [`World::unknown`] before each decision, and hands over what is
//! known of that one id as [`Recalled`]. Then every decision is the one of a world that forgot
//! nothing. Who only follows a log that was judged before, to verify or to archive it, gives up what
//! closes as it closes: see [`World::forget_closed_by`].

pub mod past;
pub mod present;
mod rules;

use std::collections::BTreeMap;

use crate::domain::event::json::ContentDigest;
use crate::domain::event::{Event, Severity};
use crate::domain::fault::Fault;
use crate::domain::hash::StateHash;
use crate::domain::hashing::{HashMap, HashSet};
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::locker::{Compartment, Locker};
use crate::domain::parted::Parted;
use crate::domain::record::{Record, RecordedAt};
use crate::domain::reservation::{Reservation, ReservationState};
use crate::domain::rows::{CompartmentRow, ReservationStatus, Rows};
use crate::domain::violation::Violation;
use crate::domain::world::past::Recalled;

/// Everything that is, and of what was whatever is not forgotten.
#[derive(Debug, Default)]
pub struct World {
    originals: Parted<EventId, Original>,
    lockers: HashMap<LockerId, Locker>,
    /// The active ones, and closed ones that are not forgotten.
    reservations: Parted<ReservationId, Reservation>,
    /// The open ones, and cleared ones that are not forgotten.
    faults: Parted<EventId, Fault>,
    /// How many reservations there ever were.
    reservations_ever: u64,
}

/// What is remembered of an accepted event, to answer its repetitions.
#[derive(Debug, Clone, Copy)]
pub struct Original {
    pub sequence: Sequence,
    pub recorded_at: RecordedAt,
    pub digest: ContentDigest,
}

/// The effect of one event, allowed by the rules in the world that decided it.
#[derive(Debug)]
pub struct Change(Effect);

#[derive(Debug)]
enum Effect {
    Register(CompartmentId),
    Reserve(ReservationId, CompartmentId),
    Advance(ReservationId, ReservationState),
    OpenFault(CompartmentId, Severity),
    CloseFault(EventId),
}

/// What an effect changed in its locker.
struct Changed {
    compartment_id: CompartmentId,
    reservation: Option<(ReservationId, ReservationState)>,
}

/// What changed since somebody last asked for rows.
#[derive(Debug, Default)]
pub struct Touched {
    lockers: HashSet<LockerId>,
    compartments: HashSet<(LockerId, CompartmentId)>,
    /// As they are: the world may have forgotten them when the rows are asked for.
    reservations: HashMap<ReservationId, ReservationState>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub lockers: u64,
    pub compartments: u64,
    pub reservations: u64,
}

/// Why a log cannot be a history of this world.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the event_id {0} was recorded before, as sequence {1}")]
    RepeatedEventId(EventId, Sequence),
    #[error("the rules refuse the recorded event: {0}")]
    Refused(Box<Violation>),
}

impl World {
    /// The record of an event that was accepted before and is not forgotten.
    #[must_use]
    pub fn original(&self, id: EventId) -> Option<Original> {
        self.originals.get(&id).copied()
    }

    /// Judges an event by the rules, in a world that has forgotten nothing of what the event names.
    /// Looks only; the world stays as it is.
    pub fn decide(&self, event: &Event) -> Result<Change, Violation> {
        self.decide_with(event, None)
    }

    /// The same with what is known elsewhere of the id that [`Self::unknown`] told.
    pub fn decide_with(&self, event: &Event, recalled: Option<&Recalled>) -> Result<Change, Violation> {
        rules::decide(rules::Known { world: self, recalled }, event).map(Change)
    }

    /// Carries out what [`Self::decide`] allowed for this record's event, in this very world.
    pub fn apply(&mut self, change: Change, record: &Record, touched: &mut Touched) {
        let Record { sequence, recorded_at, digest, ref event, .. } = *record;
        self.originals.insert(event.id, Original { sequence, recorded_at, digest });
        let Changed { compartment_id, reservation } = self.carry_out(change, sequence, event);
        touched.reservations.extend(reservation);
        touched.compartments.insert((event.locker_id.clone(), compartment_id));
        touched.lockers.insert(event.locker_id.clone());
    }

    /// Does what a change says, and does not remember that the event was accepted.
    fn carry_out(&mut self, change: Change, sequence: Sequence, event: &Event) -> Changed {
        let locker_id = &event.locker_id;
        let locker = self.lockers.entry(locker_id.clone()).or_default();
        match change.0 {
            Effect::Register(compartment_id) => {
                locker.register(compartment_id.clone(), sequence);
                Changed { compartment_id, reservation: None }
            }
            Effect::Reserve(reservation_id, compartment_id) => {
                let state = ReservationState::Created;
                locker.advance(&compartment_id, &reservation_id, state);
                self.reservations_ever += 1;
                self.reservations.insert(
                    reservation_id.clone(),
                    Reservation {
                        locker_id: locker_id.clone(),
                        compartment_id: compartment_id.clone(),
                        state,
                        created: sequence,
                        changed: sequence,
                    },
                );
                Changed { compartment_id, reservation: Some((reservation_id, state)) }
            }
            Effect::Advance(reservation_id, state) => {
                let reservation = self.reservations.get_mut(&reservation_id);
                let reservation = reservation.expect("the rules found the reservation that advances");
                reservation.state = state;
                reservation.changed = sequence;
                let compartment_id = reservation.compartment_id.clone();
                locker.advance(&compartment_id, &reservation_id, state);
                Changed { compartment_id, reservation: Some((reservation_id, state)) }
            }
            Effect::OpenFault(compartment_id, severity) => {
                locker.open_fault(&compartment_id, event.id, severity, sequence);
                self.faults.insert(
                    event.id,
                    Fault {
                        locker_id: locker_id.clone(),
                        compartment_id: compartment_id.clone(),
                        reported: sequence,
                        cleared: None,
                    },
                );
                Changed { compartment_id, reservation: None }
            }
            Effect::CloseFault(fault_id) => {
                let fault = self.faults.get_mut(&fault_id).expect("the rules found the fault that is cleared");
                fault.cleared = Some(sequence);
                locker.close_fault(&fault.compartment_id, fault_id);
                Changed { compartment_id: fault.compartment_id.clone(), reservation: None }
            }
        }
    }

    /// Takes in a record of the log. The rules are asked again: a log that they refuse was not
    /// written by this service, and must not be served.
    pub fn replay(&mut self, record: &Record, touched: &mut Touched) -> Result<(), ReplayError> {
        if let Some(original) = self.original(record.event.id) {
            return Err(ReplayError::RepeatedEventId(record.event.id, original.sequence));
        }
        let change = self.decide(&record.event).map_err(|violation| ReplayError::Refused(Box::new(violation)))?;
        self.apply(change, record, touched);
        Ok(())
    }

    /// The rows of what was touched, as they now are.
    pub fn rows(&mut self, touched: &Touched) -> Rows {
        let mut rows = Rows::default();
        for id in &touched.lockers {
            let locker = self.lockers.get_mut(id).expect("a touched locker exists");
            rows.lockers.push(locker.summary(id));
        }
        for (locker_id, id) in &touched.compartments {
            let compartment = self.compartment(locker_id, id).expect("a touched compartment exists");
            rows.compartments.push(CompartmentRow { locker_id: locker_id.clone(), status: compartment.status(id) });
        }
        for (id, status) in &touched.reservations {
            rows.reservations.push(ReservationStatus { reservation_id: id.clone(), status: *status });
        }
        rows
    }

    /// The rows of everything but the reservations that were forgotten.
    pub fn all_rows(&mut self) -> Rows {
        let mut rows = Rows::default();
        for (locker_id, locker) in &mut self.lockers {
            rows.lockers.push(locker.summary(locker_id));
            let compartments = locker.compartment_statuses();
            rows.compartments
                .extend(compartments.map(|status| CompartmentRow { locker_id: locker_id.clone(), status }));
        }
        let reservations = self.reservations.iter();
        let status = |(id, known): (&ReservationId, &Reservation)| ReservationStatus {
            reservation_id: id.clone(),
            status: known.state,
        };
        rows.reservations = reservations.map(status).collect();
        rows
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            lockers: self.lockers.len() as u64,
            compartments: self.lockers.values().map(|locker| locker.compartment_ids().count() as u64).sum(),
            reservations: self.reservations_ever,
        }
    }

    /// The state hash of every locker.
    pub fn state_hashes(&mut self) -> BTreeMap<LockerId, StateHash> {
        self.lockers.iter_mut().map(|(id, locker)| (id.clone(), locker.summary(id).state_hash)).collect()
    }

    fn compartment(&self, locker: &LockerId, id: &CompartmentId) -> Option<&Compartment> {
        self.lockers.get(locker)?.compartment(id)
    }
}

#[cfg(test)]
mod tests;
