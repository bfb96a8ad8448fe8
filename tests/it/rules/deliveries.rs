//! `ParcelDeposited`, `ParcelPickedUp` and `ReservationExpired`: the life of a reservation.

use serde_json::{Value, json};

use super::Bench;
use crate::support::events::{deposited, event, expired, picked_up, registered, reserved};

/// The three types whose payload names a reservation and, if it likes, its compartment.
const STEPS: [&str; 3] = ["ParcelDeposited", "ParcelPickedUp", "ReservationExpired"];

/// A bench with two compartments in locker L, one in M, and R1 booked in A1 of L as sequence 4.
async fn booked() -> Bench {
    Bench::with(&[registered("L", "A1"), registered("L", "A2"), registered("M", "A1"), reserved("L", "A1", "R1")]).await
}

#[tokio::test]
async fn a_parcel_goes_in_and_comes_out() {
    let bench = booked().await;
    let mut hashes = vec![bench.server.state_hash("L").await];

    bench.accept(&[deposited("L", "R1")]).await;
    assert_eq!((bench.status("R1").await.as_str(), bench.holder("L", "A1").await), ("DEPOSITED", json!("R1")));
    assert_eq!(bench.counts("L").await, (2, 1, 0));
    hashes.push(bench.server.state_hash("L").await);

    bench.accept(&[picked_up("L", "R1")]).await;
    assert_eq!((bench.status("R1").await.as_str(), bench.holder("L", "A1").await), ("PICKED_UP", Value::Null));
    assert_eq!(bench.counts("L").await, (2, 0, 0));
    hashes.push(bench.server.state_hash("L").await);

    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 3, "each step shows in the hash");
}

#[tokio::test]
async fn a_reservation_expires_with_or_without_a_parcel_inside() {
    for before in [vec![], vec![deposited("L", "R1")]] {
        let bench = booked().await;
        bench.accept(&before).await;
        let hash_before = bench.server.state_hash("L").await;

        bench.accept(&[expired("L", "R1")]).await;

        assert_eq!((bench.status("R1").await.as_str(), bench.holder("L", "A1").await), ("EXPIRED", Value::Null));
        assert_eq!(bench.counts("L").await, (2, 0, 0));
        assert_ne!(bench.server.state_hash("L").await, hash_before);
    }
}

#[tokio::test]
async fn a_step_may_name_the_right_compartment_or_none() {
    for compartment in [json!({"compartment_id": "A1"}), json!({"compartment_id": null}), json!({})] {
        let bench = booked().await;
        let step = |event_type: &str, reservation: &str| {
            let mut payload = compartment.clone();
            payload["reservation_id"] = json!(reservation);
            event(event_type, "L", payload)
        };
        bench.accept(&[step("ParcelDeposited", "R1"), step("ParcelPickedUp", "R1")]).await;
        assert_eq!(bench.status("R1").await, "PICKED_UP", "{compartment}");
        bench.accept(&[reserved("L", "A1", "R2"), step("ReservationExpired", "R2")]).await;
        assert_eq!(bench.status("R2").await, "EXPIRED", "{compartment}");
    }
}

#[tokio::test]
async fn a_step_needs_its_reservation() {
    for (step, remedy) in [
        ("ParcelDeposited", vec![reserved("L", "A2", "R2")]),
        ("ParcelPickedUp", vec![reserved("L", "A2", "R2"), deposited("L", "R2")]),
        ("ReservationExpired", vec![reserved("L", "A2", "R2")]),
    ] {
        let bench = booked().await;
        let code = "reservation-not-found";
        let about = json!({"locker_id": "L", "reservation_id": "R2"});
        bench.refused_until(&event(step, "L", json!({"reservation_id": "R2"})), code, &about, &remedy).await;
        // The same with a compartment named, and in a locker that nobody knows.
        let payload = json!({"reservation_id": "R3", "compartment_id": "A1"});
        let about = json!({"locker_id": "X", "compartment_id": "A1", "reservation_id": "R3"});
        bench.refused_for_good(&event(step, "X", payload), code, &about).await;
    }
}

#[tokio::test]
async fn a_step_belongs_to_the_reservations_own_locker_and_compartment() {
    let bench = booked().await;
    for step in STEPS {
        // Another locker, one that nobody knows, another compartment, one that nobody knows, and
        // the same compartment's name in another locker.
        for (locker, compartment) in [("M", None), ("X", None), ("L", Some("A2")), ("L", Some("A9")), ("M", Some("A1"))]
        {
            let mut payload = json!({"reservation_id": "R1"});
            let mut about = json!({"locker_id": locker, "reservation_id": "R1", "conflicting_sequence": 4});
            if let Some(compartment) = compartment {
                payload["compartment_id"] = json!(compartment);
                about["compartment_id"] = json!(compartment);
            }
            bench.refused_for_good(&event(step, locker, payload), "reservation-elsewhere", &about).await;
        }
    }
    assert_eq!(bench.status("R1").await, "CREATED");
}

#[tokio::test]
async fn a_step_from_the_wrong_state_is_refused_by_its_own_rule() {
    let deposit = |n: u64| (deposited("L", "R1"), "reservation-not-awaiting-deposit", n);
    let pickup = |n: u64| (picked_up("L", "R1"), "reservation-not-awaiting-pickup", n);
    let expiry = |n: u64| (expired("L", "R1"), "reservation-already-closed", n);
    // The history after the reservation (sequence 4), and what it makes impossible for ever. The
    // sequence is the record that brought the reservation to its state.
    for (history, refused) in [
        (vec![deposited("L", "R1")], vec![deposit(5)]),
        (vec![deposited("L", "R1"), picked_up("L", "R1")], vec![deposit(6), pickup(6), expiry(6)]),
        (vec![expired("L", "R1")], vec![deposit(5), pickup(5), expiry(5)]),
        (vec![deposited("L", "R1"), expired("L", "R1")], vec![deposit(6), pickup(6), expiry(6)]),
    ] {
        let bench = booked().await;
        bench.accept(&history).await;
        for (event, code, sequence) in refused {
            let about = json!({"locker_id": "L", "reservation_id": "R1", "conflicting_sequence": sequence});
            bench.refused_for_good(&event, code, &about).await;
        }
    }
}

#[tokio::test]
async fn a_parcel_that_is_not_in_cannot_come_out_until_it_is() {
    let bench = booked().await;
    let about = json!({"locker_id": "L", "reservation_id": "R1", "conflicting_sequence": 4});
    let code = "reservation-not-awaiting-pickup";
    bench.refused_until(&picked_up("L", "R1"), code, &about, &[deposited("L", "R1")]).await;
    assert_eq!(bench.status("R1").await, "PICKED_UP");
}
