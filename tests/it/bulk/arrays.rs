//! A JSON array is answered like the same events as NDJSON, however the transport cuts it.

use serde_json::Value;

use crate::bulk::{Answered, NDJSON, in_pieces, ndjson, send, story};
use crate::support::Folder;
use crate::support::events::registered;
use crate::support::server::Server;

const JSON: &str = "application/json; charset=utf-8";

fn array(events: &[Value]) -> String {
    let texts: Vec<_> = events.iter().map(Value::to_string).collect();
    format!(" [ {} ]\r\n", texts.join(" ,\n"))
}

/// The answer without what differs from run to run.
fn without_times(answered: Answered) -> Vec<Value> {
    let without = |mut line: Value| {
        line.as_object_mut().unwrap().remove("recorded_at");
        line
    };
    answered.lines.into_iter().chain([answered.end]).map(without).collect()
}

#[tokio::test]
async fn an_array_gets_the_verdicts_of_the_same_lines() {
    let mut events = story("north", 1_200);
    events.insert(7, events[3].clone());
    events.insert(9, Value::from("no event"));
    events.insert(11, registered("north", "A0"));
    let (as_lines, as_array) = (Folder::new(), Folder::new());
    let (lines, elements) = (Server::start(&as_lines).await, Server::start(&as_array).await);

    let from_lines = send(&lines, NDJSON, ndjson(&events)).await;
    let from_array = send(&elements, JSON, array(&events)).await;

    assert_eq!(from_lines.end["refused"], 1);
    assert_eq!(without_times(from_lines), without_times(from_array));
    assert_eq!(as_lines.event_ids(), as_array.event_ids());
}

#[tokio::test]
async fn a_body_cut_at_any_byte_is_answered_the_same() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let events = [registered("north", "Ä1"), registered("north", "\"},{\\")];
    for (content_type, body) in [(NDJSON, ndjson(&events)), (JSON, array(&events))] {
        let first = send(&server, content_type, body.clone()).await.statuses().join(" ");
        assert!(["accepted accepted", "duplicate duplicate"].contains(&first.as_str()), "{first}");
        for at in 1..body.len() {
            let (head, tail) = body.as_bytes().split_at(at);
            let answered = send(&server, content_type, in_pieces([head, tail])).await;
            assert_eq!(answered.statuses(), ["duplicate", "duplicate"], "cut at {at}");
            assert_eq!(answered.end["complete"], true);
        }
    }
    assert_eq!(folder.records().len(), 2);
}

#[tokio::test]
async fn an_array_that_goes_wrong_keeps_what_came_before() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let [a, b] = ["A1", "A2"].map(|door| registered("north", door));
    for (body, count, detail) in [
        (format!("[{a},,{b}]"), 1, "An element of the array is missing."),
        (format!("[{a},{{]}},{b}]"), 1, "An element of the array closes what it did not open."),
        (format!("[{a}"), 0, "The array does not end."),
        (format!("[{a}],{b}"), 1, "Something follows the array."),
        (format!("{a}"), 0, "The body is not a JSON array."),
        (String::new(), 0, "The body is not a JSON array."),
    ] {
        let answered = send(&server, JSON, body.clone()).await;
        assert_eq!(answered.lines.len(), count, "{body}");
        assert_eq!(
            (&answered.end["complete"], &answered.end["code"]),
            (&Value::from(false), &Value::from("invalid-array"))
        );
        assert_eq!(answered.end["detail"], detail);
    }
    assert_eq!(folder.event_ids(), [a["event_id"].as_str().unwrap()], "what came behind is not recorded");
}
