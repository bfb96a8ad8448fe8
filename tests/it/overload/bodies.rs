//! Bodies that never end: without a length, and shorter than the length that was announced.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::load::Load;
use super::{Bound, alone, memory};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE};

const MANY: usize = 200;
const JSON: &str = "content-type: application/json";
const BODY_TIMEOUT: Duration = Duration::from_millis(2_000);
const INFLIGHT_BYTES: usize = 16 << 20;

/// Sends chunks until the server has enough; says what it answered, if that arrived.
async fn endless(server: &Server) -> Option<u16> {
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4 << 10));
    let mut wire = Wire::connect(server).await;
    wire.post_head(&[JSON, "transfer-encoding: chunked"]).await;
    let begin = Instant::now();
    let mut sent = 0;
    // Listens between two chunks, as clients with manners do.
    while wire.is_silent_for(Duration::ZERO).await && wire.try_send(&chunk).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 32 << 20 && begin.elapsed() < PATIENCE, "the server takes in a body without end");
    }
    wire.reply().await.map(|reply| reply.status)
}

/// Announces more than it sends.
async fn unfinished(server: &Server) -> (u16, Duration) {
    let mut wire = Wire::connect(server).await;
    wire.post_head(&[JSON, "content-length: 60000"]).await;
    wire.send(" ".repeat(10_000)).await;
    let begin = Instant::now();
    let reply = wire.reply().await.expect("an answer");
    (reply.status, begin.elapsed())
}

#[tokio::test]
async fn hundreds_of_bodies_without_end_are_ended_in_their_time_and_harm_nobody() {
    let _alone = alone().await;
    let folder = Folder::new();
    let settings =
        [("LOCKSTREAM_BODY_TIMEOUT_MS", "2000"), ("LOCKSTREAM_MAX_INFLIGHT_BYTES", &INFLIGHT_BYTES.to_string())];
    let server = Server::start_with(&folder, &settings).await;
    let before = memory(&server);
    let load = Load { number: 0, clients: 8, lasts: Duration::from_secs(4), rate: None };
    let (endless, unfinished, outcome) = tokio::join!(
        join_all((0..MANY).map(|_| endless(&server))),
        join_all((0..MANY).map(|_| unfinished(&server))),
        load.run(&server),
    );

    outcome.tell("beside 400 bodies without end");
    let told = endless.iter().flatten().count();
    assert!(endless.iter().flatten().all(|status| *status == 413), "{endless:?}");
    assert!(told > MANY / 2, "only {told} of {MANY} heard why");
    let longest = unfinished.iter().map(|(_, waited)| *waited).max().unwrap();
    eprintln!("{told} of {MANY} heard 413; 408 after {longest:?} at the latest");
    assert!(unfinished.iter().all(|(status, _)| *status == 408), "{unfinished:?}");
    assert!(longest < BODY_TIMEOUT + Duration::from_secs(5), "{longest:?}");
    assert!(outcome.refused.is_empty() && outcome.unknown.is_empty(), "nobody is turned away for them");
    assert!(outcome.percentile(99) < Duration::from_secs(2), "{:?}", outcome.percentile(99));
    assert_eq!(server.get("/readyz").await.status, 200);
    let events = outcome.accepted.len();
    assert_eq!(folder.event_ids().len(), events);
    Bound { before, connections: 2 * MANY, inflight_bytes: INFLIGHT_BYTES, events }.holds_for(&server);
}
