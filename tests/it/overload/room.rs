//! The bytes of events under way: how many may be, and who gives them back when.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use super::{Bound, alone, memory};
use crate::support::events::registered;
use crate::support::inside::{Inside, LogControl};
use crate::support::server::Server;
use crate::support::wire::{Wire, post_request};
use crate::support::{Folder, PATIENCE, eventually};

fn event_of(kibibytes: usize) -> Value {
    let mut event = registered("L", &uuid::Uuid::now_v7().to_string());
    event["photo"] = "x".repeat(kibibytes << 10).into();
    event
}

#[tokio::test]
async fn large_bodies_from_many_clients_share_one_room_and_the_rest_is_refused() {
    const CLIENTS: usize = 200;
    const ROOM: usize = 1 << 20;
    let _alone = alone().await;
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_INFLIGHT_BYTES", &*ROOM.to_string()), ("LOCKSTREAM_BODY_TIMEOUT_MS", "3600000")];
    let fitting = ROOM / event_of(60).to_string().len();
    let server = Server::start_with(&folder, &settings).await;
    let before = memory(&server);
    for round in 0..3 {
        let requests: Vec<_> = (0..CLIENTS).map(|_| post_request(&event_of(60))).collect();
        let mut wires = join_all((0..CLIENTS).map(|_| Wire::connect(&server))).await;
        // All but the last byte of each: who has room keeps it.
        let sent = wires.iter_mut().zip(&requests).map(|(wire, request)| wire.try_send(&request[..request.len() - 1]));
        join_all(sent).await;
        // Whoever has no room hears it without being asked for the rest.
        let begin = Instant::now();
        loop {
            let mut silent = 0;
            for wire in &mut wires {
                silent += usize::from(wire.is_silent_for(Duration::from_millis(1)).await);
            }
            if silent <= fitting {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{silent} bodies are taken in, and there is room for {fitting}");
        }
        let mut held = 0;
        let mut refused = 0;
        for (wire, request) in wires.iter_mut().zip(&requests) {
            if wire.is_silent_for(Duration::from_millis(1)).await {
                held += 1;
                wire.send(&request[request.len() - 1..]).await;
            } else {
                refused += 1;
            }
            let reply = wire.reply().await.expect("an answer");
            if reply.status != 202 {
                assert_eq!((reply.status, reply.code().as_str()), (503, "overloaded"), "{reply:?}");
                assert!(reply.head.contains("retry-after: 1\r\n"), "{reply:?}");
            }
        }
        eprintln!("round {round}: {held} bodies taken in, {refused} refused at once");
        assert!(held > 0 && refused > CLIENTS / 2, "{held} taken in, {refused} refused");
        // The room is free again.
        assert_eq!(server.post(&event_of(60)).await.status, 202);
    }
    let events = folder.records().len();
    Bound { before, connections: CLIENTS, inflight_bytes: ROOM, events }.holds_for(&server);
}

#[tokio::test]
async fn what_is_refused_for_its_announced_length_is_refused_before_it_is_sent() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_INFLIGHT_BYTES", "65536"), ("LOCKSTREAM_BODY_TIMEOUT_MS", "3600000")];
    let server = Server::start_with(&folder, &settings).await;
    let large = post_request(&event_of(60));

    // Announced and not sent, it takes nothing from anybody.
    let mut announcing = Wire::connect(&server).await;
    announcing.send(&large[..large.len() - (60 << 10)]).await;
    assert_eq!(server.post(&event_of(50)).await.status, 202);

    let mut first = Wire::connect(&server).await;
    first.send(&large[..large.len() - 10]).await;
    let refused = async || {
        let mut second = Wire::connect(&server).await;
        second.post_head(&["content-type: application/json", "content-length: 60000", "expect: 100-continue"]).await;
        let reply = second.reply().await.unwrap();
        assert!(reply.status == 100 || reply.code() == "overloaded", "{reply:?}");
        reply.status == 503 && reply.head.contains("retry-after: 1\r\n")
    };
    eventually("the first has all the room", refused).await;
    first.send(&large[large.len() - 10..]).await;
    assert_eq!(first.reply().await.unwrap().status, 202);
    assert_eq!(server.post(&event_of(50)).await.status, 202, "the room is free again");
}

#[tokio::test]
async fn clients_that_go_away_leave_no_room_taken() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_INFLIGHT_BYTES", "65536"), ("LOCKSTREAM_BODY_TIMEOUT_MS", "3600000")];
    let server = Server::start_with(&folder, &settings).await;
    let whole = post_request(&event_of(60));
    let chunked = [
        "POST /events HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        &format!("c350\r\n{}\r\n", " ".repeat(50_000)),
    ]
    .concat();
    let requests = [("in its body", &whole[..whole.len() - 10]), ("in its chunks", &chunked), ("unanswered", &whole)];
    for (stage, request) in requests {
        for has_manners in [true, false] {
            let mut leaving = Wire::connect(&server).await;
            leaving.send(request).await;
            if has_manners {
                leaving.end_sending().await;
                leaving.reply().await;
            }
            drop(leaving);
            let case = format!("the room of one who went away {stage} is free, manners: {has_manners}");
            eventually(&case, async || server.post(&event_of(60)).await.status == 202).await;
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_event_has_its_room_too() {
    let folder = Folder::new();
    let control = LogControl::new();
    let flags = ["--max-body-bytes=2048", "--max-inflight-bytes=65536", "--answer-timeout-ms=200"];
    let service = Inside::start_with(&folder, control.adapters(), &flags);
    assert_eq!(service.get("/livez").await.status, 200);
    control.hold();
    // The writer is busy with this one.
    assert_eq!(service.post(&registered("L", "A1")).await.code(), "outcome-unknown");
    // Short bodies that make long lists.
    let twice = (0..100).fold(String::new(), |twice, n| twice + &format!(r#""{n}":0,"{n}":0,"#));
    let events = (0..40).map(|_| {
        let event = registered("L", "A2").to_string();
        event.replace(r#""payload":{"#, &format!(r#""payload":{{{twice}"#))
    });
    let events: Vec<_> = events.collect();
    let answers = join_all(events.iter().map(|event| service.post_raw(event.clone()))).await;
    let waited = answers.iter().filter(|answer| answer.code() == "outcome-unknown").count();
    let refused = answers.iter().filter(|answer| answer.code() == "overloaded").count();
    assert!(waited > 0 && waited + refused == events.len(), "{waited} waited, {refused} had no room");
    assert!(waited < 10, "{waited} lists of 100 problems in 65,536 bytes");

    control.release();
    eventually("there is room again", async || service.post_raw(events[0].clone()).await.status == 422).await;
    let answer = service.post_raw(events[0].clone()).await;
    assert_eq!((answer.status, answer.json()["errors"].as_array().unwrap().len()), (422, 100));
    service.stop().await;
}

#[tokio::test]
async fn an_event_keeps_its_room_until_the_writer_is_done_with_it_though_its_caller_gave_up() {
    let folder = Folder::new();
    let control = LogControl::new();
    let flags = ["--max-inflight-bytes", "200000", "--answer-timeout-ms", "200"];
    let service = Inside::start_with(&folder, control.adapters(), &flags);
    // The start syncs too.
    assert_eq!(service.get("/livez").await.status, 200);
    control.hold();
    let events: Vec<_> = (0..10).map(|_| event_of(40)).collect();
    let first = join_all(events.iter().map(|event| service.post(event))).await;
    let (mut waited, mut refused) = (0, 0);
    for answer in &first {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
        match answer.code().as_str() {
            "outcome-unknown" => waited += 1,
            "overloaded" => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!((1..=4).contains(&waited) && waited + refused == 10, "{waited} waited, {refused} had no room");

    // Nobody waits any more, and still there is no room for as many as before.
    let next: Vec<_> = (0..4).map(|_| event_of(40)).collect();
    let next = join_all(next.iter().map(|event| service.post(event))).await;
    let taken = next.iter().filter(|answer| answer.code() == "outcome-unknown").count();
    assert!(waited + taken <= 4, "{waited} and {taken} events of 40 KiB in 200,000 bytes");

    control.release();
    eventually("there is room again", async || service.post(&event_of(60)).await.status == 202).await;
    // What had room was recorded, and what had none was not.
    for (event, answer) in events.iter().zip(&first) {
        let expected = if answer.code() == "overloaded" { 202 } else { 200 };
        assert_eq!(service.post(event).await.status, expected, "{}", answer.code());
    }
    service.stop().await;
}
