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
/// Room for all of those bodies, however far each has come: nobody is turned away for want of it.
const INFLIGHT_BYTES: usize = 32 << 20;

async fn server(folder: &Folder, body_timeout: Duration) -> Server {
    let [timeout, room] = [body_timeout.as_millis().to_string(), INFLIGHT_BYTES.to_string()];
    let settings = [("LOCKSTREAM_BODY_TIMEOUT_MS", &*timeout), ("LOCKSTREAM_MAX_INFLIGHT_BYTES", &*room)];
    Server::start_with(folder, &settings).await
}

/// Sends so many bytes in chunks, or fewer if the server has enough; says what it answered, if that
/// arrived.
async fn endless(server: &Server, most: usize) -> Option<u16> {
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4 << 10));
    let mut wire = Wire::connect(server).await;
    wire.post_head(&[JSON, "transfer-encoding: chunked"]).await;
    let mut sent = 0;
    // Listens between two chunks, as clients with manners do.
    while sent < most && wire.is_silent_for(Duration::ZERO).await && wire.try_send(&chunk).await.is_ok() {
        sent += chunk.len();
        assert!(sent < 32 << 20, "the server takes in a body without end");
    }
    wire.reply().await.map(|reply| reply.status)
}

#[tokio::test]
async fn hundreds_of_bodies_without_end_are_ended_and_harm_nobody() {
    /// More than a body may have, and less than is thrown away after the answer.
    const TOO_MUCH: usize = 512 << 10;
    let _alone = alone().await;
    let folder = Folder::new();
    // Their size alone ends them.
    let server = server(&folder, Duration::from_secs(3_600)).await;
    let before = memory(&server);
    let load = Load { number: 0, clients: 8, lasts: Duration::from_secs(2), rate: None };
    let (stopping, going_on, outcome) = tokio::join!(
        join_all((0..MANY / 2).map(|_| endless(&server, TOO_MUCH))),
        join_all((0..MANY / 2).map(|_| endless(&server, usize::MAX))),
        load.run(&server),
    );

    outcome.tell("beside bodies without end");
    assert!(stopping.iter().all(|status| *status == Some(413)), "who stops and listens hears why: {stopping:?}");
    // Who goes on may be cut off before the answer is read.
    assert!(going_on.iter().flatten().all(|status| *status == 413), "{going_on:?}");
    outcome.is_answered_within(PATIENCE / 2);
    assert_eq!(server.get("/readyz").await.status, 200);
    let events = outcome.accepted.len();
    assert_eq!(folder.event_ids().len(), events);
    Bound { before, connections: MANY, inflight_bytes: INFLIGHT_BYTES, events }.holds_for(&server);
}

/// Announces more than it sends. Says what was answered when, if that arrived.
async fn unfinished(server: &Server) -> (Option<u16>, Instant) {
    let mut wire = Wire::connect(server).await;
    wire.post_head(&[JSON, "content-length: 60000"]).await;
    // Where this comes after its time, the answer may be lost with the connection.
    let _ = wire.try_send(" ".repeat(10_000)).await;
    let reply = wire.reply().await;
    (reply.map(|reply| reply.status), Instant::now())
}

#[tokio::test]
async fn hundreds_of_bodies_that_do_not_go_on_are_given_up_in_their_time_and_harm_nobody() {
    const BODY_TIMEOUT: Duration = Duration::from_secs(4);
    let _alone = alone().await;
    let folder = Folder::new();
    let server = server(&folder, BODY_TIMEOUT).await;
    let before = memory(&server);
    let begin = Instant::now();
    // For as long as the first of them may take: whoever waits for them has hardly an answer by then.
    let load = Load { number: 0, clients: 8, lasts: BODY_TIMEOUT, rate: None };
    let (unfinished, outcome) = tokio::join!(join_all((0..MANY).map(|_| unfinished(&server))), load.run(&server));

    outcome.tell("beside bodies that do not go on");
    assert!(unfinished.iter().all(|(status, _)| [None, Some(408)].contains(status)), "{unfinished:?}");
    let first = unfinished.iter().map(|(_, end)| *end - begin).min().unwrap();
    let last = unfinished.iter().map(|(_, end)| *end - begin).max().unwrap();
    let told = unfinished.iter().filter(|(status, _)| status.is_some()).count();
    eprintln!("{told} of {MANY} heard 408, the first after {first:?}, the last after {last:?}");
    assert!(told > 0, "none of {MANY} heard why");
    assert!(first >= BODY_TIMEOUT, "each has its time: {first:?}");
    assert!(last < BODY_TIMEOUT + PATIENCE / 2, "{last:?}");
    outcome.is_answered_within(BODY_TIMEOUT / 2);
    assert_eq!(server.get("/readyz").await.status, 200);
    let events = outcome.accepted.len();
    assert_eq!(folder.event_ids().len(), events);
    Bound { before, connections: MANY, inflight_bytes: INFLIGHT_BYTES, events }.holds_for(&server);
}
