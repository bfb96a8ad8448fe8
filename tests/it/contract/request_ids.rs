//! The request id: taken over or made, returned, and in every log line of its request.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::events::{id, registered};
use crate::support::server::Server;
use crate::support::{Folder, eventually};

const VERBOSE: [(&str, &str); 1] = [("RUST_LOG", "lockstream=debug")];

/// The log lines of the request with this id, once one says `message`.
async fn lines_of(server: &Server, request_id: &str, message: &str) -> Vec<Value> {
    let of_request = || {
        let objects = server.lines().into_iter().map(|line| serde_json::from_str(&line).unwrap());
        objects.filter(|line: &Value| line["span"]["request_id"] == request_id).collect::<Vec<_>>()
    };
    eventually(message, async || of_request().iter().any(|line| line["message"] == message)).await;
    of_request()
}

#[tokio::test]
async fn a_usable_id_is_taken_over_and_returned() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &VERBOSE).await;
    let longest = "x".repeat(128);
    for request_id in ["a", "cabinet-7/42:retry=1", "\"quoted\"{json}", longest.as_str()] {
        for (method, path, status) in [("GET", "/livez", 200), ("GET", "/nowhere", 404), ("PUT", "/events", 405)] {
            let answer = server.send(method, path, &[("x-request-id", request_id)], "").await;
            assert_eq!((answer.status, answer.header("x-request-id")), (status, request_id));
        }
        let lines = lines_of(&server, request_id, "answered").await;
        assert_eq!(lines[0]["span"]["path"], "/livez", "{lines:?}");
    }
}

#[tokio::test]
async fn an_id_that_is_missing_or_unusable_is_replaced_by_a_new_one() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let too_long = "x".repeat(129);
    let mut seen = Vec::new();
    for unusable in [None, Some(""), Some("two words"), Some("tab\there"), Some("grüß"), Some(too_long.as_str())] {
        let header = unusable.map(|value| ("x-request-id", value));
        let answer = server.send("GET", "/livez", header.as_slice(), "").await;
        let made = answer.header("x-request-id").to_owned();
        assert!(Uuid::parse_str(&made).is_ok(), "{unusable:?} became {made:?}");
        seen.push(made);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "each request has its own");
}

#[tokio::test]
async fn a_repeated_id_with_another_content_is_counted_and_logged_with_its_request() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1");
    server.accept([&event]).await;
    let same = server.post(&event).await;
    assert_eq!((same.status, server.get("/readyz").await.json()["conflicting_duplicates"].clone()), (200, json!(0)));

    let mut other = event.clone();
    other["occurred_at"] = json!("2026-11-21T09:00:00Z");
    let headers = [("content-type", "application/json"), ("x-request-id", "retry-with-a-twist")];
    assert_eq!(server.send("POST", "/events", &headers, other.to_string()).await.status, 200);

    assert_eq!(server.get("/readyz").await.json()["conflicting_duplicates"], json!(1));
    let message = "a known event_id came with another content";
    let lines = lines_of(&server, "retry-with-a-twist", message).await;
    assert_eq!(lines.len(), 1, "the default level has this line alone: {lines:?}");
    let line = &lines[0];
    assert_eq!(line["level"], "WARN");
    assert_eq!((&line["event_id"], &line["sequence"], &line["total"]), (&json!(id(&event)), &json!("1"), &json!(1)));
    assert_eq!((&line["span"]["method"], &line["span"]["path"]), (&json!("POST"), &json!("/events")));
}

#[tokio::test]
async fn a_query_that_fails_is_logged_with_its_request() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept([&registered("L", "A1")]).await;
    assert_eq!(server.get("/lockers/L").await.status, 200);
    folder.execute("UPDATE lockers SET state_hash = replace(state_hash, substr(state_hash, 1, 1), 'x')").await;

    let answer = server.send("GET", "/lockers/L", &[("x-request-id", "night-shift")], "").await;

    assert_eq!((answer.status, answer.code().as_str()), (503, "database-unavailable"));
    let lines = lines_of(&server, "night-shift", "a query failed").await;
    assert_eq!((lines.len(), &lines[0]["level"], &lines[0]["span"]["path"]), (1, &json!("WARN"), &json!("/lockers/L")));
    assert!(lines[0]["error"].as_str().unwrap().contains("state_hash"), "{lines:?}");
}

#[tokio::test]
async fn so_is_one_of_a_bulk() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1");
    let mut other = event.clone();
    other["occurred_at"] = json!("2026-11-21T09:00:00Z");
    let headers = [("content-type", "application/x-ndjson"), ("x-request-id", "a-week-late")];
    assert_eq!(server.send("POST", "/events/batch", &headers, format!("{event}\n{other}")).await.status, 200);

    let lines = lines_of(&server, "a-week-late", "known event_ids of a bulk came with another content").await;

    assert_eq!((lines.len(), &lines[0]["differing"], &lines[0]["total"]), (1, &json!(1), &json!(1)));
    assert_eq!(lines[0]["span"]["path"], "/events/batch");
}
