//! The present by itself: what a world without a past goes on from, with everything in one order, so
//! that equal worlds have equal presents.

use crate::domain::event::Severity;
use crate::domain::fault::Fault;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};
use crate::domain::locker::Compartment;
use crate::domain::reservation::{Reservation, ReservationState};
use crate::domain::state_hash::ClosedDigest;
use crate::domain::world::World;

/// Everything that is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// How many reservations there ever were.
    pub reservations_ever: u64,
    /// In the order of their ids.
    pub lockers: Vec<PresentLocker>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentLocker {
    pub id: LockerId,
    pub closed: ClosedDigest,
    /// In the order of their ids.
    pub compartments: Vec<PresentCompartment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentCompartment {
    pub id: CompartmentId,
    pub registered: Sequence,
    pub active: Option<PresentReservation>,
    /// In the order of their ids.
    pub open_faults: Vec<PresentFault>,
}

/// A reservation that holds a compartment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentReservation {
    pub id: ReservationId,
    pub deposited: bool,
    pub created: Sequence,
    pub changed: Sequence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentFault {
    pub id: EventId,
    pub severity: Severity,
    pub reported: Sequence,
}

impl World {
    /// What is, without what was.
    #[must_use]
    pub fn present(&self) -> Present {
        let lockers = self.lockers.iter().map(|(id, locker)| PresentLocker {
            id: id.clone(),
            closed: locker.closed(),
            compartments: locker
                .compartments()
                .map(|(id, compartment)| self.present_compartment(id, compartment))
                .collect(),
        });
        let mut lockers: Vec<_> = lockers.collect();
        lockers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Present { reservations_ever: self.reservations_ever, lockers }
    }

    fn present_compartment(&self, id: &CompartmentId, compartment: &Compartment) -> PresentCompartment {
        let active = compartment.active_reservation().map(|id| {
            let reservation = self.reservations.get(id).expect("an active reservation is never forgotten");
            let Reservation { state, created, changed, .. } = *reservation;
            PresentReservation { id: id.clone(), deposited: state == ReservationState::Deposited, created, changed }
        });
        let open_faults = compartment.open_faults();
        let open_faults = open_faults.map(|(id, severity, reported)| PresentFault { id, severity, reported });
        PresentCompartment {
            id: id.clone(),
            registered: compartment.registered,
            active,
            open_faults: open_faults.collect(),
        }
    }

    /// The world that is so at present and has forgotten the past.
    #[must_use]
    pub fn from_present(present: Present) -> Self {
        let mut world = Self { reservations_ever: present.reservations_ever, ..Self::default() };
        for PresentLocker { id, closed, compartments } in present.lockers {
            for compartment in compartments {
                world.set_up(&id, compartment);
            }
            world.lockers.entry(id).or_default().continue_from(closed);
        }
        world
    }

    fn set_up(&mut self, locker_id: &LockerId, compartment: PresentCompartment) {
        let PresentCompartment { id: compartment_id, registered, active, open_faults } = compartment;
        let locker = self.lockers.entry(locker_id.clone()).or_default();
        locker.register(compartment_id.clone(), registered);
        if let Some(PresentReservation { id, deposited, created, changed }) = active {
            let state = if deposited { ReservationState::Deposited } else { ReservationState::Created };
            locker.advance(&compartment_id, &id, state);
            let (locker_id, compartment_id) = (locker_id.clone(), compartment_id.clone());
            self.reservations.insert(id, Reservation { locker_id, compartment_id, state, created, changed });
        }
        for PresentFault { id, severity, reported } in open_faults {
            locker.open_fault(&compartment_id, id, severity, reported);
            let (locker_id, compartment_id) = (locker_id.clone(), compartment_id.clone());
            self.faults.insert(id, Fault { locker_id, compartment_id, reported, cleared: None });
        }
    }
}
