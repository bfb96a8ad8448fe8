//! A log that fails: nothing is acknowledged, nothing is tried again, the process ends in error,
//! and the next start has everything that was acknowledged.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use lockstream::application::ports::Clock;
use lockstream::composition::Adapters;

use crate::support::events::{id, registered, reserved};
use crate::support::inside::{Fault, Inside, LogControl};
use crate::support::server::{Server, lockstream_limited};
use crate::support::{Folder, eventually};

/// Readiness gives the writer, whose sync is held, a second: by then what was sent is in its queue.
async fn all_are_queued(server: &Inside) {
    let ready = server.get("/readyz").await;
    assert!(ready.status == 503 && ready.body.contains("the writer did not answer"), "{ready:?}");
}

#[tokio::test]
async fn after_a_failed_write_or_sync_nothing_is_acknowledged_and_the_service_ends() {
    for fault in [Fault::Write, Fault::Sync] {
        let folder = Folder::new();
        let control = LogControl::new();
        let server = Inside::start(&folder, control.adapters());
        let before = registered("L", "A1");
        assert_eq!(server.post(&before).await.status, 202);
        let syncs = control.syncs();
        let appends = control.appends();
        // The first batch is held in its sync, so that the rest queue up behind it and fail together.
        control.hold();
        let held = registered("L", "A2");
        let unlucky: Vec<_> = (0..20).map(|n| registered("M", &n.to_string())).collect();
        let duplicate = reserved("L", "A1", "R1");
        let (first, rest, ()) = tokio::join!(
            server.post(&held),
            async {
                eventually("the first batch is in its sync", || async { control.syncs() > syncs }).await;
                join_all(unlucky.iter().chain([&before, &duplicate, &duplicate]).map(|event| server.post(event))).await
            },
            async {
                eventually("the first batch is in its sync", || async { control.syncs() > syncs }).await;
                all_are_queued(&server).await;
                control.fail(fault);
                control.release();
            },
        );
        let first_survives = fault == Fault::Write;
        assert_eq!(first.status, if first_survives { 202 } else { 503 }, "{fault:?}: {first:?}");
        for answer in &rest {
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{fault:?}: {answer:?}");
            assert_eq!(answer.code(), "log-failed", "{fault:?}: {answer:?}");
        }

        let ready = server.get("/readyz").await;
        assert_eq!((ready.status, ready.code().as_str()), (503, "not-ready"), "{fault:?}");
        assert!(ready.json()["checks"]["log"].as_str().unwrap().contains("cannot be written"), "{ready:?}");
        assert_eq!(server.get("/livez").await.status, 200, "it still lives, to say so");
        let error = server.ended().await.expect_err("a failed log is no success");
        assert!(error.to_string().contains("injected"), "{fault:?}: {error}");
        let batches_after = usize::from(first_survives);
        assert_eq!(control.appends() - appends, 1 + batches_after, "{fault:?}: no batch is written after the failure");
        assert_eq!(control.syncs() - syncs, 1, "{fault:?}: no sync is tried again");

        let server = Server::start(&folder).await;
        assert_eq!(server.post(&before).await.status, 200, "what was acknowledged is there");
        let again = server.post(&held).await.status;
        assert!(if first_survives { again == 200 } else { [200, 202].contains(&again) }, "{fault:?}: {again}");
        for event in &unlucky {
            assert!([200, 202].contains(&server.post(event).await.status), "{fault:?}: a retry is safe");
        }
        let mut ids = folder.event_ids();
        assert_eq!(ids.len(), 22, "{fault:?}: each exactly once");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 22, "{fault:?}: each exactly once");
    }
}

#[tokio::test]
async fn a_full_disk_keeps_no_half_copy_of_a_torn_end() {
    let folder = Folder::new();
    let mut large = registered("L", "A1");
    large["photo"] = "x".repeat(1 << 20).into();
    crate::support::logs::write(&folder.log(), &[vec![large]]);
    let whole = folder.log_bytes();
    std::fs::write(&folder.segments()[0], &whole[..whole.len() - 1]).unwrap();
    let lines = Server::spawn(lockstream_limited(&folder, "-f 1024")).await.err().expect("it refuses to start");
    let last = lines.last().unwrap();
    assert!(last.contains("the torn end of the log cannot be cut off: File too large"), "{last}");
    assert_eq!(folder.log_bytes(), whole[..whole.len() - 1], "nothing was cut");
    assert!(crate::support::logs::torn(&folder.log()).is_empty(), "nor is half of it kept");

    Server::start(&folder).await;
    assert_eq!(crate::support::logs::torn(&folder.log()), [&whole[..whole.len() - 1]]);
}

#[tokio::test]
async fn a_sync_that_fails_at_the_start_ends_it_before_anyone_is_served() {
    let folder = Folder::new();
    let control = LogControl::new();
    control.fail(Fault::Sync);
    let server = Inside::start(&folder, control.adapters());
    let error = server.ended().await.expect_err("nothing may be served that may not be on disk");
    assert!(error.to_string().contains("injected"), "{error}");
}

#[tokio::test]
async fn a_writer_that_panics_ends_the_process_in_error() {
    let folder = Folder::new();
    let control = LogControl::new();
    let server = Inside::start(&folder, control.adapters());
    assert_eq!(server.post(&registered("L", "A1")).await.status, 202);
    control.fail(Fault::Panic);
    let answer = server.post(&registered("L", "A2")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "log-failed"), "{answer:?}");
    assert_eq!(server.get("/readyz").await.status, 503);
    let error = server.ended().await.expect_err("a panic is no success");
    assert!(error.to_string().contains("writer thread panicked"), "{error}");
    assert_eq!(Server::start(&folder).await.post(&registered("L", "A2")).await.sequence(), 2);
}

#[tokio::test]
async fn one_sync_makes_a_whole_batch_durable() {
    let folder = Folder::new();
    let control = LogControl::new();
    let server = Inside::start(&folder, control.adapters());
    assert_eq!(server.get("/readyz").await.status, 200);
    let at_start = control.syncs();
    assert_eq!(at_start, 1, "what recovery found is synced before it is served");
    for n in 0..5 {
        assert_eq!(server.post(&registered("L", &format!("S{n}"))).await.status, 202);
    }
    assert_eq!(control.syncs() - at_start, 5, "a lone client pays one sync an event");

    let before = control.syncs();
    let known = registered("L", "S9");
    assert_eq!(server.post(&known).await.status, 202);
    assert_eq!(server.post(&known).await.status, 200);
    assert_eq!(server.post(&registered("L", "S9")).await.status, 409);
    assert_eq!(server.post(&registered("L", "")).await.status, 422);
    assert_eq!(control.syncs() - before, 1, "duplicates and refusals alone write nothing");

    let before = control.syncs();
    control.hold();
    let events: Vec<_> = (0..100).map(|n| registered("P", &n.to_string())).collect();
    let first = registered("P", "first");
    let (first, answers, ()) = tokio::join!(
        server.post(&first),
        async {
            eventually("the first is in its sync", || async { control.syncs() > before }).await;
            join_all(events.iter().map(|event| server.post(event))).await
        },
        async {
            eventually("the first is in its sync", || async { control.syncs() > before }).await;
            all_are_queued(&server).await;
            control.release();
        }
    );
    assert!(first.status == 202 && answers.iter().all(|answer| answer.status == 202));
    let syncs = control.syncs() - before;
    assert!(syncs <= 5, "{syncs} syncs for 101 events");
    server.stop().await;
    let log = folder.records();
    assert_eq!(log.iter().filter(|record| record["batch"] == record["seq"]).count(), syncs + 6, "one sync a batch");
}

/// A clock that a test sets.
#[derive(Clone)]
struct SetClock(Arc<Mutex<DateTime<Utc>>>);

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

#[tokio::test]
async fn recorded_at_never_runs_backwards_whatever_the_clock_does() {
    let folder = Folder::new();
    let noon: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
    let steps = [0, 10, -3600, 5, 20].map(TimeDelta::seconds);
    let expected = ["12:00:00", "12:00:10", "12:00:10", "12:00:10", "12:00:20"];
    // The last two come after a restart, which has to remember.
    for part in [0..3, 3..5] {
        let clock = SetClock(Arc::new(Mutex::new(noon)));
        let adapters = Adapters { clock: Box::new(clock.clone()), ..Adapters::default() };
        let server = Inside::start(&folder, adapters);
        for at in part {
            *clock.0.lock().unwrap() = noon + steps[at];
            let event = registered("L", &at.to_string());
            let answer = server.post(&event).await.json();
            assert_eq!(answer["recorded_at"], format!("2026-11-21T{}.000000Z", expected[at]), "{}", id(&event));
        }
        server.stop().await;
    }
    let times: Vec<_> = folder.records().iter().map(|record| record["recorded_at"].to_string()).collect();
    assert!(times.is_sorted() && times.len() == 5, "{times:?}");
}
