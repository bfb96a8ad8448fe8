//! The order of judgement: envelope, then known id, then payload, then rules.

use serde_json::{Value, json};

use crate::support::Folder;
use crate::support::events::{id, registered, reserved};
use crate::support::server::{Answer, Server};

/// The text of a valid event with this payload, spelled as given.
fn with_payload(event: &Value, payload: &str) -> String {
    let mut event = event.clone();
    event["payload"] = json!("PAYLOAD");
    event.to_string().replace("\"PAYLOAD\"", payload)
}

fn pointers(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_known_id_is_a_duplicate_whatever_its_payload_says() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1");
    server.accept([&event]).await;
    let (log, hash) = (folder.log_bytes(), server.state_hash("L").await);
    let broken = [
        "{}",
        r#"{"compartment_id":5}"#,
        r#"{"compartment_id":""}"#,
        r#"{"compartment_id":"A1","compartment_id":"A1"}"#,
        r#"{"compartment_id":"A1","x":{"y":1,"y":2}}"#,
        r#"{"compartment_id":"A1","x":"\ud800"}"#,
        r#"{"compartment_id":"A1","\ud800":1}"#,
        &format!(r#"{{"x":{}{}}}"#, "[".repeat(100), "]".repeat(100)),
    ];
    for (payload, count) in broken.iter().zip(1..) {
        // An id that nobody knows is judged by its payload…
        let stranger = with_payload(&registered("L", "A1"), payload);
        let refused = server.post_raw("application/json", stranger).await;
        assert_eq!(refused.status, 422, "{payload}: {refused:?}");
        // …a known one is not.
        let answer = server.post_raw("application/json", with_payload(&event, payload)).await;
        assert_eq!(answer.status, 200, "{payload}: {answer:?}");
        let receipt = answer.json();
        assert_eq!((&receipt["status"], &receipt["sequence"]), (&json!("duplicate"), &json!(1)));
        assert_eq!(receipt["content_matches"], json!(false), "{payload}");
        assert_eq!((folder.log_bytes(), server.state_hash("L").await), (log.clone(), hash.clone()));
        assert_eq!(server.get("/readyz").await.json()["conflicting_duplicates"], json!(count));
    }
}

#[tokio::test]
async fn a_known_id_is_a_duplicate_before_any_rule_is_asked() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let (event, reservation) = (registered("L", "A1"), reserved("L", "A1", "R1"));
    server.accept([&event, &reservation]).await;
    // Both would be refused if they were judged anew.
    for (event, sequence) in [(&event, 1), (&reservation, 2)] {
        let answer = server.post(event).await;
        assert_eq!((answer.status, answer.sequence()), (200, sequence));
    }
    // As another type, in another locker, at another time: still nothing but a repeated id.
    let mut other = reserved("X", "nowhere", "R9");
    other["event_id"] = event["event_id"].clone();
    let answer = server.post(&other).await;
    assert_eq!((answer.status, answer.sequence()), (200, 1));
    assert_eq!(folder.records().len(), 2);
}

#[tokio::test]
async fn an_invalid_envelope_comes_before_a_known_id() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1");
    server.accept([&event]).await;
    let mut wrong = Vec::new();
    for (name, values) in [
        ("occurred_at", vec![json!("yesterday"), json!(0), Value::Null]),
        ("locker_id", vec![json!(""), json!("a\nb"), json!(7)]),
        ("type", vec![json!("DoorOpened"), json!("compartmentregistered"), Value::Null]),
        ("payload", vec![json!([]), json!("{}"), Value::Null]),
    ] {
        for value in values {
            let mut event = event.clone();
            event[name] = value;
            wrong.push((name, event));
        }
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove(name);
        wrong.push((name, event));
    }
    for (name, event) in wrong {
        let answer = server.post(&event).await;
        assert_eq!((answer.status, pointers(&answer)), (422, vec![format!("/{name}")]), "{event}");
    }
    // A repeated key beside the payload makes the envelope ambiguous.
    let repeated = event.to_string().replacen('{', &format!("{{\"event_id\":\"{}\",", id(&event)), 1);
    let answer = server.post_raw("application/json", repeated).await;
    assert_eq!((answer.status, pointers(&answer)), (422, vec!["/event_id".to_owned()]));
    assert_eq!(folder.records().len(), 1);
}

#[tokio::test]
async fn an_invalid_payload_comes_before_the_rules() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    // The compartment is not registered, which would be a 409.
    let mut event = reserved("L", "A1", "R1");
    event["payload"]["reservation_id"] = json!(1);
    let answer = server.post(&event).await;
    assert_eq!((answer.status, pointers(&answer)), (422, vec!["/payload/reservation_id".to_owned()]));
}

#[tokio::test]
async fn one_answer_lists_every_problem_with_its_place() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let body = r#"{"event_id":"no","occurred_at":7,"type":"FaultReported",
        "payload":{"severity":"3","x":[{"a/b":1,"a/b":2}],"compartment_id":"\udc00","\ud800":{}},"~":1,"~":2}"#;
    let answer = server.post_raw("application/json", body).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-event"));
    let mut found = pointers(&answer);
    found.sort();
    let expected = [
        "/event_id",
        "/locker_id",
        "/occurred_at",
        r"/payload/\ud800",
        "/payload/compartment_id",
        "/payload/severity",
        "/payload/x/0/a~1b",
        "/~0",
    ];
    assert_eq!(found, expected);
    for error in answer.json()["errors"].as_array().unwrap() {
        assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
        assert!(!error["detail"].as_str().unwrap().is_empty());
    }
    // The same when the envelope's own keys are unique.
    let answer = server.post_raw("application/json", body.replace("\"~\":2", "\"!\":2")).await;
    assert_eq!(pointers(&answer).len(), expected.len() - 1, "{answer:?}");
    assert!(folder.log_bytes().is_empty());
}

#[tokio::test]
async fn an_id_that_was_refused_is_free_in_each_of_its_forms() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let event = registered("L", "A1");
    let refusals = [
        (with_payload(&event, "{}"), 422),
        (with_payload(&event, r#"{"compartment_id":"A1","compartment_id":"A1"}"#), 422),
        (event.to_string().replace("CompartmentRegistered", "DoorOpened"), 422),
        (event.to_string().replace("CompartmentRegistered", "FaultReported"), 422),
    ];
    for (body, status) in refusals {
        assert_eq!(server.post_raw("application/json", body).await.status, status);
    }
    assert_eq!(server.post(&event).await.status, 202);
}
