//! Memory for events is short: bulks wait for it, one after the other, and leave some to single
//! events.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bulk::talk::Talk;
use crate::bulk::{Answered, NDJSON, ids, in_pieces, ndjson, send};
use crate::support::events::{id, registered};
use crate::support::server::{Server, answer};
use crate::support::wire::{Wire, post_request};
use crate::support::{Folder, PATIENCE, eventually};

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

/// The same, and bodies may take their time.
const SLOW: [(&str, &str); 3] = [ONE_BODY[0], ONE_BODY[1], ("LOCKSTREAM_BODY_TIMEOUT_MS", "3600000")];

/// Takes nearly all of the room for as long as the connection lives: an event whose last byte is
/// still to come.
async fn fill_room(server: &Server) -> Wire {
    let request = post_request(&large("slow", 1, 65_000)[0]);
    let other = &large("other", 1, 2_000)[0];
    let begin = Instant::now();
    loop {
        let mut wire = Wire::connect(server).await;
        wire.send(&request[..request.len() - 1]).await;
        // One that comes while this one still arrives may be the one that gets the room.
        if server.post(other).await.status == 503 && wire.is_silent_for(Duration::from_millis(50)).await {
            return wire;
        }
        assert!(begin.elapsed() < PATIENCE, "there is always room");
    }
}

#[tokio::test]
async fn a_line_that_finds_no_room_in_its_time_is_told_so_and_those_after_it_are_not_read() {
    let folder = Folder::new();
    let settings = [&SLOW[..], &[("LOCKSTREAM_BULK_WAIT_MS", "300")]].concat();
    let server = Server::start_with(&folder, &settings).await;
    let slow = fill_room(&server).await;
    let before = folder.records().len();
    let events = large("north", 2, 2_000);
    let begin = Instant::now();

    let answered = send(&server, NDJSON, ndjson(&events)).await;

    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    let [line] = &answered.lines[..] else { panic!("one line is told: {answered:?}") };
    let told = ["line", "event_id", "status", "code"].map(|name| &line[name]);
    assert_eq!(told, [&json!(1), &json!(id(&events[0])), &json!("unavailable"), &json!("overloaded")], "{line}");
    assert_eq!((&answered.end["complete"], &answered.end["code"]), (&json!(false), &json!("overloaded")));
    assert_eq!(folder.records().len(), before);
    drop(slow);
    eventually("the room is free again", async || send(&server, NDJSON, ndjson(&events)).await.end["complete"] == true)
        .await;
}

#[tokio::test]
async fn a_line_that_waits_for_room_is_told_of_a_stop() {
    let folder = Folder::new();
    let mut server = Server::start_with(&folder, &SLOW).await;
    let slow = fill_room(&server).await;
    let events = large("north", 1, 2_000);
    let mut talk = Talk::begin(&server, ndjson(&events)).await;
    assert!(talk.is_silent().await, "it waits");

    server.signal(Signal::TERM);

    let told = talk.rest().await;
    let [line, end] = &told[..] else { panic!("a line and the end: {told:?}") };
    let said = ["line", "event_id", "status", "code"].map(|name| &line[name]);
    assert_eq!(said, [&json!(1), &json!(id(&events[0])), &json!("unavailable"), &json!("stopping")], "{line}");
    assert_eq!((&end["status"], &end["code"], &end["complete"]), (&json!("end"), &json!("stopping"), &json!(false)));
    drop(slow);
    assert!(server.wait().success());
    assert!(!folder.event_ids().contains(&id(&events[0]).to_owned()));
}
