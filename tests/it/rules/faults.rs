//! `FaultReported` and `FaultCleared`: what degrades a compartment, and what ends that.

use serde_json::json;

use super::Bench;
use crate::support::events::{cleared, event, fault, id, registered};

#[tokio::test]
async fn severity_three_degrades_and_two_does_not() {
    for (severity, degrades) in [(i64::MIN, false), (-3, false), (0, false), (2, false), (3, true), (i64::MAX, true)] {
        let bench = Bench::with(&[registered("L", "A1"), registered("L", "A2")]).await;
        let hash_before = bench.server.state_hash("L").await;

        bench.accept(&[fault("L", "A1", severity)]).await;

        assert_eq!(bench.is_degraded("L", "A1").await, degrades, "severity {severity}");
        assert!(!bench.is_degraded("L", "A2").await);
        assert_eq!(bench.counts("L").await, (2, 0, u64::from(degrades)));
        assert_ne!(bench.server.state_hash("L").await, hash_before, "an open fault always shows in the hash");
    }
}

#[tokio::test]
async fn a_compartment_is_degraded_while_any_severe_fault_is_open() {
    let (first, second, slight) = (fault("L", "A1", 3), fault("L", "A1", 5), fault("L", "A1", 1));
    let bench = Bench::with(&[registered("L", "A1"), first.clone(), second.clone(), slight]).await;
    assert_eq!(bench.counts("L").await, (1, 0, 1), "a compartment counts once");

    bench.accept(&[cleared("L", "A1", &first)]).await;
    assert!(bench.is_degraded("L", "A1").await, "the second one is still open");

    bench.accept(&[cleared("L", "A1", &second)]).await;
    assert!(!bench.is_degraded("L", "A1").await, "a slight one alone does not degrade");
    assert_eq!(bench.counts("L").await, (1, 0, 0));
}

#[tokio::test]
async fn a_fault_needs_a_registered_compartment() {
    let bench = Bench::with(&[registered("L", "A1"), registered("M", "B1")]).await;
    for (locker, compartment) in [("X", "A1"), ("L", "A9"), ("L", "B1")] {
        let about = json!({"locker_id": locker, "compartment_id": compartment});
        let event = fault(locker, compartment, 3);
        let remedy = [registered(locker, compartment)];
        bench.refused_until(&event, "compartment-not-registered", &about, &remedy).await;
        assert!(bench.is_degraded(locker, compartment).await);
    }
}

#[tokio::test]
async fn a_fault_is_cleared_at_a_registered_compartment() {
    let fault = fault("L", "A1", 3);
    let bench = Bench::with(&[registered("L", "A1"), fault.clone()]).await;
    let event = cleared("L", "A9", &fault);
    let about = json!({"locker_id": "L", "compartment_id": "A9", "fault_event_id": id(&fault)});
    bench.refused_for_good(&event, "compartment-not-registered", &about).await;
}

#[tokio::test]
async fn a_fault_is_known_once_its_report_is_accepted() {
    let bench = Bench::with(&[registered("L", "A1")]).await;
    let report = fault("L", "A1", 3);
    let about = json!({"locker_id": "L", "compartment_id": "A1", "fault_event_id": id(&report)});
    bench.refused_until(&cleared("L", "A1", &report), "fault-not-found", &about, &[report]).await;
    assert!(!bench.is_degraded("L", "A1").await);
}

#[tokio::test]
async fn only_a_report_opens_a_fault() {
    // The id of another event names no fault, and neither does that of a report that was refused.
    let registration = registered("L", "A1");
    let bench = Bench::with([&registration]).await;
    let refused = fault("L", "A9", 3);
    assert_eq!(bench.server.post(&refused).await.status, 409);
    for no_fault in [&registration, &refused] {
        let about = json!({"locker_id": "L", "compartment_id": "A1", "fault_event_id": id(no_fault)});
        bench.refused_for_good(&cleared("L", "A1", no_fault), "fault-not-found", &about).await;
    }
}

#[tokio::test]
async fn a_fault_is_cleared_where_it_was_reported() {
    let fault = fault("L", "A1", 3);
    let history = [registered("L", "A1"), registered("L", "A2"), registered("M", "A1"), fault.clone()];
    let bench = Bench::with(&history).await;
    for (locker, compartment) in [("L", "A2"), ("M", "A1")] {
        let about = json!({
            "locker_id": locker, "compartment_id": compartment,
            "fault_event_id": id(&fault), "conflicting_sequence": 4,
        });
        bench.refused_for_good(&cleared(locker, compartment, &fault), "fault-elsewhere", &about).await;
    }
    assert!(bench.is_degraded("L", "A1").await);
}

#[tokio::test]
async fn a_fault_is_cleared_once() {
    let fault = fault("L", "A1", 3);
    let bench = Bench::with(&[registered("L", "A1"), fault.clone(), cleared("L", "A1", &fault)]).await;
    let about =
        json!({"locker_id": "L", "compartment_id": "A1", "fault_event_id": id(&fault), "conflicting_sequence": 3});
    bench.refused_for_good(&cleared("L", "A1", &fault), "fault-already-cleared", &about).await;
}

#[tokio::test]
async fn a_fault_is_named_in_either_case_of_its_uuid() {
    let fault = fault("L", "A1", 3);
    let bench = Bench::with(&[registered("L", "A1"), fault.clone()]).await;
    let payload = json!({"compartment_id": "A1", "fault_event_id": id(&fault).to_uppercase()});
    bench.accept(&[event("FaultCleared", "L", payload)]).await;
    assert!(!bench.is_degraded("L", "A1").await);
}
