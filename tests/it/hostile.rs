//! Hostile input: whatever a client sends, the answer is a proper one, nothing gives a 5xx, and
//! what was not accepted leaves no trace.

mod bodies;
mod connections;
mod documents;
mod ids;
mod mutations;
mod times;

use serde_json::Value;

use crate::support::events::registered;
use crate::support::server::Answer;

/// A valid event's text with one more member beside its payload, spelled as given.
fn with_member(member: &str) -> String {
    registered("L", "A1").to_string().replacen('{', &format!("{{{member},"), 1)
}

/// A valid event's text with this payload, spelled as given.
fn with_payload(event_type: &str, payload: &str) -> String {
    let mut event = registered("L", "A1");
    event["type"] = event_type.into();
    event["payload"] = "PAYLOAD".into();
    event.to_string().replace("\"PAYLOAD\"", payload)
}

/// The places that a 422 names.
fn pointers(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-event"), "{answer:?}");
    let body = answer.json();
    let pointer = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
    body["errors"].as_array().unwrap().iter().map(pointer).collect()
}
