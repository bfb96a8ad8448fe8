//! Limits of the writer: its queue, its batches, its segments.

use std::collections::HashMap;

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::events::{id, registered};
use crate::support::server::Server;
use crate::support::{Folder, PATIENCE, eventually};

fn registrations(round: usize, count: usize) -> Vec<Value> {
    (0..count).map(|n| registered("L", &format!("A{round}-{n}"))).collect()
}

#[tokio::test]
async fn a_full_queue_turns_events_away_and_loses_none() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_QUEUE_EVENTS", "1")]).await;
    let begin = std::time::Instant::now();
    // When many come at once, sooner or later one finds the queue full.
    let mut turned_away = Vec::new();
    let mut accepted = 0;
    for round in 0.. {
        assert!(begin.elapsed() < PATIENCE, "the queue is never full");
        let events = registrations(round, 64);
        for (event, answer) in events.iter().zip(join_all(events.iter().map(|event| server.post(event))).await) {
            if answer.status == 202 {
                accepted += 1;
            } else {
                assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{answer:?}");
                assert_eq!(answer.header("retry-after"), "1");
                turned_away.push(event.clone());
            }
        }
        if !turned_away.is_empty() {
            break;
        }
    }
    // Nothing of them was recorded; sent again, each is new.
    assert_eq!(folder.records().len(), accepted);
    for event in &turned_away {
        // The one place may be taken again for a moment, by the projection asking for its rows.
        eventually("there is room", async || server.post(event).await.status == 202).await;
    }
    let ids = folder.event_ids();
    assert_eq!(ids.len(), accepted + turned_away.len());
    assert!(turned_away.iter().all(|event| ids.iter().filter(|known| *known == id(event)).count() == 1));
}

/// The records of each batch, in a log that was written by 200 clients at once.
async fn batches(setting: (&str, &str)) -> HashMap<u64, Vec<Value>> {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[setting]).await;
    let events = registrations(0, 200);
    for answer in join_all(events.iter().map(|event| server.post(event))).await {
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let mut batches = HashMap::<u64, Vec<Value>>::new();
    for (record, sequence) in folder.records().into_iter().zip(1..) {
        assert_eq!(record["seq"].as_u64(), Some(sequence));
        batches.entry(record["batch"].as_u64().unwrap()).or_default().push(record);
    }
    assert_eq!(batches.values().map(Vec::len).sum::<usize>(), 200);
    batches
}

#[tokio::test]
async fn a_batch_has_no_more_events_than_its_limit() {
    assert_eq!(batches(("LOCKSTREAM_MAX_BATCH_EVENTS", "1")).await.len(), 200);
    assert!(batches(("LOCKSTREAM_MAX_BATCH_EVENTS", "3")).await.values().all(|batch| batch.len() <= 3));
}

#[tokio::test]
async fn a_batch_ends_with_the_event_that_reaches_its_limit_of_bytes() {
    for batch in batches(("LOCKSTREAM_MAX_BATCH_BYTES", "500")).await.into_values() {
        let before_last = &batch[..batch.len() - 1];
        let bytes: usize = before_last.iter().map(|record| record["event"].to_string().len()).sum();
        assert!(bytes < 500, "{} events, {bytes} bytes before the last", batch.len());
    }
    // A single event that is larger goes alone.
    assert_eq!(batches(("LOCKSTREAM_MAX_BATCH_BYTES", "1")).await.len(), 200);
}

#[tokio::test]
async fn the_log_goes_on_in_a_new_segment_at_its_size() {
    let folder = Folder::new();
    let settings = [("LOCKSTREAM_MAX_SEGMENT_BYTES", "1024")];
    let server = Server::start_with(&folder, &settings).await;
    let events = registrations(0, 20);
    server.accept(&events).await;

    let segments = folder.segments();
    assert!(segments.len() > 4, "{segments:?}");
    let mut next = 1;
    for segment in &segments {
        assert_eq!(segment.file_name().unwrap().to_str().unwrap(), format!("{next:020}.jsonl"));
        let text = std::fs::read_to_string(segment).unwrap();
        assert!(text.len() <= 1_024, "{} bytes in {}", text.len(), segment.display());
        next += text.lines().count();
    }
    assert_eq!(next, 21);

    // A restart finds all of it and goes on.
    let hash = server.state_hash("L").await;
    server.kill();
    let server = Server::start_with(&folder, &settings).await;
    assert_eq!(server.state_hash("L").await, hash);
    assert_eq!(server.post(&registered("L", "B1")).await.sequence(), 21);
}
