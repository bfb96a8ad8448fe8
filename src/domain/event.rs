//! Events: the facts that devices report, in the one shape that wire and log share.
//!
//! An event is kept as it was sent ([`json::CompactJson`]) and, beside that, as a typed [`Event`]
//! that the rules can work with. `occurred_at` is checked and kept but is no field of [`Event`]:
//! nothing may ever be decided by a device's clock.

pub mod flat;
pub mod json;
pub mod parse;
pub mod split;

use utoipa::ToSchema;

use crate::domain::ids::{CompartmentId, EventId, LockerId, ReservationId};

/// A fact about one locker, named by its reporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub locker_id: LockerId,
    pub fact: Fact,
}

/// What happened; one variant for each event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    CompartmentRegistered(CompartmentRegistered),
    ReservationCreated(ReservationCreated),
    ParcelDeposited(ParcelDeposited),
    ParcelPickedUp(ParcelPickedUp),
    ReservationExpired(ReservationExpired),
    FaultReported(FaultReported),
    FaultCleared(FaultCleared),
}

/// Declares the event types once: the enum, its names and the list of all.
macro_rules! event_types {
    ($($name:ident),+ $(,)?) => {
        /// The seven kinds of fact; the name is the envelope's `type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventType { $($name),+ }

        impl EventType {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

event_types! {
    CompartmentRegistered,
    ReservationCreated,
    ParcelDeposited,
    ParcelPickedUp,
    ReservationExpired,
    FaultReported,
    FaultCleared,
}

/// A door was built in; the first one makes its locker known.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = CompartmentRegisteredPayload)]
pub struct CompartmentRegistered {
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub compartment_id: CompartmentId,
}

/// A compartment was booked for one parcel.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = ReservationCreatedPayload)]
pub struct ReservationCreated {
    /// Unique across all lockers, for ever.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub reservation_id: ReservationId,
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub compartment_id: CompartmentId,
}

/// The parcel of a reservation was put in.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = ParcelDepositedPayload)]
pub struct ParcelDeposited {
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub reservation_id: ReservationId,
    /// When given, it must be the reservation's own compartment.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128)]
    pub compartment_id: Option<CompartmentId>,
}

/// The parcel of a reservation was taken out; the compartment is free again.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = ParcelPickedUpPayload)]
pub struct ParcelPickedUp {
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub reservation_id: ReservationId,
    /// When given, it must be the reservation's own compartment.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128)]
    pub compartment_id: Option<CompartmentId>,
}

/// A reservation ran out, with or without a parcel inside; the compartment is free again.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = ReservationExpiredPayload)]
pub struct ReservationExpired {
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub reservation_id: ReservationId,
    /// When given, it must be the reservation's own compartment.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128)]
    pub compartment_id: Option<CompartmentId>,
}

/// A defect was seen at a compartment; the fault is named by this event's `event_id`.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = FaultReportedPayload)]
pub struct FaultReported {
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub compartment_id: CompartmentId,
    /// From 3 on, the compartment is degraded while the fault is open.
    #[schema(value_type = i64)]
    pub severity: Severity,
}

/// A fault was repaired.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
#[schema(as = FaultClearedPayload)]
pub struct FaultCleared {
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub compartment_id: CompartmentId,
    /// The `event_id` of the `FaultReported` that opened the fault.
    #[schema(value_type = uuid::Uuid)]
    pub fault_event_id: EventId,
}

/// How bad a fault is: any 64-bit integer, larger is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(i64);

impl Severity {
    /// From here on, an open fault makes its compartment degraded.
    pub const DEGRADING: Self = Self(3);

    #[must_use]
    pub const fn new(value: i64) -> Self {
        Self(value)
    }

    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    #[must_use]
    pub fn degrades(self) -> bool {
        self >= Self::DEGRADING
    }
}
