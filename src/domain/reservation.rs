//! Reservations and their life: CREATED, then DEPOSITED, then `PICKED_UP`; or EXPIRED on the way.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ids::{CompartmentId, LockerId, Sequence};

/// Where a reservation stands.
///
/// The only ways from one state to another are the methods below; each says `None` where the
/// step is illegal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(description = "Where a reservation stands; it is active while CREATED or DEPOSITED.")]
pub enum ReservationState {
    Created,
    Deposited,
    PickedUp,
    Expired,
}

impl ReservationState {
    pub const ALL: [Self; 4] = [Self::Created, Self::Deposited, Self::PickedUp, Self::Expired];

    /// The name on the wire and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Deposited => "DEPOSITED",
            Self::PickedUp => "PICKED_UP",
            Self::Expired => "EXPIRED",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// An active reservation holds its compartment.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Created | Self::Deposited)
    }

    /// The parcel is put in.
    #[must_use]
    pub const fn deposit(self) -> Option<Self> {
        match self {
            Self::Created => Some(Self::Deposited),
            Self::Deposited | Self::PickedUp | Self::Expired => None,
        }
    }

    /// The parcel is taken out.
    #[must_use]
    pub const fn pick_up(self) -> Option<Self> {
        match self {
            Self::Deposited => Some(Self::PickedUp),
            Self::Created | Self::PickedUp | Self::Expired => None,
        }
    }

    /// The time runs out, with or without a parcel inside.
    #[must_use]
    pub const fn expire(self) -> Option<Self> {
        match self {
            Self::Created | Self::Deposited => Some(Self::Expired),
            Self::PickedUp | Self::Expired => None,
        }
    }
}

/// One booking of one compartment for one parcel.
#[derive(Debug, Clone)]
pub struct Reservation {
    pub locker_id: LockerId,
    pub compartment_id: CompartmentId,
    pub state: ReservationState,
    /// The record that created it.
    pub created: Sequence,
    /// The record that brought it to its present state.
    pub changed: Sequence,
}
