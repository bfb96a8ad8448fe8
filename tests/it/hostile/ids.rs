//! Identifiers that mean something elsewhere: in a path, in SQL, in JSON, on a terminal.

use serde_json::{Value, json};

use super::pointers;
use crate::support::Folder;
use crate::support::events::{event, registered, reserved};
use crate::support::server::Server;
use crate::support::views::{compartment_path, locker_path, reservation_path};
use crate::support::wire::Wire;

fn strange_ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "a/b",
        "/",
        "//",
        "..",
        ".",
        "../..",
        "100%",
        "%",
        "%2F",
        "%zz",
        "+",
        "a b",
        " ",
        " a",
        "a ",
        "a?b#c",
        "a;b&c=d",
        "\"",
        "'",
        "'; DROP TABLE lockers; --",
        "\\",
        "\\u0041",
        "`$(true)`",
        "{locker_id}",
        "*",
        "~0",
        "<b>",
        "null",
        "0",
        "1e999",
        "[]",
        "compartments",
        "🦀📦",
        "👨‍👩‍👧",
        "\u{e9}",
        "e\u{301}",
        "ＦＵＬＬ",
        "\u{202e}",
        "\u{200b}",
        "\u{feff}",
        "\u{2028}",
        "\u{fffd}",
        "\u{10ffff}",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    ids.extend(["x".repeat(128), "🦀".repeat(128), "/".repeat(128)]);
    ids
}

#[tokio::test]
async fn any_text_without_control_characters_is_an_id_and_is_found_again() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    // A raw connection: a well-behaved client would take `..` for a path.
    let mut wire = Wire::connect(&server).await;
    for id in strange_ids() {
        server.accept(&[registered(&id, &id), registered("L", &id), reserved(&id, &id, &id)]).await;

        let locker = wire.get(&locker_path(&id)).await;
        assert_eq!(locker.status, 200, "{id:?}: {locker:?}");
        let summary = locker.json();
        assert_eq!((&summary["locker_id"], &summary["compartments"]), (&json!(id), &json!(1)), "{id:?} is no other");
        assert_eq!(summary["active_reservations"], 1);

        let compartment = wire.get(&compartment_path(&id, &id)).await;
        let expected = json!({"compartment_id": id, "degraded": false, "active_reservation": id});
        assert_eq!((compartment.status, compartment.json()), (200, expected));
        let in_another = wire.get(&compartment_path("L", &id)).await;
        assert_eq!((in_another.status, &in_another.json()["active_reservation"]), (200, &Value::Null));

        let reservation = wire.get(&reservation_path(&id)).await;
        let expected = json!({"reservation_id": id, "status": "CREATED"});
        assert_eq!((reservation.status, reservation.json()), (200, expected));
    }
    let count = strange_ids().len();
    assert_eq!(wire.get("/lockers/L").await.json()["compartments"], json!(count));
}

#[tokio::test]
async fn what_is_no_id_is_refused_wherever_an_id_stands() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let long = "x".repeat(129);
    let long_crabs = "🦀".repeat(129);
    let wrong: Vec<Value> = ["", "\0", "a\nb", "\t", "\u{1b}[31m", "\u{7f}", "\u{85}", &long, &long_crabs]
        .into_iter()
        .map(Value::from)
        .chain([json!(1), json!(true), json!([]), json!({}), json!(null)])
        .collect();
    for id in &wrong {
        let mut locker = registered("L", "A1");
        locker["locker_id"] = id.clone();
        assert_eq!(pointers(&server.post(&locker).await), ["/locker_id"], "{id}");
        let compartment = event("CompartmentRegistered", "L", json!({"compartment_id": id}));
        assert_eq!(pointers(&server.post(&compartment).await), ["/payload/compartment_id"], "{id}");
        let reservation = event("ReservationCreated", "L", json!({"compartment_id": id, "reservation_id": id}));
        let mut both = pointers(&server.post(&reservation).await);
        both.sort();
        assert_eq!(both, ["/payload/compartment_id", "/payload/reservation_id"], "{id}");
        if !id.is_null() {
            let optional = event("ParcelDeposited", "L", json!({"reservation_id": "R", "compartment_id": id}));
            assert_eq!(pointers(&server.post(&optional).await), ["/payload/compartment_id"], "{id}");
        }
    }
    assert!(folder.log_bytes().is_empty());
}

#[tokio::test]
async fn only_a_hyphenated_uuid_names_an_event() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    for wrong in [
        json!(""),
        json!("01890a5dac96774bbcceb302099a8057"),
        json!("{01890a5d-ac96-774b-bcce-b302099a8057}"),
        json!("urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057"),
        json!("01890a5d-ac96-774b-bcce-b302099a805"),
        json!("01890a5d-ac96-774b-bcce-b302099a805g"),
        json!(" 01890a5d-ac96-774b-bcce-b302099a8057"),
        json!("０1890a5d-ac96-774b-bcce-b302099a80"),
        json!(7),
        json!(null),
    ] {
        let mut envelope = registered("L", "A1");
        envelope["event_id"] = wrong.clone();
        assert_eq!(pointers(&server.post(&envelope).await), ["/event_id"], "{wrong}");
        let fault = event("FaultCleared", "L", json!({"compartment_id": "A1", "fault_event_id": wrong}));
        assert_eq!(pointers(&server.post(&fault).await), ["/payload/fault_event_id"], "{wrong}");
    }
    // Any UUID will do, of whatever version.
    for right in ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-FFFF-ffff-FFFFFFFFFFFF"] {
        let mut event = registered("L", right);
        event["event_id"] = json!(right);
        server.accept([&event]).await;
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_an_id_finds_nothing() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let mut wire = Wire::connect(&server).await;
    let long = "x".repeat(129);
    for wrong in ["%", "%f", "%zz", "%FF", "%C3%28", "%ED%A0%80", "%00", "%0A", "%7F", "%C2%85", long.as_str()] {
        for (path, code) in [
            (format!("/lockers/{wrong}"), "unknown-locker"),
            (format!("/lockers/{wrong}/compartments/A1"), "unknown-compartment"),
            (format!("/lockers/L/compartments/{wrong}"), "unknown-compartment"),
            (format!("/reservations/{wrong}"), "unknown-reservation"),
        ] {
            let reply = wire.get(&path).await;
            assert_eq!((reply.status, reply.code().as_str()), (404, code), "{path}: {reply:?}");
            assert!(reply.head.contains("content-type: application/problem+json"), "{path}");
        }
    }
    // An id's own slash is part of the path unless it is encoded.
    assert_eq!(wire.get("/lockers/L%2Fcompartments%2FA1").await.code(), "unknown-locker");
    assert_eq!(wire.get("/lockers/%4C/compartments/%41%31").await.status, 200, "any character may be encoded");
}
