//! Each line gets the verdict that its event would have got alone, in order.

use http_body_util::channel::Channel;
use hyper::body::Bytes;
use lockstream::random::Random;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bulk::{NDJSON, accept, ids, ndjson, send, story};
use crate::contract::document::{served, validator};
use crate::support::events::{deposited, event, fault, picked_up, registered, reserved};
use crate::support::server::Server;
use crate::support::{Folder, PATIENCE};

#[tokio::test]
async fn events_are_recorded_in_the_order_in_which_they_stand() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let events = story("north", 2_500);

    let answered = accept(&server, &events).await;

    assert_eq!(answered.sequences(), (1..=2_500).collect::<Vec<_>>());
    let lines: Vec<_> = answered.lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (1..=2_500).collect::<Vec<_>>());
    assert_eq!(folder.event_ids(), ids(&events));
    let times: Vec<_> = folder.records().iter().map(|record| record["recorded_at"].clone()).collect();
    assert!(answered.lines.iter().zip(&times).all(|(line, time)| line["recorded_at"] == *time));
    assert_eq!(server.get("/lockers/north").await.json()["compartments"], 625, "and the projection follows");
}

#[tokio::test]
async fn a_bulk_shares_few_syncs() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    accept(&server, &story("north", 4_000)).await;

    let mut batches: Vec<_> = folder.records().iter().map(|record| record["batch"].as_u64().unwrap()).collect();
    batches.dedup();
    // Four full chunks; a slow machine may find some of them not full when it looks.
    assert!((4..=40).contains(&batches.len()), "{batches:?}");
}

#[tokio::test]
async fn what_comes_in_drops_is_recorded_before_its_end() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let (mut body, bytes): (_, Channel<Bytes>) = Channel::new(1);
    let first = ndjson([&registered("north", "A1")]);
    let drops = async {
        body.send_data(Bytes::from(first)).await.unwrap();
        // Never a pause in which the chunk would be handed in, and never an end of the line.
        while folder.log_bytes().is_empty() {
            body.send_data(Bytes::from_static(b"x")).await.unwrap();
        }
        drop(body);
    };
    let sent = send(&server, NDJSON, reqwest::Body::wrap(bytes));
    let (answered, recorded) = tokio::join!(sent, timeout(PATIENCE, drops));
    recorded.expect("it is recorded while the body goes on");
    assert_eq!(answered.statuses(), ["accepted", "invalid"]);
}

#[tokio::test]
async fn one_bad_line_spoils_only_itself() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let [a, b, c] = ["A1", "A2", "A3"].map(|door| registered("north", door));
    let mut no_payload = registered("north", "A4");
    no_payload["payload"] = json!({"compartment_id": 4});
    let body = format!("{a}\n\nnot JSON\r\n{b}\n{no_payload}\n{{\"a\":1\n\u{0}\n[]\n \t \n{c}");

    let answered = send(&server, NDJSON, body).await;

    let told: Vec<_> =
        answered.lines.iter().map(|line| (line["line"].as_u64().unwrap(), line["status"].as_str().unwrap())).collect();
    let invalid = "invalid";
    let expected = [
        (1, "accepted"),
        (3, invalid),
        (4, "accepted"),
        (5, invalid),
        (6, invalid),
        (7, invalid),
        (8, invalid),
        (10, "accepted"),
    ];
    assert_eq!(told, expected);
    assert_eq!(answered.lines[3]["errors"][0]["pointer"], "/payload/compartment_id");
    assert_eq!(answered.lines[3]["event_id"], no_payload["event_id"]);
    assert_eq!(
        answered.end,
        json!({"status": "end", "complete": true, "accepted": 3, "duplicate": 0, "refused": 0, "invalid": 5, "unavailable": 0})
    );
    assert_eq!(folder.event_ids(), ids(&[a, b, c]));
}

#[tokio::test]
async fn duplicates_within_one_body_are_recognised() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let first = registered("north", "A1");
    let mut other = first.clone();
    other["payload"] = json!({"compartment_id": 7});

    let answered = send(&server, NDJSON, ndjson([&first, &first, &other])).await;

    assert_eq!(answered.statuses(), ["accepted", "duplicate", "duplicate"]);
    assert_eq!(answered.lines[1].get("content_matches"), None);
    assert_eq!(answered.lines[2]["content_matches"], false);
    assert!(
        answered
            .lines
            .iter()
            .all(|line| line["sequence"] == 1 && line["recorded_at"] == answered.lines[0]["recorded_at"])
    );
    assert_eq!(server.get("/readyz").await.json()["conflicting_duplicates"], 1);
    assert_eq!(folder.records().len(), 1);
}

/// Events of which many are refused, repeated or broken, all from one seed.
fn mixed() -> Vec<Value> {
    let mut random = Random::of_part(7, "mixed", 0);
    let mut events = Vec::<Value>::new();
    for n in 0..400 {
        let door = format!("A{}", random.below(6));
        let parcel = format!("parcel-{}", random.below(40));
        let next = match random.below(8) {
            0 => registered("north", &door),
            1 | 2 => reserved("north", &door, &parcel),
            3 => deposited("north", &parcel),
            4 => fault("north", &door, i64::try_from(random.below(5)).unwrap()),
            5 => picked_up("north", &parcel),
            6 if n > 0 => events[usize::try_from(random.below(n)).unwrap()].clone(),
            _ => event("FaultReported", "north", json!({"compartment_id": door, "severity": "3"})),
        };
        events.push(next);
    }
    events
}

#[tokio::test]
async fn every_verdict_is_the_one_that_the_event_would_have_got_alone() {
    let (alone, together) = (Folder::new(), Folder::new());
    let (one, many) = (Server::start(&alone).await, Server::start(&together).await);
    let events = mixed();

    let answered = send(&many, NDJSON, ndjson(&events)).await;

    assert_eq!(answered.lines.len(), events.len());
    for (event, mut line) in events.iter().zip(answered.lines) {
        let answer = one.post(event).await;
        let mut expected = answer.json();
        let status = match answer.status {
            202 => "accepted",
            200 => "duplicate",
            409 => "refused",
            422 => "invalid",
            other => panic!("{other}"),
        };
        assert_eq!(line["status"], status, "{event}: {line} {expected}");
        let told = line.as_object_mut().unwrap();
        let alone = expected.as_object_mut().unwrap();
        // What the line says besides, what a status line says instead, and the time.
        for name in ["line", "status", "event_id", "recorded_at"] {
            told.remove(name);
            alone.remove(name);
        }
        for name in ["type", "title"] {
            alone.remove(name);
        }
        if status == "invalid" {
            alone.remove("detail");
        }
        assert_eq!(told, alone, "{event}");
    }
    let events_of =
        |folder: &Folder| folder.records().into_iter().map(|record| record["event"].clone()).collect::<Vec<_>>();
    assert_eq!(events_of(&alone), events_of(&together));
    assert_eq!(one.state_hash("north").await, many.state_hash("north").await);
}

#[tokio::test]
async fn every_line_is_what_the_document_says() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let document = served(&server).await;
    let schema = validator(&document, "BatchLine");
    let content = &document["paths"]["/events/batch"]["post"]["requestBody"]["content"];

    let first = send(&server, NDJSON, content[NDJSON]["example"].as_str().unwrap().to_owned()).await;
    let again = send(&server, "application/json", content["application/json"]["example"].to_string()).await;
    let mixed = send(&server, NDJSON, ndjson(&mixed())).await;

    assert!(first.statuses().iter().all(|status| *status == "accepted"), "{first:?}");
    assert!(again.statuses().iter().all(|status| *status == "duplicate"), "{again:?}");
    for answered in [first, again, mixed] {
        for line in answered.lines.iter().chain([&answered.end]) {
            assert!(
                schema.is_valid(line),
                "{line}: {:?}",
                schema.iter_errors(line).map(|error| error.to_string()).collect::<Vec<_>>()
            );
        }
    }
    assert!(!schema.is_valid(&json!({"status": "accepted", "line": 1})), "it would say so");
}
