//! Events as the lockers of a simulated network write them: JSON, straight into a buffer.

use std::io::Write;

use chrono::{DateTime, FixedOffset, SecondsFormat};
use uuid::{Builder, Uuid};

use crate::random::Random;

/// What happened at a locker; doors and reservations by their numbers.
#[derive(Debug, Clone, Copy)]
pub enum Happening {
    Registered { door: usize },
    Reserved { reservation: u64, door: usize },
    Deposited { reservation: u64, door: Option<usize> },
    PickedUp { reservation: u64, door: Option<usize> },
    Expired { reservation: u64, door: Option<usize> },
    Faulty { door: usize, severity: u64 },
    Repaired { door: usize, fault: Uuid },
}

impl Happening {
    const fn event_type(self) -> &'static str {
        match self {
            Self::Registered { .. } => "CompartmentRegistered",
            Self::Reserved { .. } => "ReservationCreated",
            Self::Deposited { .. } => "ParcelDeposited",
            Self::PickedUp { .. } => "ParcelPickedUp",
            Self::Expired { .. } => "ReservationExpired",
            Self::Faulty { .. } => "FaultReported",
            Self::Repaired { .. } => "FaultCleared",
        }
    }

    const fn door(self) -> Option<usize> {
        match self {
            Self::Registered { door }
            | Self::Reserved { door, .. }
            | Self::Faulty { door, .. }
            | Self::Repaired { door, .. } => Some(door),
            Self::Deposited { door, .. } | Self::PickedUp { door, .. } | Self::Expired { door, .. } => door,
        }
    }
}

/// Appends an event as one line of JSON without its line end. Nothing in it needs an escape.
pub fn write(into: &mut Vec<u8>, locker: &str, id: Uuid, occurred_at: DateTime<FixedOffset>, happening: Happening) {
    let text = |into: &mut Vec<u8>, part: &str| into.extend_from_slice(part.as_bytes());
    let number = |into: &mut Vec<u8>, number: &dyn std::fmt::Display| {
        write!(into, "{number}").expect("a Vec takes whatever is written");
    };
    text(into, "{\"event_id\":\"");
    text(into, id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    text(into, "\",\"occurred_at\":\"");
    text(into, &occurred_at.to_rfc3339_opts(SecondsFormat::Millis, true));
    text(into, "\",\"locker_id\":\"");
    text(into, locker);
    text(into, "\",\"type\":\"");
    text(into, happening.event_type());
    text(into, "\",\"payload\":{");
    if let Happening::Reserved { reservation, .. }
    | Happening::Deposited { reservation, .. }
    | Happening::PickedUp { reservation, .. }
    | Happening::Expired { reservation, .. } = happening
    {
        text(into, "\"reservation_id\":\"");
        text(into, locker);
        number(into, &format_args!("-{reservation}\""));
    }
    if let Some(door) = happening.door() {
        let comma = if into.ends_with(b"{") { "" } else { "," };
        number(into, &format_args!("{comma}\"compartment_id\":\"c{:02}\"", door + 1));
    }
    match happening {
        Happening::Faulty { severity, .. } => number(into, &format_args!(",\"severity\":{severity}")),
        Happening::Repaired { fault, .. } => {
            text(into, ",\"fault_event_id\":\"");
            text(into, fault.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
            text(into, "\"");
        }
        _ => {}
    }
    text(into, "}}");
}

/// A new id, as random as the seed.
pub fn new_id(random: &mut Random) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.number().to_be_bytes());
    bytes[8..].copy_from_slice(&random.number().to_be_bytes());
    Builder::from_random_bytes(bytes).into_uuid()
}
