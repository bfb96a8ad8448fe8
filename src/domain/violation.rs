//! Violations: why a valid event is impossible, in words for a person and a code for a program.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId, Sequence};

/// Declares the rules once: the enum, the stable codes and the list of all.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal),+ $(,)?) => {
        /// The rules that can refuse an event; the code is the `code` of the 409.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$doc])* $name),+ }

        impl Rule {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }
        }
    };
}

rules! {
    /// The compartment is already registered in this locker.
    CompartmentAlreadyRegistered = "compartment-already-registered",
    /// The locker has no such compartment, or is itself unknown.
    CompartmentNotRegistered = "compartment-not-registered",
    /// An open fault of severity 3 or more keeps the compartment from being booked.
    CompartmentDegraded = "compartment-degraded",
    /// The compartment has an active reservation.
    CompartmentOccupied = "compartment-occupied",
    /// The reservation id was used before, in this locker or another.
    ReservationAlreadyExists = "reservation-already-exists",
    /// No reservation has this id.
    ReservationNotFound = "reservation-not-found",
    /// The reservation belongs to another locker or compartment.
    ReservationElsewhere = "reservation-elsewhere",
    /// The reservation is not CREATED.
    ReservationNotAwaitingDeposit = "reservation-not-awaiting-deposit",
    /// The reservation is not DEPOSITED.
    ReservationNotAwaitingPickup = "reservation-not-awaiting-pickup",
    /// The reservation is `PICKED_UP` or EXPIRED.
    ReservationAlreadyClosed = "reservation-already-closed",
    /// No fault was reported by an event of this id.
    FaultNotFound = "fault-not-found",
    /// The fault was reported for another compartment.
    FaultElsewhere = "fault-elsewhere",
    /// The fault is already cleared.
    FaultAlreadyCleared = "fault-already-cleared",
}

/// A refusal: the rule, the ids involved and the record that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
    /// Behind a pointer: whoever is not refused should not carry room for this.
    pub involved: Box<Involved>,
    /// The record that the event conflicts with, where there is one.
    pub conflicting_sequence: Option<Sequence>,
}

/// The ids that a refusal is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Involved {
    #[schema(value_type = String, required = false, example = "campus-north")]
    pub locker_id: LockerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "A1")]
    pub compartment_id: Option<CompartmentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, example = "parcel-7001")]
    pub reservation_id: Option<ReservationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = uuid::Uuid, required = false)]
    pub fault_event_id: Option<EventId>,
}

impl Involved {
    #[must_use]
    pub fn of(locker_id: &LockerId) -> Self {
        Self { locker_id: locker_id.clone(), compartment_id: None, reservation_id: None, fault_event_id: None }
    }

    #[must_use]
    pub fn compartment(mut self, id: &CompartmentId) -> Self {
        self.compartment_id = Some(id.clone());
        self
    }

    #[must_use]
    pub fn reservation(mut self, id: &ReservationId) -> Self {
        self.reservation_id = Some(id.clone());
        self
    }

    #[must_use]
    pub fn fault(mut self, id: EventId) -> Self {
        self.fault_event_id = Some(id);
        self
    }

    /// Makes the violation about these ids.
    #[must_use]
    pub fn refused(self, rule: Rule, conflict: Option<Sequence>, detail: impl Into<String>) -> Violation {
        Violation { rule, detail: detail.into(), involved: Box::new(self), conflicting_sequence: conflict }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.code(), self.detail)
    }
}
