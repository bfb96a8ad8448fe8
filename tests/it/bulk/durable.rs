//! Acknowledged is recorded, in order, whatever ends a bulk.

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::bulk::talk::Talk;
use crate::bulk::{NDJSON, accept, ids, ndjson, send, story};
use crate::support::events::{deposited, registered};
use crate::support::inside::{Fault, Inside, LogControl};
use crate::support::server::{Server, lockstream, run};
use crate::support::{Folder, eventually};

/// The log holds what was told, a beginning of what was sent, and nothing else.
fn holds_a_beginning(folder: &Folder, events: &[Value], told: &[Value]) {
    let recorded = folder.event_ids();
    assert_eq!(recorded, ids(&events[..recorded.len()]), "a beginning, in order and without gaps");
    for line in told.iter().filter(|line| line["status"] == "accepted") {
        let place = usize::try_from(line["sequence"].as_u64().unwrap()).unwrap() - 1;
        assert_eq!(Some(line["event_id"].as_str().unwrap()), recorded.get(place).map(String::as_str), "{line}");
    }
}

#[tokio::test]
async fn a_killed_server_has_recorded_every_line_that_it_accepted() {
    let folder = Folder::new();
    let events = story("north", 12_000);
    let server = Server::start(&folder).await;
    let mut talk = Talk::begin(&server, ndjson(&events[..4_000])).await;
    let mut told = talk.lines(2_000).await;
    assert!(talk.say(ndjson(&events[4_000..])).await);
    told.extend(talk.lines(2_500).await);
    server.kill();
    told.extend(talk.rest().await);
    assert!(told.iter().all(|line| line["status"] == "accepted"), "no last line");

    // The start cuts off what was torn, and nothing of what was told.
    let server = Server::start(&folder).await;
    holds_a_beginning(&folder, &events, &told);
    let again = send(&server, NDJSON, ndjson(&events)).await;
    assert_eq!(again.end["accepted"].as_u64().unwrap() + again.end["duplicate"].as_u64().unwrap(), 12_000);
    assert_eq!(folder.event_ids(), ids(&events));
}

#[tokio::test]
async fn a_stop_finishes_the_chunk_in_hand_and_says_so() {
    let folder = Folder::new();
    let events = story("north", 2_000);
    let mut server = Server::start(&folder).await;
    let mut talk = Talk::begin(&server, ndjson(&events)).await;
    let mut told = talk.lines(500).await;
    server.signal(Signal::TERM);
    told.extend(talk.rest().await);
    // The client has not said that its body is at its end; nobody waits for that.
    assert!(server.wait().success());
    assert!(server.lines_saying("some requests did not finish in time and were cut off").is_empty());

    let end = told.pop().unwrap();
    assert_eq!(
        (&end["status"], &end["complete"], &end["code"]),
        (&json!("end"), &json!(false), &json!("stopping")),
        "{end}"
    );
    assert_eq!(end["retry_after_s"], 1);
    let accepted = told.iter().filter(|line| line["status"] == "accepted").count();
    assert!(told[accepted..].iter().all(|line| line["status"] == "unavailable" && line["code"] == "stopping"));
    assert_eq!(folder.records().len(), accepted, "what was not told accepted was not recorded");
    holds_a_beginning(&folder, &events, &told);
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing() {
    let folder = Folder::new();
    let control = LogControl::new();
    let server = Inside::start(&folder, control.adapters());
    assert_eq!(server.post(&registered("south", "A1")).await.status, 202);
    control.fail(Fault::Sync);

    let answer = server.send_batch(ndjson(&story("north", 5))).await;

    let lines: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[..5].iter().all(|line| line["status"] == "unavailable" && line["code"] == "log-failed"), "{lines:?}");
    assert_eq!((&lines[5]["complete"], &lines[5]["unavailable"]), (&json!(false), &json!(5)));
    assert!(server.ended().await.is_err());
}

#[tokio::test]
async fn a_disk_that_runs_full_ends_the_bulk_where_it_does() {
    let folder = Folder::new();
    let events = story("north", 3_000);
    let server = Server::start(&folder).await;
    accept(&server, &events[..100]).await;
    assert_eq!(server.get("/lockers/north").await.status, 200); // Waits for the projection.
    let limit = |bytes| prlimit(Some(server.pid()), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    limit(Some(folder.log_bytes().len() as u64 + 100));
    let known = &events[..10];
    let refused = deposited("north", "nobody");
    let late: Vec<_> = known.iter().chain([&refused]).chain(&events[100..]).cloned().collect();

    let answered = send(&server, NDJSON, ndjson(&late)).await;

    // What is no new fact is told up to there, and nothing overtakes the first new one.
    assert_eq!(answered.statuses()[..12], [&["duplicate"; 10][..], &["refused", "unavailable"]].concat());
    assert!(answered.lines[11..].iter().all(|line| line["code"] == "insufficient-storage"));
    assert_eq!((&answered.end["complete"], &answered.end["code"]), (&json!(false), &json!("insufficient-storage")));
    assert_eq!(folder.records().len(), 100);
    limit(None);
    let again = send(&server, NDJSON, ndjson(&events)).await;
    assert_eq!((&again.end["accepted"], &again.end["duplicate"]), (&json!(2_900), &json!(100)));
    assert_eq!(folder.event_ids(), ids(&events));
}

#[tokio::test]
async fn a_bulk_waits_for_the_projection_instead_of_failing() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_LAG_EVENTS", "7")]).await;
    accept(&server, &story("north", 200)).await;
    assert_eq!(folder.records().len(), 200);
}

#[tokio::test]
async fn a_projection_that_stands_still_ends_the_bulk_in_its_time() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_LAG_EVENTS", "5"), ("LOCKSTREAM_BULK_WAIT_MS", "300")];
    let server = Server::start_with(&folder, &settings).await;
    let events = story("north", 50);
    accept(&server, &events[..1]).await;
    assert_eq!(server.get("/lockers/north").await.status, 200);
    let holder = folder.hold_up().await;

    let answered = send(&server, NDJSON, ndjson(&events)).await;

    let accepted = answered.sequences().len();
    assert!((1..=5).contains(&accepted), "{:?}", answered.end);
    assert!(answered.lines[1 + accepted..].iter().all(|line| line["code"] == "projection-behind"));
    assert_eq!((&answered.end["complete"], &answered.end["code"]), (&json!(false), &json!("projection-behind")));
    assert_eq!(folder.event_ids(), ids(&events[..=accepted]));
    holder.release().await;
    eventually("the rest is taken", async || send(&server, NDJSON, ndjson(&events)).await.end["complete"] == true)
        .await;
    assert_eq!(folder.event_ids(), ids(&events));
}

#[tokio::test]
async fn a_bulk_leaves_half_of_the_lag_to_single_events() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_LAG_EVENTS", "40"), ("LOCKSTREAM_BULK_WAIT_MS", "300")];
    let server = Server::start_with(&folder, &settings).await;
    accept(&server, &story("south", 1)).await;
    assert_eq!(server.get("/lockers/south").await.status, 200);
    let holder = folder.hold_up().await;

    let answered = send(&server, NDJSON, ndjson(&story("north", 100))).await;

    assert_eq!((answered.sequences().len(), &answered.end["code"]), (20, &json!("projection-behind")));
    server.accept(&story("east", 20)).await;
    assert_eq!(server.post(&registered("west", "A1")).await.code(), "projection-behind");
    holder.release().await;
}

#[tokio::test]
async fn a_bulk_goes_on_while_a_transaction_of_the_projection_is_under_way() {
    let folder = Folder::new();
    let settings = [
        ("LOCKSTREAM_MAX_LAG_EVENTS", "80"),
        ("LOCKSTREAM_MAX_BATCH_EVENTS", "5"),
        ("LOCKSTREAM_BULK_WAIT_MS", "1000"),
    ];
    let server = Server::start_with(&folder, &settings).await;
    accept(&server, &story("south", 1)).await;
    assert_eq!(server.get("/lockers/south").await.status, 200);
    let holder = folder.hold_up().await;

    let answered = send(&server, NDJSON, ndjson(&story("north", 100))).await;

    // Chunks of five, and ten of forty may wait for the projection: fifteen, if it had taken none of them.
    let accepted = answered.sequences().len();
    assert!((20..=40).contains(&accepted), "{accepted}: {:?}", answered.end);
    assert_eq!(answered.end["code"], "projection-behind");
    holder.release().await;
}

#[tokio::test]
async fn small_limits_slow_bulks_down_and_fail_none() {
    for (name, value) in [
        ("LOCKSTREAM_MAX_QUEUE_EVENTS", "1"),
        ("LOCKSTREAM_MAX_INFLIGHT_BYTES", "65536"),
        ("LOCKSTREAM_MAX_BATCH_BYTES", "1"),
        ("LOCKSTREAM_MAX_BATCH_EVENTS", "7"),
    ] {
        let folder = Folder::new();
        let server = Server::start_with(&folder, &[(name, value)]).await;
        let [north, south, east] = ["north", "south", "east"].map(|locker| story(locker, 40));
        tokio::join!(accept(&server, &north), accept(&server, &south), accept(&server, &east));
        let recorded: Vec<_> = folder.records().into_iter().map(|record| record["event"].clone()).collect();
        for sent in [&north, &south, &east] {
            let of_one: Vec<_> = recorded.iter().filter(|event| event["locker_id"] == sent[0]["locker_id"]).collect();
            assert_eq!(of_one, sent.iter().collect::<Vec<_>>(), "{name}: each in its own order");
        }
        if name == "LOCKSTREAM_MAX_BATCH_EVENTS" {
            let records = folder.records();
            let largest = records.chunk_by(|a, b| a["batch"] == b["batch"]).map(<[Value]>::len).max();
            assert!(largest <= Some(7), "{largest:?}");
        }
        assert!(server.stop().success());
        let mut verify = lockstream(&folder);
        verify.arg("verify");
        assert_eq!(run(verify).code, Some(0), "{name}");
    }
}
