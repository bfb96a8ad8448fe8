//! The rules: which events are possible. One function for each event type, its refusals in the
//! order in which they are documented, so that the code of an answer is predictable.

use crate::domain::event::{
    CompartmentRegistered, Event, Fact, FaultCleared, FaultReported, ParcelDeposited, ParcelPickedUp,
    ReservationCreated, ReservationExpired,
};
use crate::domain::fault::Fault;
use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId};
use crate::domain::locker::Compartment;
use crate::domain::reservation::{Reservation, ReservationState};
use crate::domain::violation::{Involved, Rule, Violation};
use crate::domain::world::past::Recalled;
use crate::domain::world::{Effect, World};

type Decision = Result<Effect, Violation>;

/// What a decision may rest on: the world, and what is known elsewhere of one id.
#[derive(Clone, Copy)]
pub(super) struct Known<'w> {
    pub world: &'w World,
    pub recalled: Option<&'w Recalled>,
}

impl<'w> Known<'w> {
    fn compartment(self, locker: &LockerId, id: &CompartmentId) -> Option<&'w Compartment> {
        self.world.compartment(locker, id)
    }

    fn reservation(self, id: &ReservationId) -> Option<&'w Reservation> {
        self.world.reservations.get(id).or_else(|| self.recalled?.reservation(id))
    }

    fn fault(self, id: EventId) -> Option<&'w Fault> {
        self.world.faults.get(&id).or_else(|| self.recalled?.fault(id))
    }
}

pub(super) fn decide(world: Known<'_>, event: &Event) -> Decision {
    let locker = &event.locker_id;
    match &event.fact {
        Fact::CompartmentRegistered(fact) => register(world, locker, fact),
        Fact::ReservationCreated(fact) => reserve(world, locker, fact),
        Fact::ParcelDeposited(ParcelDeposited { reservation_id, compartment_id }) => {
            let step = Step {
                advance: ReservationState::deposit,
                rule: Rule::ReservationNotAwaitingDeposit,
                wanted: "only a CREATED reservation can take its parcel",
            };
            advance(world, locker, reservation_id, compartment_id.as_ref(), &step)
        }
        Fact::ParcelPickedUp(ParcelPickedUp { reservation_id, compartment_id }) => {
            let step = Step {
                advance: ReservationState::pick_up,
                rule: Rule::ReservationNotAwaitingPickup,
                wanted: "only a DEPOSITED reservation has a parcel to take out",
            };
            advance(world, locker, reservation_id, compartment_id.as_ref(), &step)
        }
        Fact::ReservationExpired(ReservationExpired { reservation_id, compartment_id }) => {
            let step = Step {
                advance: ReservationState::expire,
                rule: Rule::ReservationAlreadyClosed,
                wanted: "only a CREATED or DEPOSITED reservation can expire",
            };
            advance(world, locker, reservation_id, compartment_id.as_ref(), &step)
        }
        Fact::FaultReported(fact) => report_fault(world, locker, fact),
        Fact::FaultCleared(fact) => clear_fault(world, locker, fact),
    }
}

fn register(world: Known<'_>, locker: &LockerId, fact: &CompartmentRegistered) -> Decision {
    let id = &fact.compartment_id;
    if let Some(known) = world.compartment(locker, id) {
        return Err(Involved::of(locker).compartment(id).refused(
            Rule::CompartmentAlreadyRegistered,
            Some(known.registered),
            format!("{} is already registered.", place(locker, id)),
        ));
    }
    Ok(Effect::Register(id.clone()))
}

fn reserve(world: Known<'_>, locker: &LockerId, fact: &ReservationCreated) -> Decision {
    let ReservationCreated { reservation_id, compartment_id } = fact;
    let involved = || Involved::of(locker).compartment(compartment_id).reservation(reservation_id);
    let place = || place(locker, compartment_id);
    let compartment = registered(world, locker, compartment_id, involved)?;
    if let Some((fault, reported)) = compartment.degrading_fault() {
        let detail = format!("{} is degraded by fault {fault}; clear that first.", place());
        return Err(involved().fault(fault).refused(Rule::CompartmentDegraded, Some(reported), detail));
    }
    if let Some(holder) = compartment.active_reservation() {
        let created = world.reservation(holder).map(|reservation| reservation.created);
        let detail = format!("{} is held by reservation {:?}.", place(), holder.as_str());
        return Err(involved().refused(Rule::CompartmentOccupied, created, detail));
    }
    if let Some(known) = world.reservation(reservation_id) {
        let detail = format!(
            "Reservation id {:?} was used before, for {}; a reservation id is never used twice.",
            reservation_id.as_str(),
            place_of(known),
        );
        return Err(involved().refused(Rule::ReservationAlreadyExists, Some(known.created), detail));
    }
    Ok(Effect::Reserve(reservation_id.clone(), compartment_id.clone()))
}

/// One step in the life of a reservation.
struct Step {
    advance: fn(ReservationState) -> Option<ReservationState>,
    /// What refuses the step from another state.
    rule: Rule,
    wanted: &'static str,
}

fn advance(
    world: Known<'_>,
    locker: &LockerId,
    id: &ReservationId,
    compartment: Option<&CompartmentId>,
    step: &Step,
) -> Decision {
    let involved = || {
        let involved = Involved::of(locker).reservation(id);
        if let Some(compartment) = compartment { involved.compartment(compartment) } else { involved }
    };
    let Some(reservation) = world.reservation(id) else {
        let detail = format!("No reservation has the id {:?}.", id.as_str());
        return Err(involved().refused(Rule::ReservationNotFound, None, detail));
    };
    let is_here = reservation.locker_id == *locker
        && compartment.is_none_or(|compartment| reservation.compartment_id == *compartment);
    if !is_here {
        let detail = format!("Reservation {:?} belongs to {}.", id.as_str(), place_of(reservation));
        return Err(involved().refused(Rule::ReservationElsewhere, Some(reservation.created), detail));
    }
    let Some(next) = (step.advance)(reservation.state) else {
        let detail = format!("Reservation {:?} is {}; {}.", id.as_str(), reservation.state.as_str(), step.wanted);
        return Err(involved().refused(step.rule, Some(reservation.changed), detail));
    };
    Ok(Effect::Advance(id.clone(), next))
}

fn report_fault(world: Known<'_>, locker: &LockerId, fact: &FaultReported) -> Decision {
    let id = &fact.compartment_id;
    registered(world, locker, id, || Involved::of(locker).compartment(id))?;
    Ok(Effect::OpenFault(id.clone(), fact.severity))
}

fn clear_fault(world: Known<'_>, locker: &LockerId, fact: &FaultCleared) -> Decision {
    let FaultCleared { compartment_id, fault_event_id } = fact;
    let involved = || Involved::of(locker).compartment(compartment_id).fault(*fault_event_id);
    registered(world, locker, compartment_id, involved)?;
    let Some(fault) = world.fault(*fault_event_id) else {
        let detail = format!("No fault was reported by an event with the id {fault_event_id}.");
        return Err(involved().refused(Rule::FaultNotFound, None, detail));
    };
    if fault.locker_id != *locker || fault.compartment_id != *compartment_id {
        let elsewhere = place(&fault.locker_id, &fault.compartment_id);
        let detail = format!("Fault {fault_event_id} was reported for another place: {elsewhere}.");
        return Err(involved().refused(Rule::FaultElsewhere, Some(fault.reported), detail));
    }
    if let Some(cleared) = fault.cleared {
        let detail = format!("Fault {fault_event_id} is already cleared.");
        return Err(involved().refused(Rule::FaultAlreadyCleared, Some(cleared), detail));
    }
    Ok(Effect::CloseFault(*fault_event_id))
}

fn registered<'w>(
    world: Known<'w>,
    locker: &LockerId,
    id: &CompartmentId,
    involved: impl FnOnce() -> Involved,
) -> Result<&'w Compartment, Violation> {
    world.compartment(locker, id).ok_or_else(|| {
        let detail = format!("{} is not registered.", place(locker, id));
        involved().refused(Rule::CompartmentNotRegistered, None, detail)
    })
}

/// The words for a place; ids in quotes, because they may hold anything.
fn place(locker: &LockerId, compartment: &CompartmentId) -> String {
    format!("Compartment {:?} of locker {:?}", compartment.as_str(), locker.as_str())
}

fn place_of(reservation: &Reservation) -> String {
    format!("compartment {:?} of locker {:?}", reservation.compartment_id.as_str(), reservation.locker_id.as_str())
}
