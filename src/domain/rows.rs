//! What the service says about lockers, compartments and reservations: one struct each, from the
//! domain through the SQL row to the JSON body.
//!
//! Rows are absolute values ("as it now is"), so writing one twice is harmless and no reader ever
//! has to count.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::hash::StateHash;
use crate::domain::ids::{CompartmentId, LockerId, ReservationId};
use crate::domain::reservation::ReservationState;

/// The state of one locker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LockerSummary {
    #[schema(value_type = String, example = "campus-north")]
    pub locker_id: LockerId,
    /// How many compartments are registered.
    #[schema(example = 2)]
    pub compartments: u64,
    /// How many reservations are CREATED or DEPOSITED.
    #[schema(example = 1)]
    pub active_reservations: u64,
    /// How many compartments have an open fault of severity 3 or more.
    #[schema(example = 0)]
    pub degraded_compartments: u64,
    /// 64 hex digits that commit to everything above and to each compartment's state and history.
    #[schema(value_type = String, min_length = 64, max_length = 64,
        example = "5b0c36fd2d4e1c1f3b1d7a2f9bb0c5a7a3a1f5e0c1d2b3a49586776655443322")]
    pub state_hash: StateHash,
}

/// The state of one compartment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompartmentStatus {
    #[schema(value_type = String, example = "A1")]
    pub compartment_id: CompartmentId,
    /// Whether a fault of severity 3 or more is open.
    pub degraded: bool,
    /// The reservation that holds the compartment, or null.
    #[schema(value_type = Option<String>, required = true, example = "parcel-7001")]
    pub active_reservation: Option<ReservationId>,
}

/// The state of one reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReservationStatus {
    #[schema(value_type = String, example = "parcel-7001")]
    pub reservation_id: ReservationId,
    pub status: ReservationState,
}

/// A compartment with the locker it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompartmentRow {
    pub locker_id: LockerId,
    pub status: CompartmentStatus,
}

/// The rows of everything that a stretch of history touched, as they are at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub lockers: Vec<LockerSummary>,
    pub compartments: Vec<CompartmentRow>,
    pub reservations: Vec<ReservationStatus>,
}
