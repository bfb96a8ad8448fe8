//! Memory for events is short: bulks wait for it, one after the other, and leave some to single
//! events.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bulk::{Answered, NDJSON, ids, in_pieces, ndjson, send};
use crate::support::events::registered;
use crate::support::server::{Server, answer};
use crate::support::{Folder, PATIENCE};

/// The least that can be set: one body fits.
const ONE_BODY: [(&str, &str); 2] =
    [("LOCKSTREAM_MAX_BODY_BYTES", "65536"), ("LOCKSTREAM_MAX_INFLIGHT_BYTES", "65536")];

/// Events of so many bytes.
fn large(locker: &str, count: usize, bytes: usize) -> Vec<Value> {
    let of = |n| {
        let mut event = registered(locker, &format!("A{n}"));
        let rest = bytes - event.to_string().len() - r#","photo":"""#.len();
        event["photo"] = "x".repeat(rest).into();
        event
    };
    (0..count).map(of).collect()
}

#[tokio::test]
async fn an_event_that_is_taken_alone_is_taken_in_a_bulk() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &ONE_BODY).await;
    let events = large("north", 6, 65_536);
    server.accept(&events[..1]).await;

    let (lines, array) = (ndjson(&events[..4]), json!(events).to_string());
    let whole = send(&server, NDJSON, lines).await;
    let cut = send(&server, "application/json", in_pieces(array.as_bytes().chunks(10_000))).await;

    assert_eq!(whole.statuses(), ["duplicate", "accepted", "accepted", "accepted"]);
    assert_eq!(cut.statuses(), ["duplicate", "duplicate", "duplicate", "duplicate", "accepted", "accepted"]);
    assert_eq!(folder.event_ids(), ids(&events));
}

#[tokio::test]
async fn bulks_that_have_no_room_together_take_turns() {
    const BULKS: usize = 8;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_INFLIGHT_BYTES", "262144")]).await;
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let mut bulks = JoinSet::new();
    for n in 0..BULKS {
        // Longer than what a connection reads at once, and each piece of it whole.
        let body = ndjson(&large(&format!("locker-{n}"), 100, 3_000));
        bulks.spawn(answer(client.post(server.url("/events/batch")).header("content-type", NDJSON).body(body)));
    }
    let single = async {
        for event in large("single", 20, 3_000) {
            server.accept([&event]).await;
        }
    };
    let (answers, ()) = tokio::join!(timeout(PATIENCE, bulks.join_all()), single);
    for answer in answers.expect("none waits for ever") {
        let answered = Answered::of(&answer.unwrap());
        assert_eq!((answered.end["complete"].as_bool(), answered.sequences().len()), (Some(true), 100));
    }
    assert_eq!(folder.records().len(), 100 * BULKS + 20);
}
