//! `ReservationCreated`: when a compartment can be booked.

use serde_json::{Value, json};

use super::Bench;
use crate::support::events::{cleared, deposited, expired, fault, id, picked_up, registered, reserved};

/// What a refusal of `R2` in compartment A1 of locker L names, with the record in the way.
fn about(sequence: u64) -> Value {
    json!({"locker_id": "L", "compartment_id": "A1", "reservation_id": "R2", "conflicting_sequence": sequence})
}

#[tokio::test]
async fn a_reservation_holds_its_compartment() {
    let bench = Bench::with(&[registered("L", "A1"), registered("L", "A2")]).await;
    let hash_before = bench.server.state_hash("L").await;
    assert_eq!(bench.server.get("/reservations/R1").await.code(), "unknown-reservation");

    bench.accept(&[reserved("L", "A1", "R1")]).await;

    assert_eq!(bench.found("/reservations/R1").await, json!({"reservation_id": "R1", "status": "CREATED"}));
    assert_eq!((bench.holder("L", "A1").await, bench.holder("L", "A2").await), (json!("R1"), Value::Null));
    assert_eq!(bench.counts("L").await, (2, 1, 0));
    assert_ne!(bench.server.state_hash("L").await, hash_before);
}

#[tokio::test]
async fn a_reservation_needs_a_registered_compartment() {
    let bench = Bench::with(&[registered("L", "A1"), registered("M", "B1")]).await;
    let code = "compartment-not-registered";
    // In a locker that nobody knows, in one that is known, and in one that is not the door's own.
    for (locker, compartment) in [("X", "A1"), ("L", "A9"), ("L", "B1")] {
        let reservation = format!("R-{locker}-{compartment}");
        let event = reserved(locker, compartment, &reservation);
        let about = json!({"locker_id": locker, "compartment_id": compartment, "reservation_id": reservation});
        bench.refused_until(&event, code, &about, &[registered(locker, compartment)]).await;
    }
}

#[tokio::test]
async fn a_degraded_compartment_cannot_be_booked_until_the_fault_is_cleared() {
    let fault = fault("L", "A1", 3);
    let bench = Bench::with(&[registered("L", "A1"), fault.clone()]).await;
    let mut about = about(2);
    about["fault_event_id"] = json!(id(&fault));
    let remedy = [cleared("L", "A1", &fault)];
    bench.refused_until(&reserved("L", "A1", "R2"), "compartment-degraded", &about, &remedy).await;
    assert_eq!(bench.holder("L", "A1").await, "R2");
}

#[tokio::test]
async fn a_refusal_names_the_first_of_the_faults_that_degrade() {
    let (small, large, larger) = (fault("L", "A1", 2), fault("L", "A1", 3), fault("L", "A1", 9));
    let bench = Bench::with(&[registered("L", "A1"), small, large.clone(), larger.clone()]).await;
    for (fault, sequence) in [(&large, 3), (&larger, 4)] {
        let mut about = about(sequence);
        about["fault_event_id"] = json!(id(fault));
        bench.refused(&reserved("L", "A1", "R2"), "compartment-degraded", &about).await;
        bench.accept(&[cleared("L", "A1", fault)]).await;
    }
    bench.accept(&[reserved("L", "A1", "R2")]).await;
}

#[tokio::test]
async fn an_occupied_compartment_cannot_be_booked_until_it_is_free() {
    for (history, remedy) in [
        (vec![], vec![expired("L", "R1")]),
        (vec![], vec![deposited("L", "R1"), picked_up("L", "R1")]),
        (vec![deposited("L", "R1")], vec![picked_up("L", "R1")]),
        (vec![deposited("L", "R1")], vec![expired("L", "R1")]),
    ] {
        let bench = Bench::with(&[registered("L", "A1"), reserved("L", "A1", "R1")]).await;
        bench.accept(&history).await;
        bench.refused_until(&reserved("L", "A1", "R2"), "compartment-occupied", &about(2), &remedy).await;
        assert_eq!(bench.holder("L", "A1").await, "R2");
    }
}

#[tokio::test]
async fn a_reservation_id_is_used_once_across_all_lockers_for_ever() {
    let history = [registered("L", "A1"), registered("L", "A2"), registered("M", "A1"), reserved("L", "A1", "R1")];
    let bench = Bench::with(&history).await;
    let code = "reservation-already-exists";
    let about = |locker: &str, compartment: &str| json!({"locker_id": locker, "compartment_id": compartment, "reservation_id": "R1", "conflicting_sequence": 4});
    bench.refused_for_good(&reserved("L", "A2", "R1"), code, &about("L", "A2")).await;
    bench.refused_for_good(&reserved("M", "A1", "R1"), code, &about("M", "A1")).await;
    // Not even when it is closed.
    bench.accept(&[expired("L", "R1")]).await;
    bench.refused_for_good(&reserved("L", "A1", "R1"), code, &about("L", "A1")).await;
    // Compared exactly: another spelling is another id.
    bench.accept(&[reserved("L", "A1", "r1"), reserved("M", "A1", "R1 ")]).await;
}

#[tokio::test]
async fn a_reservation_survives_its_compartment_becoming_degraded() {
    let bench = Bench::with(&[registered("L", "A1"), reserved("L", "A1", "R1")]).await;
    let fault = fault("L", "A1", 4);
    bench.accept([&fault]).await;
    assert_eq!((bench.holder("L", "A1").await, bench.is_degraded("L", "A1").await), (json!("R1"), true));
    assert_eq!((bench.counts("L").await, bench.status("R1").await.as_str()), ((1, 1, 1), "CREATED"));

    bench.accept(&[deposited("L", "R1"), picked_up("L", "R1")]).await;
    assert_eq!((bench.status("R1").await.as_str(), bench.counts("L").await), ("PICKED_UP", (1, 0, 1)));

    // Free, and degraded still.
    let mut about = about(3);
    about["fault_event_id"] = json!(id(&fault));
    bench.refused(&reserved("L", "A1", "R2"), "compartment-degraded", &about).await;
}
