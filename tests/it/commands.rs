//! `lockstream verify`, `rebuild` and `health`: what they find, what they say, how they end.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use crate::support::events::{cleared, deposited, fault, picked_up, registered, reserved};
use crate::support::server::{Ended, Server, lockstream, run};
use crate::support::{Folder, PATIENCE, logs};

fn command(folder: &Folder, arguments: &[&str]) -> Ended {
    let mut command = lockstream(folder);
    command.args(arguments);
    run(command)
}

/// A folder with a little of everything, and the state hash of its locker.
async fn lived_in() -> (Folder, String) {
    let folder = Folder::new();
    let hash = live_in(&folder).await;
    (folder, hash)
}

async fn live_in(folder: &Folder) -> String {
    let server = Server::start(folder).await;
    let events = [
        registered("L", "A1"),
        registered("L", "A2"),
        reserved("L", "A1", "R1"),
        deposited("L", "R1"),
        fault("L", "A2", 3),
    ];
    server.accept(&events).await;
    let hash = server.state_hash("L").await;
    assert!(server.stop().success());
    hash
}

fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn verify_finds_a_sound_folder_sound_and_leaves_it_alone() {
    let (folder, _) = lived_in().await;
    let before = logs::files(folder.path());
    let ended = command(&folder, &["verify"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in ["sound up to sequence 5", "stands at sequence 5", "1 lockers, 2 compartments, 1 res", "all is well"] {
        assert!(ended.stdout.contains(part), "{part:?} is missing in {ended:?}");
    }
    let ended = command(&folder, &["verify", "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!((&report["sound"], &report["head_sequence"]), (&true.into(), &5.into()));
    assert_eq!(report["head_hash"], folder.records()[4]["hash"]);
    let [all, comparing] = ["elapsed_ms", "comparing_ms"].map(|name| report[name].as_u64().unwrap());
    assert!(comparing <= all, "{report}");
    let after = logs::files(folder.path());
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "verify changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_beside_a_server_under_load_finds_nothing() {
    let folder = Folder::new();
    let server = Server::start_with(&folder, &[("LOCKSTREAM_MAX_SEGMENT_BYTES", "20000")]).await;
    let (done, verified) = tokio::sync::watch::channel(false);
    let posting = async {
        let posts = stream::iter(0..).take_while(|_| async { !*verified.borrow() });
        let posts = posts.map(|n: u64| {
            let (event, server) = (registered("L", &n.to_string()), &server);
            async move { server.post(&event).await.status }
        });
        posts.buffer_unordered(16).fold(0, async |count, status| count + u64::from(status == 202)).await
    };
    let verifying = async {
        let mut heads: Vec<u64> = Vec::new();
        let begin = Instant::now();
        // A slow disk may take a while to let the log grow.
        while heads.len() < 8 || heads.first() == heads.last() {
            assert!(begin.elapsed() < PATIENCE, "the log did not grow: {heads:?}");
            let mut verify = lockstream(&folder);
            verify.args(["verify", "--json"]);
            let ended = tokio::task::spawn_blocking(move || run(verify)).await.unwrap();
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let report: Value = serde_json::from_str(&ended.stdout).unwrap();
            heads.push(report["head_sequence"].as_u64().unwrap());
        }
        done.send_replace(true);
        heads
    };
    let (accepted, heads) = tokio::join!(posting, verifying);
    assert!(heads.is_sorted(), "{heads:?}");
    assert!(*heads.last().unwrap() <= accepted);
}

#[tokio::test]
async fn verify_names_what_the_projection_has_wrong() {
    for (statement, named) in [
        (
            "UPDATE compartments SET degraded = NOT degraded WHERE compartment_id = 'A1'",
            "compartment (LockerId(\"L\"), Comp",
        ),
        ("UPDATE lockers SET active_reservations = 7", "locker LockerId(\"L\")"),
        ("DELETE FROM reservations", "reservation ReservationId(\"R1\")"),
    ] {
        let (folder, _) = lived_in().await;
        folder.execute(statement).await;
        let ended = command(&folder, &["verify"]);
        assert_eq!(ended.code, Some(3), "{statement}: {ended:?}");
        assert!(ended.stdout.contains("FOUND projection-differs") && ended.stdout.contains(named), "{ended:?}");
        let report: Value = serde_json::from_str(&command(&folder, &["verify", "--json"]).stdout).unwrap();
        assert_eq!((&report["sound"], codes(&report)), (&false.into(), vec!["projection-differs"]), "{statement}");
    }
}

#[tokio::test]
async fn verify_names_twenty_rows_of_a_table_and_counts_the_rest() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let doors: Vec<_> = (10..35).map(|door| registered("L", &door.to_string())).collect();
    server.accept(&doors).await;
    assert_eq!(server.get("/lockers/L").await.json()["compartments"], 25);
    assert!(server.stop().success());
    folder.execute("DELETE FROM compartments").await;

    let ended = command(&folder, &["verify"]);

    assert_eq!(ended.code, Some(3), "{ended:?}");
    let found: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with("FOUND ")).collect();
    assert_eq!(found.len(), 21, "{found:#?}");
    assert!(found[19].contains("CompartmentId(\"29\")"), "{found:#?}");
    assert!(found[20].ends_with("5 more compartment rows differ"), "{found:#?}");
}

#[tokio::test]
async fn verify_finds_damage_shortening_and_another_history() {
    let (folder, _) = lived_in().await;
    let whole = folder.log_bytes();
    let segment = folder.segments()[0].clone();
    let lines = logs::line_starts(&whole);
    let mut flipped = whole.clone();
    flipped[lines[2] + 40] ^= 1;
    let cases = [
        (flipped, "lost-history", "line 3, byte offset"),
        (whole[..lines[5] - 3].to_vec(), "lost-history", "gone on to sequence 5"),
        (whole[..lines[4]].to_vec(), "lost-history", "gone on to 5"),
    ];
    for (bytes, code, words) in cases {
        fs::write(&segment, &bytes).unwrap();
        let ended = command(&folder, &["verify", "--json"]);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, codes(&report)), (Some(3), vec![code]), "{report}");
        assert!(report["findings"][0]["detail"].as_str().unwrap().contains(words), "{report}");
        assert_eq!(fs::read(&segment).unwrap(), bytes, "verify changes nothing");
    }
    // A sound log of the same length that tells another story.
    fs::remove_file(&segment).unwrap();
    logs::write(&folder.log(), &(0..5).map(|n| vec![registered("L", &n.to_string())]).collect::<Vec<_>>());
    let ended = command(&folder, &["verify", "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, codes(&report)), (Some(3), vec!["other-history", "other-history"]), "{report}");
}

#[tokio::test]
async fn verify_notes_a_torn_end_and_knows_an_impossible_record() {
    let folder = Folder::new();
    logs::write(&folder.log(), &[vec![registered("L", "A1")], vec![registered("L", "A1")]]);
    let ended = command(&folder, &["verify"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stdout.contains("FOUND impossible-record: sequence 2"), "{ended:?}");
    let whole = folder.log_bytes();
    fs::write(&folder.segments()[0], &whole[..whole.len() - 1]).unwrap();
    let ended = command(&folder, &["verify"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("note: ") && ended.stdout.contains("never acknowledged"), "{ended:?}");
}

/// What is impossible is found out at the end, by hashes, and told as if each record had been judged
/// in its place.
#[test]
fn verify_says_which_record_is_impossible_and_what_was_before_it() {
    let closed = || vec![registered("L", "A1"), reserved("L", "A1", "R1"), deposited("L", "R1"), picked_up("L", "R1")];
    let broken = fault("L", "A1", 3);
    let mended = || cleared("L", "A1", &broken);
    let cases: [(Vec<Value>, Value, &str); 5] = [
        (vec![], closed()[0].clone(), "compartment-already-registered"),
        (vec![], reserved("L", "A1", "R1"), "reservation-already-exists"),
        (vec![registered("M", "B1")], reserved("M", "B1", "R1"), "reservation-already-exists"),
        (vec![], picked_up("L", "R1"), "reservation-not-awaiting-pickup"),
        (vec![broken.clone(), mended()], mended(), "fault-already-cleared"),
    ];
    for (more, impossible, rule) in cases {
        let folder = Folder::new();
        let before = [closed(), more].concat();
        let (lockers, count) = (1 + usize::from(before.len() == 5), before.len());
        let after = vec![registered("N", "C1")];
        logs::write(&folder.log(), &[before, vec![impossible], after]);
        let ended = command(&folder, &["verify", "--json"]);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, codes(&report)), (Some(3), vec!["impossible-record"]), "{report}");
        let detail = report["findings"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("sequence {}: the rules refuse", count + 1)), "{detail}");
        assert!(detail.contains(rule), "{detail}");
        assert_eq!((&report["lockers"], &report["head_sequence"]), (&lockers.into(), &(count + 2).into()), "{report}");
    }
    let folder = Folder::new();
    let again = registered("L", "A1");
    logs::write(&folder.log(), &[vec![again.clone(), registered("L", "A2"), again, registered("L", "A3")]]);
    let report: Value = serde_json::from_str(&command(&folder, &["verify", "--json"]).stdout).unwrap();
    assert_eq!(codes(&report), ["impossible-record"], "{report}");
    let detail = report["findings"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("sequence 3: ") && detail.contains("was recorded before, as sequence 1"), "{detail}");
    assert_eq!(report["compartments"], 2, "the rest is not folded: {report}");
}

#[test]
fn verify_without_data_says_where_it_looked_and_makes_none() {
    let folder = Folder::new();
    let ended = command(&folder, &["verify"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("there is no log in") && ended.stderr.contains("LOCKSTREAM_DATA_DIR"), "{ended:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn rebuild_heals_a_database_that_the_server_refuses() {
    let folder = Folder::on_sqlite();
    let hash = live_in(&folder).await;
    fs::write(folder.database(), vec![7; 20_000]).unwrap();
    // What a rebuild that was cut off leaves behind is no hindrance.
    fs::write(folder.path().join("projection.db.new"), "half a database").unwrap();
    let written = Server::spawn(lockstream(&folder)).await.err().expect("it refuses to start");
    assert!(written.last().unwrap().contains("`lockstream rebuild` makes it anew"), "{written:?}");

    let ended = command(&folder, &["rebuild"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("rebuilt from 5 records"), "{ended:?}");
    assert_eq!(command(&folder, &["verify"]).code, Some(0));
    let server = Server::start(&folder).await;
    assert_eq!(server.state_hash("L").await, hash);
    assert!(server.stop().success());
}

#[tokio::test]
async fn rebuild_puts_rows_right_that_somebody_changed_once_it_is_forced() {
    let (folder, hash) = lived_in().await;
    folder
        .execute(
            "UPDATE lockers SET state_hash = substr(state_hash, 33) || substr(state_hash, 1, 32), compartments = 9",
        )
        .await;
    assert_eq!(command(&folder, &["verify"]).code, Some(3));
    let refused = command(&folder, &["rebuild"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("for 1 lockers: \"L\""), "{refused:?}");
    assert_eq!(command(&folder, &["verify"]).code, Some(3), "nothing was replaced");
    let report: Value = serde_json::from_str(&command(&folder, &["rebuild", "--force", "--json"]).stdout).unwrap();
    assert_eq!((&report["records"], &report["compartments"]), (&5.into(), &2.into()), "{report}");
    assert_eq!((&report["compared_lockers"], &report["differing_lockers"]), (&1.into(), &1.into()), "{report}");
    assert_eq!(command(&folder, &["verify"]).code, Some(0));
    assert_eq!(Server::start(&folder).await.state_hash("L").await, hash);
}

#[tokio::test]
async fn a_database_that_belongs_to_another_log_is_made_anew() {
    let (folder, _) = lived_in().await;
    for by_a_start in [true, false] {
        let (mut other, hash) = lived_in().await;
        other.take_database_of(&folder);
        let verified = command(&other, &["verify", "--json"]);
        assert!(verified.stdout.contains("other-history"), "{verified:?}");
        if !by_a_start {
            let rebuilt = command(&other, &["rebuild"]);
            assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
            assert!(rebuilt.stdout.contains("not compared with the old one"), "{rebuilt:?}");
            assert_eq!(command(&other, &["verify"]).code, Some(0));
        }
        let server = Server::start(&other).await;
        assert_eq!(
            server.lines_saying("the projection belongs to another log and is made anew").len(),
            usize::from(by_a_start)
        );
        assert_eq!(server.state_hash("L").await, hash);
        assert!(server.stop().success());
        assert_eq!(command(&other, &["verify"]).code, Some(0), "no row of the other log is left");
    }
}

#[tokio::test]
async fn health_is_readiness_as_an_exit_code() {
    let folder = Folder::new();
    let server = Server::start(&folder).await;
    let health = |addr: SocketAddr| {
        let mut command = lockstream(&folder);
        command.env("LOCKSTREAM_ADDR", addr.to_string()).arg("health");
        run(command)
    };
    assert_eq!(health(server.addr).code, Some(0));
    // A server that listens everywhere is asked on this machine.
    assert_eq!(health(SocketAddr::from(([0, 0, 0, 0], server.addr.port()))).code, Some(0));
    let addr = server.addr;
    server.kill();
    let ended = health(addr);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&format!("no answer from {addr}")), "{ended:?}");

    // Somebody who answers, but not with 200.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 18];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
        assert_eq!(&request, b"GET /readyz HTTP/1");
        stream // Closed only after the answer was read.
    });
    let ended = health(addr);
    answering.join().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("not ready: HTTP/1.1 503"), "{ended:?}");
}
