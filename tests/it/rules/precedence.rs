//! When several rules refuse an event, the answer names the first in the documented order.

use serde_json::{Value, json};

use super::Bench;
use crate::support::events::{cleared, event, expired, fault, id, registered, reserved};

/// Posts an event and returns the code of its refusal.
async fn code(bench: &Bench, event: &Value) -> String {
    let answer = bench.server.post(event).await;
    assert_eq!(answer.status, 409, "{event}: {answer:?}");
    answer.code()
}

#[tokio::test]
async fn booking_asks_for_the_compartment_then_its_faults_then_its_holder_then_the_id() {
    // Given a door that is degraded and occupied, and a reservation id that is in use.
    let fault = fault("L", "A1", 3);
    let bench = Bench::with(&[registered("L", "A1"), reserved("L", "A1", "R1"), fault.clone()]).await;

    // When all rules apply, then each shows as the ones before it are remedied.
    let unregistered = reserved("L", "A2", "R1");
    assert_eq!(code(&bench, &unregistered).await, "compartment-not-registered", "before the used id");
    let event = reserved("L", "A1", "R1");
    assert_eq!(code(&bench, &event).await, "compartment-degraded", "before occupied and the used id");
    bench.accept(&[cleared("L", "A1", &fault)]).await;
    assert_eq!(code(&bench, &event).await, "compartment-occupied", "before the used id");
    bench.accept(&[expired("L", "R1")]).await;
    assert_eq!(code(&bench, &event).await, "reservation-already-exists");
}

#[tokio::test]
async fn degraded_comes_before_the_used_id_in_a_free_compartment() {
    let bench = Bench::with(&[registered("L", "A1"), registered("L", "A2"), reserved("L", "A2", "R1")]).await;
    bench.accept(&[fault("L", "A1", 3)]).await;
    assert_eq!(code(&bench, &reserved("L", "A1", "R1")).await, "compartment-degraded");
}

#[tokio::test]
async fn a_step_asks_for_the_place_before_the_state() {
    // Given a reservation that no step can advance any more.
    let history = [registered("L", "A1"), registered("M", "A1"), reserved("L", "A1", "R1"), expired("L", "R1")];
    let bench = Bench::with(&history).await;
    for (step, wrong_state) in [
        ("ParcelDeposited", "reservation-not-awaiting-deposit"),
        ("ParcelPickedUp", "reservation-not-awaiting-pickup"),
        ("ReservationExpired", "reservation-already-closed"),
    ] {
        // When the step also names another place, then that is the reason.
        let other_locker = event(step, "M", json!({"reservation_id": "R1"}));
        assert_eq!(code(&bench, &other_locker).await, "reservation-elsewhere");
        let other_compartment = event(step, "L", json!({"reservation_id": "R1", "compartment_id": "A2"}));
        assert_eq!(code(&bench, &other_compartment).await, "reservation-elsewhere");
        let right_place = event(step, "L", json!({"reservation_id": "R1", "compartment_id": "A1"}));
        assert_eq!(code(&bench, &right_place).await, wrong_state);
    }
}

#[tokio::test]
async fn clearing_asks_for_the_compartment_then_the_fault_then_its_place_then_its_state() {
    let fault = fault("L", "A1", 3);
    let history = [registered("L", "A1"), registered("L", "A2"), fault.clone(), cleared("L", "A1", &fault)];
    let bench = Bench::with(&history).await;
    let unknown_fault = json!({"event_id": "01890a5d-ac96-774b-bcce-b302099a8057"});
    assert_ne!(id(&unknown_fault), id(&fault));

    assert_eq!(code(&bench, &cleared("L", "A9", &unknown_fault)).await, "compartment-not-registered");
    assert_eq!(code(&bench, &cleared("L", "A9", &fault)).await, "compartment-not-registered");
    assert_eq!(code(&bench, &cleared("L", "A2", &unknown_fault)).await, "fault-not-found");
    assert_eq!(code(&bench, &cleared("L", "A2", &fault)).await, "fault-elsewhere", "before already cleared");
    assert_eq!(code(&bench, &cleared("L", "A1", &fault)).await, "fault-already-cleared");
}
