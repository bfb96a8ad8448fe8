//! When the database is held up: events are taken in up to the lag limit, queries give up in their
//! time, and all heals by itself.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::Holder;
use crate::support::events::{registered, reserved};
use crate::support::server::Server;
use crate::support::{Folder, PATIENCE, eventually};

/// Another program holds the service's database up. What was accepted before is in the database.
async fn hold_up(folder: &Folder, server: &Server) -> Holder {
    has_compartments(server, 1).await;
    folder.hold_up().await
}

/// Waits until a locker is seen to have so many. A query with little patience may be turned away.
async fn has_compartments(server: &Server, count: usize) {
    let seen = async || server.get("/lockers/L").await;
    eventually("the query is answered", async || seen().await.json()["compartments"] == count).await;
}

const SETTINGS: [(&str, &str); 2] = [("LOCKSTREAM_MAX_LAG_EVENTS", "5"), ("LOCKSTREAM_QUERY_TIMEOUT_MS", "150")];

#[tokio::test]
async fn a_projection_that_is_held_up_is_told_and_waited_for_and_heals() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &SETTINGS).await;
    let known = registered("L", "A0");
    server.accept([&known]).await;
    let holder = hold_up(&folder, &server).await;

    // Events are recorded up to the limit…
    server.accept(&(1..=5).map(|n| registered("L", &format!("A{n}"))).collect::<Vec<_>>()).await;
    let late = registered("L", "A6");
    for _ in 0..2 {
        let refused = server.post(&late).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "projection-behind"), "{refused:?}");
        assert_eq!(refused.header("retry-after"), "1");
    }
    assert_eq!(folder.records().len(), 6);
    // …and what needs no record is still answered.
    assert_eq!(server.post(&known).await.status, 200);
    assert_eq!(server.post(&registered("L", "A1")).await.code(), "compartment-already-registered");
    assert_eq!(server.post(&json!({})).await.status, 422);

    // A query does not show an old state; it gives up in its time.
    for path in ["/lockers/L", "/lockers/L/compartments/A1", "/reservations/R1", "/lockers/X"] {
        let begin = Instant::now();
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "projection-behind"), "{path}: {answer:?}");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(begin.elapsed() >= Duration::from_millis(150), "{path} waited for its time");
        // On a busy machine the answer is late, and far from for ever.
        assert!(begin.elapsed() < PATIENCE / 2, "{path} waited no longer than that");
    }

    // Readiness names the cause; the process lives.
    let readiness = server.get("/readyz").await;
    assert_eq!((readiness.status, readiness.code().as_str()), (503, "not-ready"));
    let body = readiness.json();
    assert_eq!(body["checks"]["log"], "ok");
    let words = body["checks"]["projection"].as_str().unwrap();
    assert_eq!(words, "the projection is 5 events behind; the limit is 5");
    assert_eq!((&body["checks"]["lag_events"], &body["checks"]["head_sequence"]), (&json!(5), &json!(6)));
    assert!(body["detail"].as_str().unwrap().contains(words), "{body}");
    assert_eq!(server.get("/livez").await.status, 200);

    // In the end all is there, and the event that was turned away is new.
    holder.release().await;
    eventually("the service is ready", async || server.get("/readyz").await.status == 200).await;
    has_compartments(&server, 6).await;
    assert_eq!(server.post(&late).await.sequence(), 7);
    has_compartments(&server, 7).await;
}

#[tokio::test]
async fn a_projection_that_fails_is_tried_again_until_it_works() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_QUERY_TIMEOUT_MS", "150")]).await;
    server.accept(&[registered("L", "A1")]).await;
    let holder = hold_up(&folder, &server).await;
    server.accept(&[reserved("L", "A1", "R1")]).await;

    // The database's own patience ends; that is logged, and readiness says it long before the lag
    // limit is reached.
    let why = if folder.is_on_postgres() { "timeout" } else { "locked" };
    let says_why = async || {
        let readiness = server.get("/readyz").await;
        readiness.status == 503 && readiness.body.contains("could not be written") && readiness.body.contains(why)
    };
    eventually("readiness names the failure", says_why).await;
    let held_up = || server.lines_saying("the projection is held up");
    eventually("it is logged", async || !held_up().is_empty()).await;
    assert_eq!((&held_up()[0]["level"], &held_up()[0]["lag_events"]), (&json!("WARN"), &json!(1)));

    holder.release().await;
    eventually("the service is ready", async || server.get("/readyz").await.status == 200).await;
    let is_there = async || server.get("/reservations/R1").await.json()["status"] == "CREATED";
    eventually("the reservation is there", is_there).await;
    let works_again = || server.lines_saying("the projection works again").len();
    eventually("that is logged too", async || works_again() == 1).await;
}

#[tokio::test]
async fn a_query_waits_for_a_projection_that_catches_up_in_time() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_QUERY_TIMEOUT_MS", "30000")]).await;
    server.accept(&[registered("L", "A1")]).await;
    let holder = hold_up(&folder, &server).await;
    server.accept(&[registered("L", "A2")]).await;
    // Asked after the query, so that it stands waiting when the database is let go.
    let release = async {
        assert_eq!(server.get("/readyz").await.json()["lag_events"], 1);
        holder.release().await;
    };
    let (answer, ()) = tokio::join!(server.get("/lockers/L"), release);
    assert_eq!((answer.status, &answer.json()["compartments"]), (200, &json!(2)), "its own write, and no 503");
}
