//! What was and can never change again: how the world gives it up, and how it decides without
//! holding it.

use crate::domain::event::{
    Event, Fact, FaultCleared, ParcelDeposited, ParcelPickedUp, ReservationCreated, ReservationExpired,
};
use crate::domain::fault::Fault;
use crate::domain::ids::{EventId, ReservationId, Sequence};
use crate::domain::reservation::{Reservation, ReservationState};
use crate::domain::violation::Violation;
use crate::domain::world::{Touched, World};

/// An id that an event names and the world does not hold: never seen, or forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown<'e> {
    Reservation(&'e ReservationId),
    Fault(EventId),
}

/// What is known elsewhere of such an id.
#[derive(Debug, Clone)]
pub enum Recalled {
    Reservation(ReservationId, Reservation),
    Fault(EventId, Fault),
}

impl Recalled {
    pub(super) fn reservation(&self, wanted: &ReservationId) -> Option<&Reservation> {
        match self {
            Self::Reservation(id, reservation) if id == wanted => Some(reservation),
            _ => None,
        }
    }

    pub(super) fn fault(&self, wanted: EventId) -> Option<&Fault> {
        match self {
            Self::Fault(id, fault) if *id == wanted => Some(fault),
            _ => None,
        }
    }
}

/// Something that has come to its end.
#[derive(Debug, Clone, Copy)]
pub enum Closed<'w> {
    /// A parcel was picked up, or its reservation expired.
    Reservation(&'w ReservationId, &'w Reservation),
    /// A fault is cleared, by this record.
    Fault(EventId, &'w Fault, Sequence),
}

impl World {
    /// The id that the judgement of this event rests on and that the world does not hold. There is
    /// never more than one: whatever else an event names is a compartment, and those stay.
    #[must_use]
    pub fn unknown<'e>(&self, event: &'e Event) -> Option<Unknown<'e>> {
        match &event.fact {
            Fact::ReservationCreated(ReservationCreated { reservation_id, .. })
            | Fact::ParcelDeposited(ParcelDeposited { reservation_id, .. })
            | Fact::ParcelPickedUp(ParcelPickedUp { reservation_id, .. })
            | Fact::ReservationExpired(ReservationExpired { reservation_id, .. }) => {
                (!self.reservations.contains_key(reservation_id)).then_some(Unknown::Reservation(reservation_id))
            }
            Fact::FaultCleared(FaultCleared { fault_event_id, .. }) => {
                (!self.faults.contains_key(fault_event_id)).then_some(Unknown::Fault(*fault_event_id))
            }
            Fact::CompartmentRegistered(_) | Fact::FaultReported(_) => None,
        }
    }

    /// Gives up what can never change again and whose last record is `up_to` or earlier, in one of the
    /// [`PARTS`](crate::domain::parted::PARTS) that the world holds such things in. It decides as
    /// before, whatever parts are left.
    pub fn forget_in(&mut self, part: usize, up_to: Sequence) {
        self.originals.retain_in(part, |_, original| original.sequence > up_to);
        self.reservations
            .retain_in(part, |_, reservation| reservation.state.is_active() || reservation.changed > up_to);
        self.faults.retain_in(part, |_, fault| fault.cleared.is_none_or(|cleared| cleared > up_to));
    }

    /// Takes in an event of the log without remembering its id: for whoever sees to it by other means
    /// that no id comes twice. Gives the reservation that it changed.
    pub fn follow(
        &mut self,
        sequence: Sequence,
        event: &Event,
    ) -> Result<Option<(ReservationId, ReservationState)>, Violation> {
        let change = self.decide(event)?;
        Ok(self.carry_out(change, sequence, event).reservation)
    }

    /// Gives up at once what the event that was taken in last has closed, and shows it to `visit`: what
    /// somebody has to know who wants to decide as if nothing were forgotten. The rules then refuse too
    /// what names that again, with other words; only a new reservation of the same id they let pass.
    pub fn forget_closed_by(&mut self, event: &Event, visit: impl FnOnce(Closed<'_>)) {
        match &event.fact {
            Fact::ParcelPickedUp(ParcelPickedUp { reservation_id, .. })
            | Fact::ReservationExpired(ReservationExpired { reservation_id, .. }) => {
                if let Some(reservation) = self.reservations.remove(reservation_id) {
                    visit(Closed::Reservation(reservation_id, &reservation));
                }
            }
            Fact::FaultCleared(FaultCleared { fault_event_id, .. }) => {
                if let Some(fault) = self.faults.remove(fault_event_id)
                    && let Some(cleared) = fault.cleared
                {
                    visit(Closed::Fault(*fault_event_id, &fault, cleared));
                }
            }
            Fact::CompartmentRegistered(_)
            | Fact::ReservationCreated(_)
            | Fact::ParcelDeposited(_)
            | Fact::FaultReported(_) => {}
        }
    }

    /// How many events, reservations and faults are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.originals.entries() + self.reservations.entries() + self.faults.entries()
    }

    /// Counts everything of the touched lockers as touched: see [`Touched::note`].
    pub fn touch_whole_lockers(&self, touched: &mut Touched) {
        for id in &touched.lockers {
            let locker = self.lockers.get(id).into_iter();
            let compartments = locker.flat_map(|locker| locker.compartment_ids().cloned());
            touched.compartments.extend(compartments.map(|compartment| (id.clone(), compartment)));
        }
    }
}

impl Touched {
    /// Nothing is touched; the room for it stays.
    pub fn clear(&mut self) {
        self.lockers.clear();
        self.compartments.clear();
        self.reservations.clear();
    }

    /// Notes a record that is folded into a world already. Which compartment it changed is not always
    /// said; so all of its locker are taken for touched in the end, by
    /// [`World::touch_whole_lockers`].
    pub fn note(&mut self, event: &Event) {
        let state = match &event.fact {
            Fact::ReservationCreated(fact) => Some((&fact.reservation_id, ReservationState::Created)),
            Fact::ParcelDeposited(fact) => Some((&fact.reservation_id, ReservationState::Deposited)),
            Fact::ParcelPickedUp(fact) => Some((&fact.reservation_id, ReservationState::PickedUp)),
            Fact::ReservationExpired(fact) => Some((&fact.reservation_id, ReservationState::Expired)),
            Fact::CompartmentRegistered(_) | Fact::FaultReported(_) | Fact::FaultCleared(_) => None,
        };
        if let Some((id, state)) = state {
            self.reservations.insert(id.clone(), state);
        }
        self.lockers.insert(event.locker_id.clone());
    }
}

#[cfg(test)]
mod tests;
