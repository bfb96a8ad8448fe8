//! Limits of connections. Those of bodies are among the hostile input.

use std::time::Duration;

use crate::support::events::registered;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Folder, PATIENCE, eventually};

/// For limits that must not be the reason.
const AN_HOUR: &str = "3600000";

const LIVEZ: &str = "GET /livez HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn a_connection_that_sends_no_request_is_closed() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_HEAD_TIMEOUT_MS", "200")]).await;

    let mut idle = Wire::connect(&server).await;
    assert!(idle.ends().await);

    let mut half = Wire::connect(&server).await;
    // It may be closed by now on a machine that has other work.
    let _ = half.try_send(&LIVEZ[..20]).await;
    assert!(half.ends().await);

    let mut dripping = Wire::connect(&server).await;
    let mut drops = tokio::time::interval(Duration::from_millis(40));
    let begin = std::time::Instant::now();
    let _ = dripping.try_send("GET /livez HTTP/1.1\r\nx: ").await;
    while dripping.try_send("x").await.is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the head may take for ever");
        drops.tick().await;
    }

    // Idle after an answer is idle too. Whoever was too slow to ask tries again.
    let answered = async || {
        let mut wire = Wire::connect(&server).await;
        let asked = wire.try_send(LIVEZ).await.is_ok();
        let is_answered = asked && wire.reply().await.is_some_and(|reply| reply.status == 200);
        wire.ends().await && is_answered
    };
    eventually("one is answered in its time, and closed", answered).await;
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_one_ends() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_CONNECTIONS", "1")]).await;
    let mut first = Wire::connect(&server).await;
    first.send(LIVEZ).await;
    assert_eq!(first.reply().await.unwrap().status, 200);

    // The second one is taken by the system and not yet by the service.
    let mut second = Wire::connect(&server).await;
    second.send(LIVEZ).await;
    assert!(second.is_silent_for(Duration::from_millis(300)).await);
    // Meanwhile the first one is served.
    first.send(LIVEZ).await;
    assert_eq!(first.reply().await.unwrap().status, 200);

    drop(first);
    assert_eq!(second.reply().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_takes_no_answers_loses_its_place() {
    let folder = Folder::new();
    let settings = [
        ("LOCKSTREAM_MAX_CONNECTIONS", "2"),
        ("LOCKSTREAM_WRITE_TIMEOUT_MS", "300"),
        ("LOCKSTREAM_HEAD_TIMEOUT_MS", AN_HOUR),
    ];
    let server = Server::start_with(&folder, &settings).await;
    // Far more than what fits into the buffers on the way.
    let greedy = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: test\r\n\r\n".repeat(100);
    let mut takers = [Wire::connect(&server).await, Wire::connect(&server).await];
    for taker in &mut takers {
        taker.send(&greedy).await;
    }

    let mut other = Wire::connect(&server).await;
    assert_eq!(other.get("/livez").await.status, 200);
    // Both of them are gone, not one alone.
    let mut another = Wire::connect(&server).await;
    assert_eq!(another.get("/livez").await.status, 200);
    assert_eq!(other.get("/livez").await.status, 200, "who takes its answers stays");
}

#[tokio::test]
async fn one_database_connection_for_each_kind_of_query_answers_everybody() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    let paths = ["/lockers/L", "/lockers/L/compartments/A1", "/lockers/X", "/readyz"];
    let all = (0..100).map(|n| server.get(paths[n % paths.len()]));
    for (n, answer) in futures_util::future::join_all(all).await.into_iter().enumerate() {
        assert_eq!(answer.status, if n % 4 == 2 { 404 } else { 200 }, "{answer:?}");
    }
}
