//! What the answers hold: exactly these keys, and for a known history exactly these values.

use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::support::Folder;
use crate::support::events::{deposited, fault, id, registered, reserved};
use crate::support::server::Server;

fn keys(body: &Value) -> Vec<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_three_views_have_exactly_their_keys_whatever_the_state() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for next in [registered("L", "A1"), reserved("L", "A1", "R1"), fault("L", "A1", 3), deposited("L", "R1")] {
        server.accept([&next]).await;
        let locker = server.get("/lockers/L").await;
        assert_eq!(locker.header("content-type"), "application/json");
        let mut found = keys(&locker.json()).join(" ");
        assert_eq!(found, "active_reservations compartments degraded_compartments locker_id state_hash");
        let hash = server.state_hash("L").await;
        assert!(hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{hash}");

        let compartment = server.get("/lockers/L/compartments/A1").await;
        assert_eq!(compartment.header("content-type"), "application/json");
        found = keys(&compartment.json()).join(" ");
        assert_eq!(found, "active_reservation compartment_id degraded", "null, never absent");
    }
    let reservation = server.get("/reservations/R1").await;
    assert_eq!(reservation.header("content-type"), "application/json");
    assert_eq!(keys(&reservation.json()), ["reservation_id", "status"]);
}

#[tokio::test]
async fn a_known_history_is_answered_in_known_words() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let history =
        [registered("campus-north", "A1"), registered("campus-north", "A2"), reserved("campus-north", "A1", "p-1")];
    server.accept(&history).await;

    assert_json_snapshot!(server.get("/lockers/campus-north").await.json(), @r#"
    {
      "active_reservations": 1,
      "compartments": 2,
      "degraded_compartments": 0,
      "locker_id": "campus-north",
      "state_hash": "18d56a16f4f5134719fe4ddda9072130ad826b25fde8981bef721217faadb06f"
    }
    "#);
    assert_json_snapshot!(server.get("/lockers/campus-north/compartments/A1").await.json(), @r#"
    {
      "active_reservation": "p-1",
      "compartment_id": "A1",
      "degraded": false
    }
    "#);
    assert_json_snapshot!(server.get("/reservations/p-1").await.json(), @r#"
    {
      "reservation_id": "p-1",
      "status": "CREATED"
    }
    "#);
    assert_json_snapshot!(server.post(&reserved("campus-north", "A1", "p-2")).await.json(), @r#"
    {
      "code": "compartment-occupied",
      "compartment_id": "A1",
      "conflicting_sequence": 3,
      "detail": "Compartment \"A1\" of locker \"campus-north\" is held by reservation \"p-1\".",
      "locker_id": "campus-north",
      "reservation_id": "p-2",
      "status": 409,
      "title": "The compartment is occupied",
      "type": "/problems/compartment-occupied"
    }
    "#);
    assert_json_snapshot!(server.get("/livez").await.json(), @r#"
    {
      "status": "alive"
    }
    "#);
    assert_json_snapshot!(server.get("/readyz").await.json(), @r#"
    {
      "conflicting_duplicates": 0,
      "head_sequence": 3,
      "lag_events": 0,
      "log": "ok",
      "projected_sequence": 3,
      "projection": "ok"
    }
    "#);
}

#[tokio::test]
async fn the_keys_of_a_view_stand_in_their_documented_order() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1"), reserved("L", "A1", "R1")]).await;
    let (compartment, reservation) =
        (server.get("/lockers/L/compartments/A1").await.body, server.get("/reservations/R1").await.body);
    assert_eq!(compartment, r#"{"compartment_id":"A1","degraded":false,"active_reservation":"R1"}"#);
    assert_eq!(reservation, r#"{"reservation_id":"R1","status":"CREATED"}"#);
    let locker = server.get("/lockers/L").await.body;
    let start = r#"{"locker_id":"L","compartments":1,"active_reservations":1,"degraded_compartments":0,"state_hash":""#;
    assert!(locker.starts_with(start), "{locker}");
}

#[tokio::test]
async fn the_receipt_tells_what_the_log_says() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let event = registered("L", "A2");

    let accepted = server.post(&event).await;
    assert_eq!((accepted.status, accepted.header("content-type")), (202, "application/json"));
    let record = &folder.records()[1];
    let recorded_at = &record["recorded_at"];
    let mut receipt =
        json!({"event_id": id(&event), "status": "accepted", "sequence": record["seq"], "recorded_at": recorded_at});
    assert_eq!(accepted.json(), receipt, "exactly these four");

    // Sent again after others, as it was or in other white space: the original's place and time.
    server.accept(&[registered("L", "A3")]).await;
    receipt["status"] = json!("duplicate");
    for body in [event.to_string(), serde_json::to_string_pretty(&event).unwrap()] {
        let duplicate = server.post_raw("application/json", body).await;
        assert_eq!((duplicate.status, duplicate.json()), (200, receipt.clone()), "exactly these four");
    }

    // With another content: one key more, and nothing else changes.
    let mut other = event.clone();
    other["payload"]["compartment_id"] = json!("A9");
    receipt["content_matches"] = json!(false);
    let conflicting = server.post(&other).await;
    assert_eq!((conflicting.status, conflicting.json()), (200, receipt));
    assert_eq!(folder.records().len(), 3);
    assert_eq!(server.get("/lockers/L/compartments/A9").await.status, 404);
}

#[tokio::test]
async fn the_id_of_a_receipt_is_spelled_in_lower_case() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let mut event = registered("L", "A1");
    let lower = id(&event).to_owned();
    event["event_id"] = json!(lower.to_uppercase());
    assert_eq!(server.post(&event).await.json()["event_id"], json!(lower));
    // The log keeps the spelling; another spelling is the same id.
    assert_eq!(folder.event_ids(), [lower.to_uppercase()]);
    event["event_id"] = json!(lower);
    assert_eq!(server.post(&event).await.status, 200);
}
