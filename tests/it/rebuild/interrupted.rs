//! Rebuilds that something ends: the process is killed at a moment that nobody chose, or is to
//! stop. What was there before counts, until what comes after it is whole.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tokio::time::sleep;

use super::{leftovers, lines, order, rebuild, some_part_of, verified, write_long_log};
use crate::support::events::registered;
use crate::support::server::{Server, lockstream};
use crate::support::{Folder, eventually};

const ROUNDS: usize = 8;

/// The state of all ten lockers of the long log.
async fn hashes(server: &Server) -> Vec<String> {
    let mut hashes = Vec::new();
    for number in 0..10 {
        hashes.push(server.state_hash(&format!("L{number}")).await);
    }
    hashes
}

/// A folder with a long log, its state, and how long a rebuild of it takes.
async fn long_lived(records: usize) -> (Folder, Vec<String>, Duration) {
    let folder = Folder::new();
    write_long_log(&folder, records);
    let server = Server::start(&folder).await;
    let before = hashes(&server).await;
    let begin = Instant::now();
    assert!(lines(order(&folder, "/rebuild").await).await.last().unwrap()["done"].is_object());
    let whole = begin.elapsed();
    assert!(server.stop().success());
    (folder, before, whole)
}

#[tokio::test]
async fn a_server_killed_at_any_moment_of_a_rebuild_is_right_after_its_start() {
    let (folder, before, whole) = long_lived(3_000).await;
    for round in 0..ROUNDS {
        let server = Server::start(&folder).await;
        server.accept(&[registered("later", &round.to_string())]).await;
        let ordered = order(&folder, "/rebuild").await;
        // The moment is what is tried here. The end of a rebuild is where most is at stake.
        let moment = if round % 2 == 0 { some_part_of(whole) } else { whole * 3 / 4 + some_part_of(whole / 4) };
        sleep(moment).await;
        server.kill();
        drop(ordered);

        let case = format!("round {round}, killed after {moment:?} of {whole:?}");
        let server = Server::start(&folder).await;
        assert_eq!(hashes(&server).await, before, "{case}");
        assert_eq!(server.get("/lockers/later").await.json()["compartments"], round + 1, "{case}");
        server.kill();
        verified(&folder);
    }
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    assert_eq!(leftovers(&folder).await, [""; 0]);
    verified(&folder);
}

#[tokio::test]
async fn a_command_killed_at_any_moment_leaves_a_folder_that_serves() {
    let (folder, before, _) = long_lived(3_000).await;
    let begin = Instant::now();
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    let whole = begin.elapsed();
    for round in 0..ROUNDS {
        let mut command = lockstream(&folder);
        let mut rebuilding = command.arg("rebuild").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let moment = if round % 2 == 0 { some_part_of(whole) } else { whole * 3 / 4 + some_part_of(whole / 4) };
        sleep(moment).await;
        rebuilding.kill().unwrap();
        rebuilding.wait().unwrap();

        let server = Server::start(&folder).await;
        assert_eq!(hashes(&server).await, before, "round {round}, killed after {moment:?} of {whole:?}");
        assert!(server.stop().success());
        verified(&folder);
    }
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    assert_eq!(leftovers(&folder).await, [""; 0]);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_rebuild() {
    const RECORDS: usize = 20_000;
    let (folder, before, whole) = long_lived(RECORDS).await;
    let mut server = Server::start(&folder).await;
    let mut ordered = order(&folder, "/rebuild").await;

    let mut read_events = 0;
    while read_events == 0 {
        let line = ordered.chunk().await.unwrap().expect("it says how far it is");
        let line: Value = serde_json::from_slice(&line).unwrap();
        read_events = line["progress"]["read_events"].as_u64().expect("it is not at its end");
    }
    assert!(read_events < RECORDS as u64 / 2, "there is still much to do");

    let begin = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success());

    let stopped = begin.elapsed();
    assert!(stopped < whole / 4, "the stop took {stopped:?}, a whole rebuild {whole:?}");
    assert!(server.lines_saying("the projection is rebuilt").is_empty());
    verified(&folder);
    let server = Server::start(&folder).await;
    assert_eq!(hashes(&server).await, before);
    assert_eq!(rebuild(&folder, &[]).code, Some(0));
    assert_eq!(leftovers(&folder).await, [""; 0]);
}

#[tokio::test]
async fn a_rebuild_gives_way_to_a_projection_that_has_to_be_written_anew() {
    let (folder, before, whole) = long_lived(20_000).await;
    let server = Server::start(&folder).await;
    let mut ordered = order(&folder, "/rebuild").await;
    ordered.chunk().await.unwrap().expect("it says that it has begun");
    let begin = Instant::now();

    folder.execute("UPDATE checkpoint SET sequence = 0").await;
    server.accept(&[registered("later", "0")]).await;

    let outcome = lines(ordered).await.pop().unwrap();
    let took = begin.elapsed();
    assert!(outcome["failed"]["detail"].as_str().unwrap().contains("is being written anew already"), "{outcome}");
    assert!(took < whole * 2 / 3, "it gave way after {took:?}; a whole rebuild takes {whole:?}");
    eventually("all is there again", async || server.get("/lockers/later").await.status == 200).await;
    assert_eq!(hashes(&server).await, before);
}
