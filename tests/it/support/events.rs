//! Events to send, each with a fresh id.

use serde_json::{Value, json};
use uuid::Uuid;

/// An event of any type.
pub fn event(event_type: &str, locker: &str, payload: Value) -> Value {
    json!({
        "event_id": Uuid::now_v7().to_string(),
        "occurred_at": "2026-11-21T08:00:00Z",
        "locker_id": locker,
        "type": event_type,
        "payload": payload,
    })
}

pub fn registered(locker: &str, compartment: &str) -> Value {
    event("CompartmentRegistered", locker, json!({"compartment_id": compartment}))
}

pub fn reserved(locker: &str, compartment: &str, reservation: &str) -> Value {
    event("ReservationCreated", locker, json!({"compartment_id": compartment, "reservation_id": reservation}))
}

pub fn deposited(locker: &str, reservation: &str) -> Value {
    event("ParcelDeposited", locker, json!({"reservation_id": reservation}))
}

pub fn picked_up(locker: &str, reservation: &str) -> Value {
    event("ParcelPickedUp", locker, json!({"reservation_id": reservation}))
}

pub fn expired(locker: &str, reservation: &str) -> Value {
    event("ReservationExpired", locker, json!({"reservation_id": reservation}))
}

pub fn fault(locker: &str, compartment: &str, severity: i64) -> Value {
    event("FaultReported", locker, json!({"compartment_id": compartment, "severity": severity}))
}

pub fn cleared(locker: &str, compartment: &str, fault: &Value) -> Value {
    let fault_event_id = fault["event_id"].clone();
    event("FaultCleared", locker, json!({"compartment_id": compartment, "fault_event_id": fault_event_id}))
}

/// The id of an event.
pub fn id(event: &Value) -> &str {
    event["event_id"].as_str().unwrap()
}
