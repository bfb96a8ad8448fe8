//! `CompartmentRegistered`, and what never decides: the device's clock.

use serde_json::json;

use super::Bench;
use crate::support::events::{deposited, fault, registered, reserved};

#[tokio::test]
async fn a_locker_appears_with_its_first_compartment() {
    let bench = Bench::with([]).await;
    assert_eq!(bench.server.get("/lockers/L").await.code(), "unknown-locker");
    assert_eq!(bench.server.get("/lockers/L/compartments/A1").await.code(), "unknown-compartment");

    bench.accept(&[registered("L", "A1")]).await;
    assert_eq!(bench.counts("L").await, (1, 0, 0));
    assert_eq!(
        bench.found("/lockers/L/compartments/A1").await,
        json!({"compartment_id": "A1", "degraded": false, "active_reservation": null}),
    );
    let first_hash = bench.server.state_hash("L").await;

    bench.accept(&[registered("L", "A2")]).await;
    assert_eq!(bench.counts("L").await, (2, 0, 0));
    assert_ne!(bench.server.state_hash("L").await, first_hash);
}

#[tokio::test]
async fn a_compartment_is_registered_once() {
    let bench = Bench::with(&[registered("L", "A1"), registered("L", "A2")]).await;
    let about = json!({"locker_id": "L", "compartment_id": "A2", "conflicting_sequence": 2});
    bench.refused_for_good(&registered("L", "A2"), "compartment-already-registered", &about).await;
}

#[tokio::test]
async fn compartments_of_the_same_name_in_two_lockers_have_nothing_to_do_with_each_other() {
    let bench = Bench::with(&[registered("L", "A1"), registered("M", "A1")]).await;
    let (hash_before, view_before) =
        (bench.server.state_hash("M").await, bench.found("/lockers/M/compartments/A1").await);

    bench.accept(&[reserved("L", "A1", "R1"), fault("L", "A1", 5)]).await;

    assert_eq!((bench.holder("L", "A1").await, bench.is_degraded("L", "A1").await), (json!("R1"), true));
    assert_eq!(bench.found("/lockers/M/compartments/A1").await, view_before);
    assert_eq!(bench.server.state_hash("M").await, hash_before);
    bench.accept(&[reserved("M", "A1", "R2")]).await;
    assert_eq!((bench.counts("L").await, bench.counts("M").await), ((1, 1, 1), (1, 1, 0)));
}

#[tokio::test]
async fn the_devices_clock_decides_nothing() {
    // Given a history whose clocks run backwards, from the far future to the distant past…
    let times = ["9999-12-31T23:59:59Z", "2026-11-21T08:00:00+14:00", "0001-01-01T00:00:00-12:00"];
    let mut history = [registered("L", "A1"), reserved("L", "A1", "R1"), deposited("L", "R1")];
    for (event, time) in history.iter_mut().zip(times) {
        event["occurred_at"] = json!(time);
    }
    // …when it is sent, then every event is accepted, in the order of its arrival.
    let bench = Bench::with(&history).await;
    assert_eq!(bench.status("R1").await, "DEPOSITED");

    // The state is that of a history with proper clocks.
    let mut proper = [registered("L", "A1"), reserved("L", "A1", "R1"), deposited("L", "R1")];
    for (event, time) in proper.iter_mut().zip(["2026-11-21T08:00:00Z", "2026-11-21T08:00:01Z", "2026-11-21T08:00:02Z"])
    {
        event["occurred_at"] = json!(time);
    }
    let other = Bench::with(&proper).await;
    assert_eq!(bench.server.state_hash("L").await, other.server.state_hash("L").await);

    // An event that is impossible stays so, however early it says it happened.
    let mut early = reserved("L", "A1", "R2");
    early["occurred_at"] = json!("1970-01-01T00:00:00Z");
    let about = json!({"locker_id": "L", "compartment_id": "A1", "reservation_id": "R2", "conflicting_sequence": 2});
    bench.refused(&early, "compartment-occupied", &about).await;
}
