//! Rebuilds beside a server at work: the projection really is another one each time, and nobody
//! can tell from the answers.

use std::cell::Cell;

use futures_util::future::join_all;
use serde_json::Value;

use super::{identity, leftovers, lines, order, rebuild, rebuild_meanwhile, write_long_log};
use crate::bulk::{accept, story};
use crate::support::Folder;
use crate::support::events::{deposited, expired, picked_up, registered, reserved};
use crate::support::server::{Server, lockstream, run};

/// How far a reservation is, from its answer; zero before it is known.
async fn stage(server: &Server, reservation: &str) -> usize {
    let answer = server.get(&format!("/reservations/{reservation}")).await;
    if answer.status == 404 {
        return 0;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    let status = answer.json()["status"].as_str().unwrap().to_owned();
    ["", "CREATED", "DEPOSITED", "PICKED_UP"].iter().position(|stage| *stage == status).expect("no other status")
}

/// Runs `verify` beside the tasks of a test.
async fn verify_meanwhile(folder: &Folder) -> Value {
    let mut command = lockstream(folder);
    command.args(["verify", "--json"]);
    let ended = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reservation_goes_back_and_verify_finds_nothing_while_one_rebuild_follows_another() {
    const REBUILDS: usize = 6;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "6000")]).await;
    let doors: Vec<_> = (0..3).map(|number| registered(&format!("L{number}"), "A1")).collect();
    server.accept(&doors).await;
    let done = Cell::new(false);
    let parcels = [const { Cell::new(0_usize) }; 3];

    let writer = async |number: usize| {
        let locker = format!("L{number}");
        while !done.get() {
            let parcel = format!("{locker}-{}", parcels[number].get());
            let steps = [reserved(&locker, "A1", &parcel), deposited(&locker, &parcel), picked_up(&locker, &parcel)];
            for (event, due) in steps.iter().zip(1..) {
                server.accept([event]).await;
                assert_eq!(stage(&server, &parcel).await, due, "{parcel}: who writes reads what was written");
            }
            parcels[number].set(parcels[number].get() + 1);
        }
    };
    let reader = async |number: usize| {
        while !done.get() {
            let parcel = format!("L{number}-{}", parcels[number].get());
            let mut last = 0;
            while last < 3 && !done.get() {
                let now = stage(&server, &parcel).await;
                assert!(now >= last, "{parcel} went from stage {last} back to {now}");
                last = now;
            }
        }
    };
    let rebuilding = async {
        let mut before = identity(&folder).await;
        for round in 0..REBUILDS {
            let sent = parcels.iter().map(Cell::get).sum::<usize>();
            if round % 2 == 0 {
                let ended = rebuild_meanwhile(&folder).await;
                assert_eq!(ended.code, Some(0), "{ended:?}");
            } else {
                let told = lines(order(&folder, "/rebuild").await).await;
                assert_eq!(told.last().unwrap()["done"]["differing_lockers"], 0, "{told:?}");
            }
            let after = identity(&folder).await;
            assert_ne!(after, before, "round {round}: the projection is another one");
            before = after;
            // The next one has something to take over that this one had not.
            while parcels.iter().map(Cell::get).sum::<usize>() == sent {
                tokio::task::yield_now().await;
            }
        }
        done.set(true);
    };
    let verifying = async {
        while !done.get() {
            verify_meanwhile(&folder).await;
        }
    };
    tokio::join!(join_all((0..3).map(&writer)), join_all((0..3).map(&reader)), rebuilding, verifying);

    assert!(parcels.iter().all(|parcels| parcels.get() > 0), "everybody got on: {parcels:?}");
    assert!(folder.segments().len() > 1, "the log went on to further segments");
    assert!(server.lines_saying("the projection is held up").is_empty());
    // Who verifies may have kept the last replaced tables from being dropped; this one drops them.
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    assert_eq!(leftovers(&folder).await, [""; 0]);
}

#[tokio::test]
async fn what_comes_after_a_switch_is_in_the_new_projection_however_the_process_ends() {
    let folder = Folder::new();
    let mut server = Server::start(&folder).await;
    server.accept(&[registered("L", "A1")]).await;
    for round in 0..4 {
        // One half beside the server, one half while none runs.
        if round % 2 == 1 {
            assert!(server.stop().success());
            assert_eq!(rebuild(&folder, &[]).code, Some(0));
            server = Server::start(&folder).await;
        } else {
            assert_eq!(rebuild(&folder, &[]).code, Some(0));
        }
        let parcel = format!("R{round}");
        server.accept(&[reserved("L", "A1", &parcel), deposited("L", &parcel), expired("L", &parcel)]).await;
        let hash = server.state_hash("L").await;
        server.kill();
        // Not from the log: the tables themselves have everything that anybody was shown.
        let report = verify_meanwhile(&folder).await;
        assert_eq!(report["projected_sequence"], report["head_sequence"], "round {round}: {report}");
        assert_eq!(report["head_sequence"], 4 + 3 * round, "{report}");
        server = Server::start(&folder).await;
        assert_eq!(server.state_hash("L").await, hash, "round {round}");
    }
}

#[tokio::test]
async fn a_service_that_knows_nothing_yet_can_be_rebuilt_too() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let before = identity(&folder).await;
    let told = lines(order(&folder, "/rebuild").await).await;
    assert_eq!(told.last().unwrap()["done"]["records"], 0, "{told:?}");
    assert_ne!(identity(&folder).await, before);
    assert_eq!(server.get("/lockers/L").await.status, 404);
    server.accept(&[registered("L", "A1")]).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 1);
    assert!(server.stop().success());
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
}

#[tokio::test]
async fn what_was_recorded_meanwhile_is_taken_in_before_anybody_has_to_wait() {
    const HISTORY: usize = 40_000;
    const MEANWHILE: usize = 4_000;
    const NEAR_EVENTS: u64 = 1_000;
    let folder = Folder::new();
    write_long_log(&folder, HISTORY);
    let server = Server::start(&folder).await;
    assert_eq!(server.get("/lockers/L0").await.status, 200); // Waits for the projection.
    for attempt in 0.. {
        assert!(attempt < 10, "no rebuild took long enough for {MEANWHILE} events to be recorded and projected");
        let before = HISTORY + attempt * MEANWHILE;
        let story = story(&format!("M{attempt}"), MEANWHILE);
        let mut told = order(&folder, "/rebuild").await;
        told.chunk().await.unwrap().expect("it says how far it is");

        accept(&server, &story).await;

        let told = lines(told).await;
        let (outcome, steps) = told.split_last().unwrap();
        let number = |name: &str| outcome["done"][name].as_u64().unwrap_or_else(|| panic!("{outcome}"));
        assert!(number("held_events") <= NEAR_EVENTS, "{outcome}");
        assert!((1..=number("elapsed_ms")).contains(&number("held_ms")), "{outcome}");
        server.says("the projection is rebuilt", attempt + 1).await;
        let line = server.lines_saying("the projection is rebuilt").pop().unwrap();
        let told = ["held_events", "held_ms"].map(|name| line[name].as_u64());
        assert_eq!(told, [Some(number("held_events")), Some(number("held_ms"))], "{line}");
        // It began without them and ended with them: they came in a further round.
        let began_without = steps.iter().any(|step| step["progress"]["total_events"] == before);
        if began_without && number("records") == (before + MEANWHILE) as u64 {
            return;
        }
    }
}
